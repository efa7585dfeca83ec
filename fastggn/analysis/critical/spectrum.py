"""Eigenvalues of the exact Hessian with error bounds: dense, or the lower end by Lanczos."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import lsmr

from fastggn.analysis.critical.surface import EPS, SAFETY, Matrix, Surface, Vector
from fastggn.analysis.magnitudes import finite
from fastggn.training.control.escape import lanczos_ends
from fastggn.training.step import norm

# The error bound of an eigenvalue includes its change up to the nearby stationary point: three
# Newton steps off, if the gradient vanishes to third order there. An eigenvalue for which this
# point is farther than NEARBY counts as zero.
OVERSHOOT = 3.0
NEARBY = 1e-2
STATIONARY = 1e-3  # the Newton step to a stationary point nearby, over 1 + |theta|
STIFF = 1e-6  # eigenvalues above this share of the largest are stiff
# Ritz values at the lower end, their relative accuracy, and the vectors kept for them.
LOWEST = 3
RITZ_TOL = 1e-6
BASIS = 80
STEPS, LEFT = 200, 1e-3  # of LSMR, and the share of the gradient that may be left
PROBES = 8
DEPTH = 60


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues of the Hessian with error bounds, ascending: all N, or some at the lower end.

    `vectors` has shape (N, len(values)) and `norm` is |H|_2. A value within its `bound` of 0
    counts as zero; `floor` is the part of the bound that comes from rounding.
    """

    values: Vector
    vectors: Matrix
    norm: float
    bound: Vector
    complete: bool
    floor: float

    @property
    def null(self) -> NDArray[np.bool_]:
        """Mask of the eigenvalues that count as zero."""
        return np.asarray(np.abs(self.values) <= self.bound)

    @property
    def lowest(self) -> float:
        """The lowest eigenvalue; for Lanczos an upper bound of it."""
        return float(self.values[0])

    @property
    def counts(self) -> tuple[int, int, int]:
        """Numbers of values above, within and below the error bound."""
        positive = int(np.count_nonzero(self.values > self.bound))
        negative = int(np.count_nonzero(self.values < -self.bound))
        return positive, len(self.values) - positive - negative, negative

    def null_basis(self) -> Matrix:
        """Return an orthonormal basis of the null space, shape (N, d)."""
        return np.ascontiguousarray(self.vectors[:, self.null])

    def solve(self, vector: Vector, cut: float | None = None) -> Vector:
        """Return H^+ times a vector, from the eigenvalues of modulus above `cut`."""
        keep = ~self.null if cut is None else np.abs(self.values) > cut
        parts = self.vectors[:, keep]
        return np.asarray(parts @ ((parts.T @ vector) / self.values[keep]))


def dense_spectrum(surface: Surface, theta: Vector, gradient: Vector | None = None) -> Spectrum:
    """Return all eigenvalues, bounded up to the nearby stationary point if given the gradient."""
    matrix = finite(surface.hessian(theta), "the Hessian")
    values, vectors = np.linalg.eigh(matrix)
    size = float(np.abs(values).max())
    surface.cost += surface.n_params
    scale = max(size, surface.ggn_norm(theta))  # the two terms of the Hessian may cancel
    residual = float(np.linalg.norm(matrix @ vectors - vectors * values, axis=0).max())
    floor = _floor(surface, theta, scale) + residual
    spectrum = Spectrum(values, vectors, size, np.full_like(values, floor), True, floor)
    if gradient is None or size == 0.0:
        return spectrum
    return replace(spectrum, bound=floor + _change(surface, theta, gradient, spectrum))


def spectrum_near(surface: Surface, theta: Vector, gradient: Vector | None) -> Spectrum | None:
    """Return all eigenvalues at a point of a search, None where the Hessian is not finite."""
    try:
        return dense_spectrum(surface, theta, gradient)
    except np.linalg.LinAlgError:
        return None


def _floor(surface: Surface, theta: Vector, size: float) -> float:
    """Return a bound of the rounding errors of the eigenvalues of a Hessian of this norm."""
    # Where its terms cancel, their errors are those of terms like the residuals, not like its norm.
    return surface.n_params * (EPS * size + surface.rounding(theta) / SAFETY)


def _change(surface: Surface, theta: Vector, gradient: Vector, spectrum: Spectrum) -> Vector:
    """Return the largest change of each eigenvalue up to the nearby stationary point."""
    values, limit = np.abs(spectrum.values), NEARBY * (1.0 + norm(theta))
    parts = spectrum.vectors.T @ gradient
    # Rounding of the gradient hides smaller components.
    hidden = np.abs(spectrum.vectors).T @ surface.gradient_errors(theta)[1]
    parts = np.copysign(np.maximum(np.abs(parts), hidden), parts)
    used = values * limit > OVERSHOOT * np.abs(parts)
    steps = OVERSHOOT * parts[used] / spectrum.values[used]
    there = theta - spectrum.vectors[:, used] @ steps
    if spectrum.complete:
        matrix = surface.hessian(there)
        if not np.isfinite(matrix).all():
            return values
        change = np.abs(np.linalg.eigvalsh(matrix) - spectrum.values)
    else:
        images = np.stack([surface.hessian_product(there, v) for v in spectrum.vectors.T])
        change = np.abs(np.sum(images * spectrum.vectors.T, axis=1) - spectrum.values)
    change = np.where(used, change, values)
    # Soft eigenvalues mix on the way: the largest change of one is a bound for each.
    soft = used & (values <= STIFF * spectrum.norm)
    change[soft] = np.max(change[soft], initial=0.0)
    return np.asarray(change)


