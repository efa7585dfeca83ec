"""Eigenvalues of the exact Hessian with error bounds: dense, or the ends by Lanczos iteration."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fastggn.analysis.critical.surface import EPS, Matrix, Surface, Vector
from fastggn.training.control.escape import lanczos_ends
from fastggn.training.step import norm

# An eigenvalue's error bound is widened by its change up to the nearby stationary point: three
# Newton steps off, which is where they lead if the gradient vanishes to third order. Where that
# is not near, the eigenvalue counts as zero.
OVERSHOOT = 3.0
NEARBY = 1e-2
# Eigenvalues above this share of the largest are stiff: a long step in the other directions
# disturbs the gradient's components along theirs.
STIFF = 1e-6
# Ritz values at the lower end, their relative accuracy, and the vectors kept for them.
LOWEST = 3
RITZ_TOL = 1e-6
BASIS = 80
PROBES = 8
DEPTH = 60


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues of the Hessian and how far off they may be.

    Attributes
    ----------
    values : ndarray
        Ascending: all N of them, or some at the lower end.
    vectors : ndarray, shape (N, len(values))
    norm : float
        |H|_2.
    bound : ndarray
        Of the same shape: an eigenvalue within its bound of 0 counts as zero.
    complete : bool
        Whether these are all eigenvalues.
    floor : float
        The part of `bound` that is due to rounding.
    """

    values: Vector
    vectors: Matrix
    norm: float
    bound: Vector
    complete: bool
    floor: float

    @property
    def null(self) -> NDArray[np.bool_]:
        """Which eigenvalues count as zero."""
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
    """Return all eigenvalues of the Hessian at theta.

    The error bound is eps N |H| (|H| no less than |G|, in case the two terms of the Hessian
    cancel) plus the largest residual |H v - lambda v|. With `gradient`, the change of each
    eigenvalue from theta to the nearby stationary point is added: it is the Hessian there that
    is asked for.
    """
    matrix = surface.hessian(theta)
    values, vectors = np.linalg.eigh(matrix)
    size = float(np.abs(values).max())
    surface.cost += surface.n_params
    scale = max(size, surface.ggn_norm(theta))
    residual = float(np.linalg.norm(matrix @ vectors - vectors * values, axis=0).max())
    floor = EPS * surface.n_params * scale + residual
    spectrum = Spectrum(values, vectors, size, np.full_like(values, floor), True, floor)
    if gradient is None or size == 0.0:
        return spectrum
    return replace(spectrum, bound=floor + _change(surface, theta, gradient, spectrum))


def _change(surface: Surface, theta: Vector, gradient: Vector, spectrum: Spectrum) -> Vector:
    """Return by how much each eigenvalue may change up to the nearby stationary point."""
    values, limit = np.abs(spectrum.values), NEARBY * (1.0 + norm(theta))
    parts = spectrum.vectors.T @ gradient
    # Components below the rounding errors of the gradient are not known to be smaller.
    parts = np.copysign(np.maximum(np.abs(parts), EPS * spectrum.norm), parts)
    used = values * limit > OVERSHOOT * np.abs(parts)
    steps = OVERSHOOT * parts[used] / spectrum.values[used]
    there = surface.hessian(theta - spectrum.vectors[:, used] @ steps)
    change = np.where(used, np.abs(np.linalg.eigvalsh(there) - spectrum.values), values)
    # Soft eigenvalues mix on the way: the largest change of one is a bound for each.
    soft = used & (values <= STIFF * spectrum.norm)
    change[soft] = np.max(change[soft], initial=0.0)
    return change


def lanczos_spectrum(
    surface: Surface, theta: Vector, rng: np.random.Generator, count: int = LOWEST
) -> Spectrum:
    """Return Ritz pairs at the lower end of the Hessian's spectrum.

    Ritz values bound eigenvalues from above (Cauchy's interlacing), so that the number of
    negative ones beyond the error bound is a lower bound; that none lies lower is an estimate,
    right with high probability for a random start. Values that did not converge are left out;
    where none did, one Rayleigh quotient with its large residual stands in.
    """
    operator, n = surface.operator(theta), surface.n_params
    count = min(count, n - 2)
    probe = rng.standard_normal(n)
    image = operator.matvec(probe)
    if norm(image) == 0.0:  # a zero Hessian, on which the iteration cannot start
        return Spectrum(np.zeros(1), (probe / norm(probe))[:, None], 0.0, np.zeros(1), False, 0.0)
    basis = min(n, max(BASIS, 2 * count + 1))
    values, vectors, size = lanczos_ends(operator, rng, count=count, tol=RITZ_TOL, basis=basis)
    if len(values) == 0:
        vectors = (probe / norm(probe))[:, None]
        values = np.array([float(probe @ image) / float(probe @ probe)])
    order = np.argsort(values)
    values, vectors = values[order], vectors[:, order]
    residuals = [
        norm(operator.matvec(v) - value * v) for value, v in zip(values, vectors.T, strict=True)
    ]
    floor = EPS * n * size
    return Spectrum(values, vectors, size, floor + np.array(residuals), False, floor)


def inertia_estimate(
    surface: Surface, theta: Vector, bound: float, rng: np.random.Generator
) -> tuple[int, int, int]:
    """Estimate the inertia by stochastic Lanczos quadrature (Ubaru, Chen and Saad 2017).

    Each probe's Ritz values carry weights that sum to 1; N times the weight above, within and
    below the error bound estimates the counts, with a spread of about sqrt(N / probes).
    """
    operator, n = surface.operator(theta), surface.n_params
    shares = np.zeros(3)
    for _ in range(PROBES):
        values, weights = _lanczos_weights(operator, rng.standard_normal(n), min(DEPTH, n))
        # Ritz values of the zero eigenvalues converge to the size of rounding only.
        cut = max(bound, 1e-12 * float(np.abs(values).max()))
        shares[0] += weights[values > cut].sum()
        shares[2] += weights[values < -cut].sum()
    shares /= PROBES
    positive, negative = round(n * shares[0]), round(n * shares[2])
    return positive, max(n - positive - negative, 0), negative


def _lanczos_weights(operator: object, start: Vector, depth: int) -> tuple[Vector, Vector]:
    """Return Ritz values and the squares of the first entries of their vectors."""
    basis = np.zeros((start.size, depth))
    diagonal, below = np.zeros(depth), np.zeros(depth)
    basis[:, 0] = start / np.linalg.norm(start)
    steps = depth
    for k in range(depth):
        w = operator.matvec(basis[:, k])  # type: ignore[attr-defined]
        diagonal[k] = basis[:, k] @ w
        for _ in range(2):  # twice is enough to keep the basis orthogonal
            w = w - basis[:, : k + 1] @ (basis[:, : k + 1].T @ w)
        below[k] = np.linalg.norm(w)
        if k + 1 == depth or below[k] <= EPS * start.size * np.abs(diagonal).max():
            steps = k + 1
            break
        basis[:, k + 1] = w / below[k]
    off = below[: steps - 1]
    tridiagonal = np.diag(diagonal[:steps]) + np.diag(off, 1) + np.diag(off, -1)
    values, vectors = np.linalg.eigh(tridiagonal)
    return values, vectors[0] ** 2
