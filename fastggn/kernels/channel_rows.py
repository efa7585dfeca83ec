"""Rows of S^T J over channels: sums of Khatri-Rao products, and the matrices made of them.

The block of layer l in a row is the sum over the channels of psi_l^c (x) phi_{l-1}^c
(`docs/math.md`), so a row costs C times a plain one, and its products cost the same.
"""

import numpy as np
from llvmlite import ir
from numba import prange, types
from numba.core import cgutils
from numba.extending import intrinsic

from fastggn.kernels.blas import gemm, syrk
from fastggn.kernels.counters import add
from fastggn.kernels.forward import weights
from fastggn.kernels.ggn_pairs import OFFSET, P0, P1, Q0, Q1
from fastggn.kernels.jit import DISABLED, inline, leaf, pnjit
from fastggn.kernels.layer_table import CORE, INPUTS, PHI_IN, UNIT_ROW, UNITS, W_OFF

_WIDTH = 8  # a chunk is a multiple of it


@intrinsic
def _sum_of_products(typing_context, x, y, count, target):
    # By hand: a compiler that does not know that target is another array reads and writes it in
    # each channel, or gives vectors up.
    def generate(context, builder, signature, args):
        word = ir.IntType(64)
        x, y, target = (
            context.make_array(signature.args[k])(context, builder, args[k]) for k in (0, 1, 3)
        )
        (size,) = cgutils.unpack_tuple(builder, target.shape, 1)
        vector = ir.VectorType(ir.DoubleType(), _WIDTH)

        def eight(array, at):
            place = builder.bitcast(builder.gep(array.data, [at]), vector.as_pointer())
            return builder.load(place, align=8)

        total = cgutils.alloca_once(builder, vector)
        zero, step = ir.Constant(word, 0), ir.Constant(word, _WIDTH)
        with cgutils.for_range_slice(builder, zero, size, step, word) as (i, _):
            builder.store(builder.fmul(eight(x, i), eight(y, i)), total)
            end = builder.add(i, builder.mul(args[2], size))
            with cgutils.for_range_slice(builder, builder.add(i, size), end, size, word) as (k, _):
                part = builder.fmul(eight(x, k), eight(y, k), flags=("contract",))
                builder.store(builder.fadd(builder.load(total), part, flags=("contract",)), total)
            found = builder.load(total)
            single = signature.args[3].dtype == types.float32
            kind = ir.VectorType(ir.FloatType(), _WIDTH) if single else vector
            found = builder.fptrunc(found, kind) if single else found
            place = builder.bitcast(builder.gep(target.data, [i]), kind.as_pointer())
            builder.store(found, place, align=4 if single else 8)
        return context.get_dummy_value()

    return types.void(x, y, types.int64, target), generate


if DISABLED:

    def sum_of_products(x, y, count, target):
        """Twin of the compiled sum."""
        shape = count, target.shape[0]
        target[:] = np.sum((x * y)[: shape[0] * shape[1]].reshape(shape), axis=0)

else:

    @inline
    def sum_of_products(x, y, count, target):
        """The sum over `count` channels of x y: target (S), x and y (C S)."""
        _sum_of_products(x, y, count, target)


@leaf
def row_panel(layers, w, psi, tail, column, first, panel):
    """Rows first, first + 1, ... of (S^T J)^T for one column of S: panel (rows, S_0).

    The rows beyond the weights are those of the coefficients: tail (K, n_S S_0).
    """
    size, width = panel.shape[1], w.shape[1]
    last = layers[-1]
    r = 0
    for layer in range(layers.shape[0]):
        row = layers[layer]
        m = row[INPUTS]
        index = first + r - row[W_OFF]
        if index >= row[UNITS] * m:
            continue
        unit, j = index // m, index % m
        while r < panel.shape[0] and unit < row[UNITS]:
            x = psi[row[UNIT_ROW] + unit, column * width : (column + 1) * width]
            for _ in range(min(m - j, panel.shape[0] - r)):
                count = width // size if j < row[CORE] else 1  # a dummy unit has its value alone
                sum_of_products(x, w[row[PHI_IN] + j], count, panel[r])
                r += 1
                j += 1
            unit, j = unit + 1, 0
    n_weights = last[W_OFF] + last[UNITS] * last[INPUTS]
    while r < panel.shape[0]:
        panel[r] = tail[first + r - n_weights, column * size : (column + 1) * size]
        r += 1


