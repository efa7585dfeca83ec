"""A way out of bad saddles: raise ranks without a change of the loss, then descend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastggn.analysis.linear.classification import FLAT, curvature
from fastggn.analysis.linear.derivatives import above, gradients, product
from fastggn.analysis.linear.measures import gradient_share, numerical_rank
from fastggn.analysis.linear.regression import FloatArray, Regression, check_weights
from fastggn.runtime.errors import check_positive

SLOPE = 1e-9  # largest relative gradient that counts as zero
RANK_TOLERANCE = 1e-9
LONGEST, SHORTEST = 40, 60  # doublings and halvings of the line search


@dataclass(frozen=True, eq=False)
class Escape:
    """A point of the same loss with a way down, and a point of lower loss.

    Attributes
    ----------
    perturbed, weights : list of ndarray
        The weights after the perturbation, and after a line search from there.
    raised_layers : tuple of int
        The perturbed matrices, from 1.
    inner_ranks : tuple of int, tuple of int
        Ranks of ``W_k ... W_1`` for k = 1..H+1, before and after.
    loss_before, loss_perturbed, loss_after : float
    way : {"gradient", "negative_curvature", "none"}
        "none" at a global minimum.
    slope : float
        Norm of the gradient, or the negative eigenvalue, at the perturbed point.
    """

    perturbed: list[FloatArray]
    weights: list[FloatArray]
    raised_layers: tuple[int, ...]
    inner_ranks: tuple[tuple[int, ...], tuple[int, ...]]
    loss_before: float
    loss_perturbed: float
    loss_after: float
    way: str
    slope: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain values with the weights as lists."""
        plain = {k: v for k, v in vars(self).items() if k not in ("perturbed", "weights")}
        plain["perturbed"] = [w.tolist() for w in self.perturbed]
        plain["weights"] = [w.tolist() for w in self.weights]
        return plain

    def __str__(self) -> str:
        before, after = self.inner_ranks
        return (
            f"layers {list(self.raised_layers)} perturbed; ranks of W_k ... W_1 "
            f"{list(before)} -> {list(after)}; loss {self.loss_before:.8g} -> "
            f"{self.loss_perturbed:.8g}\n{self.way} ({self.slope:.3e}): loss {self.loss_after:.8g}"
        )


def escape(
    weights: Sequence[ArrayLike],
    X: ArrayLike,
    Y: ArrayLike,
    *,
    size: float = 1e-2,
    seed: int | None = 0,
) -> Escape:
    """Leave a saddle by the perturbation of the proof of Theorem 2.3 (ii), Case III.

    For k = 1, 2, ... W_k grows by ``(I - A_k^- A_k) E``, E random, with
    ``A_k = W_{H+1} ... W_{k+1}``. The product of all matrices, and so the loss, stays the same for
    any size of E, while the rank of ``W_k ... W_1`` grows. By Lemma 4.4 the gradient or a negative
    eigenvalue appears before the last layer unless the point is a global minimum (Kawaguchi 2016;
    the sketch's "min(p, d_x)" must be min(p, d_y)).

    Parameters
    ----------
    weights : sequence of array_like, shapes (d_k, d_{k-1})
        A critical point.
    X : array_like, shape (T, d_x)
    Y : array_like, shape (T, d_y), or (T,)
    size : float
        Of the perturbation, relative to ``|Y X^T (X X^T)^-|^(1/(H+1))``.
    seed : int, optional

    Raises
    ------
    TypeError, ValueError
        If an argument is not valid.
    """
    size = check_positive("size", size)
    data = Regression(X, Y)
    start = check_weights(weights, data)
    natural = data.natural_size(len(start))
    rng = np.random.default_rng(seed)
    current, raised = [w.copy() for w in start], []
    way, slope, direction = _way_down(current, data)
    for k in range(1, len(current)):
        if way != "none":
            break
        A = above(current, k)
        kept = np.linalg.pinv(A, rcond=RANK_TOLERANCE) @ A
        noise = rng.standard_normal(current[k - 1].shape)
        free = (np.eye(A.shape[1]) - kept) @ noise
        if np.linalg.norm(free) > 1e-8 * np.linalg.norm(noise):
            current[k - 1] = current[k - 1] + size * natural / np.sqrt(noise.size) * free
            raised.append(k)
        way, slope, direction = _way_down(current, data)
    lower = current if direction is None else _search(current, data, direction, natural)
    return Escape(
        perturbed=current,
        weights=lower,
        raised_layers=tuple(raised),
        inner_ranks=(_ranks(start), _ranks(current)),
        loss_before=data.loss(start),
        loss_perturbed=data.loss(current),
        loss_after=data.loss(lower),
        way=way,
        slope=slope,
    )


def _way_down(
    weights: Sequence[FloatArray], data: Regression
) -> tuple[str, float, list[FloatArray] | None]:
    if gradient_share(weights, data) > SLOPE:
        slopes = gradients(weights, data)
        length = float(np.sqrt(sum(np.sum(g**2) for g in slopes)))
        return "gradient", length, [-g / length for g in slopes]
    lowest, largest, direction = curvature(weights, data)
    if lowest < -FLAT * max(largest, data.natural_curvature(len(weights))):
        return "negative_curvature", lowest, direction
    return "none", 0.0, None


def _search(
    weights: Sequence[FloatArray], data: Regression, direction: list[FloatArray], natural: float
) -> list[FloatArray]:
    """Return the lowest point of a search along both senses of a direction."""
    start = data.loss(weights)

    def at(t: float) -> list[FloatArray]:
        return [w + t * d for w, d in zip(weights, direction, strict=True)]

    for halving in range(SHORTEST):
        length = natural * 0.5**halving
        best = min((length, -length), key=lambda t: data.loss(at(t)))
        if data.loss(at(best)) < start:
            break
    else:
        return list(weights)
    for _ in range(LONGEST):
        if data.loss(at(2.0 * best)) >= data.loss(at(best)):
            break
        best *= 2.0
    return at(best)


def _ranks(weights: Sequence[FloatArray]) -> tuple[int, ...]:
    first = weights[0].shape[1]
    return tuple(
        numerical_rank(product(weights[:k], first), weights[:k], RANK_TOLERANCE)
        for k in range(1, len(weights) + 1)
    )
