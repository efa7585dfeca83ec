"""Bayesian Levenberg-Marquardt against none, validated and scikit-learn's weight decay.

Networks of one hidden layer on small regression tables: test error and test log-likelihood of
Levenberg-Marquardt with the weight decay of the evidence (MacKay 1992; Foresee and Hagan 1997),
without any, with that of cross-validation, and of scikit-learn's MLPRegressor (L-BFGS).
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from fastggn.analysis.posterior.laplace import laplace
from fastggn.analysis.posterior.mixture import PosteriorMixture
from fastggn.figures.style import new_figure
from fastggn.network.mlp import MLP
from fastggn.objective.problem import Problem
from fastggn.training.control.stopping import Stop
from fastggn.training.regularisation.evidence import LOG_2PI
from fastggn.training.regularisation.priors import Evidence
from fastggn.training.regularisation.weight_decay import select_weight_decay
from papers.runs import quiet, spread, train
from papers.tables import BUILT_IN, Split, find_table, load_split

DEFAULT: dict[str, Any] = {
    "seed": 0,
    "sets": ["yacht", "energy", "concrete"],
    "splits": 5,
    "hidden": 20,
    "methods": ["lm", "lm_mean", "bayesian", "units", "mixture", "validation", "sklearn"],
    # Starts of the first five: the lowest loss, the highest evidence, or the mean of all counts.
    "restarts": 3,
    "max_iter": 300,
    "loss_tol": 1e-7,
    # Weight decay by cross-validation: l2 = 10^x, and alpha of scikit-learn.
    "folds": 5,
    "grid": [-1.0, -7.0, 7],
    "alphas": [-4.0, 1.0, 6],
    "path_iter": 60,
    # The effective number of parameters with so large a part of the training samples; one start.
    "fractions": [1.0, 0.5, 0.25],
    "folder": None,  # that holds uci/; None: FASTGGN_DATA, or shared/data
}
QUICK: dict[str, Any] = {
    **DEFAULT,
    "sets": ["friedman1"],
    "splits": 3,
    "hidden": 8,
    "methods": ["lm", "bayesian", "units", "mixture", "validation"],
    "restarts": 2,
    "max_iter": 150,
    "folds": 3,
    "grid": [-1.0, -5.0, 5],
    "path_iter": 50,
}
LABELS = {
    "lm": "LM, no decay",
    "lm_mean": "LM, no decay, mean",
    "bayesian": "LM, Bayesian",
    "units": "LM, by units",
    "mixture": "LM, by units, mixture",
    "validation": "LM, validated decay",
    "sklearn": "scikit-learn, L-BFGS",
}

# Of the targets: heating load, compressive strength; the resistance of yachts has no unit.
UNITS = {"energy": "kWh/m\u00b2", "concrete": "MPa"}
# Means of the log-likelihood so far below the best are written, not drawn: they hide the others.
DRAWN = 3.0

# Whose effective parameters are counted: how, and the key in the result.
COUNTED = {
    "bayesian": (Evidence(), "effective_parameters"),
    "units": (Evidence(per="unit"), "effective_by_units"),
}


def run(
    config: dict[str, Any], report: Callable[[str], None] = lambda text: None
) -> dict[str, Any]:
    """Train and test all methods on all splits.

    Returns
    -------
    dict
        ``runs``, one dict a set, split and method (rmse and log_likelihood in the target's units,
        seconds, and what the method chose), and ``effective``, one a set, split and fraction.

    Raises
    ------
    FileNotFoundError
        If a set is absent.
    ImportError
        If scikit-learn is asked for and absent.
    """
    for name in config["methods"]:
        if name not in LABELS:
            raise ValueError(f"methods must be among {', '.join(LABELS)}, got {name!r}")
    for name in config["sets"]:
        if name not in BUILT_IN:
            find_table(name, config["folder"])
    if "sklearn" in config["methods"]:
        _peer()
    # The largest sets first: the processes then end together.
    tasks = [
        (name, split, config)
        for name in reversed(config["sets"])
        for split in range(config["splits"])
    ]
    parts = spread(_task, tasks, report, label=lambda task: f"{task[0]}, split {task[1]}")
    parts.sort(key=lambda part: (config["sets"].index(part["set"]), part["split"]))
    return {
        "sets": config["sets"],
        "methods": config["methods"],
        "runs": [entry for part in parts for entry in part["runs"]],
        "effective": [entry for part in parts for entry in part["effective"]],
    }


def _task(task: tuple[str, int, dict[str, Any]]) -> dict[str, Any]:
    """Return all that is measured on one split."""
    name, split, config = task
    data = load_split(name, split, config["seed"], config["folder"])
    where = {"set": name, "split": split}
    runs = []
    with quiet():
        for method in config["methods"]:
            start = time.perf_counter()
            outcome = METHODS[method](data, split, config)
            seconds = time.perf_counter() - start
            runs.append({**where, "method": method, "seconds": seconds, **outcome})
        effective = [
            {**where, "fraction": fraction, **_effective(data, split, config, fraction)}
            for fraction in config["fractions"]
        ]
    return {**where, "runs": runs, "effective": effective}


def _problem(data: Split, config: dict[str, Any], samples: int | None = None) -> Problem:
    net = MLP((data.X.shape[1], config["hidden"], 1))
    return Problem(net, data.X[:samples], data.y[:samples])


def _starts(problem: Problem, split: int, config: dict[str, Any], **options: Any) -> list[Any]:
    """Return the runs from all first weights."""
    seeds = [np.random.default_rng([config["seed"], split, k]) for k in range(config["restarts"])]
    return [
        train(
            problem,
            problem.network.init(rng),
            max_iter=config["max_iter"],
            stop=Stop(loss=config["loss_tol"]),
            **options,
        )
        for rng in seeds
    ]


def _measures(
    data: Split, prediction: np.ndarray, variance: np.ndarray | float
) -> dict[str, float]:
    """Return test error and mean log-likelihood of Gaussians, in the target's units."""
    residual = data.y_test - prediction
    log_density = -0.5 * (residual**2 / variance + np.log(variance) + LOG_2PI)
    return {
        "rmse": data.unit * float(np.sqrt(np.mean(residual**2))),
        "log_likelihood": float(np.mean(log_density)) - float(np.log(data.unit)),
    }


