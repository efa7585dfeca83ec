"""Inputs, derivatives and sensitivities of the layers, in blocks of samples."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastggn.kernels.layer_table import D_ROW, PHI_IN, UNIT_ROW
from fastggn.network.workspace import Block, Plan
from fastggn.objective.jacobian import FactoredJacobian
from fastggn.objective.point import Objective
from fastggn.runtime.threads import one_pool

FloatArray = NDArray[np.float64]

_BYTES = 8 * 2**20  # the size of the Jacobian rows of one LayerBlock


@dataclass(frozen=True, eq=False)
class LayerBlock:
    """Layers 1..L at B consecutive samples; lists count from layer 1."""

    start: int
    stop: int
    inputs: list[FloatArray]  # phi_{l-1}, (B, m_l), with the dummy unit of a free bias
    derivatives: list[FloatArray]  # sigma'(z_l), (B, n_l), or the gates
    sensitivities: list[FloatArray]  # Psi_l, (B, n_l, n_L), transposed (Shen 2018, Eq. 20)
    outputs: FloatArray  # (B, n_L)
    errors: FloatArray  # weighted gradients of the loss by the outputs
    weights: FloatArray  # (B,), the weights over their mean

    def jacobian_rows(self) -> FloatArray:
        """Return d F_o(x_i) / d theta for the samples of this block, shape (B n_L, N)."""
        size, n_outputs = self.outputs.shape
        widths = [
            phi.shape[1] * psi.shape[1]
            for phi, psi in zip(self.inputs, self.sensitivities, strict=True)
        ]
        out = np.empty((size, n_outputs, sum(widths)))
        first = 0
        for phi, psi, width in zip(self.inputs, self.sensitivities, widths, strict=True):
            with np.errstate(over="ignore", invalid="ignore"):
                kronecker = psi.transpose(0, 2, 1)[:, :, :, None] * phi[:, None, None, :]
            out[:, :, first : first + width] = kronecker.reshape(size, n_outputs, width)
            first += width
        return out.reshape(size * n_outputs, -1)


def layer_blocks(objective: Objective, rows: FactoredJacobian) -> Iterator[LayerBlock]:
    """Yield the layers at the samples of this process, in order, in blocks of bounded size."""
    plan = objective.plan
    terms = objective.terms
    step = max(1, _BYTES // (8 * plan.n_params * plan.n_outputs))
    blocks = rows.blocks()
    while True:
        with one_pool():  # released while the caller works on a block
            block = next(blocks, None)
            if block is None:
                return
            psi = block.sensitivities(plan.identities(block.size))
        errors = objective.n_samples * terms.gradient(block)
        for first in range(0, block.size, step):
            part = slice(first, min(block.size, first + step))
            yield _part(objective, block, psi, errors, part)


def _part(
    objective: Objective, block: Block, psi: FloatArray, errors: FloatArray, part: slice
) -> LayerBlock:
    """Copy the entries of a block for the samples `part`."""
    plan = objective.plan
    shapes = plan.net.layer_shapes
    start, stop = block.start + part.start, block.start + part.stop
    rows = list(zip(plan.layers, shapes, strict=True))
    return LayerBlock(
        start=start,
        stop=stop,
        inputs=[block.by_sample(int(row[PHI_IN]), m, part) for row, (_, m) in rows],
        derivatives=[block.by_sample(int(row[D_ROW]), n, part) for row, (n, _) in rows],
        sensitivities=[
            _sensitivities(block, psi, int(row[UNIT_ROW]), n, part) for row, (n, _) in rows
        ],
        outputs=block.outputs[part],
        errors=errors[part],
        weights=objective.weights[start:stop],
    )


def _sensitivities(
    block: Block, psi: FloatArray, first_row: int, count: int, part: slice
) -> FloatArray:
    """Return Psi of `count` units, shape (B, count, n_L), from the layout of the sweep."""
    chunk, n_outputs = block.plan.chunk, block.plan.n_outputs
    chunks, inside = block.chunks_of(part)
    rows = psi[chunks, first_row : first_row + count].reshape(-1, count, n_outputs, chunk)
    by_sample = rows.transpose(0, 3, 1, 2).reshape(-1, count, n_outputs)
    return np.array(by_sample[inside], order="C")


def layer_outputs(rows: FactoredJacobian) -> list[FloatArray]:
    """Return Phi_0..Phi_L, with samples as columns, from one more forward sweep."""
    plan = rows.plan
    heights = [m for _, m in plan.net.layer_shapes] + [plan.n_outputs]
    starts = [int(row[PHI_IN]) for row in plan.layers]
    starts.append(starts[-1] + heights[-2])
    out = [np.empty((height, plan.n_samples)) for height in heights]
    for block in rows.blocks():
        for phi, start in zip(out, starts, strict=True):
            whole = slice(0, block.size)
            phi[:, block.start : block.stop] = block.by_sample(start, phi.shape[0], whole).T
    return out


def layer_sensitivities(plan: Plan, parts: Iterator[LayerBlock]) -> list[FloatArray]:
    """Return Psi_1..Psi_L of all samples of this process, shapes (T, n_l, n_L)."""
    out = [np.empty((plan.n_samples, n, plan.n_outputs)) for n in plan.net.widths[1:]]
    for part in parts:
        for target, psi in zip(out, part.sensitivities, strict=True):
            target[part.start : part.stop] = psi
    return out
