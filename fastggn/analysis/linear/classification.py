"""Global minimum, strict saddle or bad saddle: a critical point of a deep linear network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from fastggn.analysis.linear.derivatives import as_problem, product
from fastggn.analysis.linear.measures import (
    Kept,
    coarseness,
    gradient_share,
    kept,
    layer_ranges,
    numerical_rank,
)
from fastggn.analysis.linear.regression import FloatArray, Hypothesis, Regression, check_weights
from fastggn.runtime.errors import check_positive
from fastggn.training.control.escape import lowest_eigenpair

Label = Literal["global_minimum", "strict_saddle", "bad_saddle", "not_critical"]
# A negative eigenvalue is rounding up to this share of the largest modulus, or of the curvature
# at layers of the natural size.
FLAT = 1e-10
LEAST = 1e-10  # distance from the minimum that is rounding, over the loss of the zero map


@dataclass(frozen=True, eq=False)
class Classification:
    """The kind of a point, and the reason.

    Attributes
    ----------
    label : {"global_minimum", "strict_saddle", "bad_saddle", "not_critical"}
        The Hessian at a bad saddle has no negative eigenvalue.
    reason : str
    hypotheses : dict of str to Hypothesis
        Of Theorem 2.3, with margins. The theorem says that a critical point is a global minimum or
        a saddle; the label itself is computed at the point.
    loss, minimum : float
        Half sums of squares: here, and the global minimum.
    gradient_share : float
        Largest gradient of a layer over the product of the sizes in it (Lemma 4.1).
    lowest_eigenvalue, largest_eigenvalue : float or None
        Of the Hessian of half the sum of squares; the second in modulus. None at a point that is
        not critical.
    inner_rank, p : int
        The rank of ``W_H ... W_2`` (d_1 for H = 1), and the smallest hidden width.
    rank : int
        Of ``C = W_{H+1} ... W_2``.
    modes : tuple of int or None
        Eigenvectors of Sigma, from 0, that span the range of C; None if none do.
    descent_direction : list of ndarray or None
        A direction of negative curvature, layer by layer.
    """

    label: Label
    reason: str
    hypotheses: dict[str, Hypothesis]
    loss: float
    minimum: float
    gradient_share: float
    lowest_eigenvalue: float | None
    largest_eigenvalue: float | None
    inner_rank: int
    p: int
    rank: int
    modes: tuple[int, ...] | None
    descent_direction: list[FloatArray] | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values without the direction."""
        skipped = ("descent_direction", "hypotheses")
        plain = {key: value for key, value in vars(self).items() if key not in skipped}
        plain["modes"] = None if self.modes is None else list(self.modes)
        plain["hypotheses"] = {name: vars(h) for name, h in self.hypotheses.items()}
        return plain

    def __str__(self) -> str:
        lines = [
            f"{self.label}: {self.reason}",
            f"  loss               {self.loss:.8g} (global minimum {self.minimum:.8g})",
            f"  rank W_H ... W_2   {self.inner_rank} (p = {self.p}); rank C {self.rank}",
        ]
        if self.lowest_eigenvalue is not None:
            lines.append(
                f"  eigenvalues        from {self.lowest_eigenvalue:.3e}, "
                f"largest modulus {self.largest_eigenvalue:.3e}"
            )
        for name, h in self.hypotheses.items():
            lines.append(f"  {name:20s} {'holds' if h.holds else 'FAILS'}: {h.text}")
        return "\n".join(lines)


