"""The Jacobian of residuals of several terms: blocks of channels, sums of Khatri-Rao products."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.kernels import channel_rows, ggn_expand, ggn_rows
from fastggn.kernels.layer_table import PHI_IN, UNIT_ROW
from fastggn.network.channels import ChannelBlock, ChannelPlan, own_block
from fastggn.network.workspace import Block, WorkspacePool, lane_count
from fastggn.objective.entry_errors import UNIT, EntryErrors
from fastggn.objective.ggn_tiles import RowTiling
from fastggn.objective.jacobian import FactoredJacobian, sum_of_lanes
from fastggn.objective.samples import Samples
from fastggn.runtime.buffers import lend
from fastggn.runtime.comm import Comm, require_serial
from fastggn.runtime.threads import one_pool, pooled, workers_for

FloatArray = NDArray[np.float64]
Factors = Callable[[Block], FloatArray]

_ROW_BLOCK_BYTES = 32 * 2**20  # the size of a block of dense rows
_TILE = 192  # rows of a tile of A A^T


class TermRows(FactoredJacobian):
    """The points of one term, in blocks after a forward sweep."""

    plan: ChannelPlan

    def __init__(
        self,
        plan: ChannelPlan,
        samples: Samples,
        theta: FloatArray,
        coefficients: FloatArray,
        n_columns: int,
        spaces: WorkspacePool,
    ) -> None:
        super().__init__(plan, samples, theta, None, n_columns, spaces)
        self._coefficients = coefficients

    def _block(self, start: int, part: FloatArray, gates: NDArray[np.bool_]) -> ChannelBlock:
        own = self.plan, self.theta, start, part, self._coefficients
        return ChannelBlock(*own, self._workspace)

    def blocks(self, *, whole: bool = False) -> Iterator[Block]:
        """Yield the points in blocks; no block where there are no points."""
        if self.plan.n_samples:
            yield from super().blocks(whole=whole)


class ResidualRows(FactoredJacobian):
    """A = sqrt(weight) S^T J of all terms, one after the other."""

    plan: ChannelPlan

    def __init__(
        self,
        parts: Sequence[TermRows],
        tiling: RowTiling,
        factors: Factors,
        weight: float,
        comm: Comm,
        helpers: Comm,
    ) -> None:
        # Not that of the base class: the terms hold the samples and the workspaces.
        self._parts = parts
        self._tiling = tiling
        self._factors = factors
        self._weights = None
        self.keeps_block = all(part.keeps_block for part in parts)
        self.plan = parts[0].plan
        self.theta = parts[0].theta
        self.weight = weight
        self._root = float(np.sqrt(weight))
        self.comm = comm
        self._helpers = helpers
        edges = np.cumsum([0, *(part.n_rows for part in parts)])
        self._first = [int(edge) for edge in edges[:-1]]
        self.n_rows = int(edges[-1])
        self.thin = comm.size == 1 and self.keeps_block and all(p.n_columns == 1 for p in parts)

    def blocks(self, *, whole: bool = False) -> Iterator[Block]:
        """Yield the blocks of all terms in order."""
        for part in self._parts:
            yield from part.blocks(whole=whole)

    def chunks_at_once(self, block: Block) -> int:
        """Return the chunks of the largest term."""
        return max(part.plan.n_chunks for part in self._parts)

    def _part_of(self, block: Block) -> TermRows:
        return self._parts[own_block(block).plan.term]

    def columns_of(self, block: Block) -> int:
        """Return n_S, the rows of A for one point of the block."""
        return self._part_of(block).n_columns

    def rows_of(self, block: Block) -> slice:
        """Return where the rows of a block stand in A."""
        own = self._part_of(block).rows_of(block)
        first = self._first[own_block(block).plan.term]
        return slice(first + own.start, first + own.stop)

    @pooled
    def gram(self, signs: FloatArray | None = None, *, mixed: bool = False) -> FloatArray:
        """Return A^T A, shape (N, N), without A, in float32 if `mixed`."""
        assert signs is None
        tiling, n = self._tiling, self.plan.n_params
        dtype: type = np.float32 if mixed else np.float64
        lanes: NDArray[Any] = lend((tiling.n_lanes, tiling.size), dtype)
        total: NDArray[Any] | None = None
        for block in self.blocks():
            psi, tail = self._sensitivities(block)
            fresh = total is None or mixed
            with workers_for(2.0 * self.n_rows * tiling.size):
                own_block(block).add_gram(tiling, psi, tail, fresh, lanes)
            if total is None:
                total = lanes.astype(np.float64) if mixed else lanes
            elif mixed:
                total += lanes
        if total is None:  # a rank without points
            total = np.zeros((tiling.n_lanes, tiling.size))
        total = self.comm.sum_partials(total)
        out = lend((n, n), np.float64)
        with workers_for(2.0 * self.n_rows * tiling.size):
            ggn_rows.expand_rows(tiling.tiles, total, self.weight, out)
            ggn_expand.mirror(out, True)
        return out

    def _sensitivities(self, block: Block) -> tuple[FloatArray, FloatArray]:
        """Return Psi S of a block, and the columns of the coefficients."""
        factors, own = self._factors_of(block), own_block(block)
        if "psi" not in own.kept:
            own.kept["psi"] = own.sensitivities(factors)
        return own.kept["psi"], own.coefficient_columns(factors)

    @pooled
    def transposed_products(self, cotangents: FloatArray) -> FloatArray:
        """Return A^T u, shape (p, N), from sensitivities; a matrix of this point needs them too."""
        if not self.thin:
            return super().transposed_products(cotangents)
        p, n = cotangents.shape[0], self.plan.n_params
        most = max(part.plan.n_chunks for part in self._parts)
        lanes = np.zeros((lane_count(most, p * n), p, n))
        for block in self.blocks():
            shape = p, block.size, self.columns_of(block)
            u = (self._root * cotangents[:, self.rows_of(block)]).reshape(shape)
            psi, _ = self._sensitivities(block)
            own_block(block).add_transposed_rows(psi, self._factors_of(block), u, lanes)
        return self.comm.sum(sum_of_lanes(lanes))

    @pooled
    def dual_gram(self) -> FloatArray:
        """Return A A^T, shape (M, M), from the rows of A; all samples must be in this process."""
        # With C channels and few units a row has fewer entries than the C^2 pairs of channels.
        require_serial(self.comm, "the dual matrix of residuals")
        rows = np.empty((self.n_rows, self.plan.n_params))
        for first, part in self.row_blocks():
            rows[first : first + part.shape[0]] = part
        out = np.empty((self.n_rows, self.n_rows))
        with workers_for(float(self.n_rows**2 * self.plan.n_params)):
            channel_rows.gram_of_rows(rows, _TILE, out)
        return out

    def row_blocks(self) -> Iterator[tuple[int, FloatArray]]:
        """Yield (first row, dense rows (r, N)) in order, with bounded r."""
        # The blocks share the workspace: call no other method before the last block.
        n = self.plan.n_params
        for block in self.blocks():
            with one_pool():
                psi, tail = self._sensitivities(block)
            columns, start = self.columns_of(block), self.rows_of(block).start
            chunk = block.plan.chunk
            step = max(1, _ROW_BLOCK_BYTES // (8 * columns * n * chunk)) * chunk
            for first in range(0, block.size, step):
                last = min(block.size, first + step)
                out = np.empty(((last - first) * columns, n))
                with one_pool():
                    own_block(block).jacobian_rows(psi, tail, first, last, out)
                out *= self._root
                yield start + first * columns, out

    @pooled
    def bias_columns(self) -> FloatArray:
        """Return the columns of A of the coefficients, shape (M, K)."""
        out = np.empty((self.n_rows, self.plan.n_coefficients))
        for block in self.blocks():
            columns, size = self.columns_of(block), block.plan.chunk
            tail = own_block(block).coefficient_columns(self._factors_of(block))
            by_point = tail.reshape(block.n_chunks, -1, columns, size).transpose(0, 3, 2, 1)
            rows = by_point.reshape(-1, out.shape[1])[: block.size * columns]
            out[self.rows_of(block)] = self._root * rows
        return out

    @pooled
    def entry_errors(self) -> EntryErrors:
        """Return about the rounding errors of the columns of A: of sums as long as a layer."""
        squares = np.zeros(self.plan.n_params)
        for _, rows in self.row_blocks():
            squares += np.square(rows).sum(axis=0)
        widths = self.plan.net.widths
        share = UNIT * np.sqrt(4.0 * sum(widths) * len(self.plan.channels))
        columns = share * np.sqrt(self.comm.sum(squares))
        return EntryErrors(columns, np.zeros(len(widths)))

    @pooled
    def kronecker_factors(self) -> list[tuple[FloatArray, FloatArray]]:
        """Return (sum psi psi^T, mean of phi phi^T) over channels, and squares of coefficients."""
        # Their product has one pair of channels in place of the double sum: close enough to
        # precondition with.
        shapes = self.plan.net.layer_shapes
        units = [np.zeros((n, n)) for n, _ in shapes]
        inputs = [np.zeros((m, m)) for _, m in shapes]
        squares, total = np.zeros(self.plan.n_coefficients), np.zeros(1)
        for block in self.blocks():
            psi, tail = self._sensitivities(block)
            squares += np.square(tail).sum(axis=(0, 2))
            total += block.size * self.columns_of(block)
            _add_kronecker(own_block(block), psi, self.columns_of(block), units, inputs)
        for part in (*units, *inputs, squares, total):
            self.comm.sum(part)
        scale = 1.0 / total[0] if total[0] > 0.0 else 0.0
        layers = [(self.weight * u, scale * v) for u, v in zip(units, inputs, strict=True)]
        return layers + [(np.array([[self.weight * s]]), np.eye(1)) for s in squares]


def _add_kronecker(
    block: ChannelBlock,
    psi: FloatArray,
    columns: int,
    units: list[FloatArray],
    inputs: list[FloatArray],
) -> None:
    size = block.plan.chunk
    for c in range(block.n_chunks):
        inside = np.tile(np.arange(size) + c * size < block.size, len(block.plan.channels))
        for index, row in enumerate(block.plan.layers):
            n, m = block.plan.net.layer_shapes[index]
            p = psi[c, row[UNIT_ROW] : row[UNIT_ROW] + n]
            phi = block.ws[c, row[PHI_IN] : row[PHI_IN] + m]
            units[index] += p @ p.T
            inputs[index] += columns * ((phi * inside) @ phi.T)
