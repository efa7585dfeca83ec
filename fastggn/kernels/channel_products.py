"""Products with the derivatives of channels: J v, the second derivative along v, and H v.

A dot is a derivative by t of theta + t v. With z' = dz / dt of the channels of one unit,
``dot phi^0 = sigma' dot z^0``, and the derivatives of sigma', sigma'' and sigma''' along the path
are those of one order more times ``dot z^0``. Chunks are those of `channels.forward`.
"""

import numpy as np
from numba import prange

from fastggn.kernels.blas import gemm
from fastggn.kernels.channels import (
    FIRST,
    ORDER,
    SECOND,
    load_channels,
    slopes,
    store_outputs,
)
from fastggn.kernels.forward import weights
from fastggn.kernels.jit import leaf, pnjit
from fastggn.kernels.layer_table import CORE, INPUTS, PHI_IN, UNIT_ROW, UNITS, Z_ROW


@leaf
def push_channels(table, size, z, dz, d1, d2, d3, out):
    """Derivatives of phi (C S) of one unit from those of z, dz (C S)."""
    dot = dz[:size]
    for c in range(table.shape[0]):
        own, mine = dz[c * size : (c + 1) * size], z[c * size : (c + 1) * size]
        target = out[c * size : (c + 1) * size]
        if table[c, ORDER] == 0:
            for i in range(size):
                target[i] = d1[i] * own[i]
            continue
        for i in range(size):
            target[i] = d1[i] * own[i] + d2[i] * dot[i] * mine[i]
        if table[c, ORDER] == 2:
            a, b = table[c, FIRST] * size, table[c, SECOND] * size
            x, y, dx, dy = z[a : a + size], z[b : b + size], dz[a : a + size], dz[b : b + size]
            for i in range(size):
                target[i] += d2[i] * (dx[i] * y[i] + x[i] * dy[i])
                target[i] += d3[i] * dot[i] * (x[i] * y[i])


@leaf
def tangent_chunk(theta, direction, layers, table, w, ds, t):
    """Tangents of one chunk: t (2 units, C S) holds dz_1..dz_L, then dphi_1..dphi_L."""
    units, size = t.shape[0] // 2, ds.shape[1]
    for layer in range(layers.shape[0]):
        row = layers[layer]
        n, core = row[UNITS], row[CORE]
        dz = t[row[UNIT_ROW] : row[UNIT_ROW] + n]
        phi = w[row[PHI_IN] : row[PHI_IN] + row[INPUTS]]
        gemm(0, 0, 1.0, weights(direction, row), phi, 0.0, dz)
        if layer > 0:
            start = units + layers[layer - 1, UNIT_ROW]
            gemm(0, 0, 1.0, weights(theta, row)[:, :core], t[start : start + core], 1.0, dz)
        d1, d2 = slopes(layers, layer, ds, 1), slopes(layers, layer, ds, 2)
        d3 = slopes(layers, layer, ds, 3)
        for k in range(n):
            out = t[units + row[UNIT_ROW] + k]
            push_channels(table, size, w[row[Z_ROW] + k], dz[k], d1[k], d2[k], d3[k], out)


