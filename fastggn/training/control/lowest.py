"""The lowest point of a method that takes every finite step, also one that raises the loss."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from fastggn.training.step import Ending, Iteration, Method, WrappedMethod

if TYPE_CHECKING:
    from fastggn.objective.point import Point
    from fastggn.objective.problem import Problem


# Losses that differ by less than these shares, of the loss and of the first loss (an exact fit),
# are the same: at a condition of 1e10 the loss of the same theta rounds to some 1e-8.
SAME, EXACT_FIT = 1e-7, 1e-20


class Lowest(WrappedMethod):
    """A method whose run keeps the theta of the lowest loss."""

    _resumes = (*WrappedMethod._resumes, "_iteration", "_first", "_loss", "_theta", "_found")

    def __init__(self, method: Method, problem: Problem) -> None:
        super().__init__(method)
        self._problem = problem
        self._iteration = self._found = 0
        self._first: float | None = None
        self._loss: float | None = None
        self._theta = np.zeros(problem.n_params)

    def step(self, point: Point) -> Iteration:
        """Do one iteration, and note its start if that is the lowest so far."""
        loss = float(point.loss)
        if self._loss is None or loss < self._loss:
            self._loss, self._theta, self._found = loss, point.theta, self._iteration
            self._first = loss if self._first is None else self._first
        self._iteration += 1
        return self._method.step(point)

    def kept(self, point: Point, stop: Ending) -> tuple[Point, Ending]:
        """Return the lowest point and the reason for the end, as it is there."""
        if self._loss is None or self._first is None:
            return point, stop
        if not point.loss > self._loss * (1.0 + SAME) + EXACT_FIT * self._first:
            return point, stop
        message = (
            f"{stop.message}; the loss there is {point.loss:.6g}: theta is that of the lowest "
            f"loss, {self._loss:.6g} after iteration {self._found}"
        )
        settled = stop.status.startswith("converged") or stop.status == "diverging"
        status = "failed" if settled else stop.status
        return self._problem.at(self._theta), replace(stop, status=status, message=message)
