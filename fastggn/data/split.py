"""The split of samples into training, held-out and test rows, as a stored rule."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

BLOCK = 1024  # rows that are drawn together, so that a part of a file knows its own split
Rows = NDArray[np.intp]


@dataclass(frozen=True)
class Split:
    """Shares of held-out and test rows, by a rule that needs no list of rows.

    Attributes
    ----------
    held_out, test : float
        Shares, each at least 0, together below 1.
    seed : int
    kind : {"random", "end", "rows"}
        "random": each block of 1024 rows, and each class, gives its share. "end": the last rows,
        for a series. "rows": the held-out rows are `numbers`.
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
        return cls(kind="rows", numbers=tuple(int(row) for row in held_out))

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
        part = np.zeros(total, dtype=np.int8)
        if self.kind == "rows":
            part[list(self.numbers)] = 1
        elif self.kind == "end":
            n_test, n_held = round(self.test * total), round(self.held_out * total)
            part[total - n_test - n_held :] = 1
            part[total - n_test :] = 2
        elif labels is None:
            for start in range(0, total, BLOCK):
                stop = min(total, start + BLOCK)
                part[start:stop] = self._drawn(stop - start, start // BLOCK)
        else:
            for number, label in enumerate(np.unique(labels)):
                own = np.flatnonzero(labels == label)
                if own.size > 1:
                    part[own] = self._drawn(own.size, number)
        found = tuple(np.flatnonzero(part == k) for k in range(3))
        for name, share, rows in (("held_out", self.held_out, 1), ("test", self.test, 2)):
            if share > 0.0 and found[rows].size == 0:
                raise ValueError(f"{name}={share} of {total} rows gives no row")
        if found[0].size == 0:
            raise ValueError(f"no row of {total} is left for training")
        return found  # type: ignore[return-value]

    def _drawn(self, count: int, number: int) -> NDArray[np.int8]:
        """Return the parts of `count` rows of one block or class."""
        rng = np.random.default_rng((self.seed, 1, number))
        # A random offset rounds the share of a small block without bias.
        offset = rng.random()
        n_test = int(self.test * count + offset)
        n_held = int((self.test + self.held_out) * count + offset) - n_test
        order = rng.permutation(count)
        part = np.zeros(count, dtype=np.int8)
        part[order[:n_test]] = 2
        part[order[n_test : n_test + n_held]] = 1
        return part

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for a file."""
        return asdict(self)

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> Split:
        """Return the rule of `to_dict`."""
        return cls(**{**kept, "numbers": tuple(int(row) for row in kept["numbers"])})