def classify(
    weights: Sequence[ArrayLike], X: ArrayLike, Y: ArrayLike, *, tol: float = 1e-7
) -> Classification:
    """Classify a point of a deep linear network.

    Source: Kawaguchi (2016), "Deep Learning without Poor Local Minima", Theorem 2.3.

    Parameters
    ----------
    weights : sequence of array_like, shapes (d_k, d_{k-1})
        W_1 to W_{H+1}.
    X : array_like, shape (T, d_x)
    Y : array_like, shape (T, d_y), or (T,)
    tol : float
        Largest relative gradient of a critical point.

    Raises
    ------
    TypeError, ValueError
        If an argument is not valid.

    Examples
    --------
    >>> import numpy as np
    >>> from fastggn import analysis
    >>> X, Y = np.eye(2), np.diag([3.0, 1.0])
    >>> analysis.linear.classify([np.zeros((2, 2))] * 3, X, Y).label
    'bad_saddle'
    >>> analysis.linear.classify([np.zeros((2, 2))] * 2, X, Y).label
    'strict_saddle'
    """
    tol = check_positive("tol", tol)
    data = Regression(X, Y)
    matrices = check_weights(weights, data)
    share = gradient_share(matrices, data)
    critical = share <= tol
    fine = max(tol, coarseness(share)) if critical else tol
    found = kept(matrices, data, fine)
    p = min(w.shape[0] for w in matrices[:-1])
    inner = matrices[1:-1]
    inner_rank = numerical_rank(product(inner, matrices[0].shape[0]), inner, fine)
    loss, minimum = data.loss(matrices), data.minimum(p)
    label: Label
    lowest = largest = direction = None
    if not critical:
        label = "not_critical"
        reason = f"the gradient is {share:.1e} of the sizes that make it (Lemma 4.1)"
    elif loss - minimum <= LEAST * data.energy:
        label = "global_minimum"
        reason = f"a critical point at the least value, which keeps {min(p, data.d_y)} modes"
    else:
        lowest, largest, direction = curvature(matrices, data)
        H = len(matrices) - 1
        # Where the layers are rounding, so is the Hessian's own size.
        size = data.natural_curvature(H + 1)
        flat = FLAT
        if H > 1 and inner_rank < p and found.lemma_4_6 and _layers_allow(matrices, data, fine):
            # No lemma asks for negative curvature, so the distance to the critical point may
            # explain it.
            flat = max(FLAT, coarseness(share))
        negative = lowest < -flat * max(largest, size)
        label, reason = _saddle(found, lowest, negative, inner_rank, p, H)
        direction = direction if label == "strict_saddle" else None
    return Classification(
        label=label,
        reason=reason,
        hypotheses=data.hypotheses(),
        loss=loss,
        minimum=minimum,
        gradient_share=share,
        lowest_eigenvalue=lowest,
        largest_eigenvalue=largest,
        inner_rank=inner_rank,
        p=p,
        rank=found.rank,
        modes=found.modes,
        descent_direction=direction,
    )


def _layers_allow(matrices: Sequence[FloatArray], data: Regression, tol: float) -> bool:
    """Return whether Lemma 4.4 and Corollary 4.5 let the Hessian be positive semidefinite."""
    ranges = layer_ranges(matrices, data, tol)
    return all(layer.lemma_4_4 and layer.corollary_4_5 for layer in ranges)


def curvature(
    matrices: Sequence[FloatArray], data: Regression
) -> tuple[float, float, list[FloatArray]]:
    """Return the lowest eigenvalue, the largest modulus, and the lowest one's eigenvector."""
    problem, theta = as_problem(matrices, data)
    value, vector, scale = lowest_eigenpair(problem, theta, np.random.default_rng(0))
    count = problem.n_samples  # the problem takes the mean, the paper the sum
    return value * count, scale * count, problem.network.unpack(vector)


def _saddle(
    found: Kept, lowest: float, negative: bool, inner_rank: int, p: int, H: int
) -> tuple[Label, str]:
    """Return the label of a critical point above the minimum, and the lemma behind it."""
    modes = "no modes" if not found.modes else f"modes {[i + 1 for i in found.modes]} of Sigma"
    where = f"above the global minimum, keeping {modes}"
    if negative:
        why = "negative curvature"
        if H == 1:
            why += " (Corollary 2.4: every saddle of a three-layer network has it)"
        elif inner_rank == p:
            why += " (Theorem 2.3 (iv): W_H ... W_2 has full rank p)"
        elif not found.lemma_4_6:
            why += " (Lemma 4.6: C does not keep the leading modes)"
        return "strict_saddle", f"{where}; {why}, {lowest:.3e}"
    return (
        "bad_saddle",
        f"{where}; no negative eigenvalue, rank of W_H ... W_2 is {inner_rank} < p = {p} "
        "(Corollary 2.4)",
    )
