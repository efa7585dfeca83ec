"""Value, gradient and curvature of a problem's loss on a block of samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastggn.workspace import Block

if TYPE_CHECKING:
    from fastggn.linearisation import Objective

__all__ = ["Factor", "LossTerms"]

FloatArray = NDArray[np.float64]
Factor = tuple[FloatArray, FloatArray | None, FloatArray | None]


class LossTerms:
    """Value, gradient and curvature of the loss on a block, with the weights put in."""

    def __init__(self, objective: Objective) -> None:
        self._loss = objective.loss
        self._targets = objective.targets
        self._weights = objective.weights
        self._share = 1.0 / objective.n_samples
        self._exact = objective.curvature == "exact" and not objective.loss.psd_is_exact
        self.signed = self._exact and not objective.loss.convex
        self._seen: tuple[Block | None, FloatArray | None] = (None, None)

    def _at(self, block: Block) -> tuple[FloatArray, FloatArray, FloatArray]:
        rows = slice(block.start, block.stop)
        return block.outputs, self._targets[rows], self._weights[rows]

    def value(self, block: Block) -> float:
        """Return the weighted sum of the losses; inf or nan where the outputs overflow."""
        outputs, targets, weights = self._at(block)
        with np.errstate(all="ignore"):
            # The gradient is asked for next where the block's point is accepted: the exponentials
            # of a loss on classes serve both.
            values, gradient = self._loss.value_and_gradient(outputs, targets)
            self._seen = block, gradient
            return self._share * float(np.sum(weights * values))

    def gradient(self, block: Block) -> FloatArray:
        """Return (w_i / sum w) gradE_i, shape (B, n_L)."""
        outputs, targets, weights = self._at(block)
        with np.errstate(all="ignore"):
            block_seen, gradient = self._seen
            if block_seen is not block or gradient is None:
                gradient = self._loss.gradient(outputs, targets)
            return self._share * weights[:, None] * gradient

    def hessian(self, block: Block) -> FloatArray:
        """Return (w_i / sum w) H_E,i, shape (B, n_L, n_L)."""
        outputs, targets, weights = self._at(block)
        with np.errstate(all="ignore"):
            return self._share * weights[:, None, None] * self._loss.hessian(outputs, targets)

    def factor(self, block: Block) -> Factor:
        """Return (S, b, signs): (B, n_L, n_S), (B, n_S) or None, (B, n_S) or None.

        With the square roots of the weights, but not of 1/T, in S and b.
        """
        outputs, targets, weights = self._at(block)
        root = np.sqrt(weights)
        with np.errstate(all="ignore"):
            if self.signed:
                factors, signs = self._loss.signed_factor(outputs, targets)
                return root[:, None, None] * factors, None, signs
            if self._exact:
                factors = self._loss.hessian_sqrt(outputs, targets)
                return root[:, None, None] * factors, None, None
            factors, b = self._loss.curvature_factor(outputs, targets)
            return root[:, None, None] * factors, None if b is None else root[:, None] * b, None

    def n_columns(self) -> int:
        """Return n_S, the columns of the factor of one sample."""
        targets = self._targets[:1]
        outputs = np.zeros_like(targets)
        if self.signed:
            return int(self._loss.signed_factor(outputs, targets)[0].shape[2])
        if self._exact:
            return int(self._loss.hessian_sqrt(outputs, targets).shape[2])
        return int(self._loss.curvature_factor(outputs, targets)[0].shape[2])
