"""Three ways of solving over the rows: by a factor, by singular values, by eigenvalues."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from scipy.linalg import eigh
from scipy.linalg.blas import dnrm2

from fastggn.kernels.spectrum import numerical_rank
from fastggn.solvers.base import FloatArray, LinearSystem
from fastggn.solvers.cholesky_in_place import CholeskyFactor, SymmetricMatrix
from fastggn.solvers.svd import Spectrum

EPS = float(np.finfo(np.float64).eps)
# The factor of A A^T carries rounding errors of eps |A|^2: below this they are refined away.
REFINE_BELOW = 1e-6
MAX_REFINEMENTS = 5
# The share of x = A^T y that may be rounding errors, eps |A| |y|: y is large along rows that
# depend on each other, and cancels in the product.
LOST = 1e-7


class CancellationError(ArithmeticError):
    """The multipliers of dependent rows cancel: the factor cannot give an accurate step."""


class RowSystem(Protocol):
    """Solutions of the damped least-squares problem over M <= N rows."""

    rank: int | None
    message: str
    refinements: int

    def rcond(self, mu: float) -> float:
        """Return an estimate of the reciprocal condition number."""

    def least_squares(self, mu: float, f: FloatArray) -> FloatArray:
        """Return the x that minimises ``|A x - f|^2 + mu |x|^2``, of minimum norm at mu = 0."""

    def from_gradient(self, mu: float, gradient: FloatArray) -> FloatArray:
        """Return ``(A^T A + mu I)^-1 gradient``, the pseudo-inverse at mu = 0."""


class FactoredRows:
    """A Cholesky factor of ``A A^T + mu I``, for one mu; `norm` bounds that of ``A A^T``."""

    def __init__(self, lin: LinearSystem, factor: CholeskyFactor, norm: float) -> None:
        self._lin = lin
        self._factor = factor
        self._norm = np.sqrt(norm)
        # At mu = 0 the factor exists only for independent rows.
        self.rank: int | None = None
        self.message = ""
        self.refinements = 0

    def rcond(self, mu: float) -> float:
        """Return LAPACK's estimate for the factored matrix."""
        return self._factor.rcond

    def least_squares(self, mu: float, f: FloatArray) -> FloatArray:
        """Return ``A^T (A A^T + mu I)^-1 f`` (form D3)."""
        if mu == 0.0:
            self.rank = self._lin.n_rows
        y = self._multipliers(mu, f)
        x = self._lin.rmatvec(y)
        # BLAS's norm scales its entries, so that no square overflows.
        if EPS * self._norm * dnrm2(y) > LOST * dnrm2(x):
            raise CancellationError
        return x

    def from_gradient(self, mu: float, gradient: FloatArray) -> FloatArray:
        """Return the solution for a gradient that need not be ``A^T b`` (form D2)."""
        lin = self._lin
        if mu == 0.0:
            self.rank = lin.n_rows
            inside = self._multipliers(0.0, lin.matvec(gradient))
            return lin.rmatvec(self._multipliers(0.0, inside))
        x = self._woodbury(mu, gradient)
        # The difference of two gradients divided by mu loses digits: correct it once.
        residual = gradient - lin.rmatvec(lin.matvec(x)) - mu * x
        return x + self._woodbury(mu, residual)

    def _woodbury(self, mu: float, gradient: FloatArray) -> FloatArray:
        inside = self._factor.solve(self._lin.matvec(gradient))
        return (gradient - self._lin.rmatvec(inside)) / mu

    def _multipliers(self, mu: float, f: FloatArray) -> FloatArray:
        """Solve ``(A A^T + mu I) y = f``, refined with residuals taken over the rows."""
        y = self._factor.solve(f)
        self.refinements = 0
        if self._factor.rcond >= REFINE_BELOW:
            return y
        last = np.inf
        for _ in range(MAX_REFINEMENTS):
            residual = f - self._lin.matvec(self._lin.rmatvec(y)) - mu * y
            size = float(dnrm2(residual))
            # Written so that NaN ends the loop too.
            if not size < 0.5 * last:
                break
            y = y + self._factor.solve(residual)
            last = size
            self.refinements += 1
        return y


class SpectralRows:
    """The singular value decomposition of the rows, for every mu."""

    def __init__(self, spectrum: Spectrum) -> None:
        self._spectrum = spectrum
        found = spectrum.found
        self.rank: int | None = found.rank
        self.refinements = 0
        self.message = (
            f"the dual matrix is singular to working precision: solved by the singular values of "
            f"the rows, rank {found.rank} with tolerance {found.tolerance:.1e}"
        )

    def rcond(self, mu: float) -> float:
        """Return the reciprocal condition number on the space solved in."""
        return self._spectrum.rcond(mu)

    def least_squares(self, mu: float, f: FloatArray) -> FloatArray:
        """Return the truncated damped solution."""
        u = self._spectrum.u
        if u is None:
            raise ValueError("a spectrum with left singular vectors is needed")
        return self._spectrum.least_squares(mu, u.T @ f)

    def from_gradient(self, mu: float, gradient: FloatArray) -> FloatArray:
        """Return the truncated solution for a gradient."""
        return self._spectrum.from_gradient(mu, gradient)


class TruncatedRows:
    """Eigenvalues of ``A A^T`` above ``10 eps lambda_max``: where the rows do not fit.

    Squaring leaves singular values below ``sqrt(10 eps) s_max`` unresolved; they count as zero.
    The eigenvectors overwrite the matrix.
    """

    def __init__(self, lin: LinearSystem, matrix: SymmetricMatrix) -> None:
        self._lin = lin
        values, vectors = eigh(
            matrix.restored(0.0), lower=True, overwrite_a=True, check_finite=False
        )
        rank, tolerance, *_ = numerical_rank(np.maximum(values[::-1], 0.0))
        self._values: FloatArray = values[values.size - rank :]
        self._vectors: FloatArray = vectors[:, values.size - rank :]
        self.rank: int | None = rank
        self.refinements = 0
        self.message = (
            f"the dual matrix is singular to working precision: truncated eigendecomposition, "
            f"rank {self.rank} with tolerance {np.sqrt(tolerance):.1e} on the singular values"
        )

    def rcond(self, mu: float) -> float:
        """Return the ratio of the extreme eigenvalues kept, damped."""
        if not self._values.size:
            return 0.0
        return float((self._values[0] + mu) / (self._values[-1] + mu))

    def least_squares(self, mu: float, f: FloatArray) -> FloatArray:
        """Return the truncated damped solution."""
        return self._lin.rmatvec(self._inverse(mu, f))

    def from_gradient(self, mu: float, gradient: FloatArray) -> FloatArray:
        """Return the truncated solution for a gradient."""
        inside = self._inverse(mu, self._lin.matvec(gradient))
        if mu == 0.0:
            return self._lin.rmatvec(self._inverse(0.0, inside))
        return (gradient - self._lin.rmatvec(inside)) / mu

    def _inverse(self, mu: float, f: FloatArray) -> FloatArray:
        return np.asarray(self._vectors @ ((self._vectors.T @ f) / (self._values + mu)))
