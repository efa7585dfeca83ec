"""Whether the loss falls from a point towards an infimum at infinity: one answer for all rooms."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from fastggn.network.losses.output_weights import OutputWeighted
from fastggn.network.losses.separable import SeparableLoss
from fastggn.objective.problem import Problem
from fastggn.runtime.errors import FastGGNWarning
from fastggn.training.control.convergence import StepTest
from fastggn.training.control.divergence import has_minimum
from fastggn.training.control.separation import CLASSES, Matrix, lacks_minimum
from fastggn.training.fallback import Fallback
from fastggn.training.methods.levenberg_marquardt import PATIENCE, LevenbergMarquardtSteps
from fastggn.training.run_units import Units
from fastggn.training.step import Iteration, Work, norm

if TYPE_CHECKING:
    from fastggn.objective.point import Point
    from fastggn.training.result import TrainResult

# Open ranges of output activations: only infinite weights reach targets at their ends.
RANGES = {
    "sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0), "softsign": (-1.0, 1.0), "softplus": (0.0, np.inf),
}  # fmt: skip
OWN = Units()
# On the way to infinity the gradient falls with the size of theta: at half of theta it is this
# factor larger.
STEEPER = 300.0
# Going on from theta, within so many iterations of Levenberg-Marquardt, theta grows by this factor,
# by that one in the last iterations, so many, ...
MOST, GROWTH, STILL, LAST = 60, 1.2, 1.03, 5
# ... while the gradient falls to this share, or the loss in the last iterations by this share of
# its fall in the first ones, ...
FALL = 1e-3
# ... and no undamped step leads to a minimum.


def runs_to_infinity(
    problem: Problem, point: Point, away: bool = False, units: Units = OWN
) -> str | None:
    """Return why the loss falls from a point towards an infimum at infinity, or None.

    `train` calls a run diverging, and `critical_point` says so of a point, where this holds. An
    undamped run that is `away`, with a theta beyond all measure, is not followed further. The
    reason has the loss, theta and the gradient in the units of the caller.
    """
    if (why := falls_without_end(problem, point, units)) is not None:
        return why
    first = norm(point.gradient)
    end: Point | None = point
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", FastGGNWarning)
        if not away:
            half = norm(problem.at(0.5 * point.theta).gradient)
            if not half >= STEEPER * first > 0.0 or has_minimum(problem, point):
                return None
            end = _far_out(problem, point)
        if end is None or has_minimum(problem, end):
            return None
    grown = "" if away else f", and {norm(units.outside(end.theta)):.3g} further on"
    fallen = "" if away else f", and {units.slope(end):.3g} there"
    return (
        f"theta grows without settling (now {norm(units.outside(point.theta)):.3g}{grown}) while "
        f"the gradient vanishes (now {units.slope(point):.3g}{fallen}): the loss approaches an "
        f"infimum (now {point.loss * units.worth:.6g}) at infinity"
    )


def falls_without_end(
    problem: Problem, point: Point | TrainResult, units: Units = OWN
) -> str | None:
    """Return why the infimum of the loss is at infinity, where that is certain, or None."""
    now = f"(now {point.loss * units.worth:.3g}, |theta| {norm(units.outside(point.theta)):.3g})"
    if classes_are_separated(problem, point):
        return (
            f"the classes are separated, so the loss falls towards 0 as theta grows without bound "
            f"{now}, the usual end of such a fit; l2 > 0 gives a minimum with finite weights"
        )
    if ends_are_separated(problem, point):
        return (
            "all targets are ends of the range of the outputs, each output on their side, so the "
            f"loss falls towards its infimum at infinity as theta grows {now}; targets inside the "
            "range, or l2 > 0, give a minimum with finite weights"
        )
    if lacks_minimum(problem):
        return (
            "a plane separates some of the samples by class, so no finite theta has the least "
            f"loss: it falls towards its infimum at infinity {now}; l2 > 0 gives a minimum with "
            "finite weights"
        )
    return None


def _far_out(problem: Problem, point: Point) -> Point | None:
    """Return a point on the way to infinity, or None if none is found."""
    systems = Fallback(
        problem, "auto", needs_minimum_norm=False, patience=PATIENCE, work=Work(), mixed=False
    )
    method = LevenbergMarquardtSteps(problem, systems, None, False, StepTest(0.0))
    first, size, losses = norm(point.gradient), norm(point.theta), [float(point.loss)]
    sizes = [size]
    for _ in range(MOST):
        iteration: Iteration = method.step(point)
        if not iteration.accepted:
            return None
        point = iteration.point
        losses.append(float(point.loss))
        sizes.append(norm(point.theta))
        if len(sizes) <= 2 * LAST or sizes[-1] < max(GROWTH * size, STILL * sizes[-1 - LAST]):
            continue
        falls = losses[-1 - LAST] - losses[-1], losses[0] - losses[LAST]
        if iteration.gradient_norm <= FALL * first or falls[0] <= FALL * falls[1]:
            return point
    return None


def classes_are_separated(problem: Problem, point: Point | TrainResult) -> bool:
    """Whether a loss on classes, of 0 only at infinity, has every sample in its class.

    Larger weights of the last layer then lower it, if biases that are fixed do not hinder them.
    """
    name, net = problem.loss_function.name, problem.network
    if name not in CLASSES or problem.l2 > 0.0 or net.activations[-1].name != "identity":
        return False
    used = problem.relative_weights > 0.0
    outputs, targets = problem.outputs(point.theta)[used], problem.targets[used]
    right = bool(np.isin(targets, (0.0, 1.0)).all()) and _inside(name, outputs, targets)
    if not isinstance(net.bias, str):
        right = right and _inside(name, outputs + net.bias[-1], targets)
    return not problem.comm.any(not right)


def _inside(name: str, outputs: Matrix, targets: Matrix) -> bool:
    """Whether outputs are inside the classes of hard targets, and not on a border of two."""
    if name == "logistic":
        return bool(((2.0 * targets - 1.0) * outputs > 0.0).all())
    own = np.where(targets == 1.0, outputs, -np.inf).max(axis=1, keepdims=True)
    return bool(((outputs >= own).sum(axis=1) == 1).all())


def ends_are_separated(problem: Problem, point: Point | TrainResult) -> bool:
    """Whether all targets are ends of the range of the outputs, or beyond, on the outputs' side.

    Then the loss falls as the last weights and biases grow together, so that no such point is
    stationary.
    """
    net, loss = problem.network, problem.loss_function
    if not isinstance(problem, Problem) or not isinstance(loss, SeparableLoss):
        return False
    low, high = RANGES.get(net.activations[-1].name, (-np.inf, np.inf))
    if not np.isfinite(high) or problem.l2 > 0.0 or not isinstance(net.bias, str):
        return False
    outputs, targets = problem.outputs(point.theta), problem.targets
    counted = np.broadcast_to(problem.relative_weights[:, None] > 0.0, targets.shape)
    if isinstance(loss, OutputWeighted):
        counted = counted & (problem.loss_targets[:, problem.n_outputs :] > 0.0)
    middle = 0.5 * (low + high)
    right = ((targets <= low) & (outputs < middle)) | ((targets >= high) & (outputs > middle))
    return not problem.comm.any(bool((counted & ~right).any()))
