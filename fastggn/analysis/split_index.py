"""The index of a split critical point along the line of its outgoing weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastggn.analysis.magnitudes import finite
from fastggn.analysis.symmetry import split_unit
from fastggn.network.mlp import MLP
from fastggn.objective.kinds import check_samples
from fastggn.objective.problem import Problem
from fastggn.runtime.comm import comm_of, require_serial
from fastggn.runtime.errors import as_real, check_finite
from fastggn.training.step import norm

FloatArray = NDArray[np.float64]
GAMMAS = (-1.0, -0.5, 0.0, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0)
EPS = float(np.finfo(np.float64).eps)


@dataclass(frozen=True, eq=False)
class SplitIndex:
    """Eigenvalues of the Hessian along the line (gamma a, (1 - gamma) a).

    Attributes
    ----------
    gammas : ndarray, shape (K,)
    eigenvalues : ndarray, shape (K, N), ascending
    bounds : ndarray, shape (K,)
        Their rounding errors, 8 N eps |H|.
    gradient_norms, losses : ndarray, shape (K,)
    """

    gammas: FloatArray
    eigenvalues: FloatArray
    bounds: FloatArray
    gradient_norms: FloatArray
    losses: FloatArray

    @property
    def inertias(self) -> NDArray[np.int64]:
        """Numbers of positive, zero and negative eigenvalues, shape (K, 3)."""
        zero = np.abs(self.eigenvalues) <= self.bounds[:, None]
        signs = np.where(zero, 0.0, np.sign(self.eigenvalues))
        return np.stack([(signs == sign).sum(axis=1) for sign in (1.0, 0.0, -1.0)], axis=1)

    def plot(self) -> Any:
        """Return a matplotlib figure of the lowest eigenvalues, with the negative ones counted."""
        from fastggn.figures.critical import plot_split_index

        return plot_split_index(self)

    def __str__(self) -> str:
        lines = ["  gamma  positive  zero  negative        lowest  |gradient|"]
        columns = self.gammas, self.inertias, self.eigenvalues[:, 0], self.gradient_norms
        for gamma, (plus, zero, minus), lowest, slope in zip(*columns, strict=True):
            lines.append(
                f"{gamma:7.3g}  {plus:8d}  {zero:4d}  {minus:8d}  {lowest:12.4e}  {slope:10.1e}"
            )
        return "\n".join(lines)


def index_along_gamma(
    problem: Problem, theta: ArrayLike, layer: int, unit: int, gammas: Sequence[float] = GAMMAS
) -> SplitIndex:
    """Split a unit of a critical point with many shares, and count negative eigenvalues.

    Parameters
    ----------
    problem : Problem
        Of the narrower network.
    theta : array_like, shape (N,)
        Its critical point; the gradients of the wider network are reported.
    layer, unit : int
        The unit that is split, as in `split_unit`.
    gammas : sequence of float
        Shares of the outgoing weights that the first copy keeps.

    Returns
    -------
    SplitIndex

    Raises
    ------
    TypeError
        If `problem` has equations.
    ValueError
        If there is no such unit, or a share is not finite.
    """
    instead = "make the equations again with the network of split_unit, and ask critical_point"
    check_samples(problem, "index_along_gamma", instead)
    require_serial(comm_of(problem), "index_along_gamma")
    shares = np.atleast_1d(as_real("gammas", gammas))
    check_finite("gammas", shares)
    values, bounds, slopes, losses = [], [], [], []
    for gamma in shares:
        net, wide = split_unit(problem.network, theta, layer, unit, float(gamma))
        wider = _on(net, problem)
        spectrum = np.linalg.eigvalsh(finite(wider.hessian(wide), "the Hessian"))
        values.append(spectrum)
        bounds.append(8.0 * spectrum.size * EPS * float(np.abs(spectrum).max()))
        slopes.append(norm(wider.gradient(wide)))
        losses.append(wider.loss(wide))
    return SplitIndex(shares, *(np.array(part) for part in (values, bounds, slopes, losses)))


def _on(net: MLP, problem: Problem) -> Problem:
    """Return the problem with another network."""
    X, _ = problem.read_samples(0, problem.n_samples)
    return Problem(
        net,
        X,
        problem.targets,
        problem.loss_function,
        sample_weight=problem.relative_weights,
        l2=problem.l2,
        penalize_biases=problem.penalize_biases,
    )
