"""Built-in sample sets, with NumPy only: four regions, XOR, and two regressions."""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastggn.runtime.errors import check_positive

Samples = tuple[NDArray[np.float64], NDArray[np.float64]]

HALF_SIDE = 4.0
RADII = (1.0, 2.0, 3.0)
N_CLASSES = len(RADII) + 1


def four_regions(T: int = 400, seed: int = 0, one_hot: bool = False) -> Samples:
    """Return samples of the four-regions benchmark.

    The inputs are uniform in the square (-4, 4)^2. Circles of radius 1, 2 and 3 around the
    origin cut it into four regions: classes 1 to 4 from the centre outwards.

    Parameters
    ----------
    T : int
        Number of samples, at least 1.
    seed : int
        Seed of the random numbers, at least 0.
    one_hot : bool
        Return the classes as unit vectors instead of the scalars 1 to 4.

    Returns
    -------
    X : ndarray, shape (T, 2), float64
        The inputs.
    Y : ndarray, shape (T, 1) or (T, 4), float64
        The class as a number, or as a unit vector.

    Raises
    ------
    TypeError
        If `T` or `seed` is not an integer.
    ValueError
        If `T` < 1 or `seed` < 0.

    Notes
    -----
    Source: Shen 2018, Section 6, after Singhal and Wu (1989). The regions are the annuli of
    three circles in the square; the original layout of Singhal and Wu was not available.
    """
    X = _generator(seed).uniform(-HALF_SIDE, HALF_SIDE, size=(_count(T), 2))
    labels = four_regions_class(X)
    if one_hot:
        return X, np.eye(N_CLASSES)[labels - 1]
    return X, labels[:, None].astype(np.float64)


def four_regions_class(X: ArrayLike) -> NDArray[np.int64]:
    """Return the four-regions class, 1 to 4 from the centre outwards, of each point.

    Parameters
    ----------
    X : array_like, shape (T, 2)
        Points of the plane. A point on a circle belongs to the inner region.

    Returns
    -------
    ndarray, shape (T,), int64
        The classes.

    Raises
    ------
    ValueError
        If `X` does not have shape (T, 2).
    """
    points = np.asarray(X, dtype=np.float64)
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(f"X must have shape (T, 2), got {points.shape}")
    squared = np.einsum("ij,ij->i", points, points)
    labels = 1 + np.searchsorted(np.square(RADII), squared, side="left")
    return np.asarray(labels, dtype=np.int64)


def xor() -> Samples:
    """Return the four samples of the exclusive or.

    Returns
    -------
    X : ndarray, shape (4, 2), float64
        The corners of the unit square.
    Y : ndarray, shape (4, 1), float64
        1 where exactly one input is 1, else 0.

    Notes
    -----
    Source: Shen 2018, Section 5.1.
    """
    X = np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    return X, np.array([[0.0], [1.0], [1.0], [0.0]])


def sine(T: int = 200, seed: int = 0, noise: float = 0.0) -> Samples:
    """Return samples of y = sin(pi x), x uniform in (-1, 1).

    Parameters
    ----------
    T : int
        Number of samples, at least 1.
    seed : int
        Seed of the random numbers, at least 0.
    noise : float
        Standard deviation of the normal noise in y.

    Returns
    -------
    X : ndarray, shape (T, 1), float64
        The inputs.
    Y : ndarray, shape (T, 1), float64
        The targets.

    Raises
    ------
    TypeError
        If `T` or `seed` is not an integer.
    ValueError
        If `T` < 1, `seed` < 0 or `noise` is negative or not finite.
    """
    rng = _generator(seed)
    X = rng.uniform(-1.0, 1.0, size=(_count(T), 1))
    return X, np.sin(np.pi * X) + _noise(rng, noise, X.shape[0])


def friedman1(T: int = 500, seed: int = 0, noise: float = 0.0) -> Samples:
    """Return samples of Friedman's first regression problem, with its five relevant inputs.

    ``y = 10 sin(pi x_0 x_1) + 20 (x_2 - 1/2)^2 + 10 x_3 + 5 x_4``, x uniform in the unit cube.
    """
    rng = _generator(seed)
    X = rng.uniform(size=(_count(T), 5))
    y = (
        10.0 * np.sin(np.pi * X[:, 0] * X[:, 1])
        + 20.0 * (X[:, 2] - 0.5) ** 2
        + 10.0 * X[:, 3]
        + 5.0 * X[:, 4]
    )
    return X, y[:, None] + _noise(rng, noise, X.shape[0])


@dataclass(frozen=True)
class Dataset:
    """A built-in sample set in the list of the command line.

    Attributes
    ----------
    make : callable
        The function that returns ``(X, Y)``.
    summary : str
        One line of the help page.
    classes : tuple of float
        The values of a scalar target that are classes; empty for a regression.
    options : tuple of str
        The keyword arguments of `make`.
    """

    make: Callable[..., Samples]
    summary: str
    classes: tuple[float, ...] = ()
    options: tuple[str, ...] = ("T", "seed")


DATASETS: dict[str, Dataset] = {
    "four_regions": Dataset(
        four_regions,
        "four classes between three circles in the square (-4, 4)^2",
        classes=(1.0, 2.0, 3.0, 4.0),
        options=("T", "seed", "one_hot"),
    ),
    "xor": Dataset(xor, "the exclusive or: four samples", classes=(0.0, 1.0), options=()),
    "sine": Dataset(sine, "y = sin(pi x) on (-1, 1)"),
    "friedman1": Dataset(friedman1, "Friedman's first regression problem, five inputs"),
}


def _count(T: Any) -> int:
    """Return the number of samples as an int, or raise an error."""
    n_samples = _integer("T", T)
    if n_samples < 1:
        raise ValueError(f"T must be at least 1, got {n_samples}")
    return n_samples


def _generator(seed: Any) -> np.random.Generator:
    number = _integer("seed", seed)
    if number < 0:
        raise ValueError(f"seed must be at least 0, got {number}")
    return np.random.default_rng(number)


def _integer(name: str, value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError(f"{name} must be an integer, not bool")
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, not {type(value).__name__}") from None


def _noise(rng: np.random.Generator, noise: float, n_samples: int) -> NDArray[np.float64]:
    deviation = check_positive("noise", noise, zero=True)
    return deviation * rng.standard_normal((n_samples, 1))
