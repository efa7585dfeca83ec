"""Accept or reject a trial step: by the loss, and below its rounding by the gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastggn.training.resumable import Resumable
from fastggn.training.step import Work, arrive, is_usable, norm

if TYPE_CHECKING:
    from fastggn.objective.point import Point
    from fastggn.objective.problem import Problem


EPS = float(np.finfo(float).eps)
# A smaller gain ratio is a rejected step.
LEAST_GAIN = 1e-4
# Relative decreases below this many roundings cannot be told from noise.
NOISE = 1e3 * EPS
# Near a stationary point the first step promises no more than this multiple of the noise.
NEAR = 1e2


@dataclass(frozen=True)
class Trial:
    """A step after the test: `point` is None where it was rejected."""

    point: Point | None
    gain: float

    @property
    def accepted(self) -> bool:
        """Whether the step was taken."""
        return self.point is not None


class Acceptance(Resumable):
    """Accepts or rejects trial steps of one run.

    A step is accepted if the loss falls by more than `LEAST_GAIN` of what the quadratic model
    predicts. Where the prediction is below the rounding of the loss itself (|g| about 1e-8),
    the loss cannot decide. Its decrease is then taken from the gradients at both ends,
    ``-(g + g_new) . step / 2``, which is exact for a quadratic and rounds far less; the step is
    accepted if that is enough, or if the norm of the gradient falls. This holds near a
    stationary point only: a step that has become so short because longer ones from the same
    point raised the loss is rejected (a kink of the loss, a wrong gradient).
    """

    _resumes = ("_largest",)  # the rest belongs to one point and ends with it

    def __init__(self, problem: Problem, work: Work) -> None:
        self._problem = problem
        self._work = work
        self._largest = 0.0
        self._point: Point | None = None
        self._first_promise = 0.0

    def __call__(self, point: Point, step: NDArray[np.float64], predicted: float) -> Trial:
        """Test ``point.theta + step``, which promises a `predicted` decrease of the loss."""
        if not predicted > 0.0:  # also a NaN: not a descent step of a finite model
            return Trial(None, -np.inf)
        if point is not self._point:
            self._point, self._first_promise = point, predicted
        theta = point.theta + step
        if not np.isfinite(theta).all():
            return Trial(None, -np.inf)
        rounding = self._rounding(point.loss)
        if predicted <= rounding < self._first_promise / NEAR:
            return Trial(None, -np.inf)
        self._work.evaluations += 1
        if predicted <= rounding:
            return self._by_gradients(point, step, predicted, rounding)
        new = self._problem.at(theta)
        gain = (point.loss - new.loss) / predicted if np.isfinite(new.loss) else -np.inf
        # The gradient comes last: it is computed for accepted steps only.
        return Trial(new if gain > LEAST_GAIN and is_usable(new) else None, gain)

    def _rounding(self, loss: float) -> float:
        # Residuals r of outputs of size F round to eps F, so that the loss rounds to about
        # eps F r: the geometric mean of the loss and of the largest one met, which stands for F.
        self._largest = max(self._largest, loss)
        return NOISE * loss + 10.0 * EPS * float(np.sqrt(loss) * np.sqrt(self._largest))

    def _by_gradients(
        self,
        point: Point,
        step: NDArray[np.float64],
        predicted: float,
        rounding: float,
    ) -> Trial:
        new = arrive(self._problem, point.theta + step)
        if new is None or new.loss > point.loss + rounding:
            return Trial(None, -np.inf)
        gain = -0.5 * float((point.gradient + new.gradient) @ step) / predicted
        accepted = gain > LEAST_GAIN or norm(new.gradient) < norm(point.gradient)
        return Trial(new if accepted else None, max(gain, 0.0) if accepted else gain)