def _lm(data: Split, split: int, config: dict[str, Any]) -> dict[str, Any]:
    """Train without decay; the noise is the mean square of the training residuals."""
    problem = _problem(data, config)
    best = min(_starts(problem, split, config), key=lambda result: float(result.loss))
    prediction = problem.network.predict(best.theta, data.X_test)[:, 0]
    return {**_measures(data, prediction, 2.0 * best.loss), "iterations": best.n_iter}


def _lm_mean(data: Split, split: int, config: dict[str, Any]) -> dict[str, Any]:
    """Average the outputs of all starts without decay; the noise is their mean square each."""
    problem = _problem(data, config)
    runs = _starts(problem, split, config)
    outputs = np.array([problem.network.predict(run.theta, data.X_test)[:, 0] for run in runs])
    noise = 2.0 * float(np.mean([run.loss for run in runs]))
    return _measures(data, outputs.mean(axis=0), noise + outputs.var(axis=0))


def _bayesian(
    data: Split, split: int, config: dict[str, Any], how: Evidence | None = None
) -> dict[str, Any]:
    """Train with the decay of the evidence; variances come from the Laplace posterior."""
    problem = _problem(data, config)
    best = _most_evident(problem, split, config, how)
    mean, std = laplace(problem, best.theta, best.evidence).predict(data.X_test)
    return {
        **_measures(data, mean[:, 0], std[:, 0] ** 2),
        **best.evidence.to_dict(),
        "iterations": best.n_iter,
    }


def _units(data: Split, split: int, config: dict[str, Any]) -> dict[str, Any]:
    """Train with a decay for each hidden unit."""
    return _bayesian(data, split, config, Evidence(per="unit"))


def _mixture(data: Split, split: int, config: dict[str, Any]) -> dict[str, Any]:
    """Train with a decay for each hidden unit; all starts count alike."""
    problem = _problem(data, config)
    runs = _starts(problem, split, config, regularize=Evidence(per="unit"))
    posterior = PosteriorMixture([laplace(problem, run.theta, run.evidence) for run in runs])
    mean, _ = posterior.predict(data.X_test)
    density = posterior.log_likelihood(data.X_test, data.y_test)
    return {
        **_measures(data, mean[:, 0], 1.0),
        "log_likelihood": density - float(np.log(data.unit)),
    }


def _most_evident(
    problem: Problem, split: int, config: dict[str, Any], how: Evidence | None = None
) -> Any:
    runs = _starts(problem, split, config, regularize=how or Evidence())
    return max(runs, key=lambda result: float(result.evidence.log_evidence))


def _validation(data: Split, split: int, config: dict[str, Any]) -> dict[str, Any]:
    """Train with the decay of cross-validation; the noise is its mean squared error."""
    problem = _problem(data, config)
    path = select_weight_decay(
        problem,
        config["folds"],
        grid=np.logspace(*config["grid"]),
        seed=1000 * config["seed"] + split,
        max_iter=config["path_iter"],
        stop=Stop(loss=config["loss_tol"]),
    )
    prediction = problem.network.predict(path.result.theta, data.X_test)[:, 0]
    noise = 2.0 * float(np.min(path.validation_losses))
    return {**_measures(data, prediction, noise), "l2": path.l2, "at_edge": path.at_edge}


