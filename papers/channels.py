"""Channels to infinity: the share of Levenberg-Marquardt runs that end in one.

Martinelli et al. (2025), "Flat channels to infinity in neural loss landscapes": a student network
learns the outputs of a wider teacher; two of its units merge while their outgoing weights run
apart, and become a gated unit at infinity.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastggn.analysis.infinity.verdict import minimum_at_infinity
from fastggn.figures.style import LINES, MARKERS, new_figure
from fastggn.network.mlp import MLP
from fastggn.objective.problem import Problem
from papers.runs import quiet, spread, train

DEFAULT: dict[str, Any] = {
    "seed": 0,
    "inputs": 2,
    "teacher": 8,
    "widths": [2, 3, 4, 5],
    "samples": [30, 120, 500],
    "starts": 20,
    "max_iter": 500,
    "activation": "tanh",
}
QUICK: dict[str, Any] = {
    **DEFAULT, "widths": [2, 3], "samples": [30, 120], "starts": 4, "max_iter": 300,
}  # fmt: skip

# An exact fit: this share of the variance of the targets.
EXACT = 1e-20
ENDS = ("channel", "exponential", "saturation", "linearisation", "finite", "exact", "undecided")
SHADES = ("0.0", "0.45", "0.35", "0.55", "0.95", "0.85", "0.72")
HATCHES = ("", "", "//", "xx", "", "..", "")


def run(config: dict[str, Any], report: Callable[[str], None]) -> dict[str, Any]:
    """Return how many runs end where, for each width and number of samples."""
    if config["starts"] < 1 or min(config["widths"]) < 1:
        raise ValueError("starts and widths must be at least 1")
    tasks = [(config, width, count) for count in config["samples"] for width in config["widths"]]
    cases = spread(_case, tasks[::-1], report, label=lambda task: f"width {task[1]}, T {task[2]}")
    return {"config": dict(config), "cases": cases[::-1]}


def _case(task: tuple[dict[str, Any], int, int]) -> dict[str, Any]:
    """Return the ends of all starts for one width and number of samples."""
    config, width, count = task
    n, name = config["inputs"], config["activation"]
    ends = dict.fromkeys(ENDS, 0)
    statuses: dict[str, int] = {}
    gains: list[float] = []
    for start in range(config["starts"]):
        rng = np.random.default_rng([config["seed"], start, count])
        X = rng.standard_normal((count, n))
        teacher = MLP((n, config["teacher"], 1), name)
        Y = teacher.predict(rng.standard_normal(teacher.n_params), X)
        student = MLP((n, width, 1), name)
        problem = Problem(student, X, (Y - Y.mean()) / Y.std())
        with quiet():
            result = train(problem, student.init(rng), max_iter=config["max_iter"])
            found = minimum_at_infinity(problem, result.theta)
        end = found.kind or found.label
        if result.loss <= EXACT:
            end = "exact"
        ends[end] += 1
        if end == "channel":
            statuses[result.status] = statuses.get(result.status, 0) + 1
            gains.append(result.loss / found.loss - 1.0 if found.loss > 0.0 else np.inf)
    return {
        "width": width,
        "samples": count,
        "n_params": problem.n_params,
        "ends": ends,
        "channel_statuses": statuses,
        "loss_above_limit": float(np.median(gains)) if gains else None,
    }


def summary(result: dict[str, Any]) -> str:
    """Return the table of ends."""
    config = result["config"]
    lines = [
        f"students F({config['inputs']},width,1), {config['activation']}, of teachers with "
        f"{config['teacher']} units; {config['starts']} runs a row",
        "width    T   N  " + "  ".join(f"{end:>13}" for end in ENDS) + "  loss above limit",
    ]
    for case in result["cases"]:
        ends = "  ".join(f"{case['ends'][end]:13d}" for end in ENDS)
        above = case["loss_above_limit"]
        lines.append(
            f"{case['width']:5d} {case['samples']:4d} {case['n_params']:3d}  {ends}  "
            + ("-" if above is None else f"{above:.1e}")
        )
    total = {end: sum(case["ends"][end] for case in result["cases"]) for end in ENDS}
    runs = sum(total.values())
    lines.append(f"of {runs} runs: " + ", ".join(f"{total[end]} {end}" for end in ENDS))
    statuses: dict[str, int] = {}
    for case in result["cases"]:
        for name, count in case["channel_statuses"].items():
            statuses[name] = statuses.get(name, 0) + count
    listed = ", ".join(f"{count} {name}" for name, count in sorted(statuses.items()))
    lines.append(f"status of the runs in channels: {listed or '-'}")
    return "\n".join(lines)


def plot(result: dict[str, Any]) -> Any:
    """Draw the share of runs in channels over the width, and all ends for the most samples."""
    config = result["config"]
    figure, axes = new_figure(1, 2, width=5.4, height=4.2)
    left, right = axes[0]
    for number, count in enumerate(config["samples"]):
        cases = [case for case in result["cases"] if case["samples"] == count]
        share = [case["ends"]["channel"] / config["starts"] for case in cases]
        left.plot(
            config["widths"], share, LINES[number % len(LINES)], color="black",
            marker=MARKERS[number % len(MARKERS)], label=f"T = {count}",
        )  # fmt: skip
    left.set_ylim(0.0, 1.0)
    left.set_ylabel("share of runs that end in a channel")
    left.legend(fontsize=8)
    cases = [case for case in result["cases"] if case["samples"] == config["samples"][-1]]
    below = np.zeros(len(cases))
    for end, shade, hatch in zip(ENDS, SHADES, HATCHES, strict=True):
        part = np.array([case["ends"][end] / config["starts"] for case in cases])
        if part.any():
            right.bar(
                config["widths"], part, 0.7, below, color=shade, hatch=hatch, label=end,
                edgecolor="black", linewidth=0.6,
            )  # fmt: skip
        below += part
    right.set_ylim(0.0, 1.0)
    right.set_axisbelow(True)
    right.set_ylabel("share of runs")
    right.set_title(f"All ends, T = {config['samples'][-1]}", fontsize=10)
    for pair in (left, right):
        pair.set_xlabel("hidden units of the student")
        pair.set_xticks(config["widths"])
    right.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    title = f"Teacher with {config['teacher']} units, {config['starts']} runs a point"
    left.set_title(title, fontsize=10)
    return figure
