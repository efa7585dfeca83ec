"""The tests that end a run, and the status that they give it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fastggn.runtime.errors import check_positive, hinted_fields
from fastggn.training.control.convergence import GradientTest, StepTest
from fastggn.training.control.divergence import DivergenceTest, hides_a_fall
from fastggn.training.control.infinity import falls_without_end, runs_to_infinity
from fastggn.training.resumable import Resumable
from fastggn.training.run import Clock
from fastggn.training.run_units import Units
from fastggn.training.step import Ending, Iteration, is_usable, norm

if TYPE_CHECKING:
    from fastggn.objective.point import Point
    from fastggn.objective.problem import Problem


# A change of the loss below the first share is rounding, and a fall of the gradient to the second
# share is progress. The run ends after so many iterations without either.
IDLE_CHANGE, IDLE_GRADIENT, IDLE_ITERATIONS = 2e-13, 0.9, 30
# So many iterations after a run was seen not to diverge, which takes steps of whole systems.
LOOK_AGAIN = 10
# The damping times the step, over the gradient: above this share the damping makes the step.
HELD = 0.5
# Statuses of a run that has settled, perhaps at a saddle.
SETTLED = ("converged_gradient", "converged_loss", "converged_step", "damping_limit")
# Statuses that depend on the limits of the call.
LIMITS = ("max_iter", "max_time")


class Stagnation(Resumable):
    """Detects a run that moves only inside the rounding of its loss.

    Such runs end at a kink of the loss (ReLU), or at the smallest gradient that the arithmetic
    allows.
    """

    _resumes = ("_lowest", "_idle")

    def __init__(self) -> None:
        self._lowest = np.inf
        self._idle = 0

    def observe(self, before: float, after: float, gradient_norm: float) -> None:
        """Record the losses and the final gradient of an accepted iteration."""
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


@hinted_fields
@dataclass(frozen=True, kw_only=True)
class Stop:
    """The tests that end a run: the argument `stop` of `train`.

    They are relative, so that the units of inputs and targets do not matter.

    Parameters
    ----------
    gradient : float
        Stop if every slope of the loss is at most this share of its terms,
        ``|g_j| <= gradient * mean_i |J_ij r_i|`` with r the gradient of the loss by the outputs (a
        slope of the size of its own rounding errors counts as zero); or at an exact fit, where the
        loss is at most ``gradient^2`` of that of the best constant outputs. 0 asks for a gradient
        or a loss of zero.
    loss : float
        Stop if an iteration changes the loss by at most this share; 0 disables the test.
    step : float
        Stop at ``|step| <= step |theta|``.
    target : float, optional
        Stop if the loss is at most this value.

    Raises
    ------
    TypeError, ValueError
        If a value is not a finite number, or negative.

    Examples
    --------
    >>> import fastggn as fg
    >>> fg.Stop(target=1e-3)
    Stop(gradient=1e-10, loss=0.0, step=1e-14, target=0.001)
    """

    gradient: float = 1e-10
    loss: float = 0.0
    step: float = 1e-14
    target: float | None = None

    def __post_init__(self) -> None:
        for name in ("gradient", "loss", "step", "target"):
            value = getattr(self, name)
            if value is not None or name != "target":
                object.__setattr__(self, name, check_positive(name, value, zero=True))


class Stopping(Resumable):
    """The tests between two iterations.

    The order is: the method's own stop (failed, damping_limit, converged_step), target, gradient,
    loss change, step length, divergence, validation loss, iterations, time.
    """

    _resumes = (
        "iteration",
        "_divergence",
        "_stagnation",
        "_settles_until",
        "_gradient_test",
        "_slope",
    )

    def __init__(
        self,
        limits: Stop,
        max_iter: int,
        clock: Clock,
        problem: Problem | None = None,
        units: Units | None = None,
    ) -> None:
        self._units = Units() if units is None else units
        self._limits = limits
        self._problem = problem
        self._max_iter = max_iter
        self._clock = clock
        self._step_test = StepTest(limits.step)
        n_params = 0 if problem is None else problem.n_params
        self._gradient_test = GradientTest(
            limits.gradient, n_params, self._units.worth, self._hides
        )
        self._divergence = DivergenceTest()
        self._stagnation = Stagnation()
        self.iteration = 0
        self._slope = 0.0  # the norm of the gradient before the iteration
        self._settles_until = 0  # up to which iteration the run does not diverge

    @property
    def exhausted(self) -> bool:
        """Whether the limit of iterations is reached."""
        return self.iteration >= self._max_iter or self._clock.expired

    def at_start(self, point: Point) -> Ending | None:
        """Test the starting point."""
        if not is_usable(point):
            what = "loss" if not np.isfinite(point.loss) else "gradient"
            return Ending("failed", f"the {what} at theta0 is not finite; theta was not moved")
        size = norm(point.gradient)
        self._observe(point, size, 0.0)
        self._slope = size
        stop = self._reached(point)
        if stop is not None and stop.status == "converged_gradient" and self._problem is not None:
            why = runs_to_infinity(self._problem, point, units=self._units)
            stop = stop if why is None else Ending("diverging", why)
        return stop or self._used_up()

    def again(self, stop: Ending | None) -> Ending | None:
        """Return the stop of a resumed run: the saved one, or a limit of this call."""
        if stop is None or stop.status in LIMITS:
            return self._used_up()
        return stop

    def after(self, before: float, iteration: Iteration) -> Ending | None:
        """Test the point after an iteration that began with the loss `before`."""
        self.iteration += 1
        if iteration.accepted:
            self._observe(iteration.point, iteration.gradient_norm, iteration.step_norm)
            self._stagnation.observe(before, iteration.point.loss, iteration.gradient_norm)
        stop = iteration.stop or self._converged(before, iteration)
        if iteration.accepted and (stop is None or stop.status.startswith("converged")):
            stop = self._diverging(iteration.point, stop is not None) or stop
        self._slope = iteration.gradient_norm
        return stop or iteration.early_stop or self._used_up()

    def _observe(self, point: Point, size: float, step_norm: float) -> None:
        self._divergence.observe(point.loss, size, norm(point.theta), step_norm)

    def _reached(self, point: Point) -> Ending | None:
        """Test the loss and the gradient against their limits."""
        target, loss = self._limits.target, point.loss * self._units.worth
        if target is not None and loss <= target:
            return Ending("target_reached", f"loss {loss:.6g} <= {target:.6g}")
        why = self._gradient_test(point)
        return None if why is None else Ending("converged_gradient", why)

    def _hides(self, point: Point) -> bool:
        return self._problem is not None and hides_a_fall(self._problem, point)

    def _converged(self, before: float, iteration: Iteration) -> Ending | None:
        if not iteration.accepted:
            return None
        stop = self._reached(iteration.point)
        if stop is not None:
            return stop
        change, worth = abs(before - iteration.point.loss), self._units.worth
        tested = self._limits.loss > 0.0 and iteration.settled
        if tested and change <= self._limits.loss * abs(before):
            return Ending(
                "converged_loss",
                f"the loss changed by {change * worth:.3g} <= {self._limits.loss:.3g} of "
                f"{before * worth:.6g}",
            )
        if self._stagnation.holds:
            return Ending(
                "converged_loss", f"{IDLE_ITERATIONS} iterations changed the loss by rounding only"
            )
        if self._step_test(iteration.point.theta, iteration.step_norm) and not self._held(
            iteration
        ):
            return Ending("converged_step", f"|step| <= {self._limits.step:.3g} |theta|")
        return None

    def _held(self, iteration: Iteration) -> bool:
        """Whether the damping alone, which now falls, made the step short."""
        if iteration.damping is None or iteration.rejections > 0:
            return False
        return iteration.damping * iteration.step_norm > HELD * self._slope

    def _diverging(self, point: Point, converged: bool) -> Ending | None:
        if self._problem is None:
            return None
        # A loss on classes, or with targets at the ends of a range, has its exact fit at infinity.
        endless = converged and falls_without_end(self._problem, point) is not None
        if not endless and not self._divergence.holds(converged=converged):
            return None
        if not converged and self.iteration < self._settles_until:
            return None
        away = converged and self._divergence.away
        why = runs_to_infinity(self._problem, point, away, self._units)
        if why is None:
            self._settles_until = self.iteration + LOOK_AGAIN
            return None
        return Ending("diverging", why)

    def _used_up(self) -> Ending | None:
        if self.iteration >= self._max_iter:
            return Ending("max_iter", f"{self._max_iter} iterations done")
        if self._clock.expired:
            return Ending("max_time", f"time limit reached after {self._clock.seconds:.3g} s")
        return None
