"""Certify that the null space of the Hessian is the tangent space of a level manifold."""

from __future__ import annotations

import numpy as np

from fastggn.analysis.critical.reduction import Reduction
from fastggn.analysis.critical.spectrum import Spectrum, dense_spectrum
from fastggn.training.step import norm

# Distances, the largest first: the nearer, the less a term of high order shows.
RADII = tuple(0.2 * 0.5**k for k in range(7))
POINTS = 6


def level_manifold(
    reduction: Reduction, loss: float, spectrum: Spectrum, rng: np.random.Generator
) -> str | None:
    """Return why theta is a local minimum, if the critical points near it fill the null space.

    The reduced function of an analytic loss is analytic. If its gradient is zero at random points,
    it is zero everywhere near theta (with probability one; here up to rounding): the points
    theta + n + r(n) are critical, of one loss, and fill a manifold of the dimension of the null
    space. The loss across it is a positive definite quadratic form at theta, hence nearby, and
    theta is a local minimum, not a strict one (Morse and Bott).

    What decides is the largest distance at which r(n) is known to be the branch that starts at
    theta (`Reduction.known`). Farther off the correction may lead elsewhere, where a gradient
    that is not zero tells nothing of theta.
    """
    surface, theta = reduction.surface, reduction.theta
    if not surface.analytic or surface.at_kink(theta):
        return None
    noise, zero = surface.rounding(theta), reduction.zero
    for radius in RADII:
        shifts = [
            radius * (reduction.basis @ _unit(reduction.dimension, rng)) for _ in range(POINTS)
        ]
        points = [p for n in shifts if (p := reduction.known(n)) is not None]
        if len(points) < POINTS:
            continue
        if any(norm(p.gradient) > zero or abs(p.loss - loss) > 2.0 * noise for p in points):
            return None
        there = dense_spectrum(surface, points[0].theta, points[0].gradient)
        if there.counts != spectrum.counts:
            return None
        return (
            f"level manifold: the critical points near theta fill the null space "
            f"(dimension {reduction.dimension}; checked at {POINTS} random points at a "
            f"distance of {radius:.2g}), and the Hessian is positive definite across it"
        )
    return None


def _unit(dimension: int, rng: np.random.Generator) -> np.ndarray:
    vector = rng.standard_normal((dimension,))
    return np.asarray(vector / np.linalg.norm(vector))
