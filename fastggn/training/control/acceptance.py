"""Accept or reject a trial step by the loss, or by the gradients below the loss's rounding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastggn.solvers.base import all_finite
from fastggn.training.resumable import Resumable
from fastggn.training.step import Work, arrive, is_usable, norm

if TYPE_CHECKING:
    from fastggn.objective.point import Point
    from fastggn.objective.problem import Problem


EPS = float(np.finfo(float).eps)
# A smaller gain ratio is a rejected step.
LEAST_GAIN = 1e-4
# A relative decrease below this many roundings is noise.
NOISE = 1e3 * EPS
# Near a stationary point the first step promises at most this multiple of the noise. A step that
# is short because longer steps raised the loss is rejected (a kink, a wrong gradient).
NEAR = 1e2


@dataclass(frozen=True)
class Trial:
    """A step after the test; `point` is None for a rejected step."""

    point: Point | None
    gain: float

    @property
    def accepted(self) -> bool:
        """Whether the step was taken."""
        return self.point is not None


class Acceptance(Resumable):
    """Accepts or rejects trial steps of one run.

    A step is accepted if the loss falls by more than `LEAST_GAIN` of the predicted decrease.
    Below the rounding of the loss, near a stationary point, the gradients at both ends decide.
    """

    _resumes = ("_largest",)  # the other attributes belong to one point

    def __init__(self, problem: Problem, work: Work) -> None:
        self._problem = problem
        self._work = work
        self._largest = 0.0
        self._theta: NDArray[np.float64] | None = None  # a point would keep its workspace
        self._first_promise = 0.0
        self._likely = True  # the last trial was accepted

    def __call__(self, point: Point, step: NDArray[np.float64], predicted: float) -> Trial:
        """Test ``point.theta + step``, which promises a `predicted` decrease of the loss."""
        if not predicted > 0.0:  # a NaN included: not a descent step of a finite model
            return Trial(None, -np.inf)
        if point.theta is not self._theta:
            self._theta, self._first_promise = point.theta, predicted
        theta = point.theta + step
        if not all_finite(theta):
            return Trial(None, -np.inf)
        rounding = self._rounding(point.loss)
        if predicted <= rounding < self._first_promise / NEAR:
            return Trial(None, -np.inf)
        self._work.evaluations += 1
        if predicted <= rounding:
            return self._by_gradients(point, step, predicted, rounding)
        new = self._problem.at(theta)
        if self._likely:
            new.evaluate()
        gain = (point.loss - new.loss) / predicted if np.isfinite(new.loss) else -np.inf
        # The gradient is tested last: after a rejection, only accepted steps compute it.
        self._likely = gain > LEAST_GAIN and is_usable(new)
        return Trial(new if self._likely else None, gain)

    def at_rounding(self, point: Point) -> bool:
        """Whether the first step that was tried at `point` promised no more than rounding."""
        return self._first_promise <= NEAR * self._rounding(point.loss)

    def _rounding(self, loss: float) -> float:
        # Outputs of size F round to eps F, so the loss of residuals r rounds to about eps F r. The
        # largest loss so far stands for F^2, the loss for r^2.
        self._largest = max(self._largest, loss)
        return NOISE * loss + 10.0 * EPS * float(np.sqrt(loss) * np.sqrt(self._largest))

    def _by_gradients(
        self, point: Point, step: NDArray[np.float64], predicted: float, rounding: float
    ) -> Trial:
        new = arrive(self._problem, point.theta + step)
        if new is None or new.loss > point.loss + rounding:
            return Trial(None, -np.inf)
        # The trapezoid rule is exact for a quadratic, and its rounding is far smaller.
        gain = -0.5 * float((point.gradient + new.gradient) @ step) / predicted
        accepted = gain > LEAST_GAIN or norm(new.gradient) < norm(point.gradient)
        return Trial(new if accepted else None, max(gain, 0.0) if accepted else gain)
