"""The exact Hessian's pair panels, and its products (Shen 2018, Eqs. 26-28; errata in math.md).

HH_L = Sigma'_L H_E Sigma'_L + diag(sigma''_L o gradE),
HH_l = Sigma'_l W_{l+1}^T HH_{l+1} W_{l+1} Sigma'_l + diag(sigma''_l o W_{l+1}^T omega_{l+1}),
and for l < k the panels M_lk = Q_kl HH_k and D_lk = Q_{k-1,l} Sigma'_{k-1}, each pulled back layer
by layer by X_l = Sigma'_l W_{l+1}^T X_{l+1}. One column a sample, one row a pair of units.
"""

import numpy as np
from numba import prange

from fastggn.kernels.blas import gemm
from fastggn.kernels.forward import weights
from fastggn.kernels.jit import leaf, pnjit
from fastggn.kernels.layer_table import CORE, D_ROW, INPUTS, PHI_IN, UNIT_ROW, UNITS
from fastggn.kernels.products import load_cotangents, multiply


@leaf
def pull_back(theta, layers, layer, w, above, below):
    """below = Sigma'_l core(W_{l+1})^T above; rows are units, each with `width` blocks of C."""
    row = layers[layer + 1]
    chunk = w.shape[1]
    gemm(1, 0, 1.0, weights(theta, row)[:, : row[CORE]], above, 0.0, below)
    for k in range(row[CORE]):
        d = w[layers[layer, D_ROW] + k]
        for start in range(0, below.shape[1], chunk):
            part = below[k, start : start + chunk]
            for i in range(chunk):
                part[i] *= d[i]


@leaf
def output_curvature(layers, w, d2, hessians, errors, first, count, out):
    """HH_L (n_L, n_L, C) of one chunk; zero beyond the last sample."""
    row = layers[-1]
    n = row[UNITS]
    out[:, :, :] = 0.0
    for a in range(n):
        x = w[row[D_ROW] + a]
        for b in range(n):
            y, target = w[row[D_ROW] + b], out[a, b]
            for i in range(count):
                target[i] = x[i] * y[i] * hessians[first + i, a, b]
        for i in range(count):
            out[a, a, i] += d2[row[UNIT_ROW] + a, i] * errors[first + i, a]


@leaf
def inner_curvature(theta, layers, layer, w, d2, omegas, above, out):
    """HH_l from HH_{l+1} = above (n_{l+1}, n_{l+1}, C), and omega_l with it."""
    row, upper = layers[layer], layers[layer + 1]
    n, m, chunk = row[UNITS], upper[UNITS], w.shape[1]
    W = weights(theta, upper)[:, :n]
    start, before = row[UNIT_ROW], upper[UNIT_ROW]
    half = np.empty((n, m * chunk))
    pull_back(theta, layers, layer, w, above.reshape(m, m * chunk), half)
    for a in range(n):
        gemm(1, 0, 1.0, W, half[a].reshape(m, chunk), 0.0, out[a])
        multiply(out[a], w[row[D_ROW] :])
    omega = omegas[start : start + n]
    gemm(1, 0, 1.0, W, omegas[before : before + m], 0.0, omega)
    for k in range(n):
        square, second, x = out[k, k], d2[start + k], omega[k]
        for i in range(chunk):
            square[i] += second[i] * x[i]
    multiply(omega, w[row[D_ROW] :])


@leaf
def store_triangle(curvature, start, stored):
    """Rows a >= b of a symmetric curvature, as a diagonal block wants them."""
    r = start
    for a in range(curvature.shape[0]):
        for b in range(a + 1):
            for i in range(curvature.shape[2]):
                stored[r, i] = 0.5 * (curvature[a, b, i] + curvature[b, a, i])
            r += 1


@leaf
def store_lower_layers(theta, layers, top, w, block, table, stored):
    """Pull block (n_top, width, C) back to every layer below `top` and store its panels.

    ``table[layer]`` is the first stored row of that layer's panel; the order is (width, n_l) for
    curvature panels (rows: the upper layer first) where table[0] is negative, else (n_l, width).
    """
    chunk = w.shape[1]
    width = block.shape[1]
    above = block.reshape(block.shape[0], width * chunk)
    for layer in range(top - 1, -1, -1):
        n = layers[layer, UNITS]
        below = np.empty((n, width * chunk))
        pull_back(theta, layers, layer, w, above, below)
        for a in range(n):
            for b in range(width):
                position = table[layer, 0] + a * table[layer, 1] + b * table[layer, 2]
                stored[position] = below[a, b * chunk : (b + 1) * chunk]
        above = below


@leaf
def store_mixed(theta, layers, k, w, table, stored):
    """Store D_lk for all l < k: Sigma'_{k-1} itself, and its pull-backs to the layers below."""
    chunk = w.shape[1]
    row = layers[k - 1]
    n = row[UNITS]
    block = np.zeros((n, n, chunk))
    for a in range(n):
        block[a, a] = w[row[D_ROW] + a]
    for a in range(n):
        for b in range(n):
            position = table[k - 1, 0] + a * table[k - 1, 1] + b * table[k - 1, 2]
            for i in range(chunk):
                stored[position, i] = block[a, b, i]
    store_lower_layers(theta, layers, k - 1, w, block, table, stored)


