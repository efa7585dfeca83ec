"""Assembly of the GGN from chunks of the rows of S^T J, built in cache and multiplied at once.

Where a layer has few units or few inputs the panels of pairs are thin, and GEMM starves; then
this form is faster, at n_S N^2 operations a sample. A tile is a square of G's lower triangle.
"""

import numpy as np
from numba import prange

from fastggn.kernels.blas import gemm
from fastggn.kernels.ggn_expand import PART_ENTRIES, PARTS, sum_row
from fastggn.kernels.ggn_pairs import OFFSET, P0, P1, Q0, Q1
from fastggn.kernels.jit import leaf, pnjit
from fastggn.kernels.layer_table import INPUTS, PHI_IN, UNIT_ROW, UNITS, W_OFF


@leaf
def jacobian_panel(layers, w, psi, column, first, panel):
    """Rows first, first + 1, ... of (S^T J)^T for one column of S: panel (rows, C)."""
    chunk = w.shape[1]
    r = 0
    for layer in range(layers.shape[0]):
        row = layers[layer]
        m = row[INPUTS]
        start, size = row[W_OFF], row[UNITS] * m
        index = first + r - start
        while r < panel.shape[0] and index < size:
            x = psi[row[UNIT_ROW] + index // m, column * chunk : (column + 1) * chunk]
            y = w[row[PHI_IN] + index % m]
            target = panel[r]
            for i in range(chunk):
                target[i] = x[i] * y[i]
            r += 1
            index += 1


@pnjit
def assemble_rows(layers, tiles, order, ws, left, right, fresh, lanes):
    """Add the square tiles of the GGN over the chunks of a block to the lanes (lanes, size).

    With `fresh` the lanes' content is overwritten.
    """
    n_lanes = lanes.shape[0]
    n_chunks, _, chunk = ws.shape
    columns = left.shape[2] // chunk
    tallest = (tiles[:, P1] - tiles[:, P0]).max()
    for task in prange(order.shape[0]):
        lane, tile_index = order[task, 0], order[task, 1]
        row = tiles[tile_index]
        rows, cols = row[P1] - row[P0], row[Q1] - row[Q0]
        tile = lanes[lane, row[OFFSET] : row[OFFSET] + rows * cols].reshape(rows, cols)
        a = np.empty((tallest, chunk), lanes.dtype)[:rows]
        b = np.empty((tallest, chunk), lanes.dtype)[:cols]
        first = lane * n_chunks // n_lanes
        last = (lane + 1) * n_chunks // n_lanes
        if fresh and first == last:
            tile[:] = 0.0
        for c in range(first, last):
            for column in range(columns):
                beta = 0.0 if fresh and c == first and column == 0 else 1.0
                jacobian_panel(layers, ws[c], left[c], column, row[P0], a)
                jacobian_panel(layers, ws[c], right[c], column, row[Q0], b)
                gemm(0, 1, 1.0, a, b, beta, tile)


@pnjit
def expand_rows(tiles, lanes, scale, out):
    """Sum the lanes of each tile, times `scale`, and write it to the lower triangle.

    What a tile on the diagonal holds above it is not read.
    """
    widest = (tiles[:, Q1] - tiles[:, Q0]).max()
    parts = min(PARTS, 1 + out.size // PART_ENTRIES)
    for part in prange(parts):
        work = np.empty(((lanes.shape[0] + 1) // 2, widest), lanes.dtype)
        values = np.empty(widest)
        for t in range(tiles.shape[0]):
            row = tiles[t]
            cols = row[Q1] - row[Q0]
            for p in range(row[P0] + part, row[P1], parts):
                below = min(cols, p + 1 - row[Q0])
                sum_row(lanes, row[OFFSET] + (p - row[P0]) * cols, below, work, values)
                for q in range(below):
                    out[p, row[Q0] + q] = scale * values[q]
