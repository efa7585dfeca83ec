"""The sizes that a gradient and its rounding errors are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastggn.kernels.layer_table import PHI_IN, UNIT_ROW
from fastggn.runtime.threads import pooled

if TYPE_CHECKING:
    from fastggn.network.workspace import Block
    from fastggn.objective.jacobian import FactoredJacobian
    from fastggn.objective.loss_terms import LossTerms

FloatArray = NDArray[np.float64]

# Slopes below the tolerance times this share of the usual terms do not matter: those of units that
# are saturated or switched off, where slope and terms fall together.
LEAST_SHARE = 1e-2


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


def at_least(terms: FloatArray, shapes: Sequence[tuple[int, int]]) -> FloatArray:
    """Return the sizes (N,), at least `LEAST_SHARE` of the largest one in the same units."""
    # The weights of an input have its units, those of an output the units of the output.
    parts, first = [], 0
    for index, (n, m) in enumerate(shapes):
        part = terms[first : first + n * m].reshape(n, m)
        axes = ((0,) if index == 0 else (0, 1)) if index < len(shapes) - 1 else (1,) * (index > 0)
        parts.append(np.maximum(part, LEAST_SHARE * part.max(axis=axes, keepdims=True)).ravel())
        first += n * m
    return np.concatenate(parts)
