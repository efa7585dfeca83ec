"""The lemmas of Kawaguchi 2016, Section 4.2, as checks at a given point."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from fastggn.analysis.linear.derivatives import product
from fastggn.analysis.linear.measures import (
    LayerRange,
    coarseness,
    gradient_share,
    kept,
    layer_ranges,
)
from fastggn.analysis.linear.regression import Regression, check_weights


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
    layers : tuple of LayerRange
        Lemma 4.4 and Corollary 4.5 for k = 2..H+1. ``range_distance`` is the sine of the largest
        angle between the range of ``(W_{k-1} ... W_2)^T`` and that of ``C^T C``, 0 where it is
        contained; ``unseen`` the relative size of ``X r W_{H+1} ... W_{k+1}``; ``rank_above`` and
        ``rank_below`` the ranks of ``W_{H+1} ... W_k`` and of ``W_{k-1} ... W_2``. Where
        ``lemma_4_4`` or ``corollary_4_5`` does not hold, at a critical point, the Hessian is
        neither positive nor negative semidefinite.
    lemma_4_6 : bool
        Whether ``C (C^T C)^- C^T`` projects on the leading eigenvectors, or X r = 0. Where it
        does not hold at a critical point, the Hessian has a negative eigenvalue.
    """

    gradient_share: float
    critical: bool
    representation_error: float
    rank: int
    modes: tuple[int, ...] | None
    layers: tuple[LayerRange, ...]
    lemma_4_6: bool

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
    range_of_C = kept(matrices, data, tol)
    seen = data.inputs @ data.inputs.T
    span = np.linalg.pinv(seen) @ seen  # of X: what a first layer does beside it is free
    error = product(matrices, data.d_x) @ span - range_of_C.projector @ data.map
    return Conditions(
        gradient_share=share,
        critical=critical,
        representation_error=float(np.linalg.norm(error))
        / max(float(np.linalg.norm(data.map)), 1e-300),
        rank=range_of_C.rank,
        modes=range_of_C.modes,
        layers=layer_ranges(matrices, data, tol),
        lemma_4_6=range_of_C.lemma_4_6,
    )


def _word(holds: bool) -> str:
    return "holds" if holds else "fails"
