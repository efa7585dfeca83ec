"""Ranks from singular values of tall matrices whose rows come in blocks."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.analysis.plain import plain
from fastggn.kernels import row_spectrum
from fastggn.kernels.spectrum import CERTAIN, numerical_rank, singular_values
from fastggn.training.step import norm

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
    values: FloatArray, shape: tuple[int, int], tol: float | None = None, entry_error: float = 0.0
) -> Rank:
    """Return the rank from singular values in descending order."""
    found = numerical_rank(values, entry_error, tol)
    smallest = float(values[found.rank - 1]) if found.rank else float("nan")
    return Rank(found.rank, shape, found.tolerance, found.gap, smallest, found.certain_rank)


def rank_of_matrix(matrix: FloatArray) -> Rank:
    """Return the rank of a small matrix."""
    shape = (int(matrix.shape[0]), int(matrix.shape[1]))
    return rank_of(singular_values(matrix), shape)


class RowSpectrum(row_spectrum.RowSpectrum):
    """Singular values of a matrix whose rows come in blocks, as a rank."""

    def rank(self, tol: float | None = None, entry_error: float = 0.0) -> Rank:
        """Return the numerical rank."""
        return rank_of(self.values(), self.shape, tol, entry_error)

    def decompose(
        self, tol: float | None = None, entry_error: float = 0.0
    ) -> tuple[FloatArray, Rank, float]:
        """Return singular values, rank, and the norm of the vector outside the column space."""
        s, turned, rest = self.values_and_turned()
        found = rank_of(s, self.shape, tol, entry_error)
        return s, found, math.hypot(rest, norm(turned[found.rank :]))
