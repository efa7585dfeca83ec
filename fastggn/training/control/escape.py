"""Leave a strict saddle, at which a method has settled, by negative curvature or by noise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from fastggn.training.control.stopping import SETTLED, Stopping
from fastggn.training.methods.newton import DENSE_LIMIT
from fastggn.training.step import Ending, Iteration, Method, Work, WrappedMethod, norm

if TYPE_CHECKING:
    from fastggn.objective.point import Point
    from fastggn.objective.problem import Problem


Vector = NDArray[np.float64]
# An eigenvalue above minus this share of the largest one is rounding, not negative.
FLAT = 1e-10
# A loss below this share of the first loss is an exact fit: no lower loss exists.
EXACT_FIT = 1e-12
# Along d the loss must fall by this share of the promised decrease, |eigenvalue| t^2 / 2.
SUFFICIENT = 0.1
FIRST_LENGTH = 1e-2
# Noise: length of the perturbation over 1 + |theta|, tries, gradient steps of a try, and the
# relative decrease of the loss that proves that the point was not a minimum.
NOISE_LENGTH = 1e-2
NOISE_TRIES = 3
NOISE_STEPS = 200
NOISE_DECREASE = 1e-6


class Escape(ABC):
    """A way to leave a stationary point that is not a minimum."""

    def __init__(
        self, problem: Problem, first_loss: float, rng: np.random.Generator, work: Work
    ) -> None:
        self._problem = problem
        self._floor = EXACT_FIT * first_loss
        self._rng = rng
        self._work = work

    def leave(self, point: Point) -> Iteration | None:
        """Return an iteration to a lower loss, or None if none was found."""
        return None if point.loss <= self._floor else self._search(point)

    @abstractmethod
    def _search(self, point: Point) -> Iteration | None:
        """Return an iteration to a lower loss from a point that is not an exact fit."""


class Leaving(WrappedMethod):
    """A method that leaves each saddle at which it has settled, with one try for each point."""

    def __init__(self, method: Method, escape: Escape, stopping: Stopping, tried: bool) -> None:
        super().__init__(method)
        self._escape = escape
        self._stopping = stopping
        self._tried = tried
        self._way_out: Iteration | None = None

    def step(self, point: Point) -> Iteration:
        """Return the iteration that `leaves` found, or do one iteration of the method."""
        self._tried = False
        found, self._way_out = self._way_out, None
        return self._method.step(point) if found is None else found

    def may_leave(self, stop: Ending) -> bool:
        """Whether the method has settled and iterations are left."""
        return not self._tried and not self._stopping.exhausted and stop.status in SETTLED

    def leaves(self, point: Point, stop: Ending) -> bool:
        """Whether an escape to a lower loss was found."""
        self._way_out = self._escape.leave(point) if self.may_leave(stop) else None
        return self._way_out is not None


def lowest_eigenpair(
    problem: Problem, theta: Vector, rng: np.random.Generator
) -> tuple[float, Vector, float]:
    """Return the lowest Hessian eigenvalue, its unit vector, and the largest modulus.

    All are 0 where the Hessian is not finite.
    """
    if problem.n_params <= DENSE_LIMIT:
        hessian = problem.hessian(theta)
        if not np.isfinite(hessian).all():
            return 0.0, np.zeros(problem.n_params), 0.0
        values, vectors = np.linalg.eigh(hessian)
        return float(values[0]), vectors[:, 0], float(np.max(np.abs(values)))
    values, vectors, largest = lanczos_ends(problem.hessian_operator(theta), rng)
    if len(values) == 0:
        return 0.0, np.zeros(problem.n_params), largest
    return float(values[0]), vectors[:, 0], largest


def lanczos_ends(
    operator: LinearOperator,
    rng: np.random.Generator,
    count: int = 1,
    tol: float = 1e-4,
    basis: int | None = None,
) -> tuple[Vector, Vector, float]:
    """Return the converged lowest Ritz values, their vectors, and the largest modulus.

    There are no values where a product is not finite.
    """
    start = rng.standard_normal(operator.shape[0])
    if not np.isfinite(operator @ start).all():
        return np.zeros(0), np.zeros((start.size, 0)), 0.0
    largest = eigsh(operator, k=1, which="LM", v0=start, tol=1e-2, return_eigenvectors=False)
    try:
        values, vectors = eigsh(operator, k=count, which="SA", v0=start, tol=tol, ncv=basis)
    except ArpackNoConvergence as stopped:
        values, vectors = stopped.eigenvalues, stopped.eigenvectors
    return values, vectors, float(np.abs(largest[0]))


class NegativeCurvature(Escape):
    """Searches along the eigenvector of the lowest Hessian eigenvalue, if that is negative.

    The step length shrinks until the loss falls sufficiently, and then grows while the loss falls
    further. If the descent direction fails, its opposite is tried.
    """

    def _search(self, point: Point) -> Iteration | None:
        value, direction, scale = lowest_eigenpair(self._problem, point.theta, self._rng)
        if value >= -FLAT * scale or value == 0.0:
            return None
        if point.gradient @ direction > 0.0:
            direction = -direction
        for signed in (direction, -direction):
            length = self._length(point, signed, -value)
            if length > 0.0:
                new = self._problem.at(point.theta + length * signed)
                return Iteration(new, length, "negative_curvature")
        return None

    def _loss(self, point: Point, step: Vector) -> float:
        self._work.evaluations += 1
        loss = self._problem.loss(point.theta + step)
        return loss if np.isfinite(loss) else np.inf

    def _length(self, point: Point, direction: Vector, curvature: float) -> float:
        length = FIRST_LENGTH * (1.0 + norm(point.theta))
        for _ in range(20):
            loss = self._loss(point, length * direction)
            if point.loss - loss > SUFFICIENT * 0.5 * curvature * length**2:
                break
            length *= 0.25
        else:
            return 0.0
        for _ in range(20):
            further = self._loss(point, 2.0 * length * direction)
            if further >= loss:
                break
            length, loss = 2.0 * length, further
        return length


class Noise(Escape):
    """Adds Gaussian noise and descends from there (perturbed gradient descent, Jin et al. 2017).

    From a strict saddle the descent falls below the saddle's loss with high probability; from
    a minimum it cannot.
    """

    def _search(self, point: Point) -> Iteration | None:
        target = point.loss * (1.0 - NOISE_DECREASE)
        for attempt in range(NOISE_TRIES):
            noise = self._rng.standard_normal(point.theta.size)
            noise *= NOISE_LENGTH * (1.0 + norm(point.theta)) / norm(noise)
            theta = self._descend(point.theta + noise, target)
            if theta is not None:
                new = self._problem.at(theta)
                return Iteration(new, norm(theta - point.theta), "noise", rejections=attempt)
        return None

    def _descend(self, theta: Vector, target: float) -> Vector | None:
        loss, rate = self._problem.loss(theta), 1.0
        for _ in range(NOISE_STEPS):
            gradient = self._problem.gradient(theta)
            square = float(gradient @ gradient)
            if not np.isfinite(square) or square == 0.0:
                return None
            while True:
                self._work.evaluations += 1
                trial = self._problem.loss(theta - rate * gradient)
                if trial <= loss - 0.5 * rate * square:
                    break
                rate *= 0.5
                if rate * np.sqrt(square) <= 1e-16 * (1.0 + norm(theta)):
                    return None
            theta, loss, rate = theta - rate * gradient, trial, 2.0 * rate
            if loss < target:
                return theta
        return None
