"""Derivatives of a network by its inputs as channels: which ones, and their blocks of samples."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastggn.data.scaler import Scaler
from fastggn.kernels import channel_products as products, channel_rows as rows, channels as kernels
from fastggn.network.layers import Layers
from fastggn.network.workspace import Block, FloatArray, Plan, Workspace
from fastggn.runtime.threads import workers, workers_for

Channel = tuple[int, ...]
IntArray = NDArray[np.int64]

MOST = 2  # the highest order of a derivative by the inputs
_COLUMNS = 512  # columns of a chunk: samples times channels
_FEWEST = 64  # samples of a chunk, at least: products of fewer columns starve
_KEPT_BLOCKS = 6  # of points are one block, whose sweep is kept: it costs more than a plain one
_UNIT_OPERATIONS = 60  # an activation with four derivatives, in operations


def closed(channels: Iterable[Channel]) -> tuple[Channel, ...]:
    """Return channels with all lower ones, the value first, by order and then by input."""
    found: set[Channel] = {()}
    for channel in channels:
        found |= {channel, *((i,) for i in channel)}
    return tuple(sorted(found, key=lambda c: (len(c), c)))


class Channels:
    """The value of a network and the derivatives by its inputs that are computed together.

    Parameters
    ----------
    wanted : iterable of tuple of int
        A derivative by inputs j, k, ... is the tuple (j, k, ...) in any order, and () the value.
        What a derivative needs, the value and the first derivatives of its inputs, is added.
    n_inputs : int

    Attributes
    ----------
    listed : tuple of tuple of int
        The channels, each sorted; the value first, then by order.
    table : ndarray, shape (C, 3)
        Order, input or first channel, second channel; for the kernels.

    Raises
    ------
    ValueError
        If an order is above 2, or an input does not exist.
    """

    def __init__(self, wanted: Iterable[Channel], n_inputs: int) -> None:
        keys = [tuple(sorted(channel)) for channel in wanted]
        for key in keys:
            if len(key) > MOST:
                raise ValueError(
                    f"the derivative {key} is of order {len(key)}; derivatives by the inputs go "
                    f"up to order {MOST}"
                )
            for j in key:
                if not 0 <= j < n_inputs:
                    raise ValueError(f"input {j} does not exist: the network has {n_inputs}")
        self.listed = closed(keys)
        place = {key: c for c, key in enumerate(self.listed)}
        self.table: IntArray = np.full((len(self.listed), 3), -1, dtype=np.int64)
        for c, key in enumerate(self.listed):
            self.table[c, 0] = len(key)
            self.table[c, 1 : 1 + len(key)] = key if len(key) < MOST else [place[j,] for j in key]
        self.n_inputs = n_inputs

    def __len__(self) -> int:
        """Return C."""
        return len(self.listed)


class Tiles(Protocol):
    """The tiles of a Gram matrix and the tasks, as `RowTiling` has them."""

    tiles: IntArray
    order: IntArray


class ChannelPlan(Plan):
    """A network with channels as the kernels see it; `n_coefficients` entries follow the weights.

    The outputs of a block are its channels (n_L C, output by output) and the coefficients. `term`
    is the number of the term of a problem, of whose points the blocks are. With a `scaler` the
    network sees scaled samples, and the channels are derivatives by the samples as they are.
    """

    def __init__(
        self,
        net: Layers,
        n_samples: int,
        channels: Channels,
        n_coefficients: int = 0,
        *,
        term: int = 0,
        seeds: FloatArray | None = None,
        scaler: Scaler | None = None,
        chunk: int | None = None,
    ) -> None:
        most = max(_FEWEST, _COLUMNS // len(channels))
        super().__init__(net, n_samples, chunk=chunk, most=most)
        self.channels = channels
        self.term = term
        self.n_direct = net.n_outputs * len(channels)
        self.n_coefficients = n_coefficients
        own = np.ones(net.n_inputs) if seeds is None else seeds
        self.scaler = scaler
        self.seeds = own if scaler is None else own / scaler.scale
        self.n_params = net.n_params + n_coefficients
        self.n_outputs = self.n_direct + n_coefficients
        self.phi_rows = self.rows - self.n_units  # sigma' and the like have an array of their own
        self.rows = len(channels) * self.phi_rows + 5 * self.n_units
        self.psi_rows = len(channels) * self.n_units
        self.kept_blocks = _KEPT_BLOCKS


class ChannelBlock(Block):
    """Consecutive samples after a forward sweep of all channels.

    `coefficients` (3, K) holds the values of the coefficients and their first two derivatives by
    the last K entries of theta, on each of which one depends.
    """

    plan: ChannelPlan

    def __init__(
        self,
        plan: ChannelPlan,
        theta: FloatArray,
        start: int,
        samples: FloatArray,
        coefficients: FloatArray,
        workspace: Workspace,
    ) -> None:
        self.plan = plan
        self.theta = theta
        self.start = start
        self.samples = samples
        self.size = samples.shape[0]
        self.stop = start + self.size
        self.n_chunks = -(-self.size // plan.chunk)
        self.coefficients = coefficients
        # Not the constructor of `Block`: the arrays and the sweep are others.
        self.kept: dict[str, Any] = {}  # what the loss keeps for whoever asks next
        self._space = workspace
        self._width = len(plan.channels) * plan.chunk
        self._direct = plan.n_direct
        self.ws = workspace.array("ws", (self.n_chunks, plan.phi_rows, self._width))
        self.ds = workspace.array("ds", (self.n_chunks, 5 * plan.n_units, plan.chunk))
        channels = np.empty((self.size, self._direct))
        table = plan.channels.table
        net = plan.layers, plan.params, plan.biases, table, plan.seeds
        seen = samples if plan.scaler is None else plan.scaler.apply(samples)
        with self._sharing(1):
            kernels.forward(theta, *net, seen, self.ws, self.ds, channels)
        tail = np.broadcast_to(coefficients[0], (self.size, plan.n_coefficients))
        self.outputs = np.concatenate([channels, tail], axis=1)

    def _sharing(self, sweeps: int, vectors: int = 1) -> AbstractContextManager[None]:
        """Return the context of a kernel that does so many sweeps' work for so many vectors."""
        plan = self.plan
        work = 2 * plan.n_params * len(plan.channels) + _UNIT_OPERATIONS * plan.n_units
        return workers_for(float(sweeps * vectors * self.size * work))

    @property
    def _net(self) -> tuple[IntArray, IntArray, FloatArray, FloatArray]:
        return self.plan.layers, self.plan.channels.table, self.ws, self.ds

    def _tail(self, direction: FloatArray) -> FloatArray:
        return direction[..., self.plan.net.n_params :]

    def tangents(self, directions: FloatArray) -> FloatArray:
        """Return J v for directions (p, N): shape (p, B, n_L C + K)."""
        known = self.kept.get("tangent")
        if known is not None and np.array_equal(directions, known[0]):
            return np.array(known[1])
        p = directions.shape[0]
        out = np.empty((p, self.size, self._direct))
        with self._sharing(2, p):
            products.products(self.theta, directions, *self._net, out)
        tail = self.coefficients[1] * self._tail(directions)
        every = np.broadcast_to(tail[:, None], (p, self.size, tail.shape[1]))
        return np.concatenate([out, every], axis=2)

    def images(self, directions: FloatArray) -> FloatArray:
        """Return J v."""
        return self.tangents(directions)

    def second_tangent(self, direction: FloatArray) -> FloatArray:
        """Return the second derivative of the outputs along one direction: (B, n_L C + K).

        The first one comes with it: the next `tangents` of this direction costs nothing.
        """
        out = np.empty((2, self.size, self._direct))
        with self._sharing(4):
            products.second_tangents(self.theta, direction, *self._net, out)
        v = self._tail(direction)
        tail = np.stack([self.coefficients[1] * v, self.coefficients[2] * v**2])
        both = np.broadcast_to(tail[:, None], (2, self.size, v.size))
        first, second = np.concatenate([out, both], axis=2)
        self.kept["tangent"] = direction[None].copy(), first[None]
        return np.asarray(second)

    def add_backward(self, cotangents: FloatArray, lanes: FloatArray) -> None:
        """Add J^T u for cotangents (p, B, n_L C + K) to the lanes (lanes, p, N)."""
        direct = np.ascontiguousarray(cotangents[:, :, : self._direct])
        with self._sharing(2, cotangents.shape[0]):
            kernels.backward(self.theta, *self._net, direct, lanes)
        sums = cotangents[:, :, self._direct :].sum(axis=1)
        lanes[0, :, self.plan.net.n_params :] += self.coefficients[1] * sums

    def add_transposed_rows(
        self, psi: FloatArray, factors: FloatArray, vectors: FloatArray, lanes: FloatArray
    ) -> None:
        """Add (S^T J)^T u for u (p, B, n_S) to the lanes (lanes, p, N), from S's sensitivities."""
        plan = self.plan
        with self._sharing(1, vectors.shape[0] * factors.shape[2]):
            rows.transposed_rows(plan.layers, plan.chunk, self.ws, psi, vectors, lanes)
        sums = np.einsum("bos,pbs->po", factors[:, self._direct :], vectors)
        lanes[0, :, plan.net.n_params :] += self.coefficients[1] * sums

    def add_hessian_product(
        self, direction: FloatArray, errors: FloatArray, hessians: FloatArray, lanes: FloatArray
    ) -> None:
        """Add the exact Hessian times a direction to the lanes (lanes, N).

        ``errors`` (B, n_L C + K) and ``hessians`` are those of the loss by the outputs, weighted.
        """
        shape = (self.n_chunks, 2 * self.plan.n_units, self._width)
        kept = self._space.array("tangents", shape)
        out = np.empty((self.size, self._direct))
        with self._sharing(2):
            products.tangents(self.theta, direction, *self._net, kept, out)
        value, slope, bend = self.coefficients
        along = slope * self._tail(direction)
        tangent = np.concatenate([out, np.broadcast_to(along, (self.size, value.size))], axis=1)
        derivative = np.einsum("boc,bc->bo", hessians, tangent)
        direct = slice(0, self._direct)
        own = np.ascontiguousarray(errors[:, direct]), np.ascontiguousarray(derivative[:, direct])
        with self._sharing(6):
            products.hessian_products(self.theta, direction, *self._net, kept, *own, lanes)
        tail = slope * derivative[:, self._direct :].sum(axis=0)
        tail += bend * self._tail(direction) * errors[:, self._direct :].sum(axis=0)
        lanes[0, self.plan.net.n_params :] += tail

    def sensitivities(self, factors: FloatArray) -> FloatArray:
        """Return Psi S for factors (B, n_L C + K, n_S): shape (chunks, units, n_S C S_0)."""
        columns = factors.shape[2]
        psi = self._space.array("psi", (self.n_chunks, self.plan.n_units, columns * self._width))
        direct = np.ascontiguousarray(factors[:, : self._direct])
        with self._sharing(1, columns):
            kernels.sensitivities(self.theta, *self._net, direct, psi)
        return psi

    def coefficient_columns(self, factors: FloatArray) -> FloatArray:
        """Return the columns of the coefficients in S^T J: (chunks, K, n_S S_0), zeros beyond B."""
        plan, columns = self.plan, factors.shape[2]
        padded = np.zeros((self.n_chunks * plan.chunk, plan.n_coefficients, columns))
        padded[: self.size] = self.coefficients[1][:, None] * factors[:, self._direct :]
        by_chunk = padded.reshape(self.n_chunks, plan.chunk, plan.n_coefficients, columns)
        shape = self.n_chunks, plan.n_coefficients, columns * plan.chunk
        ordered = by_chunk.transpose(0, 2, 3, 1).reshape(shape)
        return np.ascontiguousarray(ordered)

    def add_gram(
        self, tiling: Tiles, psi: FloatArray, tail: FloatArray, fresh: bool, lanes: NDArray[Any]
    ) -> None:
        """Add the tiles of S^T J's Gram matrix to the lanes, or overwrite these if `fresh`.

        `psi` and `tail` are the sensitivities and the columns of the coefficients.
        """
        plan = self.plan
        own = plan.layers, tiling.tiles, tiling.order, plan.chunk, self.ws
        rows.assemble_rows(*own, psi, tail, fresh, workers(), lanes)

    def jacobian_rows(
        self, psi: FloatArray, tail: FloatArray, first: int, last: int, out: FloatArray
    ) -> None:
        """Fill out ((last - first) n_S, N) with the rows of S^T J of samples of this block."""
        plan = self.plan
        with workers_for(float(out.size * len(plan.channels))):
            rows.jacobian_rows(plan.layers, plan.chunk, self.ws, psi, tail, first, last, out)


def own_block(block: Block) -> ChannelBlock:
    """Return the block itself, for the eyes of the type checker."""
    assert isinstance(block, ChannelBlock)
    return block


def refuse_rough(net: Layers) -> None:
    """Raise ValueError unless all activations have the derivatives that channels need."""
    for layer, activation in enumerate(net.activations, start=1):
        if reason := activation.roughness:
            raise ValueError(f"the activation {activation.name!r} of layer {layer} {reason}")
