"""Published protocols beside the other Levenberg-Marquardt packages: time to a given loss.

``python -m bench.protocols --seeds 5 --limit 60`` runs the teacher-student task of MLPGradientFlow
(arXiv 2301.10638: T = 10,000 standard normal inputs, a teacher of k units, students of k times 1,
1.5, 2 and 3 units, softplus and sigmoid) and the Rosenbrock task of OpenNN's precision benchmark
(10 inputs U(-1, 1), 10,000 samples, z-normalised, 10-10(tanh)-1), every solver from the same
first weights, each for at most `limit` seconds after an untimed run that compiles. A solver
has reached a loss f if f <= f* + tau (f0 - f*), with the lowest loss f* of all solvers (More and
Wild 2009, "Benchmarking derivative-free optimization algorithms"). Prints a line a cell, writes all
losses over time as JSON, and draws the performance profile (Dolan and More 2002).
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import fastggn as fg
from bench.core import Absent
from bench.peer_solvers import SOLVERS

FloatArray = NDArray[np.float64]
Curve = list[tuple[float, float]]  # seconds, mean squared error

SAMPLES = 10_000
UNITS = (2, 4)
FACTORS = (1.0, 1.5, 2.0, 3.0)
ACTIVATIONS = ("softplus", "sigmoid")
ACCURACIES = (1e-3, 1e-6, 1e-9)


@dataclass(frozen=True)
class Task:
    """A network with one hidden layer, its samples, and first weights."""

    name: str
    widths: tuple[int, int, int]
    activation: str
    X: FloatArray
    Y: FloatArray
    theta: FloatArray

    @property
    def network(self) -> fg.MLP:
        """The network."""
        return fg.MLP(self.widths, self.activation)


def teacher_student(units: int, factor: float, activation: str, seed: int, samples: int) -> Task:
    """Return a task of MLPGradientFlow."""
    rng = np.random.default_rng([units, seed])
    X = rng.standard_normal((samples, units))
    teacher = fg.MLP((units, units, 1), activation)
    Y = teacher.predict(rng.standard_normal(teacher.n_params), X).reshape(-1, 1)
    widths = (units, int(round(factor * units)), 1)
    start = fg.MLP(widths, activation).init(seed=seed)
    name = f"teacher-student, {activation}, k = {units}, {factor:g} k units"
    return Task(name, widths, activation, X, Y, start)


def rosenbrock(seed: int, samples: int) -> Task:
    """Return the task of OpenNN's precision benchmark."""
    draw = random.Random(1234)
    X = np.array([[draw.uniform(-1, 1) for _ in range(10)] for _ in range(samples)])
    left, right = X[:, :-1], X[:, 1:]
    Y = ((1.0 - left) ** 2 + 100.0 * (right - left**2) ** 2).sum(axis=1, keepdims=True)
    X, Y = ((a - a.mean(axis=0)) / a.std(axis=0) for a in (X, Y))
    net = fg.MLP((10, 10, 1), "tanh")
    start = np.random.default_rng(seed).uniform(-1, 1, net.n_params)
    return Task("Rosenbrock, tanh, 10-10-1", net.widths, "tanh", X, Y, start)  # type: ignore[arg-type]


def tasks(seeds: int, samples: int, names: list[str]) -> Iterator[tuple[int, Task]]:
    """Yield the tasks with their seeds."""
    for seed in range(seeds):
        if "teacher" in names:
            for units, factor, activation in product(UNITS, FACTORS, ACTIVATIONS):
                yield seed, teacher_student(units, factor, activation, seed, samples)
        if "rosenbrock" in names:
            yield seed, rosenbrock(seed, samples)


def curves(task: Task, limit: float, wanted: list[str]) -> dict[str, Curve]:
    """Return the losses over time of each solver that is installed."""
    found: dict[str, Curve] = {}
    for name, make in SOLVERS.items():
        if name not in wanted:
            continue
        try:
            solve = make(task)
        except Absent as reason:
            print(f"  {name}: {reason}")
            continue
        solve(0.0)  # compiles
        found[name] = [(0.0, first_error(task)), *solve(limit)]
        last = min(error for _, error in found[name])
        print(f"  {name:<26} {last:10.3e} after {found[name][-1][0]:7.2f} s", flush=True)
    return found


def first_error(task: Task) -> float:
    """Return the mean squared error of the first weights."""
    residual = task.network.predict(task.theta, task.X).reshape(task.Y.shape) - task.Y
    return float(np.square(residual).mean())


