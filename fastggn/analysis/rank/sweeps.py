"""The rank of P(W) along training, over random weights, and over widths and sample counts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastggn.analysis.rank.report import table
from fastggn.analysis.rank.spectrum import Rank, rank_of
from fastggn.errors import check_positive
from fastggn.network import MLP
from fastggn.parallel.threads import threads
from fastggn.problem import Problem

__all__ = [
    "RankPhase",
    "RankSweep",
    "RankTrace",
    "rank_over_training",
    "rank_over_weights",
    "rank_phase",
]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RankSweep:
    """Ranks of P(W) at several weights of one problem.

    Attributes
    ----------
    label : str
        What the points are: "iteration" or "draw".
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
        """How often each rank was met."""
        return dict(sorted(Counter(r.rank for r in self.ranks).items()))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "label": self.label,
            "points": list(self.points),
            "ranks": [r.to_dict() for r in self.ranks],
            "losses": list(self.losses),
            "largest_rank": self.largest_rank,
        }

    def plot(self) -> Any:
        """Return a matplotlib figure of rank and loss at each point."""
        from fastggn.plotting.spectra import plot_ranks

        return plot_ranks(self)

    def __str__(self) -> str:
        """Return a table for the terminal."""
        rows = [(self.label, "rank", "of at most", "gap", "loss")]
        for point, r, loss in zip(self.points, self.ranks, self.losses, strict=True):
            cells = (str(point), str(r.rank), str(self.largest_rank), f"{r.gap:.3g}", f"{loss:.6g}")
            rows.append(cells)
        return "\n".join(table(rows))


def rank_over_training(
    problem: Problem, thetas: Iterable[ArrayLike], *, iterations: Sequence[int] | None = None
) -> RankSweep:
    """Return the rank of P(W) at each of the weights that a training run went through.

    Parameters
    ----------
    problem : Problem
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
    ranks, losses = [], []
    for theta in thetas:
        ranks.append(_rank(problem, np.asarray(theta, dtype=np.float64)))
        losses.append(problem.loss(theta))
    if not ranks:
        raise ValueError("thetas is empty")
    points = tuple(range(len(ranks))) if iterations is None else tuple(int(k) for k in iterations)
    if len(points) != len(ranks):
        raise ValueError(f"iterations must hold {len(ranks)} numbers, got {len(points)}")
    return RankSweep("iteration", points, tuple(ranks), tuple(losses), _largest(problem))


class RankTrace:
    """A callback of `train` that follows the rank of P(W).

    Parameters
    ----------
    problem : Problem
        What is trained.
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

    def __init__(self, problem: Problem, every: int = 1) -> None:
        if every < 1:
            raise ValueError(f"every must be at least 1, got {every}")
        self._problem = problem
        self._every = every
        self._theta: FloatArray | None = None
        self._points: list[int] = []
        self._ranks: list[Rank] = []
        self._losses: list[float] = []

    def see(self, theta: FloatArray) -> None:
        """Keep the weights of the iteration that the next record tells of."""
        self._theta = theta

    def __call__(self, record: Any) -> None:
        """Measure the rank after an iteration."""
        if record.iteration % self._every or self._theta is None:
            return
        self._points.append(record.iteration)
        self._ranks.append(_rank(self._problem, self._theta))
        self._losses.append(record.loss)

    def sweep(self) -> RankSweep:
        """Return what was measured so far."""
        return RankSweep(
            "iteration",
            tuple(self._points),
            tuple(self._ranks),
            tuple(self._losses),
            _largest(self._problem),
        )


