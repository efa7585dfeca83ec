"""The units in which a run computes, where those of the targets are far from 1."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastggn.objective.problem import Problem
from fastggn.objective.target_units import in_unit, units_of_sizes
from fastggn.runtime.comm import comm_of
from fastggn.training.methods.named import AnyMethod, LevenbergMarquardt
from fastggn.training.step import Iteration, norm

if TYPE_CHECKING:
    from fastggn.objective.point import Point
    from fastggn.training.result import TrainResult

Vector = NDArray[np.float64]

# The steps of the others, and their lengths, are those of the caller's units by definition.
METHODS = ("lm", "newton", "lbfgs", "auto")
# Smaller or larger units have no numbers to spare.
LEAST, LARGEST = 2.0**-1000, 2.0**500
# A given start whose last weights are this factor above the unit is of another one: its own.
FAR_ABOVE = 1e3


@dataclass(frozen=True, eq=False)
class Units:
    """Theta is `weights` times that of the run, the loss `worth` times; None: they are the same."""

    weights: Vector | None = None
    worth: float = 1.0

    def outside(self, theta: Vector) -> Vector:
        """Return the caller's theta for one of the run."""
        return theta if self.weights is None else np.asarray(theta * self.weights)

    def inside(self, theta: Vector) -> Vector:
        """Return the theta of the run for one of the caller."""
        return theta if self.weights is None else np.asarray(theta / self.weights)

    def first(self, problem: Problem, seed: Any) -> Vector:
        """Return a drawn theta of the run, with the bits of one that the caller draws and gives."""
        return self.inside(self.outside(problem.init(seed)))

    def slope(self, point: Point | Iteration) -> float:
        """Return the norm of the caller's gradient."""
        if isinstance(point, Iteration):
            if self.weights is None:
                return point.gradient_norm
            point = point.point
        if self.weights is None:
            return norm(point.gradient)
        return norm(point.gradient / self.weights * self.worth)

    def length(self, start: Vector, iteration: Iteration) -> float:
        """Return the norm of the caller's step; a bound of it for one that was not taken."""
        if self.weights is None:
            return iteration.step_norm
        if not iteration.accepted:
            return iteration.step_norm * float(self.weights.max())
        return norm((iteration.point.theta - start) * self.weights)

    def result(self, problem: Problem, found: TrainResult) -> TrainResult:
        """Return the caller's result, of the caller's problem."""
        if self.weights is None:
            return found
        end = problem.at(self.outside(found.theta))
        best = found.best_theta
        return replace(
            found,
            theta=np.array(end.theta),
            loss=float(end.loss),
            gradient_norm=norm(end.gradient),
            initial_loss=found.initial_loss * self.worth,
            best_theta=None if best is None else self.outside(best),
        )


def run_units(
    problem: Problem, method: AnyMethod, regularized: bool, theta0: Vector | None
) -> tuple[Problem, AnyMethod, Units]:
    """Return problem and method in the units of a run from theta0, and these units."""
    as_they_are = problem, method, Units()
    own = isinstance(problem, Problem) and problem.l2 == 0.0 and not regularized
    if not own or method.name not in METHODS:
        return as_they_are
    unit = float(problem.output_units.max())
    if theta0 is not None and unit != 1.0:
        size = np.abs(problem.network.unpack(theta0)[-1]).max(keepdims=True)
        size[...] = comm_of(problem).agree(float(size.item()))
        if size.item() > FAR_ABOVE * unit:
            unit = float(units_of_sizes(size).item())
    found = in_unit(problem.loss_function, unit)
    if unit == 1.0 or not LEAST <= unit <= LARGEST or found is None:
        return as_they_are
    loss, worth = found
    layers = [np.ones(shape) for shape in problem.network.layer_shapes]
    layers[-1][:] = unit
    if isinstance(method, LevenbergMarquardt) and method.damping is not None and worth > 0.0:
        numbers = np.finfo(float)
        damping = min(max(method.damping / worth, numbers.tiny), numbers.max)
        method = replace(method, damping=float(damping))
    return problem.in_unit(unit, loss), method, Units(problem.network.pack(layers), worth)
