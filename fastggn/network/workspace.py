"""The table that describes a network to the kernels, and the arrays that a block of samples fills.

Samples are processed in chunks of C columns, several chunks a block; a block's arrays stay below
a fixed size, so memory does not grow with the number of samples.
"""

from __future__ import annotations

import math
import weakref
from contextlib import AbstractContextManager

import numpy as np
from numpy.typing import NDArray

from fastggn.kernels import forward, hessian, layer_table, products, sensitivities
from fastggn.network.layers import Layers
from fastggn.runtime.threads import pooled, workers_for

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

_CHUNK = 256  # samples a chunk: enough columns for GEMM near its peak
_FEW = 8  # chunks of which one more or less matters
_BLOCK_BYTES = 32 * 2**20  # the arrays of one block: phi, z, sigma' and the sensitivities
_KEPT_BLOCKS = 2  # samples of so many blocks are one block: its forward sweep can then be kept
_LANE_BYTES = 64 * 2**20  # partial sums of a reduction over samples
_UNIT_OPERATIONS = 40  # an activation and its derivative, in operations
_IDLE_WORKSPACES = 2  # kept for the next user; a training run holds two at a time
_LANES = 16  # at most: more would only add to the cost of the final sum

NO_GATES: BoolArray = np.zeros((0, 0), dtype=np.bool_)


