"""Method "lm": generalised Gauss-Newton steps, damped by the gain ratio."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastggn.runtime.comm import comm_of
from fastggn.runtime.threads import pooled
from fastggn.training.control.acceptance import Judge, Trial
from fastggn.training.control.damping import NielsenDamping
from fastggn.training.control.stopping import StepTest
from fastggn.training.resumable import State, put, take
from fastggn.training.step import Move, Verdict, norm
from fastggn.training.systems import System, Systems

if TYPE_CHECKING:
    from fastggn.objective.point import Linearisation
    from fastggn.objective.problem import Problem
    from fastggn.solvers.base import Solution


REJECTED = Trial(None, -np.inf)
# Failed factorisations at one point, each with more damping, before QR takes over.
PATIENCE = 2
# Longest second-order correction: 2 |a| / |v|, alpha of Transtrum and Sethna 2012.
LONGEST_CORRECTION = 0.75


@pooled
def gradient_curvature(point: Linearisation) -> float:
    """Return ``|A g|^2 / |g|^2``, the curvature of the model along the gradient g."""
    length = norm(point.gradient)
    if length == 0.0:
        return 0.0
    direction, own = point.gradient / length, 0.0
    images = getattr(point, "images", None)  # in parts, where the rows are many
    for part in [point.matvec(direction)] if images is None else images(direction):
        own = math.hypot(own, norm(part))
    return comm_of(point).norm(own) ** 2


class LevenbergMarquardt:
    """Levenberg-Marquardt with Nielsen's rule and, on request, geodesic acceleration."""

    def __init__(
        self,
        problem: Problem,
        systems: Systems,
        damping: float | None,
        geodesic: bool,
        step_test: StepTest,
    ) -> None:
        self._systems = systems
        self._damping = NielsenDamping(damping)
        self._geodesic = geodesic
        self._step_test = step_test
        self._judge = Judge(problem, systems.counts)

    @property
    def solver(self) -> str:
        """The solver of the damped systems, and why it was chosen."""
        return self._systems.reason

    def advance(self, point: Linearisation) -> Move:
        """Factor once, then damp until a step is accepted or none can be."""
        if not self._damping.started:
            self._damping.start(gradient_curvature(point))
        system = self._systems.prepare(point)
        rejections = 0
        while True:
            damping = self._damping.value
            solution = system.solve(damping)
            step, trial = self._try(system, point, solution, damping)
            verdict = None
            if trial.point is not None:
                self._damping.accept(trial.gain, point.loss, trial.point.loss)
            else:
                rejections += 1
                verdict = self._give_up(point, solution, step)
                if verdict is None:
                    continue
            return Move(
                trial.point or point,
                norm(step),
                system.name,
                accepted=trial.accepted,
                damping=damping,
                gain_ratio=trial.gain,
                rank=solution.rank,
                rcond=solution.rcond,
                rejections=rejections,
                verdict=verdict,
            )

    def state(self) -> State:
        """Return damping, solver, and what the judge remembers."""
        return {
            **take(self, "_geodesic"),
            "damping": self._damping.state(),
            "judge": self._judge.state(),
            "systems": self._systems.state(),
        }

    def restore(self, state: State) -> None:
        """Take the state over."""
        put(self, state, "_geodesic")
        self._damping.restore(state["damping"])
        self._judge.restore(state["judge"])
        self._systems.restore(state["systems"])

    def _try(
        self, system: System, point: Linearisation, solution: Solution, damping: float
    ) -> tuple[NDArray[np.float64], Trial]:
        step = solution.step
        if not solution.ok:
            return step, REJECTED
        predicted = point.predicted_decrease(step)
        if self._geodesic:
            step = _bend(system, point, step, damping)
        return step, self._judge(point, step, predicted)

    def _give_up(
        self, point: Linearisation, solution: Solution, step: NDArray[np.float64]
    ) -> Verdict | None:
        if solution.ok and self._step_test(point.theta, norm(step)):
            return Verdict(
                "converged_step",
                f"no step longer than {norm(step):.3g} lowers the loss: it is at its rounding",
            )
        if self._damping.reject():
            return None
        return Verdict(
            "damping_limit",
            f"no step lowers the loss up to a damping of {self._damping.value:.3g}",
        )


def _bend(
    system: System, point: Linearisation, velocity: NDArray[np.float64], damping: float
) -> NDArray[np.float64]:
    """Return the step corrected to second order, uncorrected where the series is not short.

    Transtrum and Sethna reject a step with a long correction; to leave out the correction
    instead took fewer trials (docs/decisions/0010-step-control.md).
    """
    acceleration = -0.5 * system.correct(damping, point.curvature_along(velocity)).step
    if 2.0 * norm(acceleration) <= LONGEST_CORRECTION * norm(velocity):
        return velocity + acceleration
    return velocity
