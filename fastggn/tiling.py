"""Cutting the curvature matrix into tiles: ranges of unit pairs times ranges of input pairs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastggn.kernels import panels
from fastggn.network import MLP
from fastggn.workspace import lane_count

__all__ = ["HessianTiling", "Tiling"]

IntArray = NDArray[np.int64]

_UNIT_PAIRS = 128  # rows of a tile: a panel of 128 x 256 doubles stays in the L2 cache
_INPUT_PAIRS = 4096  # columns of a tile, at most
_TASKS = 64  # tasks wanted, so that up to 16 workers have an even share
_BINS = 16


def _triangle(n: int) -> int:
    return n * (n + 1) // 2


class Tiling:
    """The tiles of a GGN, their place in an accumulator, and the tasks (lane, tile).

    Parameters
    ----------
    net : MLP
    n_chunks : int
        Chunks of samples, the units of work that lanes share.
    """

    def __init__(self, net: MLP, n_chunks: int) -> None:
        self._records: list[list[int]] = []
        self._offset = 0
        self._add_curvature(net)
        self.tiles: IntArray = np.array(self._records, dtype=np.int64)
        self.size = self._offset
        wanted = -(-_TASKS // len(self.tiles))
        self.n_lanes = min(wanted, lane_count(n_chunks, self.size))
        self.order = self._balanced_tasks()

    def _add(self, upper: int, lower: int, pairs: int, inputs: int, stored: int, kind: int) -> None:
        """Append the tiles of one block, `pairs` by `inputs` values."""
        for p0 in range(0, pairs, _UNIT_PAIRS):
            p1 = min(pairs, p0 + _UNIT_PAIRS)
            for q0 in range(0, inputs, _INPUT_PAIRS):
                q1 = min(inputs, q0 + _INPUT_PAIRS)
                self._records.append(
                    [upper, lower, p0, p1, q0, q1, self._offset, stored + p0, kind]
                )
                self._offset += (p1 - p0) * (q1 - q0)

    def _add_curvature(self, net: MLP) -> None:
        for upper, (n, m) in enumerate(net.layer_shapes):
            for lower, (below_n, below_m) in enumerate(net.layer_shapes[:upper]):
                first = self._stored_row(upper, lower)
                self._add(upper, lower, n * below_n, m * below_m, first, panels.KIND_CURVATURE)
            first = self._stored_row(upper, upper)
            self._add(upper, upper, _triangle(n), _triangle(m), first, panels.KIND_CURVATURE)

    def _stored_row(self, upper: int, lower: int) -> int:
        return 0

    def _balanced_tasks(self) -> IntArray:
        """Deal (lane, tile) by falling cost to bins, so that equal ranges hold equal work."""
        tiles = self.tiles
        cost = (tiles[:, panels.P1] - tiles[:, panels.P0]) * (
            tiles[:, panels.Q1] - tiles[:, panels.Q0]
        )
        tasks = [
            (lane, tile)
            for tile in np.argsort(-cost, kind="stable")
            for lane in range(self.n_lanes)
        ]
        dealt = [task for start in range(_BINS) for task in tasks[start::_BINS]]
        return np.array(dealt, dtype=np.int64)


class HessianTiling(Tiling):
    """The tiles of the exact Hessian: pair panels that lie ready, and the mixed second summand.

    Attributes
    ----------
    tables : ndarray of int64, shape (2, L, L, 3)
        For the curvature and the mixed panels of (upper, lower) layer: first stored row, and the
        strides of the lower and of the upper unit.
    n_stored : int
        Rows of the stored panels.
    """

    def __init__(self, net: MLP, n_chunks: int) -> None:
        n_layers = net.n_layers
        self.tables: IntArray = np.zeros((2, n_layers, n_layers, 3), dtype=np.int64)
        row = 0
        for upper, (n, _) in enumerate(net.layer_shapes):
            for lower, (below, _) in enumerate(net.layer_shapes[:upper]):
                self.tables[0, upper, lower] = row, 1, below
                row += n * below
            self.tables[0, upper, upper] = row, 0, 0
            row += _triangle(n)
        for upper in range(1, n_layers):
            core = net.widths[upper]
            for lower in range(upper):
                self.tables[1, upper, lower] = row, core, 1
                row += net.widths[lower + 1] * core
        self.n_stored = row
        super().__init__(net, n_chunks)

    def _stored_row(self, upper: int, lower: int) -> int:
        return int(self.tables[0, upper, lower, 0])

    def _add_curvature(self, net: MLP) -> None:
        super()._add_curvature(net)
        for upper in range(1, net.n_layers):
            for lower in range(upper):
                pairs = net.widths[lower + 1] * net.widths[upper]
                columns = net.layer_shapes[upper][0] * net.layer_shapes[lower][1]
                first = int(self.tables[1, upper, lower, 0])
                self._add(upper, lower, pairs, columns, first, panels.KIND_MIXED)
