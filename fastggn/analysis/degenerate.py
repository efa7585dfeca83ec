"""Degenerate activation points: sigma = sigma' = 0 at every sample, in all units of a layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastggn.analysis.magnitudes import finite
from fastggn.analysis.plain import plain
from fastggn.network.activations import Activation
from fastggn.objective.kinds import check_samples
from fastggn.objective.problem import Problem
from fastggn.runtime.comm import require_serial
from fastggn.runtime.errors import as_float_vector, as_real, check_finite, check_positive

FloatArray = NDArray[np.float64]
FLAT = 1e-12  # share of the largest modulus up to which a negative eigenvalue is rounding
STATIONARY = 1e-10  # share of the mean of |J_ij r_i| up to which a gradient is rounding
# Activations with sigma(z) = 0 for all z < 0.
DEAD_BELOW_ZERO = ("relu",)
DISTANCES = np.concatenate([[0.0], np.logspace(-12, 6, 181)])  # at which a promise is tried
ATTEMPTS = 20  # random first layers, to find a lower loss
DRAWS_AT_ONCE = 1 << 22


@dataclass(frozen=True, eq=False)
class DegenerateActivation:
    """A point with sigma = sigma' = 0 in all units of a layer, and its curvature.

    The outputs are then the same for all samples. To second order the parameters up to the layer
    and those above it do not meet: the Hessian falls into two blocks.

    Attributes
    ----------
    holds : bool
        Whether the point is degenerate; all else is None or empty if not.
    layer : int or None
        The hidden layer, from 1.
    critical : bool
        Whether the gradient vanishes: all but that of free biases above the layer, and of weights
        that these reach, vanishes by itself.
    eigenvalues : ndarray, or None
        Of the Hessian's block of the layers 1 to `layer`, in increasing order.
    direction : ndarray, shape (N,), or None
        Unit vector of the lowest eigenvalue of either block, if that is negative.
    locally_constant : bool
        Whether sigma vanishes on a neighbourhood of all its arguments: around the point the
        outputs depend on nothing up to the layer.
    label : str
        "not_degenerate", "not_critical", "strict_saddle" (negative curvature),
        "flat_local_minimum" (locally constant, and what is above the layer is optimal or changes
        nothing: a non-strict local minimum), or "undecided".
    loss : float
    lower_loss : float or None
        At a flat local minimum, the loss of another point if a lower one was found.
    """

    holds: bool
    layer: int | None = None
    critical: bool = False
    eigenvalues: FloatArray | None = None
    direction: FloatArray | None = None
    locally_constant: bool = False
    label: str = "not_degenerate"
    loss: float = float("nan")
    lower_loss: float | None = None

    @property
    def lowest(self) -> float | None:
        """The lowest of `eigenvalues`, None where there are none."""
        return None if self.eigenvalues is None else float(self.eigenvalues[0])

    @property
    def spurious(self) -> bool:
        """Whether the point is shown to be a local minimum that is not global."""
        return self.lower_loss is not None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        names = ("holds", "layer", "critical", "label", "loss", "lower_loss", "locally_constant")
        return plain(self, *names, "spurious", "eigenvalues")

    def __str__(self) -> str:
        if not self.holds:
            return "no degenerate activation point: sigma or sigma' is not zero somewhere"
        curvature = "" if self.lowest is None else f", lowest curvature {self.lowest:.3g}"
        lower = "" if self.lower_loss is None else f"; elsewhere {self.lower_loss:.6g}"
        return (
            f"degenerate activation point in layer {self.layer}, {self.label}: loss "
            f"{self.loss:.6g}{curvature}{lower}"
        )


def degenerate_activation(
    problem: Problem, theta: ArrayLike, *, tol: float = 0.0, zero_below: float | None = None
) -> DegenerateActivation:
    """Test for a degenerate activation point and for negative curvature there.

    With ``sigma = sigma' = 0`` at all samples in the last hidden layer the gradient vanishes
    without biases (Corollaries 1.1 and 4.1 of O'Leary-Roseberry and Ghattas 2020); with free biases
    the output's must be the mean of the targets. The same holds in any hidden layer, with what is
    above it in place of the output. The Hessian is nonzero in the block of the layers below only,
    ``v^T H v = sum_i sigma''(z_i) (W^T delta_i) (dz_i)^2`` with dz the change of the layer's
    pre-activations along v and delta the error sent back (Theorem 3 in a shallow network; its Eq.
    20 has the sign reversed), and in that above. Corollary 3.3 (zero Hessian, hence local minimum)
    is false; a local minimum is certain where sigma vanishes on a neighbourhood.

    Parameters
    ----------
    problem : Problem
        At least one hidden layer, an identity output, squared loss, no l2, no gates.
    theta : array_like, shape (N,)
    tol : float
        Largest ``|sigma|`` and ``|sigma'|`` that count as zero.
    zero_below : float, optional
        Of custom activations: your word that sigma(z) = 0 for all z below. It is tried at some
        points; values at the samples alone prove no local minimum.

    Raises
    ------
    TypeError
        If `problem` has equations.
    ValueError
        If the problem is of another kind, theta, `tol` or `zero_below` is not valid, or sigma or
        sigma' is not zero at a point below `zero_below`.
    """
    instead = "critical_point classifies the points of equations"
    check_samples(problem, "degenerate_activation", instead)
    tol = check_positive("tol", tol, zero=True)
    require_serial(problem.comm, "degenerate_activation")
    net = problem.network
    if net.n_layers < 2 or net.activations[-1].name != "identity":
        raise ValueError(
            "problem must have a hidden layer and an identity output, got widths "
            f"{net.widths}, output {net.activations[-1].name!r}"
        )
    if problem.loss_function.name != "squared" or problem.l2 > 0.0 or problem.gated:
        raise ValueError("problem must have the squared loss, l2=0 and no gates")
    if zero_below is not None:
        _try_promise(net.activations[:-1], float(zero_below))
    point = as_float_vector("theta", theta, net.n_params)
    arguments = _arguments(problem, point)
    layer, constant = _degenerate_layer(problem, point, arguments, tol, zero_below)
    if layer == 0:
        return DegenerateActivation(False)
    loss = problem.loss(point)
    if not _is_stationary(problem, point, tol):
        label = "not_critical"
        return DegenerateActivation(True, layer, locally_constant=constant, label=label, loss=loss)
    values, direction = _curvature(problem, point, layer)
    if _on_a_kink(problem, arguments, layer, constant):
        direction = None  # the second derivatives are not those of every side
    label, lower = "undecided", None
    if direction is not None:
        label = "strict_saddle"
    elif constant and _optimal_above(problem, point, layer):
        label, lower = "flat_local_minimum", _lower_loss(problem, loss)
    return DegenerateActivation(True, layer, True, values, direction, constant, label, loss, lower)


def _try_promise(activations: tuple[Activation, ...], zero_below: float) -> None:
    """Refuse a promise that a custom activation does not keep."""
    check_finite("zero_below", np.array([zero_below]))
    z = np.nextafter(zero_below, -np.inf) - DISTANCES
    for activation in activations:
        if not activation.address:
            continue
        wrong = (activation(z) != 0.0) | (activation.derivative(z) != 0.0)
        if wrong.any():
            raise ValueError(
                f"zero_below={zero_below:g}: {activation.name} or its derivative is not zero at "
                f"{z[int(np.argmax(wrong))]:.6g}"
            )


def _arguments(problem: Problem, theta: FloatArray) -> list[FloatArray]:
    """Return the pre-activations of the hidden layers, of shape (n_l, T) each."""
    net = problem.network
    found = []
    inputs = problem.layer_outputs(theta)
    for number, weights in enumerate(net.unpack(theta)[:-1]):
        z = weights @ inputs[number]
        found.append(z if isinstance(net.bias, str) else z - net.bias[number][:, None])
    return found


def _degenerate_layer(
    problem: Problem,
    theta: FloatArray,
    arguments: list[FloatArray],
    tol: float,
    zero_below: float | None,
) -> tuple[int, bool]:
    """Return the last degenerate hidden layer, or 0, and whether it is locally constant.

    One that is locally constant goes before one that is not.
    """
    net, outputs = problem.network, problem.layer_outputs(theta)
    found = (0, False)
    for layer, z in enumerate(arguments, start=1):
        activation = net.activations[layer - 1]
        values = outputs[layer][: net.widths[layer]]
        if max(np.abs(values).max(), np.abs(activation.derivative(z)).max()) > tol:
            continue
        edge = 0.0 if activation.name in DEAD_BELOW_ZERO else None
        if activation.address:
            edge = zero_below
        constant = edge is not None and bool((z < edge).all())
        if constant or not found[1]:
            found = (layer, constant)
    return found


def _on_a_kink(problem: Problem, arguments: list[FloatArray], layer: int, constant: bool) -> bool:
    """Whether a unit may stand where its activation has no second derivative."""
    for number, z in enumerate(arguments, start=1):
        activation = problem.network.activations[number - 1]
        if activation.smoothness == 2 or (number == layer and constant):
            continue
        if activation.address or (z == 0.0).any():  # of custom ones nobody knows where
            return True
    return False


def _is_stationary(problem: Problem, theta: FloatArray, tol: float) -> bool:
    """Whether the gradient is zero but for rounding, and for what `tol` counts as zero."""
    errors = np.abs(problem.outputs(theta) - problem.targets)
    errors *= problem.relative_weights[:, None] / problem.n_samples
    scale = np.abs(problem.jacobian(theta).to_dense()).T @ errors.ravel()
    sizes = [1.0 + float(np.linalg.norm(W)) for W in problem.network.unpack(theta)]
    allowed = STATIONARY * scale + tol * float(errors.sum() * np.prod(sizes))
    return bool((np.abs(problem.gradient(theta)) <= allowed).all())


def _curvature(
    problem: Problem, theta: FloatArray, layer: int
) -> tuple[FloatArray, FloatArray | None]:
    """Return the eigenvalues up to the layer, and a direction of negative curvature."""
    hessian = finite(problem.hessian(theta), "the Hessian")
    cut = sum(n * m for n, m in problem.network.layer_shapes[:layer])
    values, vectors = np.linalg.eigh(hessian[:cut, :cut])
    above, others = np.linalg.eigh(hessian[cut:, cut:])
    direction = np.zeros(len(theta))
    if values[0] <= above[0]:
        direction[:cut] = vectors[:, 0]
    else:
        direction[cut:] = others[:, 0]
    largest = max(np.abs(values).max(), np.abs(above).max())
    negative = min(values[0], above[0]) < -FLAT * largest
    return values, direction if negative else None


def _optimal_above(problem: Problem, theta: FloatArray, layer: int) -> bool:
    """Whether no parameters above a layer whose outputs are 0 give a lower loss nearby."""
    net = problem.network
    if not net.has_free_bias:
        upper = net.activations[layer:-1]
        silent = all(float(a(np.zeros(1))[0]) == 0.0 for a in upper)
        if layer == net.n_layers - 1 or (net.bias == "none" and silent):
            return True
    # The best constant is the mean of the targets.
    share = problem.relative_weights[:, None] / problem.relative_weights.sum()
    mean = (share * problem.targets).sum(axis=0)
    spread = 1e-12 * (share * np.abs(problem.targets)).sum(axis=0)
    return bool((np.abs(problem.outputs(theta)[0] - mean) <= spread).all())


def _lower_loss(problem: Problem, loss: float) -> float | None:
    """Return a lower loss, from random hidden layers and the best output layer, if one is found."""
    net = problem.network
    root = np.sqrt(problem.relative_weights)[:, None]
    for seed in range(ATTEMPTS):
        layers = net.unpack(net.init(seed, "normal"))
        layers[-1] = np.zeros_like(layers[-1])
        offset = problem.outputs(net.pack(layers))
        hidden = problem.layer_outputs(net.pack(layers))[-2].T
        best = np.linalg.lstsq(root * hidden, root * (problem.targets - offset), rcond=None)[0]
        layers[-1] = best.T
        found = problem.loss(net.pack(layers))
        if found < (1.0 - 1e-9) * loss:
            return float(found)
    return None


@dataclass(frozen=True)
class DegenerateProbability:
    """Probability that Gaussian weights make every hidden unit of a ReLU layer dead at all samples.

    Attributes
    ----------
    estimate, standard_error : float
        For one unit, by Monte Carlo.
    exact : float or None
        For one unit, where there is a closed form.
    n_hidden : int
    heuristic : float
        ``2^-T`` for one unit, as in the paper's ``2^(-r d)``; right for orthogonal samples.
    """

    estimate: float
    standard_error: float
    exact: float | None
    n_hidden: int
    heuristic: float

    @property
    def layer(self) -> float:
        """The probability that all units are dead, as they are independent."""
        return float((self.estimate if self.exact is None else self.exact) ** self.n_hidden)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {**vars(self), "layer": self.layer}

    def __str__(self) -> str:
        exact = "no closed form" if self.exact is None else f"exact {self.exact:.6g}"
        return (
            f"one unit asleep: {self.estimate:.6g} +- {self.standard_error:.1g} ({exact}, "
            f"2^-T = {self.heuristic:.3g}); all {self.n_hidden}: {self.layer:.3g}"
        )


def degenerate_probability(
    X: ArrayLike, n_hidden: int, *, n_draws: int = 100_000, seed: int | None = 0
) -> DegenerateProbability:
    """Estimate the probability that random Gaussian weights make a ReLU layer dead at all samples.

    For one unit it is the share of directions w with ``w . x < 0`` for all samples, a cone. One or
    two inputs, up to three samples, and orthogonal samples have a closed form.

    Parameters
    ----------
    X : array_like, shape (T, n_0)
        Samples, none of them zero; no biases.
    n_hidden : int
    n_draws : int
    seed : int, optional

    Raises
    ------
    ValueError
        If X has a wrong shape, is not finite or holds a zero sample, or a count is below 1.
    """
    samples = as_real("X", X)
    if samples.ndim != 2 or samples.size == 0:
        raise ValueError(f"X must have shape (T, n_0), got {samples.shape}")
    check_finite("X", samples)
    if n_hidden < 1 or n_draws < 1:
        raise ValueError(f"n_hidden and n_draws must be at least 1, got {n_hidden}, {n_draws}")
    lengths = np.linalg.norm(samples, axis=1)
    if (lengths == 0.0).any():
        raise ValueError(f"X[{int(np.argmin(lengths))}] is zero: no weight makes it negative")
    units = samples / lengths[:, None]
    rng = np.random.default_rng(seed)
    hits, done = 0, 0
    step = max(1, DRAWS_AT_ONCE // (units.size + len(units)))
    while done < n_draws:
        count = min(step, n_draws - done)
        draws = rng.standard_normal((count, units.shape[1]))
        hits += int(np.count_nonzero((draws @ units.T < 0.0).all(axis=1)))
        done += count
    share = hits / n_draws
    error = float(np.sqrt(max(share * (1.0 - share), 1.0 / n_draws) / n_draws))
    return DegenerateProbability(
        share, error, _cone_share(units), int(n_hidden), 2.0 ** -len(units)
    )


def _cone_share(units: FloatArray) -> float | None:
    """Return the share of directions that make an obtuse angle with all unit vectors."""
    T, n = units.shape
    cosines = np.clip(units @ units.T, -1.0, 1.0)
    if n == 1:
        return 0.5 if np.ptp(units) == 0.0 else 0.0
    if n == 2:
        # The samples fit into a half-plane if their largest gap exceeds pi.
        angles = np.sort(np.arctan2(units[:, 1], units[:, 0]))
        gaps = np.diff(np.concatenate([angles, [angles[0] + 2.0 * np.pi]]))
        return float(max(gaps.max() - np.pi, 0.0) / (2.0 * np.pi))
    if T <= 3:
        between = np.arccos(cosines[np.triu_indices(T, 1)])
        if T == 3:
            return float((2.0 * np.pi - between.sum()) / (4.0 * np.pi))
        return float((np.pi - between.sum()) / (2.0 * np.pi)) if T == 2 else 0.5
    orthogonal = bool(np.abs(cosines - np.eye(T)).max() <= 1e-14)
    return float(2.0**-T) if orthogonal else None
