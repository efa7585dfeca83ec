"""Stochastic generalised Gauss-Newton: "lm" and "ggn" on mini-batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastggn.training.control.acceptance import Trial
from fastggn.training.control.convergence import StepTest
from fastggn.training.fallback import Fallback
from fastggn.training.methods.first_order import batches, diverged
from fastggn.training.methods.levenberg_marquardt import LevenbergMarquardtSteps
from fastggn.training.resumable import Resumable
from fastggn.training.run import Clock
from fastggn.training.step import Choice, Iteration, Method, arrive, norm

if TYPE_CHECKING:
    from fastggn.objective.point import Point
    from fastggn.objective.problem import Problem


# A pass of at least 2 RECENT batches ends early if the mean loss of the last RECENT batches exceeds
# this multiple of the loss of all samples at its start.
RECENT = 10
WORSE = 1.5


@dataclass(frozen=True)
class Pass:
    """The end of a pass: theta, the predicted decrease of its batches, the rejected steps.

    `cut` says that the time limit or a non-finite theta ended it early.
    """

    theta: NDArray[np.float64]
    predicted: float
    refused: int
    cut: bool


class Passes(Resumable):
    """Passes over the samples in batches, with one step for each batch.

    The system of a batch has B n_L rows; the dual solves it if that is at most N.
    """

    _resumes = ("_systems",)

    def __init__(
        self,
        problem: Problem,
        systems: Fallback,
        batch_size: int,
        rng: np.random.Generator,
        clock: Clock,
        rate: float = 1.0,
    ) -> None:
        self._problem = problem
        self._systems = systems
        self._batch_size = batch_size
        self._rng = rng
        self._clock = clock
        self._rate = rate

    @property
    def solver(self) -> Choice:
        """The solver of the systems of the batches."""
        name, reason = self._systems.choice
        return Choice(name, f"{reason}; batches of {self._batch_size}")

    def __call__(
        self, theta: NDArray[np.float64], damping: float, limit: float | None = None
    ) -> Pass:
        """Return the end of a pass, which ends early if the batch losses exceed `limit`."""
        predicted, refused, cut = 0.0, 0, False
        losses: list[float] = []
        for rows in batches(self._problem.n_samples, self._batch_size, self._rng):
            batch = self._problem.subset(rows).at(theta)
            losses.append(float(batch.loss))
            if limit is not None and len(losses) >= 2 * RECENT:
                if not sum(losses[-RECENT:]) / RECENT <= limit:
                    break
            solution = self._systems.prepare(batch).solve(damping)
            if solution.ok:
                step = self._rate * solution.step
                predicted += batch.predicted_decrease(step)
                theta = theta + step
            else:
                refused += 1
            if self._clock.expired or not np.isfinite(theta).all():
                cut = True
                break
        return Pass(theta, predicted, refused, cut)

    def arrive(self, theta: NDArray[np.float64]) -> Point | None:
        """Return the point of all samples after a pass, or None if it is not finite."""
        self._systems.work.evaluations += 1
        return arrive(self._problem, theta)


class StochasticGaussNewton(Method):
    """Undamped minimum-norm steps of fixed length, one for each batch; an iteration is a pass."""

    _resumes = ("_passes",)

    def __init__(self, passes: Passes) -> None:
        self._passes = passes

    @property
    def solver(self) -> Choice:
        """The solver of the systems of the batches."""
        return self._passes.solver

    def step(self, point: Point) -> Iteration:
        """Do one pass over the samples."""
        end = self._passes(point.theta, 0.0)
        new = self._passes.arrive(end.theta)
        step = end.theta - point.theta
        if new is None:
            return diverged(point, step, self.solver.name)
        return Iteration(new, norm(step), self.solver.name, rejections=end.refused, cut=end.cut)


class StochasticLevenbergMarquardt(LevenbergMarquardtSteps):
    """Damped steps, one for each batch; a pass is accepted if the loss of all samples falls.

    The damping is fixed during a pass and follows Nielsen's rule between passes, with the ratio of
    the decrease of the whole loss to the predicted decreases of the batches. Steps that fit only
    their own batch make this ratio small, so that the damping grows and the steps get shorter.
    """

    short = "a pass moves theta by a share of {:.3g} only"
    tried = "pass"

    def __init__(
        self,
        problem: Problem,
        systems: Fallback,
        passes: Passes,
        damping: float | None,
        step_test: StepTest,
    ) -> None:
        super().__init__(problem, systems, damping, False, step_test)
        self._passes = passes

    def _why_short(self, point: Point) -> str:
        return self.short

    @property
    def solver(self) -> Choice:
        """The solver of the systems of the batches."""
        return self._passes.solver

    def step(self, point: Point) -> Iteration:
        """Do one pass over the samples, and undo it if the loss does not fall."""
        self._start(point)
        damping = self._damping.value
        end = self._passes(point.theta, damping, WORSE * float(point.loss))
        trial = self._compare(point, end)
        length = norm(end.theta - point.theta)
        return Iteration(
            trial.point or point,
            length,
            self.solver.name,
            accepted=trial.accepted,
            damping=damping,
            gain_ratio=trial.gain,
            rejections=end.refused + (not trial.accepted),
            stop=self._adapt(point, trial, length, False),
            cut=end.cut,
        )

    def _compare(self, point: Point, end: Pass) -> Trial:
        """Accept or reject a pass by the loss of all samples."""
        new = self._passes.arrive(end.theta)
        if new is None or new.loss >= point.loss:
            return Trial(None, 0.0)
        gain = (point.loss - new.loss) / end.predicted if end.predicted > 0.0 else 0.0
        return Trial(new, gain)
