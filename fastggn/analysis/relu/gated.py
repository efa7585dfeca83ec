"""The loss of a one-hidden-layer network with fixed gates, and its critical points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastggn.analysis.plain import plain
from fastggn.analysis.relu.arrangement import FloatArray, as_samples, with_bias
from fastggn.analysis.relu.subglobal import as_patterns, as_targets, subglobal_minimum
from fastggn.network.mlp import MLP
from fastggn.objective.problem import Problem
from fastggn.runtime.errors import as_float_vector, check_positive


def gated_problem(X: ArrayLike, y: ArrayLike, patterns: ArrayLike, bias: bool = False) -> Problem:
    """Return the problem of L_gA: the network whose gates are held at given patterns.

    Its loss is the mean of half the squares, L_gA / T.

    Source: Eq. (2) of "Understanding local minima in neural networks by loss surface
    decomposition".

    Parameters
    ----------
    X : array_like, shape (T, n)
    y : array_like, shape (T,) or (T, 1)
    patterns : array_like, shape (h, T)
        0 or 1 for each hidden unit and sample.
    bias : bool
        Whether hidden units and output have biases.

    Raises
    ------
    TypeError, ValueError
        As `subglobal_minimum`.
    """
    samples = as_samples(X)
    gates = as_patterns(patterns, len(samples))
    widths = (samples.shape[1], len(gates), 1)
    net = MLP(widths, "relu", bias="free" if bias else "none")
    return Problem(net, samples, as_targets(y, len(samples)), gates=[gates.T])


@dataclass(frozen=True, eq=False)
class GatedPoint:
    """The kind of a point on the loss surface of a network with fixed gates.

    Attributes
    ----------
    label : {"global_minimum", "strict_saddle", "not_critical"}
        A critical point is one of the first two (Theorem 2.5).
    reason : str
    loss, subglobal_loss : float
        Half the sum of squares here, and its least value for these gates.
    gradient_norm : float
        Of half the sum of squares.
    blocked_units : tuple of int
        Units with v_j = 0 for which the loss would fall along p_j: they make a saddle.
    direction : ndarray, shape (N,), or None
        For a strict saddle, a unit vector d of negative curvature, in v_j and w_j of one unit.
    curvature : float or None
        d^T H d, of half the sum of squares.
    """

    label: Literal["global_minimum", "strict_saddle", "not_critical"]
    reason: str
    loss: float
    subglobal_loss: float
    gradient_norm: float
    blocked_units: tuple[int, ...]
    direction: FloatArray | None
    curvature: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        return plain(self)

    def __str__(self) -> str:
        return (
            f"{self.label.replace('_', ' ')}: {self.reason}\n"
            f"loss {self.loss:.6g} (least with these gates {self.subglobal_loss:.6g}), "
            f"gradient norm {self.gradient_norm:.3g}"
        )


def classify_gated(
    X: ArrayLike,
    y: ArrayLike,
    patterns: ArrayLike,
    theta: ArrayLike,
    bias: bool = False,
    *,
    tolerance: float = 1e-7,
) -> GatedPoint:
    """Classify theta on the loss surface of the network with fixed gates.

    In p_j = v_j w_j the loss is convex. A critical point is a global minimum if the gradient by all
    p_j, q_j and c is zero. Otherwise some unit with v_j = 0 hides a gradient g_j by p_j, and
    (dv_j, dw_j) = (1, -t g_j) has the curvature sum_i a_ij z_ij^2 - 2 t |g_j|^2, below zero for
    large t: a strict saddle.

    Source: Theorem 2.5 of "Understanding local minima in neural networks by loss surface
    decomposition" and its proof; the entry at the lower left of its Eq. (9) is
    d^2 L / (db_j dv_j).

    Parameters
    ----------
    X : array_like, shape (T, n)
    y : array_like, shape (T,) or (T, 1)
    patterns : array_like, shape (h, T)
    theta : array_like, shape (N,)
        Of ``MLP((n, h, 1), bias="free" or "none")``.
    bias : bool
    tolerance : float
        A gradient counts as zero below ``tolerance * |J| |y|``, with |J| the Frobenius norm.

    Raises
    ------
    TypeError, ValueError
        As `subglobal_minimum`, and if theta has a wrong length or the tolerance is not positive.

    Examples
    --------
    >>> from fastggn import analysis
    >>> print(analysis.classify_gated([[1.0]], [1.0], [[1]], [0.0, 0.0]).label)
    strict_saddle
    """
    share = check_positive("tolerance", tolerance)
    problem = gated_problem(X, y, patterns, bias)
    net, T = problem.network, problem.n_samples
    point = as_float_vector("theta", theta, net.n_params)
    targets = problem.targets[:, 0]
    samples = with_bias(as_samples(X), bias)
    gates = as_patterns(patterns, T)
    residual = problem.outputs(point)[:, 0] - targets
    loss = 0.5 * float(residual @ residual)
    gradient = T * problem.gradient(point)
    size = float(np.linalg.norm(problem.jacobian(point).to_dense()))
    # The rows of g_j: gradients by p_j and, with a bias, q_j.
    hidden = (gates * residual) @ samples
    blocked_size = share * float(np.linalg.norm(samples)) * float(np.linalg.norm(targets))
    outer = net.unpack(point)[1][0, : len(gates)]
    blocked = np.flatnonzero(np.linalg.norm(hidden, axis=1) > blocked_size)
    shared = {
        "loss": loss,
        "subglobal_loss": subglobal_minimum(X, y, gates, bias).loss,
        "gradient_norm": float(np.linalg.norm(gradient)),
    }
    limit = share * max(size, float(np.linalg.norm(samples))) * float(np.linalg.norm(targets))
    if shared["gradient_norm"] > limit:
        reason = f"the gradient is not zero: {shared['gradient_norm']:.3g}"
        return GatedPoint("not_critical", reason, **shared, blocked_units=(), direction=None,
                          curvature=None)  # fmt: skip
    if not blocked.size:
        reason = "the gradient by all p_j, q_j and c is zero, and the loss is convex in them"
        return GatedPoint("global_minimum", reason, **shared, blocked_units=(), direction=None,
                          curvature=None)  # fmt: skip
    unit = int(blocked[np.argmax(np.linalg.norm(hidden[blocked], axis=1))])
    direction = _descent(net, point, samples, gates, unit, hidden[unit])
    curvature = T * float(direction @ (problem.hessian_operator(point) @ direction))
    reason = f"v_{unit} = {outer[unit]:.3g} hides the gradient by p_{unit}"
    return GatedPoint("strict_saddle", reason, **shared, blocked_units=tuple(map(int, blocked)),
                      direction=direction, curvature=curvature)  # fmt: skip


def _descent(
    net: MLP,
    theta: FloatArray,
    samples: FloatArray,
    gates: NDArray[np.bool_],
    j: int,
    g: FloatArray,
) -> FloatArray:
    """Return the unit vector of least curvature among (dv_j, dw_j) = (cos, sin g / |g|)."""
    inner = samples @ net.unpack(theta)[0][j]
    a = float(np.sum(gates[j] * inner**2))
    size = float(np.linalg.norm(g))
    # v_j = 0 gives the Hessian on this plane; take its lower eigenvector.
    _, vectors = np.linalg.eigh(np.array([[a, size], [size, 0.0]]))
    dv, along = vectors[:, 0]
    layers = [np.zeros(shape) for shape in net.layer_shapes]
    layers[0][j] = along * g / size
    layers[1][0, j] = dv
    return net.pack(layers)
