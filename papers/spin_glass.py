"""Local minima of the spherical spin glass by their loss (Kawaguchi 2016, Proposition 3.1).

The proposition recalls Choromanska et al. (2015): under seven assumptions the loss of a ReLU
network becomes ``lambda^(-H/2) sum X_{i_1..i_{H+1}} w_{i_1} ... w_{i_{H+1}}`` on the sphere
``|w|^2 = lambda``, with Gaussian X, and "above a certain loss value, the number of local minima
diminishes exponentially as the loss value increases". Here are both sides: the minima of random
instances, and their expected number above a level by the Kac-Rice formula of Auffinger, Ben Arous
and Cerny (2013, Theorem 2.2).
"""

from __future__ import annotations

from itertools import permutations

import numpy as np
from numpy.typing import ArrayLike, NDArray

FloatArray = NDArray[np.float64]

SAME = 1e-3  # distance of unit vectors that are one minimum


def threshold(p: int) -> float:
    """Return minus the loss a coordinate above which local minima become exponentially rare.

    Parameters
    ----------
    p : int
        H + 1, the factors of a term: at least 3.
    """
    return 2.0 * float(np.sqrt((p - 1) / p))


def draw(n: int, p: int, seed: int | None = 0) -> FloatArray:
    """Return the symmetric part of Gaussian couplings, shape (n,) * p.

    Parameters
    ----------
    n : int
        Coordinates: lambda.
    p : int
        H + 1.
    seed : int, optional
    """
    couplings = np.random.default_rng(seed).standard_normal((n,) * p)
    orders = list(permutations(range(p)))
    return np.asarray(sum(couplings.transpose(order) for order in orders) / len(orders))


def losses(couplings: FloatArray, units: FloatArray) -> FloatArray:
    """Return the loss over lambda at unit vectors, scaled to the sphere.

    Parameters
    ----------
    couplings : ndarray, shape (n,) * p
    units : ndarray, shape (starts, n)
    """
    n = couplings.shape[0]
    values = np.einsum("si,si->s", _contracted(couplings, units), units)
    return np.asarray(values / np.sqrt(n))


def _contracted(couplings: FloatArray, units: FloatArray) -> FloatArray:
    """Return the couplings times all but one factor, the gradient over p."""
    found = np.tensordot(units, couplings, axes=(1, 0))
    while found.ndim > 2:
        found = np.einsum("si,si...->s...", units, found)
    return found


def local_minima(
    couplings: FloatArray, *, starts: int = 60, iterations: int = 1000, seed: int | None = 0
) -> FloatArray:
    """Return the losses over lambda of the local minima that random starts lead to, in order.

    By the shifted power method, which lowers the loss at every step.

    Parameters
    ----------
    couplings : ndarray, shape (n,) * p
        Symmetric.
    starts, iterations : int
    seed : int, optional
    """
    n, p = couplings.shape[0], couplings.ndim
    units = np.random.default_rng(seed).standard_normal((starts, n))
    units /= np.linalg.norm(units, axis=1, keepdims=True)
    shift = (p - 1) * float(np.linalg.norm(couplings.reshape(n, -1), 2))
    for _ in range(iterations):
        units = shift * units - _contracted(couplings, units)
        units /= np.linalg.norm(units, axis=1, keepdims=True)
    kept: list[FloatArray] = []
    for unit in units:
        if all(np.linalg.norm(unit - other) > SAME for other in kept):
            kept.append(unit)
    return np.sort(losses(couplings, np.array(kept)))


def expected_minima(
    n: int, p: int, levels: ArrayLike, *, draws: int = 20_000, seed: int | None = 0
) -> tuple[FloatArray, FloatArray]:
    """Return the expected number of local minima with a loss over lambda above each level.

    ``2 sqrt(2 / p) (p - 1)^(n / 2) E[exp(-n (p - 2) / (2 p) m^2)]``, where m is the lowest
    eigenvalue of a symmetric matrix of Gaussians of the variance ``(1 + delta_ij) / (2 n)``, and
    only matrices with ``m > sqrt(p / (2 (p - 1))) level`` count; the mean over draws of it.

    Parameters
    ----------
    n, p : int
        lambda and H + 1.
    levels : array_like
    draws : int
    seed : int, optional

    Returns
    -------
    numbers, errors : ndarray
        Estimates and their standard errors.
    """
    matrices = np.random.default_rng(seed).standard_normal((draws, n, n)) / np.sqrt(4.0 * n)
    lowest = np.linalg.eigvalsh(matrices + matrices.transpose(0, 2, 1))[:, 0]
    weights = 2.0 * np.sqrt(2.0 / p) * (p - 1) ** (n / 2)
    weights = weights * np.exp(-n * (p - 2) / (2.0 * p) * lowest**2)
    bounds = np.sqrt(p / (2.0 * (p - 1))) * np.asarray(levels, dtype=np.float64)
    parts = weights[:, None] * (lowest[:, None] > bounds)
    return parts.mean(axis=0), parts.std(axis=0, ddof=1) / np.sqrt(draws)
