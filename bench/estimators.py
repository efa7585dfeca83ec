"""The estimators beside MLPRegressor and MLPClassifier with L-BFGS: ``python -m bench.estimators``.

Both start from the same weights on the same standardised data and minimise the same objective. A
loss counts as reached after the first iteration that ends no higher. The time of a side is that of
its whole ``fit``, the best of a few repetitions. For the end of L-BFGS driven on, fits with four
starts (``n_restarts=4``) are timed too, where the network is for regression.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sklearn
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

import fastggn as fg
from bench.core import PAUSE

ALPHA = 1e-4
SEEDS = (0, 1, 2, 3, 4)
# Where L-BFGS ends: as MLPRegressor comes, and far beyond.
ENDS = {"as it comes": {"tol": 1e-4, "max_iter": 200}, "converged": {"tol": 1e-7, "max_iter": 5000}}
LIMIT, SECONDS = 1000, 2.0  # iterations and time of ours, for the loss in the end
STARTS = 4  # of the fits with several
LONG = 1.0  # seconds after which nothing is repeated


@dataclass(frozen=True)
class Case:
    """A data set, a network and a method."""

    name: str
    hidden: int
    method: str = "auto"

    @property
    def regression(self):
        return self.name == "diabetes"

    def data(self):
        """Return standardised inputs, and targets, these standardised too for regression."""
        load = {
            "diabetes": load_diabetes,
            "breast cancer": load_breast_cancer,
            "digits": load_digits,
        }
        X, y = load[self.name](return_X_y=True)
        y = StandardScaler().fit_transform(y[:, None])[:, 0] if self.regression else y
        return StandardScaler().fit_transform(X), y


CASES = (
    Case("diabetes", 5),
    Case("diabetes", 10),
    Case("diabetes", 20),
    Case("breast cancer", 2),
    Case("breast cancer", 20),
    Case("digits", 5),
    Case("digits", 10),
    # As many as MLPRegressor and MLPClassifier have by default.
    Case("diabetes", 100),
    Case("breast cancer", 100),
    Case("digits", 100),
)


def estimator(case, seed, max_iter):
    kind = fg.GGNRegressor if case.regression else fg.GGNClassifier
    return kind(
        case.hidden,
        method=case.method,
        alpha=ALPHA,
        random_state=seed,
        max_iter=max_iter,
        tol=0.0,
        max_time=SECONDS,
    )


def peer(case, seed, X, y, end):
    """Return L-BFGS of scikit-learn, ready to go on from the weights that `estimator` draws."""
    kind = MLPRegressor if case.regression else MLPClassifier
    model = kind(
        hidden_layer_sizes=(case.hidden,),
        activation="tanh",
        solver="lbfgs",
        alpha=ALPHA,
        max_iter=1,
        warm_start=True,
        max_fun=10**7,
    ).fit(X, y)
    net = fg.MLP([X.shape[1], *(w.shape[1] for w in model.coefs_)])
    drawn = int(np.random.RandomState(seed).randint(np.iinfo(np.int32).max))
    start = net.unpack(net.init(drawn))
    model.set_params(**end)

    def fit():
        model.coefs_ = [w[:, :-1].T.copy() for w in start]
        model.intercepts_ = [w[:, -1].copy() for w in start]
        return model.fit(X, y)

    return fit


def timed(call, repeats):
    """Return what a call returns and the least of its times, in seconds; once if it takes long.

    The pause lets the workers of whoever came before fall asleep: they spin on the other core.
    """
    time.sleep(PAUSE)
    times = []
    while len(times) < repeats and sum(times) < LONG:
        start = time.perf_counter()
        value = call()
        times.append(time.perf_counter() - start)
    return value, min(times)


def timed_peer(fit, repeats):
    """Return loss, iterations and seconds of L-BFGS: one thread for BLAS or all, the faster."""
    with threadpool_limits(1):
        model, alone = timed(fit, repeats)
    # The bits of BLAS depend on its threads, and a long run on the bits: the lower loss counts.
    found = (model.loss_, model.n_iter_)
    model, together = timed(fit, repeats)
    return *min(found, (model.loss_, model.n_iter_)), min(alone, together)


def several(case, seed, X, y):
    """Return loss and seconds of the best of several starts."""
    kind = fg.GGNRegressor
    model = kind(case.hidden, alpha=ALPHA, random_state=seed, n_restarts=STARTS)
    found, seconds = timed(lambda: model.fit(X, y), 3)
    return float(found.loss_), seconds


def compare(case, seeds=SEEDS, repeats=7, ends=ENDS, limit=LIMIT):
    """Return one record for each end of L-BFGS and each start."""
    X, y = case.data()
    records = []
    for seed in seeds:
        long, seconds = timed(lambda seed=seed: estimator(case, seed, limit).fit(X, y), 1)
        curve = np.array(long.loss_curve_)
        for name, end in ends.items():
            loss, count, their_time = timed_peer(peer(case, seed, X, y, end), repeats)
            below = np.flatnonzero(curve <= loss)
            record = {
                "case": case,
                "end": name,
                "seed": seed,
                "their_loss": float(loss),
                "their_seconds": their_time,
                "their_iterations": count,
                "loss": float(long.loss_),
                "seconds_in_all": seconds,
                "iterations": None,
                "seconds": None,
                "several": None,
            }
            if case.regression and name == "converged" and repeats > 1:
                record["several"] = several(case, seed, X, y)
            if below.size:
                k = int(below[0]) + 1
                _, record["seconds"] = timed(
                    lambda k=k, seed=seed: estimator(case, seed, k).fit(X, y), repeats
                )
                record["iterations"] = k
            records.append(record)
    return records


def row(records):
    """Return a line of the table: medians over the starts."""
    case = records[0]["case"]
    reached = [r for r in records if r["seconds"] is not None]
    theirs = np.median([r["their_seconds"] for r in records])
    cells = [
        case.name,
        str(case.hidden),
        records[0]["end"],
        f"{np.median([r['their_loss'] for r in records]):.3g}",
        f"{np.median([r['their_iterations'] for r in records]):.0f}",
        f"{1e3 * theirs:.1f}",
        f"{np.median([r['loss'] for r in records]):.3g}",
        f"{len(reached)} of {len(records)}",
    ]
    if reached:
        ratios = [r["their_seconds"] / r["seconds"] for r in reached]
        cells += [
            f"{np.median([r['iterations'] for r in reached]):.0f}",
            f"{1e3 * np.median([r['seconds'] for r in reached]):.1f}",
            f"{np.median(ratios):.2g}",
            f"{min(ratios):.2g} to {max(ratios):.2g}",
        ]
    else:
        cells += ["-", "-", "-", "-"]
    starts = [r["several"] for r in records if r["several"] is not None]
    if starts:
        below = sum(r["several"][0] <= r["their_loss"] for r in records)
        cells.append(f"{below} of {len(records)}, {1e3 * np.median([s for _, s in starts]):.0f} ms")
    else:
        cells.append("")
    return "| " + " | ".join(cells) + " |"


HEAD = (
    "| data | hidden units | L-BFGS | its loss | iterations | ms | our loss | reached "
    "| iterations | ms to its loss | times faster | lowest to highest | four starts |"
)


def table(groups):
    rule = "|---|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
    return "\n".join([HEAD, rule, *(row(records) for records in groups)])


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m bench.estimators")
    parser.add_argument("--data", help="cases that begin so: 'digits 5'", default="")
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    parser.add_argument("--out", type=Path, help="file for the table, in Markdown")
    options = parser.parse_args(arguments)
    warnings.simplefilter("ignore")
    compiled = fg.warmup()
    groups = []
    for case in CASES:
        if not f"{case.name} {case.hidden}".startswith(options.data):
            continue
        compare(case, seeds=(0,), repeats=1, limit=3)  # loads the kernels
        records = compare(case, seeds=range(options.seeds))
        for end in ENDS:
            groups.append([r for r in records if r["end"] == end])
            print(row(groups[-1]), file=sys.stderr, flush=True)
    lines = [
        table(groups),
        "",
        f"alpha = {ALPHA}, tanh, {options.seeds} starts, medians; {os.cpu_count()} cores, "
        f"scikit-learn {sklearn.__version__}; kernels loaded before "
        f"in {compiled.seconds:.1f} s, {compiled.compiled} compiled.",
    ]
    text = "\n".join(lines) + "\n"
    if options.out:
        options.out.write_text(text)
    print(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
