"""Certify that the null space of the Hessian is the tangent space of a level manifold."""

from __future__ import annotations

import numpy as np

from fastggn.analysis.critical.reduction import Reduction
from fastggn.analysis.critical.spectrum import Spectrum, spectrum_near
from fastggn.training.step import norm

# Distances, largest first: terms of high order hardly show at small ones.
RADII = tuple(0.2 * 0.5**k for k in range(10))
POINTS = 6
# Null eigenvalues must be known to this multiple of their rounding: by their bounds, or by the
# gradients at the distance of the points.
RESOLVED = 100.0


def level_manifold(
    reduction: Reduction, loss: float, spectrum: Spectrum, rng: np.random.Generator
) -> str | None:
    """Return why theta is a local minimum, if the critical points near it fill the null space."""
    # The reduced function of an analytic loss is analytic. If its gradient is zero at random
    # points, it is zero near theta: the critical points fill a manifold of the null space's
    # dimension with one loss, across which the Hessian is positive definite (Morse and Bott).
    # The largest radius at which r(n) is known decides.
    surface, theta = reduction.surface, reduction.theta
    if not surface.analytic:
        return None
    noise, zero = surface.rounding(theta), reduction.zero
    layers = surface.problem.network.n_layers
    bound = float(spectrum.bound[spectrum.null].max(initial=0.0))
    for radius in RADII:
        # A product of one weight of each layer must stand above what counts as zero.
        if (radius / np.sqrt(reduction.dimension)) ** layers <= zero:
            return None
        if min(bound, zero / radius) > RESOLVED * spectrum.floor:
            return None
        shifts = [
            radius * (reduction.basis @ _unit(reduction.dimension, rng)) for _ in range(POINTS)
        ]
        points = [p for n in shifts if (p := reduction.known(n)) is not None]
        if len(points) < POINTS:
            continue
        if any(norm(p.gradient) > zero or abs(p.loss - loss) > 2.0 * noise for p in points):
            return None
        there = spectrum_near(surface, points[0].theta, points[0].gradient)
        if there is None or there.counts != spectrum.counts:
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
