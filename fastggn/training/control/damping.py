"""Levenberg-Marquardt damping on the gain ratio (Nielsen 1999), with the cap near an exact fit."""

from __future__ import annotations

import numpy as np

from fastggn.training.resumable import Resumable

# Start at this share of the curvature along the gradient (docs/decisions/0009-step-control.md).
INITIAL_SHARE = 1e-2
# lambda <= c loss after an accepted step, c at least this: order 2 at an exact fit.
LOSS_FACTOR = 1.0
# Gain ratios of a good model, where c may fall again, and of a poor one, where it must not
# keep the damping from rising.
GOOD_GAIN, POOR_GAIN = 0.75, 0.1
# The step at this multiple of the curvature is far below the rounding of theta.
CEILING = 1e16


class NielsenDamping(Resumable):
    """The damping of a run and the rule that changes it.

    After an accepted step ``lambda *= max(1/3, 1 - (2 rho - 1)^3)``, rho the gain ratio, and
    then ``lambda <= c loss``; after a rejected one ``lambda *= nu; nu *= 2``, with nu back at
    2 after every accepted step (Nielsen, IMM-REP-1999-05).

    The factor c starts at 1. Where the cap itself made the next step fail, c rises to the
    ratio of damping to loss that was accepted in the end; after a step of a poor gain ratio, to
    that of the damping the rule asks for. It falls to a third with every good step. So neither
    a narrow valley nor a large residual is paid for with rejections or short steps (Fan and
    Yuan 2005 adapt the factor in the same way), and a bounded c keeps the convergence
    quadratic.
    """

    _resumes = ("value", "_growth", "_loss_factor", "_capped", "_floor", "_ceiling")

    def __init__(self, initial: float | None = None) -> None:
        self._initial = initial
        self._growth = 2.0
        self._loss_factor = LOSS_FACTOR
        self._capped = False
        self._floor = 0.0
        self._ceiling = np.inf
        self.value = 0.0

    @property
    def started(self) -> bool:
        """Whether `start` has been called."""
        return self.value > 0.0

    def start(self, curvature: float) -> None:
        """Set the scale: `curvature` is that of the loss along its gradient."""
        scale = curvature if np.isfinite(curvature) and curvature > 0.0 else 1.0
        self.value = INITIAL_SHARE * scale if self._initial is None else self._initial
        # Keeps lambda positive, so that it can grow again; far below what a solver can notice.
        self._floor = np.finfo(float).eps ** 2 * min(scale, self.value)
        self._ceiling = CEILING * max(scale, self.value)

    def accept(self, gain: float, before: float, after: float) -> None:
        """Lower (or raise up to twofold) the damping after a step of gain ratio `gain`."""
        value = self.value * max(1.0 / 3.0, 1.0 - (2.0 * min(gain, 1.0) - 1.0) ** 3)
        if gain < POOR_GAIN and after > 0.0:
            self._loss_factor = max(self._loss_factor, value / after)
        elif self._capped and self._growth > 2.0:
            self._loss_factor = max(self._loss_factor, self.value / before)
        elif gain > GOOD_GAIN:
            self._loss_factor = max(LOSS_FACTOR, self._loss_factor / 3.0)
        cap = self._loss_factor * after
        self._capped = value > cap
        self.value = max(min(value, cap), self._floor)
        self._growth = 2.0

    def reject(self) -> bool:
        """Raise the damping after a rejected step; False once it passes the ceiling."""
        self.value *= self._growth
        self._growth *= 2.0
        return self.value <= self._ceiling
