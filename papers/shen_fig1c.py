"""Shen 2018, Figure 1(c): GGN steps of length 0.01 against gradient descent at equal work.

F(2,10,10,4) on the four regions with targets in {0, 1}^4. The paper leaves the number of samples,
the biases, the activation, the initial weights and the order of the samples open, and whether its
step of 0.01 multiplies the gradient of the sum of the errors or of their mean (its own gradient,
Eqs. 16-19, lacks the 1/T). For GGN this makes no difference, for gradient descent a factor T.

Work is counted in passes: one forward and backward pass through all samples, which is a step of
gradient descent, takes 3 T N multiplications. No number here depends on the machine's speed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.data.builtin import four_regions
from fastggn.figures.style import LINES, MARKERS, legend_outside, new_figure
from fastggn.network.mlp import MLP
from fastggn.objective.problem import Problem
from fastggn.runtime.threads import threads
from fastggn.training.control.stopping import Stop
from fastggn.training.fallback import Fallback
from fastggn.training.methods.named import GaussNewton
from fastggn.training.step import Work
from papers.runs import quiet, train

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
    # Steps of gradient descent; None: as many as the passes of all steps with damping.
    "bp_steps": None,
    "starts": 3,
    # The start that the figure shows; the table has all.
    "shown": 2,
}
QUICK = {**DEFAULT, "bp_steps": 20_760, "starts": 1, "shown": 1}

# Points of a curve that the result keeps beyond its beginning, each the range of several losses.
BINS = 400
BEGINNING = 1000
# What the paper ran in the time of 1000 iterations of GGN.
PAPER_STEPS = 20_760


def run(config: dict[str, Any], report: Callable[[str], None]) -> dict[str, Any]:
    """Return the three loss curves of one start, and the figures of every start.

    Returns
    -------
    dict
        ``curves`` of the start that is shown, ``starts``: for each method the first, highest and
        last loss and how often the loss rises, with the losses of gradient descent at some counts
        of steps, and ``passes``, the work of an iteration of each method.
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
    passes = passes_of_an_iteration(problem.n_samples, problem.n_outputs, problem.n_params)
    count = config["bp_steps"] or round(config["iterations"] * passes["damped"])
    starts, curves = [], {}
    with threads(1), quiet():
        for start in range(config["starts"]):
            theta0 = net.init(np.random.default_rng([config["seed"], start]), config["init"])
            runs = _race(problem, theta0, config, count)
            figures: dict[str, Any] = {name: _figures(losses) for name, losses in runs.items()}
            marks = sorted({config["iterations"], PAPER_STEPS, count})
            figures["bp"]["at"] = {str(m): runs["bp"][m] for m in marks if m < len(runs["bp"])}
            starts.append(figures)
            if start + 1 == config["shown"]:
                curves = {name: _curve(losses, passes[name]) for name, losses in runs.items()}
            report(f"start {start + 1}/{config['starts']}: GGN at {runs['ggn'][-1]:.3g}")
    return {
        "network": f"F({','.join(map(str, config['widths']))}), {config['activation']}",
        "n_params": problem.n_params,
        "n_equations": problem.n_samples * problem.n_outputs,
        "n_samples": problem.n_samples,
        "alpha": config["alpha"],
        "bp_alpha": _bp_alpha(config),
        "damping": config["damping"],
        "iterations": config["iterations"],
        "passes": passes,
        "shown": config["shown"],
        "curves": curves,
        "starts": starts,
    }


def passes_of_an_iteration(T: int, n_outputs: int, N: int) -> dict[str, float]:
    """Return the work of an iteration in passes: 3 T N multiplications, a gradient's.

    The Jacobian takes one forward pass and one backward pass for each output. Without damping the
    minimum norm needs an orthogonal factorisation of its T n_L rows, ``T n_L N^2 - N^3 / 3``
    multiplications; with damping the matrix takes ``T n_L N^2 / 2`` and Cholesky ``N^3 / 6``.

    Parameters
    ----------
    T, n_outputs, N : int
        Samples, outputs and parameters; T n_L is at least N.

    Returns
    -------
    dict of str to float
        For "ggn", "damped" and "bp".
    """
    one = 3.0 * T * N
    rows = (1.0 + 2.0 * n_outputs) * T * N
    return {
        "ggn": (rows + T * n_outputs * N**2 - N**3 / 3.0) / one,
        "damped": (rows + T * n_outputs * N**2 / 2.0 + N**3 / 6.0) / one,
        "bp": 1.0,
    }


def _bp_alpha(config: dict[str, Any]) -> float:
    """Return the factor on the gradient of the mean."""
    return float(config["alpha"] * (config["n_samples"] if config["bp_gradient"] == "sum" else 1))


def _race(
    problem: Problem, theta0: NDArray[np.float64], config: dict[str, Any], bp_steps: int
) -> dict[str, list[float]]:
    """Return the losses of each method, the first one included."""
    count, alpha = config["iterations"], config["alpha"]
    stop = Stop(gradient=0.0, step=0.0)
    ggn = train(problem, theta0, GaussNewton(step=alpha), max_iter=count, stop=stop)
    return {
        "ggn": [ggn.initial_loss, *(record.loss for record in ggn.history)],
        "damped": damped_ggn(problem, theta0, count, alpha, config["damping"]),
        "bp": gradient_descent(problem, theta0, bp_steps, _bp_alpha(config)),
    }


