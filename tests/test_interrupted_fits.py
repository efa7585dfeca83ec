"""Ctrl-C at any moment of an estimator's fit comes out of it: nothing runs on by mistake."""

import functools
import random
import signal
import sys
import time
import warnings
from dataclasses import replace

import numpy as np
import pytest
from strikes import Strike

import fastggn as fg
from fastggn.apps.sklearn import fitting
from fastggn.training.regularisation import weight_decay
from fastggn.training.result import ASKED

RNG = np.random.default_rng(0)
X = RNG.normal(size=(24, 2))
Y, LABELS = np.sin(X[:, 0]), (X[:, 0] > X[:, 1]).astype(int)
SHORT = {"hidden_layer_sizes": 2, "random_state": 0, "max_iter": 4}
FITS = {
    "plain": lambda: fg.GGNRegressor(**SHORT).fit(X, Y),
    "plateau": lambda: fg.GGNRegressor(**SHORT, tol=0.9, n_iter_no_change=1).fit(X, Y),
    "early stopping": lambda: fg.GGNRegressor(**SHORT, early_stopping=True).fit(X, Y),
    "bayesian": lambda: fg.GGNRegressor(**SHORT, regularization="bayesian").fit(X, Y),
    "validation": lambda: fg.GGNRegressor(
        **{**SHORT, "max_iter": 2}, regularization="validation"
    ).fit(X, Y),
    "restarts": lambda: fg.GGNRegressor(**SHORT, n_restarts=3).fit(X, Y),
    "batches": lambda: fg.GGNRegressor(**SHORT, batch_size=8, method="lm").fit(X, Y),
    "warm start": lambda: fg.GGNRegressor(**SHORT, warm_start=True).fit(X, Y).fit(X, Y),
    "classifier": lambda: fg.GGNClassifier(**SHORT).fit(X, LABELS),
    "steps": lambda: fg.GGNClassifier(**SHORT, method="lm").partial_fit(X, LABELS, classes=[0, 1]),
}
pytestmark = [
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.skipif(sys.gettrace() is not None, reason="another tracer is at work"),
]


@pytest.fixture(autouse=True)
def short_path(monkeypatch):
    monkeypatch.setattr(weight_decay, "GRID", np.array([1.0, 0.1]))


def parameters(fit):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return fit().theta_.tobytes()


@pytest.mark.parametrize("name", FITS)
@pytest.mark.parametrize("count", [2, pytest.param(12, marks=pytest.mark.slow)])
def test_ctrl_c_at_random_lines_of_a_fit_comes_out_of_it(name, count):
    """Each line is as likely as another; a later fit has the bits of one without Ctrl-C."""
    fit, draw = FITS[name], random.Random(f"{name} {count}")
    whole, learnt = parameters(fit), Strike()
    learnt.run(lambda: parameters(fit))
    lines = sorted(learnt.visits)
    struck, kept = 0, []  # a finaliser after the fit has nobody to hear an interrupt
    for _ in range(count):
        line = draw.choice(lines)
        strike = Strike(line, draw.randint(1, learnt.visits[line]))
        strike.run(lambda: kept.append(fit()))
        assert strike.heard == strike.struck, line
        assert parameters(fit) == whole, line
        struck += strike.struck
    assert struck >= 0.7 * count


def interrupted_at(moment, work):
    """Do a work; send Ctrl-C after so many seconds. Return whether it came, and came out."""
    came, heard = [], False

    def arrive(number, frame):
        came.append(number)
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGALRM, arrive)
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, moment)
            work()
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0.0)
    except KeyboardInterrupt:
        heard = True
    finally:
        signal.signal(signal.SIGALRM, before)
    return bool(came), heard


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs an interval timer")
@pytest.mark.parametrize("name", FITS)
@pytest.mark.parametrize("count", [2, pytest.param(12, marks=pytest.mark.slow)])
def test_ctrl_c_at_random_moments_of_a_fit_comes_out_of_it(name, count):
    """Inside compiled code too, after which Python looks for signals."""
    fit, draw = FITS[name], random.Random(f"{name} {count}")
    whole = parameters(fit)
    began = time.perf_counter()
    parameters(fit)
    seconds, came, kept = time.perf_counter() - began, 0, []
    for _ in range(count):
        arrived, heard = interrupted_at(
            draw.uniform(1e-6, seconds), lambda: kept.extend(fit() for _ in range(10))
        )
        assert heard == arrived
        assert parameters(fit) == whole
        came += arrived
    assert came == count


def ends_by_ctrl_c(monkeypatch, module, number):
    """Let the training of this number end as by Ctrl-C; return the list of all trainings."""
    real, calls = module.train, []

    @functools.wraps(real)
    def train(*arguments, **options):
        result = real(*arguments, **options)
        calls.append(result)
        if len(calls) != number:
            return result
        return replace(result, status="interrupted", message="interrupted; theta is the last one")

    monkeypatch.setattr(module, "train", train)
    return calls


def test_ctrl_c_when_the_loss_has_just_settled_is_no_convergence(monkeypatch):
    """The callback has asked to stop, and Ctrl-C comes before the run does."""
    real = fitting.train

    def train(*arguments, **options):
        result = real(*arguments, **options)
        assert result.message.startswith(ASKED)
        return replace(result, message="interrupted; theta is the last accepted one")

    assert fg.GGNRegressor(**SHORT, tol=0.9, n_iter_no_change=1).fit(X, Y).result_.converged
    monkeypatch.setattr(fitting, "train", train)
    with pytest.raises(KeyboardInterrupt):
        fg.GGNRegressor(**SHORT, tol=0.9, n_iter_no_change=1).fit(X, Y)


@pytest.mark.parametrize("number", [1, 2, 4, 7])
def test_ctrl_c_in_one_run_of_a_path_ends_the_path(monkeypatch, number):
    calls = ends_by_ctrl_c(monkeypatch, weight_decay, number)
    with pytest.raises(KeyboardInterrupt):
        FITS["validation"]()
    assert len(calls) == number


def test_a_callback_ends_one_run_of_a_path_alone():
    seen = []
    problem = fg.Problem(fg.MLP((2, 2, 1)), X, Y)
    fg.select_weight_decay(
        problem, (X, Y), grid=[1.0, 0.1], seed=0, callbacks=[lambda record: seen.append(1) or True]
    )
    assert len(seen) == 3


def test_ctrl_c_ends_all_runs_of_a_warm_up(monkeypatch):
    from fastggn.training import warmup

    calls = ends_by_ctrl_c(monkeypatch, warmup, 1)
    with pytest.raises(KeyboardInterrupt):
        warmup.warmup()
    assert len(calls) == 1
