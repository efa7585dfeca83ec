"""The rank of P(W) over widths and numbers of samples: a phase diagram."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.analysis.rank.report import table
from fastggn.analysis.rank.sweeps import rank_at
from fastggn.figures.style import new_figure
from fastggn.network.mlp import MLP
from fastggn.objective.problem import Problem
from fastggn.runtime.errors import check_positive
from fastggn.runtime.threads import threads

FloatArray = NDArray[np.float64]


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
    def column_share(self) -> FloatArray:
        """Mean over the draws of rank / (T n_L), shape (len(samples), len(sizes))."""
        columns = self.n_outputs * np.array(self.samples)[:, None]
        return np.asarray(self.ranks.mean(axis=2) / columns)

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
        return [rank_at(problem, theta).rank for theta in thetas]


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


def plot_phase(phases: Sequence[RankPhase], titles: Sequence[str] = ()) -> Any:
    """Draw rank / (T n_L) over (width, T), one panel a phase, with N = T n_L drawn in.

    White is full column rank, which Shen's Proposition 1 (2018) asks for; it is impossible above
    the line.

    Parameters
    ----------
    phases : sequence of RankPhase
    titles : sequence of str
        Of the panels; none by default.

    Returns
    -------
    matplotlib.figure.Figure
    """
    columns = 2 if len(phases) == 4 else len(phases)
    rows = -(-len(phases) // columns)
    figure, axes = new_figure(rows, columns, width=4.6, height=3.7)
    image = None
    for number, (ax, phase) in enumerate(zip(axes.flat, phases, strict=True)):
        image = _panel(ax, phase)
        if number % columns == 0:
            ax.set_ylabel("samples T")
        if number >= len(phases) - columns:
            ax.set_xlabel("units in the hidden layer")
        if number == 0:
            ax.legend(loc="upper left")
        if titles:
            ax.set_title(titles[number])
    figure.colorbar(image, ax=axes, label="rank of P(W) / (T n_L)")
    return figure


def _panel(ax: Any, phase: RankPhase) -> Any:
    """Draw one phase and return its image."""
    sizes, samples = np.array(phase.sizes), np.array(phase.samples)
    ax.grid(False)
    image = ax.pcolormesh(
        sizes, samples, phase.column_share, cmap="gray", vmin=0.0, vmax=1.0, shading="nearest"
    )
    boundary = np.array(phase.n_params) / phase.n_outputs
    # A white line below the black one: it must show on dark and on light.
    ax.plot(sizes, boundary, color="white", linewidth=4.0)
    ax.plot(sizes, boundary, color="black", linestyle="--", linewidth=1.5, label="N = T n_L")
    ax.set_ylim(samples[0] - _half(samples, 0), samples[-1] + _half(samples, -1))
    ax.set_xlim(sizes[0] - _half(sizes, 0), sizes[-1] + _half(sizes, -1))
    return image


def _half(numbers: Any, end: int) -> float:
    """Return half the distance of the first or last two numbers."""
    if len(numbers) < 2:
        return 0.5
    return 0.5 * abs(float(numbers[1] - numbers[0] if end == 0 else numbers[-1] - numbers[-2]))
