"""Networks some of whose units are on the way to infinity, with coordinates that stay finite.

Each family has the coordinates p, shape (N,), in the places of theta, and separations eps, one for
each group of units. ``theta(p, eps)`` is the finite network at eps > 0; at eps = 0 the limit
network takes its place, whose hidden units are those of the network but for the groups:

- a pair of merging units: the rows of p are w and v, the columns c and u. Finite: incoming weights
  w +- eps v / 2, outgoing ones c / 2 +- u / eps. Limit: c sigma(w.x) + u (v.x) sigma'(w.x), a gated
  unit (Martinelli et al. 2025, "Flat channels to infinity in neural loss landscapes"). The
  finite network is an even function of eps, so it differs from the limit by O(eps^2);
- a unit that becomes linear: incoming weights eps v about the bias b, outgoing ones u / eps, and
  the bias above takes -u sigma(b) / eps. Limit: u (v.x) sigma'(b);
- a unit in the tail of its activation, sigma(z) ~ end + size exp(rate z): incoming weights w about
  the bias b + log(eps) / rate, outgoing ones u / (size eps), and the bias above takes the constant.
  Limit: u exp(rate (w.x + b)), from which the finite network differs by O(eps), with eps > 0 only;
- a saturated unit: incoming weights w / eps. Limit: sigma(+-inf), by the signs of w.x.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fastggn.analysis.hidden_units import Parts
from fastggn.network.activations import Activation
from fastggn.objective.problem import Problem

FloatArray = NDArray[np.float64]
Layer = tuple[FloatArray, FloatArray, dict[int, tuple[int, FloatArray]]]
Kind = Literal["channel", "linearisation", "exponential", "saturation"]
TURNING = ("channel", "linearisation")  # their v keeps its length
# The end, size and rate of the lower tail, and the next term over exp(2 rate z), size 1.
TAILS = {
    "tanh": (-1.0, 2.0, 2.0, -1.0),
    "sigmoid": (0.0, 1.0, 1.0, -1.0),
    "softplus": (0.0, 1.0, 1.0, -0.5),
}
FAR = 800.0  # |z| at which a bounded activation is at its limit in float64


@dataclass(frozen=True)
class Group:
    """Units of a hidden layer (from 0) that run to infinity together: a pair, or one unit."""

    layer: int
    units: tuple[int, ...]

    def __str__(self) -> str:
        listed = " and ".join(str(unit + 1) for unit in self.units)
        return f"unit{'s' * (len(self.units) > 1)} {listed} of layer {self.layer + 1}"


class Sweep:
    """The limit network at p: inputs of its layers, with ones for a free bias; outputs (T, n_L)."""

    def __init__(self, family: Family, p: FloatArray) -> None:
        self._index, self._p, self.outputs = family.index, p, family.X
        self.inputs, self._found = list[FloatArray](), list[Layer]()
        for layer in range(family.net.n_layers):
            self.inputs.append(family.extended(self.outputs))
            self._found.append(family.layer(p, self.inputs[-1], layer))
            self.outputs = self._found[-1][0]

    def sent_back(self, seeds: FloatArray) -> list[FloatArray]:
        """Return derivatives by the pre-activations of each layer from those by outputs, (T, k, n).

        They are of shape (T, k, n_l) for k functions.
        """
        sent = [seeds * self._found[-1][1][:, None, :]]
        layers = zip(self._index[:0:-1], self._found[-2::-1], strict=True)
        for index, (values, slopes, crossed) in layers:
            above = sent[0] @ self._p[index[:, : values.shape[1]]]
            below = above * slopes[:, None, :]
            for unit, (middle, slope) in crossed.items():
                below[..., middle] += above[..., unit] * slope[:, None]
            sent.insert(0, below)
        return sent

    @property
    def rows(self) -> FloatArray:
        """The rows of the Jacobian, shape (T, n_L, N)."""
        out = np.zeros((*self.outputs.shape, self._p.size))
        sent = self.sent_back(np.eye(out.shape[1])[None])
        for index, seeds, inputs in zip(self._index, sent, self.inputs, strict=True):
            out[:, :, index] = seeds[..., None] * inputs[:, None, None, :]
        return out

    def gradient(self, slopes: FloatArray) -> FloatArray:
        """Return the gradient (N,) of a loss with these slopes (T, n_L) by the outputs."""
        out = np.zeros(self._p.size)
        sent = self.sent_back(slopes[:, None, :])
        for index, seeds, inputs in zip(self._index, sent, self.inputs, strict=True):
            out[index] = seeds[:, 0].T @ inputs
        return out


class Family:
    """A network with groups of one kind."""

    def __init__(self, problem: Problem, kind: Kind, groups: tuple[Group, ...]) -> None:
        self.problem, self.kind, self.groups = problem, kind, groups
        net = self.net = problem.network
        self.X = np.array(problem.read_samples(0, problem.n_samples)[0])
        places = net.unpack(np.arange(net.n_params, dtype=np.float64))
        self.index = [np.rint(part).astype(np.intp) for part in places]
        self.fixed = None if isinstance(net.bias, str) else [np.asarray(b) for b in net.bias]
        self.free = np.ones(net.n_params, dtype=bool)
        for group in groups:
            row = self.index[group.layer][group.units[0]]
            if kind == "saturation":
                self.free[row] = False
            if kind == "exponential" or (kind == "linearisation" and net.has_free_bias):
                self.free[row[-1]] = False

    def parts(self, group: Group) -> tuple[NDArray[np.intp], ...]:
        """Return the places of a group: the rows of its units, then their columns above."""
        rows = [self.index[group.layer][unit] for unit in group.units]
        columns = [self.index[group.layer + 1][:, unit] for unit in group.units]
        return (*rows, *columns)

    def core(self, group: Group) -> NDArray[np.intp]:
        """Return the places of the weights v, of constant length, that a group turns."""
        row = self.index[group.layer][group.units[-1]]
        biased = self.kind == "linearisation" and self.net.has_free_bias
        return np.asarray(row[:-1] if biased else row)

    def offset(self, p: FloatArray, group: Group) -> float:
        """Return the pre-activation b about which a unit becomes linear."""
        if self.net.has_free_bias:
            return float(p[self.index[group.layer][group.units[0]][-1]])
        return 0.0 if self.fixed is None else -float(self.fixed[group.layer][group.units[0]])

    def coordinates(self, theta: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return p and the separations at which the finite network is that of theta."""
        p, eps = np.array(theta), np.ones(len(self.groups))
        for k, group in enumerate(self.groups):
            if self.kind == "channel":
                first, second, above, other = self.parts(group)
                middle, half = 0.5 * (theta[first] + theta[second]), theta[first] - theta[second]
                size = 0.5 * (np.linalg.norm(theta[first]) + np.linalg.norm(theta[second]))
                eps[k] = np.linalg.norm(half) / size
                p[first], p[second] = middle, half / eps[k]
                p[above] = theta[above] + theta[other]
                p[other] = 0.5 * eps[k] * (theta[above] - theta[other])
            elif self.kind == "linearisation":
                core, column = self.core(group), self.parts(group)[1]
                z = self._below(theta, group.layer)[:, : core.size] @ theta[core]
                eps[k] = np.abs(z).max()
                p[core], p[column] = theta[core] / eps[k], theta[column] * eps[k]
                if self.net.has_free_bias:
                    value = float(self.activation(group)(self.offset(p, group)))
                    p[self.index[group.layer + 1][:, -1]] += value * theta[column]
            elif self.kind == "exponential":
                row, column = self.parts(group)
                end, size, rate, _ = TAILS[self.activation(group).name]
                nearest = float((self._below(theta, group.layer) @ theta[row]).max())
                eps[k] = np.exp(rate * nearest)
                p[row[-1]] -= nearest
                p[column] *= size * eps[k]
                p[self.index[group.layer + 1][:, -1]] += end * theta[column]
        return p, eps

    def theta(self, p: FloatArray, eps: FloatArray) -> FloatArray:
        """Return the parameters of the finite network at separations eps > 0."""
        theta = np.array(p)
        for group, e in zip(self.groups, eps, strict=True):
            if self.kind == "channel":
                first, second, above, other = self.parts(group)
                theta[first] = p[first] + 0.5 * e * p[second]
                theta[second] = p[first] - 0.5 * e * p[second]
                theta[above] = 0.5 * p[above] + p[other] / e
                theta[other] = 0.5 * p[above] - p[other] / e
            elif self.kind == "linearisation":
                core, column = self.core(group), self.parts(group)[1]
                theta[core], theta[column] = e * p[core], p[column] / e
                if self.net.has_free_bias:
                    value = float(self.activation(group)(self.offset(p, group)))
                    theta[self.index[group.layer + 1][:, -1]] -= value * p[column] / e
            elif self.kind == "exponential":
                row, column = self.parts(group)
                end, size, rate, _ = TAILS[self.activation(group).name]
                theta[row[-1]] += np.log(e) / rate
                theta[column] = p[column] / (size * e)
                theta[self.index[group.layer + 1][:, -1]] -= end * p[column] / (size * e)
            else:
                row = self.parts(group)[0]
                theta[row] = p[row] / e
        return theta

    def pull(self, rows: FloatArray, p: FloatArray, eps: FloatArray) -> FloatArray:
        """Return derivatives by p, on the last axis, from derivatives by theta."""
        out = np.array(rows)
        for group, e in zip(self.groups, eps, strict=True):
            if self.kind == "channel":
                first, second, above, other = self.parts(group)
                out[..., first] = rows[..., first] + rows[..., second]
                out[..., second] = 0.5 * e * (rows[..., first] - rows[..., second])
                out[..., above] = 0.5 * (rows[..., above] + rows[..., other])
                out[..., other] = (rows[..., above] - rows[..., other]) / e
            elif self.kind == "linearisation":
                core, column = self.core(group), self.parts(group)[1]
                out[..., core], out[..., column] = e * rows[..., core], rows[..., column] / e
                if self.net.has_free_bias:
                    value = float(self.activation(group)(self.offset(p, group)))
                    bias = self.index[group.layer + 1][:, -1]
                    out[..., column] -= value / e * rows[..., bias]
            elif self.kind == "exponential":
                column = self.parts(group)[1]
                end, size, *_ = TAILS[self.activation(group).name]
                bias = self.index[group.layer + 1][:, -1]
                out[..., column] = (rows[..., column] - end * rows[..., bias]) / (size * e)
            else:
                row = self.parts(group)[0]
                out[..., row] = rows[..., row] / e
        return out

    def activation(self, group: Group) -> Activation:
        """Return the activation of a group's layer."""
        return self.net.activations[group.layer]

    def _below(self, theta: FloatArray, layer: int) -> FloatArray:
        """Return the inputs of a layer in the finite network."""
        return self.extended(Parts.of(self.net, theta).outputs(self.X, layer)[1])

    def extended(self, values: FloatArray) -> FloatArray:
        """Return the inputs of a layer, with ones for a free bias."""
        if not self.net.has_free_bias:
            return values
        return np.column_stack([values, np.ones(values.shape[0])])

    def layer(self, p: FloatArray, inputs: FloatArray, layer: int) -> Layer:
        """Return outputs, their derivatives by their own z, and those of gates by another's."""
        sigma = self.net.activations[layer]
        z = inputs @ p[self.index[layer]].T
        if self.fixed is not None:
            z = z - self.fixed[layer]
        values, slopes = np.array(sigma(z)), np.array(sigma.derivative(z))
        crossed: dict[int, tuple[int, FloatArray]] = {}
        for group in (g for g in self.groups if g.layer == layer):
            unit = group.units[-1]
            if self.kind == "channel":
                middle, gate = group.units[0], inputs @ p[self.index[layer][unit]]
                values[:, unit] = gate * slopes[:, middle]
                crossed[unit] = middle, gate * sigma.second_derivative(z[:, middle])
                slopes[:, unit] = slopes[:, middle]
            elif self.kind == "linearisation":
                core = self.core(group)
                slopes[:, unit] = float(sigma.derivative(self.offset(p, group)))
                values[:, unit] = slopes[:, unit] * (inputs[:, : core.size] @ p[core])
            elif self.kind == "exponential":
                rate = TAILS[sigma.name][2]
                values[:, unit] = np.exp(rate * z[:, unit])
                slopes[:, unit] = rate * values[:, unit]
            else:
                values[:, unit] = sigma(np.sign(z[:, unit]) * FAR)
                slopes[:, unit] = 0.0
        return values, slopes, crossed

    def sweep(self, p: FloatArray) -> Sweep:
        """Return the limit network at p."""
        return Sweep(self, p)
