"""A separable loss with a weight for each target, for errors that count differently or not."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastggn.network.losses.base import Array, Loss, diagonal
from fastggn.network.losses.separable import SeparableLoss, Squared, row_sums


class OutputWeighted(SeparableLoss):
    """E = sum_c w_c f(r_c / scale), the weights of a sample beside its targets.

    Its targets have 2 n_L columns: the targets, then their weights.
    """

    def __init__(self, loss: SeparableLoss) -> None:
        self._loss = loss
        self.name = f"weighted {loss.name}"
        self.scale = loss.scale
        holds, why = loss.principle_1
        self.principle_1 = (holds, f"{why}, where the weight is not 0")
        self.principle_1a = (False, "a target of weight 0 leaves its output free")

    @property
    def unweighted(self) -> SeparableLoss:
        """The loss without weights."""
        return self._loss

    @property
    def convex(self) -> bool:
        """Whether the loss without weights is convex."""
        return self._loss.convex

    @property
    def psd_is_exact(self) -> bool:
        """Whether the curvature of `curvature_factor` is the Hessian itself."""
        return self._loss.psd_is_exact

    def _f(self, u: Array) -> Array:
        return self._loss._f(u)

    def _slope(self, u: Array) -> Array:
        return self._loss._slope(u)

    def _second(self, u: Array) -> Array:
        return self._loss._second(u)

    def _weight(self, u: Array) -> Array:
        return self._loss._weight(u)

    def value(self, F: Array, Y: Array) -> Array:
        """Return the losses, shape (B,)."""
        Y, w = _parts(Y)
        return row_sums(w * self._f(self._scaled(F, Y)))

    def gradient(self, F: Array, Y: Array) -> Array:
        """Return the gradients with respect to the outputs, shape (B, n_L)."""
        Y, w = _parts(Y)
        return np.asarray(w * self._slope(self._scaled(F, Y)) / self.scale)

    def value_and_gradient(self, F: Array, Y: Array) -> tuple[Array, Array]:
        """Return `value` and `gradient`."""
        return self.value(F, Y), self.gradient(F, Y)

    def _curvatures(self, F: Array, Y: Array) -> Array:
        Y, w = _parts(Y)
        return np.asarray(w * self._second(self._scaled(F, Y)) / self.scale**2)

    def curvature_factor(self, F: Array, Y: Array) -> tuple[Array, Array | None]:
        """Return the reweighted least-squares curvature (S, b); S b is the gradient."""
        Y, w = _parts(Y)
        u = self._scaled(F, Y)
        root = np.sqrt(w * self._weight(u))
        return diagonal(root / self.scale), root * u

    def to_config(self) -> dict[str, Any]:
        """Return a dictionary for JSON, with the loss without weights."""
        return {"weighted": self._loss.to_config()}


class WeightedSquares(Squared):
    """E = sum_c w_c r_c^2 / (2 scale^2): one weight for each output, the same for all samples."""

    def __init__(self, loss: Loss, weights: Array) -> None:
        assert isinstance(loss, Squared)
        super().__init__(loss.scale)
        object.__setattr__(self, "_root", np.sqrt(weights) / loss.scale)  # the class is frozen
        self._root: Array

    @property
    def unit_hessian(self) -> bool:
        """False: the outputs count differently."""
        return False

    @property
    def output_weights(self) -> Array | None:
        """The weights."""
        return self._root**2

    def _scaled(self, F: Array, Y: Array) -> Array:
        return np.asarray(self._root * (F - Y))

    def _curvatures(self, F: Array, Y: Array) -> Array:
        return np.broadcast_to(self._root**2, F.shape)

    def _gradient(self, u: Array) -> Array:
        return np.asarray(self._root * u)

    def curvature_factor(self, F: Array, Y: Array) -> tuple[Array, Array | None]:
        """Return the curvature (S, b); S b is the gradient."""
        return diagonal(np.broadcast_to(self._root, F.shape)), self._scaled(F, Y)


def weighted_targets(
    loss: Loss, Y: Any, weights: ArrayLike, n_samples: int, n_outputs: int
) -> tuple[OutputWeighted, Array]:
    """Return the loss with weights, and targets and weights side by side, shape (T, 2 n_L).

    A target of weight 0 may be NaN.
    """
    if not isinstance(loss, SeparableLoss):
        raise ValueError(
            "sample_weight of shape (T, n_L) needs a loss that sums over the outputs, "
            f"not {loss.name}"
        )
    w: NDArray[np.float64] = np.asarray(weights, dtype=np.float64)
    if w.shape != (n_samples, n_outputs):
        raise ValueError(
            f"sample_weight must have shape ({n_samples},) or ({n_samples}, {n_outputs}), "
            f"got {w.shape}"
        )
    if not np.isfinite(w).all() or (w < 0).any():
        index = tuple(int(i) for i in np.argwhere(~(w >= 0) | ~np.isfinite(w))[0])
        raise ValueError(
            f"sample_weight{list(index)} is {w[index]}; weights must be finite and >= 0"
        )
    array = np.array(Y, dtype=np.float64).reshape(n_samples, -1)
    if array.shape == w.shape:
        array[(w == 0.0) & ~np.isfinite(array)] = 0.0
    targets = loss.prepare_targets(array, n_samples, n_outputs)
    return OutputWeighted(loss), np.ascontiguousarray(np.hstack([targets, w]))


def _parts(Y: Array) -> tuple[Array, Array]:
    """Return targets and weights, each of shape (B, n_L)."""
    n = Y.shape[1] // 2
    return Y[:, :n], Y[:, n:]
