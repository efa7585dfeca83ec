"""The GGN and the exact Hessian: as operators that store nothing N x N, and as matrices."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator

from fastggn.kernels import ggn_expand, ggn_pairs, hessian
from fastggn.network.workspace import Block, lane_count
from fastggn.objective.ggn_tiles import HessianTiling
from fastggn.objective.jacobian import sum_of_lanes
from fastggn.objective.point import Objective, Point
from fastggn.objective.protocols import AnyObjective
from fastggn.runtime.threads import pooled, workers_for

FloatArray = NDArray[np.float64]

_PANEL_BYTES = 64 * 2**20  # the largest size of the stored pair panels of the exact Hessian


class GGNOperator(LinearOperator):  # type: ignore[misc]
    """v -> (1/T) J^T H_E J v + l2 v, shape (N, N), by a tangent and a backward sweep in a pass."""

    def __init__(self, lin: Point) -> None:
        self._lin = lin
        super().__init__(np.dtype(np.float64), (lin.n_params, lin.n_params))

    def _matmat(self, V: FloatArray) -> FloatArray:
        lin, rows = self._lin, self._lin.rows
        directions = np.ascontiguousarray(np.asarray(V, dtype=np.float64).T)
        signs = lin.signs

        def cotangents(block: Block) -> FloatArray:
            """Return S D S^T J v of a block; so one pass over the samples is enough."""
            images = rows.by_factor("bos,pbo->pbs", block, block.images(directions))
            if signs is not None:
                images = images * signs[rows.rows_of(block)].reshape(block.size, -1)
            return rows.weight * rows.by_factor("bos,pbs->pbo", block, images)

        products = rows.pull_back(cotangents, directions.shape[0])
        return np.asarray((products + lin.decay * directions).T)

    def _matvec(self, v: FloatArray) -> FloatArray:
        return self._matmat(np.reshape(v, (-1, 1)))[:, 0]

    def _adjoint(self) -> GGNOperator:
        return self


class HessianOperator(LinearOperator):  # type: ignore[misc]
    """v -> H v, the exact Hessian of the objective, by Pearlmutter's sweeps (O(T N) a product)."""

    def __init__(self, objective: AnyObjective, lin: Point) -> None:
        self._lin = lin
        self._terms = objective.terms
        super().__init__(np.dtype(np.float64), (lin.n_params, lin.n_params))

    @pooled
    def _matmat(self, V: FloatArray) -> FloatArray:
        directions = np.ascontiguousarray(np.asarray(V, dtype=np.float64).T)
        count, n = directions.shape
        lanes: FloatArray | None = None
        for block in self._lin.rows.blocks():
            if lanes is None:
                chunks = self._lin.rows.chunks_at_once(block)
                lanes = np.zeros((count, lane_count(chunks, count * n), n))
            errors, hessians = self._terms.gradient(block), self._terms.hessian(block)
            for p in range(count):
                block.add_hessian_product(directions[p], errors, hessians, lanes[p])
        if lanes is None:  # a rank without points
            lanes = np.zeros((count, 1, n))
        sums = self._lin.comm.sum(np.stack([sum_of_lanes(lane) for lane in lanes]))
        return np.asarray((sums + self._lin.decay * directions).T)

    def _matvec(self, v: FloatArray) -> FloatArray:
        return self._matmat(np.reshape(v, (-1, 1)))[:, 0]

    def _adjoint(self) -> HessianOperator:
        return self


@pooled
def dense_hessian(objective: Objective, lin: Point) -> FloatArray:
    """Return the exact Hessian, shape (N, N), from panels of pairs (Shen 2018, Eqs. 26-28)."""
    plan = objective.plan
    tiling = HessianTiling(plan.net, plan.n_chunks)
    terms = objective.terms
    lanes = np.zeros((tiling.n_lanes, tiling.size))
    operations = 2.0 * plan.n_samples * tiling.size
    for block in lin.rows.blocks():
        errors, hessians = terms.gradient(block), terms.hessian(block)
        with workers_for(operations):
            _add_panels(block, tiling, errors, hessians, lanes)
    lanes = lin.comm.sum_partials(lanes)
    out = np.zeros((plan.n_params, plan.n_params))
    with workers_for(operations):
        weights = np.ones(plan.n_outputs)
        ggn_expand.expand(lin.theta, weights, plan.layers, tiling.tiles, lanes, 1.0, out)
        ggn_expand.add_mixed(plan.layers, tiling.tiles, lanes, out)
        ggn_expand.mirror(out, True)
    out.flat[:: plan.n_params + 1] += lin.decay
    return out


def _add_panels(
    block: Block, tiling: HessianTiling, errors: FloatArray, hessians: FloatArray, lanes: FloatArray
) -> None:
    """Add the tiles of a block to the lanes, in bounded numbers of chunks."""
    plan = block.plan
    d2 = block.second_derivatives
    per_step = max(1, _PANEL_BYTES // (8 * plan.chunk * tiling.n_stored))
    for c0 in range(0, block.n_chunks, per_step):
        c1 = min(block.n_chunks, c0 + per_step)
        rows = slice(c0 * plan.chunk, min(block.size, c1 * plan.chunk))
        stored = np.empty((c1 - c0, tiling.n_stored, plan.chunk))
        omegas = np.empty((c1 - c0, plan.n_units, plan.chunk))
        hessian.hessian_panels(
            block.theta,
            plan.layers,
            block.ws[c0:c1],
            d2[c0:c1],
            hessians[rows],
            errors[rows],
            tiling.tables,
            stored,
            omegas,
        )
        ggn_pairs.assemble_stored(
            plan.layers, tiling.tiles, tiling.order, block.ws[c0:c1], stored, omegas, lanes
        )