@pnjit
def products(theta, directions, layers, table, ws, ds, out):
    """J v for each of p directions (p, N): out is (p, B, n_L C)."""
    n_chunks, size = ws.shape[0], ds.shape[2]
    units = ds.shape[1] // 5
    top = units + layers[-1, UNIT_ROW]
    tasks = min(n_chunks, 64)
    for task in prange(tasks):
        t = np.empty((2 * units, ws.shape[2]))
        for c in range(task * n_chunks // tasks, (task + 1) * n_chunks // tasks):
            first = c * size
            count = min(size, out.shape[1] - first)
            for p in range(directions.shape[0]):
                tangent_chunk(theta, directions[p], layers, table, ws[c], ds[c], t)
                store_outputs(t[top:], first, count, size, out[p])


@pnjit
def tangents(theta, direction, layers, table, ws, ds, t, out):
    """J v for one direction: out is (B, n_L C); t (chunks, 2 units, C S) keeps all tangents."""
    size = ds.shape[2]
    top = t.shape[1] // 2 + layers[-1, UNIT_ROW]
    for c in prange(ws.shape[0]):
        first = c * size
        tangent_chunk(theta, direction, layers, table, ws[c], ds[c], t[c])
        store_outputs(t[c, top:], first, min(size, out.shape[0] - first), size, out)


@leaf
def bend_channels(table, size, z, dz, d1, d2, d3, d4, out):
    """Second derivatives of phi of one unit along the path, in place of those of z in out."""
    dot = dz[:size]
    bend = np.empty(size)
    bend[:] = out[:size]
    for c in range(table.shape[0] - 1, -1, -1):  # the second derivatives read the first ones
        own, mine = dz[c * size : (c + 1) * size], z[c * size : (c + 1) * size]
        target = out[c * size : (c + 1) * size]
        if table[c, ORDER] == 0:
            for i in range(size):
                target[i] = d2[i] * dot[i] * dot[i] + d1[i] * bend[i]
            continue
        for i in range(size):
            curved = d3[i] * dot[i] * dot[i] + d2[i] * bend[i]
            target[i] = d1[i] * target[i] + 2.0 * d2[i] * dot[i] * own[i] + curved * mine[i]
        if table[c, ORDER] == 2:
            a, b = table[c, FIRST] * size, table[c, SECOND] * size
            x, y, dx, dy = z[a : a + size], z[b : b + size], dz[a : a + size], dz[b : b + size]
            x2, y2 = out[a : a + size], out[b : b + size]
            for i in range(size):
                curved = d4[i] * dot[i] * dot[i] + d3[i] * bend[i]
                target[i] += d2[i] * (x2[i] * y[i] + 2.0 * dx[i] * dy[i] + x[i] * y2[i])
                target[i] += 2.0 * d3[i] * dot[i] * (dx[i] * y[i] + x[i] * dy[i])
                target[i] += curved * (x[i] * y[i])


@leaf
def curvature_chunk(theta, direction, layers, table, w, ds, t, s):
    """Second derivatives along the path of one chunk: s (units, C S) receives those of phi_l.

    z_l'' = W_l phi_{l-1}'' + 2 V_l phi_{l-1}', channel by channel.
    """
    units, size = s.shape[0], ds.shape[1]
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
        d1, d2 = slopes(layers, layer, ds, 1), slopes(layers, layer, ds, 2)
        d3, d4 = slopes(layers, layer, ds, 3), slopes(layers, layer, ds, 4)
        for k in range(n):
            z, dz = w[row[Z_ROW] + k], t[start + k]
            bend_channels(table, size, z, dz, d1[k], d2[k], d3[k], d4[k], z2[k])


@pnjit
def second_tangents(theta, direction, layers, table, ws, ds, out):
    """d / dt and d^2 / dt^2 of the channels at theta + t v, t = 0: out is (2, B, n_L C)."""
    n_chunks, size = ws.shape[0], ds.shape[2]
    units = ds.shape[1] // 5
    top = layers[-1, UNIT_ROW]
    tasks = min(n_chunks, 64)
    for task in prange(tasks):
        t = np.empty((2 * units, ws.shape[2]))
        s = np.empty((units, ws.shape[2]))
        for c in range(task * n_chunks // tasks, (task + 1) * n_chunks // tasks):
            first = c * size
            tangent_chunk(theta, direction, layers, table, ws[c], ds[c], t)
            curvature_chunk(theta, direction, layers, table, ws[c], ds[c], t, s)
            count = min(size, out.shape[1] - first)
            store_outputs(t[units + top :], first, count, size, out[0])
            store_outputs(s[top:], first, count, size, out[1])


@leaf
def pull_slopes(table, size, z, dz, om, dom, d1, d2, d3, d4):
    """Cotangents of z of one unit, om, and their derivatives along the path, dom, in place."""
    dot, value, dvalue = dz[:size], om[:size], dom[:size]
    for i in range(size):
        dvalue[i] = d1[i] * dvalue[i] + d2[i] * dot[i] * value[i]
        value[i] *= d1[i]
    for c in range(1, table.shape[0]):
        if table[c, ORDER] == 1:
            pull_mine(size, c * size, z, dz, om, dom, d1, d2, d3)
    for c in range(1, table.shape[0]):
        if table[c, ORDER] == 2:
            own, down = om[c * size : (c + 1) * size], dom[c * size : (c + 1) * size]
            a, b = table[c, FIRST] * size, table[c, SECOND] * size
            x, y, dx, dy = z[a : a + size], z[b : b + size], dz[a : a + size], dz[b : b + size]
            for i in range(size):
                both, dboth = x[i] * y[i], dx[i] * y[i] + x[i] * dy[i]
                value[i] += d3[i] * both * own[i]
                dvalue[i] += (d4[i] * dot[i] * both + d3[i] * dboth) * own[i]
                dvalue[i] += d3[i] * both * down[i]
            pull_partner(size, a, y, dy, dot, own, down, om, dom, d2, d3)
            pull_partner(size, b, x, dx, dot, own, down, om, dom, d2, d3)
            pull_mine(size, c * size, z, dz, om, dom, d1, d2, d3)


@leaf
def pull_partner(size, start, other, dother, dot, own, down, om, dom, d2, d3):
    """Add sigma'' z^j omega^ij to psi^i, which starts at `start`, and its derivative."""
    target, dtarget = om[start : start + size], dom[start : start + size]
    for i in range(size):
        target[i] += d2[i] * other[i] * own[i]
        slope = d3[i] * dot[i] * other[i] + d2[i] * dother[i]
        dtarget[i] += slope * own[i] + d2[i] * other[i] * down[i]


@leaf
def pull_mine(size, start, z, dz, om, dom, d1, d2, d3):
    """Add sigma'' z^c omega^c to psi^0, multiply omega^c by sigma', and derive both."""
    dot, value, dvalue = dz[:size], om[:size], dom[:size]
    x, dx = z[start : start + size], dz[start : start + size]
    own, down = om[start : start + size], dom[start : start + size]
    for i in range(size):
        value[i] += d2[i] * x[i] * own[i]
        slope = d3[i] * dot[i] * x[i] + d2[i] * dx[i]
        dvalue[i] += slope * own[i] + d2[i] * x[i] * down[i]
        down[i] = d1[i] * down[i] + d2[i] * dot[i] * own[i]
        own[i] *= d1[i]


@leaf
def hessian_chunk(theta, direction, layers, table, w, ds, t, omega, domega, scratch, out):
    """Backward sweep of Pearlmutter's product; omega_L and its derivative come in loaded."""
    units, size = t.shape[0] // 2, ds.shape[1]
    below, dbelow = scratch
    for layer in range(layers.shape[0] - 1, -1, -1):
        row = layers[layer]
        n, core = row[UNITS], row[CORE]
        d1, d2 = slopes(layers, layer, ds, 1), slopes(layers, layer, ds, 2)
        d3, d4 = slopes(layers, layer, ds, 3), slopes(layers, layer, ds, 4)
        for k in range(n):
            z, dz = w[row[Z_ROW] + k], t[row[UNIT_ROW] + k]
            pull_slopes(table, size, z, dz, omega[k], domega[k], d1[k], d2[k], d3[k], d4[k])
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
            omega, below = below, omega
            domega, dbelow = dbelow, domega


@pnjit
def hessian_products(theta, direction, layers, table, ws, ds, t, errors, derrors, lanes):
    """Exact Hessian times one direction (Pearlmutter 1994), added to the lanes (lanes, N).

    `errors` (B, n_L C) is the gradient by the channels, `derrors` its derivative along the
    direction; `t` holds the tangents.
    """
    n_lanes = lanes.shape[0]
    n_chunks, size = ws.shape[0], ds.shape[2]
    total = errors.shape[0]
    widest = max(layers[:, UNITS].max(), layers[:, CORE].max())
    outputs = layers[-1, UNITS]
    for lane in prange(n_lanes):
        s = np.empty((4, widest, ws.shape[2]))
        for c in range(lane * n_chunks // n_lanes, (lane + 1) * n_chunks // n_lanes):
            first = c * size
            count = min(size, total - first)
            load_channels(errors, first, count, size, s[0, :outputs])
            load_channels(derrors, first, count, size, s[1, :outputs])
            hessian_chunk(
                theta,
                direction,
                layers,
                table,
                ws[c],
                ds[c],
                t[c],
                s[0],
                s[1],
                (s[2], s[3]),
                lanes[lane],
            )
