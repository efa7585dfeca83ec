"""The lemmas of Kawaguchi 2016, Section 4.2, as checks at a given point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastggn.analysis.linear.derivatives import above, gradients, product
from fastggn.analysis.linear.regression import Regression, check_weights

FloatArray = NDArray[np.float64]
# Layers shorter than this share of the natural size count as that short: a layer that is zero
# up to rounding must not make its own rounding the measure.
SHORTEST = 1e-4


@dataclass(frozen=True)
class LayerConditions:
    """Lemma 4.4 and Corollary 4.5 for one k = 2..H+1.

    Attributes
    ----------
    k : int
    range_distance : float
        Sine of the largest angle between the range of ``(W_{k-1} ... W_2)^T`` and that of
        ``C^T C``: 0 where it is contained.
    unseen : float
        Size of ``X r W_{H+1} ... W_{k+1}``, relative.
    rank_above, rank_below : int
        Ranks of ``W_{H+1} ... W_k`` and of ``W_{k-1} ... W_2``.
    lemma_4_4, corollary_4_5 : bool
        Whether one of the two alternatives holds. Where it does not, at a critical point, the
        Hessian is neither positive nor negative semidefinite.
    """

    k: int
    range_distance: float
    unseen: float
    rank_above: int
    rank_below: int
    lemma_4_4: bool
    corollary_4_5: bool


@dataclass(frozen=True)
class Conditions:
    """First-order conditions and what a semidefinite Hessian needs.

    Attributes
    ----------
    gradient_share : float
        Largest gradient of a layer over the product of the sizes that make it (Lemma 4.1).
    critical : bool
    representation_error : float
        Relative distance of the product from ``C (C^T C)^- C^T Y X^T (X X^T)^-`` (Lemma 4.2,
        with a generalised inverse).
    rank : int
        Of ``C = W_{H+1} ... W_2``: 0 is possible.
    modes : tuple of int or None
        Which eigenvectors of Sigma, counted from 0, span the range of C; None where they do not.
    layers : tuple of LayerConditions
    lemma_4_6 : bool
        Whether ``C (C^T C)^- C^T`` projects on the leading eigenvectors, or X r = 0. Where it
        does not hold at a critical point, the Hessian has a negative eigenvalue.
    """

    gradient_share: float
    critical: bool
    representation_error: float
    rank: int
    modes: tuple[int, ...] | None
    layers: tuple[LayerConditions, ...]
    lemma_4_6: bool

    @property
    def allow_positive_semidefinite(self) -> bool:
        """Whether every necessary condition for a positive semidefinite Hessian holds."""
        each = all(layer.lemma_4_4 and layer.corollary_4_5 for layer in self.layers)
        return each and self.lemma_4_6

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            **{key: value for key, value in vars(self).items() if key != "layers"},
            "modes": None if self.modes is None else list(self.modes),
            "layers": [vars(layer) for layer in self.layers],
        }

    def __str__(self) -> str:
        """Return a table."""
        lines = [
            f"critical: {self.critical} (gradient share {self.gradient_share:.1e}); "
            f"rank C = {self.rank}, modes {self.modes}; Lemma 4.6 {_word(self.lemma_4_6)}",
            "  k   range      unseen     ranks   Lemma 4.4   Corollary 4.5",
        ]
        for c in self.layers:
            lines.append(
                f"  {c.k}   {c.range_distance:.1e}   {c.unseen:.1e}   {c.rank_above} {c.rank_below}"
                f"     {_word(c.lemma_4_4):9s}   {_word(c.corollary_4_5)}"
            )
        return "\n".join(lines)


def conditions(
    weights: Sequence[ArrayLike], X: ArrayLike, Y: ArrayLike, *, tol: float = 1e-7
) -> Conditions:
    """Check Lemmas 4.1, 4.2, 4.4 and 4.6 and Corollary 4.5 of Kawaguchi 2016 at a point.

    Parameters
    ----------
    weights : sequence of array_like, shapes (d_k, d_{k-1})
    X : array_like, shape (T, d_x)
    Y : array_like, shape (T, d_y), or (T,)
    tol : float
        Largest relative size that counts as zero.

    Raises
    ------
    TypeError, ValueError
        If an argument is not valid.
    """
    data = Regression(X, Y)
    matrices = check_weights(weights, data)
    share = gradient_share(matrices, data)
    critical = share <= tol
    if critical:
        tol = max(tol, coarseness(share))
    C = above(matrices, 1)
    u, s, _ = np.linalg.svd(C)
    rank = numerical_rank(C, matrices[1:], tol)
    projector = u[:, :rank] @ u[:, :rank].T
    whole = product(matrices, data.d_x)
    seen = data.inputs @ data.inputs.T
    span = np.linalg.pinv(seen) @ seen  # of X: what a first layer does beside it is free
    want = projector @ data.map
    size = max(float(np.linalg.norm(data.map)), 1e-300)
    crossed = data.inputs @ data.residual(matrices).T
    unit = max(float(np.linalg.norm(data.inputs @ data.targets.T)), 1e-300)
    unseen = float(np.linalg.norm(crossed)) / unit
    leading = data.U[:, :rank]
    top = float(np.linalg.norm(projector - leading @ leading.T)) <= np.sqrt(tol)
    return Conditions(
        gradient_share=share,
        critical=critical,
        representation_error=float(np.linalg.norm(whole @ span - want)) / size,
        rank=rank,
        modes=_modes(data, projector, rank, tol),
        layers=tuple(
            _layer(matrices, data, k, crossed, unit, tol) for k in range(2, len(matrices) + 1)
        ),
        lemma_4_6=bool(top or unseen <= tol),
    )


def coarseness(share: float) -> float:
    """Return how far weights may be from a critical point whose gradient is this small.

    Where the Hessian is singular the gradient falls like the square of the distance.
    """
    return float(10.0 * np.sqrt(share))


def gradient_share(matrices: Sequence[FloatArray], data: Regression) -> float:
    """Return the largest layer gradient, relative to the sizes whose product it is.

    A layer counts as at least 1e-4 of the natural size, ``|Y X^T (X X^T)^-|^(1/(H+1))``.
    """
    natural = data.natural_size(len(matrices))
    sizes = [max(float(np.linalg.norm(w, 2)), SHORTEST * natural) for w in matrices]
    x, y = np.linalg.norm(data.inputs, 2), np.sqrt(2.0 * max(data.energy, 1e-300))
    shares = []
    for k, g in enumerate(gradients(matrices, data)):
        others = float(np.prod([size for j, size in enumerate(sizes) if j != k]))
        shares.append(float(np.linalg.norm(g)) / max(others * float(x) * float(y), 1e-300))
    return max(shares)


def numerical_rank(matrix: FloatArray, factors: Sequence[FloatArray], tol: float) -> int:
    """Return the rank of a product, its singular values measured against the factors' sizes."""
    scale = float(np.prod([np.linalg.norm(w, 2) for w in factors])) if factors else 1.0
    s = np.linalg.svd(matrix, compute_uv=False)
    return int(np.count_nonzero(s > tol * scale)) if scale > 0.0 else 0


def _layer(
    matrices: Sequence[FloatArray],
    data: Regression,
    k: int,
    crossed: FloatArray,
    unit: float,
    tol: float,
) -> LayerConditions:
    C = above(matrices, 1)
    rank_C = numerical_rank(C, matrices[1:], tol)
    _, _, vt = np.linalg.svd(C)
    rows = vt[:rank_C]  # they span the range of C^T C
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
    return LayerConditions(
        k=k,
        range_distance=distance,
        unseen=unseen,
        rank_above=rank_above,
        rank_below=rank_below,
        lemma_4_4=bool(blind or distance <= np.sqrt(tol)),
        corollary_4_5=blind or rank_above >= rank_below,
    )


def _modes(
    data: Regression, projector: FloatArray, rank: int, tol: float
) -> tuple[int, ...] | None:
    shares = np.einsum("ij,ik,kj->j", data.U, projector, data.U)
    chosen = np.flatnonzero(shares > 0.5)
    basis = data.U[:, chosen]
    fits = chosen.size == rank and np.linalg.norm(projector - basis @ basis.T) <= np.sqrt(tol)
    return tuple(int(i) for i in chosen) if fits else None


def _word(holds: bool) -> str:
    return "holds" if holds else "fails"
