"""The curvature matrix from its tiles: lanes summed, pairs of units and of inputs put in place.

A pair of units (a, b) and all pairs of inputs make one small block of the matrix, (a, .; b, .).
It is completed in cache, then written with its mirror image, so that each line of the matrix is
written once and none is read again.
"""

import numpy as np
from numba import prange

from fastggn.kernels.ggn_pairs import (
    KIND,
    KIND_BELOW_OUTPUT,
    KIND_MIXED,
    KIND_OUTPUT,
    LOWER,
    OFFSET,
    P0,
    P1,
    Q0,
    Q1,
    UPPER,
    next_pair,
    pair_of,
)
from fastggn.kernels.jit import leaf, pnjit
from fastggn.kernels.layer_table import CORE, INPUTS, UNITS, W_OFF

PARTS = 48  # shares of the rows, equal in work: even for 2, 3, 4, 6, ... workers
PART_ENTRIES = 2**16  # entries of the matrix that are worth a share
_BLOCK = 32  # rows and columns transposed at a time


@leaf
def sum_row(lanes, start, size, work, row):
    """Fill `row` with the pairwise sum over the lanes of entries start, ..., in a fixed order."""
    n_lanes = lanes.shape[0]
    if n_lanes == 1:
        row[:size] = lanes[0, start : start + size]
        return
    count = (n_lanes + 1) // 2
    for k in range(count):
        x = lanes[2 * k, start : start + size]
        if 2 * k + 1 < n_lanes:
            y = lanes[2 * k + 1, start : start + size]
            for i in range(size):
                work[k, i] = x[i] + y[i]
        else:
            work[k, :size] = x
    step = 1
    while step < count:
        for k in range(0, count - step, 2 * step):
            for i in range(size):
                work[k, i] += work[k + step, i]
        step *= 2
    row[:size] = work[0, :size]


@leaf
def transpose(source, target):
    """Fill `target` with the transpose of `source`, by blocks that stay in the L1 cache."""
    rows, cols = source.shape
    for i0 in range(0, rows, _BLOCK):
        for j0 in range(0, cols, _BLOCK):
            for i in range(i0, min(rows, i0 + _BLOCK)):
                for j in range(j0, min(cols, j0 + _BLOCK)):
                    target[j, i] = source[i, j]


@leaf
def unpack(packed, square):
    """Fill a symmetric matrix from its lower triangle, row by row."""
    m = square.shape[0]
    start = 0
    for i in range(m):
        row = square[i]
        for j in range(i + 1):
            row[j] = packed[start + j]
        start += i + 1
    for i0 in range(0, m, _BLOCK):
        for j0 in range(i0, m, _BLOCK):
            for i in range(i0, min(m, i0 + _BLOCK)):
                for j in range(max(j0, i + 1), min(m, j0 + _BLOCK)):
                    square[i, j] = square[j, i]


@leaf
def put(block, factor, row, column, out):
    """Write `factor` times a block of numbers, its first one to (row, column)."""
    for i in range(block.shape[0]):
        source = block[i]
        target = out[row + i, column : column + source.shape[0]]
        for j in range(source.shape[0]):
            target[j] = factor * source[j]


@leaf
def put_output(square, factor, a, upper, out):
    """Write the rows of output unit a, `factor` times a block of all; no two units interact."""
    m, start = upper[INPUTS], upper[W_OFF]
    for i in range(m):
        out[start + a * m + i, start : start + upper[UNITS] * m] = 0.0
    put(square, factor, start + a * m, start + a * m, out)


@leaf
def put_row(theta, weights, row, p, upper, lower, values, work, out):
    """Write row p of a block's tiles, all its input pairs, to both triangles of the matrix."""
    m, below = upper[INPUTS], lower[INPUTS]
    block = work[: m * below].reshape(below, m)
    if row[UPPER] == row[LOWER]:
        unpack(values, block)
        if row[KIND] == KIND_OUTPUT:
            put_output(block, weights[p], p, upper, out)
            return
        a, b = pair_of(p, True, 0)
        put(block, 1.0, upper[W_OFF] + a * m, upper[W_OFF] + b * m, out)
        if a != b:
            put(block, 1.0, upper[W_OFF] + b * m, upper[W_OFF] + a * m, out)
        return
    rectangle = values[: m * below].reshape(m, below)
    transpose(rectangle, block)
    if row[KIND] == KIND_BELOW_OUTPUT:
        # The block of output unit a is w_a W_L[a, p] times what stands in the row.
        for a in range(upper[UNITS]):
            factor = weights[a] * theta[upper[W_OFF] + a * m + p]
            put(rectangle, factor, upper[W_OFF] + a * m, lower[W_OFF] + p * below, out)
            put(block, factor, lower[W_OFF] + p * below, upper[W_OFF] + a * m, out)
    else:
        a, b = pair_of(p, False, lower[UNITS])
        put(rectangle, 1.0, upper[W_OFF] + a * m, lower[W_OFF] + b * below, out)
        put(block, 1.0, lower[W_OFF] + b * below, upper[W_OFF] + a * m, out)


