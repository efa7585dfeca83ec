"""Stationary points split into zero misfit and orthogonality, layer by layer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastggn.analysis.magnitudes import usable_point, usual_errors
from fastggn.analysis.plain import plain
from fastggn.objective.kinds import check_samples
from fastggn.objective.problem import Problem
from fastggn.runtime.comm import require_serial
from fastggn.runtime.errors import as_float_vector, check_positive
from fastggn.training.step import norm

FloatArray = NDArray[np.float64]
Kind = Literal["zero_misfit", "orthogonality", "not_stationary"]


@dataclass(frozen=True)
class LayerCondition:
    """The orthogonality ``D_l Phi_{l-1}^T = 0`` of one layer.

    Attributes
    ----------
    layer : int
        From 1.
    product, error_factor, input_factor : float
        Frobenius norms of ``D_l Phi_{l-1}^T / T`` (the layer's part of the gradient), of
        ``D_l / sqrt(T)`` (the errors at its units), and of ``Phi_{l-1} / sqrt(T)`` (its inputs).
    cosine : float
        `product` over the product of both factors; 0 where one of them vanishes.
    holds_by : str
        "errors vanish" (sigma' = 0 or the weights above vanish), "inputs vanish" (sigma = 0
        below), "orthogonality", or "fails".
    """

    layer: int
    product: float
    error_factor: float
    input_factor: float
    cosine: float
    holds_by: str


@dataclass(frozen=True)
class StationaritySplit:
    """The reason for which the gradient vanishes, or that it does not.

    Attributes
    ----------
    kind : {"zero_misfit", "orthogonality", "not_stationary"}
    misfit : float
        Root of the weighted mean of squared error gradients.
    gradient_norm : float
        Of the data, without l2.
    layers : tuple of LayerCondition
    """

    kind: Kind
    misfit: float
    gradient_norm: float
    layers: tuple[LayerCondition, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return plain(self)

    def __str__(self) -> str:
        lines = [
            f"{self.kind}: misfit {self.misfit:.3e}, |gradient| {self.gradient_norm:.3e}",
            "  layer   |D Phi^T|/T   |D|/sqrt T   |Phi|/sqrt T   cosine      holds by",
        ]
        for c in self.layers:
            lines.append(
                f"  {c.layer:5d}   {c.product:11.3e}   {c.error_factor:10.3e}   "
                f"{c.input_factor:12.3e}   {c.cosine:.3e}   {c.holds_by}"
            )
        return "\n".join(lines)


def stationarity_split(
    problem: Problem, theta: ArrayLike, *, tol: float = 1e-8
) -> StationaritySplit:
    """Tell zero misfit from orthogonality at a stationary point, layer by layer.

    With ``D_L = sigma'_L o gradE`` and ``D_l = sigma'_l o W_{l+1}^T D_{l+1}`` the gradient of a
    layer is ``D_l Phi_{l-1}^T`` (O'Leary-Roseberry and Ghattas 2020, Theorems 1 and 4, with the
    residual factor that is missing in Eq. 26). A stationary point has zero misfit, or in every
    layer the rows of D_l are orthogonal to the rows of Phi_{l-1}, where D_l or Phi_{l-1} may also
    vanish (Corollaries 1.1 and 4.1).

    Parameters
    ----------
    problem : Problem
        Any loss; l2 does not count.
    theta : array_like, shape (N,)
    tol : float
        Largest cosine between D_l and Phi_{l-1} that counts as orthogonality. Also the largest
        misfit that counts as zero, over that of outputs that are all 0, and the largest size of a
        factor, over that of its own factors.

    Raises
    ------
    TypeError
        If `problem` has equations.
    ValueError
        If theta has a wrong length or is not finite, or `tol` is not positive.
    """
    check_samples(
        problem, "stationarity_split", "critical_point classifies the points of equations"
    )
    tol = check_positive("tol", tol)
    require_serial(problem.comm, "stationarity_split")
    lin = usable_point(problem, as_float_vector("theta", theta, problem.n_params))
    outputs = problem.outputs(theta)
    weights = problem.relative_weights
    with np.errstate(all="ignore"):
        errors = problem.loss_function.gradient(outputs, problem.targets)
    T = problem.n_samples
    root = np.sqrt(weights)[:, None]
    misfit, usual = (
        norm((root * slopes).ravel()) / math.sqrt(T) for slopes in (errors, usual_errors(problem))
    )
    conditions, terms = [], 0.0
    layers, inputs = problem.network.unpack(lin.theta), problem.layer_outputs(theta)
    for number, psi in enumerate(problem.layer_sensitivities(theta)):
        back = root * np.einsum("tno,to->tn", psi, errors)
        fed = root * inputs[number].T
        # A factor vanishes against the product of those that it is made of.
        small = tol * usual * norm(psi.ravel()) / math.sqrt(T), tol * terms
        conditions.append(_condition(number + 1, back, fed, T, small, tol))
        terms = norm(layers[number].ravel()) * conditions[-1].input_factor
    stationary = all(c.holds_by != "fails" for c in conditions)
    kind: Kind = "orthogonality" if stationary else "not_stationary"
    if misfit <= tol * usual:
        kind = "zero_misfit"
    return StationaritySplit(kind, misfit, norm(lin.data_gradient), tuple(conditions))


def _condition(
    layer: int,
    errors: FloatArray,
    inputs: FloatArray,
    T: int,
    small: tuple[float, float],
    tol: float,
) -> LayerCondition:
    factors = norm(errors.ravel()), norm(inputs.ravel())
    units = [part / (factor or 1.0) for part, factor in zip((errors, inputs), factors, strict=True)]
    cosine = norm((units[0].T @ units[1]).ravel())  # products could over- or underflow
    error_factor, input_factor = (factor / math.sqrt(T) for factor in factors)
    product = error_factor * cosine * input_factor
    if error_factor <= small[0]:
        holds_by = "errors vanish"
    elif input_factor <= small[1]:
        holds_by = "inputs vanish"
    else:
        holds_by = "orthogonality" if cosine <= tol else "fails"
    return LayerCondition(layer, product, error_factor, input_factor, cosine, holds_by)
