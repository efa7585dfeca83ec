"""A problem with ``(gamma / 2) |C (theta - theta_ref)|^2`` added to its objective."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator

from fastggn.runtime.cached import cached_property
from fastggn.solvers.null_space import NullSpaceOf
from fastggn.solvers.stacked_rows import StackedRows
from fastggn.training.resumable import Resumable

if TYPE_CHECKING:
    from fastggn.objective.point import Point
    from fastggn.objective.problem import Problem


Vector = NDArray[np.float64]


class Penalised(Resumable):
    """The sum of a problem's objective and a penalty, with the members that the methods use.

    ``C^T C`` is the projector on a null space, taken at the reference.
    """

    _resumes = ("reference",)

    def __init__(self, problem: Problem, gamma: float) -> None:
        self.plain = problem
        self.comm = problem.comm
        self.gamma = gamma
        self.n_params = problem.n_params
        self.n_samples = problem.n_samples
        self.n_rows = problem.n_rows
        self.l2 = problem.l2
        self.penalize_biases = problem.penalize_biases
        self.curvature = problem.curvature
        self.reference = np.zeros(problem.n_params)
        self.space: Any = None

    def refer_to(self, theta: Vector, space: NullSpaceOf) -> None:
        """Set the reference `theta` and the null space of the penalty."""
        self.reference, self.space = np.array(theta), space

    def at(self, theta: Vector) -> Any:
        """Return the penalised objective at theta."""
        return self.around(self.plain.at(theta))

    def around(self, point: Point) -> Any:
        """Return the penalised objective at a known point of the problem."""
        return PenalisedPoint(point, self.gamma, self.space, self.reference)

    def hessian(self, theta: Vector) -> Vector:
        """Return the exact Hessian, shape (N, N)."""
        out = self.plain.hessian(theta)
        for rows in self.space.blocks():
            out += self.gamma * (rows.T @ rows)
        return out

    def hessian_operator(self, theta: Vector) -> LinearOperator:
        """Return the exact Hessian as an operator."""
        inner = self.plain.hessian_operator(theta)

        def product(v: Vector) -> Vector:
            return np.asarray(inner.matvec(v) + self.gamma * self.space.project(v))

        return LinearOperator(inner.shape, matvec=product, rmatvec=product, dtype=np.float64)


class PenalisedPoint(StackedRows):
    """The penalised objective at one theta, with the rows ``sqrt(gamma) C`` below A."""

    def __init__(self, plain: Point, gamma: float, space: NullSpaceOf, reference: Vector) -> None:
        super().__init__(plain, space, plain.theta - reference, float(np.sqrt(gamma)))
        self.plain = plain
        self.l2 = plain.l2

    @cached_property
    def loss(self) -> float:
        """The objective with the penalty."""
        return float(self.plain.loss + 0.5 * (self._excess @ self._excess))

    @cached_property
    def gradient(self) -> Vector:
        """The gradient of `loss`, shape (N,)."""
        return self.plain.gradient + self._factor * self._below.combine(self._excess)

    def slope_sizes(self) -> tuple[Vector, Vector]:
        """Return the sizes of the terms of `gradient`, and their rounding / eps, shapes (N,)."""
        own = np.abs(self._factor * self._below.combine(self._excess))
        terms, rounding = self.plain.slope_sizes()
        return terms + own, rounding + own

    def loss_scales(self) -> tuple[float, float]:
        """Return the losses of constant outputs, see `Point.loss_scales`."""
        return self.plain.loss_scales()

    def evaluate(self) -> None:
        """Compute loss and gradient of the samples in one pass."""
        self.plain.evaluate()

    def images(self, v: Vector) -> Iterator[Vector]:
        """Yield A v in parts, with the rows of the penalty on rank 0 only."""
        part = self._image(v)
        yield self.plain.matvec(v)
        if self.comm.rank == 0:
            yield part

    def curvature_along(self, v: Vector) -> Vector:
        """Return the second derivative of the rows along v (zero for the penalty)."""
        return np.concatenate([self.plain.curvature_along(v), np.zeros(self._below.n_rows)])

    def predicted_decrease(self, step: Vector) -> float:
        """Return the decrease of the quadratic model along `step`."""
        part = self._image(step)
        return self.plain.predicted_decrease(step) - float(self._excess @ part + 0.5 * part @ part)
