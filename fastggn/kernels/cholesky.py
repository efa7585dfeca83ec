"""Blocked Cholesky factorisation over Numba's workers, in place on the lower triangle.

Left-looking by tiles, in one parallel region: the task of tile (i, j) subtracts the products of
the rows i and j left of it, as these become final, then divides by the tile on the diagonal.
Workers draw tasks from one list, column by column, and wait for what a task needs; all of it
stands earlier in the list, so somebody is at work on it. While one worker factors a tile on the
diagonal the others multiply. Each tile receives its products in one order, whatever worker
computes them, so the bits do not depend on the number of threads. BLAS runs at one thread.
"""

import numba
import numpy as np
from numba import prange

from fastggn.kernels.blas import gemm, potrf, syrk
from fastggn.kernels.counters import add, give_way, load, store
from fastggn.kernels.jit import leaf, njit, pnjit

# Rows of a tile, and the largest matrix that is cut into such tiles.
_TILES = ((96, 768), (144, 1536), (192, 2560), (256, 3584), (320, 5120), (448, 8192))
_LARGEST_TILE = 640

_SERIAL = 384  # up to this size one worker is as fast as all
_COLUMNS = 32  # of a triangular solve without products
_ROWS = 64  # that one task divides by a factor
_PATIENCE = 10000  # looks at a counter, some 0.1 ms, before a worker lets others have its core

# Entries of the counters: the next task, the first bad pivot; then the final tiles of each row.
_NEXT, _BAD, _FINAL = 0, 1, 2


def tile_size(n):
    """Rows of a tile: large ones multiply faster, small ones leave nobody waiting.

    A matrix of 1,500 to 12,000 rows has 9 to 19 rows of tiles, a larger one more.
    """
    for size, largest in _TILES:
        if n <= largest:
            return size
    return _LARGEST_TILE


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


@leaf
def substitute(lower, tile, work):
    """Overwrite a few columns X of a tile by X L^-T; `work` (columns, rows) holds X^T."""
    columns, rows = lower.shape[0], tile.shape[0]
    for j in range(columns):
        x = work[j]
        for i in range(rows):
            x[i] = tile[i, j]
        k = 0
        while k + 4 <= j:
            a, b, c, d = lower[j, k], lower[j, k + 1], lower[j, k + 2], lower[j, k + 3]
            p, q, r, s = work[k], work[k + 1], work[k + 2], work[k + 3]
            for i in range(rows):
                x[i] -= (a * p[i] + b * q[i]) + (c * r[i] + d * s[i])
            k += 4
        while k < j:
            a, p = lower[j, k], work[k]
            for i in range(rows):
                x[i] -= a * p[i]
            k += 1
        inverse = 1.0 / lower[j, j]
        for i in range(rows):
            x[i] *= inverse
    for j in range(columns):
        for i in range(rows):
            tile[i, j] = work[j, i]


@leaf
def divide(lower, tile, work):
    """Overwrite X by X L^-T, by halves: most of it is products. dtrsm runs at a third of gemm."""
    n = lower.shape[0]
    if n <= _COLUMNS:
        substitute(lower, tile, work)
        return
    half = (n // 2 + 7) // 8 * 8
    divide(lower[:half, :half], tile[:, :half], work)
    gemm(0, 1, -1.0, tile[:, :half], lower[half:, :half], 1.0, tile[:, half:])
    divide(lower[half:, half:], tile[:, half:], work)


@leaf
def wait_for(counters, row, count):
    """Wait until a row has `count` final tiles; return how many, or -1 after a bad pivot."""
    looks = 0
    while True:
        final = load(counters, _FINAL + row)
        if final >= count:
            return final
        if load(counters, _BAD) != 0:
            return -1
        looks += 1
        if looks > _PATIENCE:
            give_way()


@leaf
def subtract_products(a, size, i, j, counters):
    """Subtract what stands left of tile (i, j), as far as it is final; False after a bad pivot."""
    n = a.shape[0]
    i0, i1 = i * size, min(n, i * size + size)
    j0, j1 = j * size, min(n, j * size + size)
    tile = a[i0:i1, j0:j1]
    for k in range(j):
        if min(wait_for(counters, i, k + 1), wait_for(counters, j, k + 1)) < 0:
            return False
        # One product a tile of depth, whatever is ready: the bits must not depend on timing.
        left = a[i0:i1, k * size : k * size + size]
        if i == j:
            syrk(-1.0, left, 1.0, tile)
        else:
            gemm(0, 1, -1.0, left, a[j0:j1, k * size : k * size + size], 1.0, tile)
    return True


@leaf
def run_task(a, size, i, j, counters, work):
    """Make tile (i, j) final; False after a bad pivot, here or elsewhere."""
    n = a.shape[0]
    i0, i1 = i * size, min(n, i * size + size)
    j0, j1 = j * size, min(n, j * size + size)
    if not subtract_products(a, size, i, j, counters):
        return False
    if i == j:
        info = factor_tile(a[j0:j1, j0:j1])
        if info != 0:
            store(counters, _BAD, j0 + info)
            return False
    else:
        if wait_for(counters, j, j + 1) < 0:
            return False
        divide(a[j0:j1, j0:j1], a[i0:i1, j0:j1], work)
    store(counters, _FINAL + i, j + 1)
    return True


@pnjit
def factor_tiles(a, size, workers):
    """Factor the lower triangle of `a` in place; return the first bad pivot from 1, or 0."""
    count = (a.shape[0] + size - 1) // size
    counters = np.zeros(_FINAL + count, np.int64)
    tasks = count * (count + 1) // 2
    for _ in prange(workers):
        work = np.empty((_COLUMNS, size))
        j, first = 0, 0  # the column of the task, and its first task
        while True:
            task = add(counters, _NEXT, 1)
            if task >= tasks:
                break
            while task - first >= count - j:
                first += count - j
                j += 1
            if not run_task(a, size, j + task - first, j, counters, work):
                break
    # Not counters[_BAD]: the compiler takes it for the zero that it was before the region.
    return load(counters, _BAD)


@pnjit
def divide_rows(lower, rows):
    """Overwrite X (r, N), C-ordered, by X L^-T; on any number of threads with the same bits."""
    n = lower.shape[0]
    for task in prange((rows.shape[0] + _ROWS - 1) // _ROWS):
        part = rows[task * _ROWS : task * _ROWS + _ROWS, 0:n]
        divide(lower[0:n, 0:n], part, np.empty((_COLUMNS, _ROWS)))


@pnjit
def inverse_diagonal(lower, workers):
    """Return the diagonal of (L L^T)^-1, shape (N,): the squares in the columns of L^-1."""
    n = lower.shape[0]
    counters = np.zeros(1, np.int64)
    out = np.empty(n)
    for _ in prange(workers):
        work = np.empty((_COLUMNS, _ROWS))
        while True:
            first = _ROWS * add(counters, _NEXT, 1)  # the longest columns come first
            if first >= n:
                break
            rows = np.zeros((min(_ROWS, n - first), n - first))
            for i in range(rows.shape[0]):
                rows[i, i] = 1.0
            divide(lower[first:n, first:n], rows[:, 0 : n - first], work)
            for i in range(rows.shape[0]):
                out[first + i] = np.sum(rows[i] * rows[i])
    return out


def cholesky(a):
    """Overwrite the lower triangle of `a` (N, N), C-ordered, with its Cholesky factor."""
    n = a.shape[0]
    if n <= _SERIAL:
        return int(factor_tile(a))
    return int(factor_tiles(a, tile_size(n), numba.get_num_threads()))
