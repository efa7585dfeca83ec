"""The Khatri-Rao Jacobian as an operator, never stored: products, Gram matrices, rank."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator

from fastggn.kernels import dual_gram as dual, ggn_expand, ggn_pairs, ggn_rows as rows, products
from fastggn.kernels.layer_table import PHI_IN, UNIT_ROW
from fastggn.kernels.row_spectrum import RowSpectrum
from fastggn.kernels.spectrum import numerical_rank
from fastggn.network.workspace import Block, Plan, WorkspacePool, lane_count
from fastggn.objective.entry_errors import EntryErrors, entry_errors
from fastggn.objective.ggn_tiles import RowTiling, Tiling, gram_tiling
from fastggn.objective.samples import Samples
from fastggn.runtime.buffers import lend
from fastggn.runtime.comm import SERIAL, Comm, require_serial
from fastggn.runtime.threads import one_pool, pooled, workers_for

FloatArray = NDArray[np.float64]

_ROW_BLOCK_BYTES = 8 * 2**20  # the size of a block of dense rows


class FactoredJacobian:
    """A = sqrt(weight) S^T J at one theta, S block-diagonal over samples, blocks (n_L, n_S).

    With S = I this is the Jacobian; with H_i = S_i S_i^T and the weight 1/T, Newton's matrix. Each
    method passes once over the samples, and a single block keeps its forward sweep.
    """

    thin = False  # whether A^T b takes no more than the gradient J^T u by a sweep

    def __init__(
        self,
        plan: Plan,
        samples: Samples,
        theta: FloatArray,
        factors: Callable[[Block], FloatArray] | None,
        n_columns: int,
        spaces: WorkspacePool,
        *,
        weight: float = 1.0,
        output_weights: FloatArray | None = None,
        comm: Comm = SERIAL,
        helpers: Comm = SERIAL,
    ) -> None:
        self.plan = plan
        self.theta = theta
        self.n_columns = n_columns
        self.n_rows = plan.n_samples * n_columns
        self._samples = samples
        self._factors = factors
        self._weights = output_weights  # over that of the first
        self.weight = weight
        self._root = float(np.sqrt(weight))
        self.comm, self._helpers = comm, helpers
        self._workspace = spaces.lend_to(self)
        self._kept: Block | None = None
        self._per_block = plan.chunks_per_block(plan.psi_rows * n_columns)
        self.keeps_block = self._per_block >= plan.n_chunks  # with its forward sweep

    def blocks(self, *, whole: bool = False) -> Iterator[Block]:
        """Yield the samples in blocks after a forward sweep, or in one block if `whole`."""
        plan = self.plan
        if whole or self.keeps_block:
            if self._kept is None or self._kept.size < plan.n_samples:
                part, gates = self._samples.part(0, plan.n_samples)
                self._kept = self._block(0, part, gates)
            yield self._kept
            return
        self._kept = None
        step = self._per_block * plan.chunk
        for start, (part, gates) in self._samples.parts(step):
            block = self._block(start, part, gates)
            del part, gates  # the block has copies, and the next part is being read
            yield block

    def _block(self, start: int, part: FloatArray, gates: NDArray[np.bool_]) -> Block:
        """Return a block of samples after its forward sweep."""
        return Block(self.plan, self.theta, start, part, gates, self._workspace)

    def _factors_of(self, block: Block) -> FloatArray:
        """Return S of a block, shape (B, n_L, n_S), C-ordered."""
        if self._factors is None:
            return self.plan.identities(block.size)
        return self._factors(block)

    def by_factor(self, indices: str, block: Block, vectors: FloatArray) -> FloatArray:
        """Return S or its transpose times vectors (p, B, .), or the vectors themselves if S = I."""
        if self._factors is None:
            return vectors
        factors = self._factors(block)
        if self._weights is not None:
            return np.asarray(factors[:, :1, 0] * np.sqrt(self._weights) * vectors)
        return np.asarray(np.einsum(indices, factors, vectors))

    def chunks_at_once(self, block: Block) -> int:
        """Return the chunks that decide the number of lanes: those of the first block."""
        return int(block.n_chunks)

    def columns_of(self, block: Block) -> int:
        """Return n_S, the rows of A for one sample of the block."""
        return self.n_columns

    def rows_of(self, block: Block) -> slice:
        """Return where the rows of a block stand in A."""
        return slice(block.start * self.n_columns, block.stop * self.n_columns)

    @pooled
    def products(self, directions: FloatArray) -> FloatArray:
        """Return A v, shape (p, M), for p directions of shape (p, N)."""
        out = np.empty((directions.shape[0], self.n_rows))
        for block in self.blocks():
            tangent = block.images(np.ascontiguousarray(directions))
            tangent = self.by_factor("bos,pbo->pbs", block, tangent)
            out[:, self.rows_of(block)] = tangent.reshape(directions.shape[0], -1)
        out *= self._root
        return out

    @pooled
    def transposed_products(self, cotangents: FloatArray) -> FloatArray:
        """Return A^T u, shape (p, N), for p vectors of shape (p, M)."""
        p = cotangents.shape[0]

        def outer(block: Block) -> FloatArray:
            u = self._root * cotangents[:, self.rows_of(block)]
            shaped = u.reshape(p, block.size, self.columns_of(block))
            return self.by_factor("bos,pbs->pbo", block, shaped)

        return self.pull_back(outer, p)

    @pooled
    def pull_back(self, cotangents: Callable[[Block], FloatArray], count: int = 1) -> FloatArray:
        """Return J^T u, shape (count, N), for cotangents (count, B, n_L) of each block."""
        n = self.plan.n_params
        lanes: FloatArray | None = None
        for block in self.blocks():
            if lanes is None:
                lanes = np.zeros((lane_count(self.chunks_at_once(block), count * n), count, n))
            block.add_backward(np.ascontiguousarray(cotangents(block)), lanes)
        lanes = np.zeros((1, count, n)) if lanes is None else lanes  # a rank without points
        return self.comm.sum(sum_of_lanes(lanes))

    @pooled
    def gram(self, signs: FloatArray | None = None, *, mixed: bool = False) -> FloatArray:
        """Return A^T D A, shape (N, N), D = diag(signs) or I, without A, in float32 if `mixed`."""
        plan = self.plan
        weights = self._weights
        plain = weights is not None and plan.n_outputs > 1 and plan.plain_output
        tiling = gram_tiling(plan.net, plan.n_chunks, self.n_columns, plain_output=plain)
        by_rows = isinstance(tiling, RowTiling)
        dtype: type = np.float32 if mixed else np.float64
        fresh = lend((tiling.n_lanes, tiling.size), dtype)
        lanes = self._lanes_of_gram(tiling, by_rows, signs, fresh)
        out = lend((plan.n_params, plan.n_params), np.float64)
        with workers_for(self._gram_operations(tiling)):  # the assembly has woken the workers
            if by_rows:
                rows.expand_rows(tiling.tiles, lanes, self.weight, out)
                ggn_expand.mirror(out, True)
            else:
                weights = np.ones(1) if weights is None else weights
                layers, tiles = plan.layers, tiling.tiles
                ggn_expand.expand(self.theta, weights, layers, tiles, lanes, self.weight, out)
        return out

    def _gram_operations(self, tiling: Tiling) -> float:
        return 2.0 * self.n_rows * tiling.size

    def _lanes_of_gram(
        self, tiling: Tiling, by_rows: bool, signs: FloatArray | None, lanes: NDArray[Any]
    ) -> NDArray[Any]:
        """Return the accumulated tiles, with sums over several blocks in float64."""
        assemble = rows.assemble_rows if by_rows else ggn_pairs.assemble
        single = lanes.dtype == np.float32
        total: NDArray[Any] | None = None
        for block in self.blocks():
            fresh = total is None or single
            left = block.sensitivities(self._factors_of(block))
            right = left
            if signs is not None:
                right = left * self._signs_of(block, signs)
            with workers_for(self._gram_operations(tiling)):
                assemble(
                    self.plan.layers,
                    tiling.tiles,
                    tiling.order,
                    block.ws,
                    left,
                    right,
                    fresh,
                    lanes,
                )
            if total is None:
                # The sums of a single block need no copy in float64.
                whole = not single or block.size == self.plan.n_samples
                total = lanes if whole else lanes.astype(np.float64)
            elif single:
                total += lanes
        assert total is not None
        return self.comm.sum_partials(total)

    def _signs_of(self, block: Block, signs: FloatArray) -> FloatArray:
        """Return the signs of a block in the column order of the sensitivities."""
        shape = (block.n_chunks * self.plan.chunk, self.n_columns)
        padded = np.zeros(shape)
        padded[: block.size] = signs[self.rows_of(block)].reshape(block.size, self.n_columns)
        by_chunk = padded.reshape(block.n_chunks, self.plan.chunk, self.n_columns)
        return np.asarray(by_chunk.transpose(0, 2, 1).reshape(block.n_chunks, 1, -1))

    @pooled
    def dual_gram(self) -> FloatArray:
        """Return A A^T, shape (M, M), without A; all samples must be in this process."""
        require_serial(self.comm, "the dual matrix of a Jacobian (but Problem.dual_gram does not)")
        (block,) = self.blocks(whole=True)
        psi = block.sensitivities(self._factors_of(block))
        a, b = np.tril_indices(block.n_chunks)
        pairs = np.stack([a, b], axis=1).astype(np.int64)[self._helpers.rank :: self._helpers.size]
        out = np.zeros((self.n_rows, self.n_rows))
        with workers_for(float(self.n_rows**2 * self.plan.n_units)):
            dual.dual_gram(self.plan.layers, pairs, block.ws, psi, block.size, out)
        self._helpers.sum(out)
        out *= self.weight
        return out

    def row_blocks(self) -> Iterator[tuple[int, FloatArray]]:
        """Yield (first row, dense rows (r, N)) in order, with bounded r."""
        # The blocks share the workspace: call no other method before the last block.
        per_sample = self.n_columns * self.plan.n_params
        step = max(1, _ROW_BLOCK_BYTES // (8 * per_sample))
        for block in self.blocks():
            with one_pool():
                psi = block.sensitivities(self._factors_of(block))
            for first in range(0, block.size, step):
                last = min(block.size, first + step)
                out = np.empty(((last - first) * self.n_columns, self.plan.n_params))
                with one_pool(), workers_for(float(out.size)):
                    dual.jacobian_rows(self.plan.layers, block.ws, psi, first, last, out)
                out *= self._root
                yield (block.start + first) * self.n_columns, out

    @pooled
    def entry_errors(self) -> EntryErrors:
        """Return the rounding errors of the entries of A, over the rows of all ranks."""
        own = [entry_errors(block, self._factors_of(block)) for block in self.blocks()]
        every = self.comm.gather(functools.reduce(EntryErrors.and_those, own))
        found = functools.reduce(EntryErrors.and_those, every)
        return replace(found, columns=self._root * found.columns)

    @pooled
    def bias_columns(self) -> FloatArray:
        """Return the columns of A of the free biases, shape (M, units)."""
        parts = []
        for block in self.blocks():
            psi = block.sensitivities(self._factors_of(block))
            by_sample = psi.reshape(block.n_chunks, psi.shape[1], self.n_columns, -1)
            rows = by_sample.transpose(0, 3, 2, 1).reshape(-1, psi.shape[1])
            parts.append(self._root * rows[: block.size * self.n_columns])
        return np.concatenate(parts)

    @pooled
    def kronecker_factors(self) -> list[tuple[FloatArray, FloatArray]]:
        """Return (sum psi psi^T, weighted mean of phi phi^T) of every layer."""
        # Their Kronecker product approximates the layer's diagonal block of A^T A; the weight of a
        # sample's phi phi^T is its share of |S|^2.
        shapes = self.plan.net.layer_shapes
        units = [np.zeros((n, n)) for n, _ in shapes]
        inputs = [np.zeros((m, m)) for _, m in shapes]
        total = 0.0
        for block in self.blocks():
            factors = self._factors_of(block)
            share = np.einsum("bos,bos->b", factors, factors)
            total += float(share.sum())
            self._add_kronecker(block, block.sensitivities(factors), share, units, inputs)
        for part in (*units, *inputs):
            self.comm.sum(part)
        total = self.comm.total(total)
        scale = 1.0 / total if total > 0.0 else 0.0
        return [(self.weight * u, scale * v) for u, v in zip(units, inputs, strict=True)]

    def _add_kronecker(
        self,
        block: Block,
        psi: FloatArray,
        share: FloatArray,
        units: list[FloatArray],
        inputs: list[FloatArray],
    ) -> None:
        chunk = self.plan.chunk
        padded = np.zeros(block.n_chunks * chunk)
        padded[: block.size] = share
        for c in range(block.n_chunks):
            weight = padded[c * chunk : (c + 1) * chunk]
            for index, row in enumerate(self.plan.layers):
                n, m = self.plan.net.layer_shapes[index]
                p = psi[c, row[UNIT_ROW] : row[UNIT_ROW] + n]
                phi = block.ws[c, row[PHI_IN] : row[PHI_IN] + m]
                units[index] += p @ p.T
                inputs[index] += (phi * weight) @ phi.T


def sum_of_lanes(lanes: FloatArray) -> FloatArray:
    """Return the sum over the first axis, in a fixed order."""
    with workers_for(float(lanes.size)):
        products.reduce_lanes(lanes.reshape(lanes.shape[0], -1))
    return np.asarray(lanes[0].copy())


class KhatriRaoJacobian(LinearOperator):  # type: ignore[misc]
    """The Jacobian J of the outputs at all samples, a scipy ``LinearOperator`` of shape (T n_L, N).

    Row i n_L + o is d F_o(x_i) / d theta. Shen's P(W) (2018, Eqs. 21-22) is its transpose with
    the layer blocks reversed, see `shen_matrix`. J does not contain sample weights and l2. Only
    `to_dense` and `shen_matrix` allocate O(T N).

    If several processes share the samples, J has the rows of this process. Its products with the
    transpose, its Gram matrix and its singular values include the rows of all processes.
    """

    def __init__(self, factored: FactoredJacobian) -> None:
        self._factored = factored
        super().__init__(np.dtype(np.float64), (factored.n_rows, factored.plan.n_params))

    def _matvec(self, v: FloatArray) -> FloatArray:
        return self._matmat(np.reshape(v, (-1, 1)))[:, 0]

    def _rmatvec(self, u: FloatArray) -> FloatArray:
        return self._rmatmat(np.reshape(u, (-1, 1)))[:, 0]

    def _matmat(self, V: FloatArray) -> FloatArray:
        directions = np.ascontiguousarray(np.asarray(V, dtype=np.float64).T)
        return np.asarray(self._factored.products(directions).T)

    def _rmatmat(self, U: FloatArray) -> FloatArray:
        cotangents = np.ascontiguousarray(np.asarray(U, dtype=np.float64).T)
        return np.asarray(self._factored.transposed_products(cotangents).T)

    def to_dense(self) -> FloatArray:
        """Return J as an array, shape (T n_L, N)."""
        out = np.empty(self.shape)
        for first, part in self._factored.row_blocks():
            out[first : first + part.shape[0]] = part
        return out

    def shen_matrix(self) -> FloatArray:
        """Return P(W), shape (N, T n_L), layer blocks from the output down (Shen 2018, Eq. 21)."""
        transposed = self.to_dense().T
        blocks, stop = [], self.shape[1]
        for n, m in reversed(self._factored.plan.net.layer_shapes):
            blocks.append(transposed[stop - n * m : stop])
            stop -= n * m
        return np.concatenate(blocks)

    def gram(self) -> FloatArray:
        """Return J^T J, shape (N, N)."""
        return self._factored.gram()

    def dual_gram(self) -> FloatArray:
        """Return J J^T, shape (T n_L, T n_L): the empirical tangent kernel."""
        return self._factored.dual_gram()

    def row_blocks(self) -> Iterator[FloatArray]:
        """Yield the rows of J in order, in dense blocks of bounded size."""
        for _, part in self._factored.row_blocks():
            yield part

    def singular_values(self) -> FloatArray:
        """Return the min(T n_L, N) singular values, decreasing, from the smaller side of J."""
        with one_pool():
            spectrum = RowSpectrum(self.shape[1])
            for part in self.row_blocks():
                spectrum.fold(part)
            spectrum.unite(self._factored.comm)
            return spectrum.values()

    def entry_errors(self) -> EntryErrors:
        """Return the norms of the rounding errors of the entries, as far as they are foreseen."""
        return self._factored.entry_errors()

    def rank(self, tol: float | None = None) -> int:
        """Return the numerical rank.

        Parameters
        ----------
        tol : float, optional
            Singular values up to `tol` count as zero; by default ``10 eps s_max`` and the rounding
            errors of the entries, whatever the number of samples.
        """
        values = self.singular_values()
        error = self.entry_errors().norm if tol is None else 0.0
        return numerical_rank(values, error, tol).rank
