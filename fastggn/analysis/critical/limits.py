"""Units whose weights stand for a limit: larger ones give the same outputs, to the last digit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fastggn.analysis.critical.surface import Surface, Vector
from fastggn.runtime.rank0 import everywhere

# Powers of the size by which an activation grows in its limit.
DEGREES = {"tanh": 0, "sigmoid": 0, "softplus": 1}
LARGE, UNMOVED = 5.0, 1e-5
FACTORS = (2.0, 4.0)
FULL_RANK = 1e-10  # least singular value over the largest
LARGEST_DENSE = 10_000_000  # entries of a Jacobian that is factored

Unit = tuple[int, int, int]


def limit_unit(
    surface: Surface, theta: Vector, reached: Callable[[Vector], bool], rows: int
) -> str | None:
    """Return the unit in whose limit a value is reached, unless finite weights provably do so.

    `reached` tells whether a point has the value, and a Jacobian of rank `rows` is the proof.
    """
    units = [
        unit
        for unit in _stretched_units(surface, theta)
        if all(reached(_grown(surface, theta, unit, factor)) for factor in FACTORS)
        and not reached(_without(surface, theta, unit))
    ]
    if not units or _full_rank(surface, theta, units, rows):
        return None
    layer, number, _ = units[0]
    return f"unit {number + 1} of layer {layer + 1}"


@everywhere
def _stretched_units(surface: Surface, theta: Vector) -> list[Unit]:
    """Return (layer, unit, degree) of hidden units that larger weights change by a factor only."""
    net, found = surface.problem.network, []
    if surface.problem.gated:
        return []
    for layer, z in enumerate(surface.preactivations_by_layer(theta)[:-1]):
        activation = net.activations[layer]
        degree = DEGREES.get(activation.name)
        if degree is None:
            continue
        change = z * activation.derivative(z) - degree * activation(z)
        moved = surface.comm.largest(np.abs(change).max(axis=1, initial=0.0))
        size = surface.comm.largest(np.abs(z).max(axis=1, initial=0.0))
        for unit in np.flatnonzero((moved <= UNMOVED * size**degree) & (size >= LARGE)):
            found.append((layer, int(unit), degree))
    return found


def _grown(surface: Surface, theta: Vector, unit: Unit, factor: float) -> Vector:
    out = theta.copy()
    layers = surface.problem.network.unpack(out)
    layer, number, degree = unit
    layers[layer][number] *= factor
    layers[layer + 1][:, number] /= factor**degree
    return np.asarray(out)


@everywhere
def _without(surface: Surface, theta: Vector, unit: Unit) -> Vector:
    """Return theta with the mean output of a unit moved into the free bias above it."""
    out = surface.weights(theta)
    net, (layer, number, _) = surface.problem.network, unit
    layers = net.unpack(out)
    if net.has_free_bias:
        outputs = surface.problem.layer_outputs(out)[layer + 1][number]
        mean = surface.comm.total(float(outputs.sum())) / surface.problem.n_samples
        layers[layer + 1][:, -1] += mean * layers[layer + 1][:, number]
    layers[layer + 1][:, number] = 0.0
    return out / surface.units


@everywhere
def _full_rank(surface: Surface, theta: Vector, units: list[Unit], rows: int) -> bool:
    """Return whether the Jacobian by the weights of the other units has this rank."""
    net = surface.problem.network
    if surface.problem.n_samples * surface.problem.n_outputs * surface.n_params > LARGEST_DENSE:
        return False
    used = np.ones(surface.n_params)
    layers = net.unpack(used)
    for layer, number, _ in units:
        layers[layer][number] = 0.0
    jacobian = surface.problem.jacobian(surface.weights(theta)).to_dense()
    matrix: NDArray[np.float64] = surface.comm.concatenate(jacobian) * (surface.units * used)
    if not np.isfinite(matrix).all():
        return False
    values = np.linalg.svd(matrix, compute_uv=False)
    return int(np.count_nonzero(values > FULL_RANK * values[0])) == rows
