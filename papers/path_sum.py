"""The output of a ReLU network as a sum over its paths (Kawaguchi 2016, Eq. (1))."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]


def paths(widths: Sequence[int]) -> list[tuple[int, ...]]:
    """Return all paths from an input to the layer below an output, a unit a layer.

    Parameters
    ----------
    widths : sequence of int
        d_x, and the hidden widths: Psi is their product.
    """
    return list(product(*(range(d) for d in widths)))


def active_paths(weights: Sequence[ArrayLike], X: ArrayLike) -> NDArray[np.bool_]:
    """Return Z: whether all hidden units of a path are active, for each sample.

    Parameters
    ----------
    weights : sequence of array_like, shapes (d_k, d_{k-1})
        Without biases.
    X : array_like, shape (T, d_x)

    Returns
    -------
    ndarray of bool, shape (T, Psi)
        In the order of `paths`. It depends on the weights and the samples: what A1p-m and A5u-m
        assume away. It is the same for all outputs.
    """
    matrices = [np.asarray(W, dtype=np.float64) for W in weights]
    signal = np.asarray(X, dtype=np.float64)
    gates = []
    for W in matrices[:-1]:
        z = signal @ W.T
        gates.append(z > 0.0)
        signal = np.maximum(z, 0.0)
    every = paths([W.shape[1] for W in matrices])
    active = np.ones((len(signal), len(every)), dtype=bool)
    for p, path in enumerate(every):
        for gate, unit in zip(gates, path[1:], strict=True):
            active[:, p] &= gate[:, unit]
    return active


def path_sum(
    weights: Sequence[ArrayLike], X: ArrayLike, Z: ArrayLike, q: float = 1.0
) -> FloatArray:
    """Return Eq. (1): ``q sum_p X_p Z_p prod_k w_p^(k)``.

    Parameters
    ----------
    weights : sequence of array_like, shapes (d_k, d_{k-1})
    X : array_like, shape (T, d_x)
    Z : array_like, shape (T, Psi)
        Which paths are active, in the order of `paths`.
    q : float
        The normalisation.

    Returns
    -------
    ndarray, shape (T, d_y)
    """
    matrices = [np.asarray(W, dtype=np.float64) for W in weights]
    samples, active = np.asarray(X, dtype=np.float64), np.asarray(Z, dtype=np.float64)
    outputs = np.zeros((len(samples), matrices[-1].shape[0]))
    for p, path in enumerate(paths([W.shape[1] for W in matrices])):
        below = 1.0
        for W, unit, above in zip(matrices[:-1], path[:-1], path[1:], strict=True):
            below *= W[above, unit]
        outputs += np.outer(samples[:, path[0]] * active[:, p] * below, matrices[-1][:, path[-1]])
    return q * outputs
