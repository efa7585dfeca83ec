"""Methods "bp" (gradient descent with momentum) and "adam": the first-order baselines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastggn.training.run import Clock
from fastggn.training.step import Choice, Ending, Iteration, Method, Work, arrive, norm

if TYPE_CHECKING:
    from fastggn.objective.point import Point
    from fastggn.objective.problem import Problem


# Kingma and Ba 2015, Algorithm 1.
ADAM_FIRST, ADAM_SECOND, ADAM_EPSILON = 0.9, 0.999, 1e-8


def batches(
    n_samples: int, batch_size: int, rng: np.random.Generator
) -> Iterator[NDArray[np.intp]]:
    """Yield the sorted rows of each batch of one pass over the samples in a new random order."""
    order = rng.permutation(n_samples)
    for start in range(0, n_samples, batch_size):
        yield np.sort(order[start : start + batch_size])


def diverged(point: Point, step: NDArray[np.float64], solver: str) -> Iteration:
    """Return the outcome of an iteration with a non-finite theta: theta stays at `point`."""
    return Iteration(
        point,
        norm(step),
        solver,
        accepted=False,
        stop=Ending(
            "failed",
            "an iteration led to a loss or gradient that is not finite; theta was not moved "
            "(a smaller rate or step may help)",
        ),
    )


class GradientSteps(Method):
    """``v <- momentum v - rate g; theta <- theta + v`` on all samples."""

    _resumes = ("_velocity",)

    solver = Choice("gradient", "all samples, fixed learning rate")

    def __init__(self, problem: Problem, rate: float, momentum: float, work: Work) -> None:
        self._problem = problem
        self._rate = rate
        self._momentum = momentum
        self._work = work
        self._velocity = np.zeros(problem.n_params)

    def step(self, point: Point) -> Iteration:
        """Take one gradient step."""
        step = self._momentum * self._velocity - self._rate * point.gradient
        self._work.evaluations += 1
        new = arrive(self._problem, point.theta + step)
        if new is None:
            return diverged(point, step, "gradient")
        self._velocity = step
        return Iteration(new, norm(step), "gradient")


class AdamSteps(Method):
    """Adam (Kingma and Ba 2015); one iteration is one pass over the samples."""

    _resumes = ("_steps", "_mean", "_square")
    solver = Choice("adam", "")

    def __init__(
        self,
        problem: Problem,
        rate: float,
        batch_size: int,
        rng: np.random.Generator,
        clock: Clock,
        work: Work,
    ) -> None:
        self._problem = problem
        self._rate = rate
        self._batch_size = batch_size
        self._rng = rng
        self._clock = clock
        self._work = work
        self._mean = np.zeros(problem.n_params)
        self._square = np.zeros(problem.n_params)
        self._steps = 0
        self.solver = Choice("adam", f"batches of {batch_size} of {problem.n_samples} samples")

    def step(self, point: Point) -> Iteration:
        """Do one pass over the samples in batches."""
        theta, cut = point.theta, False
        for part in self._parts():
            theta = theta + self._step(part.gradient(theta))
            if self._clock.expired or not np.isfinite(theta).all():
                cut = True
                break
        self._work.evaluations += 1
        new = arrive(self._problem, theta)
        step = theta - point.theta
        if new is None:
            return diverged(point, step, "adam")
        return Iteration(new, norm(step), "adam", cut=cut)

    def _parts(self) -> Iterator[Problem]:
        """Yield the problem on each batch of a pass, or the problem itself for a single batch."""
        if self._batch_size >= self._problem.n_samples:
            yield self._problem
            return
        for rows in batches(self._problem.n_samples, self._batch_size, self._rng):
            yield self._problem.subset(rows)

    def _step(self, gradient: NDArray[np.float64]) -> NDArray[np.float64]:
        self._steps += 1
        self._mean = ADAM_FIRST * self._mean + (1.0 - ADAM_FIRST) * gradient
        self._square = ADAM_SECOND * self._square + (1.0 - ADAM_SECOND) * gradient**2
        mean = self._mean / (1.0 - ADAM_FIRST**self._steps)
        square = self._square / (1.0 - ADAM_SECOND**self._steps)
        return -self._rate * mean / (np.sqrt(square) + ADAM_EPSILON)
