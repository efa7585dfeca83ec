"""Scaled samples, and the change of the weights under a change of units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.apps.sklearn.samples import Samples
from fastggn.data.scaler import Moments, Scaler
from fastggn.network.mlp import MLP

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Scalers:
    """The scalings of inputs and targets; None for unscaled columns."""

    inputs: Scaler | None = None
    targets: Scaler | None = None

    def scaled(self, samples: Samples) -> Samples:
        """Convert samples to the units of the network."""
        X = samples.X if self.inputs is None else self.inputs.apply(samples.X)
        Y = samples.Y if self.targets is None else self.targets.apply(samples.Y)
        gradients = samples.gradients
        if gradients is not None:
            (_, width), (_, height) = _units(self.inputs), _units(self.targets)
            gradients = gradients * width / np.reshape(height, (-1, 1))
        return Samples(X, Y, samples.weights, gradients)

    def carry(self, net: MLP, theta: FloatArray, after: Scalers) -> FloatArray:
        """Return parameters that keep the function of the data under a change of units."""
        # The first layer absorbs the change of the inputs, the last one that of the targets,
        # whose output activation must then be the identity.
        layers: list[Any] = [layer.copy() for layer in net.unpack(theta)]
        first, last = layers[0], layers[-1]
        (mean, scale), (new_mean, new_scale) = (_units(s.inputs) for s in (self, after))
        first[:, -1] += first[:, :-1] @ np.broadcast_to((new_mean - mean) / scale, net.n_inputs)
        first[:, :-1] *= new_scale / scale
        (mean, scale), (new_mean, new_scale) = (_units(s.targets) for s in (self, after))
        last *= np.broadcast_to(scale / new_scale, net.n_outputs)[:, None]
        last[:, -1] += (mean - new_mean) / new_scale
        return net.pack(layers)


class Seen:
    """The moments of the samples so far, from which the scalings follow."""

    def __init__(self, samples: Samples, *, inputs: bool, targets: bool) -> None:
        self._inputs = Moments(samples.X.shape[1]) if inputs else None
        self._targets = Moments(samples.Y.shape[1]) if targets else None
        self.weight = 0.0
        self.add(samples)

    def add(self, samples: Samples) -> None:
        """Take more samples."""
        self.weight += samples.total
        for moments, rows in ((self._inputs, samples.X), (self._targets, samples.Y)):
            if moments is not None:
                moments.add(rows, samples.weights)

    def scalers(self) -> Scalers:
        """Return the scalings of the samples so far."""
        found = []
        for name, moments in (("X", self._inputs), ("y", self._targets)):
            try:
                found.append(None if moments is None else moments.scaler())
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
        return Scalers(*found)


def _units(scaler: Scaler | None) -> tuple[Any, Any]:
    return (0.0, 1.0) if scaler is None else (scaler.mean, scaler.scale)
