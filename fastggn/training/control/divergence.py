"""Detect a minimum at infinity: the gradient tends to zero, but the weights do not settle."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastggn.objective.problem import Problem
from fastggn.solvers.base import Shift
from fastggn.solvers.choice import choose_solver, spares_biases
from fastggn.solvers.over_ranks import over_ranks
from fastggn.training.control.separation import lacks_minimum
from fastggn.training.resumable import Resumable, State
from fastggn.training.step import norm

if TYPE_CHECKING:
    from fastggn.objective.point import Point

# Loss, and the norms of gradient, theta and step.
Norms = tuple[float, float, float, float]

# Towards an infimum at infinity (separable classes, saturated units) the gradient falls
# exponentially while each step lengthens theta by about the same amount. At a finite minimum the
# steps shrink with the gradient. So the gradient falls by this factor in the window ...
GRADIENT_FALL = 1e-3
# ... of at least so many accepted steps, each of which lengthened theta ...
SHORTEST_WINDOW = 3
LONGEST_WINDOW = 200
# ... while the steps do not shrink below this share of the window's first step,
STEADY = 0.5
# and theta grows by this factor.
GROWTH = 1.01
# As long as no convergence test holds, the gradient must also be this far below its peak, and
# between two iterations neither the step may shrink to this share nor the gradient grow by its
# inverse (the zigzag along a valley).
FAR_BELOW_PEAK = 1e-6
SMOOTH = 0.15
# When a convergence test holds, so many iterations at a small gradient are enough.
FLAT_WINDOW = 6
# An undamped method can leap to saturated units: theta has run away if it has grown by the first
# factor, unless the loss is below the second share of the first loss (an exact fit).
RUN_AWAY = 1e6
EXACT_FIT = 1e-12
# One undamped Gauss-Newton step towards a finite minimum leaves less than this share of the
# gradient. Towards infinity it leaves more: exp(-2) of it where residuals fall like exp(-w), and
# (1 + 1/p)^(-2 p - 1) >= 0.05 where they fall like w^-p with p >= 0.1.
SETTLES = 0.02
# Slopes hide a fall of the loss by more than these shares, of the loss and of that of the best
# constant outputs.
HIDDEN, HIDDEN_OF_CONSTANT = 1e-7, 1e-13
# The most operations of a step that looks for such a fall: a second.
AFFORDABLE = 1e10


def has_minimum(problem: Problem, point: Point) -> bool:
    """Whether the loss takes a finite minimum for certain, or one step away from a point."""
    if _is_attained(problem):
        return True
    step = _undamped(problem, point)
    if step is None:
        return False  # no step shows a minimum: what the run itself shows stands
    there = problem.at(point.theta + step)
    return bool(norm(there.gradient) <= SETTLES * norm(point.gradient))


def hides_a_fall(problem: Problem, point: Point) -> bool:
    """Whether small slopes of a convex problem hide a fall of the loss, as near cond(J) = 1e10."""
    if not isinstance(problem, Problem) or not _is_convex(problem):
        return False
    if problem.n_rows * problem.n_params**2 > AFFORDABLE:
        return False
    step = _undamped(problem, point)
    if step is None:
        return False
    least = HIDDEN * point.loss + HIDDEN_OF_CONSTANT * point.loss_scales()[0]
    return bool(point.predicted_decrease(step) > least)


def _undamped(problem: Problem, point: Point) -> NDArray[np.float64] | None:
    """Return the undamped Gauss-Newton step of minimum norm, or None if there is none."""
    try:
        solver = choose_solver("auto", problem, needs_minimum_norm=True)[0]
        state = over_ranks(solver, problem.comm).prepare(point)
        step = -state.solve(Shift(0.0, point.decay)).step
    except (MemoryError, np.linalg.LinAlgError):
        return None
    return step if np.isfinite(step).all() else None


def _is_convex(problem: Problem) -> bool:
    net = problem.network
    affine = net.n_layers == 1 and net.activations[-1].name == "identity"
    return affine and problem.loss_function.convex


def _is_attained(problem: Problem) -> bool:
    """Whether the objective has a minimum by its form."""
    # A penalty of every parameter bounds the sets of lower loss; a sum of squares of affine
    # functions always takes its minimum.
    if problem.l2 > 0.0 and not spares_biases(problem):
        return True
    if lacks_minimum(problem) is False:
        return True
    net = problem.network
    affine = all(activation.name == "identity" for activation in net.activations)
    return net.n_layers == 1 and affine and problem.loss_function.name == "squared"


class DivergenceTest(Resumable):
    """Detects divergence from the norms of gradient, theta and step of accepted iterations.

    The test looks at the shortest window of last iterations in which the gradient fell by
    `GRADIENT_FALL`: a run diverges if theta grew steadily there while the loss did not rise.
    """

    _resumes = ("_peak", "_first_loss", "_first_norm")

    def __init__(self) -> None:
        self._records: deque[Norms] = deque(maxlen=LONGEST_WINDOW)
        self._peak = 0.0
        self._first_loss: float | None = None
        self._first_norm = 0.0  # of the first theta

    def observe(
        self, loss: float, gradient_norm: float, theta_norm: float, step_norm: float
    ) -> None:
        """Record an accepted iteration (the starting point has a step of 0)."""
        self._records.append((loss, gradient_norm, theta_norm, step_norm))
        self._peak = max(self._peak, gradient_norm)
        if self._first_loss is None:
            self._first_loss, self._first_norm = loss, theta_norm

    def holds(self, *, converged: bool) -> bool:
        """Whether the run diverges; `converged` says whether a convergence test holds."""
        if converged and self.away:
            return True
        if converged:
            return self._is_growing(self._window()) or self._is_growing(self._flat())
        if self._records[-1][1] > FAR_BELOW_PEAK * self._peak:
            return False
        window = self._window()
        return self._is_growing(window) and self._is_calm(window)

    def state(self) -> State:
        """Return the recorded norms, the peak of the gradient, and loss and norm at the start."""
        records = np.array(self._records, dtype=np.float64).reshape(-1, 4)
        return {**super().state(), "records": records}

    def restore(self, state: State) -> None:
        """Restore the norms and the start."""
        super().restore(state)
        self._records.clear()
        for loss, gradient_norm, theta_norm, step_norm in np.asarray(state["records"]).tolist():
            self._records.append((loss, gradient_norm, theta_norm, step_norm))

    @staticmethod
    def _is_growing(window: list[Norms]) -> bool:
        if len(window) <= SHORTEST_WINDOW:
            return False
        pairs = zip(window, window[1:], strict=False)
        monotone = all(b[0] <= a[0] and b[2] > a[2] for a, b in pairs)
        grown = window[-1][2] >= GROWTH * window[0][2]
        return monotone and grown and window[-1][3] >= STEADY * window[1][3]

    @staticmethod
    def _is_calm(window: list[Norms]) -> bool:
        pairs = list(zip(window, window[1:], strict=False))
        gradients = all(b[1] <= a[1] / SMOOTH for a, b in pairs)
        return gradients and all(b[3] >= SMOOTH * a[3] for a, b in pairs[1:])

    def _flat(self) -> list[Norms]:
        # The last iterations, if the gradient was small in all of them.
        window = list(self._records)[-FLAT_WINDOW - 1 :]
        small = all(record[1] <= GRADIENT_FALL * self._peak for record in window)
        return window if small and len(window) > FLAT_WINDOW else []

    @property
    def away(self) -> bool:
        """Whether theta has grown beyond all measure without an exact fit."""
        if self._first_loss is None:
            return False
        loss, _, theta_norm, _ = self._records[-1]
        away = theta_norm > RUN_AWAY * (1.0 + self._first_norm)
        return away and loss > EXACT_FIT * self._first_loss

    def _window(self) -> list[Norms]:
        records = list(self._records)
        last = records[-1][1]
        for start in range(len(records) - 2, -1, -1):
            if last <= GRADIENT_FALL * records[start][1]:
                return records[start:]
        return []
