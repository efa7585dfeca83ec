"""The tiles of the curvature matrix: ranges of unit pairs times ranges of input pairs."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.kernels import ggn_pairs
from fastggn.network.layers import Layers
from fastggn.network.workspace import lane_count

IntArray = NDArray[np.int64]

_UNIT_PAIRS = 288  # most rows of a tile: a panel of 288 x 256 doubles fits in the L2 cache
_INPUT_PAIRS = 4096  # most columns of a tile
_SQUARE = 192  # most rows and columns of a tile of `RowTiling`

# The cost of one panel entry over one multiplication and addition of a large product, fitted to 22
# networks (docs/performance.md): unit pairs, the columns summed in them, input pairs, row products.
_UNIT_ENTRY = 18.0
_FACTOR_ENTRY = 0.7
_INPUT_ENTRY = 9.4
_ROW_PRODUCT = 1.1

_TASKS = 64  # the wanted number of tasks, so that up to 16 workers have equal shares
_BINS = 16
_BIN_ORDER = [int(f"{i:04b}"[::-1], 2) for i in range(_BINS)]


def _triangle(n: int) -> int:
    return n * (n + 1) // 2


def _shares(size: int, most: int) -> Iterator[tuple[int, int]]:
    """Yield the fewest equal ranges of 0..size with at most `most` entries each."""
    count = -(-size // most)
    edges = [size * i // count for i in range(count + 1)]
    return itertools.pairwise(edges)


def blocks_of_pairs(net: Layers, plain_output: bool) -> Iterator[tuple[int, int, int, int, int]]:
    """Yield (upper layer, lower layer, unit pairs, input pairs, kind) of the GGN's blocks."""
    last = net.n_layers - 1
    for upper, (n, m) in enumerate(net.layer_shapes):
        plain = plain_output and upper == last
        for lower, (below_n, below_m) in enumerate(net.layer_shapes[:upper]):
            if plain and lower == upper - 1:
                yield upper, lower, below_n, m * below_m, ggn_pairs.KIND_BELOW_OUTPUT
            else:
                yield upper, lower, n * below_n, m * below_m, ggn_pairs.KIND_CURVATURE
        if plain:
            yield upper, upper, 1, _triangle(m), ggn_pairs.KIND_OUTPUT
        else:
            yield upper, upper, _triangle(n), _triangle(m), ggn_pairs.KIND_CURVATURE