def _sklearn(data: Split, split: int, config: dict[str, Any]) -> dict[str, Any]:
    """Train an MLPRegressor by L-BFGS; alpha and the noise by cross-validation."""
    regressor, search_class = _peer()
    search = search_class(
        regressor(
            hidden_layer_sizes=(config["hidden"],),
            activation="tanh",
            solver="lbfgs",
            max_iter=1000,
            random_state=1000 * config["seed"] + split,
        ),
        {"alpha": np.logspace(*config["alphas"]).tolist()},
        scoring="neg_mean_squared_error",
        cv=config["folds"],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of runs that used up their iterations
        search.fit(data.X, data.y)
    prediction = search.predict(data.X_test)
    return {
        **_measures(data, prediction, -float(search.best_score_)),
        "alpha": float(search.best_params_["alpha"]),
    }


def _peer() -> tuple[Any, Any]:
    try:
        from sklearn.model_selection import GridSearchCV
        from sklearn.neural_network import MLPRegressor
    except ImportError as error:
        raise ImportError(
            "the comparison needs scikit-learn: install the extra with pip install "
            "'fastggn[sklearn]', or leave it out with --set 'methods=[\"lm\", \"bayesian\"]'"
        ) from error
    return MLPRegressor, GridSearchCV


def _effective(
    data: Split, split: int, config: dict[str, Any], fraction: float
) -> dict[str, float]:
    """Return gamma with a part of the training samples: the first ones, in the split's order."""
    samples = round(fraction * len(data.X))
    problem = _problem(data, config, samples)
    counts: dict[str, Any] = {"samples": samples, "n_params": problem.n_params}
    for method, (how, key) in COUNTED.items():
        if method in config["methods"]:
            best = _most_evident(problem, split, {**config, "restarts": 1}, how)
            counts[key] = best.evidence.effective_parameters
    return counts


METHODS: dict[str, Callable[[Split, int, dict[str, Any]], dict[str, Any]]] = {
    "lm": _lm,
    "lm_mean": _lm_mean,
    "bayesian": _bayesian,
    "units": _units,
    "mixture": _mixture,
    "validation": _validation,
    "sklearn": _sklearn,
}


def _values(result: dict[str, Any], name: str, method: str, key: str) -> np.ndarray:
    chosen = [r for r in result["runs"] if (r["set"], r["method"]) == (name, method)]
    return np.array([entry[key] for entry in chosen], dtype=float)


def summary(result: dict[str, Any]) -> str:
    """Return the tables as text: mean and standard deviation over the splits."""
    lines = []
    for key, title in (
        ("rmse", "test RMSE"),
        ("log_likelihood", "test log-likelihood a sample"),
        ("seconds", "seconds a split"),
    ):
        lines.append(f"{title:<30}" + "".join(f"{name:>20}" for name in result["sets"]))
        for method in result["methods"]:
            cells = [_values(result, name, method, key) for name in result["sets"]]
            shown = "".join(f"{f'{c.mean():.3f} +- {_deviation(c):.3f}':>20}" for c in cells)
            lines.append(f"  {LABELS[method]:<28}{shown}")
    for method, (_, key) in COUNTED.items():
        if method not in result["methods"]:
            continue
        lines.append(f"effective parameters, mean over the splits: {LABELS[method]}")
        for name in result["sets"]:
            lines.append("  " + f"{name}: " + ", ".join(_gammas(result, name, key)))
    return "\n".join(lines)


def _deviation(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if values.size > 1 else 0.0


def _gammas(result: dict[str, Any], name: str, key: str) -> list[str]:
    mine = [e for e in result["effective"] if e["set"] == name]
    texts = []
    for fraction in sorted({e["fraction"] for e in mine}, reverse=True):
        chosen = [e for e in mine if e["fraction"] == fraction]
        gamma = np.mean([e[key] for e in chosen])
        texts.append(f"{gamma:.1f} of {chosen[0]['n_params']} (T = {chosen[0]['samples']})")
    return texts


def plot(result: dict[str, Any]) -> Any:
    """Return a figure: a column a set, errors above and log-likelihoods below, a row a method."""
    sets, methods = result["sets"], result["methods"]
    height = 1.0 + 0.32 * len(methods)
    figure, axes = new_figure(2, len(sets), width=3.9, height=height)
    for column, name in enumerate(sets):
        unit = UNITS.get(name, "no unit")
        _panel(axes[0, column], result, name, "rmse", f"test RMSE ({unit})")
        label = "test log-likelihood a sample (nats)"
        _panel(axes[1, column], result, name, "log_likelihood", label)
        axes[0, column].set_title(name)
    for row in axes:
        row[0].set_yticks(range(len(methods)), [LABELS[method] for method in methods])
        for ax in row[1:]:
            ax.set_yticks(range(len(methods)), [""] * len(methods))
    return figure


def _panel(ax: Any, result: dict[str, Any], name: str, key: str, label: str) -> None:
    """Draw a dot a split, and mean and deviation of each method; name those far below."""
    values = [_values(result, name, method, key) for method in result["methods"]]
    best = np.nanmax([v.mean() for v in values])
    for place, v in enumerate(values):
        if key == "log_likelihood" and not v.mean() >= best - DRAWN:
            where = {"transform": ax.get_yaxis_transform(), "va": "center", "fontsize": 9}
            ax.text(0.02, place, f"\u25c0 {v.mean():.3g} (mean)", **where)
            continue
        ax.plot(v, np.full(v.size, place - 0.15), ".", color="0.55", markersize=6)
        ax.errorbar(
            v.mean(), place + 0.15, xerr=_deviation(v), fmt="o", color="black", markersize=5,
            capsize=3,
        )  # fmt: skip
    ax.set_ylim(len(values) - 0.5, -0.5)
    ax.set_xlabel(label)
