"""The subglobal minimum of given activation patterns: least squares in p_j = v_j w_j."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastggn.analysis.plain import plain
from fastggn.analysis.relu.arrangement import BoolArray, FloatArray, as_samples, with_bias
from fastggn.kernels.spectrum import numerical_rank, thin_svd
from fastggn.runtime.errors import as_float_vector

# Largest entries of y with losses, sums of squares, that float64 holds to the last digit.
LEAST, MOST = 1e-130, 1e150
USUAL = 30  # powers of two of inputs and targets that are taken as they are


@dataclass(frozen=True, eq=False)
class SubglobalMinimum:
    """The global minimum of the loss of a one-hidden-layer network with fixed gates.

    Attributes
    ----------
    loss : float
        Half the sum of squares.
    parameters : ndarray, shape (K,)
        p_1, q_1, ..., p_h, q_h, c: unit by unit p_j (n entries) and, where units have a bias,
        q_j, then c where there is an output bias. Of minimum norm where it is not unique.
    theta : ndarray, shape (N,), or None
        Of ``MLP((n, h, 1), bias="free" or "none")`` with v_j = 1, w_j = p_j, b_j = q_j: a
        minimiser of the gated network. None if only units or only the output have a bias. It lies
        in the region of the patterns only by chance: see `enumerate_subglobal_minima`.
    fitted : ndarray, shape (T,)
        Outputs of the gated network.
    rank, n_columns : int
        Rank of the design matrix, from its singular values, and K.
    condition : float
        Largest over smallest singular value that counts; inf for rank 0.
    """

    loss: float
    parameters: FloatArray
    theta: FloatArray | None
    fitted: FloatArray
    rank: int
    n_columns: int
    condition: float

    @property
    def unique(self) -> bool:
        """Whether p, q and c are determined."""
        return self.rank == self.n_columns

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold."""
        condition = self.condition if np.isfinite(self.condition) else None
        found = plain(self, "loss", "parameters", "rank", "n_columns", "condition", "unique")
        return {**found, "condition": condition}

    def __str__(self) -> str:
        kind = "unique" if self.unique else "minimum norm of many"
        return (
            f"subglobal minimum {self.loss:.6g} (half the sum of squares), {kind}; "
            f"rank {self.rank} of {self.n_columns}, condition {self.condition:.3g}"
        )


def subglobal_minimum(
    X: ArrayLike,
    y: ArrayLike,
    patterns: ArrayLike,
    bias: bool = False,
    output_bias: bool | None = None,
) -> SubglobalMinimum:
    """Return the least loss of a one-hidden-layer network with fixed gates.

    With p_j = v_j w_j and q_j = v_j b_j the outputs are linear, so the minimum is a least-squares
    solution. It comes from singular values of the design matrix, not from the source's normal
    equations.

    Source: Eqs. (6)-(7) of "Understanding local minima in neural networks by loss surface
    decomposition", with the columns of q and c added where there are biases.

    Parameters
    ----------
    X : array_like, shape (T, n)
        Samples by rows.
    y : array_like, shape (T,) or (T, 1)
    patterns : array_like, shape (h, T)
        0 or 1 for each hidden unit and sample.
    bias : bool
        Whether hidden units have a bias.
    output_bias : bool, optional
        Whether the output has one; None: like the hidden units, as in an `MLP`.

    Raises
    ------
    TypeError
        If an array does not hold real numbers.
    ValueError
        If a shape is wrong, an entry is not finite, or a pattern has an entry other than 0 and 1.

    Examples
    --------
    >>> from fastggn import analysis
    >>> X, y = [[-1.0, 1.0], [2.0, 1.0], [1.0, 3.0]], [1.0, 2.0, 3.0]
    >>> round(analysis.subglobal_minimum(X, y, [[1, 1, 1]]).loss, 6)  # linear regression
    0.16
    """
    samples = as_samples(X)
    targets = as_targets(y, len(samples))
    inputs, unit = power_of(samples), power_of(targets)
    samples, targets = np.ldexp(samples, -inputs), np.ldexp(targets, -unit)
    gates = as_patterns(patterns, len(samples))
    constant = bool(bias) if output_bias is None else bool(output_bias)
    matrix = design_matrix(with_bias(samples, bias), gates, constant)
    u, s, vt = thin_svd(matrix)
    found = numerical_rank(s)
    k = found.rank
    rotated = u[:, :k].T @ targets
    own = [*[unit - inputs] * samples.shape[1], *[unit] * bool(bias)] * len(gates)
    powers = np.array([*own, *[unit] * constant])
    parameters = _in_range(vt[:k].T @ (rotated / s[:k]), powers)
    fitted = u[:, :k] @ rotated
    residual = targets - fitted
    return SubglobalMinimum(
        loss=math.ldexp(0.5 * float(residual @ residual), 2 * unit),
        parameters=parameters,
        theta=_theta(parameters, len(gates), constant) if constant == bool(bias) else None,
        fitted=np.ldexp(fitted, unit),
        rank=k,
        n_columns=matrix.shape[1],
        condition=float(s[0] / s[k - 1]) if k else float("inf"),
    )


