"""The dual Gram matrix J J^T without J, by tiles of two chunks of samples.

K = sum_l (Psi_l^T Psi_l) o (phi_{l-1}^T phi_{l-1} (x) 1): two thin products and a Hadamard product.
"""

import numpy as np
from numba import prange

from fastggn.kernels.blas import gemm
from fastggn.kernels.jit import leaf, pnjit
from fastggn.kernels.layer_table import INPUTS, PHI_IN, UNIT_ROW, UNITS


@leaf
def dual_tile(layers, w_a, w_b, psi_a, psi_b, outer, inner, block):
    """Fill block (n_S C_a, n_S C_b), columns in the order c C + i, for two chunks."""
    chunk = w_a.shape[1]
    columns = psi_a.shape[1] // chunk
    block[:, :] = 0.0
    for layer in range(layers.shape[0]):
        row = layers[layer]
        phi = row[PHI_IN]
        gemm(1, 0, 1.0, w_a[phi : phi + row[INPUTS]], w_b[phi : phi + row[INPUTS]], 0.0, inner)
        left = psi_a[row[UNIT_ROW] : row[UNIT_ROW] + row[UNITS]]
        right = psi_b[row[UNIT_ROW] : row[UNIT_ROW] + row[UNITS]]
        for c in range(columns):
            x = left[:, c * chunk : (c + 1) * chunk]
            for e in range(columns):
                gemm(1, 0, 1.0, x, right[:, e * chunk : (e + 1) * chunk], 0.0, outer)
                part = block[c * chunk : (c + 1) * chunk, e * chunk : (e + 1) * chunk]
                for i in range(chunk):
                    for j in range(chunk):
                        part[i, j] += outer[i, j] * inner[i, j]


@leaf
def store_tile(block, first_a, count_a, first_b, count_b, columns, out):
    """Write a tile, rows in sample-major order, and its mirror image."""
    chunk = block.shape[0] // columns
    for i in range(count_a):
        for c in range(columns):
            row = (first_a + i) * columns + c
            for j in range(count_b):
                for e in range(columns):
                    value = block[c * chunk + i, e * chunk + j]
                    col = (first_b + j) * columns + e
                    out[row, col] = value
                    out[col, row] = value


@pnjit
def dual_gram(layers, pairs, ws, psi, total, out):
    """Fill out (T n_S, T n_S) from all pairs of chunks a >= b of one block of samples."""
    chunk = ws.shape[2]
    columns = psi.shape[2] // chunk
    for task in prange(pairs.shape[0]):
        a, b = pairs[task, 0], pairs[task, 1]
        outer = np.empty((chunk, chunk))
        inner = np.empty((chunk, chunk))
        block = np.empty((columns * chunk, columns * chunk))
        dual_tile(layers, ws[a], ws[b], psi[a], psi[b], outer, inner, block)
        count_a = min(chunk, total - a * chunk)
        count_b = min(chunk, total - b * chunk)
        store_tile(block, a * chunk, count_a, b * chunk, count_b, columns, out)


@leaf
def rows_of_sample(layers, w, psi, i, columns, out):
    """The n_S rows of S^T J of one sample: out is (n_S, N)."""
    chunk = w.shape[1]
    position = 0
    for layer in range(layers.shape[0]):
        row = layers[layer]
        n, m = row[UNITS], row[INPUTS]
        for c in range(columns):
            target = out[c]
            for k in range(n):
                factor = psi[row[UNIT_ROW] + k, c * chunk + i]
                part = target[position + k * m : position + (k + 1) * m]
                for j in range(m):
                    part[j] = factor * w[row[PHI_IN] + j, i]
        position += n * m


@pnjit
def jacobian_rows(layers, ws, psi, first, last, out):
    """Rows of S^T J of the samples first..last of a block: out is ((last - first) n_S, N)."""
    chunk = ws.shape[2]
    columns = psi.shape[2] // chunk
    for sample in prange(last - first):
        c = (first + sample) // chunk
        i = (first + sample) % chunk
        target = out[sample * columns : (sample + 1) * columns]
        rows_of_sample(layers, ws[c], psi[c], i, columns, target)
