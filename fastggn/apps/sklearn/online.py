"""Damped Gauss-Newton steps on samples that come in batches, for `partial_fit`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fastggn.objective.point import Point
from fastggn.objective.problem import Problem
from fastggn.training.control.damping import NielsenDamping
from fastggn.training.fallback import Fallback
from fastggn.training.methods.levenberg_marquardt import gradient_curvature
from fastggn.training.step import Work, is_usable

FloatArray = NDArray[np.float64]

# A step that raises the loss of fresh samples by this factor is taken back.
WORSE = 2.0


@dataclass
class OnlineSteps:
    """The last step and the damping, which one batch passes on to the next.

    A full step would fit its own batch and forget the others. The next batch therefore judges the
    step before its own one: the ratio of its decrease to the predicted one moves the damping by
    Nielsen's rule, and a step that made the fresh samples clearly worse is taken back.
    """

    previous: FloatArray | None = None  # theta before the last step
    predicted: float = 0.0  # decrease that the last batch predicted
    damping: NielsenDamping = field(default_factory=NielsenDamping)

    def move(self, change: Callable[[FloatArray], FloatArray]) -> None:
        """Apply a change of units to the parameters before the last step."""
        if self.previous is not None:
            self.previous = change(self.previous)

    def advance(self, problem: Problem, theta: FloatArray, solver: str) -> tuple[FloatArray, float]:
        """Take one step on the samples of `problem`."""
        point = self._judged(problem, problem.at(theta))
        if not is_usable(point):
            raise ValueError("the loss or its gradient is not finite on this batch")
        if not self.damping.started:
            self.damping.start(gradient_curvature(point))
        systems = Fallback(problem, solver, needs_minimum_norm=False, patience=0, work=Work())
        solution = systems.prepare(point).solve(self.damping.value)
        here = np.array(point.theta)
        if not (solution.ok and np.isfinite(solution.step).all()):
            self._harder()
            return here, float(point.loss)
        self.previous = here
        self.predicted = point.predicted_decrease(solution.step)
        return here + solution.step, float(point.loss)

    def _judged(self, problem: Problem, point: Point) -> Point:
        """Judge the last step on this batch and return the point to continue from."""
        if self.previous is None:
            return point
        before = problem.at(self.previous)
        self.previous = None
        gain = (before.loss - point.loss) / self.predicted if self.predicted > 0.0 else 0.0
        if gain > 0.0:
            self.damping.accept(gain, before.loss, point.loss)
            return point
        self._harder()
        return point if point.loss <= WORSE * before.loss else before

    def _harder(self) -> None:
        if not self.damping.reject():
            self.damping = NielsenDamping()
