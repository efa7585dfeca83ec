"""Method "lm": generalised Gauss-Newton steps with damping by the gain ratio."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastggn.runtime.comm import comm_of
from fastggn.runtime.threads import pooled
from fastggn.training.control.acceptance import Acceptance, Trial
from fastggn.training.control.convergence import StepTest
from fastggn.training.control.damping import NielsenDamping
from fastggn.training.fallback import Fallback, System
from fastggn.training.methods.trials import Proposal, TrialSteps
from fastggn.training.step import Choice, Ending, Iteration, norm

if TYPE_CHECKING:
    from fastggn.objective.point import Point
    from fastggn.objective.problem import Problem


# QR takes over after so many failed factorisations at one point, each with more damping.
PATIENCE = 2
# Longest second-order correction: 2 |a| / |v|, alpha of Transtrum and Sethna 2012.
LONGEST_CORRECTION = 0.75


@pooled
def gradient_curvature(point: Point) -> float:
    """Return ``|A g|^2 / |g|^2``, the curvature of the model along the gradient g."""
    length = norm(point.gradient)
    if length == 0.0:
        return 0.0
    own = 0.0
    for part in point.images(point.gradient / length):  # in parts, where the rows are many
        own = math.hypot(own, norm(part))
    whole = comm_of(point).norm(own)
    return whole * whole  # infinite at an overflow, where ** raises


class LevenbergMarquardtSteps(TrialSteps):
    """Levenberg-Marquardt with Nielsen's rule and optional geodesic acceleration."""

    _resumes = (*TrialSteps._resumes, "_damping", "_geodesic", "_systems")
    tried = "step"

    def __init__(
        self,
        problem: Problem,
        systems: Fallback,
        damping: float | None,
        geodesic: bool,
        step_test: StepTest,
    ) -> None:
        super().__init__(Acceptance(problem, systems.work), step_test)
        self._systems = systems
        self._damping = NielsenDamping(damping)
        self._geodesic = geodesic

    @property
    def solver(self) -> Choice:
        """The solver of the damped systems."""
        return self._systems.choice

    def _build(self, point: Point) -> System:
        self._start(point)
        if self._systems.samples is not None:
            self._before = self._damping.state()
        return self._systems.prepare(point)

    def _ended(self, iteration: Iteration) -> Iteration:
        samples = self._systems.samples
        if samples is None or iteration.stop is None or not iteration.sampled:
            return iteration
        # A sample without a step is no reason to stop.
        samples.take_all()
        self._damping.restore(self._before)
        return replace(iteration, stop=None)

    def _start(self, point: Point) -> None:
        if not self._damping.started:
            self._damping.start(gradient_curvature(point))

    def _propose(self, point: Point, model: System) -> Proposal:
        damping = self._damping.value
        solution = model.solve(damping)
        step, predicted = solution.step, -np.inf
        if solution.ok:
            # The bend first: its sweep has the product with J that a prediction may need.
            bent = _bend(model, step, damping) if self._geodesic else step
            predicted = model.predicted_decrease(solution, damping)
            if model.sampled:
                self._inform(point, step, predicted, damping)
            step = bent
        return Proposal(
            step,
            predicted,
            model.name,
            damping,
            solution.rank,
            solution.rcond,
            curvature_samples=model.n_samples,
            sampled=model.sampled,
        )

    def _inform(
        self, point: Point, step: NDArray[np.float64], predicted: float, damping: float
    ) -> None:
        assert self._systems.samples is not None
        promised, damped = -float(point.gradient @ step), damping * float(step @ step)
        self._systems.samples.compare(promised, predicted, damped)

    def _adapt(self, point: Point, trial: Trial, length: float, on_boundary: bool) -> Ending | None:
        if trial.point is not None:
            self._damping.accept(trial.gain, point.loss, trial.point.loss)
            if self._systems.samples is not None:
                fall = float(point.loss - trial.point.loss) / abs(float(point.loss))
                self._systems.samples.accepted(fall, trial.gain)
            return None
        stop = self._too_short(point, length)
        if stop is None and not (self._damping.reject() or self._raise_ceiling(point)):
            stop = Ending(
                "damping_limit", f"no {self.tried} lowers the loss up to the largest damping"
            )
        return stop

    def _raise_ceiling(self, point: Point) -> bool:
        """Fit the largest damping to the curvature and the weight decay here."""
        curvature = gradient_curvature(point) + float(np.max(point.decay))
        return self._damping.raise_ceiling(curvature)


def _bend(system: System, velocity: NDArray[np.float64], damping: float) -> NDArray[np.float64]:
    """Return the step with its second-order correction, unless the correction is too long."""
    # Transtrum and Sethna reject a step with a long correction; the step without its correction
    # needs fewer trials (docs/decisions/0009-step-control.md).
    acceleration = -0.5 * system.bend(damping, velocity).step
    if 2.0 * norm(acceleration) <= LONGEST_CORRECTION * norm(velocity):
        return velocity + acceleration
    return velocity
