"""Search for descent where the Hessian shows none, and prove it by lower losses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy

from fastggn.analysis.critical.reduction import Reduction
from fastggn.analysis.critical.surface import Surface, Vector
from fastggn.training.methods.newton import DENSE_LIMIT
from fastggn.training.step import norm

# Radii of the spheres in the null space on which the reduced loss is minimised.
RADII = (0.3, 0.1)
KINK_RADII = (0.3, 0.01)  # of rays at a kink
STARTS = 12
BUDGET = 3000.0  # network evaluations, after which no new start is made
ITERATIONS, EVALUATIONS = 40, 60  # of a search on a sphere; one may take 40 corrections
RAYS, FEW_RAYS = 200, 20
# A proof of descent halves a length again and again. At least LADDER losses in a row must lie
# CLEAR times the rounding error below the loss of theta, and fall like a power within POWERS.
HALVINGS = 14
LADDER = 4
CLEAR = 10.0
POWERS = (2.5, 9.0)


@dataclass(frozen=True)
class Descent:
    """A curve along which the loss falls like a power of the length.

    `direction` is its unit tangent at theta; `decrease` was measured at `point`, and at `shortest`
    it was still above the rounding error.
    """

    direction: Vector
    point: Vector
    decrease: float
    order: float
    shortest: float

    @property
    def reason(self) -> str:
        """Why a point without a negative eigenvalue is a saddle."""
        return (
            f"no eigenvalue below its bound, but the loss falls by {self.decrease:.3e} along a "
            f"curve, like the power {self.order:.1f} of the distance down to {self.shortest:.1e}"
        )


def along_negative_curvature(
    surface: Surface, theta: Vector, loss: float, gradient: Vector, direction: Vector, value: float
) -> Descent | None:
    """Return descent along an eigenvector of a negative eigenvalue, or None below rounding."""
    noise = surface.rounding(theta)
    if gradient @ direction > 0.0:
        direction = -direction
    for signed in (direction, -direction):
        length = 0.1 * (1.0 + norm(theta))
        for _ in range(20):
            fell = loss - surface.loss(theta + length * signed)
            # Ask for a tenth of the fall by curvature, which the slope alone cannot give.
            promised = 0.05 * abs(value) * length**2 + 2.0 * norm(gradient) * length
            if fell > max(CLEAR * noise, promised):
                return Descent(signed, theta + length * signed, fell, 2.0, length)
            length *= 0.5
    return None


def along_null_vector(reduction: Reduction, n: Vector, loss: float) -> Descent | None:
    """Return the measured descent along the curve tangent to a null vector, or None."""
    noise = reduction.surface.rounding(reduction.theta)

    def curve(length: float) -> tuple[Vector, float]:
        point = reduction.point(length * n)
        return point.theta, point.loss

    for radius in RADII:
        proof = _proof(curve, n, radius, loss, noise)
        if proof is not None and reduction.known(proof.shortest * n) is not None:
            return proof
    return None


def along_null_space(reduction: Reduction, loss: float, rng: np.random.Generator) -> Descent | None:
    """Return descent of third or higher order along a curve tangent to the null space, or None."""
    noise = reduction.surface.rounding(reduction.theta)
    if reduction.dimension == 0:
        return None
    first = reduction.surface.cost
    for radius in RADII:
        for _ in range(STARTS if reduction.dimension > 1 else 2):
            if reduction.surface.cost - first > BUDGET:
                return None
            start = rng.standard_normal((reduction.dimension,))
            found = _lowest_on_sphere(reduction, radius, start, loss, noise)
            if found is None:
                continue
            tangent = reduction.basis @ found

            def curve(length: float, tangent: Vector = tangent) -> tuple[Vector, float]:
                point = reduction.point(length * tangent)
                return point.theta, point.loss

            proof = _proof(curve, tangent, radius, loss, noise)
            if proof is None:
                continue
            # Farther off, where r(n) is not known, the correction may lead elsewhere.
            near = reduction.known(proof.shortest * tangent)
            if near is not None and loss - near.loss > CLEAR * noise:
                return proof
    return None


def along_rays(
    surface: Surface, theta: Vector, loss: float, directions: Vector, least_power: float = POWERS[0]
) -> Descent | None:
    """Return descent of this or a higher order along one of the unit rows of `directions`."""
    noise = surface.rounding(theta)
    radii = RADII[:1] if least_power == POWERS[0] else KINK_RADII
    for ray in directions:
        for signed in (ray, -ray):

            def curve(length: float, signed: Vector = signed) -> tuple[Vector, float]:
                point = theta + length * signed
                return point, surface.loss(point)

            for radius in radii:
                if curve(radius)[1] < loss - CLEAR * noise:
                    proof = _proof(curve, signed, radius, loss, noise, least_power)
                    if proof is not None:
                        return proof
    return None


def random_rays(basis: Vector | int, rng: np.random.Generator) -> Vector:
    """Return random unit vectors of a dimension, or of the span of the columns of `basis`."""
    if isinstance(basis, int):
        rays = rng.standard_normal((RAYS if basis <= DENSE_LIMIT else FEW_RAYS, basis))
    else:
        rays = rng.standard_normal((RAYS, basis.shape[1])) @ basis.T
    return np.asarray(rays / np.linalg.norm(rays, axis=1, keepdims=True))


def _lowest_on_sphere(
    reduction: Reduction, radius: float, start: Vector, loss: float, noise: float
) -> Vector | None:
    """Return null coordinates of a unit vector with a lower reduced loss at `radius`, or None."""
    best: list[tuple[float, Vector]] = []

    def objective(y: Vector) -> tuple[float, Vector]:
        length = norm(y)
        unit = y / length
        point = reduction.point(radius * (reduction.basis @ unit))
        best.append((point.loss, unit))
        slope = radius * (reduction.basis.T @ point.gradient)
        return (point.loss - loss) / scale, (slope - unit * (unit @ slope)) / (scale * length)

    # Differences of the loss are tiny; the scale of the first one brings them near 1.
    scale = 1.0
    first, slope = objective(start / norm(start))
    scale = max(abs(first), norm(slope), noise)
    if reduction.dimension > 1 and scale > noise:
        scipy.optimize.minimize(
            objective, start / norm(start), jac=True, method="L-BFGS-B",
            options={"maxiter": ITERATIONS, "maxfun": EVALUATIONS, "ftol": 1e-12, "gtol": 1e-9},
        )  # fmt: skip
    else:
        objective(-start / norm(start))
    value, unit = min(best, key=lambda pair: pair[0])
    return unit if value < loss - CLEAR * noise else None


def _proof(
    curve: Callable[[float], tuple[Vector, float]],
    tangent: Vector,
    radius: float,
    loss: float,
    noise: float,
    least_power: float = POWERS[0],
) -> Descent | None:
    """Return the descent along a curve, if halved lengths show that the loss falls like a power."""
    lengths = radius * 0.5 ** np.arange(HALVINGS)
    points, falls, fall = [], [], 0.0
    for length in lengths:
        point, value = curve(float(length))
        fall = loss - value
        if not fall > CLEAR * noise:
            break
        points.append(point)
        falls.append(fall)
    if len(falls) < LADDER:
        return None
    powers = np.log2(np.array(falls[:-1]) / np.array(falls[1:]))[-(LADDER - 1) :]
    if not ((powers > least_power) & (powers < POWERS[1])).all() or np.ptp(powers) > 1.0:
        return None
    # Where it ends before the last length, rounding must be the reason, not a rise.
    hidden = falls[-1] * 0.5 ** (powers[-1] + 1.0) <= CLEAR * noise and fall >= -CLEAR * noise
    if len(falls) < HALVINGS and not hidden:
        return None
    return Descent(
        tangent, points[0], falls[0], float(np.median(powers)), float(lengths[len(falls) - 1])
    )
