"""A regulariser that acts only on the null space of the GGN (O'Leary-Roseberry, Ghattas 2020)."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastggn.runtime.errors import check_positive, hinted_fields, unknown_name
from fastggn.solvers.null_space import DenseNullSpace, IteratedNullSpace, NullSpaceOf
from fastggn.training.control.convergence import slope_errors
from fastggn.training.control.trust_region import BallStep, DenseModel, KrylovModel
from fastggn.training.regularisation.penalty import Penalised
from fastggn.training.resumable import Resumable, State
from fastggn.training.step import Choice, Iteration, Method, WrappedMethod

if TYPE_CHECKING:
    from fastggn.objective.point import Point
    from fastggn.objective.problem import Problem


Vector = NDArray[np.float64]
MODES = ("step", "objective")


@hinted_fields
@dataclass(frozen=True)
class NullSpace:
    """Make a training problem well-posed without moving its minimum.

    Where a network fits its samples exactly and N exceeds the rank of the Jacobian, the Hessian
    is singular: the minima form a manifold, and plain Newton steps are not defined there. An l2
    term lifts the zero eigenvalues, but it moves the minimum. This regulariser acts on the
    null space of the generalised Gauss-Newton matrix G alone and leaves its range untouched
    and is the argument `regularize` of `train`.

    Source: O'Leary-Roseberry and Ghattas (2020), "Ill-Posedness and Optimization Geometry for
    Nonlinear Neural Network Training", Section 2.1.

    Parameters
    ----------
    gamma : float
        The curvature in the null space. With mode "step" and method "newton", inf means
        truncation: steps have no component there. "lm" and "ggn" with mode "step" do not depend
        on gamma.
    mode : {"step", "objective"}
        "step" changes only the steps. Methods "ggn" and "lm" use minimum-norm solutions with a
        rank cut: ``(G + gamma N N^T)^-1 g = G^+ g`` for a basis N of null(G), because the gradient
        g has no component in null(G). Method "newton" replaces the Hessian H by
        ``H + gamma N N^T``, or for gamma = inf by H on the range of G.
        "objective" adds ``(gamma / 2) |Pi (theta - theta_ref)|^2``, Pi the projector on
        null(J(theta_ref)); methods "newton", "lm", "ggn" and "bp".
    refresh : int or None
        N, or theta_ref and Pi, are computed again from theta at the start of every `refresh`-th
        iteration; None keeps their values at theta0. Just after a refresh the added term and its
        gradient are zero. An exact fit is a minimum of the sum for any theta_ref near it; at
        another minimum None keeps a bias.

    Raises
    ------
    TypeError, ValueError
        If an argument is not valid, or gamma is infinite with mode "objective".

    Notes
    -----
    The loss, gradient and history of the run are those of the problem, without the added term.
    Up to 1000 parameters N comes from a streaming QR of the Jacobian and the SVD of its R. Above
    that, or with solver "lsqr", LSQR computes products with Pi, and no N x N matrix is stored.
    The regulariser is meant for exact fits, and for null spaces of a symmetry. Elsewhere the misfit
    itself adds curvature, also negative, in null(G): the regulariser changes this curvature, and
    the order of convergence may be lower.

    Examples
    --------
    >>> import fastggn as fg
    >>> X, Y = fg.data.xor()
    >>> problem = fg.Problem(fg.MLP((2, 6, 1)), X, Y)
    >>> result = fg.train(problem, seed=1, method="newton", regularize=fg.NullSpace())
    >>> result.status, result.loss < 1e-20
    ('converged_gradient', True)
    """

    gamma: float = 1.0
    mode: Literal["step", "objective"] = "step"
    refresh: int | None = 1

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise unknown_name("mode", self.mode, MODES)
        truncated = self.mode == "step" and self.gamma == np.inf
        if not truncated:
            object.__setattr__(self, "gamma", check_positive("gamma", self.gamma))
        if self.refresh is None:
            return
        try:
            count = operator.index(self.refresh)
        except TypeError:
            kind = type(self.refresh).__name__
            raise TypeError(f"refresh must be an integer or None, not {kind}") from None
        if count < 1:
            raise ValueError(f"refresh must be at least 1, got {count}")

    def due(self, iteration: int) -> bool:
        """Whether the null space is computed again at this iteration, counted from 0."""
        return iteration == 0 or (self.refresh is not None and iteration % self.refresh == 0)


class RegularisedHessian(Resumable):
    """Builds Newton's models with mode "step": the Hessian with null(G) lifted or removed."""

    _resumes = ("_iteration", "_reference")

    def __init__(self, problem: Problem, regularizer: NullSpace, dense: bool) -> None:
        self._problem = problem
        self._regularizer = regularizer
        self._dense = dense
        self._iteration = 0
        self._reference = np.zeros(problem.n_params)
        self._space: Any = None

    def __call__(self, point: Point) -> Any:
        """Return the model at `point`."""
        if self._regularizer.due(self._iteration):
            self._refer_to(point.theta)
        self._iteration += 1
        if self._dense:
            return self._dense_model(point, self._space)
        return self._krylov_model(point, self._space)

    def _refer_to(self, theta: Vector) -> None:
        self._reference = theta
        self._space = _space_at(self._problem, theta, self._dense)

    def restore(self, state: State) -> None:
        """Restore the reference, and compute its null space again."""
        super().restore(state)
        if self._iteration:
            self._refer_to(self._reference)

    def _dense_model(self, point: Point, space: DenseNullSpace) -> Any:
        hessian, gamma = self._problem.hessian(point.theta), self._regularizer.gamma
        if gamma < np.inf:
            hessian += gamma * (space.basis @ space.basis.T)
            return DenseModel(point.loss, point.gradient, hessian, lambda: slope_errors(point))
        rows = space.row_basis
        inner = DenseModel(point.loss, rows.T @ point.gradient, rows.T @ hessian @ rows)
        return _Lifted(inner, rows)

    def _krylov_model(self, point: Point, space: NullSpaceOf) -> KrylovModel:
        hessian = self._problem.hessian_operator(point.theta)
        gamma, gradient = self._regularizer.gamma, point.gradient
        if gamma < np.inf:
            return KrylovModel(gradient, lambda v: hessian.matvec(v) + gamma * space.project(v))

        def cut(v: Vector) -> Vector:
            return np.asarray(v - space.project(v))

        # The gradient and the images lie in the row space, and so do all iterates.
        return KrylovModel(cut(gradient), lambda v: cut(hessian.matvec(v)))


