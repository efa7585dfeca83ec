"""The L2 penalty of a problem: its weight, and the parameters that it counts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fastggn.network.mlp import MLP

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Penalty:
    """``l2 / 2`` times the sum of the squares of some parameters.

    Attributes
    ----------
    l2 : float
    counted : ndarray, shape (N,), or None
        Which parameters are counted (bool), or how much each of them; None for all alike.
    """

    l2: float
    counted: NDArray[np.bool_] | FloatArray | None = None

    @cached_property
    def each(self) -> FloatArray | float:
        """The weight of each parameter, shape (N,), or the one of all."""
        if self.counted is None or self.l2 == 0.0:
            return self.l2
        return np.asarray(self.l2 * self.counted, dtype=np.float64)


def weights_of(net: MLP) -> NDArray[np.bool_] | None:
    """Return which parameters are no biases, shape (N,); None where no biases are free."""
    if not net.has_free_bias:
        return None
    layers = []
    for n, m in net.layer_shapes:
        layer = np.ones((n, m), dtype=np.bool_)
        layer[:, -1] = False
        layers.append(layer.ravel())
    return np.concatenate(layers)
