"""Stochastic generalised Gauss-Newton: "lm" and "ggn" on mini-batches."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastggn.training.clock import Clock
from fastggn.training.control.damping import NielsenDamping
from fastggn.training.control.stopping import StepTest
from fastggn.training.methods.first_order import batches, diverged
from fastggn.training.methods.levenberg_marquardt import gradient_curvature
from fastggn.training.resumable import State
from fastggn.training.step import Move, Verdict, arrive, norm
from fastggn.training.systems import Systems

if TYPE_CHECKING:
    from fastggn.objective.point import Linearisation
    from fastggn.objective.problem import Problem


# A pass of twice as many batches or more is broken off where the last so many have, in the mean, so
# many times the loss that all samples had at its start.
RECENT = 10
WORSE = 1.5


class StochasticGaussNewton:
    """Undamped minimum-norm steps of length alpha, one a mini-batch.

    One iteration is one pass over the samples. A batch is a problem of its own, whose system
    has B n_L rows: the dual solves it where that is no more than N.
    """

    def __init__(
        self,
        problem: Problem,
        systems: Systems,
        batch_size: int,
        alpha: float,
        rng: np.random.Generator,
        clock: Clock,
    ) -> None:
        self._problem = problem
        self._systems = systems
        self._batch_size = batch_size
        self._alpha = alpha
        self._rng = rng
        self._clock = clock
        self._cut = False  # whether the time limit ended the pass under way

    @property
    def solver(self) -> str:
        """The solver of the batches' systems, and why it was chosen."""
        return f"{self._systems.reason}; batches of {self._batch_size}"

    def advance(self, point: Linearisation) -> Move:
        """Do one pass over the samples."""
        theta, _, refused = self._sweep(point.theta, 0.0)
        new = self._arrive(theta)
        step = theta - point.theta
        if new is None:
            return diverged(point, step, self._systems.solver.name)
        return Move(new, norm(step), self._systems.solver.name, rejections=refused, cut=self._cut)

    def state(self) -> State:
        """Return the solver of the batches; the order of the samples is the generator's."""
        return {"systems": self._systems.state()}

    def restore(self, state: State) -> None:
        """Take the state over."""
        self._systems.restore(state["systems"])

    def _arrive(self, theta: NDArray[np.float64]) -> Linearisation | None:
        self._systems.counts.evaluations += 1
        return arrive(self._problem, theta)

    def _sweep(
        self, theta: NDArray[np.float64], damping: float
    ) -> tuple[NDArray[np.float64], float, int]:
        """Return theta after a step a batch, the decrease predicted, and the steps refused."""
        predicted, refused, self._cut = 0.0, 0, False
        losses: list[float] = []
        for rows in batches(self._problem.n_samples, self._batch_size, self._rng):
            batch = self._problem.subset(rows).linearise(theta)
            losses.append(float(batch.loss))
            if self._hopeless(losses):
                break
            solution = self._systems.prepare(batch).solve(damping)
            if solution.ok:
                step = self._alpha * solution.step
                predicted += batch.predicted_decrease(step)
                theta = theta + step
            else:
                refused += 1
            if self._clock.expired or not np.isfinite(theta).all():
                self._cut = True
                break
        return theta, predicted, refused

    def _hopeless(self, losses: list[float]) -> bool:
        """Whether to give up a pass, from the losses of its batches before their own steps."""
        return False


class StochasticLevenbergMarquardt(StochasticGaussNewton):
    """Damped steps, one a mini-batch; a pass is accepted if the loss of all samples falls.

    The damping is fixed during a pass and follows Nielsen's rule between passes, on the ratio
    of the decrease of the whole loss to the sum of those that the batches predicted. Steps
    that fit their own batch only make that ratio small, so that the damping grows and the
    steps shorten as a falling learning rate would make them. A pass whose batches, before their
    own steps, have become clearly worse than all samples were at its start is broken off.
    """

    def __init__(
        self,
        problem: Problem,
        systems: Systems,
        batch_size: int,
        damping: float | None,
        rng: np.random.Generator,
        clock: Clock,
        step_test: StepTest,
    ) -> None:
        super().__init__(problem, systems, batch_size, 1.0, rng, clock)
        self._damping = NielsenDamping(damping)
        self._step_test = step_test
        self._limit = np.inf

    def _hopeless(self, losses: list[float]) -> bool:
        """Whether the mean of the last losses is far above the whole loss at the start."""
        recent = losses[-RECENT:]
        return len(losses) >= 2 * RECENT and not sum(recent) / RECENT <= self._limit

    def advance(self, point: Linearisation) -> Move:
        """Do one pass over the samples; a pass that does not lower the loss is undone."""
        if not self._damping.started:
            self._damping.start(gradient_curvature(point))
        damping = self._damping.value
        self._limit = WORSE * float(point.loss)
        theta, predicted, refused = self._sweep(point.theta, damping)
        new = self._arrive(theta)
        length = norm(theta - point.theta)
        gain, verdict = 0.0, None
        if new is not None and new.loss >= point.loss:
            new = None
        if new is not None:
            gain = (point.loss - new.loss) / predicted if predicted > 0.0 else 0.0
            self._damping.accept(gain, point.loss, new.loss)
        elif self._step_test(point.theta, length):
            verdict = Verdict("converged_step", f"a pass moves theta by {length:.3g} only")
        elif not self._damping.reject():
            verdict = Verdict(
                "damping_limit",
                f"no pass lowers the loss up to a damping of {self._damping.value:.3g}",
            )
        return Move(
            new or point,
            length,
            self._systems.solver.name,
            accepted=new is not None,
            damping=damping,
            gain_ratio=gain,
            rejections=refused + (new is None),
            verdict=verdict,
            cut=self._cut,
        )

    def state(self) -> State:
        """Return damping and solver."""
        return {**super().state(), "damping": self._damping.state()}

    def restore(self, state: State) -> None:
        """Take the state over."""
        super().restore(state)
        self._damping.restore(state["damping"])