def panel_costs(net: Layers, n_columns: int, *, plain_output: bool = False) -> tuple[float, float]:
    """Return the costs of assembly for one sample, by panels of pairs and by Jacobian rows."""
    pairs_cost = 0.0
    for _, _, pairs, inputs, _ in blocks_of_pairs(net, plain_output):
        strips = -(-pairs // _UNIT_PAIRS)
        build = (_UNIT_ENTRY + _FACTOR_ENTRY * n_columns) * pairs + _INPUT_ENTRY * inputs * strips
        pairs_cost += pairs * inputs + build
    count = -(-net.n_params // _SQUARE)
    area = (net.n_params / count) ** 2 * _triangle(count)
    return pairs_cost, _ROW_PRODUCT * n_columns * area


def prefers_rows(net: Layers, n_columns: int, *, plain_output: bool = False) -> bool:
    """Whether assembly by Jacobian rows is cheaper; this depends only on the network."""
    pairs, rows = panel_costs(net, n_columns, plain_output=plain_output)
    return rows < pairs


class Tiling:
    """The tiles of a GGN, their place in an accumulator, and the tasks (lane, tile)."""

    def __init__(self, net: Any, n_chunks: int, *, plain_output: bool = False) -> None:
        self._plain_output = plain_output
        self._records: list[list[int]] = []
        self._offset = 0
        self._add_tiles(net)
        self.tiles: IntArray = np.array(self._records, dtype=np.int64)
        self.size = self._offset
        wanted = -(-_TASKS // len(self.tiles))
        most = min(wanted, lane_count(n_chunks, self.size))
        share = max(1, -(-n_chunks // most))
        self.n_lanes = max(1, -(-n_chunks // share))  # the fewest lanes with at most `share` chunks
        self.order = self._balanced_tasks()

    def _add(self, upper: int, lower: int, pairs: int, inputs: int, stored: int, kind: int) -> None:
        """Append the tiles of one block, `pairs` by `inputs` values."""
        for p0, p1 in _shares(pairs, _UNIT_PAIRS):
            for q0, q1 in _shares(inputs, _INPUT_PAIRS):
                self._records.append(
                    [upper, lower, p0, p1, q0, q1, self._offset, stored + p0, kind]
                )
                self._offset += (p1 - p0) * (q1 - q0)

    def _add_tiles(self, net: Layers) -> None:
        for upper, lower, pairs, inputs, kind in blocks_of_pairs(net, self._plain_output):
            self._add(upper, lower, pairs, inputs, self._stored_row(upper, lower), kind)

    def _stored_row(self, upper: int, lower: int) -> int:
        return 0

    def _balanced_tasks(self) -> IntArray:
        """Return the tasks (lane, tile) in an order in which equal ranges hold equal work."""
        # The tasks go by falling cost into bins in the order of their reversed binary digits: so
        # both halves of the range, its quarters and so on get the largest tasks in turn.
        tiles = self.tiles
        cost = (tiles[:, ggn_pairs.P1] - tiles[:, ggn_pairs.P0]) * (
            tiles[:, ggn_pairs.Q1] - tiles[:, ggn_pairs.Q0]
        )
        tasks = [
            (lane, tile)
            for tile in np.argsort(-cost, kind="stable")
            for lane in range(self.n_lanes)
        ]
        dealt = [task for start in _BIN_ORDER for task in tasks[start::_BINS]]
        return np.array(dealt, dtype=np.int64)


class RowTiling(Tiling):
    """Square tiles of the lower triangle, for assembly from rows of the Jacobian."""

    most = _SQUARE

    def _add_tiles(self, net: Any) -> None:
        size = net.n_params  # of a network, or of a plan with coefficients
        for p0, p1 in _shares(size, self.most):
            for q0, q1 in _shares(size, self.most):
                if q0 <= p0:
                    self._records.append([0, 0, p0, p1, q0, q1, self._offset, 0, 0])
                    self._offset += (p1 - p0) * (q1 - q0)


class ChannelTiling(RowTiling):
    """Larger squares for rows over channels, which cost C plain ones: each tile builds its own."""

    most = 600

    def _balanced_tasks(self) -> IntArray:
        """Return the tasks lane by lane, the whole squares before the halves on the diagonal."""
        whole = self.tiles[:, ggn_pairs.P0] != self.tiles[:, ggn_pairs.Q0]
        of_lane = np.argsort(~whole, kind="stable")
        tasks = [(lane, tile) for lane in range(self.n_lanes) for tile in of_lane]
        return np.array(tasks, dtype=np.int64)


@functools.lru_cache(maxsize=32)
def gram_tiling(
    net: Layers, n_chunks: int, n_columns: int, *, plain_output: bool = False
) -> Tiling:
    """Return the tiles of a GGN for the cheaper way of assembly, from a cache if possible."""
    # Every iteration of a training needs the same tiles. Without the cache their layout would be a
    # tenth of an iteration for small networks.
    if prefers_rows(net, n_columns, plain_output=plain_output):
        return RowTiling(net, n_chunks)
    return Tiling(net, n_chunks, plain_output=plain_output)


class HessianTiling(Tiling):
    """The tiles of the exact Hessian: `n_stored` rows of pair panels, and the mixed second term.

    `tables` (2, L, L, 3) holds, for the curvature and the mixed panels of (upper, lower) layer,
    the first stored row and the strides of the lower and of the upper unit.
    """

    def __init__(self, net: Layers, n_chunks: int) -> None:
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

    def _add_tiles(self, net: Layers) -> None:
        super()._add_tiles(net)
        for upper in range(1, net.n_layers):
            for lower in range(upper):
                pairs = net.widths[lower + 1] * net.widths[upper]
                columns = net.layer_shapes[upper][0] * net.layer_shapes[lower][1]
                first = int(self.tables[1, upper, lower, 0])
                self._add(upper, lower, pairs, columns, first, ggn_pairs.KIND_MIXED)
