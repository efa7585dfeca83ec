"""Constructions of critical points of deep linear networks: minima, strict and bad saddles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from fastggn.analysis.linear.regression import FloatArray, Regression, check_widths


def construct(
    X: ArrayLike,
    Y: ArrayLike,
    widths: Sequence[int],
    modes: Sequence[int],
    *,
    order: int | None = None,
    seed: int | None = None,
) -> list[FloatArray]:
    """Return the weights W_1 to W_{H+1} of a critical point that keeps some modes of the data.

    The network's map is ``U_I U_I^T Y X^T (X X^T)^-``, I the `modes`. Besides the path of these
    modes, p - |I| paths lead through the hidden layers, and zeros close them in `order` of the
    H + 1 layers. A path with another mode that is opened by t in all of them changes the loss like
    -t^order. Order 2 gives negative curvature; from order 3 on the point is a bad saddle, without
    negative eigenvalues of the Hessian, if the modes are the leading ones.

    Parameters
    ----------
    X : array_like, shape (T, d_x)
    Y : array_like, shape (T, d_y), or (T,)
    widths : sequence of int
        ``(d_x, d_1, ..., d_H, d_y)``.
    modes : sequence of int
        At most p eigenvectors of Sigma; 0 has the largest eigenvalue. One with the eigenvalue 0
        adds nothing to the map, and its path is closed like those of the other modes.
    order : int, optional
        From 2 to H + 1; None is H + 1: all layers have the least rank.
    seed : int, optional
        Draws the bases of the hidden layers; None takes unit vectors.

    Raises
    ------
    TypeError, ValueError
        If an argument is not valid.

    Examples
    --------
    >>> import numpy as np
    >>> from fastggn.analysis import linear
    >>> X, Y = np.eye(2), np.diag([3.0, 1.0])
    >>> weights = linear.construct(X, Y, (2, 2, 2, 2), [0])
    >>> linear.classify(weights, X, Y).label
    'bad_saddle'
    """
    data = Regression(X, Y)
    checked = check_widths(widths, data)
    hidden, p = checked[1:-1], min(checked[1:-1])
    chosen = _checked_modes(modes, data, p)
    count = len(hidden) + 1
    closed = closed_layers(count if order is None else order, count)
    rng = None if seed is None else np.random.default_rng(seed)
    bases = [_basis(d, rng) for d in hidden]
    q = len(chosen)
    keep, spare = [b[:, :q] for b in bases], [b[:, q:p] for b in bases]
    U = data.U[:, chosen]
    # Spread the modes' sizes evenly over the layers.
    sizes = np.linalg.norm(U.T @ data.map, axis=1) ** (1.0 / count)
    weights = [keep[0] @ ((U.T @ data.map) / sizes[:, None] ** (count - 1))]
    for k in range(1, count - 1):
        weights.append((keep[k] * sizes) @ keep[k - 1].T)
    weights.append((U * sizes) @ keep[-1].T)
    for k in range(1, count + 1):
        if k in closed or q == p:
            continue
        # Only inner layers come here: the first and the last are always closed.
        weights[k - 1] = weights[k - 1] + spare[k - 1] @ spare[k - 2].T
    return weights


def closed_layers(order: int, count: int) -> list[int]:
    """Return the layers closed at a saddle of this order: first, last, then upwards from 2."""
    if not 2 <= order <= count:
        raise ValueError(f"order must be from 2 to H + 1 = {count}, got {order}")
    return [1, count, *range(2, count)][:order]


def _checked_modes(modes: Sequence[int], data: Regression, p: int) -> list[int]:
    chosen = sorted(int(i) for i in modes)
    if len(set(chosen)) < len(chosen) or any(not 0 <= i < data.d_y for i in chosen):
        raise ValueError(f"modes must be different and from 0 to {data.d_y - 1}, got {list(modes)}")
    if len(chosen) > p:
        raise ValueError(f"modes holds {len(chosen)}, but the narrowest layer has {p} units")
    return [i for i in chosen if not data.is_null(i)]


def _basis(d: int, rng: np.random.Generator | None) -> FloatArray:
    if rng is None:
        return np.eye(d)
    q, r = np.linalg.qr(rng.standard_normal((d, d)))
    return np.asarray(q * np.sign(np.diag(r)))
