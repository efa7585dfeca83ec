"""The blocked Cholesky against LAPACK, its report of bad pivots, and its untouched triangle."""

import os

import numba
import numpy as np
import pytest

from fastggn.kernels import cholesky as module, counters
from fastggn.kernels.cholesky import cholesky
from fastggn.kernels.jit import DISABLED
from fastggn.runtime.threads import one_pool, threads
from fastggn.solvers.cholesky_in_place import SymmetricMatrix, factor_cholesky

SIZES = [1, 2, 7, 64] if DISABLED else [1, 2, 7, 64, 257, 480, 769, 1000, 1733]


def _matrix(n, seed=0):
    a = np.random.default_rng(seed).normal(size=(n, n))
    return a @ a.T / n + 0.1 * np.eye(n)


@pytest.mark.nojit
@pytest.mark.parametrize("n", SIZES)
def test_the_factor_matches_lapack_and_the_upper_triangle_is_untouched(n):
    a = _matrix(n)
    expected = np.linalg.cholesky(a)
    with one_pool():
        factor = a.copy()
        assert cholesky(factor) == 0
    np.testing.assert_allclose(np.tril(factor), expected, rtol=0, atol=1e-11)
    np.testing.assert_array_equal(np.triu(factor, 1), np.triu(a, 1))


@pytest.mark.nojit
@pytest.mark.parametrize("bad", [-1.0, 0.0, np.nan, -np.inf])
@pytest.mark.parametrize("n", SIZES[2:])
def test_the_first_bad_pivot_is_reported_from_one(n, bad):
    for pivot in {0, n // 2, n - 1}:
        a = np.eye(n)
        a[pivot, pivot] = bad
        with one_pool():
            assert cholesky(a) == pivot + 1


@pytest.mark.skipif(DISABLED, reason="tiles larger than the test's matrices")
def test_tiles_and_one_call_agree(monkeypatch):
    a = _matrix(700, seed=1)
    with one_pool():
        whole, tiled = a.copy(), a.copy()
        monkeypatch.setattr(module, "_SERIAL", 1000)
        cholesky(whole)
        monkeypatch.undo()
        cholesky(tiled)
    np.testing.assert_allclose(np.tril(tiled), np.tril(whole), rtol=0, atol=1e-12)


@pytest.mark.skipif(DISABLED or not hasattr(os, "sched_yield"), reason="a function of libc")
def test_workers_give_way_by_a_function_without_arguments(monkeypatch):
    """As on Windows, here with sched_yield; an unknown name ends the process."""
    monkeypatch.setattr(counters, "GIVE_WAY", ("sched_yield",))
    call = numba.njit(lambda: counters._give_way())
    call()
    assert "@sched_yield()" in next(iter(call.inspect_llvm().values()))


@pytest.mark.nojit
@pytest.mark.parametrize("n", [1, 63, 65, 200])
def test_rows_and_the_diagonal_of_the_inverse(n):
    a = _matrix(n, seed=2)
    rows = np.random.default_rng(3).normal(size=(130, n))
    inverse = np.linalg.inv(a)
    factor = factor_cholesky(SymmetricMatrix(a.copy()), 0.0)
    np.testing.assert_allclose(factor.inverse_diagonal(), np.diag(inverse), rtol=1e-10)
    z = factor.whiten(rows.copy())
    np.testing.assert_allclose(z @ z.T, rows @ inverse @ rows.T, rtol=0, atol=1e-9 * n)
    with threads(2):
        np.testing.assert_array_equal(factor.whiten(np.asfortranarray(rows)), z)
        # Of itself the factor takes one worker for so small a matrix.
        two = module.inverse_diagonal(factor.factor, 2)
    with threads(1):
        np.testing.assert_array_equal(module.inverse_diagonal(factor.factor, 1), two)
