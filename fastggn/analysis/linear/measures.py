"""Sizes, ranks and ranges of the layers of a deep linear network at a point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fastggn.analysis.linear.derivatives import above, gradients, product
from fastggn.analysis.linear.regression import FloatArray, Regression

SHORTEST = 1e-4  # least size of a layer, over the natural size: rounding is no measure


@dataclass(frozen=True)
class Kept:
    """The range of ``C = W_{H+1} ... W_2``: its projector, and the modes of Sigma that span it."""

    projector: FloatArray
    rank: int
    modes: tuple[int, ...] | None
    lemma_4_6: bool


@dataclass(frozen=True)
class LayerRange:
    """The sizes that Lemma 4.4 and Corollary 4.5 (Kawaguchi 2016) compare, for one k = 2..H+1."""

    k: int
    range_distance: float
    unseen: float
    rank_above: int
    rank_below: int
    lemma_4_4: bool
    corollary_4_5: bool


def gradient_share(matrices: Sequence[FloatArray], data: Regression) -> float:
    """Return the largest layer gradient, relative to the product of the sizes in it."""
    natural = data.natural_size(len(matrices))
    sizes = [max(float(np.linalg.norm(w, 2)), SHORTEST * natural) for w in matrices]
    x, y = np.linalg.norm(data.inputs, 2), np.sqrt(2.0 * max(data.energy, 1e-300))
    shares = []
    for k, g in enumerate(gradients(matrices, data)):
        others = float(np.prod([size for j, size in enumerate(sizes) if j != k]))
        shares.append(float(np.linalg.norm(g)) / max(others * float(x) * float(y), 1e-300))
    return max(shares)


def coarseness(share: float) -> float:
    """Return how far weights may be from a critical point, given their gradient share."""
    # The gradient falls like the square of the distance where the Hessian is singular.
    return float(10.0 * np.sqrt(share))


def numerical_rank(matrix: FloatArray, factors: Sequence[FloatArray], tol: float) -> int:
    """Return the rank of a product, with singular values relative to the factors' sizes."""
    scale = float(np.prod([np.linalg.norm(w, 2) for w in factors])) if factors else 1.0
    s = np.linalg.svd(matrix, compute_uv=False)
    return int(np.count_nonzero(s > tol * scale)) if scale > 0.0 else 0


def kept(matrices: Sequence[FloatArray], data: Regression, tol: float) -> Kept:
    """Return the range of the layers above the first, and whether Lemma 4.6 holds."""
    C = above(matrices, 1)
    u, _, _ = np.linalg.svd(C)
    rank = numerical_rank(C, matrices[1:], tol)
    projector = u[:, :rank] @ u[:, :rank].T
    crossed, unit = _crossed(matrices, data)
    leading = data.U[:, :rank]
    top = float(np.linalg.norm(projector - leading @ leading.T)) <= np.sqrt(tol)
    blind = float(np.linalg.norm(crossed)) / unit <= tol
    return Kept(projector, rank, _modes(data, projector, rank, tol), bool(top or blind))


def layer_ranges(
    matrices: Sequence[FloatArray], data: Regression, tol: float
) -> tuple[LayerRange, ...]:
    """Return the comparison of the layers above and below each k = 2..H+1."""
    C = above(matrices, 1)
    _, _, vt = np.linalg.svd(C)
    rows = vt[: numerical_rank(C, matrices[1:], tol)]  # they span the range of C^T C
    crossed, unit = _crossed(matrices, data)
    return tuple(_layer(matrices, k, rows, crossed, unit, tol) for k in range(2, len(matrices) + 1))


def _layer(
    matrices: Sequence[FloatArray],
    k: int,
    rows: FloatArray,
    crossed: FloatArray,
    unit: float,
    tol: float,
) -> LayerRange:
    between = matrices[1 : k - 1]
    inner = product(between, matrices[0].shape[0])
    rank_below = numerical_rank(inner, between, tol)
    _, _, vt_inner = np.linalg.svd(inner)
    span = vt_inner[:rank_below].T
    outside = span - rows.T @ (rows @ span)
    distance = float(np.linalg.norm(outside, 2)) if rank_below else 0.0
    over = above(matrices, k)
    scale = float(np.prod([float(np.linalg.norm(w, 2)) for w in matrices[k:]]))
    unseen = float(np.linalg.norm(crossed @ over)) / (unit * scale) if scale > 0.0 else 0.0
    top = matrices[k - 1 :]
    rank_above = numerical_rank(product(top, top[0].shape[1]), top, tol)
    blind = unseen <= tol
    lemma, corollary = bool(blind or distance <= np.sqrt(tol)), blind or rank_above >= rank_below
    return LayerRange(k, distance, unseen, rank_above, rank_below, lemma, corollary)


def _crossed(matrices: Sequence[FloatArray], data: Regression) -> tuple[FloatArray, float]:
    """Return ``X r``, and the size of ``X Y^T`` as its unit."""
    crossed = data.inputs @ data.residual(matrices).T
    return crossed, max(float(np.linalg.norm(data.inputs @ data.targets.T)), 1e-300)


def _modes(
    data: Regression, projector: FloatArray, rank: int, tol: float
) -> tuple[int, ...] | None:
    shares = np.einsum("ij,ik,kj->j", data.U, projector, data.U)
    chosen = np.flatnonzero(shares > 0.5)
    basis = data.U[:, chosen]
    fits = chosen.size == rank and np.linalg.norm(projector - basis @ basis.T) <= np.sqrt(tol)
    return tuple(int(i) for i in chosen) if fits else None
