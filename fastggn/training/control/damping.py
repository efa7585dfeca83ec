"""Levenberg-Marquardt damping by the gain ratio (Nielsen 1999), with a cap near an exact fit."""

from __future__ import annotations

import numpy as np

from fastggn.training.resumable import Resumable

# The first damping over the curvature along the gradient (docs/decisions/0009-step-control.md).
INITIAL_SHARE = 1e-2
# After an accepted step lambda <= c loss, with c at least this: order 2 at an exact fit.
LOSS_FACTOR = 1.0
# Above the first gain ratio c falls again; below the second one c must let the damping rise.
GOOD_GAIN, POOR_GAIN = 0.75, 0.1
# At this multiple of the curvature the step is far below the rounding of theta.
CEILING = 1e16


class NielsenDamping(Resumable):
    """The damping of a run, by Nielsen's rule (IMM-REP-1999-05) with the cap ``c loss``.

    The factor c rises after a rejected or a poor step, so that the cap does not cost rejections,
    and falls after a good one (as in Fan and Yuan 2005).
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
        """Set the scale from the curvature of the loss along its gradient."""
        scale = curvature if np.isfinite(curvature) and curvature > 0.0 else 1.0
        self.value = INITIAL_SHARE * scale if self._initial is None else self._initial
        # A positive lambda can grow again; no solver notices such a small one.
        self._floor = np.finfo(float).eps ** 2 * min(scale, self.value)
        self._ceiling = min(CEILING * max(scale, self.value), np.finfo(float).max)

    def raise_ceiling(self, curvature: float) -> bool:
        """Fit the ceiling to the curvature here; return whether the damping is below it."""
        # Where units or classes were saturated at the start, the first curvature says little.
        if np.isfinite(curvature):
            self._ceiling = max(self._ceiling, min(CEILING * curvature, np.finfo(float).max))
        return self.value <= self._ceiling

    def accept(self, gain: float, before: float, after: float) -> None:
        """Change the damping after an accepted step, upwards by at most a factor of 2."""
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
        """Raise the damping after a rejected step; return False above the ceiling."""
        raised = self.value * self._growth
        self.value = min(raised, float(np.finfo(float).max))  # from which a run may go on
        self._growth *= 2.0
        return raised <= self._ceiling
