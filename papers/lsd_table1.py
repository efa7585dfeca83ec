"""Table 1 of the loss surface decomposition: random and rich subglobal minima on MNIST."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.figures.style import LINES, MARKERS, legend_outside, new_figure
from fastggn.network.mlp import MLP
from fastggn.objective.problem import Problem
from fastggn.training.control.stopping import Stop
from fastggn.training.methods.named import Adam, LevenbergMarquardt
from fastggn.training.result import Record
from papers.mnist import find_folder, load_digits
from papers.runs import train

Report = Callable[[str], object]

SAMPLES = 60_000  # of the paper
# Mean and deviation of 100 repeats, in percent; the paper does not state its epochs.
PAPER: dict[str, dict[str, tuple[float, float]]] = {
    "random": {
        "16": (82.59, 0.32),
        "32": (92.84, 0.24),
        "64": (98.19, 0.27),
        "128": (99.61, 0.07),
        "256": (99.60, 0.06),
    },
    "rich": {
        "16": (98.10, 0.20),
        "32": (99.41, 0.13),
        "64": (99.80, 0.06),
        "128": (99.88, 0.04),
        "256": (99.91, 0.03),
    },
}
KINDS = ("random", "rich")

DEFAULT: dict[str, Any] = {
    "seed": 0,
    "folder": None,  # of the IDX files; None: FASTGGN_DATA, or shared/data
    "samples": None,  # None: all 60,000
    # k, repeats, passes: the wide networks take most of the time.
    "columns": [[16, 1, 24], [32, 1, 40], [64, 1, 23], [128, 1, 20], [256, 1, 2]],
    "batch_size": 100,
    "alpha": 1e-3,
    "second_order": {
        "widths": [16],
        "solver": "dual",
        "batch_size": 50,
        "damping": 1.0,  # smaller ones fit each batch and undo the others
        "passes": 3,
    },
}
QUICK: dict[str, Any] = {
    **DEFAULT,
    "samples": 4000,
    "columns": [[8, 2, 12], [16, 2, 12]],
    "second_order": {**DEFAULT["second_order"], "widths": [8, 16], "passes": 4},
}


class _Watched(Problem):
    """A problem that remembers where it was linearised last, for the accuracy on the way."""

    last: NDArray[np.float64]

    def at(self, theta: Any) -> Any:
        """Return the objective at theta, and keep theta."""
        point = super().at(theta)
        self.last = point.theta
        return point


class _Curve:
    """Notes the accuracy after every pass over the samples."""

    def __init__(self, problem: _Watched, labels: NDArray[np.int64]) -> None:
        self._problem, self._labels = problem, labels
        self.points: list[float] = []

    def __call__(self, record: Record) -> None:
        if record.accepted or not self.points:
            outputs = self._problem.outputs(self._problem.last)
            self.points.append(100.0 * float((outputs.argmax(axis=1) == self._labels).mean()))
        else:
            self.points.append(self.points[-1])


def run(config: dict[str, Any], report: Report = lambda text: None) -> dict[str, Any]:
    """Train the networks 784-2k-k-10 with ReLU and with random gates.

    The gates of Eq. (8) are drawn once, a = 1 with probability 1/2 for every sample and unit,
    and held. Accuracies are those of the training samples, as the gates belong to these.

    Raises
    ------
    FileNotFoundError
        If the MNIST files are absent; the message names them.
    """
    X, labels = load_digits(find_folder(config["folder"]), config["samples"])
    cells = []
    for k, repeats, passes in config["columns"]:
        for kind in KINDS:
            curves = []
            for repeat in range(repeats):
                problem, seed = _problem(config, kind, k, repeat, X, labels)
                curve = _Curve(problem, labels)
                method = Adam(rate=config["alpha"], batch_size=config["batch_size"])
                train(problem, problem.network.init(seed, scheme="he"), method,
                      max_iter=passes, stop=Stop(gradient=0.0), seed=seed,
                      callbacks=[curve])  # fmt: skip
                curves.append(curve.points)
                report(f"{kind}, k = {k}, repeat {repeat + 1}: "
                       f"{curve.points[-1]:.2f} %")  # fmt: skip
            cells.append(_cell(kind, k, curves, len(X) == SAMPLES))
    second = [
        _second_order(config, kind, k, X, labels, report)
        for k in config["second_order"]["widths"]
        for kind in KINDS
    ]
    return {"config": config, "n_samples": len(X), "cells": cells, "second_order": second}


def _problem(
    config: dict[str, Any], kind: str, k: int, repeat: int,
    X: NDArray[np.float64], labels: NDArray[np.int64],
) -> tuple[_Watched, int]:  # fmt: skip
    """Return the problem of one repeat, and the seed of its training."""
    seeds = np.random.SeedSequence([config["seed"], k, repeat])
    drawn = np.random.default_rng(seeds)
    net = MLP((X.shape[1], 2 * k, k, 10), "relu")
    gates = None
    if kind == "random":
        gates = [drawn.random((len(X), width)) < 0.5 for width in (2 * k, k)]
    problem = _Watched(net, X, labels, "softmax_cross_entropy", gates=gates)
    return problem, int(seeds.generate_state(1)[0])


def _cell(kind: str, k: int, curves: list[list[float]], whole: bool) -> dict[str, Any]:
    """Return mean and deviation over the repeats after each pass; the paper's of all samples."""
    accuracy = np.array(curves)
    spread = accuracy.std(axis=0, ddof=1) if len(curves) > 1 else np.zeros(accuracy.shape[1])
    return {
        "kind": kind,
        "k": k,
        "accuracy": accuracy.tolist(),
        "mean": accuracy.mean(axis=0).tolist(),
        "deviation": spread.tolist(),
        "paper": PAPER[kind].get(str(k)) if whole else None,
    }


