import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from fastggn.kernels.spectrum import all_finite, numerical_rank, thin_svd
from fastggn.kernels.tsqr import StreamingQR


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    with threadpool_limits(1, "blas"):
        yield


def folded(a, b=None, block=8):
    qr = StreamingQR(a.shape[1], 0 if b is None else (1 if b.ndim == 1 else b.shape[1]))
    for i in range(0, a.shape[0], block):
        qr.fold(a[i : i + block], None if b is None else b[i : i + block])
    return qr


@pytest.mark.parametrize("n", [1, 2, 5, 31, 33, 70, 300])
@pytest.mark.parametrize("rows", [1, 2, 7, 8, 9, 31, 100])
def test_factor_of_blocks(n, rows):
    rng = np.random.default_rng(n * 1000 + rows)
    a = rng.standard_normal((rows, n))
    b = rng.standard_normal((rows, 2))
    qr = folded(a, b)
    k = min(rows, n)
    assert qr.n_rows == rows and qr.r.shape == (n, n) and qr.c.shape == (n, 2)
    np.testing.assert_array_equal(qr.r, np.triu(qr.r))
    scale = np.linalg.norm(a, 2) ** 2
    np.testing.assert_allclose(qr.r.T @ qr.r, a.T @ a, atol=1e-14 * scale * (k + 10))
    np.testing.assert_allclose(qr.r.T @ qr.c, a.T @ b, atol=1e-13 * scale * (k + 10))
    residual = np.linalg.lstsq(a, b, rcond=None)[0]
    expected = np.linalg.norm(b - a @ residual, axis=0)
    np.testing.assert_allclose(qr.rest, expected, atol=1e-12 * rows)


@pytest.mark.parametrize("order", ["C", "F"])
def test_blocks_are_left_alone(order):
    rng = np.random.default_rng(0)
    a = np.array(rng.standard_normal((9, 4)), order=order)
    b = rng.standard_normal(9)
    copies = a.copy(), b.copy()
    qr = StreamingQR(4, 1)
    qr.fold(a, b)
    np.testing.assert_array_equal(a, copies[0])
    np.testing.assert_array_equal(b, copies[1])
    qr.fold(np.empty((0, 4)), np.empty(0))
    assert qr.n_rows == 9


@pytest.mark.parametrize("rank", [1, 3, 20])
@pytest.mark.parametrize("rows", [15, 40, 5000])
def test_rank_of_a_stream(rank, rows):
    """Against numpy.linalg.matrix_rank of the whole matrix."""
    rng = np.random.default_rng(rank)
    a = rng.standard_normal((rows, rank)) @ rng.standard_normal((rank, 30))
    s = thin_svd(folded(a, block=64).r)[1]
    found = numerical_rank(s)
    assert found.rank == np.linalg.matrix_rank(a) == min(rank, rows)
    assert found.gap > 1e6
    expected = np.linalg.svd(a, compute_uv=False)
    np.testing.assert_allclose(s[: expected.size], expected, atol=1e-12 * s[0])
    np.testing.assert_allclose(s[expected.size :], 0.0, atol=1e-12 * s[0])


@pytest.mark.parametrize("rows", [1, 2, 5, 11, 30])
def test_dependent_leading_columns_with_fewer_rows_than_columns(rows):
    """As in every Jacobian of Khatri-Rao form: R's content then lies below its first rows."""
    rng = np.random.default_rng(rows)
    leading = np.outer(rng.standard_normal(rows), rng.standard_normal(6))
    a = np.hstack([leading, rng.standard_normal((rows, 25))])
    b = rng.standard_normal(rows)
    qr = folded(a, b)
    u, s, vt = thin_svd(qr.r)
    expected = np.linalg.svd(a, compute_uv=False)
    np.testing.assert_allclose(s[: expected.size], expected, atol=1e-13 * s[0])
    k = numerical_rank(s).rank
    assert k == np.linalg.matrix_rank(a)
    x = vt[:k].T @ ((u[:, :k].T @ qr.c[:, 0]) / s[:k])
    np.testing.assert_allclose(x, np.linalg.lstsq(a, b, rcond=None)[0], atol=1e-10)


@pytest.mark.parametrize("k", range(13))
def test_small_singular_values_keep_their_digits(k):
    rng = np.random.default_rng(k)
    u, _ = np.linalg.qr(rng.standard_normal((300, 12)))
    v, _ = np.linalg.qr(rng.standard_normal((12, 12)))
    true = np.logspace(0, -k, 12)
    s = thin_svd(folded(u * true @ v.T, block=32).r)[1]
    np.testing.assert_allclose(s, true, atol=2e-15)
    assert numerical_rank(s).rank == 12


def test_rank_of_nothing():
    assert numerical_rank(np.zeros(3)).rank == 0
    assert numerical_rank(np.empty(0)).rank == 0
    found = numerical_rank(np.array([2.0, 1.0, 0.0]))
    assert found.rank == found.certain_rank == 2 and found.gap == np.inf
    assert found.tolerance == 2.0 * 10 * np.finfo(float).eps
    assert not StreamingQR(3).r.any()


def test_extreme_scales():
    rng = np.random.default_rng(0)
    a = rng.standard_normal((40, 6))
    for scale in [1e-290, 1e-150, 1e150, 1e290]:
        s = thin_svd(folded(a * scale).r)[1]
        np.testing.assert_allclose(s / scale, np.linalg.svd(a, compute_uv=False), rtol=1e-12)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_finite(value):
    a = np.ones((20, 3))
    a[13, 1] = value
    qr = folded(a)
    assert not all_finite(qr.r)
    with pytest.raises(np.linalg.LinAlgError, match="NaN or infinite"):
        thin_svd(qr.r)


def test_second_driver(monkeypatch):
    """Divide and conquer that does not converge falls back on the QR iteration."""
    from scipy.linalg import svd

    def failing(matrix, **options):
        if options["lapack_driver"] == "gesdd":
            raise np.linalg.LinAlgError("did not converge")
        return svd(matrix, **options)

    monkeypatch.setattr("fastggn.kernels.spectrum.svd", failing)
    a = np.random.default_rng(0).standard_normal((6, 4))
    u, s, vt = thin_svd(a)
    np.testing.assert_allclose(u * s @ vt, a, atol=1e-13)


def test_bad_shapes():
    with pytest.raises(ValueError, match="n_columns"):
        StreamingQR(0)
    with pytest.raises(ValueError, match="shape"):
        StreamingQR(3).fold(np.ones((2, 4)))
    with pytest.raises(ValueError, match="right-hand"):
        StreamingQR(3, 1).fold(np.ones((2, 3)))
    with pytest.raises(ValueError, match="right-hand"):
        StreamingQR(3).fold(np.ones((2, 3)), np.ones(2))
