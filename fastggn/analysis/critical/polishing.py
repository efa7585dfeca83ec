"""Solve gradient = 0 near a point: saddles stay saddles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse.linalg import lsmr

from fastggn.analysis.critical.kinks import rests
from fastggn.analysis.critical.residual_surface import surface_of
from fastggn.analysis.critical.surface import EPS, Surface, Vector
from fastggn.analysis.critical.switches import at_kink
from fastggn.analysis.plain import plain
from fastggn.objective.problem import Problem
from fastggn.objective.residual_problem import ResidualProblem
from fastggn.runtime.errors import as_float_vector, as_real, check_positive
from fastggn.runtime.threads import one_pool
from fastggn.training.methods.newton import DENSE_LIMIT
from fastggn.training.step import norm

Status = Literal["converged", "stalled", "kink", "max_iter"]

# First damping of the normal equations over |gradient| |H|, and its factors.
FIRST_DAMPING = 1e-2
LOWER, RAISE = 0.1, 4.0
LEAST_DAMPING = 1e-12
STIFF = 1e-4  # eigenvalues above this share of the largest are stiff
ACCEPT = 1e-4  # least fall of |gradient|^2 over the fall that the linear model predicts
MOST_REJECTIONS = 40
AT_REST = 1e-8  # a slope between the pieces at a kink counts as zero, over its terms
SHORT = 1e-3  # a step that crosses a kink nearby, over 1 + |theta|


@dataclass(frozen=True)
class PolishResult:
    """The outcome of `polish`.

    Attributes
    ----------
    theta : ndarray, shape (N,)
    gradient_norm : float
        |gradient| at theta.
    n_iter : int
        Steps taken.
    moved : float
        |theta - start|.
    status : {"converged", "stalled", "kink", "max_iter"}
        "converged": the tolerance was met. "stalled": no step lowers |gradient|, because of
        rounding or because theta is a minimum of |gradient|^2. "kink": theta is at, or steps end
        before, a kink of a unit, where the gradient jumps.
    cost : float
        In network evaluations (a forward and a backward pass over all samples).
    """

    theta: Vector
    gradient_norm: float
    n_iter: int
    moved: float
    status: Status
    cost: float

    def __str__(self) -> str:
        return (
            f"{self.status}: |gradient| = {self.gradient_norm:.3e} after {self.n_iter} steps, "
            f"moved by {self.moved:.3e}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        return plain(self)


def polish(
    problem: Problem | ResidualProblem, theta: ArrayLike, tol: float = 1e-13, max_iter: int = 200
) -> PolishResult:
    """Solve gradient = 0 from theta, by Levenberg-Marquardt steps on |gradient|^2.

    The steps are -(H^2 + mu I)^-1 H gradient with the exact Hessian H and mu in proportion to
    |gradient|. Their limit is Newton's method for the gradient, of minimum norm where the Hessian
    is singular. The method does not minimise the loss: saddles attract it like minima. It is dense
    up to 1000 parameters and uses LSMR on Hessian products above.

    Source: Fan and Yuan (2005), "On the quadratic convergence of the Levenberg-Marquardt method
    without nonsingularity assumption".

    Parameters
    ----------
    problem : Problem or ResidualProblem
    theta : array_like, shape (N,)
        The start.
    tol : float
        Stop at this 2-norm of the gradient.
    max_iter : int
        Largest number of steps.

    Raises
    ------
    TypeError, ValueError
        If theta is no finite vector of length N, or an option is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> import fastggn as fg
    >>> X, Y = fg.data.xor()
    >>> problem = fg.Problem(fg.MLP((2, 2, 1), activation="sigmoid"), X, Y)
    >>> near = np.full(problem.n_params, 0.01)
    >>> near[-1] = 0.49  # a constant output of about 1/2: the saddle of loss 1/8
    >>> result = fg.analysis.polish(problem, near)
    >>> result.status, round(problem.loss(result.theta), 12)
    ('converged', 0.125)
    """
    with problem.comm.raise_on_all() as said:
        start = as_float_vector("theta", theta, problem.n_params)
        check_positive("tol", tol)
        if as_real("max_iter", max_iter) < 1:
            raise ValueError(f"max_iter must be at least 1, got {max_iter}")
        said |= {"call": "polish", "tol": tol, "max_iter": max_iter}
    surface = surface_of(problem, scaled=False)
    with np.errstate(all="ignore"), one_pool():
        return surface.team.lead(surface, lambda: polished(surface, start, tol, int(max_iter)))


def polished(surface: Surface, start: Vector, tol: float, max_iter: int = 200) -> PolishResult:
    """Run `polish` on a surface, which counts the cost."""
    before = surface.cost
    theta, gradient = start.copy(), surface.gradient(start)
    size, damping, steps = norm(gradient), FIRST_DAMPING, 0
    status: Status = "max_iter"
    if rests(surface, theta, AT_REST):
        max_iter = 0
    crossed = False  # whether a short step was refused that crosses a kink
    while steps < max_iter:
        if size <= tol:
            break
        try:
            model, crossed = _model(surface, theta, gradient), False
        except np.linalg.LinAlgError:  # entries near the limits of the numbers
            status = "stalled"
            break
        for _ in range(MOST_REJECTIONS):
            step, predicted = model.step(damping * size)
            step, trial, length = _arrive(surface, theta, step, model)
            gain = (size * size - length * length) / predicted if predicted > 0.0 else -1.0
            if gain > ACCEPT:
                break
            damping *= RAISE
            if not crossed and not surface.smooth and norm(step) <= SHORT * (1.0 + norm(theta)):
                crossed = not surface.same_piece(theta, theta + step)
        else:
            status = "stalled"
            break
        damping = max(damping * LOWER, LEAST_DAMPING) if gain > 0.25 else damping * RAISE
        theta, gradient, size, steps = theta + step, trial, length, steps + 1
    if size <= tol:
        status = "converged"
    if crossed and status != "converged" or at_kink(surface, theta):
        status = "kink"
    moved = norm(theta - start)
    return PolishResult(theta, size, steps, moved, status, surface.cost - before)


def _arrive(
    surface: Surface, theta: Vector, step: Vector, model: _DenseModel | _KrylovModel
) -> tuple[Vector, Vector, float]:
    """Return the step, corrected in the stiff directions, the gradient after it and its norm."""
    gradient, length = _gradient_at(surface, theta + step)
    # A long step along a valley of |gradient| disturbs it across the valley to second order.
    if np.isfinite(length) and isinstance(model, _DenseModel):
        corrected = step + model.correction(gradient)
        other, shorter = _gradient_at(surface, theta + corrected)
        if shorter < length:
            return corrected, other, shorter
    return step, gradient, length


def _gradient_at(surface: Surface, theta: Vector) -> tuple[Vector, float]:
    """Return the gradient and its norm, infinite where there is none."""
    gradient = surface.gradient(theta) if np.isfinite(theta).all() else theta
    return gradient, norm(gradient) if np.isfinite(gradient).all() else np.inf


class _DenseModel:
    """The linear model gradient + H step, with the eigenvalues of H."""

    def __init__(self, surface: Surface, theta: Vector, gradient: Vector) -> None:
        self._values, self._vectors = np.linalg.eigh(surface.hessian(theta))
        self._gradient = self._vectors.T @ gradient
        self._norm = float(np.abs(self._values).max())
        # Eigenvalues below this are rounding errors: the damping must hide them.
        self._floor = float(np.square(10.0 * EPS * surface.n_params * self._norm))

    def step(self, damping: float) -> tuple[Vector, float]:
        """Return the step and the fall of |gradient|^2 that the model predicts."""
        mu = max(damping * self._norm, self._floor) or 1.0
        parts = -self._values * self._gradient / (self._values**2 + mu)
        left = self._gradient + self._values * parts
        predicted = float(self._gradient @ self._gradient - left @ left)
        return self._vectors @ parts, predicted

    def correction(self, gradient: Vector) -> Vector:
        stiff = np.abs(self._values) > STIFF * self._norm
        parts = self._vectors[:, stiff]
        return np.asarray(-parts @ ((parts.T @ gradient) / self._values[stiff]))


class _KrylovModel:
    """The linear model gradient + H step, with products of H."""

    def __init__(self, surface: Surface, theta: Vector, gradient: Vector) -> None:
        self._operator = surface.operator(theta)
        self._gradient = gradient
        image = self._operator.matvec(gradient)
        self._norm = norm(image) / norm(gradient)

    def step(self, damping: float) -> tuple[Vector, float]:
        root = float(np.sqrt(damping * self._norm))
        step = lsmr(self._operator, -self._gradient, damp=root, atol=1e-10, btol=1e-10)[0]
        left = self._gradient + self._operator.matvec(step)
        return step, float(self._gradient @ self._gradient - left @ left)


def _model(surface: Surface, theta: Vector, gradient: Vector) -> _DenseModel | _KrylovModel:
    kind = _DenseModel if surface.n_params <= DENSE_LIMIT else _KrylovModel
    return kind(surface, theta, gradient)
