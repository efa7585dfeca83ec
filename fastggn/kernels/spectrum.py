"""Singular values, and the one rule by which they give a rank."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, svd

from fastggn.kernels.banded_svd import banded_svd
from fastggn.kernels.tsqr import StreamingQR
from fastggn.runtime.threads import one_pool, workers_for

FloatArray = NDArray[np.float64]

EPS = float(np.finfo(np.float64).eps)
# Rounding in a balanced fold and in the decomposition leaves at most about two units of
# eps s_max where exact arithmetic has a zero, at any number of rows.
RANK_TOLERANCE = 10.0 * EPS
# A singular value so many tolerances large is no rounding error.
CERTAIN = 100.0
LARGE = 256  # rows and columns: fewer are LAPACK's alone


class NumericalRank(NamedTuple):
    """A rank, the tolerance it was counted with, and how clear-cut it is.

    ``gap`` is the smallest singular value kept over the largest one dropped (inf where none is
    dropped or those dropped are zero, nan for rank 0). ``certain_rank`` counts the singular values
    above 100 tolerances.
    """

    rank: int
    tolerance: float
    gap: float
    certain_rank: int


def numerical_rank(
    singular_values: FloatArray, entry_error: float = 0.0, tol: float | None = None
) -> NumericalRank:
    """Count the singular values above `tol`, or above ``10 eps s_max + entry_error``.

    `entry_error` is the norm of the rounding errors of the matrix itself. The shape of the matrix
    does not enter: a repeated row changes no rank.
    """
    s = singular_values
    largest = float(s[0]) if s.size else 0.0
    tolerance = RANK_TOLERANCE * largest + entry_error if tol is None else tol
    rank = int(np.count_nonzero(s > tolerance))
    if rank == 0:
        return NumericalRank(0, tolerance, float("nan"), 0)
    dropped = float(s[rank]) if rank < s.size else 0.0
    gap = float(s[rank - 1]) / dropped if dropped > 0.0 else float("inf")
    certain = int(np.count_nonzero(s / CERTAIN > tolerance))
    return NumericalRank(rank, tolerance, gap, certain)


def thin_svd(matrix: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return U (m, k), s (k,), V^T (k, n) with k = min(m, n).

    Divide and conquer fails to converge on rare matrices; the slower QR iteration then serves.
    """
    if not all_finite(matrix):
        raise LinAlgError("the matrix holds NaN or infinite entries")
    try:
        u, s, vt = svd(matrix, full_matrices=False, check_finite=False, lapack_driver="gesdd")
    except LinAlgError:
        u, s, vt = svd(matrix, full_matrices=False, check_finite=False, lapack_driver="gesvd")
    return u, s, vt


def singular_values(matrix: FloatArray) -> FloatArray:
    """Return the min(m, n) singular values, descending."""
    if not all_finite(matrix):
        raise LinAlgError("the matrix holds NaN or infinite entries")
    if min(matrix.shape) < LARGE:
        return np.asarray(np.linalg.svd(matrix, compute_uv=False), dtype=np.float64)
    return _of_large(matrix, np.zeros((matrix.shape[0], 0)))[0]


def values_and_turned(matrix: FloatArray, rhs: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the singular values of a matrix (m, n) with m <= n, and U^T rhs for rhs (m,)."""
    if matrix.shape[0] < LARGE:
        u, s, _ = thin_svd(matrix)
        return s, u.T @ rhs
    s, turned = _of_large(matrix, rhs[:, None])
    return s, turned[:, 0]


def _of_large(matrix: FloatArray, rhs: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Reduce to a square matrix by QR where that pays, and this to a band."""
    if not all_finite(matrix):
        raise LinAlgError("the matrix holds NaN or infinite entries")
    m, n = matrix.shape
    if m == n:
        square = np.array(matrix, order="C")
    else:  # A^T = Q R: the left singular vectors of A are those of R^T
        qr = StreamingQR(min(m, n))
        qr.fold(matrix.T if m < n else matrix)
        square = np.ascontiguousarray(qr.r.T if m < n else qr.r)
    with one_pool(), workers_for(2.0 * square.size * square.shape[0]):
        return banded_svd(square, rhs)


def all_finite(matrix: FloatArray, rows: int = 256) -> bool:
    """Whether every entry is finite, without a boolean array of the matrix's size."""
    return all(
        bool(np.isfinite(matrix[i : i + rows]).all()) for i in range(0, matrix.shape[0], rows)
    )
