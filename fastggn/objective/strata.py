"""Points of a sample with each term as a stratum (docs/decisions/0025, 0031)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fastggn.objective.sampled import draw_rows

IntArray = NDArray[np.intp]

# Of an equal share for each term: a term with fewer points has them all. Boundary conditions are
# few points of great weight, without which the curvature is another.
LEAST_SHARE = 0.5


def shares(sizes: Sequence[int] | NDArray[np.int64], count: int) -> list[int]:
    """Return how many points of each term a sample of about `count` points has."""
    total, even = sum(map(int, sizes)), LEAST_SHARE * count / len(sizes)
    wanted = [max(-(-count * int(size) // total), int(np.ceil(even))) for size in sizes]
    return [min(int(size), own) for size, own in zip(sizes, wanted, strict=True)]


def drawn_points(
    sizes: NDArray[np.int64], rank: int, count: int, rng: np.random.Generator
) -> tuple[list[IntArray], list[int]]:
    """Return the points of each term that one rank holds of a sample, and the sizes of all parts.

    `sizes` (ranks, terms) are numbers of points. A term's points are counted over the ranks, so
    that the sample does not depend on how they are shared.
    """
    drawn = shares(sizes.sum(axis=0), count)
    rows = []
    for term, own in enumerate(drawn):
        size = int(sizes[:, term].sum())
        found = np.arange(size) if own == size else draw_rows(size, own, 1, rng)
        before = int(sizes[:rank, term].sum())
        inside = (found >= before) & (found < before + sizes[rank, term])
        rows.append(np.asarray(found[inside] - before, dtype=np.intp))
    return rows, drawn


def spread_weights(sizes: NDArray[np.int64], drawn: Sequence[int]) -> list[float]:
    """Return the factors by which drawn points stand for all points of their terms."""
    # The objective divides by the number of points, which falls from sum(sizes) to sum(drawn).
    share = sum(drawn) / int(sizes.sum())
    return [share * int(size) / max(own, 1) for size, own in zip(sizes, drawn, strict=True)]
