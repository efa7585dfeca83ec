"""GGN, BP and Newton from near a bad saddle of a deep linear network, with and without escape.

The saddle keeps the leading mode of three, closed in all three layers (Kawaguchi 2016, Corollary
2.4): its Hessian has no negative eigenvalue. Without escape a run starts at a small distance from
it. With escape it starts, displaced by the same small vector, where the rank-raising and
loss-preserving perturbation of the proof of Theorem 2.3 and one line search lead to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fastggn.analysis import linear
from fastggn.figures.style import LINES, new_figure
from fastggn.network.mlp import MLP
from fastggn.objective.problem import Problem
from fastggn.training.methods.named import GradientDescent, get_method
from papers.runs import quiet, train

DEFAULT: dict[str, Any] = {
    "seed": 0,
    "n_samples": 40,
    "widths": [4, 3, 3, 3],
    "noise": 0.1,
    "starts": 5,
    "distance": 1e-3,
    "size": 0.1,
    "alpha": 0.005,
    "max_iter": {"lm": 100, "newton": 100, "bp": 20_000},
    "reached": 1e-6,
}
QUICK: dict[str, Any] = {**DEFAULT, "starts": 3, "max_iter": {"lm": 60, "newton": 60, "bp": 2000}}

METHODS = ("lm", "newton", "bp")
NAMES = {"lm": "GGN (damped)", "newton": "Newton", "bp": "BP"}
WAYS = ("without", "with")


def run(
    config: dict[str, Any], report: Callable[[str], None] = lambda text: None
) -> dict[str, Any]:
    """Train from near the saddle by three methods, with and without escape.

    Returns
    -------
    dict
        The saddle, the escape, and for each run its curve of losses above the global minimum.
    """
    rng = np.random.default_rng(config["seed"])
    widths = tuple(config["widths"])
    X, Y = _data(rng, config, widths)
    net = MLP(widths, activation="identity", bias="none")
    problem = Problem(net, X, Y)
    saddle = linear.construct(X, Y, widths, [0], seed=config["seed"])
    kind = linear.classify(saddle, X, Y)
    values = linear.critical_values(X, Y, widths) / len(X)
    base = net.pack(saddle)
    runs = []
    for start in range(config["starts"]):
        report(f"start {start + 1} of {config['starts']}")
        away = rng.standard_normal(base.size)
        away *= config["distance"] * np.linalg.norm(base) / np.linalg.norm(away)
        way = linear.escape(saddle, X, Y, size=config["size"], seed=start)
        points = {"without": base + away, "with": net.pack(way.weights) + away}
        for how in WAYS:
            for method in METHODS:
                entry = _train(problem, points[how], method, config, float(values[0]))
                runs.append({"start": start, "escape": how, "method": method, **entry})
    return {
        "config": config,
        "saddle": {
            "label": kind.label,
            "loss": kind.loss / len(X),
            "lowest_eigenvalue": kind.lowest_eigenvalue,
            "largest_eigenvalue": kind.largest_eigenvalue,
        },
        "critical_values": values.tolist(),
        "escape": {
            "way": way.way,
            "raised_layers": list(way.raised_layers),
            "loss_perturbed": way.loss_perturbed / len(X),
            "loss_after": way.loss_after / len(X),
        },
        "runs": runs,
    }


def _data(
    rng: np.random.Generator, config: dict[str, Any], widths: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Return targets with modes of sizes d_y, ..., 2, 1, and noise."""
    X = rng.standard_normal((config["n_samples"], widths[0]))
    left = np.linalg.qr(rng.standard_normal((widths[0], widths[-1])))[0]
    right = np.linalg.qr(rng.standard_normal((widths[-1], widths[-1])))[0]
    sizes = np.arange(widths[-1], 0, -1.0)
    Y = X @ (left * sizes) @ right
    return X, Y + config["noise"] * rng.standard_normal(Y.shape)


def _train(
    problem: Problem, theta: np.ndarray, method: str, config: dict[str, Any], least: float
) -> dict[str, Any]:
    """Return the losses of a run above the least one, and where it ended."""
    chosen = GradientDescent(rate=config["alpha"]) if method == "bp" else get_method(method)
    with quiet():  # singular systems are the subject here
        result = train(problem, theta, chosen, max_iter=config["max_iter"][method])
    losses = [result.initial_loss, *(record.loss for record in result.history)]
    excess = np.array(losses) - least
    below = np.flatnonzero(excess <= config["reached"])
    # A curve of thousands of points is kept at about 200, evenly on a logarithmic axis.
    kept = np.unique(np.geomspace(1, len(excess), min(200, len(excess))).astype(int)) - 1
    return {
        "status": result.status,
        "iterations": result.n_iter,
        "excess": float(excess[-1]),
        "reached": int(below[0]) if below.size else None,
        "curve": [[int(i), float(excess[i])] for i in kept],
    }


def plot(result: dict[str, Any]) -> Any:
    """Return a figure: the loss above the global minimum against the iteration, two panels."""
    figure, axes = new_figure(1, 2, width=5.4)
    floor = 1e-12
    longest = max(entry["curve"][-1][0] + 1 for entry in result["runs"])
    levels = np.array(result["critical_values"]) - result["critical_values"][0]
    for pair, how in zip(axes[0], WAYS, strict=True):
        for line, method in zip(LINES, METHODS, strict=False):
            label: str | None = NAMES[method]
            for entry in result["runs"]:
                if entry["escape"] != how or entry["method"] != method:
                    continue
                curve = np.array(entry["curve"])
                pair.loglog(
                    curve[:, 0] + 1,
                    np.maximum(curve[:, 1], floor),
                    line,
                    color={"lm": "k", "newton": "C0", "bp": "C3"}[method],
                    linewidth=1.2,
                    alpha=0.8,
                    label=label,
                )
                label = None
        for number, level in enumerate(levels[1:]):
            name = None if number else "other critical values"
            pair.axhline(level, color="0.6", linewidth=0.8, linestyle=":", label=name)
        pair.set_xlim(0.9, 2.0 * longest)
        pair.set_title(f"near the bad saddle, {how} escape")
        pair.set_xlabel("iteration + 1")
        pair.set_ylabel("loss above the global minimum")
        pair.set_ylim(floor, 10.0 * max(levels.max(), 1.0))
    axes[0, 0].legend(loc="lower right")
    return figure


def summary(result: dict[str, Any]) -> str:
    """Return a table: how many runs reached the minimum, and in how many iterations."""
    saddle, target = result["saddle"], result["config"]["reached"]
    lines = [
        f"start: a {saddle['label']} of loss {saddle['loss']:.4g}, eigenvalues from "
        f"{saddle['lowest_eigenvalue']:.1e} to {saddle['largest_eigenvalue']:.1e}; global minimum "
        f"{result['critical_values'][0]:.4g}",
        f"{'method':14s} {'escape':8s} within {target:.0e}   iterations (median)   ends",
    ]
    for method in METHODS:
        for how in WAYS:
            entries = [e for e in result["runs"] if e["method"] == method and e["escape"] == how]
            counts = [e["reached"] for e in entries if e["reached"] is not None]
            median = f"{np.median(counts):.0f}" if counts else "-"
            ends = ", ".join(sorted({e["status"] for e in entries}))
            lines.append(
                f"{NAMES[method]:14s} {how:8s} {len(counts):3d} of {len(entries):3d}     "
                f"{median:>19s}   {ends}"
            )
    return "\n".join(lines)
