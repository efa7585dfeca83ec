"""Activation patterns of one ReLU unit: the regions of its weights between the samples.

The samples are hyperplanes x_i . w = 0 in the space of the unit's weights w. Every region has a
ray of the arrangement on its rim, a w on which n - 1 independent samples vanish. Around a ray only
these samples matter, an arrangement of one dimension less. So C(T, n - 1) rays give the regions, by
recursion where samples are degenerate, without a list of 2^T patterns.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastggn.runtime.errors import as_real, check_finite

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
SignArray = NDArray[np.int8]
Scalar = TypeVar("Scalar", bound=np.generic)

# Determinants of unit vectors, right to about 1e-15, count as zero up to this, as rounding can hide
# that samples are degenerate: (0.1 + 0.2, 1) beside (0.3, 1).
_FLAT = 1e-12
_MOST_RAYS = 50_000_000
_BLOCK_ENTRIES = 1 << 22


def realisable_patterns(X: ArrayLike, bias: bool = False, strict: bool = True) -> BoolArray:
    """Return the activation patterns of one ReLU unit that some weight vector produces.

    Source: Definition 2.1 of "Understanding local minima in neural networks by loss surface
    decomposition". A set of n unit samples with a determinant below 1e-12 counts as degenerate.

    Parameters
    ----------
    X : array_like, shape (T, n)
        Samples by rows.
    bias : bool
        Whether the unit has a bias: a last entry 1 of each sample.
    strict : bool
        True: patterns of the open regions, all w . x_i != 0; there a subglobal minimum is a
        local minimum. A sample that is zero always has a = 0 and does not enter the test.
        False: all patterns a_i = 1(w . x_i > 0) of Definition 2.1, also on boundaries, where
        equality counts as 0; there are more of them only where samples are degenerate.

    Returns
    -------
    ndarray, shape (R, T), bool
        In lexicographic order. For samples in general position
        R = 2 sum_{k<n} C(T-1, k) (Cover 1965), with n + 1 in place of n where there is a bias.

    Raises
    ------
    TypeError
        If `X` does not hold real numbers.
    ValueError
        If it is not a matrix, an entry is NaN or infinite, or there are too many rays.

    Examples
    --------
    >>> from fastggn import analysis
    >>> analysis.realisable_patterns([[-1.0, 1.0], [2.0, 1.0], [1.0, 3.0]]).astype(int)
    array([[0, 0, 0],
           [0, 1, 0],
           [0, 1, 1],
           [1, 0, 0],
           [1, 0, 1],
           [1, 1, 1]])
    """
    samples = with_bias(as_samples(X), bias)
    return _unique(sign_vectors(samples, faces=not strict) > 0)


def as_samples(X: ArrayLike) -> FloatArray:
    """Return the samples as a checked array (T, n)."""
    array = as_real("X", X)
    if array.ndim != 2 or 0 in array.shape:
        raise ValueError(f"X must have shape (T, n), samples by rows, got {array.shape}")
    check_finite("X", array)
    return array


def with_bias(X: FloatArray, bias: bool) -> FloatArray:
    """Return the samples, with a last column of ones where there is a bias."""
    return np.hstack([X, np.ones((len(X), 1))]) if bias else X


def pattern_words(patterns: BoolArray) -> list[str]:
    """Return each row of patterns (h, T) as a string of 0 and 1."""
    return ["".join("01"[int(a)] for a in row) for row in patterns]


def sign_vectors(samples: FloatArray, faces: bool) -> SignArray:
    """Return the signs of (x_1 . w, ..., x_T . w) over all w, one row each, sorted."""
    alive = samples.any(axis=1)
    found = _sign_vectors(unit_rows(samples)[alive], faces)
    out = np.zeros((len(found), len(samples)), dtype=np.int8)
    out[:, alive] = found
    return out


def unit_rows(samples: FloatArray) -> FloatArray:
    """Return the rows divided by their lengths; rows of zeros stay."""
    largest = np.abs(samples).max(axis=1, keepdims=True)  # squares might over- or underflow
    scaled = samples / np.where(largest > 0.0, largest, 1.0)
    return np.asarray(
        scaled / np.where(largest > 0.0, np.linalg.norm(scaled, axis=1)[:, None], 1.0)
    )


def _sign_vectors(directions: FloatArray, faces: bool) -> SignArray:
    origin = np.zeros((1, len(directions)), dtype=np.int8)
    if not len(directions):
        return origin
    points = _essential(directions)
    n_rays = math.comb(len(points), points.shape[1] - 1)
    if n_rays > _MOST_RAYS:
        raise ValueError(
            f"X has too many samples in too many dimensions: {n_rays} rays to be examined, "
            f"at most {_MOST_RAYS} are"
        )
    found = [origin] if faces else []
    expansion = 2 * (3 if faces else 2) ** (points.shape[1] - 1)
    for signs, crowded in _rays(points, expansion):
        part = [_around_simple(signs[~crowded], points.shape[1] - 1, faces)]
        part += [_around_crowded(ray, points, faces) for ray in _unique(signs[crowded])]
        found.append(_unique(np.concatenate(part)))
    return _unique(np.concatenate(found))


def _essential(directions: FloatArray) -> FloatArray:
    """Return the unit vectors in coordinates of their span."""
    _, s, vt = np.linalg.svd(directions, full_matrices=False)
    rank = int(np.count_nonzero(s > _FLAT * s[0]))
    points = directions @ vt[:rank].T
    return np.asarray(points / np.linalg.norm(points, axis=1, keepdims=True))


def _rays(points: FloatArray, expansion: int) -> Iterator[tuple[SignArray, BoolArray]]:
    """Yield blocks of the rays' signs (B, T), with a mark where more than d - 1 samples vanish."""
    # A ray is the generalised cross product of d - 1 samples; its products with the others are
    # determinants. Each ray gives `expansion` rows, which bounds the block.
    n_samples, d = points.shape
    subsets = itertools.combinations(range(n_samples), d - 1)
    size = max(1, _BLOCK_ENTRIES // (n_samples * max(d * d, expansion)))
    while block := list(itertools.islice(subsets, size)):
        rows = np.array(block, dtype=np.intp).reshape(len(block), d - 1)
        matrices = points[rows]
        columns = np.arange(d)
        ray = np.stack(
            [(-1.0) ** k * np.linalg.det(matrices[:, :, columns != k]) for k in range(d)], axis=1
        )
        independent = np.linalg.norm(ray, axis=1) > _FLAT
        products = ray[independent] @ points.T
        np.put_along_axis(products, rows[independent], 0.0, axis=1)
        signs = np.where(np.abs(products) > _FLAT, np.sign(products), 0.0).astype(np.int8)
        yield signs, np.count_nonzero(signs == 0, axis=1) > d - 1


def _around_simple(rays: SignArray, n_zeros: int, faces: bool) -> SignArray:
    """Return the sign vectors around both ends of rays on which independent samples vanish."""
    values = (-1, 0, 1) if faces else (-1, 1)
    local = np.array(list(itertools.product(values, repeat=n_zeros)), dtype=np.int8)
    out = np.repeat(np.concatenate([rays, -rays])[:, None, :], len(local), axis=1)
    zeros = np.nonzero(rays == 0)[1].reshape(len(rays), 1, n_zeros)
    both = np.broadcast_to(np.concatenate([zeros, zeros]), (len(out), len(local), n_zeros))
    np.put_along_axis(out, both, np.broadcast_to(local, both.shape), axis=2)
    return out.reshape(-1, rays.shape[1])


def _around_crowded(ray: SignArray, points: FloatArray, faces: bool) -> SignArray:
    """Return the sign vectors around both ends of one ray on which dependent samples vanish."""
    zeros = ray == 0
    local = _sign_vectors(points[zeros], faces)
    out = np.tile(ray, (2 * len(local), 1))
    out[len(local) :] *= -1
    out[:, zeros] = np.concatenate([local, local])
    return out


def _unique(rows: NDArray[Scalar]) -> NDArray[Scalar]:
    """Return the different rows, in lexicographic order."""
    if not len(rows):
        return rows
    # Sort rows as bytes of 0, 1, 2, far faster than axis=0.
    keys = np.ascontiguousarray(rows.astype(np.int8) + 1, dtype=np.uint8)
    _, first = np.unique(keys.view(f"V{keys.shape[1]}").ravel(), return_index=True)
    return rows[first]
