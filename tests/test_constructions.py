"""Constructions and verdicts about designs, against their definitions."""

from __future__ import annotations

import numpy as np
import pytest

import fastggn as fg
from fastggn import analysis
from fastggn.analysis import linear


def _gradients(weights, X, Y):
    """The gradient of half the sum of squares of a linear network, textbook form."""
    product = weights[0]
    for w in weights[1:]:
        product = w @ product
    error = (product @ X - Y) @ X.T
    found = []
    for k in range(len(weights)):
        above = np.eye(Y.shape[0])
        for w in reversed(weights[k + 1 :]):
            above = above @ w
        below = np.eye(X.shape[0])
        for w in weights[:k]:
            below = w @ below
        found.append(above.T @ error @ below.T)
    return found


@pytest.mark.parametrize("seed", range(100))
def test_constructed_points_are_critical(seed):
    """Also where Sigma has zero eigenvalues: targets of low rank, or orthogonal to the inputs."""
    rng = np.random.default_rng(seed)
    d_x, d_y = int(rng.integers(2, 5)), int(rng.integers(2, 5))
    widths = (d_x, *(int(w) for w in rng.integers(1, 5, size=rng.integers(1, 4))), d_y)
    X = rng.normal(size=(d_x, 12))
    rank = int(rng.integers(0, d_y))
    Y = rng.normal(size=(d_y, rank)) @ rng.normal(size=(rank, d_x)) @ X
    p = min(widths)
    modes = rng.permutation(d_y)[: int(rng.integers(0, p + 1))].tolist()
    Y = Y * 10.0 ** rng.integers(-6, 7)
    if not Y.any():
        Y[0, 0] = 1.0
    X_rows, Y_rows = X.T, Y.T
    weights = linear.construct(X_rows, Y_rows, widths, modes, seed=seed)
    size = np.linalg.norm(Y @ X.T) * max(1.0, *(np.linalg.norm(w) for w in weights)) ** len(weights)
    worst = max(np.abs(g).max() for g in _gradients(weights, X, Y))
    assert worst <= 1e-11 * size


@pytest.mark.parametrize("seed", range(100))
def test_exact_fit_succeeds_where_the_design_says_so(seed):
    rng = np.random.default_rng(seed)
    T, n = int(rng.integers(2, 12)), int(rng.integers(1, 4))
    hidden = [int(w) for w in rng.integers(2, 6, size=rng.integers(0, 2))] + [T + seed % 3 - 1]
    activation = ["tanh", "relu", "softplus", "leaky_relu", "sigmoid"][seed % 5]
    net = fg.MLP((n, *hidden, 1), activation=activation)
    X = rng.normal(size=(T, n)) * 10.0 ** rng.integers(-2, 3)
    Y = rng.normal(size=T)
    design = fg.check_design(net.widths, T=T, n_L=1, activation=activation)
    if design.exact_fit.status != "pass":
        return
    theta = analysis.exact_fit(net, X, Y, seed=seed)
    assert np.abs(net.predict(theta, X)[:, 0] - Y).max() <= 1e-6 * np.abs(Y).max()


def test_relu_fits_the_numbers_from_zero_to_ten():
    X = np.arange(11.0)[:, None]
    Y = np.sin(X[:, 0])
    net = fg.MLP((1, 10, 1), activation="relu")
    assert fg.check_design((1, 10, 1), T=11, n_L=1, activation="relu").exact_fit.holds
    theta = analysis.exact_fit(net, X, Y)
    assert np.abs(net.predict(theta, X)[:, 0] - Y).max() < 1e-8


def test_remark_5_asks_for_analytic_activations():
    assert not fg.check_design((2, 20, 5, 1), T=20, n_L=1, activation="relu").pyramidal.holds
    assert fg.check_design((2, 20, 5, 1), T=20, n_L=1, activation="tanh").pyramidal.holds


LABELS_ONLY = ("logistic", "softmax_cross_entropy")
STRICT = {"sigmoid", "tanh", "softplus"}  # analytic, strictly increasing, bounded or softplus


@pytest.mark.parametrize("seed", range(200))
def test_verdicts_of_random_designs_are_their_definitions(seed):
    """Principle 1 asks for differentiability and attained minima; Remark 5 for Theorem 3.8."""
    rng = np.random.default_rng(seed)
    widths = [int(k) for k in rng.integers(1, 16, int(rng.integers(3, 6)))]
    T, bias = int(rng.integers(2, 16)), str(rng.choice(["free", "none"]))
    loss = str(rng.choice(["squared", "huber", "cauchy", "blake_zisserman", "smooth_lp",
                           *LABELS_ONLY]))  # fmt: skip
    names = ["tanh", "sigmoid", "softplus", "relu", "leaky_relu", "bent_identity", "sin"]
    hidden = [str(rng.choice(names)) for _ in widths[1:-1]]
    design = fg.check_design(widths, T, activation=hidden, loss=loss, bias=bias)
    assert design.principles["1"].holds == (loss not in LABELS_ONLY)
    needed = T - (bias == "free")
    wide = [k for k in range(1, len(widths) - 1) if widths[k] >= needed]
    falls = bool(wide) and all(np.diff(widths[wide[-1] + 1 :]) <= 0)
    assert design.pyramidal.holds == (falls and set(hidden) <= STRICT)
    if loss in LABELS_ONLY or widths[-2] < needed:
        assert not design.exact_fit.holds


