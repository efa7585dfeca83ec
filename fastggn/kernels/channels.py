"""Outputs and their derivatives by the inputs: channels side by side in the chunk.

Channel 0 is the value; the others are first derivatives i and second derivatives (i, j) by the
inputs (`docs/math.md`). A chunk of S samples is an array (rows, C S) for C channels, channel c in
the columns c S..(c + 1) S, so that z_l^c = W_l phi_{l-1}^c is one product a layer, and

phi^0 = sigma(z^0),  phi^i = sigma' z^i,  phi^ij = sigma'' z^i z^j + sigma' z^ij.

`table` (C, 3) holds for each channel its order, and the input of a first derivative, or the
channels i and j of a second one. The derivatives of sigma at z_l^0 are rows (5 units, S) of their
own: five blocks of n_l rows a layer, of sigma itself and of its derivatives 1 to 4.
"""

import numpy as np
from numba import prange

from fastggn.kernels.blas import gemm
from fastggn.kernels.forward import load_inputs, weights
from fastggn.kernels.higher_activations import activate_higher
from fastggn.kernels.jit import leaf, pnjit
from fastggn.kernels.layer_table import (
    ADDRESS,
    BIAS,
    CODE,
    CORE,
    INPUTS,
    PHI_IN,
    PHI_OUT,
    UNIT_ROW,
    UNITS,
    Z_ROW,
)

ORDER = 0  # columns of the table of channels
FIRST = 1
SECOND = 2


@leaf
def slopes(layers, layer, ds, order):
    """sigma^(order) at z_l of one chunk, shape (n_l, S)."""
    n = layers[layer, UNITS]
    start = 5 * layers[layer, UNIT_ROW] + order * n
    return ds[start : start + n]


@leaf
def seed(table, seeds, phi, size):
    """Fill the derivative channels of the inputs: e_i, scaled, for the first ones."""
    for c in range(1, table.shape[0]):
        for j in range(phi.shape[0]):
            value = seeds[j] if table[c, ORDER] == 1 and table[c, FIRST] == j else 0.0
            target = phi[j, c * size : (c + 1) * size]
            for i in range(size):
                target[i] = value


@leaf
def apply_channels(table, size, z, phi, s, d1, d2):
    """phi (C S) of one unit from z (C S) and sigma, sigma', sigma'' (S)."""
    value = phi[:size]
    for i in range(size):
        value[i] = s[i]
    for c in range(1, table.shape[0]):
        target, own = phi[c * size : (c + 1) * size], z[c * size : (c + 1) * size]
        if table[c, ORDER] == 1:
            for i in range(size):
                target[i] = d1[i] * own[i]
        else:
            a, b = table[c, FIRST] * size, table[c, SECOND] * size
            x, y = z[a : a + size], z[b : b + size]
            for i in range(size):
                target[i] = d2[i] * (x[i] * y[i]) + d1[i] * own[i]


@leaf
def channels_chunk(theta, layers, params, biases, table, w, ds):
    """Fill the workspace of one chunk above its inputs."""
    size = ds.shape[1]
    for layer in range(layers.shape[0]):
        row = layers[layer]
        n = row[UNITS]
        for dummy in range(row[CORE], row[INPUTS]):
            w[row[PHI_IN] + dummy, :size] = 1.0
            w[row[PHI_IN] + dummy, size:] = 0.0
        z = w[row[Z_ROW] : row[Z_ROW] + n]
        gemm(0, 0, 1.0, weights(theta, row), w[row[PHI_IN] : row[PHI_IN] + row[INPUTS]], 0.0, z)
        values = np.empty((n, size))
        for k in range(n):
            fixed = biases[row[BIAS] + k] if row[BIAS] >= 0 else 0.0
            for i in range(size):
                z[k, i] -= fixed
                values[k, i] = z[k, i]
        s, d1, d2 = (
            slopes(layers, layer, ds, 0),
            slopes(layers, layer, ds, 1),
            slopes(layers, layer, ds, 2),
        )
        d3, d4 = slopes(layers, layer, ds, 3), slopes(layers, layer, ds, 4)
        activate_higher(row[CODE], params[layer], row[ADDRESS], values, s, d1, d2, d3, d4)
        for k in range(n):
            apply_channels(table, size, z[k], w[row[PHI_OUT] + k], s[k], d1[k], d2[k])


@leaf
def store_outputs(rows, first, count, size, out):
    """Write the channels of the outputs (n_L, C S) to out (B, n_L C), column o C + c."""
    channels = rows.shape[1] // size
    for i in range(count):
        for k in range(rows.shape[0]):
            for c in range(channels):
                out[first + i, k * channels + c] = rows[k, c * size + i]


@pnjit
def forward(theta, layers, params, biases, table, seeds, samples, ws, ds, outputs):
    """Forward sweep over the samples (B, n_0) of a block; `outputs` is (B, n_L C)."""
    size = ds.shape[2]
    total = outputs.shape[0]
    last = layers[-1]
    for c in prange(ws.shape[0]):
        first = c * size
        count = min(size, total - first)
        w = ws[c]
        inputs = np.empty((layers[0, CORE], size))
        load_inputs(samples, first, count, inputs)
        phi = w[: layers[0, CORE]]
        phi[:, :size] = inputs
        seed(table, seeds, phi, size)
        channels_chunk(theta, layers, params, biases, table, w, ds[c])
        rows = w[last[PHI_OUT] : last[PHI_OUT] + last[UNITS]]
        store_outputs(rows, first, count, size, outputs)


