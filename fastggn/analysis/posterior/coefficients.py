"""Standard errors of the coefficients of equations, from the scatter of the data."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastggn.analysis.magnitudes import finite
from fastggn.objective.equations import Observed
from fastggn.objective.residual_problem import ResidualProblem
from fastggn.runtime.comm import require_serial
from fastggn.runtime.errors import as_float_vector

FloatArray = NDArray[np.float64]

_ROUNDINGS = 10.0  # singular values below so many roundings of the largest one are zero


def coefficient_errors(problem: ResidualProblem, theta: ArrayLike) -> dict[str, float]:
    """Return the standard error of each coefficient at the end of a run.

    The noise of the data is carried to the coefficients by the linearised problem, with the weights
    of the network free: the equations bind them, and have no noise of their own. The variance of
    the noise follows for each kind of data of each term from its residuals, with as many degrees
    of freedom as the fit leaves them.

    Parameters
    ----------
    problem : ResidualProblem
        With coefficients and at least one term of data, in one process.
    theta : array_like, shape (N,)
        A minimum.

    Returns
    -------
    dict of str to float
        Standard errors in the units of the coefficients; infinite where the data and the
        equations leave a coefficient open.

    Raises
    ------
    TypeError
        If `problem` is not a `ResidualProblem`.
    ValueError
        If it has no coefficients, no data, or fewer data than the fit uses up.

    Notes
    -----
    With A = [A_w, A_k] the weighted Jacobian of weights and coefficients, and Z the part of A_k
    outside the range of A_w, the covariance is ``Z^+ D Z^+T``, D the variances of the data and
    zeros (a sandwich estimate). The memory is that of the dense A.
    """
    if not isinstance(problem, ResidualProblem):
        raise TypeError(f"problem must be a ResidualProblem, not {type(problem).__name__}")
    require_serial(problem.comm, "coefficient_errors")
    vector = as_float_vector("theta", theta, problem.n_params)
    names = list(problem.coefficients(vector))
    if not names:
        raise ValueError("problem has no coefficients")
    rows, kinds = _rows(problem, vector)
    n = problem.network.n_params
    variances = _variances(problem, vector, rows, kinds)
    below = np.sqrt(problem.l2) * np.eye(n, problem.n_params)
    stacked = np.concatenate([rows, below]) if problem.l2 > 0.0 else rows
    stacked = finite(stacked, "the Jacobian")
    U = _range(stacked[:, :n])
    Z = stacked[:, n:]
    for _ in range(2):  # the second time for the rounding of the first
        Z = Z - U @ (U.T @ Z)
    left, s, right = np.linalg.svd(Z, full_matrices=False)
    floor = _ROUNDINGS * np.finfo(float).eps * np.linalg.norm(stacked, axis=0).max()
    noisy = left[: rows.shape[0]] * np.sqrt(variances)[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.where(s > floor, 1.0 / s, np.inf) * np.abs(right.T)
        spread[right.T == 0.0] = 0.0
    if np.isfinite(spread).all():
        carried = (right.T / s) @ noisy.T
        errors = np.sqrt(np.square(carried).sum(axis=1))
    else:
        errors = np.where(np.isfinite(spread).all(axis=1), 0.0, np.inf)
    slopes = problem.coefficient_slopes(vector)
    return dict(zip(names, map(float, np.abs(slopes) * errors), strict=True))


def _rows(problem: ResidualProblem, theta: FloatArray) -> tuple[FloatArray, NDArray[np.int64]]:
    """Return the rows of A, and for each the number of its kind of data, or -1."""
    point = problem.at(theta)
    rows = np.concatenate([part for part, _ in point.row_blocks()])
    kinds, first = [], 0
    for part in problem.terms:
        count = part.n_residuals
        own = np.tile(np.arange(count), part.n_samples) + first
        data = isinstance(part.model, Observed)
        kinds.append(own if data else np.full(own.size, -1))
        first += count
    return rows, np.concatenate(kinds)


def _range(matrix: FloatArray) -> FloatArray:
    """Return an orthonormal basis of the range of a matrix."""
    U, s, _ = np.linalg.svd(matrix, full_matrices=False)
    return U[:, s > _ROUNDINGS * np.finfo(float).eps * s[0]]


def _variances(
    problem: ResidualProblem, theta: FloatArray, rows: FloatArray, kinds: NDArray[np.int64]
) -> FloatArray:
    """Return the variance of each weighted residual of the data, and 0 for equations."""
    b = problem.at(theta).b
    if b is None or (kinds < 0).all():
        raise ValueError("no term of problem has data: without noise there is no standard error")
    leverages = np.square(_range(rows)).sum(axis=1)
    out = np.zeros(kinds.size)
    for kind in np.unique(kinds[kinds >= 0]):
        own = kinds == kind
        freedom = float(own.sum() - leverages[own].sum())
        if freedom < 0.5:
            raise ValueError(
                f"the fit uses up all {own.sum()} data of a term: their scatter cannot be seen"
            )
        out[own] = float(b[own] @ b[own]) / freedom
    return out
