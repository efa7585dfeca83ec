"""Rows of S^T J over channels: sums of Khatri-Rao products, and the matrices made of them.

The block of layer l in a row is the sum over the channels of psi_l^c (x) phi_{l-1}^c
(`docs/math.md`), so a row costs C times a plain one, and its products cost the same.
"""

import numpy as np
from numba import prange

from fastggn.kernels.blas import gemm, syrk
from fastggn.kernels.channels import row_panel
from fastggn.kernels.ggn_pairs import OFFSET, P0, P1, Q0, Q1
from fastggn.kernels.jit import pnjit


@pnjit
def assemble_rows(layers, tiles, order, size, ws, psi, tails, fresh, lanes):
    """Add the square tiles of the GGN over the chunks of a block to the lanes (lanes, size).

    `psi` are sensitivities, `tails` (chunks, K, n_S S) the columns of the coefficients. With
    `fresh` the lanes' content is overwritten. Of tiles on the diagonal only the lower triangle
    is computed; the rest is zero.
    """
    n_lanes = lanes.shape[0]
    n_chunks, _, width = ws.shape
    columns = psi.shape[2] // width
    tallest = (tiles[:, P1] - tiles[:, P0]).max()
    for task in prange(order.shape[0]):
        lane, tile_index = order[task, 0], order[task, 1]
        row = tiles[tile_index]
        rows, cols = row[P1] - row[P0], row[Q1] - row[Q0]
        tile = lanes[lane, row[OFFSET] : row[OFFSET] + rows * cols].reshape(rows, cols)
        a = np.empty((tallest, size), lanes.dtype)[:rows]
        b = np.empty((tallest, size), lanes.dtype)[:cols]
        first = lane * n_chunks // n_lanes
        last = (lane + 1) * n_chunks // n_lanes
        diagonal = row[P0] == row[Q0]
        if fresh and (diagonal or first == last):
            tile[:] = 0.0
        for c in range(first, last):
            for column in range(columns):
                beta = 0.0 if fresh and c == first and column == 0 else 1.0
                row_panel(layers, ws[c], psi[c], tails[c], column, row[P0], a)
                if diagonal:
                    syrk(1.0, a, beta, tile)
                else:
                    row_panel(layers, ws[c], psi[c], tails[c], column, row[Q0], b)
                    gemm(0, 1, 1.0, a, b, beta, tile)


@pnjit
def jacobian_rows(layers, size, ws, psi, tail, first, last, out):
    """Rows of S^T J of the samples first..last of a block: out is ((last - first) n_S, N)."""
    columns = psi.shape[2] // ws.shape[2]
    chunks = (last - 1) // size + 1 - first // size
    for task in prange(chunks * columns):
        c, column = first // size + task // columns, task % columns
        panel = np.empty((out.shape[1], size))
        row_panel(layers, ws[c], psi[c], tail[c], column, 0, panel)
        for i in range(max(first, c * size), min(last, (c + 1) * size)):
            target = out[(i - first) * columns + column]
            for j in range(out.shape[1]):
                target[j] = panel[j, i - c * size]


@pnjit
def gram_of_rows(rows, tile, out):
    """Rows times their transpose: out (M, M) from rows (M, N), in tiles of `tile` rows."""
    count = (rows.shape[0] + tile - 1) // tile
    for task in prange(count * count):
        a, b = task // count, task % count
        if b <= a:
            upper, lower = rows[a * tile : (a + 1) * tile], rows[b * tile : (b + 1) * tile]
            block = np.empty((upper.shape[0], lower.shape[0]))
            gemm(0, 1, 1.0, upper, lower, 0.0, block)
            for i in range(block.shape[0]):
                for j in range(block.shape[1]):
                    out[a * tile + i, b * tile + j] = block[i, j]
                    out[b * tile + j, a * tile + i] = block[i, j]