def rank_over_weights(
    problem: Problem, n_draws: int, seed: int = 0, *, scheme: str = "normal", scale: float = 1.0
) -> RankSweep:
    """Return the rank of P(W) at random weights.

    Parameters
    ----------
    problem : Problem
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
    rng = np.random.default_rng(seed)
    ranks, losses = [], []
    for _ in range(n_draws):
        theta = problem.network.init(rng, scheme, scale)
        ranks.append(_rank(problem, theta))
        losses.append(problem.loss(theta))
    points = tuple(range(n_draws))
    return RankSweep("draw", points, tuple(ranks), tuple(losses), _largest(problem))


def _largest(problem: Problem) -> int:
    return min(problem.n_params, problem.n_samples * problem.n_outputs)


def _rank(problem: Problem, theta: FloatArray) -> Rank:
    jacobian = problem.jacobian(theta)
    rows, columns = jacobian.shape
    return rank_of(jacobian.singular_values(), (rows, columns))


@dataclass(frozen=True, eq=False)
class RankPhase:
    """Ranks of P(W) over the number of samples and a family of networks.

    Attributes
    ----------
    sizes : tuple of int
        The parameter of the family, a hidden width as a rule.
    samples : tuple of int
        T.
    n_params : tuple of int
        N of each network.
    n_outputs : int
    ranks : ndarray of int, shape (len(samples), len(sizes), draws)
    largest_rank : ndarray of int, shape (len(samples), len(sizes))
        min(N, T n_L).
    labels : dict
        Activation, scheme and scale.
    """

    sizes: tuple[int, ...]
    samples: tuple[int, ...]
    n_params: tuple[int, ...]
    n_outputs: int
    ranks: NDArray[np.int64]
    largest_rank: NDArray[np.int64]
    labels: dict[str, Any] = field(default_factory=dict)

    @property
    def share(self) -> FloatArray:
        """Mean over the draws of rank / min(N, T n_L), shape (len(samples), len(sizes))."""
        return np.asarray(self.ranks.mean(axis=2) / self.largest_rank)

    @property
    def full_column_rank(self) -> FloatArray:
        """Share of the draws with rank T n_L, shape (len(samples), len(sizes))."""
        columns = self.n_outputs * np.array(self.samples)[:, None, None]
        return np.asarray((self.ranks == columns).mean(axis=2))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "sizes": list(self.sizes),
            "samples": list(self.samples),
            "n_params": list(self.n_params),
            "n_outputs": self.n_outputs,
            "ranks": self.ranks.tolist(),
            "largest_rank": self.largest_rank.tolist(),
            "labels": self.labels,
        }

    def plot(self) -> Any:
        """Return a matplotlib figure: rank over (T, width), with N = T n_L drawn in."""
        from fastggn.plotting.phase import plot_phase

        return plot_phase([self])

    def __str__(self) -> str:
        """Return a table of the median ranks, networks across and samples down."""
        median = np.median(self.ranks, axis=2)
        rows = [
            (
                "T \\ width (N)",
                *(f"{s} ({n})" for s, n in zip(self.sizes, self.n_params, strict=True)),
            )
        ]
        for T, line in zip(self.samples, median, strict=True):
            rows.append((str(T), *(f"{rank:g}" for rank in line)))
        return "\n".join(table(rows))


@dataclass(frozen=True)
class _Case:
    """One cell of a phase diagram, as it travels to another process."""

    widths: tuple[int, ...]
    T: int
    n_draws: int
    seed: tuple[int, ...]
    options: dict[str, Any]
    one_thread: bool


def _run_case(case: _Case) -> list[int]:
    """Return the ranks of all draws of a cell, at inputs uniform in [-1, 1]."""
    options = case.options
    net = MLP(case.widths, options["activation"], options["output_activation"], options["bias"])
    rng = np.random.default_rng(case.seed)
    X = rng.uniform(-1.0, 1.0, (case.T, case.widths[0]))
    problem = Problem(net, X, np.zeros((case.T, case.widths[-1])))
    with threads(1 if case.one_thread else None):
        thetas = (net.init(rng, options["scheme"], options["scale"]) for _ in range(case.n_draws))
        return [_rank(problem, theta).rank for theta in thetas]


def rank_phase(
    family: Callable[[int], Sequence[int]] | Sequence[int | None],
    sizes: Sequence[int],
    T_values: Sequence[int],
    *,
    n_draws: int = 5,
    seed: int = 0,
    activation: str = "tanh",
    output_activation: str = "identity",
    bias: str = "free",
    scheme: str = "normal",
    scale: float = 1.0,
    n_jobs: int = 1,
    report: Callable[[str], None] | None = None,
) -> RankPhase:
    """Return the rank of P(W) at random weights, over widths and numbers of samples.

    Inputs are uniform in [-1, 1]; every cell has its own stream of random numbers.

    Parameters
    ----------
    family : callable, or sequence of int and None
        Maps a size to the widths n_0..n_L; or the widths with None where the size goes:
        ``(2, None, 1)``.
    sizes, T_values : sequence of int
    n_draws, seed : int
        Weights a cell.
    activation, output_activation, bias, scheme, scale
        As in `MLP` and `MLP.init`.
    n_jobs : int
        Processes, of one thread each. Cells are small, so that threads inside one would not pay;
        a process takes seconds to start, so that few cells are best run in this one
        (``n_jobs=1``). Processes are spawned: a script needs ``if __name__ == "__main__"``.
    report : callable, optional
        Called with a line of text now and then.

    Raises
    ------
    ValueError
        If a sequence is empty, a number is below 1, or the networks' outputs differ in number.
    """
    networks = [_widths(family, size) for size in sizes]
    for name, numbers in (("sizes", sizes), ("T_values", T_values)):
        if not len(numbers) or min(numbers) < 1:
            raise ValueError(f"{name} must hold positive integers, got {list(numbers)}")
    for name, number in (("n_draws", n_draws), ("n_jobs", n_jobs)):
        if number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}")
    outputs = {widths[-1] for widths in networks}
    if len(outputs) != 1:
        raise ValueError(f"the networks must have one number of outputs, got {sorted(outputs)}")
    options = {
        "activation": activation,
        "output_activation": output_activation,
        "bias": bias,
        "scheme": scheme,
        "scale": check_positive("scale", scale),
    }
    n_params = [MLP(w, activation, output_activation, bias).n_params for w in networks]
    cases = [
        _Case(widths, int(T), n_draws, (seed, int(T), k), options, n_jobs > 1)
        for T in T_values
        for k, widths in enumerate(networks)
    ]
    ranks = np.array(_run_all(cases, n_jobs, report), dtype=np.int64)
    (n_outputs,) = outputs
    columns = n_outputs * np.array(T_values, dtype=np.int64)[:, None]
    return RankPhase(
        sizes=tuple(int(s) for s in sizes),
        samples=tuple(int(T) for T in T_values),
        n_params=tuple(n_params),
        n_outputs=n_outputs,
        ranks=ranks.reshape(len(T_values), len(networks), n_draws),
        largest_rank=np.minimum(columns, np.array(n_params, dtype=np.int64)),
        labels=options,
    )


def _widths(
    family: Callable[[int], Sequence[int]] | Sequence[int | None], size: int
) -> tuple[int, ...]:
    if callable(family):
        return tuple(int(w) for w in family(size))
    return tuple(int(size if w is None else w) for w in family)


def _run_all(
    cases: list[_Case], n_jobs: int, report: Callable[[str], None] | None
) -> list[list[int]]:
    done: list[list[int]] = []
    if n_jobs == 1:
        results = map(_run_case, cases)
        _collect(results, done, len(cases), report)
        return done
    with ProcessPoolExecutor(n_jobs, mp_context=get_context("spawn")) as pool:
        chunk = max(1, len(cases) // (8 * n_jobs))
        _collect(pool.map(_run_case, cases, chunksize=chunk), done, len(cases), report)
    return done


def _collect(
    results: Iterable[list[int]],
    done: list[list[int]],
    count: int,
    report: Callable[[str], None] | None,
) -> None:
    for result in results:
        done.append(result)
        if report is not None and len(done) % max(1, count // 10) == 0:
            report(f"{len(done)} of {count} cells")