def near_stationary(
    surface: Surface, theta: Vector, gradient: Vector, errors: Vector, spectrum: Spectrum
) -> bool:
    """Return whether the gradient is zero within its errors, or at the end of a short Newton step.

    Where the gradient is small in directions without curvature, it is zero nowhere near.
    """
    limit = STATIONARY * (1.0 + norm(theta))
    if spectrum.complete:
        parts = np.abs(spectrum.vectors.T @ gradient)
        hidden = np.abs(spectrum.vectors).T @ errors
        values = np.abs(spectrum.values)
        near = (values > spectrum.floor) & (OVERSHOOT * parts <= limit * values)
        return bool((near | (parts <= hidden)).all())
    step = lsmr(surface.operator(theta), gradient, atol=1e-8, btol=1e-8, maxiter=STEPS)[0]
    left = np.abs(gradient - surface.hessian_product(theta, step))
    small = bool((left <= np.maximum(errors, LEFT * norm(gradient))).all())
    return small and OVERSHOOT * norm(step) <= limit


def lanczos_spectrum(
    surface: Surface, theta: Vector, gradient: Vector | None, rng: np.random.Generator
) -> Spectrum:
    """Return Ritz pairs at the lower end of the Hessian's spectrum."""
    # Ritz values bound eigenvalues from above (Cauchy), so the count of negative ones is a lower
    # bound. That no eigenvalue lies lower is likely, not certain, for a random start.
    operator, n = surface.operator(theta), surface.n_params
    count = min(LOWEST, n - 2)
    probe = rng.standard_normal(n)
    image = finite(operator.matvec(probe), "the Hessian")
    if norm(image) == 0.0:  # a zero Hessian, on which the iteration cannot start
        return Spectrum(np.zeros(1), (probe / norm(probe))[:, None], 0.0, np.zeros(1), False, 0.0)
    basis = min(n, max(BASIS, 2 * count + 1))
    values, vectors, size = lanczos_ends(operator, rng, count=count, tol=RITZ_TOL, basis=basis)
    if len(values) == 0:  # none converged: take a Rayleigh quotient with its large residual
        vectors = (probe / norm(probe))[:, None]
        values = np.array([float(probe @ image) / float(probe @ probe)])
    order = np.argsort(values)
    values, vectors = values[order], vectors[:, order]
    residuals = [
        norm(operator.matvec(v) - value * v) for value, v in zip(values, vectors.T, strict=True)
    ]
    floor = _floor(surface, theta, size)
    spectrum = Spectrum(values, vectors, size, floor + np.array(residuals), False, floor)
    change = 0.0 if gradient is None else _change(surface, theta, gradient, spectrum)
    return replace(spectrum, bound=spectrum.bound + change)


def inertia_estimate(
    surface: Surface, theta: Vector, bound: float, rng: np.random.Generator
) -> tuple[int, int, int]:
    """Estimate the inertia by stochastic Lanczos quadrature (Ubaru, Chen and Saad 2017)."""
    operator, n = surface.operator(theta), surface.n_params
    # Weights of a probe sum to 1; N times their parts has a spread of about sqrt(N / probes).
    shares = np.zeros(3)
    for _ in range(PROBES):
        values, weights = lanczos_weights(operator, rng.standard_normal(n), min(DEPTH, n))
        # Ritz values of zero eigenvalues only converge to the size of rounding.
        cut = max(bound, 1e-12 * float(np.abs(values).max()))
        shares[0] += weights[values > cut].sum()
        shares[2] += weights[values < -cut].sum()
    shares /= PROBES
    positive, negative = round(n * shares[0]), round(n * shares[2])
    return positive, max(n - positive - negative, 0), negative


def lanczos_weights(operator: object, start: Vector, depth: int) -> tuple[Vector, Vector]:
    """Return the Ritz values and the squares of the first entries of their vectors."""
    basis = np.zeros((start.size, depth))
    diagonal, below = np.zeros(depth), np.zeros(depth)
    basis[:, 0] = start / np.linalg.norm(start)
    steps = depth
    for k in range(depth):
        w = operator.matvec(basis[:, k])  # type: ignore[attr-defined]
        if not np.isfinite(w).all():
            raise np.linalg.LinAlgError("the Hessian is not finite: the weights are too large")
        diagonal[k] = basis[:, k] @ w
        for _ in range(2):  # twice is enough to keep the basis orthogonal
            w = w - basis[:, : k + 1] @ (basis[:, : k + 1].T @ w)
        below[k] = norm(w)
        if k + 1 == depth or below[k] <= EPS * start.size * np.abs(diagonal).max():
            steps = k + 1
            break
        basis[:, k + 1] = w / below[k]
    off = below[: steps - 1]
    tridiagonal = np.diag(diagonal[:steps]) + np.diag(off, 1) + np.diag(off, -1)
    values, vectors = np.linalg.eigh(tridiagonal)
    return values, vectors[0] ** 2
