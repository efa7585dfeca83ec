"""Symmetric tridiagonal matrices T by LAPACK: eigenvalues, and steps of bounded length.

The reduction of a symmetric matrix to T costs a fifth of its eigenvectors; then each solution with
T + shift I takes O(N) operations. `d` is the diagonal (N,), `e` the entries beside it (N - 1,).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from fastggn.training.step import norm

Vector = NDArray[np.float64]


def eigenvalues(d: Vector, e: Vector) -> Vector | None:
    """Return the eigenvalues (N,) in increasing order, or None if the iteration fails."""
    values, info = lapack.dsterf(d, _beside(e))
    return values if info == 0 else None


def step_at(d: Vector, e: Vector, slopes: Vector, shift: float) -> Vector | None:
    """Return -(T + shift I)^-1 slopes, or None if T + shift I is not positive definite."""
    factors = _factor(d, e, shift)
    return None if factors is None else _solve(factors, -slopes)


def shift_of_length(
    d: Vector, e: Vector, slopes: Vector, lowest: float, radius: float
) -> tuple[float, Vector] | None:
    """Return the shift whose step has the length `radius`, and this step, or None on failure."""
    # Newton's iteration on 1/|p| - 1/radius, which is nearly linear, inside a bracket (More and
    # Sorensen 1983). `lowest` is 0, or the shift where T + shift I ceases to be positive definite.
    low, high = lowest, lowest + norm(slopes) / radius
    shift = high
    for _ in range(100):
        factors = _factor(d, e, shift)
        if factors is None:
            low = shift
        else:
            p = _solve(factors, -slopes)
            length = norm(p)
            if abs(length - radius) <= 1e-10 * radius:
                return shift, p
            if length > radius:
                low = shift
            else:
                high = shift
            bend = float(p @ _solve(factors, p))
            shift += length**2 / bend * (length - radius) / radius if bend > 0.0 else math.nan
        if not low < shift < high:
            shift = 0.5 * (low + high)
    return None


def _factor(d: Vector, e: Vector, shift: float) -> tuple[Vector, Vector] | None:
    """Return the factors of T + shift I = L D L^T, or None if it is not positive definite."""
    pivots, ratios, info = lapack.dpttrf(d + shift, _beside(e))
    return (pivots, ratios) if info == 0 else None


def _solve(factors: tuple[Vector, Vector], right: Vector) -> Vector:
    solution, _ = lapack.dpttrs(*factors, right[:, None])
    return np.asarray(solution[:, 0])


def _beside(e: Vector) -> Vector:
    # SciPy's wrappers require one entry at N = 1, but do not read it.
    return e if e.size else np.zeros(1)
