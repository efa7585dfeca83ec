"""A witness that a linear network's loss is neither convex nor concave.

Source: Kawaguchi 2016, Theorem 2.3 (i).

For any data with X not zero there is a point whose Hessian has eigenvalues of both signs. The
paper says so "simply from its Hessian"; here is the point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastggn.runtime.errors import as_real

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Witness:
    """A point, and a plane in which the Hessian has one positive and one negative eigenvalue.

    The layers between the first and the last pass on one number; with ``W_1 = t b``,
    ``W_{H+1} = s a`` the loss is ``s^2 t^2 c / 2 - s t e + |Y|^2 / 2``. Its Hessian by (s, t) at
    s = t = 1 is ``[[c, 2 c - e], [2 c - e, c]]``; a is chosen such that e <= 0.

    Attributes
    ----------
    weights : list of ndarray, shapes (d_k, d_{k-1})
        The point s = t = 1.
    up, down : list of ndarray
        Directions of positive and of negative curvature.
    curvatures : tuple of float
        ``v^T H v`` along both: ``2 (3 c - e)`` and ``2 (e - c)``.
    """

    weights: list[FloatArray]
    up: list[FloatArray]
    down: list[FloatArray]
    curvatures: tuple[float, float]


def indefinite_point(X: ArrayLike, Y: ArrayLike, widths: Sequence[int]) -> Witness:
    """Return a point where the Hessian of ``|W_{H+1} ... W_1 X - Y|^2 / 2`` is indefinite.

    Parameters
    ----------
    X : array_like, shape (T, d_x)
        Not all zero.
    Y : array_like, shape (T, d_y)
        Of any kind.
    widths : sequence of int
        d_x, hidden widths, d_y: at least one hidden layer.

    Raises
    ------
    ValueError
        If X is zero, or the widths do not fit.
    """
    inputs, targets = as_real("X", X), as_real("Y", Y)
    if len(widths) < 3 or (widths[0], widths[-1]) != (inputs.shape[1], targets.shape[1]):
        raise ValueError(
            f"widths must be d_x = {inputs.shape[1]}, hidden ones, d_y = {targets.shape[1]}, got "
            f"{tuple(widths)}"
        )
    if not inputs.any():
        raise ValueError("X is zero: the loss is constant")
    b = inputs[int(np.argmax((inputs**2).sum(axis=1)))]
    seen = inputs @ b  # what the first layer passes on
    sums = targets.T @ seen
    a = np.zeros(widths[-1])
    output = int(np.argmax(np.abs(sums)))
    a[output] = -1.0 if sums[output] > 0.0 else 1.0
    c, e = float(seen @ seen), float(a @ sums)
    weights = [np.zeros((n, m)) for m, n in zip(widths[:-1], widths[1:], strict=True)]
    weights[0][0] = b
    for W in weights[1:-1]:
        W[0, 0] = 1.0
    weights[-1][:, 0] = a
    up = [np.zeros_like(W) for W in weights]
    up[0], up[-1] = weights[0].copy(), weights[-1].copy()
    down = [W.copy() for W in up]
    down[-1] = -down[-1]
    return Witness(weights, up, down, (2.0 * (3.0 * c - e), 2.0 * (e - c)))