@pnjit
def hessian_panels(theta, layers, ws, d2, hessians, errors, tables, stored, omegas):
    """Fill the pair panels `stored` (chunks, pairs, C) and omega (chunks, units, C).

    `tables` (2, L, L, 3): for the curvature and the mixed panels, upper layer k, lower layer l:
    first stored row and the strides of the lower and the upper unit.
    """
    n_chunks, _, chunk = ws.shape
    total = errors.shape[0]
    n_layers = layers.shape[0]
    for c in prange(n_chunks):
        first = c * chunk
        count = min(chunk, total - first)
        w = ws[c]
        n = layers[-1, UNITS]
        top = omegas[c, layers[-1, UNIT_ROW] : layers[-1, UNIT_ROW] + n]
        load_cotangents(errors, first, count, w[layers[-1, D_ROW] : layers[-1, D_ROW] + n], top)
        curvature = np.empty((n, n, chunk))
        output_curvature(layers, w, d2[c], hessians, errors, first, count, curvature)
        for layer in range(n_layers - 1, -1, -1):
            if layer < n_layers - 1:
                n = layers[layer, UNITS]
                below = np.empty((n, n, chunk))
                inner_curvature(theta, layers, layer, w, d2[c], omegas[c], curvature, below)
                curvature = below
            store_triangle(curvature, tables[0, layer, layer, 0], stored[c])
            store_lower_layers(theta, layers, layer, w, curvature, tables[0, layer], stored[c])
            if layer > 0:
                store_mixed(theta, layers, layer, w, tables[1, layer], stored[c])


@leaf
def hessian_product_chunk(theta, direction, layers, w, d2, t, omega, domega, scratch, out):
    """Backward sweep of Pearlmutter's product; omega_L and its derivative come in loaded.

    The scratch pair receives core(W)^T omega and its derivative along the direction.
    """
    units = d2.shape[0]
    below, dbelow = scratch
    for layer in range(layers.shape[0] - 1, -1, -1):
        row = layers[layer]
        n, core = row[UNITS], row[CORE]
        phi = w[row[PHI_IN] : row[PHI_IN] + row[INPUTS]]
        target = weights(out, row)
        gemm(0, 1, 1.0, domega[:n], phi, 1.0, target)
        if layer > 0:
            before = layers[layer - 1, UNIT_ROW]
            tangent = t[units + before : units + before + core]
            gemm(0, 1, 1.0, omega[:n], tangent, 1.0, target[:, :core])
            W = weights(theta, row)[:, :core]
            gemm(1, 0, 1.0, W, omega[:n], 0.0, below[:core])
            gemm(1, 0, 1.0, weights(direction, row)[:, :core], omega[:n], 0.0, dbelow[:core])
            gemm(1, 0, 1.0, W, domega[:n], 1.0, dbelow[:core])
            start = layers[layer - 1, D_ROW]
            for k in range(core):
                x, dx, d = below[k], dbelow[k], w[start + k]
                second, tangent_row = d2[before + k], t[before + k]
                for i in range(w.shape[1]):
                    a = x[i]
                    x[i] = d[i] * a
                    dx[i] = second[i] * tangent_row[i] * a + d[i] * dx[i]
            omega, below = below, omega
            domega, dbelow = dbelow, domega


@pnjit
def hessian_products(theta, direction, layers, ws, d2, t, errors, derrors, lanes):
    """Exact Hessian times one direction (Pearlmutter 1994), added to the lanes (lanes, N).

    `errors` (B, n_L) is the error gradient, `derrors` = H_E J v; `t` holds the tangents.
    """
    n_lanes = lanes.shape[0]
    n_chunks, _, chunk = ws.shape
    total = errors.shape[0]
    widest = max(layers[:, UNITS].max(), layers[:, CORE].max())
    row = layers[-1]
    for lane in prange(n_lanes):
        s = np.empty((4, widest, chunk))
        for c in range(lane * n_chunks // n_lanes, (lane + 1) * n_chunks // n_lanes):
            first = c * chunk
            count = min(chunk, total - first)
            d = ws[c, row[D_ROW] : row[D_ROW] + row[UNITS]]
            omega, domega = s[0], s[1]
            load_cotangents(errors, first, count, d, omega)
            load_cotangents(derrors, first, count, d, domega)
            for k in range(row[UNITS]):
                for i in range(count):
                    bend = d2[c, row[UNIT_ROW] + k, i] * t[c, row[UNIT_ROW] + k, i]
                    domega[k, i] += bend * errors[first + i, k]
            hessian_product_chunk(
                theta,
                direction,
                layers,
                ws[c],
                d2[c],
                t[c],
                omega,
                domega,
                (s[2], s[3]),
                lanes[lane],
            )