def lane_count(n_chunks: int, size: int) -> int:
    """Return the number of partial sums of `size` entries: a function of the problem alone.

    The partition of the samples never depends on the number of threads, so the bits do not.
    """
    fitting = max(2, _LANE_BYTES // (8 * max(1, size)))
    return max(1, min(n_chunks, _LANES, fitting))


def _even_chunk(n_samples: int, most: int) -> int:
    """Return the samples a chunk, a multiple of 8: equal shares, so that little is padding.

    A few chunks are an even number of them: with three, one of two workers had two.
    """
    count = max(1, -(-n_samples // most))
    if 1 < count < _FEW:
        count += count % 2
    return max(1, -(-n_samples // (8 * count))) * 8


class Plan:
    """A network as the kernels see it, and the cutting of T samples into chunks and blocks."""

    def __init__(
        self,
        net: Layers,
        n_samples: int,
        *,
        gated: bool = False,
        chunk: int | None = None,
        most: int = _CHUNK,
    ) -> None:
        self.net = net
        self.n_samples = n_samples
        self.n_params = net.n_params
        self.n_outputs = net.n_outputs
        self.n_units = sum(net.widths[1:])
        self.kept_blocks = _KEPT_BLOCKS
        self.psi_rows = self.n_units  # numbers that a column of sensitivities has a sample
        self.chunk = chunk or _even_chunk(n_samples, most)
        self.n_chunks = -(-n_samples // self.chunk)
        self.layers, self.rows = _layer_table(net, gated)
        self.plain_output = net.activations[-1].name == "identity"
        self.params = np.array([a.param for a in net.activations], dtype=np.float64)
        fixed = [] if isinstance(net.bias, str) else list(net.bias)
        self.biases = np.concatenate(fixed) if fixed else np.zeros(0)
        self._identities = np.zeros((0, 0, 0))

    def chunks_per_block(self, extra_rows: int = 0) -> int:
        """Return how many chunks fit into a block, with `extra_rows` numbers more a sample."""
        bytes_per_chunk = 8 * self.chunk * (self.rows + extra_rows)
        if self.n_chunks * bytes_per_chunk <= self.kept_blocks * _BLOCK_BYTES:
            return self.n_chunks
        return max(1, min(self.n_chunks, _BLOCK_BYTES // bytes_per_chunk))

    def identities(self, size: int) -> FloatArray:
        """Return the identity for each of `size` samples, (size, n_L, n_L); not to be changed."""
        kept = self._identities  # another thread may put one of another size there
        if kept.shape[0] != size:
            kept = self._identities = np.tile(np.eye(self.n_outputs), (size, 1, 1))
        return kept


def _layer_table(net: Layers, gated: bool) -> tuple[IntArray, int]:
    """Return the integer table of the kernels, and the rows of a chunk's workspace."""
    table = np.full((net.n_layers, layer_table.COLUMNS), -1, dtype=np.int64)
    dummy = 1 if net.has_free_bias else 0
    phi_rows = sum(w + dummy for w in net.widths[:-1]) + net.n_outputs
    units = sum(net.widths[1:])
    weight_offset = phi_row = unit_row = 0
    for index, ((n, m), activation) in enumerate(
        zip(net.layer_shapes, net.activations, strict=True)
    ):
        core = net.widths[index]
        row = table[index]
        row[layer_table.W_OFF], row[layer_table.UNITS] = weight_offset, n
        row[layer_table.INPUTS], row[layer_table.CORE] = m, core
        row[layer_table.PHI_IN], row[layer_table.PHI_OUT] = phi_row, phi_row + core + dummy
        row[layer_table.Z_ROW] = phi_rows + unit_row
        row[layer_table.D_ROW] = phi_rows + units + unit_row
        row[layer_table.UNIT_ROW] = unit_row
        row[layer_table.CODE], row[layer_table.ADDRESS] = activation.code, activation.address
        if gated and index < net.n_layers - 1:
            row[layer_table.GATE] = unit_row
        if not isinstance(net.bias, str):
            row[layer_table.BIAS] = unit_row
        weight_offset += n * m
        phi_row += core + dummy
        unit_row += n
    return table, phi_rows + 2 * units


class Workspace:
    """The arrays of one block, kept between calls: allocation costs page faults."""

    def __init__(self) -> None:
        self._arrays: dict[str, FloatArray] = {}

    def array(self, name: str, shape: tuple[int, ...]) -> FloatArray:
        """Return a C-ordered array of this shape, with arbitrary finite or stale content."""
        size = math.prod(shape)
        held = self._arrays.get(name)
        if held is None or held.size < size:
            held = np.zeros(size)
            self._arrays[name] = held
        return held[:size].reshape(shape)


class WorkspacePool:
    """Workspaces that wait for their next user; each has one user at a time."""

    def __init__(self) -> None:
        self._idle: list[Workspace] = []

    def lend_to(self, owner: object) -> Workspace:
        """Return a workspace that comes back when `owner` is gone."""
        try:
            workspace = self._idle.pop()
        except IndexError:
            workspace = Workspace()
        weakref.finalize(owner, self._take_back, workspace)
        return workspace

    def _take_back(self, workspace: Workspace) -> None:
        if len(self._idle) < _IDLE_WORKSPACES:
            self._idle.append(workspace)


class Block:
    """Consecutive samples after a forward sweep; every other sweep starts from here."""

    def __init__(
        self,
        plan: Plan,
        theta: FloatArray,
        start: int,
        samples: FloatArray,
        gates: BoolArray,
        workspace: Workspace,
    ) -> None:
        self.plan = plan
        self.theta = theta
        self.start = start
        self.size = samples.shape[0]
        self.stop = start + self.size
        self.n_chunks = -(-self.size // plan.chunk)
        self._space = workspace
        self._d2: FloatArray | None = None
        self._psi_of: FloatArray | None = None  # the factors of the last sensitivities
        self.loss_gradient: FloatArray | None = None  # kept for whoever asks next
        self.ws = workspace.array("ws", (self.n_chunks, plan.rows, plan.chunk))
        self.outputs = np.empty((self.size, plan.n_outputs))
        net = plan.layers, plan.params, plan.biases
        with self._sharing(1):
            forward.forward(theta, *net, samples, gates, self.ws, self.outputs)

    def _sharing(self, sweeps: int, vectors: int = 1) -> AbstractContextManager[None]:
        """Return the context of a kernel that does so many sweeps' work for so many vectors."""
        plan = self.plan
        per_sample = 2 * plan.n_params + _UNIT_OPERATIONS * plan.n_units
        return workers_for(float(sweeps * vectors * self.size * per_sample))

    @property
    def second_derivatives(self) -> FloatArray:
        """sigma''(z), shape (chunks, units, C)."""
        if self._d2 is None:
            self._d2 = self._space.array("d2", (self.n_chunks, self.plan.n_units, self.plan.chunk))
            with self._sharing(1):
                forward.second_derivatives(self.plan.layers, self.plan.params, self.ws, self._d2)
        return self._d2

    def tangents(self, directions: FloatArray) -> FloatArray:
        """Return J v for directions (p, N): shape (p, B, n_L)."""
        out = np.empty((directions.shape[0], self.size, self.plan.n_outputs))
        with self._sharing(2, directions.shape[0]):
            products.products(self.theta, directions, self.plan.layers, self.ws, out)
        return out

    def images(self, directions: FloatArray) -> FloatArray:
        """Return J v as `tangents` does: faster from the second call on for one output."""
        plan, p = self.plan, directions.shape[0]
        if plan.n_outputs > 1 or self.size < plan.n_samples:
            return self.tangents(directions)
        psi = self.sensitivities(plan.identities(self.size))  # kept for the next call
        out = np.empty((p, self.size, 1))
        with self._sharing(1, p):
            products.scalar_products(directions, plan.layers, self.ws, psi, out)
        return out

    def second_tangent(self, direction: FloatArray) -> FloatArray:
        """Return the second derivative of F along one direction (N,): shape (B, n_L)."""
        out = np.empty((self.size, self.plan.n_outputs))
        layers, d2 = self.plan.layers, self.second_derivatives
        with self._sharing(4):
            products.second_tangents(self.theta, direction, layers, self.ws, d2, out)
        return out

    def add_backward(self, cotangents: FloatArray, lanes: FloatArray) -> None:
        """Add J^T u for cotangents (p, B, n_L) to the lanes (lanes, p, N)."""
        with self._sharing(2, cotangents.shape[0]):
            products.backward(self.theta, self.plan.layers, self.ws, cotangents, self.size, lanes)

    def add_hessian_product(
        self, direction: FloatArray, errors: FloatArray, hessians: FloatArray, lanes: FloatArray
    ) -> None:
        """Add the exact Hessian times a direction to the lanes (lanes, N).

        ``errors`` (B, n_L) and ``hessians`` (B, n_L, n_L) are those of the loss, weighted.
        """
        layers, d2 = self.plan.layers, self.second_derivatives
        kept = self._space.array("tangents", (self.n_chunks, 2 * d2.shape[1], self.plan.chunk))
        tangent = np.empty((self.size, self.plan.n_outputs))
        with self._sharing(2):
            products.tangents(self.theta, direction, layers, self.ws, kept, tangent)
        derivative = np.einsum("boc,bc->bo", hessians, tangent)
        with self._sharing(5):
            hessian.hessian_products(
                self.theta, direction, layers, self.ws, d2, kept, errors, derivative, lanes
            )

    def chunks_of(self, part: slice) -> tuple[slice, slice]:
        """Return the chunks that hold the samples `part`, and where in these they stand."""
        first = part.start // self.plan.chunk
        last = -(-part.stop // self.plan.chunk)
        offset = first * self.plan.chunk
        return slice(first, last), slice(part.start - offset, part.stop - offset)

    def by_sample(
        self, first_row: int, count: int, part: slice, sweep: FloatArray | None = None
    ) -> FloatArray:
        """Return rows of a sweep, by default the forward one, at the samples `part`: (B, count)."""
        chunks, inside = self.chunks_of(part)
        rows = (self.ws if sweep is None else sweep)[chunks, first_row : first_row + count]
        return np.array(rows.transpose(0, 2, 1).reshape(-1, count)[inside], order="C")

    def sensitivities(self, factors: FloatArray) -> FloatArray:
        """Return Psi S for factors (B, n_L, n_S): shape (chunks, units, n_S C)."""
        columns = factors.shape[2] * self.plan.chunk
        psi = self._space.array("psi", (self.n_chunks, self.plan.n_units, columns))
        if self._psi_of is factors:
            return psi
        self._psi_of = factors
        with self._sharing(1, factors.shape[2]):
            sensitivities.sensitivities(
                self.theta, self.plan.layers, self.ws, np.ascontiguousarray(factors), psi
            )
        return psi


@pooled
def evaluate(net: Layers, theta: FloatArray, samples: FloatArray) -> FloatArray:
    """Return the outputs (T, n_L) for checked samples (T, n_0), block by block."""
    outputs = np.empty((samples.shape[0], net.n_outputs))
    if samples.shape[0] == 0:
        return outputs
    plan = Plan(net, samples.shape[0])
    step = plan.chunk * plan.chunks_per_block()
    workspace = Workspace()
    for start in range(0, samples.shape[0], step):
        rows = samples[start : start + step]
        block = Block(plan, theta, start, rows, NO_GATES, workspace)
        outputs[start : start + step] = block.outputs
    return outputs
