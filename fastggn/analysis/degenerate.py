"""Degenerate activation points of shallow networks: sigma = sigma' = 0 at every sample."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastggn.analysis.plain import plain
from fastggn.objective.problem import Problem
from fastggn.runtime.comm import require_serial
from fastggn.runtime.errors import as_real, check_finite, check_positive

FloatArray = NDArray[np.float64]
FLAT = 1e-12  # share of the largest modulus up to which a negative eigenvalue is rounding
# Activations with sigma(z) = 0 for all z < 0.
DEAD_BELOW_ZERO = ("relu",)
DRAWS_AT_ONCE = 1 << 22


@dataclass(frozen=True, eq=False)
class DegenerateActivation:
    """A point with sigma = sigma' = 0 at every sample and hidden unit, and its curvature.

    Attributes
    ----------
    holds : bool
        Whether the point is degenerate; all else is None or empty if not.
    eigenvalues : ndarray, shape (n_1, m_1)
        Of the first layer's Hessian block of each hidden unit; all other entries of the Hessian
        vanish.
    direction : ndarray, shape (N,), or None
        Unit vector of the lowest eigenvalue, if that is negative.
    locally_constant : bool
        Whether sigma vanishes on a neighbourhood of all its arguments, which makes the loss
        constant around the point.
    label : str
        "strict_saddle" (negative curvature), "flat_local_minimum" (locally constant loss: a
        non-strict local minimum, spurious where the loss is not zero), or "undecided".
    loss : float
    """

    holds: bool
    eigenvalues: FloatArray | None = None
    direction: FloatArray | None = None
    locally_constant: bool = False
    label: str = "not_degenerate"
    loss: float = float("nan")

    @property
    def lowest(self) -> float | None:
        """The lowest eigenvalue, None where the point is not degenerate."""
        return None if self.eigenvalues is None else float(self.eigenvalues.min())

    @property
    def spurious(self) -> bool:
        """Whether the point is a local minimum that is not global."""
        return self.label == "flat_local_minimum" and self.loss > 0.0

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return plain(self, "holds", "label", "loss", "locally_constant", "spurious", "eigenvalues")

    def __str__(self) -> str:
        if not self.holds:
            return "no degenerate activation point: sigma or sigma' is not zero somewhere"
        return (
            f"degenerate activation point, {self.label}: loss {self.loss:.6g}, "
            f"lowest curvature {self.lowest:.3g}"
        )


def degenerate_activation(
    problem: Problem, theta: ArrayLike, *, tol: float = 0.0
) -> DegenerateActivation:
    """Test for a degenerate activation point and for negative curvature there.

    With ``sigma = sigma' = 0`` at all samples the gradient vanishes (Corollary 1.1 of
    O'Leary-Roseberry and Ghattas 2020), and the Hessian is only nonzero in the first layer's
    block, unit by unit: ``v^T H v = -sum_k sum_i (What_0 x_k)_i^2 sigma''_i (W_1^T y_k)_i``
    (Theorem 3; its Eq. 20 has the sign reversed: the curvature is negative where the sum is
    positive). Corollary 3.3 (zero Hessian, hence local minimum) is false; a local minimum is
    certain where sigma vanishes on a neighbourhood.

    Parameters
    ----------
    problem : Problem
        One hidden layer, an identity output, squared loss, no l2, no gates, and no output bias
        that could fit (``bias="none"``).
    theta : array_like, shape (N,)
    tol : float
        Largest ``|sigma|`` and ``|sigma'|`` that count as zero.

    Raises
    ------
    ValueError
        If the problem is of another kind, or theta or `tol` is not valid.
    """
    tol = check_positive("tol", tol, zero=True)
    require_serial(problem.comm, "degenerate_activation")
    net = problem.network
    if net.n_layers != 2 or net.activations[-1].name != "identity" or net.bias != "none":
        raise ValueError(
            "problem must have one hidden layer, an identity output and bias='none', got widths "
            f"{net.widths}, output {net.activations[-1].name!r}"
        )
    if problem.loss_function.name != "squared" or problem.l2 > 0.0 or problem.gated:
        raise ValueError("problem must have the squared loss, l2=0 and no gates")
    inputs, hidden, _ = problem.layer_outputs(theta)
    z = net.unpack(np.asarray(theta, dtype=np.float64))[0] @ inputs
    slopes = net.activations[0].derivative(z)
    if max(np.abs(hidden).max(), np.abs(slopes).max()) > tol:
        return DegenerateActivation(False)
    hessian = problem.hessian(theta)
    n, m = net.layer_shapes[0]
    blocks = np.stack([hessian[i * m : (i + 1) * m, i * m : (i + 1) * m] for i in range(n)])
    values, vectors = np.linalg.eigh(blocks)
    unit = int(np.argmin(values[:, 0]))
    direction = None
    if values[unit, 0] < -FLAT * np.abs(values).max():
        direction = np.zeros(problem.n_params)
        direction[unit * m : (unit + 1) * m] = vectors[unit, :, 0]
    constant = net.activations[0].name in DEAD_BELOW_ZERO and bool((z < 0.0).all())
    label = "flat_local_minimum" if constant else "undecided"
    if direction is not None:
        label = "strict_saddle"
    return DegenerateActivation(True, values, direction, constant, label, problem.loss(theta))


@dataclass(frozen=True)
class DegenerateProbability:
    """Probability that Gaussian weights make every hidden unit of a ReLU layer dead at all samples.

    Attributes
    ----------
    estimate, standard_error : float
        For one unit, by Monte Carlo.
    exact : float or None
        For one unit, where there is a closed form.
    n_hidden : int
    heuristic : float
        ``2^-T`` for one unit, as in the paper's ``2^(-r d)``; right for orthogonal samples.
    """

    estimate: float
    standard_error: float
    exact: float | None
    n_hidden: int
    heuristic: float

    @property
    def layer(self) -> float:
        """The probability that all units are dead, as they are independent."""
        return float((self.estimate if self.exact is None else self.exact) ** self.n_hidden)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {**vars(self), "layer": self.layer}

    def __str__(self) -> str:
        exact = "no closed form" if self.exact is None else f"exact {self.exact:.6g}"
        return (
            f"one unit asleep: {self.estimate:.6g} +- {self.standard_error:.1g} ({exact}, "
            f"2^-T = {self.heuristic:.3g}); all {self.n_hidden}: {self.layer:.3g}"
        )


def degenerate_probability(
    X: ArrayLike, n_hidden: int, *, n_draws: int = 100_000, seed: int | None = 0
) -> DegenerateProbability:
    """Estimate the probability that random Gaussian weights make a ReLU layer dead at all samples.

    For one unit it is the share of directions w with ``w . x < 0`` for all samples, a cone. One or
    two inputs, up to three samples, and orthogonal samples have a closed form.

    Parameters
    ----------
    X : array_like, shape (T, n_0)
        Samples, none of them zero; no biases.
    n_hidden : int
    n_draws : int
    seed : int, optional

    Raises
    ------
    ValueError
        If X has a wrong shape, is not finite or holds a zero sample, or a count is below 1.
    """
    samples = as_real("X", X)
    if samples.ndim != 2 or samples.size == 0:
        raise ValueError(f"X must have shape (T, n_0), got {samples.shape}")
    check_finite("X", samples)
    if n_hidden < 1 or n_draws < 1:
        raise ValueError(f"n_hidden and n_draws must be at least 1, got {n_hidden}, {n_draws}")
    lengths = np.linalg.norm(samples, axis=1)
    if (lengths == 0.0).any():
        raise ValueError(f"X[{int(np.argmin(lengths))}] is zero: no weight makes it negative")
    units = samples / lengths[:, None]
    rng = np.random.default_rng(seed)
    hits, done = 0, 0
    step = max(1, DRAWS_AT_ONCE // (units.size + len(units)))
    while done < n_draws:
        count = min(step, n_draws - done)
        draws = rng.standard_normal((count, units.shape[1]))
        hits += int(np.count_nonzero((draws @ units.T < 0.0).all(axis=1)))
        done += count
    share = hits / n_draws
    error = float(np.sqrt(max(share * (1.0 - share), 1.0 / n_draws) / n_draws))
    return DegenerateProbability(
        share, error, _cone_share(units), int(n_hidden), 2.0 ** -len(units)
    )


def _cone_share(units: FloatArray) -> float | None:
    """Return the share of directions that make an obtuse angle with all unit vectors."""
    T, n = units.shape
    cosines = np.clip(units @ units.T, -1.0, 1.0)
    if n == 1:
        return 0.5 if np.ptp(units) == 0.0 else 0.0
    if n == 2:
        # The samples fit into a half-plane if their largest gap exceeds pi.
        angles = np.sort(np.arctan2(units[:, 1], units[:, 0]))
        gaps = np.diff(np.concatenate([angles, [angles[0] + 2.0 * np.pi]]))
        return float(max(gaps.max() - np.pi, 0.0) / (2.0 * np.pi))
    if T <= 3:
        between = np.arccos(cosines[np.triu_indices(T, 1)])
        if T == 3:
            return float((2.0 * np.pi - between.sum()) / (4.0 * np.pi))
        return float((np.pi - between.sum()) / (2.0 * np.pi)) if T == 2 else 0.5
    orthogonal = bool(np.abs(cosines - np.eye(T)).max() <= 1e-14)
    return float(2.0**-T) if orthogonal else None
