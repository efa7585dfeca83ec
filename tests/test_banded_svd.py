"""Singular values by way of a band, and block reflectors, against LAPACK."""

import signal

import numpy as np
import pytest
import threadpoolctl
from rank_cases import EPS

import fastggn as fg
from fastggn.kernels import banded_svd as banded, spectrum
from fastggn.kernels.banded_svd import banded_svd
from fastggn.kernels.row_spectrum import RowSpectrum
from fastggn.kernels.tsqr import StreamingQR
from fastggn.runtime.threads import one_pool, threads


@pytest.mark.parametrize("n", [1, 2, 31, 32, 33, 64, 65, 100])
def test_values_and_turned_vector(n):
    """Ordinary matrices, singular ones, and triangles; three of each."""
    for seed in range(3):
        rng = np.random.default_rng([31, n, seed])
        full = rng.standard_normal((n, n))
        k = max(1, n // 2)
        for a in (full, full[:, :k] @ full[:k], np.triu(full) * 2.0 ** rng.integers(-99, 99)):
            b = rng.standard_normal(n)
            u, s, _ = np.linalg.svd(a)
            with one_pool():
                values, turned = banded_svd(a.copy(), b[:, None])
                alone, _ = banded_svd(a.copy(), np.zeros((n, 0)))
            np.testing.assert_allclose(values, s, rtol=0, atol=1e-14 * (5 + n) * s[0])
            np.testing.assert_allclose(alone, s, rtol=0, atol=1e-14 * (5 + n) * s[0])
            np.testing.assert_allclose(np.linalg.norm(turned), np.linalg.norm(b), rtol=1e-12)
            kept = s > 1e-6 * s[0]  # of the others the vectors are not determined
            inside = np.linalg.norm(u[:, kept].T @ b)
            np.testing.assert_allclose(np.linalg.norm(turned[kept, 0]), inside, atol=1e-8)


@pytest.mark.parametrize("shape", [(300, 300), (300, 700), (700, 300), (280, 290)])
def test_large_matrices_of_any_shape(shape):
    rng = np.random.default_rng(sum(shape))
    a = (rng.integers(-9, 10, (shape[0], 40)) @ rng.integers(-9, 10, (40, shape[1]))) * 1.0
    b = rng.standard_normal(shape[0])
    s = np.linalg.svd(a, compute_uv=False)
    values = spectrum.singular_values(a)
    np.testing.assert_allclose(values, s, rtol=0, atol=40 * EPS * s[0])
    assert spectrum.numerical_rank(values).rank == 40 and values[40] < 5.0 * EPS * s[0]
    rows = RowSpectrum(shape[1], with_rhs=True)
    for i in range(0, shape[0], 90):
        rows.fold(a[i : i + 90], b[i : i + 90])
    again, turned, rest = rows.values_and_turned()
    np.testing.assert_allclose(again, s, rtol=0, atol=40 * EPS * s[0])
    outside = b - a @ np.linalg.lstsq(a, b, rcond=1e-12)[0]
    assert np.hypot(rest, np.linalg.norm(turned[40:])) == pytest.approx(np.linalg.norm(outside))


def test_the_same_bits_over_threads():
    rng = np.random.default_rng(7)
    a, b = rng.standard_normal((900, 270)), rng.standard_normal(900)
    found = []
    for count in (1, 2):
        with threads(min(count, fg.runtime.threads.max_threads())):
            qr = StreamingQR(270, 1)
            qr.fold(a, b)
            found.append((qr.r.copy(), qr.c.copy(), *banded_svd(qr.r.copy(), qr.c.copy())))
    for one, two in zip(*found, strict=True):
        assert np.array_equal(one, two)


def test_not_finite():
    a = np.ones((260, 260))
    a[3, 4] = np.nan
    with pytest.raises(np.linalg.LinAlgError, match="NaN or infinite"):
        spectrum.singular_values(a)


def test_wide_jacobian():
    """J.rank and J.singular_values of fewer rows than parameters, also in blocks."""
    net = fg.MLP((3, 60, 40, 1))
    X = np.random.default_rng(1).standard_normal((300, 3))
    X[200:] = X[:100]
    J = fg.Problem(net, X, X[:, :1]).jacobian(net.init(0, "normal"))
    s = np.linalg.svd(J.to_dense(), compute_uv=False)
    np.testing.assert_allclose(J.singular_values(), s, rtol=0, atol=40 * EPS * s[0])
    assert J.rank() == 200


@pytest.mark.parametrize("call", [1, 4, 12])
def test_an_interrupt_between_two_panels(monkeypatch, call):
    """Ctrl-C ends the analysis at the next panel; BLAS has its threads back, and it runs again."""
    net = fg.MLP((3, 60, 40, 1))
    X = np.random.default_rng(2).standard_normal((300, 3))
    problem, theta, calls = fg.Problem(net, X, X[:, :1]), net.init(0), []
    libraries = threadpoolctl.ThreadpoolController()
    before = [library.num_threads for library in libraries.lib_controllers]
    whole = banded.reflectors_of

    def interrupted(panel):
        calls.append(panel.shape)
        if len(calls) == call:
            signal.raise_signal(signal.SIGINT)
        return whole(panel)

    monkeypatch.setattr(banded, "reflectors_of", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fg.rank_analysis(problem, theta)
    assert len(calls) <= call + 1
    assert [library.num_threads for library in libraries.lib_controllers] == before
    monkeypatch.undo()
    assert fg.rank_analysis(problem, theta).rank == problem.jacobian(theta).rank()
