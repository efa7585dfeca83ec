"""Sums over the eigenvalues of the curvature, from the factor that a solver has at hand.

The evidence of a regularised problem needs two of them, for the eigenvalues ``g`` of ``A^T A``
and ``mu > 0``: the effective number of parameters ``sum g / (g + mu)`` and the determinant of
``A^T A + mu I``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from fastggn.runtime.threads import one_pool
from fastggn.solvers.base import CurvatureSums, FloatArray
from fastggn.solvers.cholesky_in_place import CholeskyFactor

# Rounding moves each eigenvalue by about eps times the largest, and so its share g / (g + mu) by
# eps / rcond: below this a factor counts no parameters to six digits.
LEAST_RCOND = 1e-10
# Random vectors for the sensitivity.
PROBES = 8


def _sensitivity(
    inverse: Callable[[FloatArray], FloatArray], mu: FloatArray | float, size: int, held: float
) -> float:
    """Return ``tr Q - tr Q^2`` for ``Q = sqrt(mu) H^-1 sqrt(mu)``, whose trace is `held`."""
    # The same vectors for both traces: the estimated ratio is right as Q tends to 0 or to 1.
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (size, PROBES))
    root = np.sqrt(np.broadcast_to(mu, size))[:, None]
    with one_pool():
        images = root * inverse(root * signs)
    trace = float(np.vdot(signs, images))
    return held * (1.0 - float(np.vdot(images, images)) / trace) if trace > 0.0 else 0.0


def sums_of_singular_values(s: FloatArray, vt: FloatArray, mu: float) -> CurvatureSums:
    """Return the sums for the singular values s and the right vectors vt (k, N) of A."""
    values, n_params = s**2, vt.shape[1]
    effective = float(np.sum(values / (values + mu)))
    rest = (n_params - values.size) * float(np.log(mu))
    log_determinant = float(np.sum(np.log(values + mu))) + rest
    width = np.hypot(s, np.sqrt(mu))
    return CurvatureSums(
        effective,
        log_determinant,
        whiten=lambda rows: (rows @ vt.T) / width,
        sensitivity=float(np.sum(values * mu / (values + mu) ** 2)),
    )


def sums_of_spectrum(s: FloatArray, vt: FloatArray, mu: FloatArray, unit: float) -> CurvatureSums:
    """Return the sums at ``diag(mu)`` from the singular values of ``A diag(sqrt(unit / mu))``."""
    found = sums_of_singular_values(s, vt, unit)
    held = 1.0 - np.einsum("kj,k->j", vt**2, s**2 / (s**2 + unit))
    log_determinant = found.log_determinant + float(np.sum(np.log(mu / unit)))
    root, whiten = np.sqrt(unit / mu), found.whiten
    assert whiten is not None
    scaled = np.clip(held, 0.0, 1.0), None, lambda rows: whiten(rows * root), found.sensitivity
    return CurvatureSums(found.effective, log_determinant, *scaled)


def sums_of_stacked(s: FloatArray, vt: FloatArray, mu: FloatArray) -> CurvatureSums:
    """Return the sums at ``diag(mu)``, some of it 0, from A with the rows of sqrt(mu) below it."""
    scaled = vt / s[:, None]
    held = np.clip(mu * np.square(scaled).sum(axis=0), 0.0, 1.0)
    fall = _sensitivity(lambda z: scaled.T @ (scaled @ z), mu, mu.size, float(np.sum(held)))
    return CurvatureSums(
        float(np.sum(1.0 - held)),
        2.0 * float(np.sum(np.log(s))),
        held,
        whiten=lambda rows: rows @ vt.T / s,
        sensitivity=fall,
    )


def sums_of_factor(
    factor: CholeskyFactor, n_params: int, mu: FloatArray | float, *, dual: bool = False
) -> CurvatureSums:
    """Return the sums from the factor of ``A^T A + mu I`` or of ``A A^T + mu I``.

    Both matrices have the same eigenvalues but for zeros. For mu of shape (N,) the factor is that
    of ``A^T A + diag(mu)``.
    """
    size, whiten = factor.factor.shape[0], factor.whiten
    log_determinant = 2.0 * float(np.sum(np.log(factor.factor.diagonal())))
    diagonal = factor.inverse_diagonal()
    if isinstance(mu, np.ndarray):
        held = mu * diagonal
        fall = _sensitivity(factor.solve, mu, size, float(np.sum(held)))
        effective = float(np.sum(1.0 - held))
        return CurvatureSums(effective, log_determinant, held, whiten=whiten, sensitivity=fall)
    trace = float(diagonal.sum())
    log_determinant += (n_params - size) * float(np.log(mu))
    fall = _sensitivity(factor.solve, mu, size, mu * trace)
    found = CurvatureSums(size - mu * trace, log_determinant, whiten=whiten, sensitivity=fall)
    if not dual:
        return found
    return replace(found, leverages=lambda: 1.0 - mu * diagonal, whiten=None)
