"""The dual solver: an M x M system over the rows, for M <= N (Woodbury's identity).

Forms D2, D3 and D5 of the documentation's notation page (Shen 2018, Eqs. 38-40, damped): they
hold for a singular Hessian of the loss, because only its square root enters.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.linalg import LinAlgError

from fastggn.runtime.memory import available_memory
from fastggn.solvers.base import (
    CurvatureSums,
    FloatArray,
    LinearSystem,
    RefusedState,
    RightSide,
    Shift,
    Solution,
    State,
    failure,
    success,
)
from fastggn.solvers.cholesky_in_place import IndefiniteFactor, SymmetricMatrix, factor_cholesky
from fastggn.solvers.curvature_sums import LEAST_RCOND, sums_of_factor
from fastggn.solvers.dual_rows import (
    CancellationError,
    FactoredRows,
    RowSystem,
    SpectralRows,
    TruncatedRows,
)
from fastggn.solvers.stacked_rows import ScaledColumns
from fastggn.solvers.svd import dense_spectrum

EPS = float(np.finfo(np.float64).eps)


class DualSolver:
    """Solve over the rows of A: the cheaper and more accurate way where M <= N.

    A Cholesky factorisation of ``A A^T + mu I`` serves while that is not singular to working
    precision. Beyond (duplicate samples, mu = 0) the singular value decomposition of the rows
    takes over where they fit into memory, else an eigendecomposition of ``A A^T`` cut off at
    ``10 eps`` times its largest eigenvalue; the message of the solution says which.

    Indefinite (exact) curvature is solved by ``A A^T + mu D`` (form D5), after a check of the
    inertia that ``A^T D A + mu I`` is positive definite.
    """

    name = "dual"

    def prepare(self, lin: LinearSystem) -> State:
        """Assemble ``A A^T``; factor it when the first damping is known."""
        sparing = isinstance(lin.decay, np.ndarray)
        if sparing and lin.signs is not None:
            raise ValueError(
                "solver 'dual' with an indefinite curvature needs an l2 that counts all "
                "parameters, but that of the problem spares the biases: use solver 'cholesky'"
            )
        gram = lin.dual_gram() if lin.signs is None else _signed_gram(lin, lin.signs)
        matrix = SymmetricMatrix(gram)
        if not (matrix.finite and np.isfinite(lin.data_gradient).all()):
            message = "the dual matrix or the gradient is not finite"
            return RefusedState(lin.n_params, "non_finite", message)
        if sparing:
            return SparingDualState(lin, gram)
        if lin.signs is None:
            return DualState(lin, matrix)
        return SignedDualState(lin, lin.signs, matrix)


class SparingDualState(State):
    """Where l2 spares the biases: ``mu`` for the weights, and the damping alone for the biases.

    With the columns B of the biases in units in which mu damps them too, the matrix is
    ``A A^T + (mu / damping - 1) B B^T``: one update of low rank for each damping. A second
    M x M array is alive.
    """

    def __init__(self, lin: LinearSystem, matrix: FloatArray) -> None:
        self._lin = lin
        self._matrix = matrix
        self._columns = lin.bias_columns()
        self._of = (-1.0, -1.0)
        self._state: DualState | None = None
        self._scale = np.ones(0)

    def solve(self, shift: Shift, c: FloatArray | None = None) -> Solution:
        """Return x; see `State.solve`."""
        if shift.damping == 0.0:
            message = "solver 'dual' needs a damping where l2 spares the biases"
            return failure(self._lin.n_params, "refused", message)
        l2 = float(np.max(shift.decay))
        state, mu = self._prepared(shift, l2), l2 + shift.damping
        right = RightSide(self._lin, shift, c)
        if right.rows is None:
            found = state.invert(mu, self._scale * right.vector)
            return replace(found, step=self._scale * found.step)
        found = state.minimise(mu, right.target(right.rows))
        return right.completed(replace(found, step=self._scale * found.step))

    def _prepared(self, shift: Shift, l2: float) -> DualState:
        if self._state is None or self._of != (l2, shift.damping):
            self._of = (l2, shift.damping)
            root = np.sqrt((l2 + shift.damping) / shift.damping)
            self._scale = np.where(np.asarray(shift.decay) == 0.0, root, 1.0)
            matrix = (self._columns * (l2 / shift.damping)) @ self._columns.T
            matrix += self._matrix
            scaled = ScaledColumns(self._lin, self._scale)
            self._state = DualState(scaled, SymmetricMatrix(matrix))
        return self._state


class DualState(State):
    """Positive semi-definite curvature: the dual matrix and its last factor."""

    def __init__(self, lin: LinearSystem, matrix: SymmetricMatrix) -> None:
        self._lin = lin
        # None once the matrix has proved singular: its decomposition then serves every damping.
        self._matrix: SymmetricMatrix | None = matrix
        self._mu = -1.0
        self._rows: RowSystem | None = None

    def solve(self, shift: Shift, c: FloatArray | None = None) -> Solution:
        """Return x; see `State.solve`."""
        right = RightSide(self._lin, shift, c)
        if right.rows is None:
            return self.invert(shift.uniform, right.vector)
        return right.completed(self.minimise(shift.uniform, right.target(right.rows)))

    def minimise(self, mu: float, f: FloatArray) -> Solution:
        """Return the x that minimises ``|A x - f|^2 + mu |x|^2``."""
        if not np.isfinite(f).all():
            n = self._lin.n_params
            return failure(n, "non_finite", "the right-hand side is not finite")
        return self._answer(mu, lambda rows: rows.least_squares(mu, f))

    def invert(self, mu: float, gradient: FloatArray) -> Solution:
        """Return ``(A^T A + mu I)^-1 gradient``."""
        return self._answer(mu, lambda rows: rows.from_gradient(mu, gradient))

    def sums(self, decay: FloatArray | float) -> CurvatureSums | None:
        """Return the sums over the eigenvalues at ``mu = decay``; see `State.sums`."""
        mu = Shift(0.0, decay).uniform
        if mu == 0.0 or self._matrix is None:
            return None
        factor = factor_cholesky(self._matrix, mu, semidefinite=True, good=LEAST_RCOND)
        self._mu, self._rows = -1.0, None  # the array of the last factor is overwritten
        if factor.bad_pivot or not factor.rcond >= LEAST_RCOND:
            return None
        return sums_of_factor(factor, self._lin.n_params, mu, dual=True)

    def _answer(self, mu: float, step: Callable[[RowSystem], FloatArray]) -> Solution:
        """Return `step` of the rows as far as they are prepared, decomposed if it must be."""
        try:
            try:
                rows = self._prepared(mu)
                return self._solution(mu, rows, step(rows))
            except CancellationError:
                rows = self._decomposed()
                return self._solution(mu, rows, step(rows))
        except LinAlgError as error:
            message = f"no decomposition of the rows: {error}"
            return failure(self._lin.n_params, "singular", message)

    def _prepared(self, mu: float) -> RowSystem:
        if self._rows is not None and (self._matrix is None or mu == self._mu):
            return self._rows
        if self._matrix is None:
            raise LinAlgError("an earlier decomposition failed")
        factor = factor_cholesky(self._matrix, mu)
        if factor.bad_pivot or factor.rcond < max(10, self._lin.n_rows) * EPS:
            return self._decomposed()
        self._mu = mu
        self._rows = FactoredRows(self._lin, factor, self._matrix.norm(0.0))
        return self._rows

    def _decomposed(self) -> RowSystem:
        matrix, self._matrix, self._rows = self._matrix, None, None
        # The rows, their right singular vectors and the copy LAPACK works on.
        needed = 3 * 8 * self._lin.n_rows * self._lin.n_params
        if matrix is None or needed <= available_memory() // 2:
            self._rows = SpectralRows(dense_spectrum(self._lin))
        else:
            self._rows = TruncatedRows(self._lin, matrix)
        return self._rows

    def _solution(self, mu: float, rows: RowSystem, step: FloatArray) -> Solution:
        return success(
            step,
            rcond=rows.rcond(mu),
            rank=rows.rank,
            iterations=rows.refinements,
            message=rows.message,
        )


class SignedDualState(State):
    """Indefinite curvature ``A^T D A``: form D5, solved by Bunch-Kaufman."""

    def __init__(self, lin: LinearSystem, signs: FloatArray, matrix: SymmetricMatrix) -> None:
        self._lin = lin
        self._matrix = matrix
        self._active = signs != 0.0
        # Rows without curvature were taken out of the matrix: any positive sign decouples them.
        self._signs = np.where(self._active, signs, 1.0)
        self._mu = -1.0
        self._factor: IndefiniteFactor | None = None

    def solve(self, shift: Shift, c: FloatArray | None = None) -> Solution:
        """Return x; see `State.solve`."""
        lin, mu = self._lin, shift.uniform
        if c is not None and not np.isfinite(c).all():
            return failure(lin.n_params, "non_finite", "the right-hand side is not finite")
        factor = self._factored(mu)
        if isinstance(factor, Solution):
            return factor
        if c is not None:
            # (A^T D A + mu I) A^T w = A^T D c  for  (A A^T + mu D) w = c.
            w = factor.solve(self._active * c)
            return success(lin.rmatvec(self._active * w), rcond=factor.rcond)
        gradient = RightSide(lin, shift, c).vector
        x = self._inverse(mu, factor, gradient)
        # The difference loses eps |g| / mu; one correction with its own residual returns it.
        x += self._inverse(mu, factor, gradient - self._product(mu, x))
        return success(x, rcond=factor.rcond, iterations=1)

    def _inverse(self, mu: float, factor: IndefiniteFactor, g: FloatArray) -> FloatArray:
        y = factor.solve(self._active * self._lin.matvec(g))
        return (g - self._lin.rmatvec(self._active * y)) / mu

    def _product(self, mu: float, s: FloatArray) -> FloatArray:
        weighted = self._active * self._signs * self._lin.matvec(s)
        return self._lin.rmatvec(weighted) + mu * s

    def _factored(self, mu: float) -> IndefiniteFactor | Solution:
        n = self._lin.n_params
        if mu == 0.0:
            message = "indefinite curvature has no dual form without damping or l2"
            return failure(n, "refused", message)
        if self._factor is None or mu != self._mu:
            self._factor = IndefiniteFactor(self._matrix, mu * self._signs)
            self._mu = mu
        factor = self._factor
        # Haynsworth: A^T D A + mu I has as many negative eigenvalues as A A^T + mu D has positive
        # ones more than D.
        negative = factor.n_positive - int(np.count_nonzero(self._signs > 0.0))
        if negative > 0:
            message = f"the damped curvature has {negative} negative eigenvalues at mu = {mu:.3e}"
            return failure(n, "not_positive_definite", message, rcond=factor.rcond)
        if not factor.rcond >= max(10, self._lin.n_rows) * EPS:
            message = f"the dual matrix is singular to working precision at mu = {mu:.3e}"
            return failure(n, "singular", message, rcond=factor.rcond)
        return factor


def _signed_gram(lin: LinearSystem, signs: FloatArray) -> FloatArray:
    """Return ``A A^T`` with the rows and columns of zero curvature set to zero."""
    gram = lin.dual_gram()
    idle = np.flatnonzero(signs == 0.0)
    gram[idle, :] = 0.0
    gram[:, idle] = 0.0
    return gram
