"""All critical values of deep linear networks, and the best map of a given rank."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from math import comb

import numpy as np
from numpy.typing import ArrayLike

from fastggn.analysis.linear.regression import FloatArray, Regression, check_widths

MOST_SETS = 1_000_000
SAME = 1e-13  # distance of equal values, over the loss of the zero map


def index_sets(d_y: int, p: int) -> Iterator[tuple[int, ...]]:
    """Yield the subsets of 0..d_y-1 of at most min(p, d_y) elements, with the empty one."""
    # The paper's "i <= min(d_y, p)" must be "i <= d_y", and the rank of C may be 0.
    for size in range(min(p, d_y) + 1):
        yield from itertools.combinations(range(d_y), size)


def critical_values(X: ArrayLike, Y: ArrayLike, widths: Sequence[int]) -> FloatArray:
    """Return the different losses of all critical points of a deep linear network, ascending.

    These half sums of squares are ``(tr Y Y^T - sum_{i in I} Lambda_i) / 2`` for all sets I of at
    most min(p, d_y) eigenvalues of Sigma, with p the smallest hidden width. The first is the global
    minimum (Kawaguchi 2016, Lemma 4.2 with corrected index sets).

    Parameters
    ----------
    X : array_like, shape (T, d_x)
    Y : array_like, shape (T, d_y), or (T,)
    widths : sequence of int
        ``(d_x, d_1, ..., d_H, d_y)``.

    Raises
    ------
    TypeError, ValueError
        If an array or the widths are not valid, or there are more than a million sets.

    Examples
    --------
    >>> import numpy as np
    >>> from fastggn import analysis
    >>> values = analysis.linear.critical_values(np.eye(2), np.diag([3.0, 1.0]), (2, 2, 2, 2))
    >>> [round(float(v), 12) for v in values]
    [0.0, 0.5, 4.5, 5.0]
    """
    data = Regression(X, Y)
    p = min(check_widths(widths, data)[1:-1])
    count = sum(comb(data.d_y, q) for q in range(min(p, data.d_y) + 1))
    if count > MOST_SETS:
        raise ValueError(
            f"Y has {data.d_y} columns and the narrowest layer {p} units: {count:,} critical "
            f"values, more than {MOST_SETS:,}"
        )
    # Sum over the complement of each set, so that an exact fit gives zero.
    left = [
        data.rest + 0.5 * float(np.delete(data.eigenvalues, chosen).sum())
        for chosen in index_sets(data.d_y, p)
    ]
    values = np.sort(np.array(left))
    keep = np.concatenate([[True], np.diff(values) > SAME * max(data.energy, 1e-300)])
    return np.asarray(values[keep])


def best_map(X: ArrayLike, Y: ArrayLike, rank: int) -> tuple[FloatArray, float]:
    """Return the linear map (d_y, d_x) of at most this rank with the least loss, and its loss.

    The loss is half the sum of squares. The map is ``P Y X^T (X X^T)^-``, P the projector on the
    leading eigenvectors of Sigma. Eq. 2 of O'Leary-Roseberry and Ghattas 2020, the truncated SVD of
    the least-squares map, is right only where X X^T is a multiple of the identity.

    Parameters
    ----------
    X : array_like, shape (T, d_x)
    Y : array_like, shape (T, d_y), or (T,)
    rank : int
        At least 0.
    """
    data = Regression(X, Y)
    if rank < 0:
        raise ValueError(f"rank must be at least 0, got {rank}")
    leading = data.U[:, : min(rank, data.d_y)]
    return leading @ (leading.T @ data.map), data.minimum(rank)