def test_softmax_with_labels_has_no_exact_fit():
    design = fg.check_design((2, 30, 3), T=20, n_L=3, loss="softmax_cross_entropy")
    assert not design.principles["1"].holds and design.exact_fit.status != "pass"


@pytest.mark.parametrize("seed", range(100))
def test_powers_of_two_change_no_region(seed):
    """Losses scale with the square of the targets; theta stays finite."""
    rng = np.random.default_rng(seed)
    bias = bool(seed % 2)
    X, y = rng.normal(size=(4, 2 - bias)), rng.normal(size=4)
    a, b = (0 if bias else int(rng.integers(-400, 400))), int(rng.integers(-400, 400))
    for which in ("realisable", "boundary"):
        first = analysis.enumerate_subglobal_minima(X, y, 1, bias, which)
        second = analysis.enumerate_subglobal_minima(X * 2.0**a, y * 2.0**b, 1, bias, which)
        for one, other in zip(first, second, strict=True):
            assert one.attained == other.attained
            assert other.loss * 4.0**-b == pytest.approx(one.loss, abs=1e-12 * float(y @ y))
            assert other.theta is None or np.isfinite(other.theta).all()


@pytest.mark.parametrize(("first", "count"), [(0, 8), pytest.param(8, 120, marks=pytest.mark.slow)])
def test_regions_of_any_magnitude(first, count):
    """Inputs and targets of 1e-300 to 1e300: the values of usual ones by LAPACK, or a refusal."""
    refused = 0
    for seed in range(first, first + count):
        rng = np.random.default_rng(seed)
        bias, h = bool(rng.integers(2)), int(rng.integers(1, 3))
        X, y = rng.normal(size=(4, 2 - bias)), rng.normal(size=4)
        a, b = 10.0 ** rng.uniform(-300.0, 300.0, 2)
        if seed % 4 == 0:
            b = float(rng.choice([1e-300, 1e-200, 1e-160, 1e154, 1e300]))
        which = str(rng.choice(["realisable", "boundary"]))
        usual = list(analysis.enumerate_subglobal_minima(X, y, h, bias, which))
        largest = np.abs(b * y).max()
        with np.errstate(all="raise"):
            if not 1e-130 <= largest <= 1e150 / 2.0:
                refused += 1
                with pytest.raises(ValueError, match="power of two"):
                    analysis.enumerate_subglobal_minima(a * X, b * y, h, bias, which)
                continue
            found = list(analysis.enumerate_subglobal_minima(a * X, b * y, h, bias, which))
        for one, other in zip(usual, found, strict=True):
            assert (one.attained, one.boundary) == (other.attained, other.boundary), seed
            np.testing.assert_array_equal(one.patterns, other.patterns)
            assert other.loss / b / b == pytest.approx(one.loss, abs=1e-10 * float(y @ y)), seed
            if which == "realisable":
                design = np.hstack([u[:, None] * (np.c_[X, np.ones(4)] if bias else X)
                                    for u in one.patterns] + [np.ones((4, 1))] * bias)  # fmt: skip
                missed = y - design @ np.linalg.lstsq(design, y, rcond=None)[0]
                assert one.loss == pytest.approx(0.5 * missed @ missed, abs=1e-10 * float(y @ y))
            if other.theta is not None:
                assert np.isfinite(other.theta).all()
                outputs = outputs_of(other.theta, X, a, b, h, bias)
                assert 0.5 * np.sum((outputs - y) ** 2) == pytest.approx(
                    one.loss, abs=1e-9 * float(y @ y)
                ), seed
    assert 1 <= refused < count


def outputs_of(theta, X, a, b, h, bias):
    """Return the outputs over b at inputs a X, in an order in which nothing leaves float64."""
    n = X.shape[1] + bias
    W, v = theta[: h * n].reshape(h, n), theta[h * n : h * n + h]
    outputs = np.zeros(len(X))
    for w, outgoing in zip(W, v, strict=True):
        size = np.sqrt(b)
        z = X @ (w[: X.shape[1]] / size * a) + (w[-1] / size if bias else 0.0)
        outputs += np.maximum(z, 0.0) * (outgoing / size)
    return outputs + (theta[-1] / b if bias else 0.0)


@pytest.mark.parametrize("sizes", [(1e-250, 1e140), (1e250, 1e-120)])
def test_parameters_beyond_float64_are_refused(sizes):
    X, y = sizes[0] * np.array([[1.0], [-2.0], [3.0]]), sizes[1] * np.array([1.0, -2.0, 0.5])
    with np.errstate(all="raise"), pytest.raises(ValueError, match="power of two"):
        analysis.subglobal_minimum(X, y, [[1, 1, 1]])


@pytest.mark.parametrize("size", [1e-200, 1e154, 1e300])
def test_targets_whose_squares_leave_float64_are_refused(size):
    X, y = np.array([[1.0], [-2.0], [3.0]]), size * np.array([1.0, -2.0, 0.5])
    for run in (analysis.enumerate_subglobal_minima, analysis.loss_table):
        with pytest.raises(ValueError, match="power of two"):
            list(run(X, y, 1))
    with pytest.raises(ValueError, match="power of two"):
        analysis.subglobal_minimum(X, y, [[1, 1, 1]])
