"""Method "ggn": Shen's generalised Gauss-Newton iteration, with fixed step length, undamped."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from fastggn.runtime.errors import AscentWarning
from fastggn.training.fallback import Fallback
from fastggn.training.step import Choice, Ending, Iteration, Method, arrive, norm

if TYPE_CHECKING:
    from fastggn.objective.point import Point
    from fastggn.objective.problem import Problem
    from fastggn.solvers.base import Solution


# An increase of the loss below these shares is rounding: of the loss, and of the first loss (at an
# exact fit the loss is the squared rounding of the outputs).
ROUNDING_RELATIVE = 1e-12
ROUNDING_ABSOLUTE = 1e-27


class GaussNewtonSteps(Method):
    """``theta <- theta - rate G^+ g`` (Shen 2018, Eqs. 38-40).

    A singular system, as for N > T n_L, has the minimum-norm step. Every finite step is accepted;
    the first step that raises the loss issues a warning.
    """

    _resumes = ("_first_loss", "_warned", "_systems")

    def __init__(self, problem: Problem, systems: Fallback, rate: float) -> None:
        self._problem = problem
        self._systems = systems
        self._rate = rate
        self._first_loss: float | None = None
        self._warned = False

    @property
    def solver(self) -> Choice:
        """The solver of the systems."""
        return self._systems.choice

    def step(self, point: Point) -> Iteration:
        """Do one step."""
        system = self._systems.prepare(point)
        solution = system.solve(0.0)
        step = self._rate * solution.step
        new, stop = point, None
        if not solution.ok:
            stop = Ending("failed", f"no step: {solution.message or solution.status}")
        else:
            self._systems.work.evaluations += 1
            arrival = arrive(self._problem, point.theta + step)
            if arrival is not None:
                new = arrival
            else:
                stop = Ending(
                    "failed",
                    f"the undamped step of length {norm(step):.3g} leads to a loss or gradient "
                    "that is not finite; theta was not moved (method 'lm' would shorten it)",
                )
        self._warn_of_ascent(point, new)
        return Iteration(
            new,
            norm(step) if np.isfinite(step).all() else np.nan,
            system.name,
            accepted=stop is None,
            gain_ratio=self._gain(point, new, solution) if stop is None else None,
            rank=solution.rank,
            rcond=solution.rcond,
            stop=stop,
        )

    def _gain(self, point: Point, new: Point, solution: Solution) -> float:
        step, rate = solution.step, self._rate
        if solution.status == "ok":  # G s = -g tells s^T G s
            predicted = -rate * (1.0 - 0.5 * rate) * float(point.gradient @ step)
        else:
            predicted = point.predicted_decrease(rate * step)
        return (point.loss - new.loss) / predicted if predicted > 0.0 else 0.0

    def _warn_of_ascent(self, old: Point, new: Point) -> None:
        if self._first_loss is None:
            self._first_loss = old.loss
        increase = new.loss - old.loss
        floor = max(ROUNDING_RELATIVE * old.loss, ROUNDING_ABSOLUTE * self._first_loss)
        if increase > floor and not self._warned:
            self._warned = True
            warnings.warn(
                f"an undamped step raised the loss from {old.loss:.6g} to {new.loss:.6g}; "
                "method 'ggn' takes it all the same (method 'lm' would not)",
                AscentWarning,
                stacklevel=2,
            )
