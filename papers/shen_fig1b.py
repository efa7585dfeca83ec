"""Shen 2018, Figure 1(b): final loss over 100 starts for five activations, by initial weights.

The paper does not say how the weights are drawn; the outcome hinges on it. Undamped minimum-norm
steps on F(2,20,1) and 20 samples of the four regions. Beside the final losses, each cell holds
what tells why: the condition number of the Jacobian at the start, the length of the first step,
and the rank of the Jacobian where a run got stuck.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.data.builtin import four_regions
from fastggn.figures.style import new_figure
from fastggn.network.mlp import MLP
from fastggn.objective.problem import Problem
from fastggn.training.control.stopping import Stop
from fastggn.training.methods.named import GaussNewton
from papers.runs import quiet, spread, train

DEFAULT: dict[str, Any] = {
    "seed": 0,
    "n_samples": 20,
    "widths": [2, 20, 1],
    "activations": ["sigmoid", "tanh", "softsign", "softplus", "bent_identity"],
    # Scheme of `MLP.init` and the factor on it. Nguyen and Widrow's is meant for inputs in (-1, 1);
    # with those in (-4, 4) the units start far in their tails, as with large normal weights.
    "inits": [["normal", 1.0], ["glorot", 1.0], ["normal", 10.0], ["nguyen_widrow", 1.0]],
    "alpha": 1.0,
    "starts": 100,
    "iterations": 100,
}
QUICK = {**DEFAULT, "inits": [["normal", 1.0], ["glorot", 1.0]], "starts": 10}

# An exact fit, whatever its rounding: the floor of the loss grows with the weights.
FIT = 1e-20
# Far from a fit: the run is stuck, or has run away.
STUCK = 1e-6
# What the paper's box plot is said to show of each activation.
PAPER = {
    "sigmoid": "stuck",
    "tanh": "stuck",
    "softsign": "good",
    "softplus": "good",
    "bent_identity": "good",
}
# A loss of exactly zero, and losses of runs that left every scale, are drawn at these ends.
LOWEST, HIGHEST = 1e-33, 1e6


def run(config: dict[str, Any], report: Callable[[str], None]) -> dict[str, Any]:
    """Return the final losses and the diagnostics of every activation and initialisation.

    Returns
    -------
    dict
        ``cells``: one dict for each pair (see `_cell`), initialisations outermost.
    """
    if config["starts"] < 1 or config["iterations"] < 1:
        raise ValueError("starts and iterations must be at least 1")
    tasks = [
        {**config, "activation": activation, "scheme": scheme, "scale": float(scale)}
        for scheme, scale in config["inits"]
        for activation in config["activations"]
    ]
    for task in tasks:  # unknown names are found here, before any process starts
        MLP(task["widths"], task["activation"]).init(0, task["scheme"], task["scale"])
    cells = spread(_cell, tasks, report, label=lambda t: f"{_label(t)}, {t['activation']}")
    return {
        "network": f"F({','.join(map(str, config['widths']))})",
        "n_samples": config["n_samples"],
        "iterations": config["iterations"],
        "inits": [_label({"scheme": s, "scale": f}) for s, f in config["inits"]],
        "activations": list(config["activations"]),
        "cells": cells,
    }


def _label(task: dict[str, Any]) -> str:
    factor = "" if task["scale"] == 1.0 else f" x {task['scale']:g}"
    return str(task["scheme"]).replace("_", "-") + factor


def _cell(task: dict[str, Any]) -> dict[str, Any]:
    """Return the starts of one activation and initialisation, the medians of their diagnostics."""
    X, Y = four_regions(task["n_samples"], seed=task["seed"])
    problem = Problem(MLP(task["widths"], task["activation"]), X, Y)
    runs = []
    with quiet():
        for start in range(task["starts"]):
            rng = np.random.default_rng([task["seed"], start])
            theta0 = problem.network.init(rng, task["scheme"], task["scale"])
            runs.append(_one(problem, X, theta0, task))
    losses = np.array([r["loss"] for r in runs])
    stuck = losses > STUCK
    ranks = [r["rank"] for r, is_stuck in zip(runs, stuck, strict=True) if is_stuck]
    return {
        "init": _label(task),
        "activation": task["activation"],
        "losses": losses.tolist(),
        "fit": int(np.sum(losses < FIT)),
        "below_1e-24": int(np.sum(losses < 1e-24)),
        "stuck": int(np.sum(stuck)),
        "starts": len(runs),
        "statuses": dict(Counter(r["status"] for r in runs)),
        "rank_where_stuck": float(np.median(ranks)) if ranks else None,
        **{
            f"median_{key}": float(np.median([r[key] for r in runs]))
            for key in ("spread", "condition", "first_step", "theta_norm")
        },
    }


def _one(
    problem: Problem, X: NDArray[np.float64], theta0: NDArray[np.float64], task: dict[str, Any]
) -> dict[str, Any]:
    values = problem.jacobian(theta0).singular_values()
    W = problem.network.unpack(theta0)[0]
    result = train(
        problem,
        theta0,
        GaussNewton(step=task["alpha"]),
        max_iter=task["iterations"],
        stop=Stop(gradient=0.0, step=0.0),
    )
    return {
        "loss": result.loss,
        "status": result.status,
        # How far apart the samples are where the first hidden layer bends.
        "spread": float(np.std(X @ W[:, :-1].T + W[:, -1])),
        "condition": float(values[0] / values[-1]) if values[-1] > 0.0 else float("inf"),
        "first_step": result.history[0].step_norm if result.history else 0.0,
        "theta_norm": float(np.linalg.norm(result.theta)),
        "rank": problem.jacobian(result.theta).rank() if result.loss > STUCK else None,
    }


def summary(result: dict[str, Any]) -> str:
    """Return the table of the cells."""
    cells = result["cells"]
    lines = [
        f"{result['network']}, {result['n_samples']} samples, undamped minimum-norm steps, "
        f"{result['iterations']} iterations, {cells[0]['starts']} starts each",
        f"fit: loss < {FIT:g}; stuck: loss > {STUCK:g}, with the median rank of the Jacobian there "
        f"(full: {result['n_samples']}); other columns are medians",
        f"{'initial weights':<16}{'activation':<14}{'fit':>5}{'stuck':>6}{'loss':>9}"
        f"{'spread of z':>12}{'cond(J)':>9}{'|1st step|':>11}{'|theta|':>9}{'rank stuck':>11}",
    ]
    for c in cells:
        rank = "-" if c["rank_where_stuck"] is None else f"{c['rank_where_stuck']:g}"
        lines.append(
            f"{c['init']:<16}{c['activation']:<14}{c['fit']:>5}{c['stuck']:>6}"
            f"{np.median(_finite(c['losses'])):>9.1e}{c['median_spread']:>12.2f}"
            f"{_finite([c['median_condition']])[0]:>9.1e}{c['median_first_step']:>11.1e}"
            f"{c['median_theta_norm']:>9.1e}{rank:>11}"
        )
    return "\n".join(lines)


def _finite(values: list[float | None]) -> NDArray[np.float64]:
    # A null of the JSON file is a number that was not finite: none is smaller.
    return np.array([np.inf if v is None else v for v in values])


def plot(result: dict[str, Any]) -> Any:
    """Return box plots of the final losses on one logarithmic scale, a panel an initialisation.

    Boxes hold the middle half of the losses, whiskers the middle nine tenths; every loss is a dot.
    """
    columns = len(result["inits"]) if len(result["inits"]) <= 3 else 2
    figure, axes = new_figure(-(-len(result["inits"]) // columns), columns, width=5.0, height=3.7)
    for spare in axes.flat[len(result["inits"]) :]:
        spare.remove()
    rng = np.random.default_rng(0)  # scatters the dots sideways
    for pair, init in zip(axes.flat, result["inits"], strict=False):
        _boxes(pair, [c for c in result["cells"] if c["init"] == init], rng)
        pair.set_title(f"initial weights: {init}", fontsize=10)
    for pair in axes[:, 0]:
        pair.set_ylabel("final loss")
    return figure


def _boxes(axes: Any, cells: list[dict[str, Any]], rng: np.random.Generator) -> None:
    """Draw a box a cell, and above it the share of exact fits and the paper's word."""
    samples = [np.log10(np.clip(_finite(c["losses"]), LOWEST, HIGHEST)) for c in cells]
    # The scale is made of logarithms here: matplotlib's own draws no box of equal values well.
    axes.boxplot(
        samples,
        whis=(5, 95),
        showfliers=False,
        widths=0.45,
        medianprops={"color": "tab:red", "linewidth": 2.0},
    )
    top = np.log10(HIGHEST)
    for place, (sample, cell) in enumerate(zip(samples, cells, strict=True), start=1):
        x = place + rng.uniform(-0.18, 0.18, sample.size)
        axes.plot(x, sample, ".", color="0.45", markersize=3, alpha=0.6, zorder=0)
        share = f"{100 * cell['fit'] / cell['starts']:.0f} %"
        axes.text(place, top + 2.6, share, ha="center", fontsize=9)
        axes.text(place, top + 5.8, PAPER.get(cell["activation"], "-"), ha="center", fontsize=9)
    axes.text(0.45, top + 2.6, "fit here:", ha="right", fontsize=9)
    axes.text(0.45, top + 5.8, "paper:", ha="right", fontsize=9)
    axes.axhline(np.log10(FIT), color="0.3", linestyle="--", linewidth=1.0)
    axes.text(
        len(cells) + 0.55, np.log10(FIT), f"fit: below\n{FIT:g}", va="center", fontsize=8,
        color="0.3",
    )  # fmt: skip
    names = [c["activation"].replace("_", "\n") for c in cells]
    axes.set_xticks(range(1, len(cells) + 1), names, fontsize=9)
    axes.set_xlim(0.5, len(cells) + 0.5)
    axes.set_ylim(np.log10(LOWEST) - 1.0, top + 8.5)
    ticks = np.arange(-30, top + 1, 6)
    axes.set_yticks(ticks, [rf"$10^{{{tick:.0f}}}$" for tick in ticks])