def power_of(values: FloatArray) -> int:
    """Return the power of two next to the largest entry; 0 for usual ones."""
    power = int(np.frexp(np.abs(values).max(initial=0.0))[1])
    return power if abs(power) > USUAL else 0


def _in_range(values: FloatArray, powers: NDArray[np.int64]) -> FloatArray:
    """Return values times powers of two, or raise where one leaves the range of float64."""
    with np.errstate(over="ignore", under="ignore"):
        out = np.ldexp(values, powers)
    counts = np.abs(values) > 1e-15 * np.abs(values).max(initial=0.0)
    if not np.isfinite(out).all() or (np.abs(out[counts]) < np.finfo(np.float64).tiny).any():
        raise ValueError(
            "X, y: the parameters leave the range of float64: multiply X or y by a power of two"
        )
    return np.asarray(out)


def as_targets(y: ArrayLike, n_samples: int) -> FloatArray:
    """Return the targets as a checked vector (T,), whose squares float64 can hold."""
    array = np.asarray(y)
    column = array[:, 0] if array.shape == (n_samples, 1) else array
    targets = as_float_vector("y", column, n_samples)
    largest = float(np.abs(targets).max(initial=0.0))
    if largest > 0.0 and not LEAST <= largest <= MOST / max(1.0, np.sqrt(n_samples)):
        raise ValueError(
            f"y: the squares of targets up to {largest:.3g} leave the range of float64: "
            "multiply y by a power of two"
        )
    return targets


def as_patterns(patterns: ArrayLike, n_samples: int) -> BoolArray:
    """Return the patterns as a checked boolean array (h, T)."""
    array = np.asarray(patterns)
    if array.ndim != 2 or array.shape[1] != n_samples or not len(array):
        raise ValueError(f"patterns must have shape (h, {n_samples}), got {array.shape}")
    if array.dtype.kind not in "fiub" or not np.isin(array, (0, 1)).all():
        raise ValueError("patterns must hold 0 and 1 only")
    return array.astype(np.bool_)


def design_matrix(samples: FloatArray, patterns: BoolArray, constant: bool) -> FloatArray:
    """Return D = [diag(a_1) X, ..., diag(a_h) X, 1], shape (T, h d [+ 1])."""
    blocks = np.where(patterns.T[:, :, None], samples[:, None, :], 0.0)
    matrix = blocks.reshape(len(samples), -1)
    return np.hstack([matrix, np.ones((len(samples), 1))]) if constant else matrix


def _theta(parameters: FloatArray, h: int, constant: bool) -> FloatArray:
    """Return the parameters of the network with v_j = 1; c stays last."""
    size = parameters.size - int(constant)
    return np.concatenate([parameters[:size], np.ones(h), parameters[size:]])
