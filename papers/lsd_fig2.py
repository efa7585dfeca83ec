"""Figure 2 of the loss surface decomposition: local minima on a boundary, caption corrected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.analysis.relu.enumeration import enumerate_subglobal_minima
from fastggn.figures.style import LINES, MARKERS, new_figure
from fastggn.network.mlp import MLP
from fastggn.objective.problem import Problem
from fastggn.training.control.stopping import Stop
from fastggn.training.methods.named import GradientDescent
from papers.runs import train

Report = Callable[[str], object]

DEFAULT: dict[str, Any] = {
    "seed": 0,
    "x": [-2.0, 2.0],
    "y": [-3.0, -1.0],
    "extent": 2.0,
    "points": 81,
    "cuts": [1.0, -1.0, -0.3],
    "trials": 100,
}
QUICK: dict[str, Any] = {**DEFAULT, "points": 41, "trials": 40}


def run(config: dict[str, Any], report: Report = lambda text: None) -> dict[str, Any]:
    """Return the loss of f(x) = w_2 max(w_1 x, 0), half the sum of squares, on a grid.

    Around points of the boundary w_1 = 0, the least loss among random neighbours tells the
    local minima from the others. Trainings from points at w_2 > 0 show what they mean.
    """
    X, y = np.array(config["x"])[:, None], np.array(config["y"])
    problem = Problem(MLP((1, 1, 1), "relu", bias="none"), X, y)
    side = np.linspace(-config["extent"], config["extent"], config["points"])
    surface = [[_loss(problem, a, b) for a in side] for b in side]
    report(f"{config['points']} x {config['points']} losses")
    rng = np.random.default_rng(config["seed"])
    neighbours = []
    for w2 in (-1.5, -0.5, 0.5, 1.5):
        moves = 1e-3 * rng.standard_normal((config["trials"], 2))
        change = [_loss(problem, a, w2 + b) - _loss(problem, 0.0, w2) for a, b in moves]
        neighbours.append({"w2": w2, "lowest_change": min(change)})
    return {
        "config": config,
        "w1": side.tolist(),
        "w2": side.tolist(),
        "loss": surface,
        "cuts": [
            {"w2": w2, "loss": [_loss(problem, a, w2) for a in side]} for w2 in config["cuts"]
        ],
        "neighbours": neighbours,
        "boundary_loss": _loss(problem, 0.0, 1.0),
        "regions": _regions(problem),
        "trainings": _trainings(problem, rng, config["trials"]),
    }


def _loss(problem: Problem, w1: float, w2: float) -> float:
    """Return half the sum of squares."""
    return problem.n_samples * problem.loss([w1, w2])


def _regions(problem: Problem) -> dict[str, float]:
    """Return the subglobal minima of the two regions and of w = 0."""
    X = problem.layer_outputs(np.zeros(2))[0].T
    records = enumerate_subglobal_minima(X, problem.targets, 1)
    return {str(r).split(maxsplit=1)[0]: r.loss for r in records}


def _trainings(problem: Problem, rng: np.random.Generator, count: int) -> dict[str, int]:
    """Count where gradient descent ends from random starts with w_2 > 0."""
    ends = {"boundary": 0, "region": 0}
    for _ in range(count):
        start: NDArray[np.float64] = rng.uniform([-2.0, 0.0], [2.0, 2.0])
        end = train(
            problem,
            start,
            method=GradientDescent(rate=0.05),
            max_iter=200,
            stop=Stop(gradient=1e-9),
        )
        ends["boundary" if abs(end.theta[0]) < 0.05 else "region"] += 1
    return ends


def summary(result: dict[str, Any]) -> str:
    """Return what the boundary is on either side of w_2 = 0."""
    lines = [f"on w_1 = 0 the loss is {result['boundary_loss']:g}"]
    for near in result["neighbours"]:
        kind = "local minimum" if near["lowest_change"] >= -1e-12 else "no minimum"
        lines.append(
            f"  w_2 = {near['w2']:4.1f}: {kind} (lowest change nearby {near['lowest_change']:.2g})"
        )
    values = ", ".join(f"{pattern}: {loss:g}" for pattern, loss in result["regions"].items())
    lines.append(f"subglobal minima by pattern: {values}")
    ends = result["trainings"]
    lines.append(
        f"gradient descent from w_2 > 0: {ends['boundary']} of {sum(ends.values())} end at the "
        "boundary"
    )
    return "\n".join(lines)


def plot(result: dict[str, Any]) -> Any:
    """Draw the loss over two weights, and along w_1 through the boundary w_1 = 0."""
    figure, axes = new_figure(1, 2, width=5.2, height=4.2)
    left, right = axes[0]
    w1, w2 = np.array(result["w1"]), np.array(result["w2"])
    loss = np.array(result["loss"])
    levels = np.array([0.55, 1.0, 2.0, 3.0, 4.0, 4.9, 5.5, 7.0, 10.0, 15.0, 25.0, 40.0])
    lines = left.contour(w1, w2, loss, levels, colors="0.35", linewidths=0.8)
    _label(left, lines, w1[-1])
    left.plot([0, 0], [0, w2[-1]], color="black", linewidth=3.5, label="local minima, loss 5")
    left.plot([0, 0], [w2[0], 0], color="black", linestyle=":", linewidth=2.0,
              label="boundary, not minima")  # fmt: skip
    left.set(xlabel="$w_1$", ylabel="$w_2$", title="$L(w_1, w_2)$ and the boundary $w_1 = 0$")
    left.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, fontsize=9,
                frameon=False)  # fmt: skip
    for k, cut in enumerate(result["cuts"]):
        right.plot(w1, cut["loss"], color="black", linestyle=LINES[k % len(LINES)],
                   marker=MARKERS[k % len(MARKERS)], markevery=(3 * k, 16), markersize=4,
                   markerfacecolor="white", label=f"$w_2 = {cut['w2']:g}$")  # fmt: skip
    right.axvline(0.0, color="0.6", linewidth=0.8)
    right.set(xlabel="$w_1$", ylabel="loss", ylim=(3.0, 8.0), title="Loss along $w_1$")
    right.legend(frameon=False)
    return figure


def _label(axes: Any, lines: Any, extent: float) -> None:
    """Label the contours where there is room: away from each other and from the boundary."""
    kept: list[tuple[float, float]] = []
    for text in axes.clabel(lines, inline=False, fontsize=7, fmt="%g", colors="black"):
        x, y = text.get_position()
        near = min((np.hypot(x - a, y - b) for a, b in kept), default=np.inf)
        if abs(x) < 0.1 * extent or max(abs(x), abs(y)) > 0.94 * extent or near < 0.16 * extent:
            text.remove()
            continue
        kept.append((x, y))
        text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 0.6})
