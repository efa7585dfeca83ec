"""The sensitivities Psi_l S: a factor S of the loss's curvature, pulled back through the layers.

Psi_L = Sigma'_L, Psi_l = Sigma'_l core(W_{l+1})^T Psi_{l+1} (Shen 2018, Eq. 16). Chunks are those
of `forward`.
"""

from numba import prange

from fastggn.kernels.blas import gemm
from fastggn.kernels.forward import weights
from fastggn.kernels.jit import leaf, pnjit
from fastggn.kernels.layer_table import CORE, D_ROW, UNIT_ROW, UNITS


@leaf
def factors_chunk(theta, layers, w, factors, first, count, psi):
    """Psi_l S of one chunk for all columns of S: psi (units, n_S C), column c C + i."""
    chunk = w.shape[1]
    columns = factors.shape[2]
    row = layers[-1]
    for k in range(row[UNITS]):
        d = w[row[D_ROW] + k]
        for c in range(columns):
            # A slice from 0: see unit_pairs.
            target = psi[row[UNIT_ROW] + k, c * chunk : (c + 1) * chunk]
            for i in range(count):
                target[i] = d[i] * factors[first + i, k, c]
            target[count:] = 0.0
    for layer in range(layers.shape[0] - 1, 0, -1):
        row = layers[layer]
        n, core, start = row[UNITS], row[CORE], row[UNIT_ROW]
        before = layers[layer - 1, UNIT_ROW]
        below = psi[before : before + core]
        gemm(1, 0, 1.0, weights(theta, row)[:, :core], psi[start : start + n], 0.0, below)
        for k in range(core):
            d = w[layers[layer - 1, D_ROW] + k]
            for c in range(columns):
                target = below[k, c * chunk : (c + 1) * chunk]
                for i in range(chunk):
                    target[i] *= d[i]


@pnjit
def sensitivities(theta, layers, ws, factors, psi):
    """Psi_l S for the factors S (B, n_L, n_S): psi is (chunks, units, n_S C)."""
    chunk = ws.shape[2]
    total = factors.shape[0]
    for c in prange(ws.shape[0]):
        first = c * chunk
        factors_chunk(theta, layers, ws[c], factors, first, min(chunk, total - first), psi[c])
