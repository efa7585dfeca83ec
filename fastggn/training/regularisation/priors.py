"""The classes of parameters that share a prior variance, after MacKay 1992."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastggn.network.mlp import MLP


# Values of the argument `regularization` of `train`.
REGULARIZATIONS = ("bayesian", "bayesian-units")


def prior_classes(net: MLP, regularization: str) -> NDArray[np.intp] | None:
    """Return the class of each parameter, shape (N,), from 0, or None for a single class."""
    # With "bayesian-units" the class of a hidden unit holds the weights and the bias into it and,
    # for the last hidden layer, the weights out of it; the output biases form one more class. So an
    # unnecessary unit is switched off as a whole. Without hidden layer each input has a class.
    if regularization == "bayesian":
        return None
    parts, count, before = [], 0, np.arange(net.widths[0])
    for n, m in net.layer_shapes[:-1]:
        before = count + np.arange(n)
        parts.append(np.repeat(before, m))
        count += n
    n, m = net.layer_shapes[-1]
    last = np.full((n, m), int(before[-1]) + 1)
    last[:, : before.size] = before
    return np.concatenate([*parts, last.ravel()]).astype(np.intp)


def relative_precisions(
    classes: NDArray[np.intp], alphas: Sequence[float] | NDArray[np.float64]
) -> tuple[float, NDArray[np.float64]]:
    """Return the geometric mean of the precisions, and their ratios to it, shape (N,)."""
    logs = np.log(np.asarray(alphas, dtype=np.float64))[classes]
    middle = float(logs.mean())
    return float(np.exp(middle)), np.exp(logs - middle)