def _second_order(
    config: dict[str, Any], kind: str, k: int,
    X: NDArray[np.float64], labels: NDArray[np.int64], report: Report,
) -> dict[str, Any]:  # fmt: skip
    """Return the curve of stochastic Levenberg-Marquardt over the stated passes."""
    options = config["second_order"]
    problem, seed = _problem(config, kind, k, 0, X, labels)
    curve = _Curve(problem, labels)
    train(
        problem,
        problem.network.init(seed, scheme="he"),
        method=LevenbergMarquardt(
            solver=options["solver"], batch_size=options["batch_size"], damping=options["damping"]
        ),
        max_iter=options["passes"],
        stop=Stop(gradient=0.0),
        seed=seed,
        callbacks=[curve],
    )
    report(f"{kind}, k = {k}, second order: {curve.points[-1]:.2f} %")
    return {"kind": kind, "k": k, "accuracy": curve.points}


def summary(result: dict[str, Any]) -> str:
    """Return the table, the paper's figures beside it."""
    least = min(len(cell["mean"]) for cell in result["cells"])
    lines = [
        f"MNIST, {result['n_samples']} samples, training accuracy in percent by Adam "
        "(mean and deviation of the repeats)",
        f"{'k':>4}  {'kind':<7}{'repeats':>8}{'passes':>7}{'here':>16}{f'after {least}':>10}"
        f"{'paper':>16}{'first above':>12}",
    ]
    for cell in result["cells"]:
        here = f"{cell['mean'][-1]:.2f} +- {cell['deviation'][-1]:.2f}"
        paper = cell["paper"]
        there, first = "-", "-"
        if paper:
            there = f"{paper[0]:.2f} +- {paper[1]:.2f}"
            above = np.flatnonzero(np.array(cell["mean"]) >= paper[0])
            first = f"pass {above[0] + 1}" if above.size else "-"
        lines.append(
            f"{cell['k']:>4}  {cell['kind']:<7}{len(cell['accuracy']):>8}{len(cell['mean']):>7}"
            f"{here:>16}{cell['mean'][least - 1]:>10.2f}{there:>16}{first:>12}"
        )
    for entry in result["second_order"]:
        passes = len(entry["accuracy"])
        adam = [c for c in result["cells"] if (c["kind"], c["k"]) == (entry["kind"], entry["k"])]
        mean = adam[0]["mean"] if adam else []
        same = f", Adam {mean[passes - 1]:.2f}" if passes <= len(mean) else ""
        lines.append(
            f"second order, {entry['kind']}, k = {entry['k']}: {entry['accuracy'][-1]:.2f} after "
            f"{passes} passes{same}"
        )
    return "\n".join(lines)


def plot(result: dict[str, Any]) -> Any:
    """Draw training accuracy against passes, one pair of axes a width and kind of network."""
    cells = result["cells"]
    widths = list(dict.fromkeys(cell["k"] for cell in cells))
    figure, axes = new_figure(
        len(KINDS), len(widths), width=max(2.9, 4.5 / len(widths)), height=2.9
    )
    for cell in cells:
        pair = axes[KINDS.index(cell["kind"]), widths.index(cell["k"])]
        passes = np.arange(1, len(cell["mean"]) + 1)
        pair.errorbar(passes, cell["mean"], cell["deviation"], color="black",
                      linestyle=LINES[0], marker=MARKERS[0], markersize=3, capsize=2,
                      label="Adam, mean and deviation")  # fmt: skip
        lowest = cell["mean"][0]
        for entry in result["second_order"]:
            if (entry["kind"], entry["k"]) == (cell["kind"], cell["k"]):
                points = entry["accuracy"]
                pair.plot(range(1, len(points) + 1), points, color="0.35", linestyle=LINES[1],
                          marker=MARKERS[1], markersize=3,
                          label="Levenberg-Marquardt, batches")  # fmt: skip
                lowest = min(lowest, points[0])
        if cell["paper"]:
            pair.axhline(cell["paper"][0], color="black", linestyle=LINES[3], label="paper")
        pair.set_ylim(max(0.0, 100.0 - 1.25 * (100.0 - lowest)), 100.0)
        pair.set_title(f"{cell['kind']}, k = {cell['k']}")
        pair.set_xlabel("passes over the samples")
        pair.set_ylabel("training accuracy (%)")
        pair.set_xlim(0.0, passes[-1] + 0.5)
        pair.xaxis.get_major_locator().set_params(integer=True)
    legend_outside(figure)
    return figure
