"""When a run has converged, whatever the units of its inputs and targets (math.md, D2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastggn.training.resumable import Resumable
from fastggn.training.step import norm

if TYPE_CHECKING:
    from fastggn.objective.point import Point

EPS = float(np.finfo(float).eps)
# A slope of so many roundings of its terms is zero: no arithmetic gives a smaller one.
ROUNDINGS = 8.0
# Residuals of so many roundings of the targets are zero.
EXACT = 16.0
# The sizes of terms are computed where the slopes are near the tolerance by the sizes known so
# far: this factor above it at first, then where they have fallen by the second.
NEAR, FALLEN = 100.0, 3.0
# A step below this length is none where theta is 0.
LEAST = 1e-150


@dataclass(frozen=True)
class StepTest:
    """``|step| <= tolerance |theta|``."""

    tolerance: float

    def __call__(self, theta: NDArray[np.float64], length: float) -> bool:
        """Whether a step of this length is negligible at `theta`."""
        return length <= self.tolerance * (norm(theta) + LEAST)


class GradientTest(Resumable):
    """``|g_j| <= tolerance * mean_i |J_ij r_i|`` for every parameter, or an exact fit.

    The sizes on the right take two passes over the samples, so they are kept from iteration to
    iteration, and computed anew only where the test may hold.
    """

    _resumes = ("_sizes", "_near")

    def __init__(
        self,
        tolerance: float,
        n_params: int,
        worth: float = 1.0,
        hides: Callable[[Point], bool] | None = None,
    ) -> None:
        self._tolerance = tolerance
        self._worth = worth  # the unit of the loss, for the message
        self._hides = hides  # whether small slopes hide a fall of the loss
        self._sizes = np.zeros(n_params)
        self._near = 0.0  # no sizes are known
        self._exact: float | None = None  # the loss of an exact fit

    def __call__(self, point: Point) -> str | None:
        """Return why the gradient counts as zero at `point`, or None."""
        slopes = np.abs(point.gradient)
        if not slopes.any():
            return "the gradient is zero"
        if point.loss == 0.0:
            return "the loss is zero: an exact fit"
        if self._tolerance == 0.0:
            return None
        if point.loss <= self._exact_fit(point):
            return f"the loss {point.loss * self._worth:.3g} is that of an exact fit"
        near = self._near * self._tolerance * self._sizes
        if self._near > 0.0 and not _within(slopes, near):
            return None
        terms, rounding = point.slope_sizes()
        self._sizes = terms
        limit, errors = self._tolerance * terms, ROUNDINGS * EPS * rounding
        if _within(slopes, limit) and not (self._hides is not None and self._hides(point)):
            return f"every slope is at most {self._tolerance:.3g} of its terms"
        if _within(slopes, errors if _within(slopes, limit) else limit + errors):
            return "every slope is at most the rounding of its terms"
        self._near = min(NEAR, max(1.0, self._ratio(slopes) / FALLEN))
        return None

    def _ratio(self, slopes: NDArray[np.float64]) -> float:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            return float(np.nanmax(slopes / (self._tolerance * self._sizes)))

    def _exact_fit(self, point: Point) -> float:
        if self._exact is None:
            constant, zero = point.loss_scales()
            self._exact = max(self._tolerance**2 * constant, (EXACT * EPS) ** 2 * zero)
        return self._exact


def slope_errors(point: Point) -> NDArray[np.float64]:
    """Return bounds of the rounding errors of the gradient, shape (N,)."""
    return ROUNDINGS * EPS * point.slope_sizes()[1]


def _within(slopes: NDArray[np.float64], limits: NDArray[np.float64]) -> bool:
    return bool((slopes <= limits).all())
