"""Callbacks and the history: what an iteration shows, and what is left of it."""

import builtins
import pickle
import sys
import warnings

import numpy as np
import pytest

import fastggn as fg
from fastggn.training.result import History


@pytest.fixture(scope="module")
def problem():
    X, Y = fg.data.four_regions(60, seed=0)
    return fg.Problem(fg.MLP((2, 5, 1)), X, Y)


def test_a_callback_reads_theta(problem):
    losses = []
    result = fg.train(
        problem, seed=0, max_iter=4, callbacks=[lambda r: losses.append(problem.loss(r.theta))]
    )
    assert losses == [record.loss for record in result.history]


def test_theta_is_read_only(problem):
    def spoil(record):
        record.theta[0] = 1.0

    with pytest.raises(ValueError, match="read-only"):
        fg.train(problem, seed=0, max_iter=2, callbacks=[spoil])


def test_theta_is_there_while_the_callbacks_run_only(problem):
    seen = []

    def keep(record):
        seen.append((record, record.theta.copy(), hasattr(record, "theta")))

    def fail(record):
        raise ZeroDivisionError

    result = fg.train(problem, seed=0, max_iter=3, callbacks=[keep])
    for record, _, there in seen:
        assert there
        with pytest.raises(AttributeError, match="copy it there"):
            _ = record.theta
        with pytest.raises(KeyError):
            record["theta"]
        assert "theta" not in record.to_dict()
    np.testing.assert_array_equal(seen[-1][1], result.theta)
    with pytest.raises(ZeroDivisionError):
        fg.train(problem, seed=0, max_iter=3, callbacks=[keep, fail])
    assert not hasattr(seen[-1][0], "theta")


def test_a_callback_that_stops(problem):
    """As a person would: enough of the training samples are right."""
    classes = problem.targets

    def enough(record):
        right = np.rint(problem.network.predict(record.theta, X)) == classes
        return bool(right.mean() >= 0.8)

    X, _ = fg.data.four_regions(60, seed=0)
    result = fg.train(problem, seed=0, max_iter=100, callbacks=[enough])
    assert result.status == "interrupted" and result.n_iter < 100
    assert (np.rint(problem.network.predict(result.theta, X)) == classes).mean() >= 0.8


def test_callbacks_keep_the_callers_handling_of_floating_point_errors(problem):
    """`train` itself is silent: what overflows there is a status."""

    def divide(record):
        np.ones(1) / np.zeros(1)

    def run():
        return fg.train(problem, seed=0, max_iter=2, callbacks=[divide])

    with pytest.warns(RuntimeWarning, match="divide by zero"):
        run()
    with np.errstate(divide="raise"):
        with pytest.raises(FloatingPointError):
            run()
        assert np.geterr()["divide"] == "raise"
    with warnings.catch_warnings(), np.errstate(divide="ignore"):
        warnings.simplefilter("error")
        run()


def test_the_history_is_a_list(problem):
    history = fg.train(problem, seed=0, max_iter=3).history
    assert isinstance(history, History) and isinstance(history, list)
    assert [record.iteration for record in history] == [1, 2, 3]
    assert pickle.loads(pickle.dumps(history)) == history


def test_a_frame(problem):
    history = fg.train(
        problem, seed=0, max_iter=3, method=fg.LevenbergMarquardt(solver="qr")
    ).history
    frame = history.to_frame()
    assert frame.index.name == "iteration" and frame.index.tolist() == [1, 2, 3]
    assert list(frame.columns) == [name for name in history[0].to_dict() if name != "iteration"]
    for name in frame.columns:
        values = [record[name] for record in history]
        if name != "validation_loss":
            assert frame[name].tolist() == values, name
    assert frame["loss"].dtype == frame["validation_loss"].dtype == np.float64
    assert frame["validation_loss"].isna().all()
    assert frame["rank"].dtype == "Int64"
    assert frame["accepted"].dtype == bool and frame["assemblies"].dtype == np.int64


def test_a_frame_of_what_a_method_does_not_have(problem):
    held_out = fg.data.four_regions(20, seed=1)
    history = fg.train(
        problem,
        seed=0,
        max_iter=2,
        method=fg.GradientDescent(rate=0.01),
        held_out=fg.HeldOut(*held_out, patience=None),
    ).history
    frame = history.to_frame()
    assert frame[["damping", "gain_ratio", "rank", "rcond"]].isna().all().all()
    assert frame["validation_loss"].tolist() == [r.validation_loss for r in history]


def test_an_empty_frame(problem):
    frame = fg.train(problem, seed=0, max_iter=0).history.to_frame()
    assert len(frame) == 0 and "loss" in frame.columns


def test_without_pandas_the_extra_is_named(problem, monkeypatch):
    plain = builtins.__import__

    def without(name, *arguments, **keywords):
        if name == "pandas":
            raise ImportError("no pandas")
        return plain(name, *arguments, **keywords)

    monkeypatch.delitem(sys.modules, "pandas", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"pip install 'fastggn\[sklearn\]'"):
        fg.train(problem, seed=0, max_iter=1).history.to_frame()
