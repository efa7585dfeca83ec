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
    """Columns are scaled to ``(column - mean) / scale``.

    Attributes
    ----------
    mean, scale : ndarray, shape (n,)
        The mean and the standard deviation of each column; a constant column has scale 1.
    """

    mean: Array
    scale: Array

    @classmethod
    def of(cls, columns: Array) -> Scaling:
        """Return the scaling that standardises these columns, shape (T, n)."""
        with np.errstate(over="ignore", invalid="ignore"):
            mean, deviation = columns.mean(axis=0), columns.std(axis=0)
        if not (np.isfinite(mean).all() and np.isfinite(deviation).all()):
            raise ValueError("the values are too large to be scaled (see --no-standardise)")
        # A column of one repeated value has a deviation of rounding errors, or of 0.
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
    """What a run is trained on.

    Attributes
    ----------
    name : str
        The file's name, or the built-in set's.
    X, Y : array or rows of a file, shapes (T, n_0) and (T, n_L) or (T,)
        As the problem takes them: scaled, class labels counted from 0.
    n_outputs : int
        n_L.
    inputs, targets : tuple of str
        Names of the columns.
    decision : {"nearest", "argmax", "sign", None}
        How outputs become classes; None for a regression.
    classes : ndarray or None
        The target's value for each class.
    labels : ndarray, shape (T,), or None
        The true classes, counted from 0.
    scale_X, scale_Y : Scaling or None
        Where the columns were scaled.
    comm : Comm
        The processes that share the samples: `X`, `Y` and `labels` are this one's.
    shared : int or None
        T of all processes, where there are several.
    held_out : Samples or None
        Those that are not trained on: labels and scales are the same.
    """

    name: str
    X: Any
    Y: Any
    n_outputs: int
    inputs: tuple[str, ...]
    targets: tuple[str, ...]
    decision: Literal["nearest", "argmax", "sign"] | None = None
    classes: Array | None = None
    labels: NDArray[np.int64] | None = None
    scale_X: Scaling | None = None
    scale_Y: Scaling | None = None
    comm: Comm = SERIAL
    shared: int | None = None
    held_out: Samples | None = None

    @property
    def n_samples(self) -> int:
        """T, of all processes."""
        return int(self.X.shape[0]) if self.shared is None else self.shared

    def accuracy(self, outputs: Array) -> float | None:
        """Return the fraction of right labels, or None for a regression."""
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
        """Return the root mean squared error of each target in its units, or None for classes."""
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
        """Return what a model file keeps of the samples: enough to use the network."""
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
