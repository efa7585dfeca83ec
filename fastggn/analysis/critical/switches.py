"""Switches: functions of theta at whose zeros a unit, or the Huber loss, has a kink."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastggn.analysis.critical.surface import Matrix, Surface, Vector
from fastggn.analysis.magnitudes import row_norms
from fastggn.runtime.rank0 import everywhere

NEAR = 1e-10  # a pre-activation counts as zero up to this share of its terms,
NOISE = 1e-14  # or of the largest terms of its layer
MOST_ENTRIES = 2_000_000
HOMOGENEOUS = {"relu", "leaky_relu"}

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Switches:
    """The switches that are zero at a point: gradients (K, N), values (K,), layers (K,).

    `nested`: one switch stands above another for the same sample, so that its derivative is not
    linear. `dead`: one mask for each hidden layer, of units whose outputs are zero all around.
    """

    rows: Matrix
    values: Vector
    layers: NDArray[np.int64]
    nested: bool
    dead: list[Mask]

    @property
    def complete(self) -> bool:
        """Whether the signs of `rows` @ direction tell the pieces of the loss around theta."""
        return not self.nested and bool(self.rows.any(axis=1).all())


@everywhere
def switches_at(surface: Surface, theta: Vector) -> Switches | None:
    """Return the switches that are zero at theta; None if there are too many for a matrix."""
    net, comm = surface.problem.network, surface.comm
    if surface.smooth:
        return Switches(
            np.zeros((0, theta.size)), np.zeros(0), np.zeros(0, dtype=np.int64), False, []
        )
    weights = surface.weights(theta)
    layers, phis = net.unpack(weights), surface.problem.layer_outputs(weights)
    z = surface.preactivations_by_layer(theta)
    at_kink, dead = _marks(surface, layers, phis, z)
    found = sum(comm.total(float(mask.sum())) for mask in at_kink)
    if found * theta.size > MOST_ENTRIES:
        return None
    rows, values, depths, samples = [], [], [], []
    for depth, mask in enumerate(at_kink):
        for unit, sample in np.argwhere(mask):
            gradient, value = _switch(surface, layers, phis, z, depth, int(unit), int(sample))
            rows.append(gradient * surface.units)
            values.append(value)
            depths.append(depth)
            samples.append(sample)
    by_sample: dict[int, set[int]] = {}
    for sample, depth in zip(samples, depths, strict=True):
        by_sample.setdefault(int(sample), set()).add(depth)
    nested = any(len(found) > 1 for found in by_sample.values())
    return Switches(
        comm.concatenate(np.array(rows).reshape(len(rows), theta.size)),
        comm.concatenate(np.array(values)),
        comm.concatenate(np.array(depths, dtype=np.int64)),
        comm.any(nested),
        [mask & ~_somewhere(surface, ~mask) for mask in dead],
    )


def _somewhere(surface: Surface, mask: Mask) -> Mask:
    return np.array([surface.comm.any(bool(flag)) for flag in mask], dtype=np.bool_)


def _marks(
    surface: Surface, layers: list[Matrix], phis: list[Matrix], z: list[Matrix]
) -> tuple[list[Mask], list[Mask]]:
    """Return where each layer is at a kink, and the units that are zero around theta.

    The last mask is of outputs at the kink of the Huber loss.
    """
    problem, net = surface.problem, surface.problem.network
    marks, dead, zero = [], [], phis[0] == 0.0  # entries that are zero all around
    for depth, (weights, phi, pre) in enumerate(zip(layers, phis, z, strict=False)):
        fixed = 0.0 if isinstance(net.bias, str) else np.abs(net.bias[depth])[:, None]
        terms = np.abs(weights) @ np.abs(phi) + fixed
        largest = surface.comm.largest(float(terms.max(initial=0.0)))
        near = np.abs(pre) <= NEAR * terms + NOISE * largest
        if isinstance(net.bias, str):
            constant = np.broadcast_to(zero.all(axis=0), pre.shape)
        else:
            constant = np.zeros(pre.shape, dtype=np.bool_)
        gated = problem.gated and depth < net.n_layers - 1
        kinked = net.activations[depth].smoothness < 2 and not gated
        marks.append(near & ~constant if kinked else np.zeros(pre.shape, dtype=np.bool_))
        if depth == net.n_layers - 1:
            break
        zero = constant & (phis[depth + 1][: len(pre)] == 0.0)
        if net.activations[depth].name == "relu" and not gated:
            zero = zero | ((pre < 0.0) & ~near)
        dead.append(zero.all(axis=1))
        if len(phis[depth + 1]) > len(pre):
            zero = np.vstack([zero, np.zeros((1, zero.shape[1]), dtype=np.bool_)])
    if surface.bend is not None:
        residual = phis[-1] - problem.targets.T[: problem.n_outputs]
        marks.append(np.abs(np.abs(residual) - surface.bend) <= NEAR * surface.bend)
    return marks, dead


def _switch(
    surface: Surface,
    layers: list[Matrix],
    phis: list[Matrix],
    z: list[Matrix],
    depth: int,
    unit: int,
    sample: int,
) -> tuple[Vector, float]:
    """Return the gradient by theta of a pre-activation, or of an output, and its value."""
    net, problem = surface.problem.network, surface.problem
    parts = [np.zeros_like(w) for w in layers]
    slope, value = np.zeros(0), 0.0
    if depth == net.n_layers:  # the Huber loss
        depth -= 1
        slope = np.zeros(len(layers[depth]))
        slope[unit] = net.activations[depth].derivative(z[depth][unit, sample])
        residual = phis[-1][unit, sample] - problem.targets[sample, unit]
        value = np.abs(residual) - (surface.bend or 0.0)
        slope *= np.sign(residual)
    else:
        slope = np.eye(len(layers[depth]))[unit]
        value = z[depth][unit, sample]
    for below in range(depth, -1, -1):
        parts[below] = np.outer(slope, phis[below][:, sample])
        if below > 0:
            inner = z[below - 1][:, sample]
            back = (slope @ layers[below])[: inner.size]
            slope = back * net.activations[below - 1].derivative(inner)
    return np.concatenate([part.ravel() for part in parts]), float(value)


def at_kink(surface: Surface, theta: Vector) -> bool:
    """Return whether a unit, or the loss, stands at a kink for some sample."""
    if surface.smooth:
        return False
    found = switches_at(surface, theta)
    return found is None or len(found.rows) > 0


def merged(rows: Matrix) -> Matrix:
    """Return the different lines of the nonzero rows, as unit vectors."""
    lengths = row_norms(rows)
    lines: list[Vector] = []
    for row in rows[lengths > 0.0] / lengths[lengths > 0.0][:, None]:
        if not any(min(np.abs(row - a).max(), np.abs(row + a).max()) <= NEAR for a in lines):
            lines.append(row)
    return np.array(lines).reshape(len(lines), rows.shape[1])
