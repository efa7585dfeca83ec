"""Samples of an estimator: inputs, encoded targets and weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Samples:
    """Checked inputs (T, n_0), targets (T, n_L) as the loss takes them, and weights (T,)."""

    X: FloatArray
    Y: FloatArray
    weights: FloatArray | None = None

    @property
    def count(self) -> int:
        """The number of samples, T."""
        return int(self.X.shape[0])

    @property
    def total(self) -> float:
        """The sum of the weights; T without weights."""
        return float(self.count if self.weights is None else self.weights.sum())

    def rows(self, index: NDArray[np.intp]) -> Samples:
        """Return the samples with these indices."""
        weights = None if self.weights is None else self.weights[index]
        return Samples(self.X[index], self.Y[index], weights)

    def split(
        self, fraction: float, rng: Any, labels: NDArray[Any] | None
    ) -> tuple[Samples, Samples]:
        """Return the samples without a random part, and this part."""
        try:
            kept, held = train_test_split(
                np.arange(self.count), test_size=fraction, random_state=rng, stratify=labels
            )
        except ValueError as error:
            raise ValueError(
                f"validation_fraction={fraction} of {self.count} samples: {error}"
            ) from error
        if held.size < 2:
            raise ValueError(
                f"validation_fraction={fraction} of {self.count} samples sets aside less than 2"
            )
        return self.rows(kept), self.rows(held)


def batches(count: int, batch_size: int | None) -> Iterator[NDArray[np.intp]]:
    """Yield the indices of `count` samples in batches, in their order; one batch for None."""
    size = count if batch_size is None else batch_size
    for start in range(0, count, size):
        yield np.arange(start, min(count, start + size))
