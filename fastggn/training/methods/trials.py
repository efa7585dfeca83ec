"""The inner loop of the methods that try steps until one lowers the loss."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastggn.training.control.acceptance import Acceptance, Trial
from fastggn.training.control.convergence import LEAST, StepTest
from fastggn.training.step import Ending, Iteration, Method, norm

if TYPE_CHECKING:
    from fastggn.objective.point import Point


# So many trials in one iteration, or so many whose step is not finite, lead nowhere: the damping
# and the radius run through all numbers in fewer.
MOST_TRIALS, MOST_LOST = 1000, 50


@dataclass(frozen=True)
class Proposal:
    """A trial step, its predicted decrease of the loss, and its origin."""

    step: NDArray[np.float64]
    predicted: float
    solver: str
    damping: float | None = None
    rank: int | None = None
    rcond: float | None = None
    on_boundary: bool = False
    curvature_samples: int | None = None
    sampled: bool = False


class TrialSteps(Method):
    """Builds one model, then proposes steps and adapts until a step is accepted or none can be."""

    _resumes: ClassVar[tuple[str, ...]] = ("_acceptance",)
    # The message of a run whose steps have become too short.
    short = "no step longer than {:.3g} |theta| lowers the loss"

    def __init__(self, acceptance: Acceptance, step_test: StepTest) -> None:
        self._acceptance = acceptance
        self._step_test = step_test

    def step(self, point: Point) -> Iteration:
        """Try steps of one model until one is accepted or none can be."""
        try:
            return self._ended(self._tried(point))
        except np.linalg.LinAlgError as error:  # entries near the limits of the numbers
            stop = Ending("failed", f"no step could be computed: {error}")
            return Iteration(point, 0.0, self.solver.name, accepted=False, stop=stop)

    def _tried(self, point: Point) -> Iteration:
        model = self._build(point)
        rejections = lost = 0
        while True:
            proposal = self._propose(point, model)
            trial = self._acceptance(point, proposal.step, proposal.predicted)
            length = norm(proposal.step)
            rejections += not trial.accepted
            lost += not np.isfinite(length)
            stop = self._adapt(point, trial, length, proposal.on_boundary)
            if rejections > MOST_TRIALS or lost > MOST_LOST:
                stop = Ending("failed", f"none of {rejections} trial steps could be taken")
            if trial.accepted or stop is not None:
                return Iteration(
                    trial.point or point,
                    length,
                    proposal.solver,
                    accepted=trial.accepted,
                    damping=proposal.damping,
                    gain_ratio=trial.gain,
                    rank=proposal.rank,
                    rcond=proposal.rcond,
                    rejections=rejections,
                    curvature_samples=proposal.curvature_samples,
                    sampled=proposal.sampled,
                    stop=stop,
                )

    def _ended(self, iteration: Iteration) -> Iteration:
        return iteration

    def _too_short(self, point: Point, length: float) -> Ending | None:
        if self._step_test(point.theta, length):
            share = length / max(norm(point.theta), LEAST)
            return Ending("converged_step", self._why_short(point).format(share))
        return None

    def _why_short(self, point: Point) -> str:
        if self._acceptance.at_rounding(point):
            return f"{self.short}: it is at its rounding"
        return f"{self.short}, though the model promises a lower one (a kink of the loss?)"

    @abstractmethod
    def _build(self, point: Point) -> Any:
        """Return the model of the loss at `point`."""

    @abstractmethod
    def _propose(self, point: Point, model: Any) -> Proposal:
        """Return the step of the model for the current damping or radius."""

    @abstractmethod
    def _adapt(self, point: Point, trial: Trial, length: float, on_boundary: bool) -> Ending | None:
        """Change the damping or the radius, and return a stop if no further step is useful."""
