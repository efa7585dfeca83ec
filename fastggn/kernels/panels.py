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
def scatter_square(values, a, b, q0, start, inputs, out):
    """Write a row of a tile of a diagonal block: each value stands in up to four places of G.

    Here those of the lower triangle are filled: (a, i; b, j) and (a, j; b, i).
    """
    rows, cols = start + a * inputs, start + b * inputs
    i, j = pair_of(q0, True, 0)
    q = 0
    while q < values.shape[0]:
        run = min(i + 1 - j, values.shape[0] - q)
        target = out[rows + i, cols + j : cols + j + run]
        for r in range(run):
            value = values[q + r]
            target[r] = value
            out[rows + j + r, cols + i] = value
        q += run
        i, j = i + 1, 0


@leaf
def scatter_block(values, a, b, q0, upper, lower, out):
    """Write a row of a tile below the diagonal: rows of layer l, columns of layer k < l."""
    rows = upper[W_OFF] + a * upper[INPUTS]
    cols = lower[W_OFF] + b * lower[INPUTS]
    i, j = pair_of(q0, False, lower[INPUTS])
    q = 0
    while q < values.shape[0]:
        run = min(lower[INPUTS] - j, values.shape[0] - q)
        out[rows + i, cols + j : cols + j + run] = values[q : q + run]
        q += run
        i, j = i + 1, 0


@leaf
def scatter_mixed(values, a, q_in, q0, upper, lower, out):
    """Add a row of the second summand of the exact Hessian: (a in k, q) times (u in l, j)."""
    u, j = pair_of(q0, False, lower[INPUTS])
    for q in range(values.shape[0]):
        row = upper[W_OFF] + u * upper[INPUTS] + q_in
        out[row, lower[W_OFF] + a * lower[INPUTS] + j] += values[q]
        u, j = next_pair(u, j, False, lower[INPUTS])


@leaf
def scatter_output(values, q0, upper, out):
    """Write a tile of the output layer's block: one and the same for each of its units."""
    m = upper[INPUTS]
    for a in range(upper[UNITS]):
        start = upper[W_OFF] + a * m
        i, j = pair_of(q0, True, 0)
        for q in range(values.shape[0]):
            out[start + i, start + j] = values[q]
            i, j = next_pair(i, j, True, 0)


@leaf
def clear_output(upper, out):
    """Zero the blocks of different units of an output layer whose units do not interact."""
    m, start = upper[INPUTS], upper[W_OFF]
    for a in range(1, upper[UNITS]):
        out[start + a * m : start + a * m + m, start : start + a * m] = 0.0


@leaf
def scatter_below_output(theta, values, b, q0, upper, lower, out):
    """Write a row of a tile of the block (L, L-1): times W_L[a, b] for each output unit a."""
    m, below = upper[INPUTS], lower[INPUTS]
    for a in range(upper[UNITS]):
        rows = upper[W_OFF] + a * m
        factor = theta[rows + b]
        cols = lower[W_OFF] + b * below
        i, j = pair_of(q0, False, below)
        q = 0
        while q < values.shape[0]:
            run = min(below - j, values.shape[0] - q)
            target = out[rows + i, cols + j : cols + j + run]
            for r in range(run):
                target[r] = factor * values[q + r]
            q += run
            i, j = i + 1, 0


@leaf
def scatter_row(theta, row, p, upper, lower, values, out):
    """Write (KIND_MIXED: add) row p of a tile to the lower triangle of G."""
    if row[KIND] == KIND_MIXED:
        a, b = pair_of(p, False, upper[CORE])
        scatter_mixed(values, a, b, row[Q0], upper, lower, out)
    elif row[KIND] == KIND_OUTPUT:
        scatter_output(values, row[Q0], upper, out)
    elif row[KIND] == KIND_BELOW_OUTPUT:
        scatter_below_output(theta, values, p, row[Q0], upper, lower, out)
    elif row[UPPER] == row[LOWER]:
        a, b = pair_of(p, True, 0)
        scatter_square(values, a, b, row[Q0], upper[W_OFF], upper[INPUTS], out)
    else:
        a, b = pair_of(p, False, lower[UNITS])
        scatter_block(values, a, b, row[Q0], upper, lower, out)


@pnjit
def expand(theta, layers, tiles, lanes, kind, scale, out):
    """Sum the lanes of each tile, times `scale`, and write it to the lower triangle.

    `kind` is KIND_MIXED for those tiles alone, which add to what stands there, or any other
    for all the rest, which fill the whole triangle.
    """
    widest = (tiles[:, Q1] - tiles[:, Q0]).max()
    for t in prange(tiles.shape[0]):
        row = tiles[t]
        if (row[KIND] == KIND_MIXED) != (kind == KIND_MIXED):
            continue
        upper, lower = layers[row[UPPER]], layers[row[LOWER]]
        cols = row[Q1] - row[Q0]
        work = np.empty(((lanes.shape[0] + 1) // 2, cols), lanes.dtype)
        values = np.empty(widest)[:cols]
        if row[KIND] == KIND_OUTPUT and row[Q0] == 0:
            clear_output(upper, out)
        for p in range(row[P0], row[P1]):
            sum_row(lanes, row[OFFSET] + (p - row[P0]) * cols, cols, work, values)
            for q in range(cols):
                values[q] *= scale
            scatter_row(theta, row, p, upper, lower, values, out)


@pnjit
def mirror(out):
    """Copy the lower triangle of a square matrix to the upper one, by blocks."""
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
                    out[r, c] = out[c, r]
