"""UCI regression by the published protocol: Bayesian fits beside dropout, ensembles and PBP.

Hernandez-Lobato and Adams (2015) fixed 20 splits of these tables, 90 % for training, one hidden
layer of 50 units, and the test error and log-likelihood as the figures to report. Here the first
splits are fitted by Levenberg-Marquardt with a weight decay for each hidden unit from the evidence.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from fastggn.analysis.posterior.laplace import laplace
from fastggn.analysis.posterior.mixture import PosteriorMixture
from fastggn.figures.style import new_figure
from fastggn.network.mlp import MLP
from fastggn.objective.problem import Problem
from fastggn.training.regularisation.priors import Evidence
from fastggn.training.restarts import train_restarts
from papers.bayesian import UNITS
from papers.runs import quiet, spread
from papers.tables import BUILT_IN, Split, find_table, load_split

DEFAULT: dict[str, Any] = {
    "seed": 0,
    "sets": ["yacht", "energy", "concrete", "kin8nm"],
    "splits": 5,
    "units": [20, 50],  # of the one hidden layer
    "starts": 3,
    "max_iter": 300,
    "folder": None,  # that holds uci/; None: FASTGGN_DATA, or shared/data
}
QUICK: dict[str, Any] = {
    **DEFAULT, "sets": ["friedman1"], "splits": 2, "units": [4, 8], "starts": 2, "max_iter": 60,
}  # fmt: skip

# The measures of each split, and the fits that they are of.
MEASURES = {"rmse": "test RMSE", "log_likelihood": "test log-likelihood"}
FITS = {"best": "best evidence", "mixture": "mixture"}

# Means and standard errors over the first five splits, from the figures of each of 20 splits that
# the authors of dropout keep in their repository: yaringal/DropoutUncertaintyExps at 6eb4497, files
# test_MC_rmse_100_xepochs_1_hidden_layers.txt and test_ll_100_xepochs_1_hidden_layers.txt.
DROPOUT: dict[str, dict[str, tuple[float, float]]] = {
    "yacht": {"rmse": (0.628, 0.089), "log_likelihood": (-1.224, 0.028)},
    "energy": {"rmse": (0.503, 0.027), "log_likelihood": (-1.198, 0.010)},
    "concrete": {"rmse": (4.794, 0.328), "log_likelihood": (-2.958, 0.053)},
    "kin8nm": {"rmse": (0.0791, 0.0016), "log_likelihood": (1.133, 0.018)},
}


def run(config: dict[str, Any], report: Callable[[str], None]) -> dict[str, Any]:
    """Fit and test all splits of all sets.

    Returns
    -------
    dict
        ``sets``, ``units``, and ``fits``, one dict a set, split and number of units: of the start
        with the highest evidence and of the mixture of all starts the RMSE, in the target's unit,
        and the mean log-likelihood of a test sample; the processor seconds of all starts.

    Raises
    ------
    FileNotFoundError
        If a set is absent.
    """
    if min(config["starts"], config["splits"], *config["units"]) < 1:
        raise ValueError("starts, splits and units must be at least 1")
    for name in config["sets"]:
        if name not in BUILT_IN:
            find_table(name, config["folder"])
    # The largest work first: the processes then end together.
    tasks = [
        (name, split, units, config)
        for name in reversed(config["sets"])
        for units in sorted(config["units"], reverse=True)
        for split in range(config["splits"])
    ]
    found = spread(
        measure, tasks, report, label=lambda task: f"{task[0]}, split {task[1]}, {task[2]} units"
    )
    found.sort(key=lambda entry: (config["sets"].index(entry["set"]), entry["split"]))
    return {"sets": config["sets"], "units": config["units"], "fits": found}


def measure(task: tuple[str, int, int, dict[str, Any]]) -> dict[str, Any]:
    """Return what one split of one set gives with a number of hidden units."""
    name, split, units, config = task
    data = load_split(name, split, config["seed"], config["folder"])
    begin = time.process_time()
    problem = Problem(MLP((data.X.shape[1], units, 1)), data.X, data.y)
    with quiet():
        runs = train_restarts(
            problem,
            config["starts"],
            seed=1000 * config["seed"] + 100 * split,
            regularize=Evidence(per="unit"),
            max_iter=config["max_iter"],
        )
        best = PosteriorMixture([laplace(problem, runs.best.theta, runs.best.evidence)])
        mixture = PosteriorMixture.of_runs(problem, runs)
    seconds = time.process_time() - begin
    assert runs.best.evidence is not None
    return {
        "set": name,
        "split": split,
        "units": units,
        "best": _measures(best, data),
        "mixture": _measures(mixture, data),
        "seconds": seconds,
        "iterations": float(np.mean([result.n_iter for result in runs.usable])),
        "n_params": problem.n_params,
        "effective": runs.best.evidence.effective_parameters,
        "log_evidence": runs.best.evidence.log_evidence,
    }


def _measures(posterior: PosteriorMixture, data: Split) -> dict[str, float]:
    """Return the error and the log density of the test samples, in the target's unit."""
    mean, _ = posterior.predict(data.X_test)
    error = np.sqrt(np.mean((mean[:, 0] - data.y_test) ** 2))
    density = posterior.log_likelihood(data.X_test, data.y_test)
    return {"rmse": data.unit * float(error), "log_likelihood": density - float(np.log(data.unit))}


