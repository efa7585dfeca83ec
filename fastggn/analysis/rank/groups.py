"""Rows of a layer's inputs by the rank of their sensitivities: the greedy bound's sum."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastggn.analysis.rank.spectrum import FloatArray, Rank, RowSpectrum
from fastggn.runtime.comm import Comm


class RankGroups:
    """Rows phi of one layer, grouped by rank(Psi), for the greedy bound."""

    def __init__(self, n_inputs: int) -> None:
        self._n_inputs = n_inputs
        self._by_rank: dict[int, RowSpectrum] = {}

    def fold(self, phi: FloatArray, ranks: NDArray[np.int64]) -> None:
        """Add the rows phi of some samples with their rank(Psi)."""
        for rank in np.unique(ranks):
            if rank > 0:
                group = self._by_rank.setdefault(int(rank), RowSpectrum(self._n_inputs))
                group.fold(phi[ranks == rank])

    def unite(self, comm: Comm) -> None:
        """Add the rows of the other ranks."""
        for rank in sorted(set().union(*comm.gather(set(self._by_rank)))):
            self._by_rank.setdefault(rank, RowSpectrum(self._n_inputs)).unite(comm)

    def best_sum(self, whole: Rank, n_samples: int, entry_error: float) -> tuple[int, float]:
        """Return the largest sum of ranks over independent rows, and the smallest gap behind it."""
        # Independent vectors are a matroid, so the greedy basis is the best: the sum over r >= 1
        # of the rank of the rows with rank(Psi) >= r.
        total, gap = 0, float("inf")
        above = RowSpectrum(self._n_inputs)
        for r in sorted(self._by_rank, reverse=True):
            lower = max((s for s in self._by_rank if s < r), default=0)
            group = self._by_rank[r]
            count = above.n_rows + group.n_rows
            if count == n_samples:
                found = whole
            else:
                for rows in group.rows():
                    above.fold(rows)
                above.n_rows = count
                found = above.rank(entry_error=entry_error)
            total += (r - lower) * found.rank
            if found.rank:
                gap = min(gap, found.gap, float("inf") if found.certain else found.margin)
        return total, gap
