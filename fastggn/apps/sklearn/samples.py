"""Samples of an estimator: inputs, encoded targets and weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.data.split import Split
from fastggn.runtime.errors import as_real, check_finite

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Samples:
    """Checked inputs (T, n_0), targets (T, n_L) as the loss takes them, and weights (T,).

    `gradients`, shape (T, n_L, n_0), are the derivatives of the targets by the inputs.
    """

    X: FloatArray
    Y: FloatArray
    weights: FloatArray | None = None
    gradients: FloatArray | None = None

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
        weights, gradients = (
            None if part is None else part[index] for part in (self.weights, self.gradients)
        )
        return Samples(self.X[index], self.Y[index], weights, gradients)

    def split(
        self, fraction: float, seed: int, labels: NDArray[Any] | None
    ) -> tuple[Samples, Samples]:
        """Return the samples without the held-out part of `fg.fit`'s rule, and this part."""
        try:
            kept, held, _ = Split(fraction, seed=seed).rows(self.count, labels)
        except ValueError:
            held = np.zeros(0, dtype=np.intp)
        if held.size < 2:
            raise ValueError(
                f"validation_fraction={fraction} of {self.count} samples sets aside less than 2: "
                "raise it, or leave early_stopping out"
            )
        return self.rows(kept), self.rows(held)


def checked_gradients(gradients: Any, X: FloatArray, n_outputs: int) -> FloatArray:
    """Return derivatives of the targets by the inputs, shape (T, n_L, n_0), all finite."""
    array = as_real("gradients", gradients)
    wanted = (X.shape[0], n_outputs, X.shape[1])
    if n_outputs == 1 and array.shape == X.shape:
        array = array[:, None]
    if array.shape != wanted:
        accepted = f"{wanted}" + (f" or {X.shape}" if n_outputs == 1 else "")
        raise ValueError(
            f"gradients must have shape {accepted}: the derivatives of each target by each input, "
            f"got {array.shape}"
        )
    check_finite("gradients", array)
    return np.ascontiguousarray(array)


def batches(count: int, batch_size: int | None) -> Iterator[NDArray[np.intp]]:
    """Yield the indices of `count` samples in batches, in their order; one batch for None."""
    size = count if batch_size is None else batch_size
    for start in range(0, count, size):
        yield np.arange(start, min(count, start + size))