def gradient_descent(
    problem: Problem, theta0: NDArray[np.float64], count: int, rate: float
) -> list[float]:
    """Return the losses of ``theta <- theta - rate g``.

    Parameters
    ----------
    problem : Problem
        What is minimised.
    theta0 : (N,) ndarray
        Where to start.
    count : int
        Number of steps; fewer are taken if the loss is no longer finite.
    rate : float
        Held fixed.
    """
    point = problem.at(theta0)
    losses = [float(point.loss)]
    while len(losses) <= count and np.isfinite(losses[-1]):
        point = problem.at(point.theta - rate * point.gradient)
        losses.append(float(point.loss))
    return losses


def damped_ggn(
    problem: Problem, theta0: NDArray[np.float64], count: int, alpha: float, damping: float
) -> list[float]:
    """Return the losses of ``theta <- theta - alpha (G + damping I)^-1 g``.

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
    return losses


def _figures(losses: list[float]) -> dict[str, Any]:
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
        "rises": int(np.sum(rises)),
        "rises_after_peak": int(np.sum(rises[peak:])),
        "rising_share_first_tenth": float(np.mean(rises[: max(1, steps // 10)])),
        "rising_share_last_tenth": float(np.mean(rises[-max(1, steps // 10) :])),
        # The highest loss of the last tenth over its lowest.
        "swing_last_tenth": float(np.max(tail) / max(np.min(tail), np.finfo(float).tiny)),
    }


def _curve(losses: list[float], passes: float) -> dict[str, Any]:
    """Return the first losses one by one, and the range of all in bins that grow in proportion."""
    values = np.asarray(losses)
    ends = np.unique(np.geomspace(1, values.size, min(BINS, values.size)).astype(int))
    edges = np.concatenate([[0], ends])
    pieces = [values[a:b] for a, b in zip(edges[:-1], edges[1:], strict=True)]
    return {
        "beginning": values[: 1 + BEGINNING].tolist(),
        "passes": (passes * (edges[1:] - 1)).tolist(),  # at the end of each bin
        "lowest": [float(np.min(p)) for p in pieces],
        "highest": [float(np.max(p)) for p in pieces],
    }


NAMES = {"ggn": "GGN, minimum norm", "damped": "GGN, damped", "bp": "gradient descent"}


def summary(result: dict[str, Any]) -> str:
    """Return the table of the starts."""
    passes = result["passes"]
    lines = [
        f"{result['network']}: {result['n_params']} parameters, {result['n_equations']} equations; "
        f"alpha {result['alpha']:g}, for gradient descent {result['bp_alpha']:g} on the mean; "
        f"damping {result['damping']:g}",
        f"{'start':<6}{'method':<18}{'steps':>7}{'first':>9}{'peak':>9}{'at':>7}"
        f"{'last':>9}{'rises':>8}{'late':>6}{'swing':>9}",
    ]
    for number, methods in enumerate(result["starts"], start=1):
        for key, name in NAMES.items():
            m = methods[key]
            lines.append(
                f"{number:<6}{name:<18}{m['iterations']:>7}{m['first']:>9.3g}{m['peak']:>9.2g}"
                f"{m['peak_iteration']:>7}{m['last']:>9.3g}{m['rises']:>8}"
                f"{m['rising_share_last_tenth']:>6.2f}{m['swing_last_tenth']:>9.3g}"
            )
        at = ", ".join(f"{loss:.3g} after {steps}" for steps, loss in methods["bp"]["at"].items())
        lines.append(f"{'':<6}gradient descent: {at}")
    lines += [
        "late: share of the last tenth of the steps that raise the loss; swing: its highest loss "
        "over its lowest",
        f"an iteration of GGN is the work of {passes['ggn']:.0f} steps of gradient descent, with "
        f"damping {passes['damped']:.0f}; the paper measured the time of 21.4",
    ]
    return "\n".join(lines)


def plot(result: dict[str, Any]) -> Any:
    """Return the losses by iteration, and by work with gradient descent to its end."""
    labels = {
        "ggn": f"GGN, minimum norm, step {result['alpha']:g}",
        "damped": f"GGN, damping {result['damping']:g}, step {result['alpha']:g}",
        "bp": f"gradient descent, step {result['bp_alpha']:g} on the mean",
    }
    figure, axes = new_figure(1, 2, width=5.4, height=4.2)
    left, right = axes[0]
    colours = ("black", "tab:red", "tab:blue")
    for number, (key, label) in enumerate(labels.items()):
        curve = result["curves"][key]
        style = {"color": colours[number], "linestyle": LINES[number]}
        beginning = np.asarray(curve["beginning"], dtype=np.float64)
        mark = {"marker": MARKERS[number], "markersize": 4}
        left.semilogy(
            np.arange(beginning.size), beginning, label=label, markevery=0.1, **style, **mark
        )
        passes = np.maximum(np.asarray(curve["passes"]), 1.0)
        low, high = (np.asarray(curve[end], dtype=np.float64) for end in ("lowest", "highest"))
        right.loglog(passes, np.sqrt(low * high), markevery=0.1, **style, **mark)
        right.fill_between(passes, low, high, color=style["color"], alpha=0.3, linewidth=0.0)
    right.axvline(PAPER_STEPS, color="0.4", linestyle=":")
    right.annotate(
        f"where the paper's\ndescent ends ({PAPER_STEPS})", (PAPER_STEPS, 0.97),
        xycoords=("data", "axes fraction"), xytext=(-4, 0), textcoords="offset points",
        ha="right", va="top", fontsize=8,
    )  # fmt: skip
    left.set_xlabel("iteration")
    left.set_ylabel("loss")
    title = f"{result['network']}, {result['n_samples']} samples, start {result['shown']}"
    left.set_title(title, fontsize=10)
    right.set_xlabel("work in passes (one step of gradient descent each)")
    right.set_ylabel("loss")
    right.set_title("By work; bands: range of the losses of neighbouring iterations", fontsize=10)
    legend_outside(figure)
    return figure
