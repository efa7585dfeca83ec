"""The matrix-free solver: LSQR on ``[A; sqrt(mu) I]``, nothing N x N stored."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.linalg import LinAlgError
from scipy.sparse.linalg import LinearOperator

from fastggn.runtime.comm import SERIAL, Comm
from fastggn.solvers.base import (
    FloatArray,
    LinearSystem,
    RefusedState,
    RightSide,
    Shift,
    Solution,
    State,
    failure,
    least,
    success,
)
from fastggn.solvers.kronecker import KroneckerPreconditioner
from fastggn.solvers.lsqr_iteration import lsqr

# LSQR's reasons to stop that are not convergence: 3 and 6, the condition number; 7, the limit.
NOT_CONVERGED = (3, 6, 7)
# Preconditioned, a singular A errs by about 20 eps |A|^2 / mu: above this by less than 1e-6.
# Below, so many iterations without a preconditioner settle a system of low rank first.
PRECONDITION_ABOVE = 1e-8
TRIAL = 200


@dataclass(frozen=True)
class LSQRSolver:
    """Solve by LSQR (Paige and Saunders 1982), from products with A and its transpose.

    The rows ``sqrt(mu) I`` are appended before a right preconditioner made of Kronecker factors,
    where M >= N. The preconditioner mixes the null space of A into the iterates, and rounding
    errors there are divided by mu: at mu = 0, where it would lose the minimum norm, there is
    none; at mu tiny beside ``|A|^2`` a limited number of iterations goes without it first. With
    fewer rows than columns it costs more iterations than it saves. There is never a warm start.
    Positive semi-definite curvature only.
    """

    tolerance: float = 1e-15
    max_iterations: int | None = None
    preconditioned: bool = True
    name: str = "lsqr"

    def prepare(self, lin: LinearSystem) -> State:
        """Return the state; the Kronecker factors are decomposed when first needed."""
        if lin.signs is not None:
            return RefusedState(
                lin.n_params,
                "refused",
                "lsqr needs a square root of the curvature, which indefinite ('exact') curvature "
                "has not: use cholesky or dual",
            )
        return LSQRState(lin, self)


class LSQRState(State):
    """A linearisation and the preconditioner's decomposed factors."""

    def __init__(self, lin: LinearSystem, options: LSQRSolver) -> None:
        self._lin = lin
        self._options = options
        self._kronecker: KroneckerPreconditioner | None = None
        self._comm = lin.comm
        self._counted = lin.own_rows - lin.shared_rows
        limit = min(10 * min(lin.n_rows, lin.n_params) + 50, 2000)
        self._limit = limit if options.max_iterations is None else options.max_iterations

    def solve(self, shift: Shift, c: FloatArray | None = None) -> Solution:
        """Return x; see `State.solve`."""
        n, mu = self._lin.n_params, shift.mu
        right = RightSide(self._lin, shift, c)
        if c is None and not np.isfinite(right.vector).all():
            return failure(n, "non_finite", "the gradient is not finite")
        try:
            if right.rows is None:
                return self._from_gradient(mu, right.vector)
            x, converged, iterations, message = self._least_squares(mu, right.target(right.rows))
        except LinAlgError as error:
            return failure(n, "non_finite", str(error))
        found = success(x, status=_status(converged), iterations=iterations, message=message)
        return right.completed(found)

    def _least_squares(
        self, mu: FloatArray | float, f: FloatArray
    ) -> tuple[FloatArray, bool, int, str]:
        """Minimise ``|A x - f|^2 + x^T diag(mu) x``."""
        _require_finite(f, self._comm)
        spent = 0
        useful = self._preconditionable(mu)
        if not useful or least(mu) < PRECONDITION_ABOVE * self._factors().largest:
            limit = min(self._limit, TRIAL) if useful else self._limit
            x, reason, spent = self._plain(mu, f, limit)
            if reason not in NOT_CONVERGED or not useful or limit == self._limit:
                return x, *_told(reason, spent)
        forward, backward = self._preconditioner(mu)
        operator = _appended(self._lin, np.sqrt(mu), forward, backward)
        w, reason, iterations = self._iterate(operator, self._padded(f), 0.0, self._limit)
        return forward(w), *_told(reason, spent + iterations)

    def _plain(
        self, mu: FloatArray | float, f: FloatArray, limit: int
    ) -> tuple[FloatArray, int, int]:
        """Iterate without a preconditioner; a mu for each parameter needs the rows appended."""
        if not isinstance(mu, np.ndarray):
            return self._iterate(_checked(self._lin), f, float(np.sqrt(mu)), limit)
        operator = _appended(self._lin, np.sqrt(mu), _identity, _identity)
        return self._iterate(operator, self._padded(f), 0.0, limit)

    def _padded(self, f: FloatArray) -> FloatArray:
        return np.concatenate([f, np.zeros(self._lin.n_params)])

    def _iterate(
        self, operator: LinearOperator, f: FloatArray, damp: float, limit: int
    ) -> tuple[FloatArray, int, int]:
        tolerance = self._options.tolerance
        return lsqr(operator, f, self._norm, damp=damp, tolerance=tolerance, limit=limit)

    def _norm(self, u: FloatArray) -> float:
        """Return the norm over the rows of all ranks; rows appended to A count once."""
        own = u if self._comm.rank == 0 else u[: self._counted]
        return self._comm.norm(float(np.linalg.norm(own)))

    def _from_gradient(self, mu: FloatArray | float, gradient: FloatArray) -> Solution:
        """Conjugate gradients on the normal equations, where no finite b exists."""
        lin = self._lin
        if least(mu) == 0.0:
            message = "without damping, lsqr needs a right-hand side over the rows; none is finite"
            return failure(lin.n_params, "refused", message)

        def damped(v: FloatArray) -> FloatArray:
            product = lin.rmatvec(lin.matvec(v)) + mu * v
            _require_finite(product, SERIAL)
            return product

        if self._options.preconditioned:
            forward, backward = self._preconditioner(mu)
        else:
            forward = backward = _identity
        x, converged, iterations = conjugate_gradients(
            damped, gradient, lambda v: forward(backward(v)), self._options.tolerance, self._limit
        )
        message = "" if converged else f"conjugate gradients stopped after {iterations} iterations"
        return success(x, status=_status(converged), iterations=iterations, message=message)

    def _preconditionable(self, mu: FloatArray | float) -> bool:
        allowed = least(mu) > 0.0 and self._options.preconditioned
        return allowed and self._lin.n_rows >= self._lin.n_params

    def _factors(self) -> KroneckerPreconditioner:
        if self._kronecker is None:
            self._kronecker = KroneckerPreconditioner(self._lin.kronecker_factors())
        return self._kronecker

    def _preconditioner(
        self, mu: FloatArray | float
    ) -> tuple[Callable[[FloatArray], FloatArray], Callable[[FloatArray], FloatArray]]:
        kronecker = self._factors()
        scales = kronecker.scales(float(np.max(mu)))  # near enough for a preconditioner

        def forward(w: FloatArray) -> FloatArray:
            return kronecker.apply(scales, w)

        def backward(v: FloatArray) -> FloatArray:
            return kronecker.apply_transposed(scales, v)

        return forward, backward


