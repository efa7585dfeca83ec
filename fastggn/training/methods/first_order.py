"""Methods "bp" (gradient descent with momentum) and "adam": the first-order baselines."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastggn.runtime.errors import as_float_vector
from fastggn.training.clock import Clock
from fastggn.training.resumable import State, put, take
from fastggn.training.step import Counts, Move, Verdict, arrive, norm

if TYPE_CHECKING:
    from fastggn.objective.point import Linearisation
    from fastggn.objective.problem import Problem


# Kingma and Ba 2015, Algorithm 1.
ADAM_FIRST, ADAM_SECOND, ADAM_EPSILON = 0.9, 0.999, 1e-8


def batches(
    n_samples: int, batch_size: int, rng: np.random.Generator
) -> Iterator[NDArray[np.intp]]:
    """Yield the rows of one pass over the samples in a new random order, sorted in a batch."""
    order = rng.permutation(n_samples)
    for start in range(0, n_samples, batch_size):
        yield np.sort(order[start : start + batch_size])


def diverged(point: Linearisation, step: NDArray[np.float64], solver: str) -> Move:
    """Return the move of an iteration that left the finite numbers: theta stays at `point`."""
    return Move(
        point,
        norm(step),
        solver,
        accepted=False,
        verdict=Verdict(
            "failed",
            "an iteration led to a loss or gradient that is not finite; theta was not moved "
            "(a smaller alpha may help)",
        ),
    )


class GradientDescent:
    """``v <- momentum v - alpha g; theta <- theta + v`` on all samples."""

    solver = "gradient: all samples, fixed learning rate"

    def __init__(self, problem: Problem, alpha: float, momentum: float, counts: Counts) -> None:
        self._problem = problem
        self._alpha = alpha
        self._momentum = momentum
        self._counts = counts
        self._velocity = np.zeros(problem.n_params)

    def advance(self, point: Linearisation) -> Move:
        """Take one gradient step."""
        step = self._momentum * self._velocity - self._alpha * point.gradient
        self._counts.evaluations += 1
        new = arrive(self._problem, point.theta + step)
        if new is None:
            return diverged(point, step, "gradient")
        self._velocity = step
        return Move(new, norm(step), "gradient")

    def state(self) -> State:
        """Return the velocity."""
        return {"velocity": self._velocity}

    def restore(self, state: State) -> None:
        """Take the state over."""
        self._velocity = as_float_vector("velocity", state["velocity"], self._problem.n_params)


class Adam:
    """Adam (Kingma and Ba 2015); one iteration is one pass over the samples."""

    def __init__(
        self,
        problem: Problem,
        alpha: float,
        batch_size: int,
        rng: np.random.Generator,
        clock: Clock,
        counts: Counts,
    ) -> None:
        self._problem = problem
        self._alpha = alpha
        self._batch_size = batch_size
        self._rng = rng
        self._clock = clock
        self._counts = counts
        self._mean = np.zeros(problem.n_params)
        self._square = np.zeros(problem.n_params)
        self._steps = 0
        self.solver = f"adam: batches of {batch_size} of {problem.n_samples} samples"

    def advance(self, point: Linearisation) -> Move:
        """Do one pass over the samples in batches."""
        theta, cut = point.theta, False
        for part in self._parts():
            theta = theta + self._step(part.gradient(theta))
            if self._clock.expired or not np.isfinite(theta).all():
                cut = True
                break
        self._counts.evaluations += 1
        new = arrive(self._problem, theta)
        step = theta - point.theta
        if new is None:
            return diverged(point, step, "adam")
        return Move(new, norm(step), "adam", cut=cut)

    def _parts(self) -> Iterator[Problem]:
        """Yield the problem on each batch of a pass; the problem itself, where it is one batch."""
        if self._batch_size >= self._problem.n_samples:
            yield self._problem
            return
        for rows in batches(self._problem.n_samples, self._batch_size, self._rng):
            yield self._problem.subset(rows)

    def state(self) -> State:
        """Return both moments and the number of steps."""
        return {**take(self, "_steps"), "mean": self._mean, "square": self._square}

    def restore(self, state: State) -> None:
        """Take the state over."""
        put(self, state, "_steps")
        self._mean = as_float_vector("mean", state["mean"], self._problem.n_params)
        self._square = as_float_vector("square", state["square"], self._problem.n_params)

    def _step(self, gradient: NDArray[np.float64]) -> NDArray[np.float64]:
        self._steps += 1
        self._mean = ADAM_FIRST * self._mean + (1.0 - ADAM_FIRST) * gradient
        self._square = ADAM_SECOND * self._square + (1.0 - ADAM_SECOND) * gradient**2
        mean = self._mean / (1.0 - ADAM_FIRST**self._steps)
        square = self._square / (1.0 - ADAM_SECOND**self._steps)
        return -self._alpha * mean / (np.sqrt(square) + ADAM_EPSILON)
