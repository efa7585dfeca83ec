"""Whether a fit is on the way to a minimum at infinity, and which."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastggn.analysis.critical.polishing import polish
from fastggn.analysis.infinity import candidates
from fastggn.analysis.infinity.approach import Approach, foresee
from fastggn.analysis.infinity.families import TURNING, Family
from fastggn.analysis.infinity.fitting import Fit, Fitter
from fastggn.analysis.infinity.report import Label, MinimumAtInfinity
from fastggn.analysis.magnitudes import usable_point
from fastggn.objective.kinds import check_samples
from fastggn.objective.problem import Problem
from fastggn.runtime.comm import comm_of, require_serial
from fastggn.runtime.errors import as_float_vector
from fastggn.runtime.threads import one_pool
from fastggn.training.control.infinity import classes_are_separated

FloatArray = NDArray[np.float64]

EPS = float(np.finfo(np.float64).eps)
LADDER = (0.02, 0.04, 0.08, 0.16)  # separations at which the finite networks are fitted
CLOSER = (1.0, 0.1, 0.01)  # factors of them, tried in turn
EXPONENTS = (14.0, 12.0, 10.0, 8.0)  # of saturated units: exp(-these) is how far they are
HIDDEN = 20.0  # exponent of a unit whose last samples are beyond rounding
CLOSEST = 1e-5  # separations below are not fitted: outgoing weights of 1e5 cancel
CONVEX = 1e-8  # least scaled eigenvalue of the limit's Hessian
EXACT = 1e-16  # loss of an exact fit, over that of zero parameters
ROUNDING = 1e-12  # of losses, relative
ORDER, SIZE, SAME = 0.15, 0.1, 0.5  # allowed errors of rate and size, and of the start's valley
SETTLED = 1e-9  # a Newton step of this share of theta has arrived
NEAR, AT = 0.2, 1e-4  # shares of theta within which a minimum, or a saddle, is near
MOVED = 0.5  # share of the coordinates by which the limit network may differ from theta
MOST = 400  # parameters, up to which a verdict is tried


def minimum_at_infinity(problem: Problem, theta: ArrayLike) -> MinimumAtInfinity:
    """Decide whether a fit is on the way to a minimum at infinity.

    Ways that lead there: a channel (incoming weights of two units merge while their outgoing
    weights run apart; in the limit they are a gated unit), units that become exponential or linear,
    saturated units, and classes that are separated. A minimum at infinity is claimed only where

    - the loss falls on the way from theta, by fits at ever smaller separations of the units, and
      the limit network is near theta, in coordinates that stay finite;
    - the limit network, fitted from there, has a vanishing gradient, a positive definite Hessian
      (or is an exact fit), and a loss below those at theta and at a stationary point nearby;
    - finite networks at growing separations, fitted in their other weights, have losses above
      it that fall with the rate and by the amount that the limit network foretells.

    Parameters
    ----------
    problem : Problem
        Without gates, on one rank.
    theta : array_like, shape (N,)
        The end of a fit, converged or not.

    Returns
    -------
    MinimumAtInfinity

    Raises
    ------
    TypeError, ValueError
        If it is no `Problem`, has gates or is spread over ranks, or `theta` is not valid.

    Notes
    -----
    Source: Martinelli, van Meegen, Simsek, Gerstner and Brea (2025), "Flat channels to infinity in
    neural loss landscapes". Everything is dense, for some hundred parameters.
    """
    check_samples(problem, "minimum_at_infinity", "train says whether a run diverges")
    require_serial(comm_of(problem), "minimum_at_infinity")
    if problem.gated:
        raise ValueError("minimum_at_infinity needs a problem without gates")
    point = as_float_vector("theta", theta, problem.n_params)
    usable_point(problem, point)
    with one_pool(), np.errstate(all="ignore"):
        return _decide(problem, point)


def undecided(reason: str, label: Label = "undecided") -> MinimumAtInfinity:
    """Return a verdict without a limit."""
    return MinimumAtInfinity(label, None, (), np.nan, np.nan, np.nan, reason)


def _decide(problem: Problem, theta: FloatArray) -> MinimumAtInfinity:
    if problem.l2 > 0.0:
        return undecided("not asked with weight decay, which bounds the weights")
    if classes_are_separated(problem, problem.at(theta)):
        return _separated(problem, theta)
    if problem.n_params > MOST:
        return undecided(f"more than {MOST} parameters")
    found = _finite(problem, theta)
    if found:
        return undecided(found, "finite")
    reasons = []
    for family, turned in _families(problem, theta):
        try:
            verdict = _examine(family, turned)
        except np.linalg.LinAlgError as error:  # a network on the way leaves float64
            verdict = undecided(f"{_named(family)}: {error}")
        if verdict.label == "minimum_at_infinity":
            return verdict
        reasons.append(verdict.reason)
    return undecided("; ".join(dict.fromkeys(reasons)) or "no unit runs to infinity")


def _families(problem: Problem, theta: FloatArray) -> Iterator[tuple[Family, FloatArray]]:
    turned = candidates.aligned(problem, theta)
    for find in (candidates.saturated_units, candidates.channels, candidates.linear_units):
        for family in find(problem, turned):
            yield family, turned
    yield from candidates.tail_units(problem, theta)


def _finite(problem: Problem, theta: FloatArray) -> str:
    """Return why Newton steps end at a finite stationary point nearby, or an empty string."""
    here, size, word, near = np.array(theta), float(np.linalg.norm(theta)) or 1.0, "minimum", NEAR
    for _ in range(12):
        gradient, hessian = problem.gradient(here), problem.hessian(here)
        if not np.isfinite(hessian).all():
            return ""
        values, vectors = np.linalg.eigh(hessian)
        if np.abs(values).min() <= 100.0 * values.size * EPS * np.abs(values).max():
            return ""
        if values[0] < 0.0:
            word, near = "saddle", AT
        step = -vectors @ ((vectors.T @ gradient) / values)
        here = here + step
        if not np.linalg.norm(here - theta) <= near * size:
            return ""
        if np.linalg.norm(step) <= SETTLED * size:
            moved = float(np.linalg.norm(here - theta)) / size
            return (
                f"Newton steps end at a {word} nearby (loss {problem.loss(here):.8g}, theta moves "
                f"by {moved:.1e} of its size), lowest eigenvalue {values[0]:.2e}"
            )
    return ""


def _separated(problem: Problem, theta: FloatArray) -> MinimumAtInfinity:
    """Follow the output layer to infinity, where all samples are in their classes."""
    outputs, targets = problem.outputs(theta), problem.targets
    if problem.loss_function.name == "logistic":
        margin = float(np.abs(outputs).min())
    else:
        right = np.where(targets > 0.5, outputs, -np.inf).max(axis=1)
        margin = float((right - np.where(targets > 0.5, -np.inf, outputs).max(axis=1)).min())
    places = problem.network.unpack(np.arange(theta.size, dtype=np.float64))[-1].astype(int).ravel()
    fixed = not isinstance(problem.network.bias, str)
    # The steps outwards: far enough for the nearest samples to rule, as the losses show.
    scales = np.array([1.0, 1.5, 2.0, 2.5]) * max(1.0, 15.0 / margin)
    points = [np.array(theta) for _ in scales]
    for point, scale in zip(points, scales, strict=True):
        point[places] *= scale
    if not np.isfinite(points).all():
        return undecided("the classes are separated by a margin that is too small")
    losses = np.array([problem.loss(point) for point in points])
    rate = float(np.log(losses[-2] / losses[-1]) / (scales[-1] - scales[-2]))
    if fixed or not (np.diff(losses) < 0.0).all() or not abs(rate / margin - 1.0) <= 0.1:
        return undecided("the classes are separated, but the loss falls otherwise")
    norms = np.array([np.linalg.norm(point) for point in points])
    reason = f"every sample is in its class, by {margin:.3g} at least"
    unit = ((problem.network.n_layers,),)
    path = 1.0 / scales, losses, norms
    return MinimumAtInfinity(
        "minimum_at_infinity", "separation", unit, 0.0, rate, margin, reason, *path
    )


def _named(family: Family) -> str:
    return ", ".join(map(str, family.groups))


def _examine(family: Family, theta: FloatArray) -> MinimumAtInfinity:
    """Try to prove that the groups of a family run to infinity from theta."""
    problem, named = family.problem, _named(family)
    here = problem.loss(theta)
    reference = max(here, problem.loss(np.zeros(theta.size)))
    fitter = Fitter(family, 1e-10 * EXACT * reference)
    rounding = ROUNDING * here + 1e-4 * EXACT * reference
    p, eps = family.coordinates(theta)
    _straighten(family, p)
    first = p
    p, start, obstacle = _descend(family, fitter, p, eps, here + rounding)
    if obstacle:
        return undecided(f"{named}: {obstacle}")
    limit = fitter.fit(p, np.zeros(len(family.groups)))
    if not np.linalg.norm(limit.p - first) <= MOVED * np.linalg.norm(first):
        return undecided(f"{named}: the limit network is not near theta")
    exact = limit.loss <= EXACT * reference
    if exact and here <= 1e-4 * EXACT * reference:
        return undecided(f"{named}: the loss at theta is zero within rounding")
    if not exact and not limit.converged:
        return undecided(f"{named}: the fit of the limit network does not converge")
    if not exact and limit.curvatures[0] <= CONVEX:
        return undecided(f"{named}: the limit network is no strict minimum")
    approach = foresee(family, limit.p, exact)
    if approach.obstacle:
        return undecided(f"{named}: {approach.obstacle}")
    # Far out, what is left to fall is below the rounding of the loss.
    far = approach.order > HIDDEN if family.kind == "saturation" else eps.max() <= LADDER[0]
    if limit.loss > here + rounding or (limit.loss >= here - rounding and not far):
        return undecided(f"{named}: the limit network's loss is not below that of theta")
    if start is not None and approach.excess is not None and family.kind in TURNING:
        last, there = start
        foreseen = approach.excess(last)
        if not abs((there - limit.loss) - foreseen) <= SAME * foreseen + 10.0 * rounding:
            return undecided(f"{named}: the limit network lies in another valley")
    return _climb(fitter, limit, approach, rounding, theta, named)


def _straighten(family: Family, p: FloatArray) -> None:
    """Move the point about which a unit becomes linear to an inflection at 0, if there is one."""
    if family.kind != "linearisation" or not family.net.has_free_bias:
        return
    for group in family.groups:
        sigma = family.activation(group)
        slope = float(sigma.derivative(0.0))
        if float(sigma.second_derivative(0.0)) == 0.0 and slope != 0.0:
            row, column = family.parts(group)
            p[column] *= float(sigma.derivative(p[row[-1]])) / slope
            p[row[-1]] = 0.0


def _descend(
    family: Family, fitter: Fitter, p: FloatArray, eps: FloatArray, ceiling: float
) -> tuple[FloatArray, tuple[FloatArray, float] | None, str]:
    """Fit at the separations of theta and at halved ones, down to the largest of `LADDER`."""
    start: tuple[FloatArray, float] | None = None
    if eps.min() < CLOSEST:
        return p, None, ""
    loss = ceiling
    for _ in range(12):
        fit = fitter.fit(p, eps)
        if not fit.loss <= loss * (1.0 + ROUNDING):
            return p, None, "the loss rises on the way"
        p, loss = fit.p, fit.loss
        if family.kind != "saturation":
            p, eps = family.coordinates(family.theta(p, eps))
        start = (eps, loss)
        if eps.max() <= LADDER[-2] or family.kind == "saturation":
            return p, start, ""
        eps = 0.5 * eps
    return p, start, "the units do not merge"


def _climb(
    fitter: Fitter, limit: Fit, approach: Approach, rounding: float, theta: FloatArray, named: str
) -> MinimumAtInfinity:
    """Compare finite networks at growing separations with what the limit foretells."""
    family = fitter.family
    fault = ""
    for closer in (1.0,) if family.kind == "saturation" else CLOSER:
        rate, path, fault = _compare(fitter, limit, approach, rounding, closer)
        if not fault:
            break
    else:
        return undecided(f"{named}: {fault}")
    near = polish(family.problem, theta, max_iter=60)
    if near.status == "converged" and family.problem.loss(near.theta) < limit.loss - rounding:
        return undecided(f"{named}: a stationary point nearby has a lower loss")
    units = tuple((g.layer + 1, *(unit + 1 for unit in g.units)) for g in family.groups)
    numbers = limit.loss, rate, approach.order
    return MinimumAtInfinity(
        "minimum_at_infinity", family.kind, units, *numbers, named, *path, limit.p
    )


def _compare(
    fitter: Fitter, limit: Fit, approach: Approach, rounding: float, closer: float
) -> tuple[float, tuple[FloatArray, FloatArray, FloatArray], str]:
    """Return the measured rate, separations with losses and norms, and what is wrong."""
    family, saturated = fitter.family, fitter.family.kind == "saturation"
    levels = np.array([approach.order / e for e in EXPONENTS] if saturated else LADDER) * closer
    p = limit.p
    losses, norms, foreseen, settled = [], [], [], []
    for level in levels:
        eps = np.full(len(family.groups), level)
        fit = fitter.fit(p, eps)
        p = fit.p
        losses.append(fit.loss)
        settled.append(fit.converged or approach.excess is None)
        norms.append(float(np.linalg.norm(family.theta(p, eps))))
        foreseen.append(approach.excess(eps) if approach.excess else np.nan)
    path = levels, np.array(losses), np.array(norms)
    excess = path[1] - limit.loss
    clear = np.flatnonzero(excess > 30.0 * rounding)
    if clear.size < 2 or not (np.diff(excess[clear[0] :]) > 0.0).all():
        return np.nan, path, "the losses of finite networks do not fall towards the limit"
    a, b = clear[0], clear[0] + 1
    if not (settled[a] and settled[b]):
        return np.nan, path, "the fits of finite networks do not converge"
    if saturated:
        rate = float(np.log(excess[b] / excess[a]) / (1.0 / levels[a] - 1.0 / levels[b]))
        right = abs(rate / approach.order - 1.0) <= ORDER
    else:
        rate = float(np.log(excess[b] / excess[a]) / np.log(levels[b] / levels[a]))
        right = abs(rate - approach.order) <= ORDER
    if approach.excess is not None:
        right = abs(excess[a] / foreseen[a] - 1.0) <= SIZE and (saturated or right)
    return rate, path, "" if right else "the losses do not fall as the limit network foretells"
