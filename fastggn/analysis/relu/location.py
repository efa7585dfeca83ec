"""The region of a point, its distance from the boundaries, and the region's minimum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastggn.analysis.plain import plain
from fastggn.analysis.relu.arrangement import (
    BoolArray,
    FloatArray,
    as_samples,
    pattern_words,
    unit_rows,
    with_bias,
)
from fastggn.analysis.relu.attainment import Cone
from fastggn.analysis.relu.subglobal import as_targets, subglobal_minimum
from fastggn.kernels.spectrum import numerical_rank, thin_svd
from fastggn.network.mlp import MLP
from fastggn.runtime.errors import as_float_vector, check_positive


@dataclass(frozen=True, eq=False)
class Location:
    """The region that a point lies in, or the face between regions.

    Attributes
    ----------
    patterns : ndarray, shape (h, T), bool
        1(w_j . x_i + b_j > 0).
    on_boundary : ndarray, shape (h, T), bool
        Where the pre-activation is zero up to the tolerance; never for a sample that is zero.
    margin : float
        Least |w_j . x_i + b_j| / (|(w_j, b_j)| |(x_i, 1)|), 0 where some w_j is zero.
    loss, subglobal_loss : float
        Half the sum of squares at the point, and its least value on the region or, for a point on a
        boundary, on the face that holds it.
    """

    patterns: BoolArray
    on_boundary: BoolArray
    margin: float
    loss: float
    subglobal_loss: float

    @property
    def interior(self) -> bool:
        """Whether no pre-activation is zero, so that the loss is smooth around the point."""
        return not bool(self.on_boundary.any())

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        return {
            "patterns": pattern_words(self.patterns),
            "on_boundary": pattern_words(self.on_boundary),
            **plain(self, "interior", "margin", "loss", "subglobal_loss"),
        }

    def __str__(self) -> str:
        place = "inside the region" if self.interior else "on a boundary of the region"
        return (
            f"{place} {' '.join(pattern_words(self.patterns))}, margin {self.margin:.3g}; "
            f"loss {self.loss:.6g}, least there {self.subglobal_loss:.6g}"
        )


def region_of(
    X: ArrayLike, y: ArrayLike, theta: ArrayLike, bias: bool = False, *, tolerance: float = 1e-8
) -> Location:
    """Return the region of a one-hidden-layer ReLU network in which a point lies.

    A stationary point inside a region is at the region's subglobal minimum (Corollary 2.7). Inside
    means that all pre-activations differ from zero.

    Parameters
    ----------
    X : array_like, shape (T, n)
    y : array_like, shape (T,) or (T, 1)
    theta : array_like, shape (N,)
        Of ``MLP((n, h, 1), "relu", bias="free" or "none")``.
    bias : bool
    tolerance : float
        A relative margin below this counts as zero.

    Raises
    ------
    TypeError, ValueError
        If an array is not valid or the tolerance is not positive.

    Notes
    -----
    Lemma 2.2 of "Understanding local minima in neural networks by loss surface decomposition"
    takes differentiable points for interior ones, which they need not be: x = y = 1 and
    (v, w) = (0, 0) is a counterexample, and without biases a differentiable minimum on a
    boundary can have a loss above the subglobal one of its own pattern.
    """
    samples = as_samples(X)
    targets = as_targets(y, len(samples))
    limit = check_positive("tolerance", tolerance)
    extended = with_bias(samples, bias)
    net, point = network_of(samples, theta, bias)
    W = net.unpack(point)[0]
    z = unit_rows(W) @ unit_rows(extended).T
    relative = np.abs(z)
    open_ = extended.any(axis=1)
    flat = (relative <= limit) & open_
    patterns = (z > 0.0) & ~flat
    residual = net.predict(point, samples)[:, 0] - targets
    return Location(
        patterns=patterns,
        on_boundary=flat,
        margin=float(relative[:, open_].min(initial=np.inf)),
        loss=0.5 * float(residual @ residual),
        subglobal_loss=_least(extended, targets, patterns, flat, z, bias),
    )


def network_of(X: FloatArray, theta: ArrayLike, bias: bool) -> tuple[MLP, FloatArray]:
    """Return the one-hidden-layer network for a theta of this length, and theta checked."""
    d = X.shape[1] + int(bias)
    h = max(1, (np.size(theta) - int(bias)) // (d + 1))
    net = MLP((X.shape[1], h, 1), "relu", bias="free" if bias else "none")
    return net, as_float_vector("theta", theta, net.n_params)


def _least(
    extended: FloatArray, y: FloatArray, patterns: BoolArray, flat: BoolArray, z: FloatArray,
    bias: bool,
) -> float:  # fmt: skip
    """Return the least loss on the face of these signs."""
    if not flat.any():
        return subglobal_minimum(extended[:, : extended.shape[1] - bias], y, patterns, bias).loss
    signs = np.where(flat, 0, np.sign(z)).astype(np.int8)
    cones = [Cone.of(extended, s, a) for s, a in zip(signs, patterns, strict=True)]
    columns = [cone.design @ cone.basis for cone in cones]
    matrix = np.hstack([*columns, np.ones((len(y), 1))] if bias else columns)
    if 0 in matrix.shape:
        return 0.5 * float(y @ y)
    u, s, _ = thin_svd(matrix)
    u = u[:, : numerical_rank(s).rank]
    residual = y - u @ (u.T @ y)
    return 0.5 * float(residual @ residual)
