"""Minimise a quadratic model in a ball, exactly (dense) or by conjugate gradients."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from fastggn.runtime.cached import cached_property
from fastggn.training.control import tridiagonal
from fastggn.training.resumable import Resumable
from fastggn.training.step import norm

Vector = NDArray[np.float64]
EPS = float(np.finfo(float).eps)
# A shift within this share of its scale from a singular matrix is near the hard case.
NEAR_SINGULAR = 1e-9
# The first radius: this length, or this share of a long theta, where a length of 1 is no step.
FIRST_RADIUS, FIRST_SHARE = 1.0, 1e-3
# Times (1 + |theta|): a larger radius bounds no step.
LARGEST_RADIUS = 1e8


class TrustRadius(Resumable):
    """The trust radius of a run, and the rule that changes it by the gain ratio."""

    _resumes = ("value",)

    def __init__(self) -> None:
        self.value = 0.0  # until `begin`

    def begin(self, theta_norm: float) -> None:
        """Set the radius of the first iteration."""
        if self.value == 0.0:
            self.value = max(FIRST_RADIUS, FIRST_SHARE * theta_norm)

    def adapt(self, gain: float, length: float, on_boundary: bool, theta_norm: float) -> None:
        """Shrink the radius after a poor step; double it if it bounded a good step."""
        if not gain >= 0.25:
            self.value = 0.25 * length
        elif gain > 0.75 and on_boundary:
            self.value = min(2.0 * self.value, LARGEST_RADIUS * (1.0 + theta_norm))


@dataclass(frozen=True)
class BallStep:
    """A step of the model, its predicted decrease, and whether the radius bounds it."""

    step: Vector
    predicted: float
    on_boundary: bool


class DenseModel:
    """The exact solution of the trust-region subproblem (More and Sorensen 1983).

    One reduction of the Hessian to tridiagonal form serves every radius. The hard case and flat
    directions need its eigenvectors: `SpectralModel`. `error` gives bounds of the rounding errors
    of the gradient (N,): a smaller slope along a flat direction is none.
    """

    name = "trust_region"

    def __init__(
        self,
        loss: float,
        gradient: Vector,
        hessian: NDArray[np.float64],
        error: Callable[[], Vector] | None = None,
    ) -> None:
        self._loss, self._gradient, self._hessian, self._error = loss, gradient, hessian, error
        self._tridiagonal = _Tridiagonal(gradient, hessian)

    @cached_property
    def _spectral(self) -> SpectralModel:
        return SpectralModel(self._loss, self._gradient, self._hessian, self._error)

    @cached_property
    def rank(self) -> int | None:
        """The number of eigenvalues above rounding."""
        return self._tridiagonal.rank if self._tridiagonal.usable else self._spectral.rank

    def step(self, radius: float) -> BallStep:
        """Return the shortest minimiser within `radius`."""
        found = self._tridiagonal.step(radius)
        if found is None or (found.on_boundary and found.predicted > self._loss):
            return self._spectral.step(radius)
        return found


class _Tridiagonal:
    """The model in a basis where its Hessian is tridiagonal, H = Q T Q^T."""

    def __init__(self, gradient: Vector, hessian: NDArray[np.float64]) -> None:
        n = gradient.size
        # The transpose of a C-ordered symmetric matrix is the same matrix in Fortran's order.
        a, self._d, self._e, self._tau, _ = lapack.dsytrd(hessian.T, lower=1, lwork=32 * n)
        self._reflectors = np.asfortranarray(a[1:, :-1])
        self._slopes = self._turned(gradient, "T")
        finite = bool(np.isfinite(self._d).all() and np.isfinite(self._e).all())
        values = tridiagonal.eigenvalues(self._d, self._e) if finite else None
        self._values = np.zeros(1) if values is None else values
        self._lowest, highest = float(self._values[0]), float(self._values[-1])
        self._scale = max(abs(self._lowest), abs(highest))
        self._rounding = n * EPS * self._scale
        self.usable = self._scale > 0.0

    @property
    def rank(self) -> int:
        """The number of eigenvalues above rounding."""
        return int(np.count_nonzero(np.abs(self._values) > self._rounding))

    def step(self, radius: float) -> BallStep | None:
        """Return the minimiser within `radius`, or None in the hard case and at flat directions."""
        if not self.usable:
            return None
        system = self._d, self._e, self._slopes
        shift = 0.0
        p = tridiagonal.step_at(*system, shift) if self._lowest > self._rounding else None
        inside = p is not None and norm(p) <= radius
        if p is None or not inside:
            found = tridiagonal.shift_of_length(*system, max(0.0, -self._lowest), radius)
            if found is None or not found[0] + self._lowest > NEAR_SINGULAR * self._scale:
                return None
            shift, p = found
        # p^T T p = -slopes^T p - shift |p|^2
        predicted = 0.5 * (shift * float(p @ p) - float(self._slopes @ p))
        return BallStep(self._turned(p, "N"), predicted, not inside)

    def _turned(self, vector: Vector, how: str) -> Vector:
        """Return Q v ("N") or Q^T v ("T"); Q does not change the first entry."""
        out = np.array(vector)
        if vector.size > 1:
            tail = np.asfortranarray(vector[1:, None])
            turned, _, _ = lapack.dormqr("L", how, self._reflectors, self._tau, tail, lwork=1)
            out[1:] = turned[:, 0]
        return out


class SpectralModel:
    """The exact solution by an eigendecomposition, the hard case included.

    Near an exact fit with more parameters than equations the Hessian has small negative
    eigenvalues, along which the exact step promises a loss below zero. Then the step in the span
    of the largest eigenvalues replaces it, if that step reduces the gradient enough.
    """

    def __init__(
        self,
        loss: float,
        gradient: Vector,
        hessian: NDArray[np.float64],
        error: Callable[[], Vector] | None = None,
    ) -> None:
        self._loss = loss
        values, self._basis = np.linalg.eigh(hessian)
        scale = float(np.max(np.abs(values), initial=0.0))
        # Eigenvalues at rounding count as zero: a step along them would be rounding.
        self._values = np.where(np.abs(values) <= values.size * EPS * scale, 0.0, values)
        self._slopes = self._basis.T @ gradient
        flat = np.flatnonzero(self._values == 0.0)
        if self._slopes[flat].any():
            bounds = 0.0 if error is None else np.abs(self._basis[:, flat]).T @ error()
            self._slopes[flat[np.abs(self._slopes[flat]) <= bounds + self._tilt(scale)]] = 0.0
        self.rank: int | None = int(np.count_nonzero(self._values))

    def step(self, radius: float) -> BallStep:
        """Return the shortest minimiser within `radius`."""
        shift_least = max(0.0, -float(self._values[0]))
        p = self._shifted(shift_least)
        inside = norm(p) <= radius
        if not inside:
            p = self._shifted(self._find_shift(shift_least, radius))
        if shift_least > 0.0 and norm(p) < radius:
            # In the hard case the lowest eigenvector, with either sign, completes the step to the
            # boundary.
            rest = norm(p[1:])
            p[0] = np.copysign(np.sqrt(max(radius * radius - rest * rest, 0.0)), p[0])
        on_boundary = not (inside and shift_least == 0.0)
        if on_boundary and self._decrease(p) > self._loss:
            truncated = self._truncated()
            if truncated is not None and norm(truncated) <= radius:
                p, on_boundary = truncated, False
        return BallStep(self._basis @ p, self._decrease(p), on_boundary)

    def _tilt(self, scale: float) -> float:
        """Return the slope of a flat direction that the rounding of the Hessian explains."""
        # Rounding tilts eigenvectors towards each other by N eps scale / (distance of the values).
        curved = self._values != 0.0
        newton = float(np.abs(self._slopes[curved] / self._values[curved]).sum())
        return self._values.size * EPS * (norm(self._slopes) + scale * newton)

    def _decrease(self, p: Vector) -> float:
        return -float(self._slopes @ p + 0.5 * (self._values @ p**2))

    def _truncated(self) -> Vector | None:
        # The Newton step in the span of the fewest highest eigenvectors that reduce the gradient
        # to the forcing term, or None if negative eigenvalues are needed.
        left = np.sqrt(np.concatenate([[0.0], np.cumsum(self._slopes**2)]))
        first = int(np.searchsorted(left, forcing(left[-1]), side="right")) - 1
        if first == self._values.size or self._values[first] <= 0.0:
            return None
        p = np.zeros_like(self._values)
        p[first:] = -self._slopes[first:] / self._values[first:]
        return p

    def _shifted(self, shift: float) -> Vector:
        # -slopes / (values + shift), with 0 for 0 / 0.
        denominator = self._values + shift
        p = np.zeros_like(denominator)
        np.divide(-self._slopes, denominator, out=p, where=denominator > 0.0)
        lost = np.abs(self._slopes[denominator <= 0.0])
        if np.max(lost, initial=0.0) > EPS * self._slopes.size * norm(self._slopes):
            p[:] = np.inf  # unbounded along a flat direction: the radius bounds the step
        return p

    def _find_shift(self, low: float, radius: float) -> float:
        # |p(shift)| exceeds the radius at `low` and not at `high`. Newton's iteration on
        # 1/|p| - 1/radius, which is nearly linear, stays inside this bracket.
        high = low + norm(self._slopes) / radius
        shift = high
        for _ in range(100):
            denominator = self._values + shift
            p = self._slopes / denominator
            length = norm(p)
            if abs(length - radius) <= 1e-10 * radius:
                break
            if length > radius:
                low = shift
            else:
                high = shift
            shift += length**2 / float(np.sum(p**2 / denominator)) * (length - radius) / radius
            if not low < shift < high:
                shift = 0.5 * (low + high)
        return max(shift, high) if shift <= low else shift


class KrylovModel:
    """Steihaug's truncated conjugate gradients (Steihaug 1983): products with H only."""

    name = "steihaug"
    rank: int | None = None

    def __init__(self, gradient: Vector, product: Callable[[Vector], Vector]) -> None:
        self._gradient = gradient
        self._product = product
        length = norm(gradient)
        self._tolerance = forcing(length)
        self._limit = max(50, min(2 * gradient.size, 1000))

    def step(self, radius: float) -> BallStep:
        """Return the last iterate within `radius`, or the point where the path leaves the ball."""
        s = np.zeros_like(self._gradient)
        hs = np.zeros_like(s)
        residual = self._gradient.copy()
        direction = -residual
        square = float(residual @ residual)
        for _ in range(self._limit):
            if np.sqrt(square) <= self._tolerance:
                break
            h_direction = self._product(direction)
            curvature = float(direction @ h_direction)
            alpha = square / curvature if curvature > 0.0 else np.inf
            if curvature <= 0.0 or norm(s + alpha * direction) >= radius:
                alpha = _to_boundary(s, direction, radius)
                return self._finish(s + alpha * direction, hs + alpha * h_direction, True)
            s = s + alpha * direction
            hs = hs + alpha * h_direction
            residual = residual + alpha * h_direction
            previous, square = square, float(residual @ residual)
            direction = (square / previous) * direction - residual
        return self._finish(s, hs, False)

    def _finish(self, s: Vector, hs: Vector, on_boundary: bool) -> BallStep:
        predicted = -float(self._gradient @ s + 0.5 * (s @ hs))
        return BallStep(s, predicted, on_boundary)


def forcing(length: float) -> float:
    """Return the residual allowed for a gradient of this norm."""
    # Its ratio to the norm tends to zero, so that the convergence is superlinear.
    return float(length * min(0.1, np.sqrt(length)))


def _to_boundary(s: Vector, direction: Vector, radius: float) -> float:
    # The positive root of |s + t d| = radius, in the form without cancellation.
    a = float(direction @ direction)
    b = float(s @ direction)
    c = radius**2 - float(s @ s)
    root = np.sqrt(max(b * b + a * c, 0.0))
    return float(c / (b + root)) if b > 0.0 else float((root - b) / a)