def seconds_to(found: dict[str, Curve], tau: float) -> dict[str, float]:
    """Return the seconds to the loss of this accuracy by solver; inf where it was not reached."""
    lowest = min(error for curve in found.values() for _, error in curve)
    first = next(iter(found.values()))[0][1]
    goal = lowest + tau * (first - lowest)
    return {
        name: next((seconds for seconds, error in curve if error <= goal), np.inf)
        for name, curve in found.items()
    }


def profile(records: list[dict[str, Any]], tau: float) -> dict[str, list[float]]:
    """Return, by solver, the ratios of its time to the least one, one for each task."""
    ratios: dict[str, list[float]] = {}
    for record in records:
        times = seconds_to(record["curves"], tau)
        least = max(min(times.values()), 1e-9)
        for name, taken in times.items():
            ratios.setdefault(name, []).append(taken / least)
    return ratios


def table(records: list[dict[str, Any]], tau: float) -> str:
    """Return a line for each cell: the median time, and that of the best other solver over it."""
    lines = [f"accuracy {tau:g}: fastggn's seconds, the best other's, ratio (medians over seeds)"]
    cells: dict[str, list[dict[str, float]]] = {}
    for record in records:
        cells.setdefault(record["task"], []).append(seconds_to(record["curves"], tau))
    for name, times in cells.items():
        own = statistics.median(t["fastggn"] for t in times)
        others = {k: statistics.median(t[k] for t in times) for k in times[0] if k != "fastggn"}
        others.setdefault("no other", np.inf)
        best = min(others, key=others.__getitem__)
        ratio = others[best] / own if np.isfinite(own) else 0.0
        lines.append(f"| {name} | {own:.3g} | {others[best]:.3g} ({best}) | {ratio:.3g} |")
    return "\n".join(lines)


def draw(records: list[dict[str, Any]], path: Path) -> None:
    """Draw the performance profile: the share of tasks within a factor of the least time."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(ACCURACIES), figsize=(11, 3.6), sharey=True)
    for axis, tau in zip(axes, ACCURACIES, strict=True):
        for name, ratios in profile(records, tau).items():
            ordered = np.sort(ratios)
            shares = np.arange(1, ordered.size + 1) / ordered.size
            kept = np.isfinite(ordered)
            x = np.r_[1.0, ordered[kept], 1e3]
            y = np.r_[0.0, shares[kept], shares[kept][-1] if kept.any() else 0.0]
            axis.step(x, y, where="post", label=name, lw=2.2 if name == "fastggn" else 1.3)
        axis.set(xscale="log", xlim=(1, 1e3), ylim=(0, 1.02), xlabel="time over the least time")
        axis.set_title(f"accuracy {tau:g}", fontsize=10)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("share of the tasks")
    axes[-1].legend(fontsize=8, loc="lower right")
    figure.tight_layout()
    figure.savefig(path, dpi=130)


def main(arguments: list[str] | None = None) -> None:
    """Run the protocols, or read the JSON of an earlier run."""
    parser = argparse.ArgumentParser(prog="bench.protocols")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--limit", type=float, default=60.0, help="seconds a run")
    parser.add_argument("--samples", type=int, default=SAMPLES)
    parser.add_argument("--tasks", nargs="+", default=["teacher", "rosenbrock"])
    parser.add_argument("--solvers", nargs="+", default=list(SOLVERS))
    parser.add_argument("--json", type=Path, default=None, help="write or, if it exists, read")
    parser.add_argument("--picture", type=Path, default=None)
    options = parser.parse_args(arguments)
    if options.json is not None and options.json.exists():
        records = json.loads(options.json.read_text())
    else:
        records = []
        for seed, task in tasks(options.seeds, options.samples, options.tasks):
            print(f"{task.name}, seed {seed}")
            found = curves(task, options.limit, options.solvers)
            records.append({"task": task.name, "seed": seed, "curves": found})
            if options.json is not None:
                options.json.with_suffix(".part").write_text(json.dumps(records))
        if options.json is not None:
            options.json.with_suffix(".part").rename(options.json)
    for tau in ACCURACIES:
        print(table(records, tau))
    if options.picture is not None:
        draw(records, options.picture)


Solve = Callable[[float], Curve]

if __name__ == "__main__":
    start = time.perf_counter()
    main()
    print(f"{time.perf_counter() - start:.0f} s")
