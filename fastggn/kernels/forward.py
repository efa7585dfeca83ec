"""The forward sweep z_l = W_l phi_{l-1}, phi_l = sigma(z_l), and sigma' and sigma'' of z_l.

Notation: phi_l activations, z_l pre-activations, d_l = sigma'(z_l), omega_l sensitivities (Shen
2018, Eqs. 14-16). A chunk is an array (rows, C): a row a unit, a column a sample. The columns
beyond the last sample repeat it, and their cotangents are zero.
"""

from numba import prange

from fastggn.kernels.activations import activate, activate_second
from fastggn.kernels.blas import gemm
from fastggn.kernels.jit import leaf, pnjit
from fastggn.kernels.layer_table import (
    ADDRESS,
    BIAS,
    CODE,
    CORE,
    D_ROW,
    GATE,
    INPUTS,
    PHI_IN,
    PHI_OUT,
    UNIT_ROW,
    UNITS,
    W_OFF,
    Z_ROW,
)

# Samples of a strip: they fill whole lines of the cache in every row of phi. With one sample at a
# time a line was fetched eight times, from far: rows of phi lie 2 KiB apart and share few sets.
STRIP = 16


@leaf
def weights(theta, row):
    """W_l as a view (n_l, m_l) of theta."""
    start = row[W_OFF]
    return theta[start : start + row[UNITS] * row[INPUTS]].reshape(row[UNITS], row[INPUTS])


@leaf
def apply_gates(gates, column, first, count, z, phi, d):
    """Fixed gates in place of the activation: phi = a z, d = a."""
    for i in range(z.shape[1]):
        source = first + min(i, count - 1)
        for k in range(z.shape[0]):
            gate = 1.0 if gates[source, column + k] else 0.0
            phi[k, i] = gate * z[k, i]
            d[k, i] = gate


@leaf
def load_inputs(samples, first, count, phi):
    """Transpose the samples first..first+count into phi (n, C), the last one repeated."""
    chunk = phi.shape[1]
    for start in range(0, chunk, STRIP):
        for j in range(phi.shape[0]):
            if start + STRIP <= count:
                for i in range(STRIP):
                    phi[j, start + i] = samples[first + start + i, j]
            else:
                for i in range(start, min(start + STRIP, chunk)):
                    phi[j, i] = samples[first + min(i, count - 1), j]


@leaf
def forward_chunk(theta, layers, params, biases, gates, first, count, w):
    """Fill the workspace of one chunk above its samples: phi_1..phi_L, z_1..z_L, d_1..d_L."""
    chunk = w.shape[1]
    for layer in range(layers.shape[0]):
        row = layers[layer]
        n = row[UNITS]
        for dummy in range(row[CORE], row[INPUTS]):
            w[row[PHI_IN] + dummy, :] = 1.0
        z = w[row[Z_ROW] : row[Z_ROW] + n]
        gemm(0, 0, 1.0, weights(theta, row), w[row[PHI_IN] : row[PHI_IN] + row[INPUTS]], 0.0, z)
        if row[BIAS] >= 0:
            for k in range(n):
                fixed, target = biases[row[BIAS] + k], z[k]
                for i in range(chunk):
                    target[i] -= fixed
        phi = w[row[PHI_OUT] : row[PHI_OUT] + n]
        d = w[row[D_ROW] : row[D_ROW] + n]
        if row[GATE] >= 0:
            apply_gates(gates, row[GATE], first, count, z, phi, d)
        else:
            activate(row[CODE], params[layer], row[ADDRESS], z, phi, d)


@pnjit
def forward(theta, layers, params, biases, samples, gates, ws, outputs):
    """Forward sweep over the samples (B, n_0) of a block, chunk by chunk; `outputs` is (B, n_L)."""
    n_chunks, _, chunk = ws.shape
    n_inputs = layers[0, CORE]
    total = outputs.shape[0]
    last = layers[-1, PHI_OUT]
    for c in prange(n_chunks):
        first = c * chunk
        count = min(chunk, total - first)
        w = ws[c]
        load_inputs(samples, first, count, w[:n_inputs])
        forward_chunk(theta, layers, params, biases, gates, first, count, w)
        for i in range(count):
            for k in range(outputs.shape[1]):
                outputs[first + i, k] = w[last + k, i]


@pnjit
def second_derivatives(layers, params, ws, d2):
    """sigma''(z_l) of every unit: d2 is (chunks, units, C)."""
    for c in prange(ws.shape[0]):
        w = ws[c]
        for layer in range(layers.shape[0]):
            row = layers[layer]
            n = row[UNITS]
            target = d2[c, row[UNIT_ROW] : row[UNIT_ROW] + n]
            if row[GATE] >= 0:
                target[:, :] = 0.0
            else:
                z = w[row[Z_ROW] : row[Z_ROW] + n]
                phi = w[row[PHI_OUT] : row[PHI_OUT] + n]
                d = w[row[D_ROW] : row[D_ROW] + n]
                activate_second(row[CODE], params[layer], row[ADDRESS], z, phi, d, target)