@leaf
def pull_channels(table, size, z, omega, d1, d2, d3):
    """Turn the cotangents of phi (C S) of one unit into those of z, in place."""
    value = omega[:size]
    for i in range(size):
        value[i] *= d1[i]
    for c in range(1, table.shape[0]):
        if table[c, ORDER] == 1:
            own, x = omega[c * size : (c + 1) * size], z[c * size : (c + 1) * size]
            for i in range(size):
                value[i] += d2[i] * x[i] * own[i]
                own[i] *= d1[i]
    for c in range(1, table.shape[0]):
        if table[c, ORDER] == 2:
            own, mine = omega[c * size : (c + 1) * size], z[c * size : (c + 1) * size]
            a, b = table[c, FIRST] * size, table[c, SECOND] * size
            x, y = z[a : a + size], z[b : b + size]
            for i in range(size):
                value[i] += (d3[i] * (x[i] * y[i]) + d2[i] * mine[i]) * own[i]
            target = omega[a : a + size]
            for i in range(size):
                target[i] += d2[i] * y[i] * own[i]
            other = omega[b : b + size]
            for i in range(size):
                other[i] += d2[i] * x[i] * own[i]
            for i in range(size):
                own[i] *= d1[i]


@leaf
def pull_layer(layers, layer, table, w, ds, omega):
    """Apply `pull_channels` to all units of a layer; omega (n_l, columns C S)."""
    row = layers[layer]
    size = ds.shape[1]
    width = table.shape[0] * size
    d1, d2, d3 = (
        slopes(layers, layer, ds, 1),
        slopes(layers, layer, ds, 2),
        slopes(layers, layer, ds, 3),
    )
    for k in range(row[UNITS]):
        for start in range(0, omega.shape[1], width):
            part = omega[k, start : start + width]
            pull_channels(table, size, w[row[Z_ROW] + k], part, d1[k], d2[k], d3[k])


@leaf
def load_channels(cotangents, first, count, size, omega):
    """omega (n_L, C S) from cotangents (B, n_L C); zero beyond the last sample."""
    channels = omega.shape[1] // size
    for k in range(omega.shape[0]):
        for c in range(channels):
            target = omega[k, c * size : (c + 1) * size]
            for i in range(count):
                target[i] = cotangents[first + i, k * channels + c]
            target[count:] = 0.0


@leaf
def backward_chunk(theta, layers, table, w, ds, omega, below, gradient):
    """Add J^T u of one chunk to `gradient`; omega holds u, below is scratch (units, C S)."""
    for layer in range(layers.shape[0] - 1, -1, -1):
        row = layers[layer]
        n, core = row[UNITS], row[CORE]
        pull_layer(layers, layer, table, w, ds, omega[:n])
        phi = w[row[PHI_IN] : row[PHI_IN] + row[INPUTS]]
        gemm(0, 1, 1.0, omega[:n], phi, 1.0, weights(gradient, row))
        if layer > 0:
            gemm(1, 0, 1.0, weights(theta, row)[:, :core], omega[:n], 0.0, below[:core])
            omega, below = below, omega


@pnjit
def backward(theta, layers, table, ws, ds, cotangents, lanes):
    """J^T u for each of p cotangents (p, B, n_L C), added to the lanes (lanes, p, N)."""
    n_lanes = lanes.shape[0]
    n_chunks, size, width = ws.shape[0], ds.shape[2], ws.shape[2]
    total = cotangents.shape[1]
    widest = max(layers[:, UNITS].max(), layers[:, CORE].max())
    for lane in prange(n_lanes):
        omega = np.empty((widest, width))
        below = np.empty((widest, width))
        for c in range(lane * n_chunks // n_lanes, (lane + 1) * n_chunks // n_lanes):
            first = c * size
            count = min(size, total - first)
            for p in range(cotangents.shape[0]):
                top = omega[: layers[-1, UNITS]]
                load_channels(cotangents[p], first, count, size, top)
                backward_chunk(theta, layers, table, ws[c], ds[c], omega, below, lanes[lane, p])


@pnjit
def sensitivities(theta, layers, table, ws, ds, factors, psi):
    """Psi S for the factors S (B, n_L C, n_S): psi is (chunks, units, n_S C S_0).

    S_0 is the size of a chunk; column (s C + c) S_0 + i belongs to column s of S and channel c.
    """
    size, width = ds.shape[2], ws.shape[2]
    channels = table.shape[0]
    total = factors.shape[0]
    for c in prange(ws.shape[0]):
        first = c * size
        count = min(size, total - first)
        own, top = psi[c], layers[-1, UNIT_ROW]
        for s in range(factors.shape[2]):
            for k in range(layers[-1, UNITS]):
                for channel in range(channels):
                    start = s * width + channel * size
                    target = own[top + k, start : start + size]
                    for i in range(count):
                        target[i] = factors[first + i, k * channels + channel, s]
                    target[count:] = 0.0
        for layer in range(layers.shape[0] - 1, -1, -1):
            row = layers[layer]
            start, n, core = row[UNIT_ROW], row[UNITS], row[CORE]
            omega = own[start : start + n]
            pull_layer(layers, layer, table, ws[c], ds[c], omega)
            if layer > 0:
                before = layers[layer - 1, UNIT_ROW]
                below = own[before : before + core]
                gemm(1, 0, 1.0, weights(theta, row)[:, :core], omega, 0.0, below)
