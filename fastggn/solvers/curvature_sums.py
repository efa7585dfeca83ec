"""Sums over the eigenvalues of the curvature, from the factor that a solver has at hand.

The evidence of a regularised problem needs two of them, for the eigenvalues ``g`` of ``A^T A``
and ``mu > 0``: the effective number of parameters ``sum g / (g + mu)`` and the determinant of
``A^T A + mu I``.
"""

from __future__ import annotations

import numpy as np
from scipy.linalg import lapack

from fastggn.runtime.threads import one_pool
from fastggn.solvers.base import CurvatureSums, FloatArray
from fastggn.solvers.cholesky_in_place import CholeskyFactor

# Rounding moves each eigenvalue by about eps times the largest, and so its share g / (g + mu) by
# eps / rcond: below this a factor counts no parameters to six digits.
LEAST_RCOND = 1e-10


def sums_of_eigenvalues(values: FloatArray, n_params: int, mu: float) -> CurvatureSums:
    """Return the sums over the eigenvalues given, and zeros for the rest of `n_params`."""
    effective = float(np.sum(values / (values + mu)))
    rest = (n_params - values.size) * float(np.log(mu))
    return CurvatureSums(effective, float(np.sum(np.log(values + mu))) + rest)


def sums_of_spectrum(s: FloatArray, vt: FloatArray, mu: FloatArray, unit: float) -> CurvatureSums:
    """Return the sums at ``diag(mu)`` from the singular values of ``A diag(sqrt(unit / mu))``."""
    found = sums_of_eigenvalues(s**2, mu.size, unit)
    held = 1.0 - np.einsum("kj,k->j", vt**2, s**2 / (s**2 + unit))
    log_determinant = found.log_determinant + float(np.sum(np.log(mu / unit)))
    return CurvatureSums(found.effective, log_determinant, np.clip(held, 0.0, 1.0))


def sums_of_factor(factor: CholeskyFactor, n_params: int, mu: FloatArray | float) -> CurvatureSums:
    """Return the sums from the factor of ``A^T A + mu I`` or of ``A A^T + mu I``; it is lost.

    Both matrices have the same eigenvalues but for zeros. The trace of the inverse is
    ``|L^-1|_F^2``; the inverse takes the place of L, at the price of the factorisation again.
    For mu of shape (N,) the factor is that of ``A^T A + diag(mu)``, and the sums of the squares
    in each column of ``L^-1`` are the diagonal of its inverse.
    """
    triangle = factor.factor
    size = triangle.shape[0]
    log_determinant = 2.0 * float(np.sum(np.log(triangle.diagonal())))
    # LAPACK sees the transposed array: its upper triangle. One thread, for equal bits with any
    # number of them.
    with one_pool():
        inverse, info = lapack.dtrtri(triangle.T, lower=0, overwrite_c=1)
    if info:
        raise np.linalg.LinAlgError(f"dtrtri failed with info {info}")
    lower = inverse.T
    if isinstance(mu, np.ndarray):
        diagonal = np.zeros(size)
        for i in range(size):
            diagonal[: i + 1] += lower[i, : i + 1] ** 2
        held = mu * diagonal
        return CurvatureSums(float(np.sum(1.0 - held)), log_determinant, held)
    trace = sum(float(row @ row) for row in (lower[i, : i + 1] for i in range(size)))
    rest = (n_params - size) * float(np.log(mu))
    return CurvatureSums(size - mu * trace, log_determinant + rest)
