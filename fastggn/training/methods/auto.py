"""Method "auto": quasi-Newton steps and second-order ones, whichever lower the loss for less."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fastggn.training.methods.lbfgs import QuasiNewton
from fastggn.training.resumable import State, put, take
from fastggn.training.step import Counts, Method, Move

if TYPE_CHECKING:
    from fastggn.objective.point import Linearisation
    from fastggn.objective.problem import Problem


# The work of a second-order iteration in evaluations of loss and gradient: its matrix takes T N^2
# operations where these take T N (the dual one likewise, of its own side). Measured
# from 6 to 55 for N from 61 to 760 (docs/decisions/0012-method-auto.md).
EVALUATIONS_PER_SIDE, LEAST_WORK = 0.05, 10.0
# Second-order iterations of a trial: their damping has to settle first.
TRIAL = 3
# A trial comes after so many of its own works, and after each that failed, twice as late.
PATIENCE = 2.0
# So many iterations in a row that lower the loss by less than this share hand over to Newton.
SLOW, SLOW_ITERATIONS = 0.01, 3
STATE = ("_second_order", "_patience", "_work", "_left", "_first_loss", "_rate", "_other_rate")


class Alternating:
    """L-BFGS at first; after a while a trial of the second-order method, which stays if it pays.

    What pays is told by the fall of the loss, as a share of it, for the work done, counted in
    evaluations: never by the clock, so that a run can be repeated. Where the other method was
    better when last seen, it takes over again.
    """

    def __init__(self, problem: Problem, method: Method, counts: Counts) -> None:
        self._quasi = QuasiNewton(problem, counts)
        self._method = method
        self._counts = counts
        self._cost = max(LEAST_WORK, EVALUATIONS_PER_SIDE * smaller_side(problem))
        self._second_order = False
        self._patience = PATIENCE * TRIAL * self._cost
        self._work = 0.0  # of the method at hand since it took over
        self._left = 0  # iterations of the trial still to come
        self._first_loss = 0.0  # at its beginning
        self._rate = 0.0  # of the method at hand
        self._other_rate = 0.0

    @property
    def solver(self) -> str:
        """The solver of the second-order systems, and why it was chosen."""
        return f"lbfgs, then {self._method.solver}"

    def advance(self, point: Linearisation) -> Move:
        """Do one iteration of the method at hand, and see whether the other is due."""
        if self._second_order:
            return self._curved(point)
        before = self._counts.evaluations
        move = self._quasi.advance(point)
        # One at least: without a direction of descent nothing is evaluated.
        work = float(max(1, self._counts.evaluations - before))
        self._work += work
        rate = _fall(point, move) / work
        self._rate = rate if self._rate == 0.0 else 0.5 * (self._rate + rate)
        if not move.accepted:
            self._rate = 0.0
        if self._work >= self._patience or not move.accepted:
            self._change(move.point, trial=True)
            if not move.accepted:  # nothing was won: an iteration is one that tried both
                return self._curved(point)
        return move

    def _curved(self, point: Linearisation) -> Move:
        if self._work == 0.0:
            self._first_loss = float(point.loss)
        move = self._method.advance(point)
        self._work += self._cost
        if move.accepted:
            self._quasi.memory.add(
                move.point.theta - point.theta, move.point.gradient - point.gradient
            )
        self._left -= 1
        if self._left > 0 or move.verdict is not None:
            return move
        if self._left == 0:
            fall = (self._first_loss - float(move.point.loss)) / abs(self._first_loss or 1.0)
            self._rate = fall / self._work
        else:
            self._rate = 0.5 * (self._rate + _fall(point, move) / self._cost)
        if self._rate < self._other_rate:
            self._patience *= 2.0
            self._change(move.point, trial=False)
        return move

    def _change(self, point: Linearisation, *, trial: bool) -> None:
        self._rate, self._other_rate = 0.0, self._rate
        self._second_order = trial
        self._work, self._left = 0.0, TRIAL if trial else 0

    def state(self) -> State:
        """Return both methods, and which is at hand and why."""
        parts = {"quasi": self._quasi.state(), "method": self._method.state()}
        return {**take(self, *STATE), **parts}

    def restore(self, state: State) -> None:
        """Take the state over."""
        put(self, state, *STATE)
        self._quasi.restore(state["quasi"])
        self._method.restore(state["method"])


def smaller_side(problem: Problem) -> int:
    """Return the side of the smaller of the two systems: N or T n_L."""
    return min(problem.n_params, problem.n_samples * problem.n_outputs)


class Handover:
    """One method while it lowers the loss quickly, another for the rest of the run."""

    def __init__(self, first: Method, second: Method) -> None:
        self._first = first
        self._second = second
        self._slow = 0

    @property
    def solver(self) -> str:
        """The solvers of both."""
        return f"{self._first.solver}; later {self._second.solver}"

    def advance(self, point: Linearisation) -> Move:
        """Do one iteration of the method at hand."""
        if self._slow >= SLOW_ITERATIONS:
            return self._second.advance(point)
        move = self._first.advance(point)
        self._slow = self._slow + 1 if _fall(point, move) < SLOW else 0
        if move.verdict is None:
            return move
        self._slow = SLOW_ITERATIONS
        return replace(move, verdict=None)

    def state(self) -> State:
        """Return both methods, and how slow the first one was."""
        parts = {"first": self._first.state(), "second": self._second.state()}
        return {**take(self, "_slow"), **parts}

    def restore(self, state: State) -> None:
        """Take the state over."""
        put(self, state, "_slow")
        self._first.restore(state["first"])
        self._second.restore(state["second"])


def _fall(point: Linearisation, move: Move) -> float:
    """Return by which share of itself the loss has fallen."""
    before = float(point.loss)
    return (before - float(move.point.loss)) / abs(before) if before else 0.0