def mean_and_error(values: list[float]) -> tuple[float, float]:
    """Return the mean and its standard error, 0 for one value."""
    spread_of = np.std(values, ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
    return float(np.mean(values)), float(spread_of)


def _of(result: dict[str, Any], name: str, units: int) -> list[dict[str, Any]]:
    return [e for e in result["fits"] if e["set"] == name and e["units"] == units]


def summary(result: dict[str, Any]) -> str:
    """Return a table: means and standard errors over the splits, and the time."""
    sets, lines = result["sets"], []
    rows = [(units, fit) for units in result["units"] for fit in FITS]
    for key, title in MEASURES.items():
        lines.append(f"{title:<34}" + "".join(f"{name:>20}" for name in sets))
        for units, fit in rows:
            cells = [mean_and_error([e[fit][key] for e in _of(result, n, units)]) for n in sets]
            shown = "".join(f"{f'{m:.4g} +- {error:.2g}':>20}" for m, error in cells)
            lines.append(f"  {f'{units} units, {FITS[fit]}':<32}{shown}")
    for key, title in (
        ("seconds", "processor seconds a split"),
        ("log_evidence", "highest log evidence"),
        ("effective", "effective parameters"),
    ):
        for units in result["units"]:
            cells = [np.mean([e[key] for e in _of(result, name, units)]) for name in sets]
            shown = "".join(f"{value:>20.4g}" for value in cells)
            lines.append(f"{f'{title}, {units} units':<34}{shown}")
    return "\n".join(lines)


def plot(result: dict[str, Any]) -> Any:
    """Return a figure: a column a set, errors above and log-likelihoods below."""
    sets = result["sets"]
    rows = [(units, fit) for units in result["units"] for fit in FITS]
    labels = ["dropout", *(f"{units} units,\n{FITS[fit]}" for units, fit in rows)]
    figure, axes = new_figure(2, len(sets), width=max(3.3, 4.4 / len(sets)), height=3.2)
    for column, name in enumerate(sets):
        axes[0, column].set_title(name)
        for ax, key in zip(axes[:, column], MEASURES, strict=True):
            for place, (units, fit) in enumerate(rows, start=1):
                values = [entry[fit][key] for entry in _of(result, name, units)]
                mean, error = mean_and_error(values)
                ax.plot(values, np.full(len(values), place - 0.18), ".", color="0.55")
                ax.errorbar(mean, place + 0.12, xerr=error, fmt="o", color="black", capsize=3)
            if name in DROPOUT:
                mean, error = DROPOUT[name][key]
                ax.errorbar(mean, 0, xerr=error, fmt="s", mfc="white", color="black", capsize=3)
            ax.set_ylim(len(rows) + 0.5, -0.5)
            ax.set_yticks(range(len(labels)), labels if column == 0 else [""] * len(labels))
        axes[0, column].set_xlabel(f"test RMSE ({UNITS.get(name, 'no unit')})")
        axes[1, column].set_xlabel("test log-likelihood (nats)")
    return figure
