"""When a run ends, and with which status."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastggn.training.clock import Clock
from fastggn.training.control.divergence import DivergenceTest
from fastggn.training.control.validation import Unwatched
from fastggn.training.resumable import State, put, take
from fastggn.training.step import Move, Verdict, is_usable, norm

if TYPE_CHECKING:
    from fastggn.objective.point import Linearisation


# A change of the loss below this share is rounding; a fall of the gradient to this share is
# progress; and so many iterations without either are enough.
IDLE_CHANGE, IDLE_GRADIENT, IDLE_ITERATIONS = 2e-13, 0.9, 30
# Statuses of a run that has settled, at a saddle perhaps.
SETTLED = ("converged_gradient", "converged_loss", "converged_step", "damping_limit")
# Statuses that a call with other limits does not share.
LIMITS = ("max_iter", "max_time")


@dataclass(frozen=True)
class StepTest:
    """``|step| <= tolerance (|theta| + tolerance)``."""

    tolerance: float

    def __call__(self, theta: NDArray[np.float64], length: float) -> bool:
        """Whether a step of this length is too short to matter at `theta`."""
        return length <= self.tolerance * (norm(theta) + self.tolerance)


class Stagnation:
    """Tells a run that only moves inside the rounding of its loss.

    It holds after 30 accepted iterations in a row that changed the loss by rounding only and
    in which the gradient did not fall to 0.9 of its lowest norm: at a kink of the loss (ReLU),
    or where arithmetic gives no smaller gradient.
    """

    def __init__(self) -> None:
        self._lowest = np.inf
        self._idle = 0

    def observe(self, before: float, after: float, gradient_norm: float) -> None:
        """Take note of an accepted iteration: its losses and the gradient it ends with."""
        moved = abs(before - after) > IDLE_CHANGE * abs(before)
        if moved or gradient_norm < IDLE_GRADIENT * self._lowest:
            self._idle = 0
            self._lowest = gradient_norm
        else:
            self._idle += 1

    @property
    def holds(self) -> bool:
        """Whether the run stagnates."""
        return self._idle >= IDLE_ITERATIONS

    def state(self) -> State:
        """Return the lowest gradient and the idle iterations."""
        return take(self, "_lowest", "_idle")

    def restore(self, state: State) -> None:
        """Take the state over."""
        put(self, state, "_lowest", "_idle")


@dataclass(frozen=True)
class Tolerances:
    """The limits of a run, as `train` takes them."""

    gradient: float
    loss: float
    step: float
    target: float | None
    max_iter: int


class Stopping:
    """The tests between two iterations, in this order.

    The method's own verdict (failed, damping_limit, converged_step), target, gradient, loss
    change, step length, divergence, validation loss, iterations, time. A run that would count as
    converged is diverging if its weights do not settle (`DivergenceTest`).
    """

    def __init__(self, tolerances: Tolerances, clock: Clock, validation: Unwatched) -> None:
        self._limits = tolerances
        self._clock = clock
        self._validation = validation
        self._step_test = StepTest(tolerances.step)
        self._divergence = DivergenceTest()
        self._stagnation = Stagnation()
        self.iteration = 0

    @property
    def exhausted(self) -> bool:
        """Whether no further iteration is allowed."""
        return self.iteration >= self._limits.max_iter or self._clock.expired

    def at_start(self, point: Linearisation) -> Verdict | None:
        """Test the starting point."""
        if not is_usable(point):
            what = "loss" if not np.isfinite(point.loss) else "gradient"
            return Verdict("failed", f"the {what} at theta0 is not finite; theta was not moved")
        size = norm(point.gradient)
        self._observe(point, size, 0.0)
        return self._reached(point, size) or self._used_up()

    def again(self, verdict: Verdict | None) -> Verdict | None:
        """Return the verdict on a resumed run: its own, or the limits of this call."""
        if verdict is None or verdict.status in LIMITS:
            return self._used_up()
        return verdict

    def state(self) -> State:
        """Return the iterations done, and what the tests remember of them."""
        return {
            "iteration": self.iteration,
            "divergence": self._divergence.state(),
            "stagnation": self._stagnation.state(),
        }

    def restore(self, state: State) -> None:
        """Take the state over."""
        put(self, state, "iteration")
        self._divergence.restore(state["divergence"])
        self._stagnation.restore(state["stagnation"])

    def after(self, before: Linearisation, move: Move) -> Verdict | None:
        """Test the end of an iteration that went from `before` to ``move.point``."""
        self.iteration += 1
        if move.accepted:
            self._observe(move.point, move.gradient_norm, move.step_norm)
            self._stagnation.observe(before.loss, move.point.loss, move.gradient_norm)
        verdict = move.verdict or self._converged(before, move)
        if move.accepted and (verdict is None or verdict.status.startswith("converged")):
            verdict = self._diverging(move.point, verdict is not None) or verdict
        if verdict is None and not move.cut:  # a pass that was cut is done again on resuming
            verdict = self._validation.verdict()
        return verdict or self._used_up()

    def _observe(self, point: Linearisation, size: float, step_norm: float) -> None:
        self._divergence.observe(point.loss, size, norm(point.theta), step_norm)

    def _reached(self, point: Linearisation, size: float) -> Verdict | None:
        """Test the loss, and the norm `size` of the gradient."""
        target = self._limits.target
        if target is not None and point.loss <= target:
            return Verdict("target_reached", f"loss {point.loss:.6g} <= {target:.6g}")
        if size <= self._limits.gradient:
            return Verdict(
                "converged_gradient", f"|gradient| {size:.3g} <= {self._limits.gradient:.3g}"
            )
        if point.loss == 0.0:
            return Verdict("converged_gradient", "the loss is zero: an exact fit")
        return None

    def _converged(self, before: Linearisation, move: Move) -> Verdict | None:
        if not move.accepted:
            return None
        verdict = self._reached(move.point, move.gradient_norm)
        if verdict is not None:
            return verdict
        change = abs(before.loss - move.point.loss)
        tested = self._limits.loss > 0.0 and move.settled
        if tested and change <= self._limits.loss * abs(before.loss):
            return Verdict(
                "converged_loss",
                f"the loss changed by {change:.3g} <= {self._limits.loss:.3g} of {before.loss:.6g}",
            )
        if self._stagnation.holds:
            return Verdict(
                "converged_loss",
                f"{IDLE_ITERATIONS} iterations changed the loss by rounding only",
            )
        if self._step_test(move.point.theta, move.step_norm):
            return Verdict(
                "converged_step",
                f"|step| {move.step_norm:.3g} <= {self._limits.step:.3g} |theta|",
            )
        return None

    def _diverging(self, point: Linearisation, converged: bool) -> Verdict | None:
        if not self._divergence.holds(converged=converged):
            return None
        return Verdict(
            "diverging",
            f"theta grows without settling (now {norm(point.theta):.3g}) while the gradient "
            f"vanishes (now {norm(point.gradient):.3g}): the loss approaches an infimum "
            f"(now {point.loss:.6g}) at infinity",
        )

    def _used_up(self) -> Verdict | None:
        if self.iteration >= self._limits.max_iter:
            return Verdict("max_iter", f"{self._limits.max_iter} iterations done")
        if self._clock.expired:
            return Verdict("max_time", f"time limit reached after {self._clock.seconds:.3g} s")
        return None
