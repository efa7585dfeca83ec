"""LSQR with a norm of its own: on one process SciPy's, bit for bit."""

import numpy as np
from scipy.sparse.linalg import LinearOperator, aslinearoperator, lsqr as scipy_lsqr

from fastggn.solvers.lsqr_iteration import lsqr


def systems():
    rng = np.random.default_rng(0)
    for trial in range(60):
        m, n = rng.integers(1, 40, 2)
        A = rng.standard_normal((m, n)) * 10.0 ** rng.integers(-6, 7, size=n)
        if trial % 3 == 0:
            A[:, 0] = A[:, -1]
        f = A @ rng.standard_normal(n) if trial % 5 == 0 else rng.standard_normal(m)
        yield A, f, float(rng.choice([0.0, 1e-8, 1e-2, 1.0]))


def test_same_bits_as_scipy():
    for A, f, damp in systems():
        limit = 10 * min(A.shape) + 50
        expected = scipy_lsqr(A, f, damp=damp, atol=1e-15, btol=1e-15, conlim=0, iter_lim=limit)
        x, reason, iterations = lsqr(
            aslinearoperator(A), f, np.linalg.norm, damp=damp, tolerance=1e-15, limit=limit
        )
        np.testing.assert_array_equal(x, expected[0])
        assert (reason, iterations) == expected[1:3]


def test_zero_right_hand_sides():
    A = aslinearoperator(np.array([[1.0, 0.0], [0.0, 0.0]]))
    for f in (np.zeros(2), np.array([0.0, 1.0])):
        x, reason, iterations = lsqr(A, f, np.linalg.norm, damp=0.0, tolerance=1e-15, limit=10)
        assert not x.any()
        assert (reason, iterations) == (0, 0)


def test_rows_in_two_parts_meet_in_the_norm_alone():
    rng = np.random.default_rng(1)
    A, f = rng.standard_normal((12, 5)), rng.standard_normal(12)
    seen = []

    def norm(u):
        seen.append(u.shape)
        return float(np.hypot(np.linalg.norm(u[:7]), np.linalg.norm(u[7:])))

    operator = LinearOperator(
        A.shape,
        matvec=lambda v: np.concatenate([A[:7] @ v, A[7:] @ v]),
        rmatvec=lambda u: A[:7].T @ u[:7] + A[7:].T @ u[7:],
        dtype=float,
    )
    x, _, _ = lsqr(operator, f, norm, damp=0.0, tolerance=1e-15, limit=60)
    np.testing.assert_allclose(x, np.linalg.lstsq(A, f, rcond=None)[0], rtol=1e-12)
    assert set(seen) == {(12,)}
