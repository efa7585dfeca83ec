"""Certify that the null space of the Hessian is the tangent space of a level manifold."""

from __future__ import annotations

import numpy as np

from fastggn.analysis.critical.reduction import Reduction
from fastggn.analysis.critical.spectrum import Spectrum, dense_spectrum
from fastggn.training.moves import norm

__all__ = ["level_manifold"]

RADII = (0.2, 0.05, 0.0125, 0.003)
POINTS = 6
# The gradient counts as zero up to this many times its rounding error.
ZERO = 100.0


def level_manifold(
    reduction: Reduction, loss: float, spectrum: Spectrum, rng: np.random.Generator
) -> str | None:
    """Return why theta is a local minimum, if the critical points near it fill the null space.

    The reduced function of an analytic loss is analytic. If its gradient is zero at random points,
    it is zero everywhere near theta (with probability one; here up to rounding): the points
    theta + n + r(n) are critical, of one loss, and fill a manifold of the dimension of the null
    space. The loss across it is a positive definite quadratic form at theta, hence nearby, and
    theta is a local minimum, not a strict one (Morse and Bott).
    """
    surface, theta = reduction.surface, reduction.theta
    if not surface.analytic or surface.at_kink(theta):
        return None
    noise, zero = surface.rounding(theta), ZERO * reduction.noise
    for radius in RADII:
        points = [
            reduction.exact_point(radius * (reduction.basis @ _unit(reduction.dimension, rng)))
            for _ in range(POINTS)
        ]
        if any(p.left > zero or not surface.same_piece(theta, p.theta) for p in points):
            continue  # r(n) is known nearer to theta only
        if any(norm(p.gradient) > zero or abs(p.loss - loss) > 2.0 * noise for p in points):
            return None
        there = dense_spectrum(surface, points[0].theta, points[0].gradient)
        if there.counts[2] == 0 and there.counts[0] == spectrum.counts[0]:
            return (
                f"level manifold: the critical points near theta fill the null space "
                f"(dimension {reduction.dimension}; checked at {POINTS} random points at a "
                f"distance of {radius}), and the Hessian is positive definite across it"
            )
    return None


def _unit(dimension: int, rng: np.random.Generator) -> np.ndarray:
    vector = rng.standard_normal((dimension,))
    return np.asarray(vector / np.linalg.norm(vector))
