"""Statuses of runs against independent truths."""

import warnings

import numpy as np
import pytest

import fastggn as fg


def convex_problem(rng):
    """Return a random polynomial or collinear regression, and its least mean of squares / 2."""
    T = int(rng.integers(8, 60))
    x = rng.uniform(-1, 1, T) * 10.0 ** rng.integers(-1, 3)
    if rng.random() < 0.5:
        X = np.stack([x**k for k in range(1, int(rng.integers(2, 6)))], axis=1)
    else:
        X = np.stack([x, x + 1e-3 * rng.standard_normal(T), rng.standard_normal(T)], axis=1)
    Y = (X @ rng.standard_normal(X.shape[1]) + rng.standard_normal(T))[:, None]
    design = np.c_[X, np.ones(T)]
    scale = np.linalg.norm(design, axis=0)
    best = (design / scale) @ np.linalg.lstsq(design / scale, Y, rcond=None)[0]
    return X, Y, 0.5 * float(np.mean((Y - best) ** 2))


@pytest.mark.parametrize("l2", [0.0, 1e-8])
def test_least_squares_never_diverge(l2):
    rng = np.random.default_rng(1)
    for _ in range(50):
        X, Y, least = convex_problem(rng)
        problem = fg.Problem(fg.MLP((X.shape[1], 1)), X, Y, l2=l2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = fg.train(problem, seed=0, max_iter=500)
        assert result.status != "diverging"
        if l2 == 0.0 and result.status.startswith("converged"):
            constant = 0.5 * float(np.var(Y))
            assert result.loss <= least * (1 + 1e-6) + 1e-12 * constant


def test_separable_classes_still_run_to_infinity():
    X = np.array([[-2.0], [-1.0], [1.0], [2.0]])
    problem = fg.Problem(fg.MLP((1, 1)), X, np.array([0.0, 0.0, 1.0, 1.0]), "logistic")
    result = fg.train(problem, seed=0, max_iter=500)
    assert result.status == "diverging" and "separated" in result.message


def test_saturated_units_still_run_to_infinity():
    X = np.array([[-1.0], [1.0]])
    problem = fg.Problem(fg.MLP((1, 1), output_activation="tanh"), X, X)
    with pytest.warns(fg.DivergenceWarning, match="infinity"):
        assert fg.train(problem, seed=0, max_iter=500).status == "diverging"


@pytest.mark.parametrize(
    "method", [fg.Newton(solver="lsqr"), fg.Newton(), fg.Auto(), "lm", "lbfgs"]
)
@pytest.mark.parametrize("size", [1e77, 1e158, 1e300])
def test_no_magnitude_makes_an_endless_loop(method, size):
    rng = np.random.default_rng(0)
    X, Y = size * rng.standard_normal((20, 2)), rng.standard_normal((20, 1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = fg.train(fg.Problem(fg.MLP((2, 3, 1)), X, Y), seed=0, method=method, max_iter=50)
    assert np.isfinite(result.theta).all()


@pytest.mark.parametrize("l2", [1e200, 1e-300])
def test_no_weight_decay_makes_an_endless_loop(l2):
    X, Y = np.ones((5, 1)), np.ones((5, 1))
    for method in (fg.Newton(solver="lsqr"), fg.Newton(), "lm"):
        problem = fg.Problem(fg.MLP((1, 2, 1)), X, Y, l2=l2)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert np.isfinite(fg.train(problem, seed=0, method=method, max_iter=50).theta).all()


def test_vectors_that_do_not_fit_are_refused_with_the_figure(monkeypatch):
    monkeypatch.setattr("fastggn.training.run.available_memory", lambda: 2**30)
    problem = fg.Problem(fg.MLP((1, 4000, 4000, 1)), np.ones((2, 1)), np.ones((2, 1)))
    with pytest.raises(MemoryError, match="16,016,001 parameters need some 1.3 GiB"):
        fg.train(problem, seed=0)
