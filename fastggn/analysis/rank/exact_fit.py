"""Construct weights that fit every sample, by solving the output layer (Shen 2018, Prop. 5)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastggn.analysis.rank.duplicates import find_duplicates
from fastggn.analysis.rank.spectrum import FloatArray
from fastggn.kernels.spectrum import RANK_TOLERANCE, numerical_rank, singular_values
from fastggn.network.activations import Activation
from fastggn.network.losses import get_loss
from fastggn.network.mlp import MLP
from fastggn.objective.problem import Problem
from fastggn.runtime.errors import check_finite

# Larger weights make the samples' hidden outputs more independent, until the units saturate.
_SCALES = (1.0, 3.0, 10.0, 30.0)
_DRAWS = 3
_FIT = 1e-8


def exact_fit(net: MLP, X: ArrayLike, Y: ArrayLike, seed: int = 0) -> FloatArray:
    """Return weights, shape (N,), with which the network passes through all samples.

    The earlier layers are the best of several draws at several scales: the one with the best
    conditioned Phi_{L-1}, of rank T. Half of the draws are random; where biases are free, the
    others have units of the last hidden layer that switch between neighbouring samples on a random
    line, one for each gap: rank T for any different inputs. The output layer is the solution of
    minimum norm of ``W_L phi_{L-1} = sigma_L^{-1}(Y)``.

    Parameters
    ----------
    net : MLP
        With n_{L-1} >= T, or n_{L-1} >= T - 1 where the bias is free.
    X : array_like, shape (T, n_0)
        No two rows equal.
    Y : array_like, shape (T, n_L), or (T,) when n_L = 1
        Values of the output activation.
    seed : int

    Raises
    ------
    TypeError
        If an array does not hold real numbers.
    ValueError
        If the last hidden layer is too narrow, two inputs are equal, a target is outside the range
        of the output activation, its inverse is unknown, or no draw gives rank(Phi_{L-1}) = T
        (identity activations never do).

    Examples
    --------
    >>> import fastggn as fg
    >>> from fastggn import analysis
    >>> X, Y = fg.data.xor()
    >>> net = fg.MLP((2, 3, 1))
    >>> theta = analysis.exact_fit(net, X, Y)
    >>> bool(abs(net.predict(theta, X) - Y).max() < 1e-9)
    True
    """
    targets = get_loss("squared").prepare_targets(Y, len(np.asarray(X)), net.n_outputs)
    problem = Problem(net, X, targets)
    _check(problem)
    wanted = _inverse(net.activations[-1], targets)
    if not isinstance(net.bias, str):
        wanted = wanted + net.bias[-1]
    theta = _best_draw(problem, seed)
    phi = problem.layer_outputs(theta)[-2].T
    layers = net.unpack(theta)
    layers[-1] = np.linalg.lstsq(phi, wanted, rcond=RANK_TOLERANCE)[0].T
    theta = net.pack(layers)
    error = float(np.abs(problem.outputs(theta) - targets).max())
    if not error <= _FIT * (float(np.abs(targets).max()) or 1.0):
        raise ValueError(
            f"the fit is off by {error:.2g}: Phi_(L-1) is too ill-conditioned for these inputs; "
            "standardise X, widen the network, or try another seed or activation"
        )
    return theta


def _check(problem: Problem) -> None:
    net, T = problem.network, problem.n_samples
    width = net.layer_shapes[-1][1]
    if width < T:
        spare = " - 1" if net.has_free_bias else ""
        raise ValueError(
            f"net must have n_(L-1) >= T{spare} units before the output layer to fit T = {T} "
            f"samples this way, got {net.widths[-2]}"
        )

    def read(start: int, stop: int) -> FloatArray:
        return problem.read_samples(start, stop)[0]

    loss, ones = problem.loss_function, np.ones(T)
    same = find_duplicates(read, T, net.n_inputs, problem.targets, ones, loss)
    if same.groups:
        raise ValueError(f"X holds {same.groups} sets of equal rows: rank(Phi_(L-1)) cannot be T")


def _best_draw(problem: Problem, seed: int) -> FloatArray:
    net, T = problem.network, problem.n_samples
    rng, seeds = np.random.default_rng(seed), np.random.default_rng([seed, 1])
    best, best_rcond, best_rank = np.zeros(net.n_params), 0.0, 0
    for scale in _SCALES:
        for _ in range(_DRAWS):
            draws = [net.init(rng, "normal", scale)]
            if net.has_free_bias and net.n_layers > 1:
                draws.append(_switching(net, problem.read_samples(0, T)[0], scale, seeds))
            for theta in draws:
                s = singular_values(problem.layer_outputs(theta)[-2])
                best_rank = max(best_rank, numerical_rank(s).rank)
                rcond = float(s[T - 1] / s[0]) if s[0] > 0.0 else 0.0
                if rcond > best_rcond:
                    best, best_rcond = theta, rcond
    if best_rank < T:
        names = ", ".join(sorted({a.name for a in net.activations[:-1]})) or "no hidden layer"
        raise ValueError(
            f"rank(Phi_(L-1)) must be T = {T}, but the best of all draws has {best_rank} "
            f"(activations: {names}; widths {net.widths})"
        )
    return best


def _switching(net: MLP, inputs: FloatArray, scale: float, rng: np.random.Generator) -> FloatArray:
    """Return weights whose last hidden units switch between the samples along a random line."""
    layers: list[FloatArray] = []
    phi = inputs
    for number, (n_units, _) in enumerate(net.layer_shapes[:-1], 1):
        centred = phi - phi.mean(axis=0)
        size = float(np.abs(centred).max()) or 1.0
        if number < net.n_layers - 1:
            weights = rng.standard_normal((n_units, phi.shape[1])) / size
            # Units that are active at all samples keep the samples different, also for ReLU.
            offset = -(phi @ weights.T).min(axis=0)
        else:
            line = rng.standard_normal(phi.shape[1]) / size
            places = np.sort(phi @ line)
            gaps = np.maximum(np.diff(places), np.finfo(float).tiny)
            k = np.arange(n_units) % max(gaps.size, 1)
            # Units beyond one for each gap repeat the gaps with other slopes.
            slopes = scale * (1.0 + np.arange(n_units) // max(gaps.size, 1)) / gaps[k]
            weights = slopes[:, None] * line
            offset = -slopes * (places[:-1] + 0.5 * np.diff(places))[k]
        layers.append(np.column_stack([weights, offset]))
        phi = net.activations[number - 1](phi @ weights.T + offset)
    return net.pack([*layers, np.zeros(net.layer_shapes[-1])])


def has_inverse(activation: Activation) -> bool:
    """Return whether `exact_fit` knows the inverse of an output activation."""
    return activation.name in _INVERSES or (
        activation.name == "leaky_relu" and activation.param > 0.0
    )


# name: (inverse, whether y is in the range, the range in words)
_INVERSES: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any], str]] = {
    "identity": (lambda y: y, lambda y: y == y, "any number"),
    "sigmoid": (lambda y: np.log(y) - np.log1p(-y), lambda y: (y > 0) & (y < 1), "in (0, 1)"),
    "tanh": (np.arctanh, lambda y: np.abs(y) < 1, "in (-1, 1)"),
    "softsign": (lambda y: y / (1 - np.abs(y)), lambda y: np.abs(y) < 1, "in (-1, 1)"),
    "softplus": (lambda y: y + np.log(-np.expm1(-y)), lambda y: y > 0, "positive"),
    "bent_identity": (
        lambda y: (2 * (2 * y + 1) - np.sqrt((2 * y + 1) ** 2 + 3)) / 3,
        lambda y: y == y,
        "any number",
    ),
    "relu": (lambda y: y, lambda y: y >= 0, "not negative"),
    "square": (np.sqrt, lambda y: y >= 0, "not negative"),
}


def _inverse(activation: Activation, targets: FloatArray) -> FloatArray:
    name = activation.name
    if name == "leaky_relu" and activation.param > 0.0:
        return np.where(targets > 0.0, targets, targets / activation.param)
    if not has_inverse(activation):
        raise ValueError(f"the output activation {name!r} has no inverse that is known here")
    inverse, inside, words = _INVERSES[name]
    bad = ~inside(targets)
    if bad.any():
        i, c = (int(k) for k in np.argwhere(bad)[0])
        raise ValueError(f"Y[{i}, {c}] is {targets[i, c]}; values of {name} are {words}")
    found = np.asarray(inverse(targets), dtype=np.float64)
    check_finite("Y (through the inverse of the output activation)", found)
    return found
