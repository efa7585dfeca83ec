"""A symmetric matrix and its factor in one N x N array, for several shifts of the diagonal.

The matrix stays in one triangle with its diagonal saved apart; the factor is written into the
other. A new shift copies the matrix back across the diagonal and factors again: N^2 moves
before N^3 / 3 operations, and never a second N x N array.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from fastggn.kernels.cholesky import cholesky, divide_rows, inverse_diagonal
from fastggn.kernels.ggn_expand import mirror
from fastggn.runtime.threads import one_pool, workers, workers_for
from fastggn.solvers.base import FloatArray

# Tile of the transposed copies: two of them stay in the second-level cache.
TILE = 256


class SymmetricMatrix:
    """A symmetric matrix that lends one of its triangles to a factorisation.

    Attributes
    ----------
    finite : bool
        Whether all entries are finite.
    diagonal : ndarray, shape (n,)
        The diagonal.
    """

    def __init__(self, matrix: FloatArray) -> None:
        self._a: FloatArray = np.require(matrix, np.float64, ["C", "W"])
        self.size = self._a.shape[0]
        self.diagonal: FloatArray = self._a.diagonal().copy()
        self._off_diagonal = _absolute_row_sums(self._a) - np.abs(self.diagonal)
        self.finite = bool(np.isfinite(self._off_diagonal).all())
        self._fresh = True

    def norm(self, shift: FloatArray | float) -> float:
        """Return the 1-norm of the matrix with `shift` added to its diagonal."""
        return float((self._off_diagonal + np.abs(self.diagonal + shift)).max())

    def restored(self, shift: FloatArray | float) -> FloatArray:
        """Return the array, in C order, with the shifted matrix in its lower triangle.

        The strict upper triangle is the store and must not be written to.
        """
        if not self._fresh:
            with one_pool(), workers_for(float(self._a.size)):
                mirror(self._a, False)
        self._fresh = False
        self._a.reshape(-1)[:: self.size + 1] = self.diagonal + shift
        return self._a


class CholeskyFactor(NamedTuple):
    """The outcome of a Cholesky factorisation.

    ``bad_pivot`` is 0 where it succeeded, else the one-based number of the first pivot that is
    not positive, whose value is ``pivot``. ``factor`` is a view of the lent triangle and holds
    until the next factorisation. ``rcond`` is an estimate, or a lower bound: `factor_cholesky`.
    """

    factor: FloatArray
    rcond: float
    bad_pivot: int
    pivot: float

    def solve(self, rhs: FloatArray) -> FloatArray:
        """Return the solution for `rhs`, shape (n,) or (n, k)."""
        # LAPACK sees the transposed array: its upper triangle.
        x, _ = lapack.dpotrs(self.factor.T, rhs, lower=0)
        return np.asarray(x)

    def whiten(self, rows: FloatArray) -> FloatArray:
        """Return ``rows L^-T`` for rows (r, n), which may be overwritten."""
        rows = np.ascontiguousarray(rows)
        with one_pool(), workers_for(float(rows.size) * self.factor.shape[0]):
            divide_rows(self.factor, rows)
        return rows

    def inverse_diagonal(self) -> FloatArray:
        """Return the diagonal of the inverse matrix, at the price of the factorisation again."""
        with one_pool(), workers_for(self.factor.shape[0] ** 3 / 3.0):
            return np.asarray(inverse_diagonal(self.factor, workers()))


def factor_cholesky(
    matrix: SymmetricMatrix,
    shift: FloatArray | float,
    *,
    semidefinite: bool = False,
    good: float = np.inf,
) -> CholeskyFactor:
    """Factor the matrix with `shift` added to its diagonal, in place.

    LAPACK's estimate of rcond costs as much as five solutions, by one thread. Where the matrix
    without its shift is known to be `semidefinite`, ``shift / (sqrt(n) norm)`` is a lower bound of
    rcond in the 1-norm; if it is at least `good`, it stands in for the estimate.
    """
    a = matrix.restored(shift)
    with one_pool(), workers_for(matrix.size**3 / 3.0):
        info = cholesky(a)
    if info > 0:
        return CholeskyFactor(a, 0.0, info, float(a[info - 1, info - 1]))
    norm = matrix.norm(shift)
    lowest = shift if isinstance(shift, float) else float(np.min(shift))
    if semidefinite and lowest >= good * math.sqrt(matrix.size) * norm:
        return CholeskyFactor(a, float(lowest / (math.sqrt(matrix.size) * norm)), 0, 0.0)
    rcond, _ = lapack.dpocon(a.T, norm, uplo="U")
    return CholeskyFactor(a, float(rcond), 0, 0.0)


class IndefiniteFactor:
    """The Bunch-Kaufman factorisation ``L B L^T`` of a symmetric indefinite matrix, in place.

    Attributes
    ----------
    rcond : float
        An estimate of the reciprocal condition number; 0 for an exactly singular matrix.
    n_positive : int
        The number of positive eigenvalues, by Sylvester's law.
    """

    def __init__(self, matrix: SymmetricMatrix, shift: FloatArray) -> None:
        a = matrix.restored(shift).T  # in Fortran order: LAPACK works in its upper triangle
        work, _ = lapack.dsytrf_lwork(matrix.size, lower=0)
        _, self._pivots, info = lapack.dsytrf(a, lower=0, lwork=int(work), overwrite_a=1)
        self._a = a
        self.rcond = 0.0
        if info == 0:
            rcond, _ = lapack.dsycon(a, self._pivots, matrix.norm(shift), lower=0)
            self.rcond = float(rcond)
        # A negative pivot index marks one half of a 2 x 2 block; those are always indefinite.
        pairs: NDArray[np.bool_] = self._pivots < 0
        single = a.diagonal()[~pairs]
        self.n_positive = int(np.count_nonzero(single > 0.0)) + int(np.count_nonzero(pairs)) // 2

    def solve(self, rhs: FloatArray) -> FloatArray:
        """Return the solution for `rhs`, shape (n,)."""
        x, _ = lapack.dsytrs(self._a, self._pivots, rhs, lower=0)
        return np.asarray(x)


def _absolute_row_sums(matrix: FloatArray) -> FloatArray:
    sums = np.empty(matrix.shape[0])
    for i in range(0, sums.size, TILE):
        sums[i : i + TILE] = np.abs(matrix[i : i + TILE]).sum(axis=1)
    return sums
