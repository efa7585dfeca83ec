"""Comparisons that the tests share: every message names the case and the quantity."""

import numpy as np

TOLERANCE = 1e-10


def assert_close(case, name, got, want, tolerance=TOLERANCE):
    """Fail unless |got - want| <= tolerance * max |want|, with equal shapes (NaN fails)."""
    got, want = np.asarray(got), np.asarray(want)
    assert got.shape == want.shape, f"{case}: {name} has shape {got.shape}, not {want.shape}"
    scale = max(float(np.abs(want).max()), 1e-14)
    error = float(np.abs(got - want).max())
    assert error <= tolerance * scale, (
        f"{case}: {name} is off by {error / scale:.2e} of its largest entry {scale:.2e}"
    )


def assert_operator(case, name, operator, dense, seed=0):
    """Compare a linear operator with its matrix, from the left and the right."""
    rows, columns = dense.shape
    rng = np.random.default_rng(seed)
    assert operator.shape == dense.shape, f"{case}: {name}.shape is {operator.shape}"
    assert operator.dtype == np.float64, f"{case}: {name}.dtype is {operator.dtype}"
    v, u = rng.standard_normal(columns), rng.standard_normal(rows)
    assert_close(case, f"{name} @ v", operator @ v, dense @ v)
    assert_close(case, f"{name}.T @ u", operator.T @ u, dense.T @ u)
    assert_close(case, f"{name}.matvec(v)", operator.matvec(v), dense @ v)
    assert_close(case, f"{name}.rmatvec(u)", operator.rmatvec(u), dense.T @ u)
    for k in (1, 5):
        V, U = rng.standard_normal((columns, k)), rng.standard_normal((rows, k))
        assert_close(case, f"{name} @ V ({k} columns)", operator @ V, dense @ V)
        assert_close(case, f"{name}.T @ U ({k} columns)", operator.T @ U, dense.T @ U)
        # columns that are not contiguous in memory
        V = np.asfortranarray(V)
        assert_close(case, f"{name} @ V in Fortran order", operator @ V, dense @ V)
