"""Assembly of the GGN, block by block, as products of two panels.

G_lk = sum_i (Psi_l^i H_i Psi_k^i^T) (x) (phi_{l-1}^i phi_{k-1}^i^T), l >= k (Shen 2018, Eq. 37):
for each sample one number a pair of units and one a pair of inputs. A tile is a range of unit pairs
times a range of input pairs; it is accumulated over the chunks by GEMM. On the diagonal blocks
both factors are symmetric, so only pairs a >= b and j >= j' are kept.
"""

import numpy as np
from numba import prange

from fastggn.kernels.blas import gemm
from fastggn.kernels.jit import leaf, pnjit
from fastggn.kernels.layer_table import D_ROW, INPUTS, PHI_IN, UNIT_ROW, UNITS

# Columns of the tile table: layers upper >= lower, unit pairs p0..p1, input pairs q0..q1, offset
# of the tile in an accumulator, first row of the pairs in a stored panel, kind of product (KIND_*).
UPPER, LOWER, P0, P1, Q0, Q1, OFFSET, STORED, KIND = range(9)

KIND_CURVATURE = 0  # unit pairs (a, b) times input pairs (phi_j, phi_j')
KIND_MIXED = 1  # exact Hessian, second summand: stored (a, q) times omega_k[u] phi_{l-1}[j]
# Output layers with sigma = id and S a multiple s R of one diagonal matrix: Psi_L = s R, so that
# G_LL = R^2 (x) sum s^2 phi phi^T, and Psi_{L-1} = s Sigma' W_L^T R gives the block below from one
# panel row a unit, scaled by R^2 W_L at the end.
KIND_OUTPUT = 2
KIND_BELOW_OUTPUT = 3

_STRIP = 256  # input pairs built at a time: a strip of a panel stays in the L2 cache


@leaf
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


@leaf
def next_pair(a, b, symmetric, columns):
    """The pair after (a, b)."""
    b += 1
    if b > a if symmetric else b == columns:
        return a + 1, 0
    return a, b


@leaf
def unit_pairs(left, right, symmetric, first, panel):
    """Panel rows sum_c left[a, c] right[b, c], for the unit pairs from `first` on.

    Four columns at a time: with one, loads and stores of the row outweigh the arithmetic.
    """
    chunk = panel.shape[1]
    columns = left.shape[1] // chunk
    a, b = pair_of(first, symmetric, right.shape[0])
    for r in range(panel.shape[0]):
        row = panel[r]
        x, y = left[a], right[b]
        done = columns % 4
        if done == 0:
            four_products(x, y, row)
            done = 4
        else:
            one_product(x[:chunk], y[:chunk], row)
            for c in range(1, done):
                add_product(x[c * chunk : (c + 1) * chunk], y[c * chunk : (c + 1) * chunk], row)
        while done < columns:
            add_four_products(x[done * chunk :], y[done * chunk :], row)
            done += 4
        a, b = next_pair(a, b, symmetric, right.shape[0])


# Each loop below runs over slices from 0: an index that might be negative, as that of Python may,
# would keep the compiler from using vector instructions.


@leaf
def one_product(x, y, row):
    """Set a panel row to the product of one column."""
    for i in range(row.shape[0]):
        row[i] = x[i] * y[i]


@leaf
def add_product(x, y, row):
    """Add the product of one column to a panel row."""
    for i in range(row.shape[0]):
        row[i] += x[i] * y[i]


@leaf
def four_products(x, y, row):
    """Set a panel row to the sum of the products of four columns."""
    n = row.shape[0]
    x1, x2, x3 = x[n : 2 * n], x[2 * n : 3 * n], x[3 * n : 4 * n]
    y1, y2, y3 = y[n : 2 * n], y[2 * n : 3 * n], y[3 * n : 4 * n]
    for i in range(n):
        row[i] = (x[i] * y[i] + x1[i] * y1[i]) + (x2[i] * y2[i] + x3[i] * y3[i])


@leaf
def add_four_products(x, y, row):
    """Add the products of four columns to a panel row."""
    n = row.shape[0]
    x1, x2, x3 = x[n : 2 * n], x[2 * n : 3 * n], x[3 * n : 4 * n]
    y1, y2, y3 = y[n : 2 * n], y[2 * n : 3 * n], y[3 * n : 4 * n]
    for i in range(n):
        row[i] += (x[i] * y[i] + x1[i] * y1[i]) + (x2[i] * y2[i] + x3[i] * y3[i])


@leaf
def output_panel(w, factor, row_lower, kind, first, panel):
    """Panel rows s^2 (output layer) or s^2 sigma'_b (the layer below it), s = `factor`."""
    for r in range(panel.shape[0]):
        d = w[row_lower[D_ROW] + first + r]
        for i in range(panel.shape[1]):
            squared = factor[i] * factor[i]
            panel[r, i] = squared if kind == KIND_OUTPUT else squared * d[i]


@leaf
def input_pairs(left, right, symmetric, first, panel):
    """Panel rows left[j] right[j'], for the input pairs from `first` on."""
    a, b = pair_of(first, symmetric, right.shape[0])
    for r in range(panel.shape[0]):
        row = panel[r]
        x, y = left[a], right[b]
        for i in range(panel.shape[1]):
            row[i] = x[i] * y[i]
        a, b = next_pair(a, b, symmetric, right.shape[0])


@leaf
def accumulate(panel, left, right, symmetric, first, strip, beta, tile):
    """Add panel times the input pairs from `first` on to `beta` tile, a strip at a time."""
    done = 0
    while done < tile.shape[1]:
        rows = min(strip.shape[0], tile.shape[1] - done)
        input_pairs(left, right, symmetric, first + done, strip[:rows])
        gemm(0, 1, 1.0, panel, strip[:rows], beta, tile[:, done : done + rows])
        done += rows


@pnjit
def assemble(layers, tiles, order, ws, left, right, fresh, lanes):
    """Add the tiles of the GGN over the chunks of a block to the lanes (lanes, size).

    With `fresh` the lanes' content is overwritten.

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
        first = lane * n_chunks // n_lanes
        last = (lane + 1) * n_chunks // n_lanes
        if fresh and first == last:
            tile[:] = 0.0
        for c in range(first, last):
            beta = 0.0 if fresh and c == first else 1.0
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
            accumulate(panel, phi_upper, phi_lower, symmetric, row[Q0], strip, beta, tile)


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
                accumulate(panel, omega, phi_lower, False, row[Q0], strip, 1.0, tile)
            else:
                phi_upper = ws[c, upper[PHI_IN] : upper[PHI_IN] + upper[INPUTS]]
                symmetric = row[UPPER] == row[LOWER]
                accumulate(panel, phi_upper, phi_lower, symmetric, row[Q0], strip, 1.0, tile)
