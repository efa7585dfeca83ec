"""Shen 2018, Figure 1(a): distance of undamped GGN steps to their limit, and the order.

The network F(2,20,1) with bent identity and free biases has 81 parameters, the 20 samples give 20
equations: the exact fits form a manifold, the Hessian is singular at each of them, and the
iteration is still quadratic, towards some point of the manifold (Shen 2018, Remark 7).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.data.builtin import four_regions
from fastggn.figures.style import LINES, MARKERS, new_figure
from fastggn.network.mlp import MLP
from fastggn.objective.problem import Problem
from fastggn.runtime.threads import threads
from fastggn.training.control.stopping import Stop
from fastggn.training.methods.named import GaussNewton
from fastggn.training.result import Record
from papers.runs import quiet, train

DEFAULT: dict[str, Any] = {
    "seed": 0,
    "n_samples": 20,
    "widths": [2, 20, 1],
    "activation": "bent_identity",
    "init": "normal",
    "alpha": 1.0,
    "starts": 20,
    # Steps go on at the rounding floor when a run has converged; the last points measure it.
    "iterations": 60,
    "floor_points": 10,
}
QUICK = {**DEFAULT, "starts": 6, "iterations": 50}

# The order is fitted to errors above this multiple of the floor, where rounding is invisible.
ABOVE_FLOOR = 100.0


def run(config: dict[str, Any], report: Callable[[str], None]) -> dict[str, Any]:
    """Return distances, losses and orders of all starts.

    Returns
    -------
    dict
        ``runs``, one dict a start (distances, losses, floor, order or None, converged), and
        ``order``, the median over the starts that converged.
    """
    if config["starts"] < 1 or config["floor_points"] < 2:
        raise ValueError("starts must be at least 1 and floor_points at least 2")
    if config["iterations"] < config["floor_points"] + 3:
        raise ValueError("iterations must be at least floor_points + 3")
    X, Y = four_regions(config["n_samples"], seed=config["seed"])
    problem = Problem(MLP(config["widths"], config["activation"]), X, Y)
    runs = []
    with threads(1):
        for start in range(config["starts"]):
            runs.append(_one(problem, start, config))
            report(f"start {start + 1}/{config['starts']}: loss {runs[-1]['losses'][-1]:.1e}")
    orders = [r["order"] for r in runs if r["order"] is not None]
    widths, activation = ",".join(map(str, config["widths"])), config["activation"]
    return {
        "network": f"F({widths}), {activation.replace('_', ' ')}",
        "n_params": problem.n_params,
        "n_equations": problem.n_samples * problem.n_outputs,
        "runs": runs,
        "converged": sum(r["converged"] for r in runs),
        "fitted": len(orders),
        "order": float(np.median(orders)) if orders else None,
        "order_quartiles": np.quantile(orders, [0.25, 0.75]).tolist() if orders else None,
    }


def _one(problem: Problem, start: int, config: dict[str, Any]) -> dict[str, Any]:
    """Return the distances and the order of one start."""
    # A generator of its own: start 0 must not draw the numbers of the samples again.
    rng = np.random.default_rng([config["seed"], start])
    theta0 = problem.network.init(rng, config["init"])
    points, losses = iterates(problem, theta0, config["iterations"], config["alpha"])
    distances = np.linalg.norm(points[:-1] - points[-1], axis=1)
    floor = float(np.max(distances[-config["floor_points"] :]))
    # Settled: the last points differ by rounding. A run that still moves has no limit to show.
    converged = floor <= 1e-8 * float(np.linalg.norm(points[-1]))
    return {
        "distances": distances.tolist(),
        "losses": losses,
        "floor": floor,
        "converged": converged,
        "order": fitted_order(distances, ABOVE_FLOOR * floor) if converged else None,
        "theta_norm": float(np.linalg.norm(points[-1])),
    }


def iterates(
    problem: Problem, theta0: NDArray[np.float64], count: int, alpha: float
) -> tuple[NDArray[np.float64], list[float]]:
    """Return theta_0 .. theta_count of undamped GGN steps, and their losses.

    Parameters
    ----------
    problem : Problem
        What is minimised.
    theta0 : (N,) ndarray
        Where to start.
    count : int
        Number of steps.
    alpha : float
        Their length; 1 is the full step.

    Returns
    -------
    points : (k + 1, N) ndarray
        k is `count`, or less where a step led to no finite loss.
    losses : list of float
        Their losses.
    """
    points: list[NDArray[np.float64]] = [np.asarray(theta0)]
    losses: list[float] = []

    def note(record: Record) -> None:
        if record.accepted:
            points.append(np.array(record.theta))
            losses.append(record.loss)

    with quiet():  # the result itself keeps the lowest point only
        result = train(
            problem,
            points[0],
            GaussNewton(step=alpha),
            max_iter=count,
            stop=Stop(gradient=0.0, step=0.0),
            callbacks=[note],
        )
    return np.array(points), [result.initial_loss, *losses]


def fitted_order(errors: Sequence[float] | NDArray[np.float64], least: float) -> float | None:
    """Return the order of convergence of the last three falling errors above `least`.

    ``log(e2 / e1) / log(e1 / e0)``: 1 for linear convergence, 2 for quadratic.

    Parameters
    ----------
    errors : sequence of float
        Distances to the limit.
    least : float
        Errors must be larger than this.

    Returns
    -------
    float or None
        None where no such three errors are there.
    """
    e = np.asarray(errors, dtype=np.float64)
    falling = (e[:-2] > e[1:-1]) & (e[1:-1] > e[2:]) & (e[2:] > least)
    last = np.flatnonzero(falling)
    if last.size == 0:
        return None
    e0, e1, e2 = e[last[-1] : last[-1] + 3]
    return float(np.log(e2 / e1) / np.log(e1 / e0))


def summary(result: dict[str, Any]) -> str:
    """Return what came out, in a few lines."""
    runs = result["runs"]
    first = [_first_at_floor(r) for r in runs if r["converged"]]
    lines = [
        f"{result['network']}: {result['n_params']} parameters, {result['n_equations']} equations",
        f"{result['converged']} of {len(runs)} starts converge; largest loss at their ends "
        f"{max((r['losses'][-1] for r in runs if r['converged']), default=float('nan')):.1e}",
    ]
    if result["order"] is not None:
        low, high = result["order_quartiles"]
        lines.append(
            f"order of convergence {result['order']:.2f} (median of {result['fitted']} starts; "
            f"quartiles {low:.2f} to {high:.2f})"
        )
    if first:
        lines.append(
            f"iterations to the rounding floor: {min(first)} to {max(first)}, "
            f"median {np.median(first):.0f}"
        )
    return "\n".join(lines)


def _first_at_floor(one: dict[str, Any]) -> int:
    return int(np.argmax(np.asarray(one["distances"]) <= one["floor"]))


def plot(result: dict[str, Any]) -> Any:
    """Return the distances against the iteration, and each error against the one before."""
    figure, axes = new_figure(1, 2, width=5.4, height=4.2)
    left, right = axes[0]
    runs = [r for r in result["runs"] if r["converged"]]
    for number, one in enumerate(runs):
        e = np.asarray(one["distances"], dtype=np.float64)
        e = e[: int(np.argmax(e <= one["floor"])) + 1]
        style = {
            "linestyle": LINES[number % len(LINES)],
            "marker": MARKERS[number % len(MARKERS)],
            "color": str(0.1 + 0.5 * number / len(runs)),
            "markersize": 3.5,
            "linewidth": 1.0,
        }
        left.semilogy(np.arange(e.size), e, **style)
        above = e[1:] > ABOVE_FLOOR * one["floor"]
        right.loglog(e[:-1][above], e[1:][above], **{**style, "linestyle": "none"})
    left.set_xlabel("iteration k")
    left.set_ylabel(r"distance to the limit $|\theta_k - \theta_*|$")
    left.set_title(
        f"{result['network']}, undamped GGN: {len(runs)} of {len(result['runs'])} starts",
        fontsize=10,
    )
    if runs:
        _reference(right, 2, "slope 2 (quadratic)", LINES[0])
        _reference(right, 1, "slope 1 (linear)", LINES[1])
        right.legend(fontsize=8)
    right.set_xlabel(r"$|\theta_k - \theta_*|$")
    right.set_ylabel(r"$|\theta_{k+1} - \theta_*|$")
    order = result["order"]
    right.set_title("" if order is None else f"Fitted order {order:.2f}", fontsize=10)
    return figure


def _reference(axes: Any, slope: int, label: str, line: str) -> None:
    """Draw y = x^slope within the present limits of the axes."""
    (low, high), limits = axes.get_xlim(), axes.get_ylim()
    x = np.array([low, high])
    axes.loglog(x, x**slope, line, color="tab:red", linewidth=1.4, label=label)
    axes.set_xlim(low, high)
    axes.set_ylim(limits)