def conjugate_gradients(
    product: Callable[[FloatArray], FloatArray],
    rhs: FloatArray,
    precondition: Callable[[FloatArray], FloatArray],
    tolerance: float,
    limit: int,
) -> tuple[FloatArray, bool, int]:
    """Solve a symmetric positive definite system from zero (Hestenes and Stiefel 1952)."""
    x = np.zeros_like(rhs)
    residual = rhs.copy()
    z = precondition(residual)
    direction = z.copy()
    size = start = float(residual @ z)
    for iteration in range(limit):
        if size <= tolerance**2 * start:
            return x, True, iteration
        image = product(direction)
        length = size / float(direction @ image)
        x += length * direction
        residual -= length * image
        z = precondition(residual)
        size, before = float(residual @ z), size
        direction = z + (size / before) * direction
    return x, size <= tolerance**2 * start, limit


def _checked(lin: LinearSystem) -> LinearOperator:
    """Return A as an operator that raises at the first product that is not finite."""
    comm = lin.comm

    def matvec(v: FloatArray) -> FloatArray:
        return _finite(lin.matvec(v.ravel()), comm)

    def rmatvec(u: FloatArray) -> FloatArray:
        return _finite(lin.rmatvec(u.ravel()), SERIAL)  # the same on every rank

    shape = (lin.own_rows, lin.n_params)
    return LinearOperator(shape, matvec=matvec, rmatvec=rmatvec, dtype=np.float64)


def _appended(
    lin: LinearSystem,
    root: FloatArray | float,
    forward: Callable[[FloatArray], FloatArray],
    backward: Callable[[FloatArray], FloatArray],
) -> LinearOperator:
    """Return ``[A; root I] C`` with the preconditioner C."""
    rows, n = lin.own_rows, lin.n_params
    comm = lin.comm

    def matvec(w: FloatArray) -> FloatArray:
        v = forward(w.ravel())
        return np.concatenate([_finite(lin.matvec(v), comm), root * v])

    def rmatvec(u: FloatArray) -> FloatArray:
        u = u.ravel()
        return backward(_finite(lin.rmatvec(u[:rows]), SERIAL) + root * u[rows:])

    return LinearOperator((rows + n, n), matvec=matvec, rmatvec=rmatvec, dtype=np.float64)


def _finite(product: FloatArray, comm: Comm) -> FloatArray:
    _require_finite(product, comm)
    return product


def _require_finite(product: FloatArray, comm: Comm) -> None:
    # LSQR's comparisons are all false for NaN: it would run to its limit.
    if comm.any(not np.isfinite(product).all()):
        raise LinAlgError("a product with the rows is not finite")


def _identity(v: FloatArray) -> FloatArray:
    return v


def _told(reason: int, iterations: int) -> tuple[bool, int, str]:
    """Return whether LSQR converged, its iterations, and a message."""
    if reason not in NOT_CONVERGED:
        return True, iterations, ""
    return False, iterations, f"LSQR stopped after {iterations} iterations (istop {reason})"


def _status(converged: bool) -> str:
    return "ok" if converged else "not_converged"