@leaf
def add_tile(layers, row, chunks, ws, psi, tails, fresh, a, b, tile):
    """Add one tile over a range of chunks; a and b are panels of its rows."""
    first, last = chunks
    columns = psi.shape[2] // ws.shape[2]
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
def assemble_rows(layers, tiles, order, size, ws, psi, tails, fresh, workers, lanes):
    """Add the square tiles of the GGN over the chunks of a block to the lanes (lanes, size).

    `psi` are sensitivities, `tails` (chunks, K, n_S S) the columns of the coefficients. With
    `fresh` the lanes' content is overwritten. Of tiles on the diagonal only the lower triangle
    is computed; the rest is zero. Workers draw tasks from the list `order`.
    """
    n_lanes, n_chunks = lanes.shape[0], ws.shape[0]
    tallest = (tiles[:, P1] - tiles[:, P0]).max()
    counters = np.zeros(1, np.int64)
    for _ in prange(workers):
        panels = np.empty((2, tallest, size), lanes.dtype)
        while True:
            task = add(counters, 0, 1)
            if task >= order.shape[0]:
                break
            lane, row = order[task, 0], tiles[order[task, 1]]
            rows, cols = row[P1] - row[P0], row[Q1] - row[Q0]
            tile = lanes[lane, row[OFFSET] : row[OFFSET] + rows * cols].reshape(rows, cols)
            chunks = lane * n_chunks // n_lanes, (lane + 1) * n_chunks // n_lanes
            a, b = panels[0, :rows], panels[1, :cols]
            add_tile(layers, row, chunks, ws, psi, tails, fresh, a, b, tile)


@leaf
def weigh(psi, u, size, omega):
    """omega (n_l, C S) = sum_s psi_s u_s, of the columns psi (n_l, n_S C S) and u (n_S, S)."""
    width = omega.shape[1]
    for k in range(omega.shape[0]):
        for s in range(u.shape[0]):
            factor = u[s]
            for start in range(0, width, size):
                x = psi[k, s * width + start : s * width + start + size]
                target = omega[k, start : start + size]
                if s == 0:
                    for i in range(size):
                        target[i] = x[i] * factor[i]
                else:
                    for i in range(size):
                        target[i] += x[i] * factor[i]


@pnjit
def transposed_rows(layers, size, ws, psi, vectors, lanes):
    """A^T u for vectors u (p, B, n_S), but for coefficients, added to the lanes (lanes, p, N).

    The rows of A = S^T J are there as sensitivities: no sweep goes back through the network.
    """
    n_lanes = lanes.shape[0]
    n_chunks, width = ws.shape[0], ws.shape[2]
    for lane in prange(n_lanes):
        omega = np.empty((layers[:, UNITS].max(), width))
        u = np.empty((vectors.shape[2], size))
        for c in range(lane * n_chunks // n_lanes, (lane + 1) * n_chunks // n_lanes):
            count = min(size, vectors.shape[1] - c * size)
            for p in range(vectors.shape[0]):
                u[:, count:] = 0.0
                for i in range(count):
                    for s in range(u.shape[0]):
                        u[s, i] = vectors[p, c * size + i, s]
                for layer in range(layers.shape[0]):
                    row = layers[layer]
                    top = omega[: row[UNITS]]
                    weigh(psi[c, row[UNIT_ROW] : row[UNIT_ROW] + row[UNITS]], u, size, top)
                    phi = ws[c, row[PHI_IN] : row[PHI_IN] + row[INPUTS]]
                    gemm(0, 1, 1.0, top, phi, 1.0, weights(lanes[lane, p], row))


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
