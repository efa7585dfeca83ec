"""The primal solver: a Cholesky factorisation of ``A^T D A + mu I``."""

from __future__ import annotations

import numpy as np
from scipy.linalg.blas import dnrm2

from fastggn.solvers.base import (
    CurvatureSums,
    FloatArray,
    LinearSystem,
    RightSide,
    Shift,
    Solution,
    State,
    all_finite,
    failure,
    least,
    success,
)
from fastggn.solvers.cholesky_in_place import CholeskyFactor, SymmetricMatrix, factor_cholesky
from fastggn.solvers.curvature_sums import LEAST_RCOND, sums_of_factor

EPS = float(np.finfo(np.float64).eps)
EPS32 = float(np.finfo(np.float32).eps)
# A matrix assembled in float32 wants a damping of so many of its roundings.
FLOOR = 4.0
# Below this the squared condition number starts to cost digits, and corrections with the
# residual of the rows themselves win them back.
CORRECT_BELOW = 1e-8
MAX_CORRECTIONS = 5
# Where the next correction would be below this, relative to the step, there is none.
ENOUGH = 1e-12
# Corrections that stay above this share of the step are its rounding errors: too few digits.
LOST = 1e-3
# Above this the step still descends, but it is not the solution to the digits promised.
TRUSTED = 1e-6


class CholeskySolver:
    """Solve the primal normal equations, N x N, by Cholesky.

    Positive semi-definite and exact curvature; the latter needs a damping above the lowest
    eigenvalue, as the status ``not_positive_definite`` tells. A matrix that is singular to
    working precision is refused: no jitter is added in silence. Above that, a singular A leaves
    an error of about ``eps |A| |r| / mu`` in the step, r its residual. One N x N array is alive.
    """

    name = "cholesky"

    def __init__(self, *, mixed: bool = False) -> None:
        self.mixed = mixed
        if mixed:
            self.name = "cholesky (mixed)"

    def prepare(self, lin: LinearSystem) -> CholeskyState:
        """Assemble the Gram matrix; factor it when the first damping is known."""
        return CholeskyState(lin, mixed=self.mixed)


class CholeskyState(State):
    """The Gram matrix in one triangle, the factor for the last damping in the other."""

    def __init__(self, lin: LinearSystem, *, mixed: bool = False) -> None:
        self._lin = lin
        self._gram = SymmetricMatrix(lin.gram(mixed=mixed))
        # Below it the matrix would be its own rounding errors in float32.
        self.least_damping = 0.0
        if mixed:
            largest = float(np.max(self._gram.diagonal, initial=0.0))
            self.least_damping = FLOOR * EPS32 * largest
        self._factor: CholeskyFactor | None = None
        self._mu: FloatArray | float = 0.0

    def solve(self, shift: Shift, c: FloatArray | None = None) -> Solution:
        """Return x, with corrections by residuals over the rows (D = I only); see `State.solve`."""
        n, mu = self._lin.n_params, shift.mu
        right = RightSide(self._lin, shift, c)
        if not self._gram.finite or not all_finite(right.vector):
            return failure(n, "non_finite", "the Gram matrix or the gradient is not finite")
        factor = self._factored(mu)
        refusal = self._refusal(mu, factor)
        if refusal is not None:
            return refusal
        x = factor.solve(right.vector)
        if factor.rcond >= CORRECT_BELOW or self._lin.signs is not None:
            return success(x, rcond=factor.rcond)
        return self._corrected(factor, x, right)

    def sums(self, decay: FloatArray | float) -> CurvatureSums | None:
        """Return the sums over the eigenvalues at ``mu = decay``; see `State.sums`."""
        if not np.any(decay) or self._lin.signs is not None or not self._gram.finite:
            return None
        factor = self._factored(decay)
        # The rounding of a factor is that of the matrix in units in which mu is one number, and
        # there the largest eigenvalue is at most 1 + sum g_jj / mu_j.
        rcond = factor.rcond
        if isinstance(decay, np.ndarray) and least(decay) > 0.0:
            rcond = max(rcond, 1.0 / (1.0 + float(np.sum(self._gram.diagonal / decay))))
        if factor.bad_pivot or not rcond >= LEAST_RCOND:
            return None
        return sums_of_factor(factor, self._lin.n_params, decay)

    def _corrected(self, factor: CholeskyFactor, x: FloatArray, right: RightSide) -> Solution:
        """Correct x until the corrections stop shrinking.

        The corrected semi-normal equations (Bjorck 1987): with the residual taken over the rows,
        the step is as accurate as one by QR while ``eps cond(A)^2 < 1``. They shrink by about
        one ratio each, which tells how far off the last one left the step.
        """
        size = last = np.inf
        length, corrections = 0.0, 0
        # Written so that NaN ends the loop too.
        while corrections < MAX_CORRECTIONS and (corrections < 2 or size < 0.5 * last):
            last = size
            rest = right.residual(x)
            if rest is None:
                return success(x, rcond=factor.rcond)
            correction = factor.solve(rest)
            x = x + correction
            size, length = float(dnrm2(correction)), float(dnrm2(x))
            corrections += 1
            ratio = min(1.0, size / last) if corrections > 1 else 1.0
            if size * ratio <= ENOUGH * length and size <= TRUSTED * length:
                break
        if size > LOST * length:
            message = (
                f"rounding errors of {size / length:.0e} of the step at rcond {factor.rcond:.1e}"
            )
            return failure(self._lin.n_params, "singular", message, rcond=factor.rcond)
        status = "ok" if size <= TRUSTED * length else "ill_conditioned"
        return success(x, status=status, rcond=factor.rcond, iterations=corrections)

    def _factored(self, mu: FloatArray | float) -> CholeskyFactor:
        if self._factor is None or not np.array_equal(mu, self._mu):
            # In float32 the matrix is semi-definite up to its rounding only.
            good = CORRECT_BELOW if self.least_damping == 0.0 else 10.0 * EPS32
            self._factor = factor_cholesky(
                self._gram, mu, semidefinite=self._lin.signs is None, good=good
            )
            self._mu = mu
        return self._factor

    def _refusal(self, shift: FloatArray | float, factor: CholeskyFactor) -> Solution | None:
        n, mu = self._lin.n_params, least(shift)
        if factor.bad_pivot:
            # Rounding, of the Gram matrix's sums and of the factorisation, makes the zero
            # pivots of a semi-definite matrix slightly negative.
            rounding = 4 * n * EPS * self._gram.norm(shift)
            singular = self._lin.signs is None and factor.pivot >= -rounding
            status = "singular" if singular and mu == 0.0 else "not_positive_definite"
            message = (
                f"Cholesky stopped at pivot {factor.bad_pivot} of {n}: "
                f"{factor.pivot:.3e} with mu = {mu:.3e}"
            )
            return failure(n, status, message, rcond=0.0)
        # With a shift, the computed matrix is positive definite by more than its rounding
        # errors well before N eps; without one, nothing bounds the noise in its null space.
        limit = max(10.0, n if mu == 0.0 else 0.0) * EPS
        if not factor.rcond >= limit:
            message = (
                f"the damped matrix is singular to working precision: rcond "
                f"{factor.rcond:.1e} < {limit:.1e} with mu = {mu:.3e}"
            )
            return failure(n, "singular", message, rcond=factor.rcond)
        return None
