"""The reduction of a randomly gated network to a linear one (Kawaguchi 2016, Corollary 3.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastggn.analysis.linear.regression import Regression, check_weights
from fastggn.network.mlp import MLP
from fastggn.objective.problem import Problem
from fastggn.runtime.errors import as_real

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class GatedReduction:
    """A Monte-Carlo estimate of the outputs of a network with random gates.

    Attributes
    ----------
    path_probability : float
        ``rho^H`` (``rho^(H+1)`` with gated outputs): a path is active if all its units are.
    q : float
        The normalisation, 1 over `path_probability`; the paper's ``1 / rho`` takes rho for the
        probability of a path.
    mean_error : float
        Largest distance of the mean of q Yhat from the linear network's output, in standard
        errors of its estimate.
    loss_of_mean : float
        ``|E q Yhat - Y|^2 / 2``, what the corollary is about, with the exact expectation: the
        linear network's loss.
    estimated_loss_of_mean : float
        The same with the mean over the draws, less the variance of that mean.
    mean_loss : float
        ``E |q Yhat - Y|^2 / 2``, what training with random gates would minimise: larger by half
        the variance.
    variance : float
        Sum over samples and outputs of the variance of q Yhat.
    n_draws : int
    """

    path_probability: float
    q: float
    mean_error: float
    loss_of_mean: float
    estimated_loss_of_mean: float
    mean_loss: float
    variance: float
    n_draws: int

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return dict(vars(self))

    def __str__(self) -> str:
        """Return a few lines."""
        return (
            f"path probability {self.path_probability:.4g}, q = {self.q:.4g}; the mean of q Yhat "
            f"is the linear output within {self.mean_error:.2f} standard errors\n"
            f"loss of the mean {self.loss_of_mean:.6g} (estimated "
            f"{self.estimated_loss_of_mean:.6g}), mean loss {self.mean_loss:.6g}: half the "
            f"variance {self.variance:.6g} lies between them"
        )


def gated_reduction(
    weights: Sequence[ArrayLike],
    X: ArrayLike,
    Y: ArrayLike,
    rho: float,
    *,
    gate_output: bool = False,
    n_draws: int = 2000,
    seed: int | None = 0,
) -> GatedReduction:
    """Estimate expectations of a network whose units are active at random.

    Every hidden unit is active with probability rho, independently for units, samples and draws
    (the assumptions A1p-m and A5u-m). The corollary reduces ``|E Yhat - Y|^2 / 2`` to the loss of
    the linear network. It says nothing of the mean loss, nor of a trained ReLU network, whose
    gates depend on weights and samples.

    Parameters
    ----------
    weights : sequence of array_like, shapes (d_k, d_{k-1})
    X : array_like, shape (T, d_x)
    Y : array_like, shape (T, d_y), or (T,)
    rho : float
        In (0, 1].
    gate_output : bool
        Whether output units are gated too.
    n_draws : int
        At least 2.
    seed : int, optional

    Raises
    ------
    TypeError, ValueError
        If an argument is not valid.
    """
    if not 0.0 < rho <= 1.0:
        raise ValueError(f"rho must be in (0, 1], got {rho}")
    if n_draws < 2:
        raise ValueError(f"n_draws must be at least 2, got {n_draws}")
    data = Regression(X, Y)
    matrices = check_weights(weights, data)
    targets = as_real("Y", Y).reshape(data.n_samples, data.d_y)
    rng = np.random.default_rng(seed)
    gated = len(matrices) - 1 + int(gate_output)
    q = float(rho) ** -gated
    outputs = q * _draw(matrices, as_real("X", X), rho, gate_output, n_draws, rng)
    linear = as_real("X", X)
    for w in matrices:
        linear = linear @ w.T
    mean, variance = outputs.mean(axis=0), outputs.var(axis=0, ddof=1)
    error = np.sqrt(variance / n_draws)
    distance = np.abs(mean - linear) / np.maximum(error, 1e-300)
    distance[np.abs(mean - linear) <= 1e-12 * (1.0 + np.abs(linear))] = 0.0
    total = float(variance.sum())
    return GatedReduction(
        path_probability=1.0 / q,
        q=q,
        mean_error=float(distance.max()),
        loss_of_mean=0.5 * float(np.sum((linear - targets) ** 2)),
        estimated_loss_of_mean=0.5 * (float(np.sum((mean - targets) ** 2)) - total / n_draws),
        mean_loss=0.5 * float(np.sum((outputs - targets) ** 2)) / n_draws,
        variance=total,
        n_draws=n_draws,
    )


def _draw(
    matrices: Sequence[FloatArray],
    X: FloatArray,
    rho: float,
    gate_output: bool,
    n_draws: int,
    rng: np.random.Generator,
) -> FloatArray:
    """Return the outputs of all draws, shape (n_draws, T, d_y), from one gated problem."""
    T = X.shape[0]
    rows = np.tile(X, (n_draws, 1))
    widths = (X.shape[1], *(w.shape[0] for w in matrices))
    gates = [rng.random((T * n_draws, d)) < rho for d in widths[1:-1]]
    net = MLP(widths, activation="relu", bias="none")
    problem = Problem(net, rows, np.zeros((T * n_draws, widths[-1])), gates=gates)
    outputs = problem.outputs(net.pack(matrices))
    if gate_output:
        outputs = outputs * (rng.random(outputs.shape) < rho)
    return np.asarray(outputs.reshape(n_draws, T, -1))
