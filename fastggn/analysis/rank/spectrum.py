"""Ranks from singular values of tall matrices whose rows come in blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.analysis.plain import plain
from fastggn.kernels.spectrum import CERTAIN, numerical_rank, thin_svd
from fastggn.kernels.tsqr import StreamingQR
from fastggn.runtime.comm import Comm

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Rank:
    """A numerical rank and how clear-cut it is.

    Attributes
    ----------
    rank : int
        Number of singular values above the tolerance.
    shape : tuple of int
        Of the matrix.
    tolerance : float
        ``10 eps s_max`` and the rounding errors of the entries, by default: the shape does not
        enter.
    gap : float
        The smallest singular value kept over the largest one dropped: inf where all dropped values
        are 0, nan for rank 0.
    smallest : float
        The smallest singular value kept; nan for rank 0.
    certain_rank : int
        Number of singular values above 100 tolerances.
    """

    rank: int
    shape: tuple[int, int]
    tolerance: float
    gap: float
    smallest: float
    certain_rank: int

    @property
    def full(self) -> bool:
        """Whether the rank is the largest that the shape allows."""
        return self.rank == min(self.shape)

    @property
    def certain(self) -> bool:
        """Whether no singular value kept could be rounding errors."""
        return self.rank == self.certain_rank

    @property
    def clear(self) -> bool:
        """Whether the values kept and dropped lie far apart, and far above the tolerance."""
        return self.certain and not self.gap < CERTAIN

    @property
    def margin(self) -> float:
        """The smallest singular value kept over the tolerance; nan for rank 0."""
        return self.smallest / self.tolerance if self.tolerance else float("inf") * self.rank

    @property
    def words(self) -> str:
        """The rank, or the two between which it is undecided."""
        return rank_in_words(self.rank, self.certain_rank, self.margin)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return plain(self)


def rank_in_words(rank: int, certain_rank: int, margin: float) -> str:
    """Return the rank as reports print it."""
    if rank == certain_rank:
        return str(rank)
    return (
        f"undecided between {certain_rank} and {rank} (the smallest singular value kept is "
        f"{margin:.2g} times the tolerance)"
    )


def rank_of(
    values: FloatArray,
    shape: tuple[int, int],
    tol: float | None = None,
    entry_error: float = 0.0,
) -> Rank:
    """Return the rank from singular values in descending order."""
    found = numerical_rank(values, entry_error, tol)
    smallest = float(values[found.rank - 1]) if found.rank else float("nan")
    return Rank(found.rank, shape, found.tolerance, found.gap, smallest, found.certain_rank)


def rank_of_matrix(matrix: FloatArray) -> Rank:
    """Return the rank of a small matrix."""
    shape = (int(matrix.shape[0]), int(matrix.shape[1]))
    return rank_of(_singular_values(matrix), shape)


def _singular_values(matrix: FloatArray) -> FloatArray:
    return np.asarray(np.linalg.svd(matrix, compute_uv=False), dtype=np.float64)


class RowSpectrum:
    """Singular values of a matrix whose rows come in blocks, and the residual of one vector.

    Up to N rows are kept; more go through a streaming QR, in O(N^2) memory and one block.
    """

    def __init__(self, n_columns: int, *, with_rhs: bool = False) -> None:
        self.n_columns = n_columns
        self.n_rows = 0
        self._held: list[tuple[FloatArray, FloatArray | None]] = []
        self._qr: StreamingQR | None = None
        self._with_rhs = with_rhs

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows so far, and of columns."""
        return self.n_rows, self.n_columns

    def fold(self, rows: FloatArray, rhs: FloatArray | None = None) -> None:
        """Add rows (r, N), with their part (r,) of the vector."""
        if rows.shape[0] == 0:
            return
        self.n_rows += rows.shape[0]
        if self._qr is None:
            self._held.append((rows, rhs))
            if self.n_rows <= self.n_columns:
                return
            self._qr = self._factored()
            return
        self._qr.fold(rows, rhs)

    def unite(self, comm: Comm) -> None:
        """Add the rows of the other ranks; collective."""
        if comm.size == 1:
            return
        self.n_rows = int(comm.total(self.n_rows))
        if self.n_rows == 0:
            return
        if self._qr is None:
            self._qr = self._factored()
        comm.unite(self._qr)

    def _factored(self) -> StreamingQR:
        """Move the rows that were kept into a factor and return it."""
        qr = StreamingQR(self.n_columns, 1 if self._with_rhs else 0)
        for held, part in self._held:
            qr.fold(held, part)
        self._held = []
        return qr

    def rows(self) -> Iterator[FloatArray]:
        """Yield a matrix with the same Gram matrix: the rows themselves, or R."""
        if self._qr is not None:
            yield self._qr.r
        else:
            yield from (rows for rows, _ in self._held)

    def matrix(self) -> FloatArray:
        """Return the rows of `rows` as one array (k, N)."""
        parts = list(self.rows())
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts) if parts else np.zeros((0, self.n_columns))

    def values(self) -> FloatArray:
        """Return the min(rows, N) singular values, in descending order."""
        if self.n_rows == 0:
            return np.zeros(0)
        return _singular_values(self.matrix())[: min(self.shape)]

    def rank(self, tol: float | None = None, entry_error: float = 0.0) -> Rank:
        """Return the numerical rank."""
        return rank_of(self.values(), self.shape, tol, entry_error)

    def decompose(
        self, tol: float | None = None, entry_error: float = 0.0
    ) -> tuple[FloatArray, Rank, float]:
        """Return singular values, rank, and the norm of the vector outside the column space."""
        if self._qr is not None:
            matrix, rhs, rest = self._qr.r, self._qr.c[:, 0], float(self._qr.rest[0])
        else:
            matrix, rest = self.matrix(), 0.0
            rhs = np.concatenate([part for _, part in self._held if part is not None])
        u, s, _ = thin_svd(matrix)
        s = s[: min(self.shape)]
        found = rank_of(s, self.shape, tol, entry_error)
        basis = u[:, : found.rank]
        left = rhs - basis @ (basis.T @ rhs)
        # Project twice: the first difference cancels where almost nothing is left.
        left -= basis @ (basis.T @ left)
        return s, found, float(np.sqrt(rest + left @ left))
