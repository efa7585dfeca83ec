"""Assembly of the GGN, block by block, as products of two panels.

G_lk = sum_i (Psi_l^i H_i Psi_k^i^T) (x) (phi_{l-1}^i phi_{k-1}^i^T), l >= k (Shen 2018, Eq. 37):
for each sample one number a pair of units and one a pair of inputs. A tile is a range of unit pairs
times a range of input pairs; it is accumulated over the chunks by GEMM. On the diagonal blocks
both factors are symmetric, so only pairs a >= b and j >= j' are kept.
"""

import numpy as np
from numba import prange

from fastggn.kernels.blas import gemm
from fastggn.kernels.jit import njit, pnjit
from fastggn.kernels.layout import CORE, D_ROW, INPUTS, PHI_IN, UNIT_ROW, UNITS, W_OFF

# Columns of the tile table: layers upper >= lower, unit pairs p0..p1, input pairs q0..q1, offset
# of the tile in an accumulator, first row of the pairs in a stored panel, kind of product (KIND_*).
UPPER, LOWER, P0, P1, Q0, Q1, OFFSET, STORED, KIND = range(9)
TILE_COLUMNS = 9

KIND_CURVATURE = 0  # unit pairs (a, b) times input pairs (phi_j, phi_j')
KIND_MIXED = 1  # exact Hessian, second summand: stored (a, q) times omega_k[u] phi_{l-1}[j]
# Output layers with sigma = id and S a multiple s I of the identity: Psi_L = s I, so that
# G_LL = I (x) sum s^2 phi phi^T, and Psi_{L-1} = Sigma' W_L^T gives the block below from one
# panel row a unit, scaled by W_L at the end.
KIND_OUTPUT = 2
KIND_BELOW_OUTPUT = 3

_STRIP = 256  # input pairs built at a time: a strip of a panel stays in the L2 cache


@njit
def pair_of(index, symmetric, columns):
    """The pair (a, b) at `index`: a >= b in a triangle, or row-major with `columns`."""
    if symmetric:
        a = int((np.sqrt(8.0 * index + 1.0) - 1.0) / 2.0)
        while a * (a + 1) // 2 > index:
            a -= 1
        while (a + 1) * (a + 2) // 2 <= index:
            a += 1
        return a, index - a * (a + 1) // 2
    return index // columns, index % columns


@njit
def next_pair(a, b, symmetric, columns):
    """The pair after (a, b)."""
    b += 1
    if b > a if symmetric else b == columns:
        return a + 1, 0
    return a, b


@njit
def unit_pairs(left, right, symmetric, first, panel):
    """Panel rows sum_c left[a, c] right[b, c], for the unit pairs from `first` on."""
    chunk = panel.shape[1]
    columns = left.shape[1] // chunk
    a, b = pair_of(first, symmetric, right.shape[0])
    for r in range(panel.shape[0]):
        row = panel[r]
        x, y = left[a], right[b]
        for i in range(chunk):
            row[i] = x[i] * y[i]
        for c in range(1, columns):
            for i in range(chunk):
                row[i] += x[c * chunk + i] * y[c * chunk + i]
        a, b = next_pair(a, b, symmetric, right.shape[0])


@njit
def output_panel(w, factor, row_lower, kind, first, panel):
    """Panel rows s^2 (output layer) or s^2 sigma'_b (the layer below it), s = `factor`."""
    for r in range(panel.shape[0]):
        d = w[row_lower[D_ROW] + first + r]
        for i in range(panel.shape[1]):
            squared = factor[i] * factor[i]
            panel[r, i] = squared if kind == KIND_OUTPUT else squared * d[i]


@njit
def input_pairs(left, right, symmetric, first, panel):
    """Panel rows left[j] right[j'], for the input pairs from `first` on."""
    a, b = pair_of(first, symmetric, right.shape[0])
    for r in range(panel.shape[0]):
        row = panel[r]
        x, y = left[a], right[b]
        for i in range(panel.shape[1]):
            row[i] = x[i] * y[i]
        a, b = next_pair(a, b, symmetric, right.shape[0])


@njit
def accumulate(panel, left, right, symmetric, first, strip, tile):
    """Add panel times the input pairs from `first` on to a tile, a strip of pairs at a time."""
    done = 0
    while done < tile.shape[1]:
        rows = min(strip.shape[0], tile.shape[1] - done)
        input_pairs(left, right, symmetric, first + done, strip[:rows])
        gemm(0, 1, 1.0, panel, strip[:rows], 1.0, tile[:, done : done + rows])
        done += rows


