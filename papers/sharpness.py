"""Sharpness: gradient descent goes to the edge of stability at 2 / rate; LM does not know it.

Cohen et al. (2021), "Gradient descent on neural networks typically occurs at the edge of
stability": with a fixed rate the largest eigenvalue of the Hessian rises to 2 / rate and stays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastggn.analysis.spectra import CurvatureTrace
from fastggn.figures.style import LINES, new_figure
from fastggn.network.mlp import MLP
from fastggn.objective.problem import Problem
from fastggn.training.control.stopping import Stop
from fastggn.training.methods.named import GradientDescent
from papers.runs import quiet, spread, train

DEFAULT: dict[str, Any] = {
    "seed": 0,
    "hidden": 20,
    "samples": 20,
    "frequency": 5.0,
    "rates": [0.1, 0.2, 0.3, 0.4],
    "starts": 3,
    # Of descent, in units of time: rate times iterations.
    "time": 6000.0,
    "points": 100,
    "lm_iterations": 100,
}
QUICK: dict[str, Any] = {**DEFAULT, "rates": [0.4], "starts": 1, "time": 4200.0, "points": 40}

LAST = 0.2  # share of the points that are the end of a run
AT_EDGE = 0.05  # of 2 / rate


def run(config: dict[str, Any], report: Callable[[str], None]) -> dict[str, Any]:
    """Return the sharpness along descents with several rates, and along LM from their starts."""
    if config["points"] < 10 or min(config["rates"]) <= 0.0:
        raise ValueError("points must be at least 10 and rates positive")
    tasks = [(config, rate, start) for rate in config["rates"] for start in range(config["starts"])]
    runs = spread(_descent, tasks, report, label=lambda task: f"rate {task[1]:g}, start {task[2]}")
    compared = [_second_order(config, start) for start in range(config["starts"])]
    return {"config": dict(config), "runs": runs, "lm": compared}


def _problem(config: dict[str, Any], start: int) -> tuple[Problem, np.ndarray]:
    X = np.linspace(-1.0, 1.0, config["samples"])[:, None]
    problem = Problem(MLP((1, config["hidden"], 1)), X, np.sin(config["frequency"] * X))
    return problem, problem.network.init(config["seed"] + start)


def _descent(task: tuple[dict[str, Any], float, int]) -> dict[str, Any]:
    """Return sharpness and losses of one run of gradient descent."""
    config, rate, start = task
    problem, theta = _problem(config, start)
    steps = int(config["time"] / rate)
    trace = CurvatureTrace(problem, parts=("H",), every=max(1, steps // config["points"]))
    losses: list[float] = []
    stop = Stop(gradient=0.0, step=0.0, loss=0.0)
    with quiet():
        result = train(
            problem, theta, GradientDescent(rate=rate), max_iter=steps, stop=stop,
            callbacks=[trace, lambda record: losses.append(float(record.loss))],
        )  # fmt: skip
    sharpness = np.array(trace.values["H"])
    last = sharpness[-max(1, int(LAST * sharpness.size)) :]
    falls = np.diff([result.initial_loss, *losses])
    every = max(1, steps // config["points"])
    return {
        "rate": rate,
        "start": start,
        "iterations": list(trace.iterations),
        "sharpness": sharpness.tolist(),
        "losses": losses[every - 1 :: every],
        "end": float(np.median(last)) * rate / 2.0,
        "lowest": float(sharpness.min()) * rate / 2.0,
        "rises": int(np.count_nonzero(falls > 0.0)),
        "steps": len(losses),
        "loss": losses[-1],
    }


def _second_order(config: dict[str, Any], start: int) -> dict[str, Any]:
    """Return sharpness and losses of Levenberg-Marquardt from the same start."""
    problem, theta = _problem(config, start)
    trace = CurvatureTrace(problem, parts=("H",))
    losses: list[float] = []
    with quiet():
        train(
            problem, theta, max_iter=config["lm_iterations"],
            callbacks=[trace, lambda record: losses.append(float(record.loss))],
        )  # fmt: skip
    return {
        "start": start,
        "iterations": list(trace.iterations),
        "sharpness": list(trace.values["H"]),
        "losses": losses,
    }


def summary(result: dict[str, Any]) -> str:
    """Return the end of each run in units of 2 / rate."""
    lines = ["  rate  start   2/rate  lowest/(2/rate)  end/(2/rate)  loss rises in   last loss"]
    for one in result["runs"]:
        lines.append(
            f"{one['rate']:6.3g}  {one['start']:5d}  {2.0 / one['rate']:7.3g}  "
            f"{one['lowest']:15.3f}  {one['end']:12.3f}  {one['rises']:6d}/{one['steps']:<6d}  "
            f"{one['loss']:10.3g}"
        )
    at_edge = sum(abs(one["end"] - 1.0) <= AT_EDGE for one in result["runs"])
    lines.append(
        f"{at_edge} of {len(result['runs'])} descents end within {AT_EDGE:.0%} of 2 / rate"
    )
    for one in result["lm"]:
        lines.append(
            f"LM, start {one['start']}: sharpness up to {max(one['sharpness']):.3g}, loss "
            f"{one['losses'][-1]:.1e} after {one['iterations'][-1]} iterations"
        )
    return "\n".join(lines)


def plot(result: dict[str, Any]) -> Any:
    """Draw sharpness and loss of the first start over time, rate times iteration."""
    figure, axes = new_figure(1, 2, width=5.4, height=4.4)
    left, right = axes[0]
    runs = [one for one in result["runs"] if one["start"] == 0]
    for number, one in enumerate(runs):
        shade, line = str(0.6 * number / max(1, len(runs) - 1)), LINES[number % len(LINES)]
        time = one["rate"] * np.array(one["iterations"])
        label = f"rate {one['rate']:g}"
        left.plot(time, one["sharpness"], line, color=shade, label=label)
        left.axhline(2.0 / one["rate"], color=shade, linewidth=0.6)
        left.annotate(
            f"2/{one['rate']:g}", (1.0, 2.0 / one["rate"]), xycoords=("axes fraction", "data"),
            xytext=(4, 0), textcoords="offset points", fontsize=8, va="center",
        )  # fmt: skip
        right.semilogy(time, one["losses"], line, color=shade, label=label)
    left.set_ylabel("sharpness: largest eigenvalue of the Hessian")
    right.set_ylabel("loss")
    left.set_ylim(0.0, 1.15 * max(2.0 / one["rate"] for one in runs))
    for pair in (left, right):
        pair.set_xlabel("rate x iteration")
        pair.legend(fontsize=8, loc="lower right" if pair is left else "upper right")
    left.set_title("Gradient descent goes to 2 / rate", fontsize=10)
    return figure
