"""Losses on logits: softmax cross-entropy and logistic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.kernels import losses as kernels
from fastggn.network.losses.base import LARGEST_FACTOR, Array, Loss, diagonal, real_array

# Tolerance of the sum of a soft target, wide enough for float32.
_SUM_TOLERANCE = 1e-5


class _LogitLoss(Loss):
    """A loss with a positive semi-definite Hessian, whose kernel shares the exponentials."""

    _kernel: Callable[[Array, Array, Array, Array], None]  # (F, Y, losses, gradients)

    def value(self, F: Array, Y: Array) -> Array:
        """Return the losses, shape (B,)."""
        return self.value_and_gradient(F, Y)[0]

    def gradient(self, F: Array, Y: Array) -> Array:
        """Return q - y, shape (B, n_L), with q = softmax(F) or sigma(F)."""
        return self.value_and_gradient(F, Y)[1]

    def value_and_gradient(self, F: Array, Y: Array) -> tuple[Array, Array]:
        """Return both, by one exponential of each output."""
        F, Y = _rows(F, Y)
        values, gradients = np.empty(F.shape[0]), np.empty(F.shape)
        type(self)._kernel(F, Y, values, gradients)
        return values, gradients

    def signed_factor(self, F: Array, Y: Array) -> tuple[Array, Array]:
        """Return (S, ones): the Hessian is positive semi-definite."""
        return self.hessian_sqrt(F, Y), np.ones_like(F)

    def to_config(self) -> dict[str, Any]:
        """Return a dictionary with the name."""
        return {"name": self.name}


class SoftmaxCrossEntropy(_LogitLoss):
    """Softmax cross-entropy on logits, E = sum_c y_c log(y_c / q_c), q = softmax(F).

    Targets are integer labels 0..n_L-1, or rows of probabilities y. E is the Kullback-Leibler
    divergence: without the entropy of a soft target, E is 0 at an exact fit.

    Notes
    -----
    With H = diag(q) - q q^T, S = diag(sqrt(q)) - q sqrt(q)^T has S S^T = H. The shortest b with
    S b = q - y is (q - y) / sqrt(q). It is unbounded as the probability q of the true class tends
    to 0, and counts as missing below q of about 1e-16.
    """

    name = "softmax_cross_entropy"
    _kernel = staticmethod(kernels.softmax)
    principle_1 = (
        False,
        "with labels the infimum is not attained, there is no stationary point and no exact "
        "fit; with soft targets inside the simplex every stationary point is an exact fit",
    )
    principle_1a = (False, "the Hessian is singular (H 1 = 0): a minimum is a whole line")

    def hessian(self, F: Array, Y: Array) -> Array:
        """Return diag(q) - q q^T, shape (B, n_L, n_L)."""
        q, other = _softmax(F)
        H = -q[:, :, None] * q[:, None, :]
        n = q.shape[1]
        H[:, np.arange(n), np.arange(n)] = q * other
        return np.asarray(H)

    def hessian_sqrt(self, F: Array, Y: Array) -> Array:
        """Return S = diag(sqrt(q)) - q sqrt(q)^T, shape (B, n_L, n_L)."""
        return self.curvature_factor(F, np.zeros_like(F))[0]  # S does not depend on targets

    def curvature_factor(self, F: Array, Y: Array) -> tuple[Array, Array | None]:
        """Return (S, b); b is None if the probability of a true class underflows."""
        F, Y = _rows(F, Y)
        S, b = np.empty((*F.shape, F.shape[1])), np.empty(F.shape)
        beyond = kernels.softmax_factor(F, Y, LARGEST_FACTOR, S, b)
        return S, None if beyond else b

    def decision(self, F: Array) -> NDArray[np.int64]:
        """Return the class of the largest output, shape (B,)."""
        return np.asarray(F.argmax(axis=1))

    def prepare_targets(self, Y: Any, T: int, n_outputs: int) -> Array:
        """Return the targets as rows of probabilities, shape (T, n_outputs).

        Parameters
        ----------
        Y : array_like, shape (T,) or (T, 1) of labels, or (T, n_outputs) of probabilities
            Labels are whole numbers 0..n_outputs-1.
        T : int
            The number of samples.
        n_outputs : int
            The number of classes, at least 2.

        Raises
        ------
        TypeError
            If the targets are not real numbers.
        ValueError
            If there is one output only, the shape is wrong, a label is not a whole number in
            range, or a row is negative or does not sum to 1; the message names the first bad entry.
        """
        if n_outputs < 2:
            raise ValueError(
                "softmax_cross_entropy needs at least 2 outputs, got 1: use the logistic loss"
            )
        array = real_array(Y)
        if array.shape in ((T,), (T, 1)):
            return _one_hot(array.reshape(T), n_outputs)
        if array.shape != (T, n_outputs):
            raise ValueError(
                f"Y must have shape ({T},) with labels or ({T}, {n_outputs}) with "
                f"probabilities, got {array.shape}"
            )
        return _probabilities(array)


class Logistic(_LogitLoss):
    """Logistic loss on independent logits, E = sum_c log(1 + exp(F_c)) - y_c F_c, y 0 or 1.

    Notes
    -----
    With the margin m = (2 y - 1) F the Hessian is diag(sigma(m) sigma(-m)). The solution b of
    S b = gradient is (1 - 2 y) exp(-m / 2); it counts as missing above 1e8.
    """

    name = "logistic"
    _kernel = staticmethod(kernels.logistic)
    principle_1 = (
        False,
        "with targets 0 and 1 the infimum is not attained: no stationary point, no exact fit",
    )
    principle_1a = (True, "vacuous: there is no critical point, and E'' > 0 everywhere")

    def hessian(self, F: Array, Y: Array) -> Array:
        """Return diag(sigma'(F)), shape (B, n_L, n_L)."""
        t = np.exp(-np.abs(F))
        return diagonal(t / (1.0 + t) ** 2)

    def hessian_sqrt(self, F: Array, Y: Array) -> Array:
        """Return the diagonal S with S S^T the Hessian, shape (B, n_L, n_L)."""
        t = np.exp(-0.5 * np.abs(F))
        return diagonal(t / (1.0 + t * t))

    def curvature_factor(self, F: Array, Y: Array) -> tuple[Array, Array | None]:
        """Return (S, b); b is None if it would exceed 1e8."""
        S = self.hessian_sqrt(F, Y)
        m = (2.0 * Y - 1.0) * F
        if (m < -2.0 * np.log(LARGEST_FACTOR)).any():
            return S, None
        return S, (1.0 - 2.0 * Y) * np.exp(-0.5 * m)

    def decision(self, F: Array) -> NDArray[np.int64] | None:
        """Return 1 for a positive output, else 0, shape (B,); None for several outputs."""
        return (F[:, 0] > 0.0).astype(np.int64) if F.shape[1] == 1 else None

    def prepare_targets(self, Y: Any, T: int, n_outputs: int) -> Array:
        """Return the targets 0 and 1 as an array (T, n_outputs) of float64.

        Raises
        ------
        TypeError
            If the targets are not real numbers.
        ValueError
            If the shape is wrong or a target is neither 0 nor 1; the message names the first.
        """
        targets = super().prepare_targets(Y, T, n_outputs)
        bad = (targets != 0.0) & (targets != 1.0)
        if bad.any():
            i, c = (int(k) for k in np.argwhere(bad)[0])
            raise ValueError(
                f"Y[{i}, {c}] is {targets[i, c]}; the targets of the logistic loss are 0 or 1"
            )
        return targets


def _rows(F: Array, Y: Array) -> tuple[Array, Array]:
    """Check outputs and targets, and make them contiguous for the kernels."""
    F, Y = (np.ascontiguousarray(array, dtype=np.float64) for array in (F, Y))
    if F.ndim != 2 or F.shape != Y.shape or F.shape[1] == 0:
        raise ValueError(
            f"outputs F and targets Y must have one shape (B, n_L), got {F.shape} and {Y.shape}: "
            "prepare_targets makes such targets of labels"
        )
    return F, Y


def _softmax(F: Array) -> tuple[Array, Array]:
    """Return q and 1 - q."""
    rows = np.arange(F.shape[0])
    first = F.argmax(axis=1)
    e = np.exp(F - F[rows, first][:, None])
    others = e.copy()
    others[rows, first] = 0.0
    rest = others.sum(axis=1)
    total = 1.0 + rest
    complement = total[:, None] - e
    complement[rows, first] = rest
    return e / total[:, None], complement / total[:, None]


def _one_hot(labels: NDArray[Any], n_classes: int) -> Array:
    """Return a unit vector for each label."""
    labels = labels.astype(np.int64) if labels.dtype.kind == "b" else labels
    bad = (labels < 0) | (labels >= n_classes) | (labels != np.floor(labels))
    if bad.any():
        i = int(np.argmax(bad))
        raise ValueError(
            f"Y[{i}] is {labels[i]}; labels are whole numbers from 0 to {n_classes - 1}"
        )
    out = np.zeros((labels.shape[0], n_classes))
    out[np.arange(labels.shape[0]), labels.astype(np.int64)] = 1.0
    return out


def _probabilities(array: NDArray[Any]) -> Array:
    """Return rows of probabilities, divided by their sums."""
    out = np.array(array, dtype=np.float64, order="C")
    if (out < 0.0).any():
        i, c = (int(k) for k in np.argwhere(out < 0.0)[0])
        raise ValueError(f"Y[{i}, {c}] is {out[i, c]}; probabilities must not be negative")
    sums = out.sum(axis=1)
    bad = np.abs(sums - 1.0) > _SUM_TOLERANCE
    if bad.any():
        i = int(np.argmax(bad))
        raise ValueError(
            f"Y[{i}] sums to {sums[i]}; a row of probabilities must sum to 1 (labels go into "
            "an array of one dimension)"
        )
    out /= sums[:, None]
    return out