@pnjit
def assemble(layers, tiles, order, ws, left, right, lanes):
    """Add the tiles of the GGN over the chunks of a block to the lanes (lanes, size).

    `left` and `right` (chunks, units, n_S C) are Psi S and Psi S diag(signs); the same array
    twice for a positive semi-definite curvature. The panels and products have the lanes' dtype.
    """
    n_lanes = lanes.shape[0]
    n_chunks, _, chunk = ws.shape
    tallest = (tiles[:, P1] - tiles[:, P0]).max()
    for task in prange(order.shape[0]):
        lane, tile_index = order[task, 0], order[task, 1]
        row = tiles[tile_index]
        upper, lower = layers[row[UPPER]], layers[row[LOWER]]
        symmetric = row[UPPER] == row[LOWER]
        rows, cols = row[P1] - row[P0], row[Q1] - row[Q0]
        tile = lanes[lane, row[OFFSET] : row[OFFSET] + rows * cols].reshape(rows, cols)
        panel = np.empty((tallest, chunk), lanes.dtype)[:rows]
        strip = np.empty((min(_STRIP, cols), chunk), lanes.dtype)
        for c in range(lane * n_chunks // n_lanes, (lane + 1) * n_chunks // n_lanes):
            if row[KIND] == KIND_CURVATURE:
                unit_pairs(
                    left[c, upper[UNIT_ROW] : upper[UNIT_ROW] + upper[UNITS]],
                    right[c, lower[UNIT_ROW] : lower[UNIT_ROW] + lower[UNITS]],
                    symmetric,
                    row[P0],
                    panel,
                )
            else:
                output_panel(ws[c], left[c, upper[UNIT_ROW]], lower, row[KIND], row[P0], panel)
            phi_upper = ws[c, upper[PHI_IN] : upper[PHI_IN] + upper[INPUTS]]
            phi_lower = ws[c, lower[PHI_IN] : lower[PHI_IN] + lower[INPUTS]]
            accumulate(panel, phi_upper, phi_lower, symmetric, row[Q0], strip, tile)


@pnjit
def assemble_stored(layers, tiles, order, ws, stored, omegas, lanes):
    """Add tiles whose unit pairs lie ready in `stored` (chunks, pairs, C): the exact Hessian.

    The kind of a tile tells its columns: pairs of inputs, or omega_k[u] phi_{l-1}[j].
    """
    n_lanes = lanes.shape[0]
    n_chunks, _, chunk = ws.shape
    for task in prange(order.shape[0]):
        lane, tile_index = order[task, 0], order[task, 1]
        row = tiles[tile_index]
        upper, lower = layers[row[UPPER]], layers[row[LOWER]]
        rows, cols = row[P1] - row[P0], row[Q1] - row[Q0]
        tile = lanes[lane, row[OFFSET] : row[OFFSET] + rows * cols].reshape(rows, cols)
        strip = np.empty((min(_STRIP, cols), chunk), lanes.dtype)
        for c in range(lane * n_chunks // n_lanes, (lane + 1) * n_chunks // n_lanes):
            panel = stored[c, row[STORED] : row[STORED] + rows]
            phi_lower = ws[c, lower[PHI_IN] : lower[PHI_IN] + lower[INPUTS]]
            if row[KIND] == KIND_MIXED:
                omega = omegas[c, upper[UNIT_ROW] : upper[UNIT_ROW] + upper[UNITS]]
                accumulate(panel, omega, phi_lower, False, row[Q0], strip, tile)
            else:
                phi_upper = ws[c, upper[PHI_IN] : upper[PHI_IN] + upper[INPUTS]]
                symmetric = row[UPPER] == row[LOWER]
                accumulate(panel, phi_upper, phi_lower, symmetric, row[Q0], strip, tile)


@njit
def scatter_square(tile, p0, q0, start, inputs, out):
    """Write a tile of a diagonal block: each value stands in up to four places of G."""
    a, b = pair_of(p0, True, 0)
    for p in range(tile.shape[0]):
        rows, cols = start + a * inputs, start + b * inputs
        i, j = pair_of(q0, True, 0)
        for q in range(tile.shape[1]):
            value = tile[p, q]
            out[rows + i, cols + j] = value
            out[rows + j, cols + i] = value
            i, j = next_pair(i, j, True, 0)
        a, b = next_pair(a, b, True, 0)


@njit
def scatter_block(tile, p0, q0, upper, lower, out):
    """Write a tile of a block below the diagonal: rows of layer l, columns of layer k < l."""
    a, b = pair_of(p0, False, lower[UNITS])
    for p in range(tile.shape[0]):
        rows = upper[W_OFF] + a * upper[INPUTS]
        cols = lower[W_OFF] + b * lower[INPUTS]
        i, j = pair_of(q0, False, lower[INPUTS])
        for q in range(tile.shape[1]):
            out[rows + i, cols + j] = tile[p, q]
            i, j = next_pair(i, j, False, lower[INPUTS])
        a, b = next_pair(a, b, False, lower[UNITS])


@njit
def scatter_mixed(tile, p0, q0, upper, lower, out):
    """Add a tile of the second summand of the exact Hessian: (a in k, q) times (u in l, j)."""
    a, q_in = pair_of(p0, False, upper[CORE])
    for p in range(tile.shape[0]):
        u, j = pair_of(q0, False, lower[INPUTS])
        for q in range(tile.shape[1]):
            row = upper[W_OFF] + u * upper[INPUTS] + q_in
            out[row, lower[W_OFF] + a * lower[INPUTS] + j] += tile[p, q]
            u, j = next_pair(u, j, False, lower[INPUTS])
        a, q_in = next_pair(a, q_in, False, upper[CORE])


@njit
def scatter_output(tile, q0, upper, out):
    """Write a tile of the output layer's block: one and the same for each of its units."""
    m = upper[INPUTS]
    for a in range(upper[UNITS]):
        start = upper[W_OFF] + a * m
        i, j = pair_of(q0, True, 0)
        for q in range(tile.shape[1]):
            out[start + i, start + j] = tile[0, q]
            i, j = next_pair(i, j, True, 0)


@njit
def scatter_below_output(theta, tile, p0, q0, upper, lower, out):
    """Write a tile of the block (L, L-1): row b times W_L[a, b] for each output unit a."""
    m, below = upper[INPUTS], lower[INPUTS]
    for a in range(upper[UNITS]):
        rows = upper[W_OFF] + a * m
        for p in range(tile.shape[0]):
            factor = theta[rows + p0 + p]
            cols = lower[W_OFF] + (p0 + p) * below
            i, j = pair_of(q0, False, below)
            for q in range(tile.shape[1]):
                out[rows + i, cols + j] = factor * tile[p, q]
                i, j = next_pair(i, j, False, below)


@pnjit
def expand(theta, layers, tiles, lanes, kind, out):
    """Sum the lanes of each tile and write it to the lower triangle.

    `kind` is KIND_MIXED for those tiles alone, which add to what stands there, or any other
    for all the rest.
    """
    n_lanes = lanes.shape[0]
    for t in prange(tiles.shape[0]):
        row = tiles[t]
        if (row[KIND] == KIND_MIXED) != (kind == KIND_MIXED):
            continue
        upper, lower = layers[row[UPPER]], layers[row[LOWER]]
        rows, cols = row[P1] - row[P0], row[Q1] - row[Q0]
        start, stop = row[OFFSET], row[OFFSET] + rows * cols
        step = 1
        while step < n_lanes:
            for lane in range(0, n_lanes - step, 2 * step):
                for i in range(start, stop):
                    lanes[lane, i] += lanes[lane + step, i]
            step *= 2
        tile = lanes[0, start:stop].reshape(rows, cols)
        if kind == KIND_MIXED:
            scatter_mixed(tile, row[P0], row[Q0], upper, lower, out)
        elif row[KIND] == KIND_OUTPUT:
            scatter_output(tile, row[Q0], upper, out)
        elif row[KIND] == KIND_BELOW_OUTPUT:
            scatter_below_output(theta, tile, row[P0], row[Q0], upper, lower, out)
        elif row[UPPER] == row[LOWER]:
            scatter_square(tile, row[P0], row[Q0], upper[W_OFF], upper[INPUTS], out)
        else:
            scatter_block(tile, row[P0], row[Q0], upper, lower, out)


@pnjit
def mirror(out, scale):
    """Multiply the lower triangle of a square matrix and copy it to the upper one, by blocks."""
    n = out.shape[0]
    size = 64
    blocks = (n + size - 1) // size
    for block in prange(blocks):
        r0, r1 = block * size, min(n, block * size + size)
        for c0 in range(0, r1, size):
            for r in range(r0, r1):
                for c in range(c0, min(c0 + size, r + 1)):
                    value = scale * out[r, c]
                    out[r, c] = value
                    out[c, r] = value
