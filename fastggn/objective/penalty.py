"""The L2 penalty of a problem: its weight and its parameters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastggn.network.mlp import MLP
from fastggn.runtime.cached import cached_property

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Penalty:
    """``l2 / 2`` times the weighted sum of the squares of the parameters.

    `counted`, shape (N,), holds flags or weights of the parameters; None means that all count.
    """

    l2: float
    counted: NDArray[np.bool_] | FloatArray | None = None

    @cached_property
    def each(self) -> FloatArray | float:
        """The weight of each parameter, shape (N,), or one weight for all."""
        if self.counted is None or self.l2 == 0.0:
            return self.l2
        return np.asarray(self.l2 * self.counted, dtype=np.float64)


def weights_of(net: MLP) -> NDArray[np.bool_] | None:
    """Return which parameters are weights, shape (N,), or None without free biases."""
    if not net.has_free_bias:
        return None
    layers = []
    for n, m in net.layer_shapes:
        layer = np.ones((n, m), dtype=np.bool_)
        layer[:, -1] = False
        layers.append(layer.ravel())
    return np.concatenate(layers)
