"""The sizes that a gradient, its rounding errors and a loss are compared with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastggn.kernels.layer_table import PHI_IN, UNIT_ROW
from fastggn.network.losses.output_weights import OutputWeighted
from fastggn.runtime.threads import pooled

if TYPE_CHECKING:
    from fastggn.network.workspace import Block
    from fastggn.objective.jacobian import FactoredJacobian
    from fastggn.objective.loss_terms import LossTerms
    from fastggn.objective.point import Objective

FloatArray = NDArray[np.float64]

_ROWS = 4096  # targets that are compared with a constant at a time


@pooled
def slope_sizes(rows: FactoredJacobian, terms: LossTerms) -> FloatArray:
    """Return mean_i |J_ij r_i| and the same with the rounding of r_i / eps, shape (2, N).

    r_i is the gradient of the loss by the outputs, weighted.
    """
    plan = rows.plan
    sums = [np.zeros((2, *shape)) for shape in plan.net.layer_shapes]
    for block in rows.blocks():
        both = np.stack([terms.gradient(block), terms.rounding(block)], axis=2)
        _add(block, both, sums)
    return rows.comm.sum(np.concatenate([part.reshape(2, -1) for part in sums], axis=1))


def _add(block: Block, cotangents: FloatArray, sums: list[FloatArray]) -> None:
    """Add |J^T u| of the samples of a block, for two vectors u: cotangents (B, n_L, 2)."""
    plan, sizes = block.plan, np.zeros((block.n_chunks, block.plan.n_units, 2 * block.plan.chunk))
    for output in range(plan.n_outputs):  # the terms of each output count on their own
        one = np.zeros_like(cotangents)
        one[:, output] = cotangents[:, output]
        sizes += np.abs(block.sensitivities(one))
    for index, row in enumerate(plan.layers):
        n, m = plan.net.layer_shapes[index]
        for c in range(block.n_chunks):
            phi = np.abs(block.ws[c, row[PHI_IN] : row[PHI_IN] + m])
            part = sizes[c, row[UNIT_ROW] : row[UNIT_ROW] + n].reshape(n, 2, -1)
            for k in range(2):
                sums[index][k] += part[:, k] @ phi.T


def loss_scales(objective: Objective) -> tuple[float, float]:
    """Return about the least loss of a constant output, and the loss of outputs of 0."""
    n_outputs, comm = objective.plan.n_outputs, objective.comm
    split = isinstance(objective.loss, OutputWeighted)
    moments = np.zeros((2, n_outputs))
    with np.errstate(all="ignore"):
        for weights, targets in _targets(objective):
            own = weights[:, None] * (targets[:, n_outputs:] if split else 1.0)
            moments[0] += (own * targets[:, :n_outputs]).sum(axis=0)
            moments[1] += (own * np.ones(n_outputs)).sum(axis=0)
        total, weight = comm.sum(moments)
        mean = np.divide(total, weight, out=np.zeros(n_outputs), where=weight > 0.0)
        losses = np.zeros(2)
        for weights, targets in _targets(objective):
            for k, outputs in enumerate((mean, np.zeros(n_outputs))):
                constant = np.tile(outputs, (weights.size, 1))
                losses[k] += weights @ objective.loss.value(constant, targets)
    at_mean, at_zero = (comm.sum(losses) / objective.n_samples).tolist()
    if not np.isfinite(at_zero):
        return 0.0, 0.0
    return (min(at_mean, at_zero) if np.isfinite(at_mean) else at_zero), at_zero


def _targets(objective: Objective) -> Iterator[tuple[FloatArray, FloatArray]]:
    """Yield weights and targets of this process, some rows at a time."""
    for start in range(0, objective.plan.n_samples, _ROWS):
        rows = slice(start, min(start + _ROWS, objective.plan.n_samples))
        yield objective.weights[rows], np.asarray(objective.targets[rows])
