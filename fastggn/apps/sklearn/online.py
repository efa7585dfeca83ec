"""Damped Gauss-Newton steps on samples that come in batches, for `partial_fit`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastggn.training.control.damping import NielsenDamping
from fastggn.training.methods.levenberg_marquardt import gradient_curvature
from fastggn.training.step import Work, is_usable
from fastggn.training.systems import Systems

if TYPE_CHECKING:
    from fastggn.objective.point import Point
    from fastggn.objective.problem import Problem


FloatArray = NDArray[np.float64]

# A step after which new samples have this many times the loss they had before it is taken back.
WORSE = 2.0


@dataclass
class OnlineSteps:
    """What one batch leaves behind for the next: the last step, and the damping.

    A full step would fit its own batch and forget the others. How long a step may be is
    therefore judged on samples that it has not seen: those of the next batch, before their own
    step. The ratio of the decrease there to the one that the last batch predicted moves the
    damping by Nielsen's rule, as in the method "lm"; where the fresh samples have become clearly
    worse, the step is taken back.

    Attributes
    ----------
    previous : ndarray, shape (N,), or None
        The parameters before the last step.
    predicted : float
        The decrease that the last batch predicted.
    damping : NielsenDamping
    """

    previous: FloatArray | None = None
    predicted: float = 0.0
    damping: NielsenDamping = field(default_factory=NielsenDamping)

    def move(self, change: Callable[[FloatArray], FloatArray]) -> None:
        """Change the parameters before the last step as those after it are changed."""
        if self.previous is not None:
            self.previous = change(self.previous)

    def advance(self, problem: Problem, theta: FloatArray, solver: str) -> tuple[FloatArray, float]:
        """Take one step on the samples of `problem`."""
        point = self._judged(problem, problem.at(theta))
        if not is_usable(point):
            raise ValueError("the loss or its gradient is not finite on this batch")
        if not self.damping.started:
            self.damping.start(gradient_curvature(point))
        systems = Systems(problem, solver, needs_minimum_norm=False, patience=0, work=Work())
        solution = systems.prepare(point).solve(self.damping.value)
        here = np.array(point.theta)
        if not (solution.ok and np.isfinite(solution.step).all()):
            self._harder()
            return here, float(point.loss)
        self.previous = here
        self.predicted = point.predicted_decrease(solution.step)
        return here + solution.step, float(point.loss)

    def _judged(self, problem: Problem, point: Point) -> Point:
        """Return the point to go on from, after a look at how the last step did on this batch."""
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
