"""Streaming QR of a tall matrix that comes in blocks of rows, and what its SVD tells.

The rank of a Jacobian is read off its own singular values, never off its Gram matrix, whose
condition number is squared. Memory is one N x N array and one block, however many rows come.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, lapack, svd

FloatArray = NDArray[np.float64]

# Columns a panel of the compact WY form: the fastest of 16, 32 and 64 for N from 500 to 1500.
PANEL = 32


class StreamingQR:
    """The factor R of all rows folded so far, and Q^T applied to their right-hand sides."""

    def __init__(self, n_columns: int, n_rhs: int = 0) -> None:
        if n_columns < 1:
            raise ValueError(f"n_columns must be at least 1, got {n_columns}")
        self.n_columns = n_columns
        self.n_rows = 0
        # Fortran order: LAPACK then works in place. The part below the diagonal stays zero.
        self._r = np.zeros((n_columns, n_columns), order="F")
        self._c = np.zeros((n_columns, n_rhs), order="F")
        self.rest = np.zeros(n_rhs)

    def fold(self, block: FloatArray, rhs: FloatArray | None = None) -> None:
        """Take in the rows `block` (r, N), with `rhs` (r,) or (r, n_rhs)."""
        rows = block.shape[0]
        if block.ndim != 2 or block.shape[1] != self.n_columns:
            raise ValueError(f"block must have shape (r, {self.n_columns}), got {block.shape}")
        if (rhs is None) != (self._c.shape[1] == 0):
            raise ValueError(f"expected {self._c.shape[1]} right-hand sides with every block")
        if rows == 0:
            return
        # The copy is needed: LAPACK stores the reflectors over the block.
        below = np.array(block, dtype=np.float64, order="F")
        panel = min(PANEL, self.n_columns)
        r, v, t, info = lapack.dtpqrt(0, panel, self._r, below, overwrite_a=1, overwrite_b=1)
        _check("dtpqrt", info)
        self._r = r
        if rhs is not None:
            lower = np.array(np.reshape(rhs, (rows, -1)), dtype=np.float64, order="F")
            self._c, left, info = lapack.dtpmqrt(
                0, v, t, self._c, lower, side="L", trans="T", overwrite_a=1, overwrite_b=1
            )
            _check("dtpmqrt", info)
            self.rest += np.einsum("ij,ij->j", left, left)
        self.n_rows += rows

    def merged(self, mine: FloatArray, other: FloatArray) -> FloatArray:
        """Return what was packed of the rows of both, `mine` above `other`."""
        upper, lower = (StreamingQR(self.n_columns, self._c.shape[1]) for _ in range(2))
        upper.load(mine)
        lower.load(other)
        rows = upper.n_rows + lower.n_rows
        upper.fold(lower.r, lower.c if lower.c.shape[1] else None)
        upper.n_rows = rows
        upper.rest += lower.rest
        return upper.packed()

    def packed(self) -> FloatArray:
        """Return the triangle of R, row by row, and all else as one vector."""
        triangle = [self._r[i, i:] for i in range(self.n_columns)]
        return np.concatenate([*triangle, self._c.ravel(), self.rest, [float(self.n_rows)]])

    def load(self, packed: FloatArray) -> None:
        """Take the place of what was packed."""
        done = 0
        for i in range(self.n_columns):
            self._r[i, i:] = packed[done : done + self.n_columns - i]
            done += self.n_columns - i
        self._c[...] = packed[done : done + self._c.size].reshape(self._c.shape)
        done += self._c.size
        self.rest[...] = packed[done : done + self.rest.size]
        self.n_rows = int(packed[-1])

    @property
    def r(self) -> FloatArray:
        """The upper-triangular factor, shape (N, N): a view.

        All its rows count, also while fewer rows than N have come: where leading columns are
        dependent, as in a Jacobian, the content of those columns' rows moves further down.
        """
        return self._r

    @property
    def c(self) -> FloatArray:
        """Q^T times the right-hand sides, shape (N, n_rhs): a view."""
        return self._c


class NumericalRank(NamedTuple):
    """A rank, the tolerance it was counted with, and how clear-cut it is.

    ``gap`` is the smallest singular value kept over the largest one dropped (inf where none is
    dropped or those dropped are zero, nan for rank 0).
    """

    rank: int
    tolerance: float
    gap: float


def numerical_rank(singular_values: FloatArray, shape: tuple[int, int]) -> NumericalRank:
    """Count the singular values above ``eps * max(shape) * s_max``."""
    s = singular_values
    largest = float(s[0]) if s.size else 0.0
    tolerance = float(np.finfo(np.float64).eps) * max(shape) * largest
    rank = int(np.count_nonzero(s > tolerance))
    if rank == 0:
        return NumericalRank(0, tolerance, float("nan"))
    dropped = float(s[rank]) if rank < s.size else 0.0
    gap = float(s[rank - 1]) / dropped if dropped > 0.0 else float("inf")
    return NumericalRank(rank, tolerance, gap)


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


def all_finite(matrix: FloatArray, rows: int = 256) -> bool:
    """Whether every entry is finite, without a boolean array of the matrix's size."""
    return all(
        bool(np.isfinite(matrix[i : i + rows]).all()) for i in range(0, matrix.shape[0], rows)
    )


def _check(routine: str, info: int) -> None:
    if info != 0:
        raise ValueError(f"LAPACK's {routine} refused its argument {-info}")