def _space_at(problem: Problem, theta: Vector, dense: bool) -> Any:
    """Return the null space of the GGN at theta."""
    # The null space outlives a point of the run, so it must not share the point's workspace.
    fresh = problem.at(theta)
    return DenseNullSpace(fresh) if dense else IteratedNullSpace(fresh)


class _Lifted:
    """A model in fewer variables, with steps in theta."""

    def __init__(self, inner: DenseModel, basis: Vector) -> None:
        self._inner = inner
        self._basis = basis
        self.name = inner.name
        self.rank = inner.rank

    def step(self, radius: float) -> BallStep:
        """Return the minimiser within `radius` in the span of the basis."""
        inner = self._inner.step(radius)
        return replace(inner, step=self._basis @ inner.step)


class Renewed(WrappedMethod):
    """A method on the penalised objective, with a new reference every `refresh` iterations.

    The loop sees points, losses and gradients of the problem itself.
    """

    _resumes = ("_iteration", "_penalised", *WrappedMethod._resumes)

    def __init__(
        self, make: Callable[[Any], Method], problem: Problem, regularizer: NullSpace, dense: bool
    ) -> None:
        self._penalised = Penalised(problem, regularizer.gamma)
        super().__init__(make(self._penalised))
        self._problem = problem
        self._regularizer = regularizer
        self._dense = dense
        self._iteration = 0

    @property
    def solver(self) -> Choice:
        """The solver of the method's systems."""
        name, reason = self._method.solver
        return Choice(name, f"{reason}; null space penalised")

    def _refer_to(self, theta: Vector) -> None:
        self._penalised.refer_to(theta, _space_at(self._problem, theta, self._dense))

    def restore(self, state: State) -> None:
        """Restore the reference, and compute its null space again."""
        super().restore(state)
        if self._iteration:
            self._refer_to(self._penalised.reference)

    def step(self, point: Point) -> Iteration:
        """Do one iteration on the penalised objective."""
        if self._regularizer.due(self._iteration):
            self._refer_to(point.theta)
        self._iteration += 1
        here = self._penalised.around(point)
        iteration = self._method.step(here)
        if iteration.point is here:
            return replace(iteration, point=point)
        return replace(iteration, point=iteration.point.plain)  # type: ignore[attr-defined]
