"""Figure 2 of the loss surface decomposition: local minima on a boundary, caption corrected."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.network.mlp import MLP
from fastggn.objective.problem import Problem
from fastggn.training.train import train

__all__ = ["DEFAULT", "QUICK", "plot", "run", "summary"]

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
    from fastggn.analysis.relu.enumeration import enumerate_subglobal_minima

    X = problem.layer_outputs(np.zeros(2))[0].T
    records = enumerate_subglobal_minima(X, problem.targets, 1)
    return {str(r).split(maxsplit=1)[0]: r.loss for r in records}


def _trainings(problem: Problem, rng: np.random.Generator, count: int) -> dict[str, int]:
    """Count where gradient descent ends from random starts with w_2 > 0."""
    ends = {"boundary": 0, "region": 0}
    for _ in range(count):
        start: NDArray[np.float64] = rng.uniform([-2.0, 0.0], [2.0, 2.0])
        end = train(problem, start, method="bp", alpha=0.05, max_iter=200, grad_tol=1e-9)
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
    """Draw the contours and cuts across the boundary."""
    from fastggn.figures.regions import plot_boundary_minimum

    return plot_boundary_minimum(result)
