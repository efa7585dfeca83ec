"""Lifting the null space (O'Leary-Roseberry and Ghattas 2020, Section 2.1) beside methods without.

The paper suggests a regulariser that acts on the null space of the Gauss-Newton matrix alone, as a
cure for the singular Hessian at exact fits. Here it stands beside what the package does without it:
Newton in a trust region, Levenberg-Marquardt and minimum-norm Gauss-Newton steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.figures.style import LINES, MARKERS, legend_outside, new_figure
from fastggn.network.mlp import MLP
from fastggn.objective.problem import Problem
from fastggn.runtime.threads import threads
from fastggn.training.control.stopping import Stop
from fastggn.training.methods.named import GaussNewton, LevenbergMarquardt, Newton
from fastggn.training.regularisation.null_space import NullSpace
from papers.runs import quiet, train

DEFAULT: dict[str, Any] = {
    "seed": 0,
    # Exact fits of more parameters than equations: widths, samples.
    "near": [[2, 8, 1], 10],
    "far": [[1, 6, 2], 5],
    # Deviation of the starts near an exact fit from it; those far are fresh initial weights.
    "distance": 0.05,
    "starts": 10,
    "iterations": 200,
    "damping": 0.01,
}
QUICK = {**DEFAULT, "starts": 5, "iterations": 100}

LABELS = {
    "lifted": "Newton, null space lifted",
    "cut": "Newton, null space cut",
    "newton": "Newton",
    "lm": "Levenberg-Marquardt",
    "ggn": "minimum-norm Gauss-Newton",
    "damped": "Newton, fixed damping",
}
# Residuals, root mean squares, of an exact fit, and of rounding.
FIT, FLOOR = 1e-12, 1e-15


def run(config: dict[str, Any], report: Callable[[str], None]) -> dict[str, Any]:
    """Return residuals, counts of iterations, orders and ways of all methods from all starts.

    Returns
    -------
    dict
        For "near" and "far", by method, a dict a start: ``residuals``, ``iterations`` until the
        residual is below 1e-12 or None, ``order`` or None, and ``moved``, the distance from the
        start to the end.
    """
    if config["starts"] < 1 or config["iterations"] < 5:
        raise ValueError("starts must be at least 1 and iterations at least 5")
    result: dict[str, Any] = {"config": config}
    with threads(1), quiet():
        for place in ("near", "far"):
            runs: dict[str, list[dict[str, Any]]] = {name: [] for name in LABELS}
            for start in range(config["starts"]):
                problem, theta = _problem(place, start, config)
                for name in LABELS:
                    runs[name].append(_one(name, problem, theta, config))
            result[place] = {"network": _name(config[place]), "n_params": problem.n_params,
                             "n_equations": problem.targets.size, "runs": runs}  # fmt: skip
            report(f"{place}: {config['starts']} starts of {len(LABELS)} methods")
    return result


def _name(size: list[Any]) -> str:
    return f"F({','.join(map(str, size[0]))}), {size[1]} samples"


def _problem(place: str, start: int, config: dict[str, Any]) -> tuple[Problem, NDArray[np.float64]]:
    """Return a problem with an exact fit, and a start."""
    widths, samples = config[place]
    rng = np.random.default_rng([config["seed"], start])
    net = MLP(widths)
    truth = net.init(rng, "normal")
    X = rng.standard_normal((samples, widths[0]))
    problem = Problem(net, X, net.predict(truth, X))
    if place == "near":
        return problem, truth + config["distance"] * rng.standard_normal(net.n_params)
    return problem, net.init(rng)


def _one(
    name: str, problem: Problem, theta: NDArray[np.float64], config: dict[str, Any]
) -> dict[str, Any]:
    """Return the run of one method."""
    if name == "damped":
        end, losses = damped_newton(problem, theta, config["iterations"], config["damping"])
    else:
        methods: dict[str, tuple[Any, NullSpace | None]] = {
            "lifted": (Newton(), NullSpace()),
            "cut": (Newton(), NullSpace(gamma=np.inf)),
            "newton": (Newton(), None),
            "lm": (LevenbergMarquardt(), None),
            "ggn": (GaussNewton(), None),
        }
        method, regularize = methods[name]
        result = train(problem, theta, method, regularize=regularize,
                       max_iter=config["iterations"], stop=Stop(gradient=1e-15))  # fmt: skip
        end, losses = result.theta, [result.initial_loss, *(r.loss for r in result.history)]
    residuals = np.sqrt(2.0 * np.array(losses))
    below = np.flatnonzero(residuals < FIT)
    return {
        "residuals": residuals.tolist(),
        "iterations": int(below[0]) if below.size else None,
        "order": order(residuals),
        "moved": float(np.linalg.norm(end - theta)),
    }


def damped_newton(
    problem: Problem, theta: NDArray[np.float64], count: int, damping: float
) -> tuple[NDArray[np.float64], list[float]]:
    """Return the end of ``theta <- theta - (H + damping I)^-1 g``, and all losses.

    Parameters
    ----------
    problem : Problem
        What is minimised.
    theta : (N,) ndarray
        Where to start.
    count : int
        Number of steps; fewer are taken if the loss is no longer finite.
    damping : float
        Held fixed.
    """
    losses = [float(problem.loss(theta))]
    while len(losses) <= count and np.isfinite(losses[-1]):
        lifted = problem.hessian(theta) + damping * np.eye(problem.n_params)
        theta = theta - np.linalg.solve(lifted, problem.gradient(theta))
        losses.append(float(problem.loss(theta)))
    return theta, losses


def order(residuals: NDArray[np.float64]) -> float | None:
    """Return the order of the last three falling residuals that end above 100 times rounding.

    Parameters
    ----------
    residuals : ndarray
        Of a run; None is returned where no such three are there.
    """
    e = residuals[(residuals > 100.0 * FLOOR) & np.isfinite(residuals)][-3:]
    if e.size < 3 or not e[0] > e[1] > e[2]:
        return None
    return float(np.log(e[2] / e[1]) / np.log(e[1] / e[0]))


def table(result: dict[str, Any], place: str) -> list[dict[str, Any]]:
    """Return a row a method: fits, median and most iterations, median order and way.

    Parameters
    ----------
    result : dict
        As `run` returned it.
    place : {"near", "far"}
    """
    rows = []
    for name, runs in result[place]["runs"].items():
        counts = [r["iterations"] for r in runs if r["iterations"] is not None]
        orders = [r["order"] for r in runs if r["order"] is not None]
        moved = [r["moved"] for r in runs if r["iterations"] is not None]
        rows.append(
            {
                "method": name,
                "fits": len(counts),
                "starts": len(runs),
                "median": float(np.median(counts)) if counts else None,
                "most": max(counts, default=None),
                "order": float(np.median(orders)) if orders else None,
                "moved": float(np.median(moved)) if moved else None,
            }
        )
    return rows


def summary(result: dict[str, Any]) -> str:
    """Return both tables."""
    lines = []
    for place, where in (("near", "near an exact fit"), ("far", "from initial weights")):
        case = result[place]
        lines.append(
            f"{case['network']}, {case['n_params']} parameters, {case['n_equations']} equations, "
            f"starts {where}: iterations to a residual of {FIT:g}"
        )
        lines.append(f"  {'method':<28}{'fits':>9}{'median':>8}{'most':>6}{'order':>7}{'way':>8}")
        for row in table(result, place):
            shown = [
                "-" if row[key] is None else format(row[key], form)
                for key, form in (
                    ("median", "g"),
                    ("most", "d"),
                    ("order", ".2f"),
                    ("moved", ".3g"),
                )
            ]
            fits = f"{row['fits']}/{row['starts']}"
            lines.append(
                f"  {LABELS[row['method']]:<28}{fits:>9}{shown[0]:>8}{shown[1]:>6}{shown[2]:>7}"
                f"{shown[3]:>8}"
            )
    return "\n".join(lines)


def plot(result: dict[str, Any]) -> Any:
    """Draw the residuals of one start near a fit, and the iterations from all starts far off."""
    figure, axes = new_figure(1, 2, width=5.6, height=4.2)
    left, right = axes[0]
    for place, (name, label) in enumerate(LABELS.items()):
        residuals = np.asarray(result["near"]["runs"][name][0]["residuals"][:21], dtype=np.float64)
        style = {"color": f"C{place}", "marker": MARKERS[place]}
        left.semilogy(np.maximum(residuals, FLOOR), linestyle=LINES[place % len(LINES)],
                      markersize=4, label=label, **style)  # fmt: skip
        counts = [r["iterations"] for r in result["far"]["runs"][name]]
        most = result["config"]["iterations"]
        y = [most * 1.45 if c is None else c for c in counts]
        right.plot(place + np.linspace(-0.25, 0.25, len(y)), y, linestyle="none", markersize=4,
                   **style)  # fmt: skip
    left.set_xticks(range(0, 21, 4))
    left.set_xlabel("iteration")
    left.set_ylabel("root mean square of the residuals")
    left.set_title(f"{result['near']['network']}, near a fit, start 1", fontsize=10)
    right.axhline(1.1 * result["config"]["iterations"], color="0.4", linestyle=":")
    right.set_yscale("log")
    right.set_ylabel(f"iterations to a residual of {FIT:g}")
    right.set_xlim(-0.6, len(LABELS) - 0.4)
    right.text(-0.5, 1.13 * result["config"]["iterations"], "not reached", fontsize=8)
    right.set_xticks(range(len(LABELS)), [""] * len(LABELS))
    right.set_xlabel("method (markers as on the left)")
    right.set_title(f"{result['far']['network']}, from initial weights", fontsize=10)
    legend_outside(figure)
    return figure
