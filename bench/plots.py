"""The pictures of docs/performance.md: cost against T and N, and the scaling with threads."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import fastggn as fg
from bench import assembly, peers, products
from bench.cases import Case, random_case
from bench.core import SMOKE, Absent, Pair, Side, compete
from fastggn.kernels.cholesky import cholesky
from fastggn.objective.ggn_tiles import panel_costs
from fastggn.runtime.threads import max_threads, one_pool

__all__ = ["draw"]

OURS, PEER, MODEL = "#1f77b4", "#7f7f7f", "#d62728"


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise Absent("matplotlib is not installed") from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def _figure(pyplot: Any, title: str, x: str, y: str) -> tuple[Any, Any]:
    figure, axes = pyplot.subplots(figsize=(6.0, 4.0), layout="constrained")
    axes.set(title=title, xlabel=x, ylabel=y)
    axes.grid(True, which="major", alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _save(pyplot: Any, figure: Any, path: Path) -> None:
    figure.savefig(path, dpi=120, metadata={"Software": None})
    pyplot.close(figure)


def cost_samples(pyplot: Any, folder: Path, size: str) -> None:
    """Draw the seconds of an assembly against T, and the straight line through the last."""
    counts, seconds = np.array(products.samples_cost(size)).T
    widths = ",".join(map(str, products.WIDTHS))
    figure, axes = _figure(pyplot, f"Assembly of G, F({widths})", "samples T", "seconds")
    axes.loglog(counts, seconds, "o-", color=OURS, label="measured")
    axes.loglog(counts, seconds[-1] / counts[-1] * counts, "--", color=PEER, label="proportional")
    axes.legend(frameon=False)
    _save(pyplot, figure, folder / "cost_T.png")


def _sized(width: int, n_samples: int) -> Case:
    widths = (10, width, width, 4)
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(n_samples, 10)), rng.normal(size=(n_samples, 4))
    return Case(widths, X, Y, fg.MLP(widths, "tanh").init(seed=0))


def cost_parameters(pyplot: Any, folder: Path, size: str) -> None:
    """Draw the seconds of an assembly against N, beside dsyrk and beside the flop model."""
    sizes = (4, 6) if size == SMOKE else (8, 12, 16, 24, 32, 48, 64)
    n_samples = 100 if size == SMOKE else 2000
    found = []
    for width in sizes:
        case = _sized(width, n_samples)
        rows = assembly.stacked_rows(case)
        pair = Pair(
            Side("fastggn", assembly.assembly(case), threads=peers.THREADS),
            Side("dsyrk", lambda rows=rows: peers.dsyrk(rows)),
            lambda: 0.0,
            0.0,
            rounds=3,
        )
        outcome = compete(pair, 1 if size == SMOKE else None)
        assert outcome.ours is not None and outcome.peer is not None
        flops = 2.0 * n_samples * min(panel_costs(fg.MLP(case.widths), 4, plain_output=True))
        found.append((rows.shape[1], outcome.ours.median, outcome.peer.median, flops))
    orders, ours, theirs, flops = (np.array(column) for column in zip(*found, strict=True))
    rate = np.exp(np.mean(np.log(flops / ours)))
    title = f"Assembly of G, F(10,n,n,4), T={n_samples}"
    figure, axes = _figure(pyplot, title, "parameters N", "seconds")
    axes.loglog(orders, theirs, "s-", color=PEER, label="dsyrk on a ready J")
    axes.loglog(orders, ours, "o-", color=OURS, label="fastggn, all included")
    label = f"flop model at {rate / 1e9:.0f} GFLOP/s"
    axes.loglog(orders, flops / rate, "--", color=MODEL, label=label)
    # Labels at what was measured: those of a logarithmic axis this short run into each other.
    axes.set_xticks(orders, [str(order) for order in orders])
    axes.set_xticks([], minor=True)
    axes.legend(frameon=False)
    _save(pyplot, figure, folder / "cost_N.png")


def _jobs(size: str) -> dict[str, Callable[[], Any]]:
    """Return the calls whose scaling with threads is drawn."""
    digits, multi = random_case("digits", size), random_case("multi-products", size)
    wide = random_case("wide", size)
    jacobian = multi.problem().jacobian(multi.theta)
    u, v = np.ones(jacobian.shape[0]), np.ones(jacobian.shape[1])
    root = np.random.default_rng(0).normal(size=(100 if size == SMOKE else 3000, 32))
    matrix = root @ root.T + len(root) * np.eye(len(root))
    fresh, wide_problem = peers.cholesky_setup(matrix), wide.problem()

    def factor() -> None:
        with one_pool():
            cholesky(fresh())

    return {
        "G": assembly.assembly(digits),
        "J v": lambda: jacobian @ v,
        "J$^T$u": lambda: jacobian.T @ u,
        "dual Gram": lambda: wide_problem.dual_gram(wide.theta),
        "Cholesky": factor,
    }


def thread_scaling(pyplot: Any, folder: Path, size: str) -> None:
    """Draw the speed on 1, 2, 4... threads over that on one."""
    limit = min(max_threads(), os.cpu_count() or 1)
    counts = [n for n in (1, 2, 4, 8, 16) if n <= limit]
    title = f"Speed over one thread, {limit} cores"
    figure, axes = _figure(pyplot, title, "", "ratio")
    rounds = 1 if size == SMOKE else 5
    jobs = _jobs(size)
    gains = np.array([_gains(name, call, counts, rounds) for name, call in jobs.items()])
    width = 0.8 / len(counts)
    for k, n in enumerate(counts):
        places = np.arange(len(jobs)) + (k - (len(counts) - 1) / 2) * width
        shade = str(0.8 - 0.6 * k / max(1, len(counts) - 1))
        axes.bar(places, gains[:, k], 0.9 * width, color=shade, label=f"{n} thread{'s' * (n > 1)}")
        axes.axhline(n, color=PEER, linestyle="--", linewidth=0.8)
    axes.set_xticks(np.arange(len(jobs)), list(jobs))
    axes.set_ylim(0.0, 1.25 * max(counts))  # room for the legend above the bars
    axes.legend(frameon=True, loc="upper center", ncols=len(counts), title="dashed: ideal")
    _save(pyplot, figure, folder / "threads.png")


def _gains(name: str, call: Callable[[], Any], counts: list[int], rounds: int) -> list[float]:
    """Return the speed of a call on so many threads over that on the first count."""
    best = {n: np.inf for n in counts}
    for n in counts:
        Side(name, call, threads=n).turn(1)
    for _ in range(rounds):
        for n in counts:
            best[n] = min(best[n], *Side(name, call, threads=n).turn(2))
    return [best[counts[0]] / best[n] for n in counts]


def draw(folder: Path, size: str) -> str | None:
    """Draw all pictures into a folder; return why none was drawn, or None."""
    try:
        pyplot = _pyplot()
    except Absent as reason:
        return str(reason)
    folder.mkdir(parents=True, exist_ok=True)
    for picture in (cost_samples, cost_parameters, thread_scaling):
        picture(pyplot, folder, size)
    return None
