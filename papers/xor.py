"""XOR: the stationary points of small networks, searched for, polished and classified.

Shen (2018, Section 5.1) discusses F(2,2,1) and F(2,3,1). Here F(2,1,1) to F(2,4,1), sigmoid and
tanh, identity and sigmoid output, from many starts by two searches: Levenberg-Marquardt
training, and least squares on gradient = 0, which finds saddles as readily as minima.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fastggn.analysis.critical.classify import critical_point
from fastggn.analysis.critical.polishing import polish
from fastggn.analysis.critical.report import CriticalPointReport
from fastggn.data.builtin import xor
from fastggn.figures.style import new_figure
from fastggn.network.mlp import MLP
from fastggn.objective.problem import Problem
from papers.runs import quiet, train
from papers.xor_ranks import smallest_xor_ranks

DEFAULT: dict[str, Any] = {
    "seed": 0,
    "hidden_units": [1, 2, 3, 4],
    "hidden": ["sigmoid", "tanh"],
    "output": ["identity", "sigmoid"],
    "starts": 50,
    "deviations": [1.0, 3.0],
    "max_iter": 300,
    "random_ranks": 2000,
}
QUICK: dict[str, Any] = {**DEFAULT, "starts": 3, "max_iter": 200, "random_ranks": 100}

SEARCHES = ("training", "stationary")
# Losses that agree to this are one; on the way to infinity they are still falling.
SAME_LOSS = 1e-7
SAME_LIMIT = 1e-3
# Singular values of J below this share of the largest count as zero: where the Hessian is
# degenerate a gradient of 1e-13 leaves the weights uncertain by about as much.
RANK_TOLERANCE = 1e-4
MOST_SHOWN = 3  # inertias a line of the summary
MARKERS = {
    "global_minimum": "o",
    "local_minimum": "^",
    "strict_saddle": "v",
    "saddle": "D",
    "degenerate": "x",
    "diverging": ">",
}
# Labels of one loss stand below each other, apart within a row of height 1.
SHIFTS = {label: 0.16 * place - 0.4 for place, label in enumerate(MARKERS)}
# Area of a marker, in square points: of no search, and what the largest count adds.
AREA, LARGEST = 10.0, 44.0
TICKS = {0.0: "0", 1 / 16: "1/16", 1 / 12: "\n1/12", 1 / 8: "1/8", 3 / 16: "3/16", 1 / 4: "1/4",
         3 / 8: "3/8"}  # fmt: skip


def run(config: dict[str, Any], report: Callable[[str], None]) -> dict[str, Any]:
    """Search, polish and classify; return tables of plain values."""
    cases = []
    for n, hidden, output in _cases(config):
        case = _search(n, hidden, output, config)
        found = sum(group["count"] for group in case["groups"])
        report(
            f"F(2,{n},1), {hidden}, {output} output: {found} stationary points in "
            f"{len(case['groups'])} groups, {case['not_stationary']} searches without"
        )
        cases.append(case)
    ranks = [
        _ranks(n, hidden, config) for hidden in config["hidden"] for n in config["hidden_units"]
    ]
    return {"config": dict(config), "cases": cases, "ranks": ranks}


def _cases(config: dict[str, Any]) -> Iterator[tuple[int, str, str]]:
    for output in config["output"]:
        for hidden in config["hidden"]:
            for n in config["hidden_units"]:
                yield n, hidden, output


def _ranks(n: int, hidden: str, config: dict[str, Any]) -> dict[str, Any]:
    """Return the smallest ranks of P under each hypothesis, and those at random weights."""
    net = MLP((2, n, 1), activation=hidden)
    problem = Problem(net, *xor())
    rng = np.random.default_rng([config["seed"], n])
    random: dict[str, int] = {}
    for _ in range(config["random_ranks"]):
        _count(random, str(problem.jacobian(rng.standard_normal(net.n_params)).rank()))
    found = smallest_xor_ranks(n, hidden)
    return {
        "network": f"F(2,{n},1)", "hidden": hidden, "paper": found[0].paper,
        "smallest": {row.hypothesis: row.rank for row in found}, "random": random,
    }  # fmt: skip


def _search(n: int, hidden: str, output: str, config: dict[str, Any]) -> dict[str, Any]:
    """Return the stationary points of one network, grouped."""
    net = MLP((2, n, 1), activation=hidden, output_activation=output)
    problem = Problem(net, *xor())
    rng = np.random.default_rng([config["seed"], n, hidden == "tanh", output == "sigmoid"])
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    missed = 0
    for k in range(config["starts"]):
        deviation = config["deviations"][k % len(config["deviations"])]
        for search in SEARCHES:
            start = deviation * rng.standard_normal(net.n_params)
            judged = _stationary_point(problem, start, search, config["max_iter"])
            if judged.label == "not_critical":
                missed += 1
            else:
                _add(groups, problem, judged, search)
    order = list(MARKERS)
    ordered = sorted(
        groups.values(),
        key=lambda g: (g["label"] == "diverging", round(g["loss"], 6), order.index(g["label"])),
    )
    return {
        "network": f"F(2,{n},1)", "hidden": hidden, "output": output,
        "searches": 2 * config["starts"], "not_stationary": missed, "groups": ordered,
    }  # fmt: skip


def _stationary_point(
    problem: Problem, start: np.ndarray, search: str, max_iter: int
) -> CriticalPointReport:
    """Return the end of one search, polished and classified."""
    if search == "training":
        with quiet():  # runs towards infinity are counted here
            start = train(problem, start, max_iter=max_iter).theta
    return critical_point(problem, polish(problem, start).theta)


def _add(
    groups: dict[tuple[Any, ...], dict[str, Any]],
    problem: Problem,
    judged: CriticalPointReport,
    search: str,
) -> None:
    """Count a point in the group of its label, loss, rank and inertia."""
    diverging = judged.label == "diverging"
    same = SAME_LIMIT if diverging else SAME_LOSS
    key = next(
        (k for k in groups if k[0] == judged.label and abs(k[1] - judged.loss) <= same),
        (judged.label, judged.loss),
    )
    group = groups.setdefault(
        key,
        {
            "label": judged.label, "loss": judged.loss, "count": 0, **dict.fromkeys(SEARCHES, 0),
            "ranks": {}, "inertias": {}, "gradient_norm": 0.0,
            "smallest_weights": np.inf, "largest_weights": 0.0,
            "reason": judged.reason, "example": judged.theta.tolist(),
        },
    )  # fmt: skip
    group["count"] += 1
    group[search] += 1
    # On the way to infinity rank and inertia are those of rounding errors: left out.
    if not diverging:
        values = problem.jacobian(judged.theta).singular_values()
        _count(group["ranks"], str(np.count_nonzero(values > RANK_TOLERANCE * values[0])))
        _count(group["inertias"], ",".join(map(str, judged.inertia or ())))
    group["loss"] = min(group["loss"], judged.loss)
    group["gradient_norm"] = max(group["gradient_norm"], judged.gradient_norm)
    largest = float(np.abs(judged.theta).max())
    group["smallest_weights"] = min(group["smallest_weights"], largest)
    group["largest_weights"] = max(group["largest_weights"], largest)


def _count(counts: dict[str, int], name: str) -> None:
    counts[name] = counts.get(name, 0) + 1


def plot(result: dict[str, Any]) -> Any:
    """Draw the losses of the points found, a row a network, a marker a label."""
    outputs = result["config"]["output"]
    figure, axes = new_figure(1, len(outputs), width=6.0, height=7.4)
    most = max((g["count"] for case in result["cases"] for g in case["groups"]), default=1)
    seen: dict[str, Any] = {}
    for pair, output in zip(axes[0], outputs, strict=True):
        cases = [case for case in result["cases"] if case["output"] == output]
        pair.grid(False, axis="y")
        for row, case in enumerate(cases):
            pair.axhline(row + 0.5, color="0.8", linewidth=0.8)
            for group in case["groups"]:
                pair.scatter(
                    group["loss"], row + SHIFTS[group["label"]], marker=MARKERS[group["label"]],
                    s=AREA + LARGEST * group["count"] / most, **_face(group["label"]),
                )  # fmt: skip
        pair.set_yticks(range(len(cases)))
        pair.set_yticklabels([f"{case['network']} {case['hidden']}" for case in cases])
        pair.set_ylim(len(cases) - 0.5, -0.5)
        shown = {x: name for x, name in TICKS.items() if x <= pair.get_xlim()[1]}
        pair.set_xticks(list(shown), list(shown.values()))
        pair.set_xlabel("loss (half the mean squared error)")
        pair.set_title(f"{output} output")
        seen.update({group["label"]: None for case in cases for group in case["groups"]})
    _legends(figure, axes[0, 0], [name for name in MARKERS if name in seen], most)
    return figure


def _legends(figure: Any, axes: Any, labels: list[str], most: int) -> None:
    """Explain the markers and their sizes below the figure."""
    middle = AREA + LARGEST / 2
    kinds = [axes.scatter([], [], marker=MARKERS[n], s=middle, **_face(n)) for n in labels]
    names = [name.replace("_", " ") for name in labels]
    figure.legend(kinds, names, loc="outside lower left", ncols=3, frameon=False)
    counts = sorted({1, max(1, most // 2), most})
    areas = [AREA + LARGEST * count / most for count in counts]
    sizes = [axes.scatter([], [], marker="s", s=area, color="0.6") for area in areas]
    texts = [f"{count} search{'es' if count > 1 else ''}" for count in counts]
    figure.legend(
        sizes, texts, loc="outside lower right", ncols=3, frameon=False, title="ending there:"
    )


def _face(label: str) -> dict[str, Any]:
    """Return colours: hollow where the point is at infinity, filled at minima."""
    if label in ("global_minimum", "local_minimum"):
        return {"color": "black"}
    if label == "degenerate":
        return {"color": "tab:red"}
    return {"facecolors": "none", "edgecolors": "tab:red" if label == "diverging" else "tab:blue"}


def summary(result: dict[str, Any]) -> str:
    """Return the tables of ranks and of stationary points as text."""
    lines = ["Smallest ranks of P (T n_L = 4):"]
    short = ("none", "full rank", "w_2 not 0")
    lines.append(
        f"  {'network':<20}{'paper':>6}" + "".join(f"{name:>11}" for name in short) + "  random"
    )
    for row in result["ranks"]:
        values = "".join(f"{rank:>11}" for rank in row["smallest"].values())
        drawn = ", ".join(f"{rank}: {count}" for rank, count in row["random"].items())
        paper = "-" if row["paper"] is None else row["paper"]
        lines.append(f"  {row['network'] + ' ' + row['hidden']:<20}{paper:>6}{values}  {drawn}")
    for case in result["cases"]:
        lines.append(
            f"\n{case['network']}, {case['hidden']}, {case['output']} output: "
            f"{case['searches']} searches, {case['not_stationary']} without a stationary point"
        )
        lines.append(
            f"  {'label':<15}{'loss':>11}{'count':>6}{'trained':>8}  {'rank':<5}{'max |w|':<20}"
            "inertia (how often)"
        )
        lines += [_line(group) for group in case["groups"]]
    return "\n".join(lines)


def _line(group: dict[str, Any]) -> str:
    often = sorted(group["inertias"].items(), key=lambda pair: -pair[1])
    inertia = "  ".join(f"{name} ({count})" for name, count in often[:MOST_SHOWN])
    if len(often) > MOST_SHOWN:
        inertia += f"  and {len(often) - MOST_SHOWN} more"
    ranks = sorted(group["ranks"])
    rank = "-" if not ranks else ranks[0] if len(ranks) == 1 else f"{ranks[0]}-{ranks[-1]}"
    low, high = group["smallest_weights"], group["largest_weights"]
    weights = f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"
    return (
        f"  {group['label']:<15}{group['loss']:>11.7f}{group['count']:>6}{group['training']:>8}  "
        f"{rank:<5}{weights:<20}{inertia or '-'}"
    )
