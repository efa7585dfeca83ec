"""The loss over the null space of the Hessian, the other directions eliminated.

Take theta + n + r with n in the null space and r in the range of the Hessian, and let r(n) solve
"gradient = 0 in the range". The reduced function f(theta + n + r(n)) starts with terms of third
order, T3(n, n, n) / 6, then (T4(n, n, n, n) - 3 a^T H^+ a) / 24 with a the range part of
T3(n, n, .). It has the stationary points, minima and descent of the loss near theta (Lyapunov and
Schmidt).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.polynomial import chebyshev

from fastggn.analysis.critical.spectrum import Spectrum
from fastggn.analysis.critical.surface import Surface, Vector
from fastggn.training.step import norm

CORRECTIONS = 40
NEWTON_STEPS = 10
DRIFT = 0.5  # r(n) is known while the Hessian's range block has changed by less than this share
ZERO = 100.0  # the gradient counts as zero up to this many times its rounding error
# Nodes and degree of the polynomial through the gradients along a line, and its half-width.
NODES = 17
DEGREE = 12
HALF_WIDTH = 0.25


@dataclass(frozen=True)
class Directional:
    """The derivatives T3 and T4 - 3 a^T H^+ a along a unit null vector, with their errors."""

    third: float
    third_error: float
    fourth: float
    fourth_error: float


@dataclass(frozen=True)
class ReducedPoint:
    """A point theta + n + r(n), exact where `left` = 0, the norm of the gradient's range part."""

    theta: Vector
    loss: float
    gradient: Vector
    left: float


class Reduction:
    """The reduced function of a stationary point with a positive semi-definite Hessian."""

    def __init__(
        self, surface: Surface, theta: Vector, gradient: Vector, spectrum: Spectrum
    ) -> None:
        self.surface = surface
        self.theta = theta
        self.basis = spectrum.null_basis()
        self.dimension = self.basis.shape[1]
        self.noise = max(norm(gradient), 1e-15)
        self.zero = ZERO * self.noise
        self._spectrum = spectrum

    def point(self, n: Vector) -> ReducedPoint:
        """Return theta + n + r(n), for a null vector n of shape (N,)."""
        # The correction uses the Hessian of theta. Far from theta it may stay incomplete, but
        # the result is a point of the surface all the same.
        here = self.theta + n
        loss, gradient = self.surface.both(here)
        step = self._spectrum.solve(gradient)
        size = norm(gradient - self._null_part(gradient))
        for _ in range(CORRECTIONS):
            if size <= 0.1 * self.noise:
                break
            trial = here - step
            trial_loss, trial_gradient = self.surface.both(trial)
            left = norm(trial_gradient - self._null_part(trial_gradient))
            if not left < 0.9 * size:
                break
            here, loss, gradient, size = trial, trial_loss, trial_gradient, left
            step = self._spectrum.solve(gradient)
        return ReducedPoint(here, loss, gradient, size)

    def exact_point(self, n: Vector) -> ReducedPoint:
        """Return theta + n + r(n) by Newton steps in the range, each with its own Hessian."""
        across = self._spectrum.vectors[:, ~self._spectrum.null]
        here = self.point(n)
        for _ in range(NEWTON_STEPS):
            if here.left <= self.noise:
                break
            matrix = across.T @ self.surface.hessian(here.theta) @ across
            if not np.isfinite(matrix).all():
                break
            step = across @ np.linalg.lstsq(matrix, across.T @ here.gradient, rcond=None)[0]
            loss, gradient = self.surface.both(here.theta - step)
            left = norm(gradient - self._null_part(gradient))
            if not left < 0.5 * here.left:
                break
            here = ReducedPoint(here.theta - step, loss, gradient, left)
        return here

    def known(self, n: Vector) -> ReducedPoint | None:
        """Return theta + n + r(n), or None where r(n) may leave the branch that starts at theta."""
        # While the Hessian's range block is positive definite, the equation for r has one root.
        if not self._drift(self.theta + n) < DRIFT:
            return None
        point = self.exact_point(n)
        if point.left > self.zero or not self.surface.same_piece(self.theta, point.theta):
            return None
        return point if self._drift(point.theta) < DRIFT else None

    def _drift(self, theta: Vector) -> float:
        """Return |D^-1/2 (A - D) D^-1/2|_2, A the Hessian's range block here, D at self.theta."""
        used = ~self._spectrum.null
        across = self._spectrum.vectors[:, used] / np.sqrt(np.abs(self._spectrum.values[used]))
        change = across.T @ self.surface.hessian(theta) @ across - np.eye(across.shape[1])
        if not np.isfinite(change).all():
            return np.inf
        return float(np.linalg.norm(change, 2)) if change.size else 0.0

    def _null_part(self, vector: Vector) -> Vector:
        return np.asarray(self.basis @ (self.basis.T @ vector))

    def derivatives(self, n: Vector) -> Directional:
        """Return third and fourth derivatives along the unit null vector n, shape (N,)."""
        # For an analytic loss a polynomial through gradients at Chebyshev nodes is exact to
        # rounding; a second line of half the width estimates the error.
        if not self._in_one_piece(n):
            return Directional(0.0, np.inf, 0.0, np.inf)
        wide, narrow = self._along(n, HALF_WIDTH), self._along(n, 0.5 * HALF_WIDTH)
        best = narrow
        # Rounding of the gradients grows with the derivative's order and the inverse width.
        rounding = 1e-15 * (1.0 + self.noise / 1e-15) * 100.0 / HALF_WIDTH**3
        errors = np.abs(np.subtract(wide[:2], narrow[:2])) + rounding
        # The second derivative of the gradient, with its rounding, meets H^+ in the bend.
        second = rounding * HALF_WIDTH
        used = self._spectrum.values[~self._spectrum.null]
        least = float(used.min(initial=np.inf))
        worst = float((self._spectrum.bound[~self._spectrum.null] / used).max(initial=0.0))
        errors[1] += 3.0 * (2.0 * narrow[2] * second + second**2 / least)
        errors[1] += abs(3.0 * narrow[3] * worst)
        return Directional(best[0], float(errors[0]), best[1], float(errors[1]))

    def _in_one_piece(self, n: Vector) -> bool:
        """Return whether the line of `derivatives` crosses no kink."""
        steps = np.linspace(-HALF_WIDTH, HALF_WIDTH, NODES)
        points = [] if self.surface.smooth else [self.theta + step * n for step in steps]
        return all(self.surface.same_piece(self.theta, point) for point in points)

    def _along(self, n: Vector, width: float) -> tuple[float, float, float, float]:
        """Return both derivatives, |H^+ a| and a^T H^+ a."""
        nodes = np.cos(np.pi * (np.arange(NODES) + 0.5) / NODES)
        gradients = np.stack([self.surface.gradient(self.theta + width * x * n) for x in nodes])
        series = chebyshev.chebfit(nodes, gradients, DEGREE)
        second = chebyshev.chebval(0.0, chebyshev.chebder(series, 2)) / width**2
        third = chebyshev.chebval(0.0, chebyshev.chebder(series, 3)) / width**3
        moved = self._spectrum.solve(second)
        bend = float(second @ moved)
        return float(n @ second), float(n @ third) - 3.0 * bend, norm(moved), bend
