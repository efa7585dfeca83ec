"""Value, gradient and curvature of a problem's loss on a block of samples."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fastggn.data.sources import StreamedTargets
from fastggn.network.losses.base import Loss
from fastggn.network.losses.output_weights import OutputWeighted
from fastggn.network.losses.separable import SeparableLoss
from fastggn.network.workspace import Block
from fastggn.runtime.cached import cached_property
from fastggn.runtime.comm import Comm

FloatArray = NDArray[np.float64]
Factor = tuple[FloatArray, FloatArray | None, FloatArray | None]


_ROWS = 4096  # targets that are compared with a constant at a time
_SHARE = 2.0**-20  # of the outputs, for a difference of gradients
_LEAST_WEIGHT = 1e-100  # of the first output, over the largest, so that their ratio is finite

# Unit weights, by the number of axes of the array that they multiply.
_ONES: dict[int, FloatArray] = {axes: np.ones((1,) * axes) for axes in (1, 2, 3)}


class LossTerms:
    """Weighted value, gradient and curvature of the loss on a block.

    `signed` says whether the curvature has signs, `identity` whether every factor S is I.
    """

    def __init__(
        self,
        loss: Loss,
        targets: FloatArray | StreamedTargets,
        weights: FloatArray | None,
        n_samples: int,
        curvature: str,
    ) -> None:
        self._loss, self._targets, self._weights = loss, targets, weights
        self._share = 1.0 / n_samples
        self._exact = curvature == "exact" and not loss.psd_is_exact
        self.signed = self._exact and not loss.convex
        self.identity = loss.unit_hessian and weights is None

    def _at(self, block: Block) -> tuple[FloatArray, FloatArray]:
        return block.outputs, self._targets[block.start : block.stop]

    def _weights_of(self, block: Block, n_axes: int) -> FloatArray:
        """Return the weights of a block along the first of `n_axes` axes."""
        if self._weights is None:
            return _ONES[n_axes]
        return self._weights[block.start : block.stop].reshape(-1, *(1,) * (n_axes - 1))

    def value(self, block: Block) -> float:
        """Return the weighted sum of the losses; inf or nan where the outputs overflow."""
        with np.errstate(all="ignore"):
            # An accepted point needs its gradient next; both share the exponentials of a loss on
            # classes.
            losses, block.loss_gradient = self._loss.value_and_gradient(*self._at(block))
            if self._weights is not None:
                losses = self._weights_of(block, 1) * losses
            return self._share * float(losses.sum())

    def by_output(self, block: Block) -> FloatArray:
        """Return the weighted sum of the losses of each output, shape (n_L,)."""
        assert isinstance(self._loss, SeparableLoss)
        losses = self._weights_of(block, 2) * self._loss.each(*self._at(block))
        return np.asarray(self._share * losses.sum(axis=0))

    def gradient(self, block: Block) -> FloatArray:
        """Return (w_i / sum w) gradE_i, shape (B, n_L)."""
        with np.errstate(all="ignore"):
            share = self._share * self._weights_of(block, 2)
            return np.asarray(share * self._gradient(block))

    def rounding(self, block: Block) -> FloatArray:
        """Return the weighted change of gradE for a relative change of the outputs, (B, n_L)."""
        outputs, targets = self._at(block)
        with np.errstate(all="ignore"):
            bent = outputs
            if not self._loss.unit_hessian:
                ahead, behind = ((1.0 + sign * _SHARE) * outputs for sign in (1.0, -1.0))
                moved = self._loss.gradient(ahead, targets) - self._loss.gradient(behind, targets)
                bent = np.nan_to_num(moved / (2.0 * _SHARE), posinf=0.0, neginf=0.0)
            return np.asarray(self._share * self._weights_of(block, 2) * np.abs(bent))

    def _gradient(self, block: Block) -> FloatArray:
        if block.loss_gradient is None:
            return self._loss.gradient(*self._at(block))
        return block.loss_gradient

    def hessian(self, block: Block) -> FloatArray:
        """Return (w_i / sum w) H_E,i, shape (B, n_L, n_L)."""
        with np.errstate(all="ignore"):
            share = self._share * self._weights_of(block, 3)
            return np.asarray(share * self._loss.hessian(*self._at(block)))

    def factor(self, block: Block) -> Factor:
        """Return (S, b, signs): (B, n_L, n_S), (B, n_S) or None, (B, n_S) or None."""
        # S and b contain the square roots of the weights, but not of 1/T.
        outputs, targets = self._at(block)
        with np.errstate(all="ignore"):
            root = np.sqrt(self._weights_of(block, 3))
            if self.signed:
                factors, signs = self._loss.signed_factor(outputs, targets)
                return root * factors, None, signs
            if self._exact:
                return root * self._loss.hessian_sqrt(outputs, targets), None, None
            factors, b = self._loss.curvature_factor(outputs, targets)
            if self._weights is None:
                return factors, b, None
            return root * factors, None if b is None else root.reshape(-1, 1) * b, None

    def b(self, block: Block) -> FloatArray:
        """Return b for S = I, which is the gradients."""
        with np.errstate(all="ignore"):
            return self._gradient(block)

    def of_constants(self, comm: Comm) -> tuple[float, float]:
        """Return about the least loss of constant outputs, and the loss of outputs of 0."""
        split = isinstance(self._loss, OutputWeighted)
        n_outputs = self._targets.shape[1] // (2 if split else 1)
        moments, losses = np.zeros((2, n_outputs)), np.zeros(2)
        with np.errstate(all="ignore"):
            for weights, targets in self._parts():
                own = weights * (targets[:, n_outputs:] if split else np.ones((1, n_outputs)))
                moments[0] += (own * targets[:, :n_outputs]).sum(axis=0)
                moments[1] += own.sum(axis=0)
            total, weight = comm.sum(moments)
            mean = np.divide(total, weight, out=np.zeros(n_outputs), where=weight > 0.0)
            for weights, targets in self._parts():
                for k, outputs in enumerate((mean, np.zeros(n_outputs))):
                    constant = np.tile(outputs, (weights.size, 1))
                    losses[k] += weights[:, 0] @ self._loss.value(constant, targets)
            at_mean, at_zero = (self._share * comm.sum(losses)).tolist()
        if not np.isfinite(at_zero):
            return 0.0, 0.0
        return (min(at_mean, at_zero) if np.isfinite(at_mean) else at_zero), at_zero

    def _parts(self) -> Iterator[tuple[FloatArray, FloatArray]]:
        """Yield weights (B, 1) and targets of this process, some rows at a time."""
        count = self._targets.shape[0]
        for start in range(0, count, _ROWS):
            rows = slice(start, min(start + _ROWS, count))
            targets = np.asarray(self._targets[rows])
            weights = np.ones(len(targets)) if self._weights is None else self._weights[rows]
            yield weights[:, None], targets

    def bend(self, block: Block, v: FloatArray) -> FloatArray | None:
        """Return what the residuals' own curvature adds along v, (B, n_S); None as they are F."""
        return None

    @cached_property
    def output_weights(self) -> FloatArray | None:
        """Return the weights of the outputs over that of the first, (n_L,), if there are such."""
        w = self._loss.output_weights
        if w is None or not w[0] > _LEAST_WEIGHT * w.max():
            return None
        return np.resize(w / w[0], self.n_columns)

    @cached_property
    def n_columns(self) -> int:
        """Return n_S, the columns of the factor of one sample."""
        targets = self._targets[:1]
        n_outputs = targets.shape[1] // (2 if isinstance(self._loss, OutputWeighted) else 1)
        if isinstance(self._loss, SeparableLoss):
            return int(n_outputs)
        outputs = np.zeros((targets.shape[0], n_outputs))  # a rank may have no rows
        with np.errstate(all="ignore"):
            if self.signed:
                return int(self._loss.signed_factor(outputs, targets)[0].shape[2])
            if self._exact:
                return int(self._loss.hessian_sqrt(outputs, targets).shape[2])
            return int(self._loss.curvature_factor(outputs, targets)[0].shape[2])
