"""One-sided derivatives: whether the loss falls from a point on a boundary."""

from __future__ import annotations

import numpy as np
import scipy
from numpy.typing import ArrayLike

from fastggn.analysis.relu.arrangement import (
    FloatArray,
    as_samples,
    sign_vectors,
    unit_rows,
    with_bias,
)
from fastggn.analysis.relu.location import network_of, region_of
from fastggn.analysis.relu.subglobal import as_targets
from fastggn.runtime.errors import check_positive


def descent_direction(
    X: ArrayLike, y: ArrayLike, theta: ArrayLike, bias: bool = False, *, tolerance: float = 1e-8
) -> FloatArray | None:
    """Return a direction along which the loss of a ReLU network falls, to first order, or None.

    At a point with w_j . x_i = 0 for some samples the loss only has one-sided derivatives. By w_j
    they are linear on each region between these samples, where a linear programme finds the
    steepest one. None at a candidate of ``enumerate_subglobal_minima(which="boundary")`` says that
    no direction descends to first order; where a derivative is zero, higher orders decide.
    The largest entry of the direction is 1.

    Parameters
    ----------
    X : array_like, shape (T, n)
    y : array_like, shape (T,) or (T, 1)
    theta : array_like, shape (N,)
        Of ``MLP((n, h, 1), "relu", bias="free" or "none")``.
    bias : bool
    tolerance : float
        A relative margin below this counts as zero, and so does a derivative below this share of
        the sizes of its factors: by w_j of ``|X| |y| |v_j|``, by v_j of ``|y|`` times that of the
        unit's outputs.

    Raises
    ------
    TypeError, ValueError
        If an array is not valid or the tolerance is not positive.

    Examples
    --------
    Figure 2 of "Understanding local minima in neural networks by loss surface decomposition":
    on w_1 = 0 the loss has a minimum for w_2 > 0 only.

    >>> from fastggn import analysis
    >>> X, y = [[-2.0], [2.0]], [-3.0, -1.0]
    >>> analysis.descent_direction(X, y, [0.0, 1.0]) is None
    True
    >>> analysis.descent_direction(X, y, [0.0, -1.0])
    array([-1.,  0.])
    """
    samples = as_samples(X)
    targets = as_targets(y, len(samples))
    limit = check_positive("tolerance", tolerance)
    place = region_of(samples, targets, theta, bias, tolerance=limit)
    net, point = network_of(samples, theta, bias)
    extended = with_bias(samples, bias)
    layers = net.unpack(point)
    h = len(layers[0])
    outer = layers[1][0, :h]
    residual = net.predict(point, samples)[:, 0] - targets
    with np.errstate(over="ignore"):
        size = np.linalg.norm(extended) * np.linalg.norm(targets)
    if not np.isfinite(size) or (size == 0.0 and extended.any() and targets.any()):
        raise ValueError("X, y: their products leave the range of float64; scale them")
    inner = np.where(place.patterns, layers[0] @ extended.T, 0.0)
    # By v_j and c the loss is smooth: sigma(w_j . x_i) is 0 on both sides of a boundary.
    by_outer = np.append(inner @ residual, residual.sum() if bias else [])
    sizes = np.append(np.linalg.norm(inner, axis=1), np.sqrt(len(targets)) if bias else [])
    by_outer[np.abs(by_outer) <= limit * np.linalg.norm(targets) * sizes] = 0.0
    best, move = 0.0, None
    k = int(np.argmax(np.abs(by_outer)))
    if by_outer[k] != 0.0:
        best, move = -abs(by_outer[k]), [np.zeros_like(w) for w in layers]
        move[1][0, k] = -np.sign(by_outer[k])
    for j in range(h):
        smooth = outer[j] * (place.patterns[j] * residual) @ extended
        flat = place.on_boundary[j]
        slope, direction = _steepest(smooth, extended[flat], outer[j] * residual[flat])
        if slope < min(best, -limit * size * abs(outer[j])):
            best, move = slope, [np.zeros_like(w) for w in layers]
            move[0][j] = direction
    return None if move is None else net.pack(move)


def _steepest(
    smooth: FloatArray, flat: FloatArray, weights: FloatArray
) -> tuple[float, FloatArray]:
    """Minimise smooth . d + sum_i weights_i max(flat_i . d, 0) over |d|_inf <= 1."""
    if not len(flat):
        return -float(np.abs(smooth).sum()), -np.sign(smooth)
    best, where = 0.0, np.zeros(smooth.size)
    sides = unit_rows(flat)
    for signs in sign_vectors(flat, faces=False):
        slope = smooth + (weights * (signs > 0)) @ flat
        rows, largest = -signs[:, None] * sides, float(np.abs(slope).max())
        unit = slope / (largest or 1.0)  # the programme's tolerances are absolute
        right = np.zeros(len(rows))
        answer = scipy.optimize.linprog(unit, rows, right, bounds=(-1.0, 1.0), method="highs")
        if answer.status != 0:
            raise RuntimeError(f"the linear programme of a kink failed: {answer.message}")
        if answer.fun * largest < best:
            best, where = float(answer.fun) * largest, np.asarray(answer.x)
    return best, where
