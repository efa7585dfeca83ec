"""Method "auto": quasi-Newton or second-order steps, whichever lower the loss at less cost."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fastggn.training.methods.lbfgs import QuasiNewton
from fastggn.training.step import Choice, Iteration, Method, Work

if TYPE_CHECKING:
    from fastggn.objective.point import Point
    from fastggn.objective.problem import Problem


# The work of a second-order iteration in evaluations of loss and gradient. Its matrix takes T N^2
# operations, an evaluation T N (the dual matrix has T n_L in place of N). The measured work is 6 to
# 55 for N from 61 to 760 (docs/decisions/0010-method-auto.md).
EVALUATIONS_PER_SIDE, LEAST_WORK = 0.05, 10.0
# Steps of L-BFGS in one iteration.
BURST = 5
# Second-order iterations of a trial: their damping must settle first.
TRIAL = 3
# A trial begins after this multiple of its own work; each failed trial doubles the wait.
PATIENCE = 2.0
# Newton's method takes over after so many successive iterations with a fall below this share, once
# the loss is at most this share of that of the best constant outputs: on a plateau its steps go to
# the next minimum, however bad, and the damped steps to an exact fit beyond.
SLOW, SLOW_ITERATIONS, FITTED = 0.01, 3, 0.22
# With any loss it takes over after so many with a fall below this share: the damped steps have
# settled at a minimum, and creep.
SETTLED, SETTLED_ITERATIONS = 1e-4, 30


class Alternating(Method):
    """L-BFGS, with trials of the second-order method; the better of the two stays.

    The measure is the relative fall of the loss for each evaluation, not for each second, so that
    a run can be repeated. A method that becomes worse than the last rate of the other gives way.
    """

    _resumes = (
        "_second_order",
        "_patience",
        "_spent",
        "_left",
        "_first_loss",
        "_rate",
        "_other_rate",
        "_quasi",
        "_method",
    )

    def __init__(self, problem: Problem, method: Method, work: Work) -> None:
        self._quasi = QuasiNewton(problem, work, burst=BURST)
        self._method = method
        self._work = work
        self._cost = max(LEAST_WORK, EVALUATIONS_PER_SIDE * smaller_side(problem))
        self._second_order = False
        self._patience = PATIENCE * TRIAL * self._cost
        self._spent = 0.0  # evaluations of the current method since it took over
        self._left = 0  # remaining iterations of the trial
        self._first_loss = 0.0  # the loss at the start of the trial
        self._rate = 0.0  # of the current method
        self._other_rate = 0.0

    @property
    def solver(self) -> Choice:
        """The solver of the current method, and the reasons of both methods."""
        name, reason = self._method.solver
        return Choice(name if self._second_order else "lbfgs", f"lbfgs, then {name}: {reason}")

    def step(self, point: Point) -> Iteration:
        """Do one iteration of the current method, and change to the other one if that is due."""
        if self._second_order:
            return self._curved(point)
        before = self._work.evaluations
        iteration = self._quasi.step(point)
        # At least one: without a direction of descent there is no evaluation.
        evaluations = float(max(1, self._work.evaluations - before))
        self._spent += evaluations
        self._rate = _mean(self._rate, _fall(point, iteration) / evaluations)
        if not iteration.accepted:
            self._rate = 0.0
        elif self._spent < self._patience:
            return iteration
        self._change(trial=True)
        # If the first method found no step, the iteration tries the other one too.
        return iteration if iteration.accepted else self._curved(point)

    def _curved(self, point: Point) -> Iteration:
        if self._spent == 0.0:
            self._first_loss = float(point.loss)
        iteration = self._method.step(point)
        new = iteration.point
        self._spent += self._cost
        if iteration.accepted:
            self._quasi.memory.add(new.theta - point.theta, new.gradient - point.gradient)
        self._left -= 1
        if self._left > 0 or iteration.stop is not None:
            return iteration
        if self._left == 0:
            fall = (self._first_loss - float(new.loss)) / abs(self._first_loss or 1.0)
            self._rate = fall / self._spent
        else:
            self._rate = 0.5 * (self._rate + _fall(point, iteration) / self._cost)
        if self._rate < self._other_rate:
            self._patience *= 2.0
            self._change(trial=False)
        return iteration

    def _change(self, *, trial: bool) -> None:
        self._rate, self._other_rate = 0.0, self._rate
        self._second_order = trial
        self._spent, self._left = 0.0, TRIAL if trial else 0


def smaller_side(problem: Problem) -> int:
    """Return the side of the smaller of the two systems: N or T n_L."""
    return min(problem.n_params, problem.n_rows)


class Handover(Method):
    """One method while it lowers the loss quickly or the fit is bad, then another to the end."""

    _resumes = ("_slow", "_settled", "_over", "_first", "_second")

    def __init__(self, first: Method, second: Method) -> None:
        self._first = first
        self._second = second
        self._slow = self._settled = 0
        self._over = False
        self._fitted: float | None = None

    @property
    def solver(self) -> Choice:
        """The solver of the current method, and the reasons of both methods."""
        both = (": ".join(method.solver) for method in (self._first, self._second))
        return Choice(self._at_hand.solver.name, "; later ".join(both))

    @property
    def _at_hand(self) -> Method:
        return self._second if self._over else self._first

    def step(self, point: Point) -> Iteration:
        """Do one iteration of the current method."""
        iteration = self._at_hand.step(point)
        if self._over:
            return iteration
        fall = _fall(point, iteration)
        self._slow = self._slow + 1 if fall < SLOW else 0
        self._settled = self._settled + 1 if fall < SETTLED else 0
        slow = self._slow >= SLOW_ITERATIONS and self._fits(iteration.point)
        settled = self._settled >= SETTLED_ITERATIONS
        self._over = slow or settled or iteration.stop is not None
        return replace(iteration, stop=None)

    def _fits(self, point: Point) -> bool:
        if self._fitted is None:
            self._fitted = FITTED * point.loss_scales()[0]
        return bool(point.loss <= self._fitted)


def _mean(rate: float, latest: float) -> float:
    """Return the mean of the latest rate and an earlier one (0 stands for none)."""
    return latest if rate == 0.0 else 0.5 * (rate + latest)


def _fall(point: Point, iteration: Iteration) -> float:
    """Return the relative fall of the loss."""
    before = float(point.loss)
    return (before - float(iteration.point.loss)) / abs(before) if before else 0.0
