"""Counts of each subglobal value: all patterns, realisable ones, attained minima."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastggn.analysis.plain import plain
from fastggn.analysis.relu.arrangement import as_samples
from fastggn.analysis.relu.enumeration import Progress, RegionMinimum, enumerate_subglobal_minima
from fastggn.analysis.relu.subglobal import as_targets

_SAME = 1e-9  # distance of equal values, over |y|^2 / 2
_MOST_FORMAL = 200_000


@dataclass(frozen=True, eq=False)
class LossTable:
    """Subglobal values and their numbers of regions, with all orderings of the units.

    Attributes
    ----------
    n_hidden : int
    values : ndarray, shape (V,)
        Ascending; half the sum of squares.
    formal : ndarray, shape (V,), or None
        Of all 2^(T h) patterns; None where they are too many to be listed.
    realisable, attained, boundary : ndarray, shape (V,)
        Of the open regions; of the regions with a minimum inside; of the regions with a minimum on
        the boundary only.
    """

    n_hidden: int
    values: NDArray[np.float64]
    formal: NDArray[np.int64] | None
    realisable: NDArray[np.int64]
    attained: NDArray[np.int64]
    boundary: NDArray[np.int64]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        found = plain(self)
        return {"all" if name == "formal" else name: value for name, value in found.items()}

    def __str__(self) -> str:
        columns = self.to_dict()
        names = [n for n in ("all", "realisable", "attained", "boundary") if columns[n] is not None]
        rows = [["value", *names]]
        for k, value in enumerate(self.values):
            rows.append([f"{value:.6g}", *(str(columns[n][k]) for n in names)])
        rows.append(["total", *(str(sum(columns[n])) for n in names)])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join(
            "  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in rows
        )

    def plot(self) -> Any:
        """Return a matplotlib figure of the counts."""
        from fastggn.figures.regions import plot_loss_tables

        return plot_loss_tables([self.to_dict()])


def loss_table(
    X: ArrayLike,
    y: ArrayLike,
    h: int,
    bias: bool = False,
    *,
    formal: bool | None = None,
    progress: Progress | None = None,
    n_jobs: int = 1,
) -> LossTable:
    """Count the subglobal values of a one-hidden-layer ReLU network.

    Source: Figure 3 of "Understanding local minima in neural networks by loss surface
    decomposition", which does not say which of the counts it shows.

    Parameters
    ----------
    X, y, h, bias, progress, n_jobs
        As in `enumerate_subglobal_minima`.
    formal : bool, optional
        Whether to count the 2^(T h) formal patterns too; None: up to 200,000 of them, up to order.

    Raises
    ------
    TypeError, ValueError
        As `enumerate_subglobal_minima`.

    Examples
    --------
    >>> from fastggn import analysis
    >>> X, y = [[-1.0, 1.0], [2.0, 1.0], [1.0, 3.0]], [1.0, 2.0, 3.0]
    >>> print(analysis.loss_table(X, y, h=1))
    value  all  realisable  attained  boundary
     0.16    1           1         1         0
      0.5    1           1         0         0
        2    1           1         0         0
      2.5    1           0         0         0
      4.5    1           0         0         0
        5    1           1         1         0
      6.5    1           1         1         0
        7    1           1         1         0
    total    8           6         4         0
    """
    records = enumerate_subglobal_minima(X, y, h, bias, progress=progress, n_jobs=n_jobs)
    samples = as_samples(X)
    targets = as_targets(y, len(samples))
    if formal is None:
        formal = math.comb(2 ** min(len(samples), 64) + h - 1, h) <= _MOST_FORMAL
    counts = ValueCounts(targets)
    counts.add(records, ("realisable", "attained", "boundary"))
    if formal:
        counts.add(enumerate_subglobal_minima(X, y, h, bias, "all", n_jobs=n_jobs), ("formal",))
    return LossTable(
        n_hidden=h,
        values=np.array(counts.values),
        formal=counts.column("formal") if formal else None,
        realisable=counts.column("realisable"),
        attained=counts.column("attained"),
        boundary=counts.column("boundary"),
    )


class ValueCounts:
    """A sorted list of different values, with a count of each in every column."""

    def __init__(self, y: NDArray[np.float64]) -> None:
        self.tolerance = _SAME * 0.5 * float(y @ y)
        self._values: list[float] = []
        self._counts: list[dict[str, int]] = []

    def add(self, records: Iterable[RegionMinimum], columns: tuple[str, ...]) -> None:
        """Count the records in the columns; attained and boundary only where they are."""
        for record in records:
            counts = self._at(record.loss)
            for column in columns:
                if getattr(record, column, True):
                    counts[column] = counts.get(column, 0) + record.multiplicity

    @property
    def values(self) -> list[float]:
        """The different values, ascending; 0 where only rounding is left."""
        return [0.0 if value <= self.tolerance else value for value in self._values]

    def _at(self, value: float) -> dict[str, int]:
        place = bisect.bisect_left(self._values, value - self.tolerance)
        if place == len(self._values) or self._values[place] > value + self.tolerance:
            self._values.insert(place, value)
            self._counts.insert(place, {})
        return self._counts[place]

    def column(self, name: str) -> NDArray[np.int64]:
        """Return the counts of a column, shape (V,)."""
        return np.array([counts.get(name, 0) for counts in self._counts], dtype=np.int64)
