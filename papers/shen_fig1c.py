"""Shen 2018, Figure 1(c): GGN steps of length 0.01 against gradient descent at equal time.

F(2,10,10,4) on the four regions with targets in {0, 1}^4. The paper leaves the number of samples,
the biases, the activation, the initial weights and the order of the samples open, and whether its
step of 0.01 multiplies the gradient of the sum of the errors or of their mean (its own gradient,
Eqs. 16-19, lacks the 1/T). For GGN this makes no difference, for gradient descent a factor T.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.data.builtin import four_regions
from fastggn.figures.style import LINES, MARKERS, new_figure
from fastggn.network.mlp import MLP
from fastggn.objective.problem import Problem
from fastggn.runtime.threads import threads
from fastggn.training.control.stopping import Stop
from fastggn.training.fallback import Fallback
from fastggn.training.methods.named import GaussNewton, GradientDescent
from fastggn.training.step import Work
from fastggn.training.train import train
from papers.runs import quiet

DEFAULT: dict[str, Any] = {
    "seed": 0,
    "widths": [2, 10, 10, 4],
    "n_samples": 100,
    "activation": "sigmoid",
    "bias": "free",
    "init": "glorot",
    "alpha": 0.01,
    # What alpha multiplies in gradient descent: the gradient of the "sum" of the errors or "mean".
    "bp_gradient": "sum",
    # Of the third curve: added to the GGN matrix of the mean loss at every step.
    "damping": 1e-8,
    "iterations": 1000,
    "starts": 5,
    # The start that the figure shows; the table has all.
    "shown": 5,
}
QUICK = {**DEFAULT, "iterations": 150, "starts": 1, "shown": 1}

# Points of gradient descent that the result keeps, each the range of several iterations.
BINS = 400
UNLIMITED = 10**7


def run(config: dict[str, Any], report: Callable[[str], None]) -> dict[str, Any]:
    """Return the three loss curves of one start, and the figures of every start.

    Returns
    -------
    dict
        ``curves`` of the start that is shown, and ``starts``: for each method the first, highest
        and last loss, the time an iteration takes and how often the loss rises.
    """
    if config["bp_gradient"] not in ("sum", "mean"):
        raise ValueError(f"bp_gradient must be sum or mean, got {config['bp_gradient']!r}")
    if config["starts"] < 1 or config["iterations"] < 10:
        raise ValueError("starts must be at least 1 and iterations at least 10")
    if not 1 <= config["shown"] <= config["starts"]:
        raise ValueError(f"shown must be in 1..{config['starts']}, got {config['shown']}")
    X, Y = four_regions(config["n_samples"], seed=config["seed"], one_hot=True)
    net = MLP(config["widths"], config["activation"], bias=config["bias"])
    problem = Problem(net, X, Y)
    starts, curves = [], {}
    with threads(1), quiet():
        for start in range(config["starts"]):
            rng = np.random.default_rng([config["seed"], start])
            theta0 = net.init(rng, config["init"])
            if start == 0:  # compiles, and warms the caches
                _race(problem, theta0, {**config, "iterations": 3})
            runs = _race(problem, theta0, config)
            starts.append({name: _figures(*one) for name, one in runs.items()})
            if start + 1 == config["shown"]:
                curves = {name: _curve(*one) for name, one in runs.items()}
            report(f"start {start + 1}/{config['starts']}: GGN at {runs['ggn'][0][-1]:.3g}")
    return {
        "network": f"F({','.join(map(str, config['widths']))}), {config['activation']}",
        "n_params": problem.n_params,
        "n_equations": problem.n_samples * problem.n_outputs,
        "n_samples": problem.n_samples,
        "alpha": config["alpha"],
        "bp_alpha": _bp_alpha(config),
        "damping": config["damping"],
        "iterations": config["iterations"],
        "shown": config["shown"],
        "curves": curves,
        "starts": starts,
    }


def _bp_alpha(config: dict[str, Any]) -> float:
    """Return the factor on the gradient of the mean."""
    return float(config["alpha"] * (config["n_samples"] if config["bp_gradient"] == "sum" else 1))


def _race(
    problem: Problem, theta0: NDArray[np.float64], config: dict[str, Any]
) -> dict[str, tuple[list[float], float]]:
    """Return the losses, the first one included, and the seconds of each method."""
    options: dict[str, Any] = {"stop": Stop(gradient=0.0, step=0.0)}
    count, alpha = config["iterations"], config["alpha"]
    ggn = train(problem, theta0, GaussNewton(step=alpha), max_iter=count, **options)
    bp = train(
        problem,
        theta0,
        GradientDescent(rate=_bp_alpha(config)),
        max_iter=UNLIMITED,
        max_time=ggn.seconds,
        **options,
    )
    runs = {
        name: ([result.initial_loss, *(r.loss for r in result.history)], result.seconds)
        for name, result in (("ggn", ggn), ("bp", bp))
    }
    runs["damped"] = damped_ggn(problem, theta0, count, alpha, config["damping"])
    return runs


def damped_ggn(
    problem: Problem, theta0: NDArray[np.float64], count: int, alpha: float, damping: float
) -> tuple[list[float], float]:
    """Return losses and seconds of ``theta <- theta - alpha (G + damping I)^-1 g``.

    Parameters
    ----------
    problem : Problem
        What is minimised.
    theta0 : (N,) ndarray
        Where to start.
    count : int
        Number of steps; fewer are taken if the loss is no longer finite.
    alpha, damping : float
        Both held fixed.
    """
    start = time.perf_counter()
    systems = Fallback(
        problem, "cholesky", needs_minimum_norm=False, patience=0, work=Work(), mixed=False
    )
    point = problem.at(theta0)
    losses = [float(point.loss)]
    for _ in range(count):
        solution = systems.prepare(point).solve(damping)
        if not solution.ok:
            break
        point = problem.at(point.theta + alpha * solution.step)
        losses.append(float(point.loss))
        if not np.isfinite(losses[-1]):
            break
    return losses, time.perf_counter() - start


def _figures(losses: list[float], seconds: float) -> dict[str, Any]:
    """Return what the summary says of one run."""
    values = np.asarray(losses)
    steps = values.size - 1
    rises = np.diff(values) > 0.0
    peak = int(np.argmax(values))
    tail = values[-max(2, values.size // 10) :]
    return {
        "first": values[0],
        "peak": values[peak],
        "peak_iteration": peak,
        "last": values[-1],
        "iterations": steps,
        "seconds": seconds,
        "ms_per_iteration": 1e3 * seconds / max(1, steps),
        "rises": int(np.sum(rises)),
        "rises_after_peak": int(np.sum(rises[peak:])),
        "rising_share_first_tenth": float(np.mean(rises[: max(1, steps // 10)])),
        "rising_share_last_tenth": float(np.mean(rises[-max(1, steps // 10) :])),
        # The highest loss of the last tenth over its lowest.
        "swing_last_tenth": float(np.max(tail) / max(np.min(tail), np.finfo(float).tiny)),
    }


def _curve(losses: list[float], seconds: float) -> dict[str, Any]:
    """Return the first losses one by one, and the range of all in bins of equal time."""
    values = np.asarray(losses)
    edges = np.unique(np.linspace(0, values.size, min(BINS, values.size) + 1).astype(int))
    pieces = [values[a:b] for a, b in zip(edges[:-1], edges[1:], strict=True)]
    return {
        "beginning": values[: 1 + min(1000, values.size - 1)].tolist(),
        "seconds": (edges[:-1] * (seconds / values.size)).tolist(),
        "lowest": [float(np.min(p)) for p in pieces],
        "highest": [float(np.max(p)) for p in pieces],
        "seconds_per_iteration": seconds / max(1, values.size - 1),
    }


NAMES = {"ggn": "GGN, minimum norm", "damped": "GGN, damped", "bp": "gradient descent"}


def summary(result: dict[str, Any]) -> str:
    """Return the table of the starts."""
    lines = [
        f"{result['network']}: {result['n_params']} parameters, {result['n_equations']} equations; "
        f"alpha {result['alpha']:g}, for gradient descent {result['bp_alpha']:g} on the mean; "
        f"damping {result['damping']:g}",
        f"{'start':<6}{'method':<18}{'steps':>7}{'ms each':>8}{'first':>9}{'peak':>9}{'at':>6}"
        f"{'last':>9}{'rises':>7}{'late':>6}{'swing':>9}",
    ]
    for number, methods in enumerate(result["starts"], start=1):
        for key, name in NAMES.items():
            m = methods[key]
            lines.append(
                f"{number:<6}{name:<18}{m['iterations']:>7}{m['ms_per_iteration']:>8.3f}"
                f"{m['first']:>9.3g}{m['peak']:>9.2g}{m['peak_iteration']:>6}{m['last']:>9.3g}"
                f"{m['rises']:>7}{m['rising_share_last_tenth']:>6.2f}{m['swing_last_tenth']:>9.3g}"
            )
    ratios = {key: _time_ratio(result, key) for key in ("ggn", "damped")}
    lines += [
        "late: share of the last tenth of the steps that raise the loss; swing: its highest loss "
        "over its lowest",
        f"an iteration of GGN takes {ratios['ggn']:.1f} times as long as one of gradient descent "
        f"(damped: {ratios['damped']:.1f}; the paper: 21.4)",
    ]
    return "\n".join(lines)


def _time_ratio(result: dict[str, Any], method: str) -> float:
    """Return the median over the starts of the time of an iteration over gradient descent's."""
    return float(
        np.median(
            [s[method]["ms_per_iteration"] / s["bp"]["ms_per_iteration"] for s in result["starts"]]
        )
    )


