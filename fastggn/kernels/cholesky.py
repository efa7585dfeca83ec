"""Blocked Cholesky factorisation over Numba's workers, in place on the lower triangle.

Right-looking: factor a diagonal tile, solve the panel below it, update the trailing matrix. Each
tile receives its updates in the order of the panels, whatever worker applies them, so the bits do
not depend on the number of threads. BLAS runs at one thread inside the workers.
"""

import numba
import numpy as np
from numba import prange

from fastggn.kernels.blas import gemm, potrf, syrk, trsm
from fastggn.kernels.jit import njit, pnjit

_SERIAL = 768  # below this size one worker is as fast as all
_TILE = 192  # rows of a tile: the depth of the products of the update
_WIDE = 8  # tiles that one product of the update spans, at most


@njit
def factor_tile(tile):
    """Factor a diagonal tile; return the first bad pivot from 1, or 0. NaN is a bad pivot."""
    info = potrf(tile)
    if info != 0:
        return info
    for i in range(tile.shape[0]):
        if not np.isfinite(tile[i, i]):
            return i + 1
    return 0


@njit
def update_task(a, k0, k1, start, task):
    """Apply one product of the trailing update: rows of tile i, columns of up to _WIDE tiles.

    Tasks are numbered row by row; row r (from 0) has r // _WIDE + 1 of them.
    """
    n = a.shape[0]
    tiles = (n - start + _TILE - 1) // _TILE
    row = tiles - 1
    while task >= row // _WIDE + 1:
        task -= row // _WIDE + 1
        row -= 1
    i0, i1 = start + row * _TILE, min(n, start + row * _TILE + _TILE)
    left = a[i0:i1, k0:k1]
    j0 = start + task * _WIDE * _TILE
    j1 = min(i0, j0 + _WIDE * _TILE)
    if j1 > j0:
        gemm(0, 1, -1.0, left, a[j0:j1, k0:k1], 1.0, a[i0:i1, j0:j1])
    if task == row // _WIDE:
        syrk(-1.0, left, 1.0, a[i0:i1, i0:i1])


@njit
def count_tasks(size):
    """The number of products of a trailing update of this size."""
    tiles = (size + _TILE - 1) // _TILE
    total = 0
    for row in range(tiles):
        total += row // _WIDE + 1
    return total


@pnjit
def factor_tiles(a, workers):
    """Factor the lower triangle of `a` in place; return the first bad pivot from 1, or 0."""
    n = a.shape[0]
    for k0 in range(0, n, _TILE):
        k1 = min(n, k0 + _TILE)
        diagonal = a[k0:k1, k0:k1]
        info = factor_tile(diagonal)
        if info != 0:
            return k0 + info
        below = (n - k1 + _TILE - 1) // _TILE
        for tile in prange(below):
            r0 = k1 + tile * _TILE
            trsm(diagonal, a[r0 : min(n, r0 + _TILE), k0:k1])
        tasks = count_tasks(n - k1)
        for worker in prange(workers):
            for task in range(worker, tasks, workers):
                update_task(a, k0, k1, k1, task)
    return 0


def cholesky(a):
    """Overwrite the lower triangle of `a` (N, N), C-ordered, with its Cholesky factor.

    Returns
    -------
    int
        0, or the index of the first pivot that is not positive, counted from 1. The upper
        triangle is neither read nor written.
    """
    if a.shape[0] <= _SERIAL:
        return int(factor_tile(a))
    return int(factor_tiles(a, numba.get_num_threads()))
