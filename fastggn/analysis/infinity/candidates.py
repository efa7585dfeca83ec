"""Units that look as if they were on the way to infinity: what is then tried."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fastggn.analysis.hidden_units import EVEN, ODD, Parts
from fastggn.analysis.infinity.families import TAILS, Family, Group
from fastggn.network.activations import Activation
from fastggn.objective.problem import Problem

FloatArray = NDArray[np.float64]

MERGING = 1.0  # largest difference of the incoming weights, over their mean size
CANCELLING = 0.5  # largest sum of the outgoing weights, over the sum of their sizes
TAIL = -0.5  # largest z of a unit in its lower tail, at all samples
FLAT = 0.3  # largest |z - b| of a unit that becomes linear
SATURATED = 1e-2  # largest derivative of a saturated unit, at all samples
MOST = 3  # sets of groups that are tried


def smooth(problem: Problem, layer: int) -> bool:
    """Whether the units of a layer have a second derivative that is not zero everywhere."""
    activation = problem.network.activations[layer]
    return activation.smoothness >= 2 and activation.name not in ("identity", "square")


def aligned(problem: Problem, theta: FloatArray) -> FloatArray:
    """Return parameters with the same outputs, pairs of opposite incoming weights turned alike."""
    net = problem.network
    parts = Parts.of(net, theta)
    for layer in range(1, net.n_layers):
        name = net.activations[layer - 1].name
        flips = name in ODD or name in EVEN
        if not flips and not (name == "sigmoid" and net.has_free_bias):
            continue
        if parts.bias is not None and parts.bias[layer - 1].any():
            continue
        rows, above = parts.weights[layer - 1], parts.weights[layer]
        for j in range(1, rows.shape[0]):
            size = np.linalg.norm(rows[:j], axis=1) + np.linalg.norm(rows[j])
            near = np.linalg.norm(rows[:j] - rows[j], axis=1).min(initial=np.inf)
            far = np.linalg.norm(rows[:j] + rows[j], axis=1)
            k = int(far.argmin())
            if far[k] < near and 2.0 * far[k] <= MERGING * size[k]:
                if name == "sigmoid":
                    parts.fold_constant(layer, above[:, j].copy())
                rows[j] *= -1.0
                above[:, j] *= 1.0 if name in EVEN else -1.0
    return parts.network()[1]


def _layers(
    problem: Problem, theta: FloatArray
) -> Iterator[tuple[int, Activation, Parts, FloatArray]]:
    """Yield each hidden layer from 0, with the parts of the network and pre-activations (T, n)."""
    parts = Parts.of(problem.network, theta)
    X = np.array(problem.read_samples(0, problem.n_samples)[0])
    for layer, activation in enumerate(problem.network.activations[:-1]):
        yield layer, activation, parts, parts.outputs(X, layer + 1)[0]


def channels(problem: Problem, theta: FloatArray) -> Iterator[Family]:
    """Yield families of pairs whose incoming weights merge while their outgoing ones cancel."""
    scored: list[tuple[float, float, Group]] = []
    parts = Parts.of(problem.network, theta)
    for layer in range(problem.network.n_layers - 1):
        if not smooth(problem, layer):
            continue
        rows, above = parts.weights[layer], parts.weights[layer + 1]
        for i in range(rows.shape[0]):
            for j in range(i + 1, rows.shape[0]):
                if parts.bias is not None and parts.bias[layer][i] != parts.bias[layer][j]:
                    continue
                size = 0.5 * (np.linalg.norm(rows[i]) + np.linalg.norm(rows[j]))
                gap = float(np.linalg.norm(rows[i] - rows[j]))
                total = float(np.linalg.norm(above[:, i]) + np.linalg.norm(above[:, j]))
                left = float(np.linalg.norm(above[:, i] + above[:, j]))
                if 0.0 < gap <= MERGING * size and left <= CANCELLING * total:
                    scored.append((gap / size, left / total, Group(layer, (i, j))))
    scored.sort(key=lambda entry: entry[0] * max(entry[1], 1e-3))
    chosen: list[Group] = []
    for gap, left, group in scored:
        used = {(g.layer, unit) for g in chosen for unit in g.units}
        apart = not used & {(group.layer, unit) for unit in group.units}
        if apart and max(gap, left) <= 0.2:
            chosen.append(group)
    tried = [tuple(chosen)] if len(chosen) > 1 else []
    tried += [(group,) for *_, group in scored]
    for groups in tried[:MOST]:
        yield Family(problem, "channel", groups)


def linear_units(problem: Problem, theta: FloatArray) -> Iterator[Family]:
    """Yield the family of units whose pre-activations hardly vary, with large outgoing weights."""
    groups = []
    for layer, activation, parts, z in _layers(problem, theta):
        if not smooth(problem, layer):
            continue
        core = parts.weights[layer][:, : parts.weights[layer].shape[1] - int(parts.free)]
        for unit in range(z.shape[1]):
            bias = parts.weights[layer][unit, -1] if parts.free else 0.0
            bias -= 0.0 if parts.bias is None else parts.bias[layer][unit]
            spread = float(np.abs(z[:, unit] - bias).max())
            slope = abs(float(activation.derivative(bias)))
            movable = parts.free or float(activation(bias)) == 0.0
            if core[unit].any() and spread <= FLAT and slope > SATURATED and movable:
                groups.append(Group(layer, (unit,)))
    if groups:
        yield Family(problem, "linearisation", tuple(groups))


def tail_units(problem: Problem, theta: FloatArray) -> Iterator[tuple[Family, FloatArray]]:
    """Yield the family of units in a tail at all samples, with theta turned to the lower tail."""
    if not problem.network.has_free_bias:
        return
    groups, parts = [], Parts.of(problem.network, theta)
    for layer, activation, _, z in _layers(problem, theta):
        name = activation.name
        if name not in TAILS:
            continue
        rows, above = parts.weights[layer], parts.weights[layer + 1]
        for unit in range(z.shape[1]):
            if z[:, unit].min() >= -TAIL and name in ("tanh", "sigmoid"):
                if name == "sigmoid":
                    parts.fold_constant(layer + 1, above[:, unit].copy())
                rows[unit] *= -1.0
                above[:, unit] *= -1.0
                z[:, unit] *= -1.0
            large = np.abs(above[:, unit]).max() > np.median(np.abs(above[:, :-1]))
            if z[:, unit].max() <= TAIL and rows[unit, :-1].any() and (large or rows.shape[0] == 1):
                groups.append(Group(layer, (unit,)))
    if groups:
        yield Family(problem, "exponential", tuple(groups)), parts.network()[1]


def saturated_units(problem: Problem, theta: FloatArray) -> Iterator[Family]:
    """Yield the family of bounded units that are saturated at all samples."""
    groups = []
    for layer, activation, _, z in _layers(problem, theta):
        if activation.name in ("tanh", "sigmoid"):
            steepest = activation.derivative(z).max(axis=0)
            signs = np.sign(z)
            for unit in np.flatnonzero((steepest <= SATURATED) & (np.ptp(signs, axis=0) > 0)):
                groups.append(Group(layer, (int(unit),)))
    if groups:
        yield Family(problem, "saturation", tuple(groups))
