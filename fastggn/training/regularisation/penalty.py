"""A problem with ``(gamma / 2) |C (theta - theta_ref)|^2`` added to its objective."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator

from fastggn.runtime.comm import comm_of
from fastggn.solvers.base import own_rows
from fastggn.solvers.null_space import DenseNullSpace, NullSpaceOf
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
        self.comm = comm_of(problem)
        self.gamma = gamma
        self.n_params = problem.n_params
        self.n_samples = problem.n_samples
        self.n_outputs = problem.n_outputs
        self.l2 = problem.l2
        self.curvature = problem.curvature
        self.reference = np.zeros(problem.n_params)
        self.space: Any = None

    def refer_to(self, theta: Vector, space: NullSpaceOf) -> None:
        """Penalise from now on the part in `space` of the distance from `theta`."""
        self.reference, self.space = np.array(theta), space

    def at(self, theta: Vector) -> Any:
        """Return the penalised objective at theta."""
        return self.around(self.plain.at(theta))

    def around(self, point: Point) -> Any:
        """Return the penalised objective where the problem's own is known already."""
        return PenalisedPoint(point, self.gamma, self.space, self.reference)

    def hessian(self, theta: Vector) -> Vector:
        """Return the exact Hessian, shape (N, N)."""
        out = self.plain.hessian(theta)
        out += self.gamma * projector(self.space)
        return out

    def hessian_operator(self, theta: Vector) -> LinearOperator:
        """Return the exact Hessian as an operator."""
        inner = self.plain.hessian_operator(theta)

        def product(v: Vector) -> Vector:
            return np.asarray(inner.matvec(v) + self.gamma * self.space.project(v))

        return LinearOperator(inner.shape, matvec=product, rmatvec=product, dtype=np.float64)


class PenalisedPoint:
    """The penalised objective at one theta: the rows ``sqrt(gamma) C`` stand below those of A.

    Where ranks share the samples, each has its rows of A and all of the penalty's.
    """

    def __init__(self, plain: Point, gamma: float, space: NullSpaceOf, reference: Vector) -> None:
        self.plain = plain
        self._root = float(np.sqrt(gamma))
        self._space = space
        self._reference = reference
        self.theta = plain.theta
        self.l2 = plain.l2
        self.n_params = plain.n_params
        self.comm = comm_of(plain)
        self.n_rows = plain.n_rows + space.n_rows
        self.shared_rows = space.n_rows
        self.own_rows = own_rows(plain) + space.n_rows

    @cached_property
    def _excess(self) -> Vector:
        return self._root * self._space.coordinates(self.theta - self._reference)

    @cached_property
    def loss(self) -> float:
        """The objective with the penalty."""
        return float(self.plain.loss + 0.5 * (self._excess @ self._excess))

    @cached_property
    def gradient(self) -> Vector:
        """The gradient of `loss`, shape (N,)."""
        return self.plain.gradient + self._root * self._space.combine(self._excess)

    @property
    def b(self) -> Vector | None:
        """A vector with A^T b the gradient without l2; None where the problem has none."""
        b = self.plain.b
        return None if b is None else np.concatenate([b, self._excess])

    @property
    def signs(self) -> Vector | None:
        """The diagonal of D; None for a positive semi-definite curvature."""
        signs = self.plain.signs
        return None if signs is None else np.concatenate([signs, np.ones(self._space.n_rows)])

    def matvec(self, v: Vector) -> Vector:
        """Return A v, the penalty's rows last."""
        return np.concatenate([self.plain.matvec(v), self._root * self._space.coordinates(v)])

    def images(self, v: Vector) -> Iterator[Vector]:
        """Yield A v in parts, the penalty's rows on rank 0 only."""
        part = self._root * self._space.coordinates(v)
        yield self.plain.matvec(v)
        if self.comm.rank == 0:
            yield part

    def rmatvec(self, u: Vector) -> Vector:
        """Return A^T u."""
        rows = own_rows(self.plain)
        penalty = self._root * self._space.combine(u[rows:])
        return np.asarray(self.plain.rmatvec(u[:rows]) + penalty)

    def gram(self, *, mixed: bool = False) -> Vector:
        """Return A^T D A, shape (N, N)."""
        out = self.plain.gram(mixed=mixed)
        out += self._root**2 * projector(self._space)
        return out

    def dual_gram(self) -> Vector:
        """Refuse: with the penalty there are at least as many rows as columns."""
        raise NotImplementedError("a penalised problem has no dual form")

    def row_blocks(self) -> Iterator[tuple[Vector, Vector | None]]:
        """Yield the rows of A with their entries of b, the penalty's on rank 0 only."""
        yield from self.plain.row_blocks()
        excess = None if self.b is None else self._excess
        if self.comm.rank == 0:
            yield self._root * dense_rows(self._space), excess

    def kronecker_factors(self) -> list[tuple[Vector, Vector]]:
        """Return the factors of the problem's own rows, to which the penalty adds nothing."""
        return self.plain.kronecker_factors()

    def curvature_along(self, v: Vector) -> Vector:
        """Return the second derivative of the rows along v; the penalty's are linear."""
        return np.concatenate([self.plain.curvature_along(v), np.zeros(self._space.n_rows)])

    def predicted_decrease(self, step: Vector) -> float:
        """Return the decrease of the quadratic model along `step`."""
        part = self._root * self._space.coordinates(step)
        return self.plain.predicted_decrease(step) - float(self._excess @ part + 0.5 * part @ part)


def dense_rows(space: NullSpaceOf) -> Vector:
    """Return C as an array: the transposed basis where there is one, else the projector."""
    if isinstance(space, DenseNullSpace):
        return np.ascontiguousarray(space.basis.T)
    raise TypeError("the projector of this null space is not stored: use solver 'lsqr'")


def projector(space: NullSpaceOf) -> Vector:
    """Return C^T C, shape (N, N)."""
    rows = dense_rows(space)
    return np.asarray(rows.T @ rows)
