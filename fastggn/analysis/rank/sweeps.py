"""The rank of P(W) along training and over random weights."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from fastggn.analysis.plain import plain
from fastggn.analysis.rank.report import table
from fastggn.analysis.rank.spectrum import FloatArray, Rank, rank_of
from fastggn.objective.kinds import AnyProblem, as_problem
from fastggn.objective.problem import Problem


@dataclass(frozen=True, eq=False)
class RankSweep:
    """Ranks of P(W) at several weights of one problem.

    Attributes
    ----------
    label : str
        Kind of the points: "iteration" or "draw".
    points : tuple of int
    ranks : tuple of Rank
    losses : tuple of float
        The objective at each point.
    largest_rank : int
        min(N, T n_L).
    """

    label: str
    points: tuple[int, ...]
    ranks: tuple[Rank, ...]
    losses: tuple[float, ...]
    largest_rank: int

    @property
    def counts(self) -> dict[int, int]:
        """Number of points with each rank."""
        return dict(sorted(Counter(r.rank for r in self.ranks).items()))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return plain(self)

    def plot(self) -> Any:
        """Return a matplotlib figure of rank and loss at each point."""
        from fastggn.figures.spectra import plot_ranks

        return plot_ranks(self)

    def __str__(self) -> str:
        rows = [(self.label, "rank", "of at most", "gap", "loss")]
        for point, r, loss in zip(self.points, self.ranks, self.losses, strict=True):
            cells = (str(point), str(r.rank), str(self.largest_rank), f"{r.gap:.3g}", f"{loss:.6g}")
            rows.append(cells)
        return "\n".join(table(rows))


def rank_over_training(
    problem: AnyProblem, thetas: Iterable[ArrayLike], *, iterations: Sequence[int] | None = None
) -> RankSweep:
    """Return the rank of P(W) at each of the weights of a training run.

    Parameters
    ----------
    problem : Problem or ResidualProblem
    thetas : iterable of array_like, shapes (N,)
        Read one at a time.
    iterations : sequence of int, optional
        Their iterations; 0, 1, 2, ... by default.

    Raises
    ------
    ValueError
        If there are no weights, one has a wrong shape, or `iterations` has another length.

    Examples
    --------
    >>> import fastggn as fg
    >>> from fastggn import analysis
    >>> X, Y = fg.data.xor()
    >>> problem = fg.Problem(fg.MLP((2, 2, 1)), X, Y)
    >>> thetas = [problem.network.init(seed=k) for k in range(3)]
    >>> analysis.rank_over_training(problem, thetas, iterations=[0, 10, 20]).points
    (0, 10, 20)
    """
    problem = as_problem(problem)
    ranks, losses = _measured(problem, thetas)
    if not ranks:
        raise ValueError("thetas is empty")
    points = tuple(range(len(ranks))) if iterations is None else tuple(int(k) for k in iterations)
    if len(points) != len(ranks):
        raise ValueError(f"iterations must hold {len(ranks)} numbers, got {len(points)}")
    return RankSweep("iteration", points, ranks, losses, _largest(problem))


class RankTrace:
    """A callback of `train` that follows the rank of P(W).

    Parameters
    ----------
    problem : Problem or ResidualProblem
        The problem in training.
    every : int
        Iterations between two ranks; each costs about 2 T n_L N^2 operations.

    Raises
    ------
    ValueError
        If `every` is below 1.

    Examples
    --------
    >>> import fastggn as fg
    >>> from fastggn import analysis
    >>> X, Y = fg.data.xor()
    >>> problem = fg.Problem(fg.MLP((2, 2, 1)), X, Y)
    >>> trace = analysis.RankTrace(problem)
    >>> result = fg.train(problem, seed=0, max_iter=4, callbacks=[trace])
    >>> trace.sweep().points
    (1, 2, 3, 4)
    """

    def __init__(self, problem: AnyProblem, every: int = 1) -> None:
        if every < 1:
            raise ValueError(f"every must be at least 1, got {every}")
        self._problem = as_problem(problem)
        self._every = every
        self._points: list[int] = []
        self._ranks: list[Rank] = []
        self._losses: list[float] = []

    def __call__(self, record: Any) -> None:
        """Measure the rank after an iteration."""
        if record.iteration % self._every:
            return
        self._points.append(record.iteration)
        self._ranks.append(rank_at(self._problem, record.theta))
        self._losses.append(record.loss)

    def sweep(self) -> RankSweep:
        """Return the ranks so far."""
        points, ranks, losses = tuple(self._points), tuple(self._ranks), tuple(self._losses)
        return RankSweep("iteration", points, ranks, losses, _largest(self._problem))


def rank_over_weights(
    problem: AnyProblem, n_draws: int, seed: int = 0, *, scheme: str = "normal", scale: float = 1.0
) -> RankSweep:
    """Return the rank of P(W) at random weights.

    Parameters
    ----------
    problem : Problem or ResidualProblem
    n_draws : int
    seed : int
    scheme, scale : str, float
        As in `MLP.init`.

    Raises
    ------
    ValueError
        If `n_draws` is below 1, or scheme or scale are refused by `MLP.init`.
    """
    if n_draws < 1:
        raise ValueError(f"n_draws must be at least 1, got {n_draws}")
    problem = as_problem(problem)
    rng, net = np.random.default_rng(seed), problem.network
    starts = problem.init(0)[net.n_params :]  # the coefficients of equations stay there
    draws = (np.concatenate([net.init(rng, scheme, scale), starts]) for _ in range(n_draws))
    ranks, losses = _measured(problem, draws)
    return RankSweep("draw", tuple(range(n_draws)), ranks, losses, _largest(problem))


def _measured(
    problem: Problem, thetas: Iterable[ArrayLike]
) -> tuple[tuple[Rank, ...], tuple[float, ...]]:
    found = [(rank_at(problem, np.asarray(t, np.float64)), problem.loss(t)) for t in thetas]
    return tuple(rank for rank, _ in found), tuple(loss for _, loss in found)


def _largest(problem: Problem) -> int:
    return min(problem.n_params, problem.n_rows)


def rank_at(problem: Problem, theta: FloatArray) -> Rank:
    """Return the rank of P(W) at theta, shape (N,)."""
    jacobian = problem.jacobian(theta)
    rows, columns = jacobian.shape
    error = jacobian.entry_errors().norm
    return rank_of(jacobian.singular_values(), (rows, columns), entry_error=error)
