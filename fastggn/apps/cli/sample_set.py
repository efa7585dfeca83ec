"""The samples of a run: arrays, names of columns, classes, scales."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastggn.data.sources import as_source, in_parts, is_streamed
from fastggn.runtime.comm import SERIAL, Comm

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Scaling:
    """Columns as ``(column - mean) / scale``; a constant column has scale 1."""

    mean: Array
    scale: Array

    @classmethod
    def of(cls, columns: Array) -> Scaling:
        """Return the scaling that standardises columns (T, n)."""
        with np.errstate(over="ignore", invalid="ignore"):
            mean, deviation = columns.mean(axis=0), columns.std(axis=0)
        if not (np.isfinite(mean).all() and np.isfinite(deviation).all()):
            raise ValueError("the values are too large to be scaled (see --no-standardise)")
        # The deviation of a column with one repeated value is 0 or a rounding error.
        constant = deviation <= 1e-13 * np.abs(mean)
        return cls(mean, np.where(constant, 1.0, deviation))

    def apply(self, columns: Array) -> Array:
        """Return the scaled columns."""
        return np.asarray((columns - self.mean) / self.scale)

    def undo(self, columns: Array) -> Array:
        """Return the columns in their own units."""
        return np.asarray(columns * self.scale + self.mean)

    def to_dict(self) -> dict[str, list[float]]:
        """Return mean and scale as lists."""
        return {"mean": self.mean.tolist(), "scale": self.scale.tolist()}


@dataclass(frozen=True)
class Samples:
    """The samples of one rank as the problem takes them: scaled, with labels counted from 0."""

    name: str
    X: Any  # array or rows of a file, shape (T, n_0)
    Y: Any  # shape (T, n_L) or (T,)
    n_outputs: int
    inputs: tuple[str, ...]
    targets: tuple[str, ...]
    decision: Literal["nearest", "argmax", "sign"] | None = None  # rule from outputs to classes
    classes: Array | None = None  # target value of each class
    labels: NDArray[np.int64] | None = None  # true classes (T,), counted from 0
    scale_X: Scaling | None = None
    scale_Y: Scaling | None = None
    comm: Comm = SERIAL
    shared: int | None = None  # T of all ranks, if there are several
    held_out: Samples | None = None

    @property
    def n_samples(self) -> int:
        """T of all ranks."""
        return int(self.X.shape[0]) if self.shared is None else self.shared

    def accuracy(self, outputs: Array) -> float | None:
        """Return the fraction of right labels; None for a regression."""
        if self.labels is None:
            return None
        if self.decision == "argmax":
            predicted = outputs.argmax(axis=1)
        elif self.decision == "sign":
            predicted = (outputs[:, 0] > 0.0).astype(np.int64)
        elif self.classes is not None:
            values = self.scale_Y.undo(outputs) if self.scale_Y else outputs
            predicted = np.abs(values - self.classes).argmin(axis=1)
        else:
            return None
        right = float(np.count_nonzero(predicted == self.labels))
        return self.comm.total(right) / self.n_samples

    def rms_errors(self, outputs: Array) -> Array | None:
        """Return the root mean squared error of each target in its units; None for classes."""
        if self.labels is not None:
            return None
        Y = self.Y if is_streamed(self.Y) else self.Y.reshape(outputs.shape)
        total = np.zeros(self.n_outputs)
        for start, rows in in_parts(as_source("Y", Y, least=0)):
            error = outputs[start : start + rows.shape[0]] - rows
            if self.scale_Y is not None:
                error = error * self.scale_Y.scale
            total += np.square(error).sum(axis=0)
        return np.asarray(np.sqrt(self.comm.sum(total) / self.n_samples))

    def to_dict(self) -> dict[str, Any]:
        """Return the facts for a model file that are needed to use the network."""
        return {
            "name": self.name,
            "n_samples": self.n_samples,
            "n_held_out": 0 if self.held_out is None else self.held_out.n_samples,
            "inputs": list(self.inputs),
            "targets": list(self.targets),
            "decision": self.decision,
            "classes": None if self.classes is None else self.classes.tolist(),
            "scale_inputs": None if self.scale_X is None else self.scale_X.to_dict(),
            "scale_targets": None if self.scale_Y is None else self.scale_Y.to_dict(),
        }
