"""Products with the Jacobian from a forward sweep: J v, J^T u, and d^2 F(theta + t v) / dt^2.

The gradient is J^T u for the cotangents u of the loss. Chunks are those of `forward`.
"""

import numpy as np
from numba import prange

from fastggn.kernels.blas import gemm
from fastggn.kernels.forward import weights
from fastggn.kernels.ggn_pairs import add_product
from fastggn.kernels.jit import leaf, pnjit
from fastggn.kernels.layer_table import CORE, D_ROW, INPUTS, PHI_IN, UNIT_ROW, UNITS


@leaf
def multiply(rows, factors):
    """Multiply rows by those of another array, entry by entry.

    Over slices: an offset read from a table within the loop would be read again after each
    store, which may have changed it, and nothing would be vectorised.
    """
    for k in range(rows.shape[0]):
        x, y = rows[k], factors[k]
        for i in range(x.shape[0]):
            x[i] *= y[i]


@leaf
def product_chunk(theta, direction, layers, w, first, count, tangent, next_tangent, out):
    """Rows first, ... of J v; the scratch pair (units, C) holds one layer's tangents at a time."""
    for layer in range(layers.shape[0]):
        row = layers[layer]
        n, core = row[UNITS], row[CORE]
        phi = w[row[PHI_IN] : row[PHI_IN] + row[INPUTS]]
        gemm(0, 0, 1.0, weights(direction, row), phi, 0.0, next_tangent[:n])
        if layer > 0:
            gemm(0, 0, 1.0, weights(theta, row)[:, :core], tangent[:core], 1.0, next_tangent[:n])
        multiply(next_tangent[:n], w[row[D_ROW] :])
        tangent, next_tangent = next_tangent, tangent
    for i in range(count):
        for k in range(out.shape[1]):
            out[first + i, k] = tangent[k, i]