@leaf
def strip_end(tiles, first):
    """Return the tile after those that hold the same unit pairs as tile `first`."""
    stop = first + 1
    while stop < tiles.shape[0] and tiles[stop, Q0] > 0:
        stop += 1
    return stop


@leaf
def sum_strip(lanes, tiles, p, scale, work, values):
    """Fill `values` with row p of tiles side by side: `scale` times the sum of the lanes."""
    for t in range(tiles.shape[0]):
        row = tiles[t]
        columns = row[Q1] - row[Q0]
        target = values[row[Q0] : row[Q1]]
        sum_row(lanes, row[OFFSET] + (p - row[P0]) * columns, columns, work, target)
        for q in range(columns):
            target[q] *= scale


@pnjit
def expand(theta, weights, layers, tiles, lanes, scale, out):
    """Sum the lanes of all tiles but those of KIND_MIXED, times `scale`, and fill `out` (N, N).

    `weights` (n_L,) are those of the outputs over that of the first, for KIND_OUTPUT and below it.

    Each share has the same part of the rows of every block, so that all have equal work.
    """
    parts = min(PARTS, 1 + out.size // PART_ENTRIES)
    widest = tiles[:, Q1].max()
    broadest = (tiles[:, Q1] - tiles[:, Q0]).max()
    inputs = layers[:, INPUTS].max()
    for part in prange(parts):
        sums = np.empty(((lanes.shape[0] + 1) // 2, broadest), lanes.dtype)
        values = np.empty(widest)
        work = np.empty(inputs * inputs)
        first = 0
        while first < tiles.shape[0]:
            row = tiles[first]
            stop = strip_end(tiles, first)
            upper, lower = layers[row[UPPER]], layers[row[LOWER]]
            output = row[KIND] == KIND_OUTPUT
            rows = upper[UNITS] if output else row[P1] - row[P0]
            if row[KIND] == KIND_MIXED:
                rows = 0
            for r in range(part * rows // parts, (part + 1) * rows // parts):
                p = row[P0] + (0 if output else r)
                sum_strip(lanes, tiles[first:stop], p, scale, sums, values)
                put_row(theta, weights, row, r if output else p, upper, lower, values, work, out)
            first = stop


@leaf
def scatter_mixed(values, a, q_in, q0, upper, lower, out):
    """Add a row of the second summand of the exact Hessian: (a in k, q) times (u in l, j)."""
    u, j = pair_of(q0, False, lower[INPUTS])
    for q in range(values.shape[0]):
        row = upper[W_OFF] + u * upper[INPUTS] + q_in
        out[row, lower[W_OFF] + a * lower[INPUTS] + j] += values[q]
        u, j = next_pair(u, j, False, lower[INPUTS])


@pnjit
def add_mixed(layers, tiles, lanes, out):
    """Add the sum of the lanes of each tile of KIND_MIXED to the lower triangle."""
    broadest = (tiles[:, Q1] - tiles[:, Q0]).max()
    for t in prange(tiles.shape[0]):
        row = tiles[t]
        if row[KIND] != KIND_MIXED:
            continue
        upper, lower = layers[row[UPPER]], layers[row[LOWER]]
        sums = np.empty(((lanes.shape[0] + 1) // 2, broadest), lanes.dtype)
        values = np.empty(row[Q1] - row[Q0])
        for p in range(row[P0], row[P1]):
            a, b = pair_of(p, False, upper[CORE])
            start = row[OFFSET] + (p - row[P0]) * values.shape[0]
            sum_row(lanes, start, values.shape[0], sums, values)
            scatter_mixed(values, a, b, row[Q0], upper, lower, out)


@pnjit
def mirror(out, up):
    """Copy the lower triangle of a square matrix to the upper one, by blocks; down without `up`."""
    n = out.shape[0]
    size = 64
    blocks = (n + size - 1) // size
    for block in prange(blocks):
        # Rows of the upper triangle, so that each worker writes pages of its own; first and
        # last ones in turns, since a row of blocks is the shorter the later it stands.
        turn = block // 2 if block % 2 == 0 else blocks - 1 - block // 2
        r0, r1 = turn * size, min(n, turn * size + size)
        for c0 in range(r0, n, size):
            for r in range(r0, r1):
                for c in range(max(c0, r + 1), min(c0 + size, n)):
                    if up:
                        out[r, c] = out[c, r]
                    else:
                        out[c, r] = out[r, c]
