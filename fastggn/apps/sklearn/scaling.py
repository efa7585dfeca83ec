"""Standardised data, and the change of the weights under a change of units."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import config_context
from sklearn.preprocessing import StandardScaler

from fastggn.apps.sklearn.samples import Samples
from fastggn.network.mlp import MLP

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Units:
    """Columns as ``(value - mean) / scale``."""

    mean: FloatArray
    scale: FloatArray

    @classmethod
    def of(cls, scaler: StandardScaler | None, n_columns: int) -> Units:
        """Return the units of a fitted scaler; those of the data without one."""
        if scaler is None:
            return cls(np.zeros(n_columns), np.ones(n_columns))
        return cls(scaler.mean_, scaler.scale_)

    def into(self, values: FloatArray) -> FloatArray:
        """Convert rows of data to these units."""
        return np.ascontiguousarray((values - self.mean) / self.scale)

    def out_of(self, rows: FloatArray) -> FloatArray:
        """Convert rows from these units to data."""
        return np.asarray(rows * self.scale + self.mean)


@dataclass(frozen=True, eq=False)
class Scalers:
    """The scalers of inputs and targets; None for unscaled columns."""

    inputs: StandardScaler | None = None
    targets: StandardScaler | None = None

    def learned(self, samples: Samples, *, inputs: bool, targets: bool) -> Scalers:
        """Return scalers that have seen more samples."""
        weights = samples.weights
        return Scalers(
            _updated("X", self.inputs, samples.X, weights) if inputs else None,
            _updated("y", self.targets, samples.Y, weights) if targets else None,
        )

    def scaled(self, samples: Samples) -> Samples:
        """Convert samples to the units of the network."""
        inputs = Units.of(self.inputs, samples.X.shape[1])
        targets = Units.of(self.targets, samples.Y.shape[1])
        return Samples(inputs.into(samples.X), targets.into(samples.Y), samples.weights)

    def carry(self, net: MLP, theta: FloatArray, after: Scalers) -> FloatArray:
        """Return parameters that keep the function of the data under a change of units."""
        # The first layer absorbs the change of the inputs, the last one that of the targets,
        # whose output activation must then be the identity.
        layers: list[Any] = [layer.copy() for layer in net.unpack(theta)]
        first, last = layers[0], layers[-1]
        old, new = (Units.of(s.inputs, net.n_inputs) for s in (self, after))
        first[:, -1] += first[:, :-1] @ ((new.mean - old.mean) / old.scale)
        first[:, :-1] *= new.scale / old.scale
        old, new = (Units.of(s.targets, net.n_outputs) for s in (self, after))
        last *= (old.scale / new.scale)[:, None]
        last[:, -1] += (old.mean - new.mean) / new.scale
        return net.pack(layers)


def _updated(
    name: str, scaler: StandardScaler | None, values: FloatArray, weights: FloatArray | None
) -> StandardScaler:
    """Return a scaler that has also seen these rows; a constant column keeps its scale."""
    scaler = StandardScaler() if scaler is None else copy.deepcopy(scaler)
    # The rows are checked already; again would cost an iteration of a small network.
    checked = config_context(assume_finite=True, skip_parameter_validation=True)
    with checked, np.errstate(over="ignore", invalid="ignore"):
        scaler.partial_fit(values, sample_weight=weights)
    if not (np.isfinite(scaler.mean_).all() and np.isfinite(scaler.scale_).all()):
        raise ValueError(f"{name}: the values are too large to be standardised")
    return scaler