@pnjit
def products(theta, directions, layers, ws, out):
    """J v for each of p directions (p, N): out is (p, B, n_L). Nothing is kept."""
    n_chunks, _, chunk = ws.shape
    tasks = min(n_chunks, 64)
    widest = max(layers[:, UNITS].max(), layers[:, CORE].max())
    for task in prange(tasks):
        scratch = np.empty((2, widest, chunk))
        for c in range(task * n_chunks // tasks, (task + 1) * n_chunks // tasks):
            first = c * chunk
            count = min(chunk, out.shape[1] - first)
            for p in range(directions.shape[0]):
                product_chunk(
                    theta,
                    directions[p],
                    layers,
                    ws[c],
                    first,
                    count,
                    scratch[0],
                    scratch[1],
                    out[p],
                )


@leaf
def scalar_chunk(direction, layers, w, psi, scratch, total):
    """Set total (C,) to J v of one chunk."""
    total[:] = 0.0
    for layer in range(layers.shape[0]):
        row = layers[layer]
        n, start = row[UNITS], row[UNIT_ROW]
        phi = w[row[PHI_IN] : row[PHI_IN] + row[INPUTS]]
        gemm(0, 0, 1.0, weights(direction, row), phi, 0.0, scratch[:n])
        for k in range(n):
            add_product(psi[start + k], scratch[k], total)


@pnjit
def scalar_products(directions, layers, ws, psi, out):
    """J v of one output from its sensitivities: sum_l Psi_l . (V_l phi_{l-1}); out is (p, B, 1).

    Some 2 N operations a sample: `products` takes those of W_l phi_{l-1}' as well.
    """
    n_chunks, _, chunk = ws.shape
    tasks = min(n_chunks, 64)
    widest = layers[:, UNITS].max()
    for task in prange(tasks):
        scratch = np.empty((widest + 1, chunk))
        for c in range(task * n_chunks // tasks, (task + 1) * n_chunks // tasks):
            first = c * chunk
            count = min(chunk, out.shape[1] - first)
            for p in range(directions.shape[0]):
                scalar_chunk(
                    directions[p], layers, ws[c], psi[c], scratch[:widest], scratch[widest]
                )
                out[p, first : first + count, 0] = scratch[widest, :count]


@leaf
def tangent_chunk(theta, direction, layers, w, t):
    """Tangents of one chunk along `direction`: t holds dz_1..dz_L, then dphi_1..dphi_L."""
    units = t.shape[0] // 2
    for layer in range(layers.shape[0]):
        row = layers[layer]
        n = row[UNITS]
        dz = t[row[UNIT_ROW] : row[UNIT_ROW] + n]
        phi = w[row[PHI_IN] : row[PHI_IN] + row[INPUTS]]
        gemm(0, 0, 1.0, weights(direction, row), phi, 0.0, dz)
        if layer > 0:
            start = units + layers[layer - 1, UNIT_ROW]
            core = row[CORE]
            gemm(0, 0, 1.0, weights(theta, row)[:, :core], t[start : start + core], 1.0, dz)
        for k in range(n):
            target, source, d = t[units + row[UNIT_ROW] + k], dz[k], w[row[D_ROW] + k]
            for i in range(t.shape[1]):
                target[i] = d[i] * source[i]


@pnjit
def tangents(theta, direction, layers, ws, t, out):
    """J v for one direction: out is (B, n_L); t (chunks, 2 units, C) keeps all tangents."""
    chunk = ws.shape[2]
    outputs = out.shape[1]
    last = t.shape[1] - outputs
    for c in prange(ws.shape[0]):
        first = c * chunk
        tangent_chunk(theta, direction, layers, ws[c], t[c])
        for i in range(min(chunk, out.shape[0] - first)):
            for k in range(outputs):
                out[first + i, k] = t[c, last + k, i]


@leaf
def curvature_chunk(theta, direction, layers, w, d2, t, s):
    """Second directional derivatives: s (units, C) receives d^2 phi_l / dt^2.

    z_l'' = W_l phi_{l-1}'' + 2 V_l phi_{l-1}',  phi_l'' = sigma'' (z_l')^2 + sigma' z_l''.
    """
    units = s.shape[0]
    for layer in range(layers.shape[0]):
        row = layers[layer]
        n, core, start = row[UNITS], row[CORE], row[UNIT_ROW]
        z2 = s[start : start + n]
        if layer > 0:
            before = layers[layer - 1, UNIT_ROW]
            tangent = t[units + before : units + before + core]
            gemm(0, 0, 2.0, weights(direction, row)[:, :core], tangent, 0.0, z2)
            gemm(0, 0, 1.0, weights(theta, row)[:, :core], s[before : before + core], 1.0, z2)
        else:
            z2[:, :] = 0.0
        for k in range(n):
            target, dz, second, d = z2[k], t[start + k], d2[start + k], w[row[D_ROW] + k]
            for i in range(s.shape[1]):
                target[i] = second[i] * dz[i] * dz[i] + d[i] * target[i]


@pnjit
def second_tangents(theta, direction, layers, ws, d2, out):
    """d^2 F(theta + t v) / dt^2 at t = 0 for one direction: out is (B, n_L)."""
    n_chunks, _, chunk = ws.shape
    outputs = out.shape[1]
    units = d2.shape[1]
    tasks = min(n_chunks, 64)
    for task in prange(tasks):
        t = np.empty((2 * units, chunk))
        s = np.empty((units, chunk))
        for c in range(task * n_chunks // tasks, (task + 1) * n_chunks // tasks):
            first = c * chunk
            tangent_chunk(theta, direction, layers, ws[c], t)
            curvature_chunk(theta, direction, layers, ws[c], d2[c], t, s)
            for i in range(min(chunk, out.shape[0] - first)):
                for k in range(outputs):
                    out[first + i, k] = s[units - outputs + k, i]


@leaf
def load_cotangents(cotangents, first, count, d, omega):
    """omega_L = d_L times the cotangents of one chunk; zero beyond the last sample."""
    for k in range(d.shape[0]):
        for i in range(count):
            omega[k, i] = d[k, i] * cotangents[first + i, k]
        for i in range(count, d.shape[1]):
            omega[k, i] = 0.0


@leaf
def backward_chunk(theta, layers, w, cotangents, first, count, omega, below, gradient):
    """Add J^T u of one chunk to `gradient`; omega and below are scratch (units, C)."""
    row = layers[-1]
    d = w[row[D_ROW] : row[D_ROW] + row[UNITS]]
    load_cotangents(cotangents, first, count, d, omega)
    for layer in range(layers.shape[0] - 1, -1, -1):
        row = layers[layer]
        n, core = row[UNITS], row[CORE]
        phi = w[row[PHI_IN] : row[PHI_IN] + row[INPUTS]]
        gemm(0, 1, 1.0, omega[:n], phi, 1.0, weights(gradient, row))
        if layer > 0:
            gemm(1, 0, 1.0, weights(theta, row)[:, :core], omega[:n], 0.0, below[:core])
            multiply(below[:core], w[layers[layer - 1, D_ROW] :])
            omega, below = below, omega


@pnjit
def backward(theta, layers, ws, cotangents, total, lanes):
    """J^T u for each of p cotangents (p, B, n_L), added to the lanes (lanes, p, N).

    A lane is a fixed range of chunks: the result does not depend on the number of threads.
    """
    n_lanes = lanes.shape[0]
    n_chunks, _, chunk = ws.shape
    widest = max(layers[:, UNITS].max(), layers[:, CORE].max())
    for lane in prange(n_lanes):
        omega = np.empty((widest, chunk))
        below = np.empty((widest, chunk))
        for c in range(lane * n_chunks // n_lanes, (lane + 1) * n_chunks // n_lanes):
            first = c * chunk
            count = min(chunk, total - first)
            for p in range(cotangents.shape[0]):
                backward_chunk(
                    theta, layers, ws[c], cotangents[p], first, count, omega, below, lanes[lane, p]
                )


@pnjit
def reduce_lanes(lanes):
    """Sum the lanes into the first one, pairwise, in an order fixed by their number."""
    n_lanes, size = lanes.shape
    parts = (size + 8191) // 8192
    for part in prange(parts):
        start = part * 8192
        stop = min(size, start + 8192)
        step = 1
        while step < n_lanes:
            for lane in range(0, n_lanes - step, 2 * step):
                for i in range(start, stop):
                    lanes[lane, i] += lanes[lane + step, i]
            step *= 2
