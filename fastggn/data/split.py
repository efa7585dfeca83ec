"""The split of samples into training, held-out and test rows, as a stored rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

BLOCK = 1024  # rows that are drawn together, so that a part of a file knows its own split
Rows = NDArray[np.intp]
Parts = NDArray[np.int8]


@dataclass(frozen=True)
class Split:
    """Shares of held-out and test rows, by a rule that needs no list of rows.

    Attributes
    ----------
    held_out, test : float
        Shares, each at least 0, together below 1.
    seed : int
    kind : {"random", "end", "rows"}
        "random": each block of 1024 rows (of a class) gives its share, so that the sizes of all
        blocks so far differ from the share by less than 1. "end": the last rows, for a series.
        "rows": the held-out rows are `numbers`.
    numbers : tuple of int
    """

    held_out: float = 0.0
    test: float = 0.0
    seed: int = 0
    kind: Literal["random", "end", "rows"] = "random"
    numbers: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name, share in (("held_out", self.held_out), ("test", self.test)):
            if not 0.0 <= share < 1.0:
                raise ValueError(f"{name} must be at least 0 and below 1, got {share}")
        if self.held_out + self.test >= 1.0:
            raise ValueError(f"held_out and test leave no row: {self.held_out} + {self.test}")

    @classmethod
    def of_rows(cls, held_out: Rows) -> Split:
        """Return the split that holds out these rows."""
        return cls(kind="rows", numbers=tuple(sorted(int(row) for row in held_out)))

    def rows(self, total: int, labels: NDArray[Any] | None = None) -> tuple[Rows, Rows, Rows]:
        """Return the sorted rows of training, held-out and test samples.

        Parameters
        ----------
        total : int
            The number of rows, T.
        labels : ndarray, shape (T,), optional
            Classes, which then give equal shares; a class of one row stays in training.

        Raises
        ------
        ValueError
            If a share is positive and gives no row, or no row is left for training.
        """
        codes = None if labels is None else np.unique(labels, return_inverse=True)[1]
        part = self.part_of(0, total, total, codes)
        found = np.flatnonzero(part == 0), np.flatnonzero(part == 1), np.flatnonzero(part == 2)
        for name, share, rows in (("held_out", self.held_out, 1), ("test", self.test, 2)):
            if share > 0.0 and found[rows].size == 0:
                raise ValueError(
                    f"{name}={share} of {total} rows gives no row: raise it, or give 0"
                )
        if found[0].size == 0:
            raise ValueError(f"no row of {total} is left for training")
        return found

    def part_of(
        self,
        start: int,
        stop: int,
        total: int,
        labels: NDArray[Any] | None = None,
        before: ArrayLike | None = None,
        counts: ArrayLike | None = None,
    ) -> Parts:
        """Return the part of each row of a range: 0 training, 1 held out, 2 test.

        Parameters
        ----------
        start, stop : int
            The range of rows.
        total : int
            The number of rows of the table, T.
        labels : ndarray of int, shape (stop - start,), optional
            The classes of these rows, from 0.
        before, counts : array_like of int, shape (n_classes,), optional
            The rows of each class before `start`, and in the table; needed with the labels of a
            range that is not the table.

        Returns
        -------
        ndarray of int8, shape (stop - start,)
            The same parts as in the whole table.
        """
        if self.kind == "rows":
            part = np.zeros(stop - start, dtype=np.int8)
            held = np.asarray(self.numbers, dtype=np.intp)
            part[held[(held >= start) & (held < stop)] - start] = 1
            return part
        if self.kind == "end":
            n_test, n_held = round(self.test * total), round(self.held_out * total)
            row = np.arange(start, stop)
            late = (row >= total - n_test - n_held).astype(np.int8)
            return np.asarray(late + (row >= total - n_test), dtype=np.int8)
        if labels is None:
            return self._drawn(start, stop, total, 0)
        part = np.zeros(stop - start, dtype=np.int8)
        if counts is None:
            counts = np.bincount(labels)
        sizes = np.asarray(counts)
        first = np.zeros_like(sizes) if before is None else np.asarray(before)
        for label in np.unique(labels):
            own = np.flatnonzero(labels == label)
            if sizes[label] > 1:
                begin = int(first[label])
                part[own] = self._drawn(begin, begin + own.size, int(sizes[label]), int(label) + 1)
        return part

    def _drawn(self, start: int, stop: int, total: int, group: int) -> Parts:
        """Return the parts of a range of the rows of a group, drawn block by block."""
        # A random offset rounds the share of a small class without bias; the table itself rounds
        # to the nearest number, and gives at least one row.
        offset = np.random.default_rng((self.seed, 1, group)).random() if group else 0.5
        parts = []
        for block in range(start // BLOCK, -(-stop // BLOCK)):
            begin, end = block * BLOCK, min(total, (block + 1) * BLOCK)
            n_test, n_both = (
                late - early for early, late in zip(
                    self._sizes(begin, total, offset, group),
                    self._sizes(end, total, offset, group), strict=True,
                )
            )  # fmt: skip
            order = np.random.default_rng((self.seed, 2, group, block)).permutation(end - begin)
            part = np.zeros(end - begin, dtype=np.int8)
            part[order[:n_test]] = 2
            part[order[n_test:n_both]] = 1
            parts.append(part[max(start - begin, 0) : stop - begin])
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.int8)

    def _sizes(self, upto: int, total: int, offset: float, group: int) -> tuple[int, int]:
        """Return how many of the first rows are test rows, and test or held-out rows."""
        if upto == 0:
            return 0, 0
        test = int(self.test * upto + offset)
        both = int((self.test + self.held_out) * upto + offset)
        if group == 0:
            test = max(test, int(self.test > 0.0))
            both = max(both, test + int(self.held_out > 0.0))
        both = min(both, total - 1)
        return min(test, both), both

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for a file."""
        return asdict(self)

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> Split:
        """Return the rule of `to_dict`."""
        return cls(**{**kept, "numbers": tuple(int(row) for row in kept["numbers"])})
