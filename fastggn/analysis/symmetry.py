"""Networks that compute the same with more or fewer hidden units.

Splitting a unit embeds a critical point of a narrower network in a wider one, as a line (Fukumizu
and Amari 2000, "Local minima and plateaus in hierarchical structures of multilayer perceptrons";
Simsek et al. 2021, "Geometry of the loss landscape in overparameterized neural networks").
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastggn.analysis.hidden_units import Parts
from fastggn.analysis.magnitudes import finite
from fastggn.network.mlp import MLP
from fastggn.objective.problem import Problem
from fastggn.objective.residual_problem import ResidualProblem
from fastggn.runtime.comm import comm_of, require_serial
from fastggn.runtime.errors import as_float_vector, check_positive

FloatArray = NDArray[np.float64]

TOLERANCE = 1e-10


def split_unit(
    net: MLP, theta: ArrayLike, layer: int, unit: int, gamma: float = 0.5
) -> tuple[MLP, FloatArray]:
    """Return a network with one unit twice, and parameters with the same outputs.

    Both copies have the unit's incoming weights; of the outgoing weights a one has gamma a, the
    other (1 - gamma) a. A critical point stays one, for every gamma.

    Source: Fukumizu and Amari (2000), "Local minima and plateaus in hierarchical structures of
    multilayer perceptrons".

    Parameters
    ----------
    net : MLP
    theta : array_like, shape (N,)
    layer, unit : int
        A hidden layer, 1 for the first, and its unit, 1 for the first. The copy is the last unit.
    gamma : float

    Returns
    -------
    net : MLP
    theta : ndarray

    Raises
    ------
    ValueError
        If there is no such unit, or `theta` is not valid.
    """
    parts = Parts.of(net, theta)
    j = parts.check(layer, unit)
    share = float(gamma)
    if not np.isfinite(share):
        raise ValueError(f"gamma must be finite, got {gamma}")
    outgoing = parts.weights[layer][:, j].copy()
    bias = None if parts.bias is None else parts.bias[layer - 1][j]
    parts.append(layer, parts.weights[layer - 1][j], (1.0 - share) * outgoing, bias)
    parts.weights[layer][:, j] = share * outgoing
    return parts.network()


def add_unit(
    net: MLP,
    theta: ArrayLike,
    layer: int,
    *,
    incoming: ArrayLike | None = None,
    outgoing: ArrayLike | None = None,
) -> tuple[MLP, FloatArray]:
    """Return a network with one more unit, and parameters with the same outputs.

    Parameters
    ----------
    net : MLP
    theta : array_like, shape (N,)
    layer : int
        The hidden layer, 1 for the first. The new unit is its last one.
    incoming : array_like, shape (m_l,), optional
        The weights into the unit, a free bias last; its outgoing weights are then zero.
    outgoing : array_like, shape (n_{l+1},), optional
        The weights out of the unit; its incoming weights are then zero.

    Raises
    ------
    ValueError
        If not exactly one of the two is given, a shape is wrong, or a unit without incoming weights
        is not zero and there is no free bias that could take its output back.
    """
    parts = Parts.of(net, theta)
    parts.check(layer, 1)
    if (incoming is None) == (outgoing is None):
        raise ValueError("give either incoming= (then outgoing weights are 0) or outgoing=")
    above, below = parts.weights[layer], parts.weights[layer - 1]
    a, w = np.zeros(above.shape[0]), np.zeros(below.shape[1])
    if incoming is not None:
        w = as_float_vector("incoming", incoming, w.size)
    else:
        a = as_float_vector("outgoing", outgoing, a.size)
        constant = float(net.activations[layer - 1](0.0))
        if constant:
            parts.fold_constant(layer, constant * a, sign=-1.0)
    parts.append(layer, w, a, None if parts.bias is None else 0.0)
    return parts.network()


def merge_units(
    net: MLP, theta: ArrayLike, layer: int, first: int, second: int, tolerance: float = TOLERANCE
) -> tuple[MLP, FloatArray]:
    """Return a network without the second of two units that compute the same, and its parameters.

    The units may also be sign-flipped copies of an odd or even activation or of the sigmoid, or
    multiples of each other before a homogeneous one (ReLU).

    Parameters
    ----------
    net : MLP
    theta : array_like, shape (N,)
    layer, first, second : int
        A hidden layer, 1 for the first, and two of its units, 1 for the first.
    tolerance : float
        Of the incoming weights, relative to the larger unit's.

    Raises
    ------
    ValueError
        If the units do not compute the same up to sign and factor, or there is no such unit.
    """
    parts = Parts.of(net, theta)
    i, j = parts.check(layer, first), parts.check(layer, second)
    found = None if i == j else parts.relation(layer, i, j, check_positive("tolerance", tolerance))
    if found is None:
        raise ValueError(f"units {first} and {second} of layer {layer} do not compute the same")
    parts.fold(layer, j, i, *found[:2])
    return parts.network()


@dataclass(frozen=True, eq=False)
class EffectiveWidth:
    """A network without the units that change nothing.

    Attributes
    ----------
    widths : tuple of int
        Of the reduced network.
    network : MLP
    theta : ndarray
    steps : tuple of str
        What was removed, and why, in order.
    everywhere : bool
        Whether the outputs agree for every input; if not, for the samples of the problem.
    error : float
        The largest difference of an output at the samples, over the largest output.
    """

    widths: tuple[int, ...]
    network: MLP
    theta: FloatArray
    steps: tuple[str, ...]
    everywhere: bool
    error: float

    def __str__(self) -> str:
        widths = ",".join(map(str, self.widths))
        where = "for every input" if self.everywhere else "at the samples"
        end = f"same outputs {where}, to {self.error:.1e}"
        return "\n".join([f"effective width  F({widths}); {end}", *self.steps])


def effective_width(
    problem: Problem | ResidualProblem, theta: ArrayLike, *, tolerance: float = TOLERANCE
) -> EffectiveWidth:
    """Remove hidden units that change nothing: copies, constant, dead, linear and unused units.

    Parameters
    ----------
    problem : Problem or ResidualProblem
        Without gates, on one rank. Equations read derivatives, which may change where the outputs
        at the points do not: there only units that change nothing for any input go.
    theta : array_like, shape (N,)
    tolerance : float
        Up to this share of the largest one, weights are equal or zero and outputs constant. What
        changes the layer above by more than this share stays.

    Returns
    -------
    EffectiveWidth
        Every hidden layer keeps at least one unit.

    Raises
    ------
    ValueError
        If the problem has gates or is spread over ranks, or an argument is not valid.
    """
    require_serial(comm_of(problem), "effective_width")
    if problem.gated:
        raise ValueError("effective_width needs a problem without gates")
    net, tolerance = problem.network, check_positive("tolerance", tolerance)
    point = as_float_vector("theta", theta, problem.n_params)
    if isinstance(problem, ResidualProblem):
        return reduced(net, point[: net.n_params], np.zeros((0, net.n_inputs)), tolerance)
    X, _ = problem.read_samples(0, problem.n_samples)
    return reduced(net, point, np.array(X), tolerance)


def embedding(problem: Problem | ResidualProblem, theta: FloatArray) -> str | None:
    """Return the narrower network that a point is an embedding of, and why; None if there is none.

    The outputs agree for every input, and a critical point of one is one of the other.
    """
    net = problem.network
    if problem.gated:
        return None
    found = reduced(net, theta[: net.n_params], np.zeros((0, net.n_inputs)))
    if not found.steps:
        return None
    return f"F({','.join(map(str, found.widths))}): {'; '.join(found.steps)}"


def reduced(
    net: MLP, theta: FloatArray, X: FloatArray, tolerance: float = TOLERANCE
) -> EffectiveWidth:
    """Return a network without the units that change nothing at the samples, shape (T, n_0).

    Without samples, T = 0, it is without those that change nothing for any input.
    """
    parts, steps, everywhere = Parts.of(net, theta), [], True
    before = finite(net.predict(theta, X), "an output") if X.shape[0] else X
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        while (step := parts.shrink(X, tolerance)) is not None:
            steps.append(step[0])
            everywhere = everywhere and step[1]
    network, vector = parts.network()
    error = 0.0
    if X.shape[0]:
        after = finite(network.predict(vector, X), "an output of the narrower network")
        error = float(np.abs(before - after).max()) / (float(np.abs(before).max()) or 1.0)
    return EffectiveWidth(network.widths, network, vector, tuple(steps), everywhere, error)