def plot(result: dict[str, Any]) -> Any:
    """Return the losses by iteration, and by time with gradient descent to its end."""
    labels = {
        "ggn": f"GGN, minimum norm, alpha {result['alpha']:g}",
        "damped": f"GGN, damping {result['damping']:g}, alpha {result['alpha']:g}",
        "bp": f"gradient descent, alpha {result['bp_alpha']:g} on the mean",
    }
    figure, axes = new_figure(1, 2, width=5.4, height=4.2)
    left, right = axes[0]
    colours = ("black", "tab:red", "tab:blue")
    for number, (key, label) in enumerate(labels.items()):
        curve = result["curves"][key]
        style = {"color": colours[number], "linestyle": LINES[number]}
        beginning = np.asarray(curve["beginning"], dtype=np.float64)
        mark = {"marker": MARKERS[number], "markevery": 0.1, "markersize": 4}
        left.semilogy(np.arange(beginning.size), beginning, label=label, **style, **mark)
        seconds = np.asarray(curve["seconds"])
        low, high = np.asarray(curve["lowest"]), np.asarray(curve["highest"])
        right.semilogy(seconds, np.sqrt(low * high), **style, **mark)
        right.fill_between(seconds, low, high, color=style["color"], alpha=0.3, linewidth=0.0)
    left.set_xlabel("iteration")
    left.set_ylabel("loss")
    title = f"{result['network']}, {result['n_samples']} samples, start {result['shown']}"
    left.set_title(title, fontsize=10)
    left.legend(fontsize=8)
    right.set_xlabel("seconds")
    right.set_title("By time; bands: range of the losses of neighbouring iterations", fontsize=10)
    return figure
