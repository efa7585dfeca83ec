"""Convergence is relative: the sizes that slopes, losses and steps are compared with."""

import warnings

import mpmath
import numpy as np
import pytest

import fastggn as fg
from fastggn.objective.scales import LEAST_SHARE, at_least, slope_sizes
from fastggn.training.control.convergence import GradientTest, StepTest

LOSSES = {
    "squared": lambda rng, T: rng.standard_normal((T, 3)),
    "huber": lambda rng, T: 3.0 * rng.standard_normal((T, 3)),
    "softmax_cross_entropy": lambda rng, T: rng.integers(0, 3, T),
    "logistic": lambda rng, T: rng.integers(0, 2, (T, 3)),
}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("T", [1, 7, 600])
def test_the_terms_of_each_slope(loss, T):
    """Against the dense Jacobian, with weights, and fixed biases among them."""
    rng = np.random.default_rng(T)
    bias = "free" if T > 1 else [rng.standard_normal(5), rng.standard_normal(3)]
    problem = fg.Problem(
        fg.MLP((2, 5, 3), bias=bias), rng.standard_normal((T, 2)), LOSSES[loss](rng, T), loss=loss,
        sample_weight=rng.uniform(0.1, 2.0, T),
    )  # fmt: skip
    theta = problem.network.init(seed=1)
    point = problem.at(theta)
    terms, rounding = slope_sizes(point.rows, point._terms)
    errors = problem.loss_function.gradient(problem.outputs(theta), problem.targets)
    errors = errors * problem.relative_weights[:, None] / T
    parts = np.abs(problem.jacobian(theta).to_dense() * errors.reshape(-1, 1))
    np.testing.assert_allclose(terms, parts.sum(axis=0), rtol=1e-12)
    assert (np.abs(point.data_gradient) <= terms * (1 + 1e-12)).all()
    if loss == "squared":
        sizes = np.abs(problem.outputs(theta)) * problem.relative_weights[:, None] / T
        parts = np.abs(problem.jacobian(theta).to_dense()) * sizes.reshape(-1, 1)
        np.testing.assert_allclose(rounding, parts.sum(axis=0), rtol=1e-12)
    constant, zero = point.loss_scales()
    assert 0.0 <= constant <= zero == pytest.approx(
        float(problem.relative_weights @ problem.loss_function.value(
            np.zeros((T, 3)), problem.targets)) / T)  # fmt: skip


def test_the_loss_of_constants():
    rng = np.random.default_rng(0)
    Y, w = 5.0 + rng.standard_normal((50, 2)), rng.uniform(0.0, 1.0, (50, 2))
    net, X = fg.MLP((1, 2)), np.zeros((50, 1))
    constant, zero = fg.Problem(net, X, Y).at(net.init(0)).loss_scales()
    assert constant == pytest.approx(0.5 * Y.var(axis=0).sum())
    assert zero == pytest.approx(0.5 * (Y**2).sum() / 50)
    weighted = fg.Problem(net, X, Y, sample_weight=w)
    means = (w * Y).sum(axis=0) / w.sum(axis=0)
    at_means = weighted.loss([0.0, means[0], 0.0, means[1]])
    assert weighted.at(net.init(0)).loss_scales()[0] == pytest.approx(at_means)


def test_small_terms_count_as_a_share_of_the_usual_ones():
    terms = np.array([1.0, 1e6, 1e-9, 1e6, 1.0, 1e-9, 7.0, 1e-9])
    floor = LEAST_SHARE
    # One layer: each weight has its own units. Two: inputs below, outputs above.
    np.testing.assert_array_equal(at_least(terms, [(4, 2)]), terms)
    expected = [1.0, 1e6, floor, 1e6, 1.0, floor, 7.0, 7.0 * floor]
    np.testing.assert_allclose(at_least(terms, [(2, 2), (2, 2)]), expected)


def test_a_step_is_compared_with_theta_alone():
    for size in (1e-120, 1e-20, 1.0, 1e100):
        theta = np.full(4, size)
        assert StepTest(1e-6)(theta, 1.9e-6 * size)
        assert not StepTest(1e-6)(theta, 2.1e-6 * size)
    assert StepTest(0.0)(np.zeros(2), 0.0) and not StepTest(1e-6)(np.zeros(2), 1e-100)


def test_the_terms_are_computed_seldom(monkeypatch):
    """The cost of the test of the gradient, in passes for terms over a run."""
    from fastggn.objective.point import Point

    seen, original = [], Point.slope_sizes
    monkeypatch.setattr(Point, "slope_sizes", lambda self: seen.append(1) or original(self))
    X, Y = fg.data.four_regions(200, seed=0)
    for method, most in (("lm", 8), ("newton", 8), (fg.GradientDescent(rate=0.1), 1)):
        seen.clear()
        result = fg.train(fg.Problem(fg.MLP((2, 8, 1)), X, Y), seed=1, method=method, max_iter=300)
        assert 1 <= len(seen) <= most, (method, len(seen), result.n_iter)


def linear_problem(seed):
    """Least squares with columns and targets in random units, and the least loss by LAPACK."""
    rng = np.random.default_rng(seed)
    k = int(rng.integers(1, 5))
    T = int(rng.integers(k + 2, 40))
    units, size = 10.0 ** rng.uniform(-3.0, 3.0, k), 10.0 ** rng.uniform(-10.0, 10.0)
    X = rng.standard_normal((T, k))
    Y = X @ rng.standard_normal(k) + rng.standard_normal()
    Y = size * (Y + 10.0 ** rng.uniform(-6.0, 0.0) * rng.standard_normal(T))
    A = np.column_stack([X, np.ones(T)])
    residuals = A @ np.linalg.lstsq(A, Y, rcond=None)[0] - Y
    problem = fg.Problem(fg.MLP((k, 1)), X * units, Y)
    return problem, 0.5 * np.mean(residuals**2), 0.5 * np.var(Y)


@pytest.mark.parametrize("method", ["lm", "ggn"])
def test_no_run_converges_above_the_least_squares(method):
    """120 regressions in units from 1e-10 to 1e10, each against LAPACK."""
    converged = 0
    for seed in range(60):
        problem, least, constant = linear_problem(seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", fg.FastGGNWarning)
            result = fg.train(problem, seed=seed, method=method, max_iter=500)
        if result.converged:
            converged += 1
            assert result.loss <= least * (1 + 1e-6) + 1e-12 * constant, (seed, result.message)
        assert result.status != "diverging", seed
    assert converged >= 57


# Longley (1967), by which NIST tries programs for least squares: deflator, national product,
# unemployed, armed forces, population, year, employed.
LONGLEY = """
83.0 234289 2356 1590 107608 1947 60323
88.5 259426 2325 1456 108632 1948 61122
88.2 258054 3682 1616 109773 1949 60171
89.5 284599 3351 1650 110929 1950 61187
96.2 328975 2099 3099 112075 1951 63221
98.1 346999 1932 3594 113270 1952 63639
99.0 365385 1870 3547 115094 1953 64989
100.0 363112 3578 3350 116219 1954 63761
101.2 397469 2904 3048 117388 1955 66019
104.6 419180 2822 2857 118734 1956 67857
108.4 442769 2936 2798 120445 1957 68169
110.8 444546 4681 2637 121950 1958 66513
112.6 482704 3813 2552 123366 1959 68655
114.2 502601 3931 2514 125368 1960 69564
115.7 518173 4806 2572 127852 1961 69331
116.9 554894 4007 2827 130081 1962 70551
"""


@pytest.mark.filterwarnings("ignore::fastggn.FastGGNWarning")
@pytest.mark.parametrize("method", ["ggn", "lm", "newton"])
def test_large_coefficients_are_no_divergence(method):
    """An intercept of -3.5e6, against 50 digits."""
    table = np.array(LONGLEY.split(), dtype=float).reshape(-1, 7)
    X, y = table[:, :6], table[:, 6]
    with mpmath.workdps(50):
        design = mpmath.matrix(np.c_[X, np.ones(16)].tolist())
        exact, left = mpmath.qr_solve(design, mpmath.matrix(y.tolist()))
        exact, least = np.array([float(v) for v in exact]), float(left**2 / 32)
    assert exact[-1] == pytest.approx(-3482258.63459582, rel=1e-13)  # as NIST certifies it
    result = fg.train(fg.Problem(fg.MLP((6, 1)), X, y), seed=0, method=method, max_iter=500)
    assert result.status != "diverging", result.message
    if method == "ggn":
        assert result.converged
        np.testing.assert_allclose(result.theta, exact, rtol=1e-9)
    if result.converged:
        assert result.loss <= least * (1 + 1e-6)


def test_an_exact_fit_is_recognised_in_any_units():
    """100 linear maps without noise: residuals of roundings have no slopes to compare."""
    for seed in range(100):
        rng = np.random.default_rng(seed)
        k, T = int(rng.integers(1, 4)), int(rng.integers(3, 20))
        X = rng.standard_normal((T, k))
        Y = 10.0 ** rng.uniform(-6.0, 6.0) * (X @ rng.standard_normal(k) + rng.standard_normal())
        problem = fg.Problem(fg.MLP((k, 1)), X, Y)
        result = fg.train(problem, seed=seed, method="ggn")
        assert result.status == "converged_gradient", (seed, result.message)
        assert result.loss <= 1e-20 * np.mean(Y**2) and result.n_iter <= 4


def test_resumed_sizes_decide_alike():
    problem, *_ = linear_problem(3)
    point = problem.at(problem.network.init(0))
    first, second = GradientTest(1e-10, problem.n_params), GradientTest(1e-10, problem.n_params)
    assert first(point) is None
    second.restore(first.state())
    assert second.state()["near"] == first.state()["near"] > 0.0
    np.testing.assert_array_equal(second.state()["sizes"], first.state()["sizes"])


METHODS = (
    lambda T: "ggn",
    lambda T: fg.GradientDescent(rate=1.0),
    lambda T: fg.Adam(rate=0.5),
    lambda T: fg.GaussNewton(batch_size=max(1, T // 2)),
)


@pytest.mark.filterwarnings("ignore::fastggn.FastGGNWarning")
@pytest.mark.parametrize("kind", range(4))
def test_the_lowest_point_is_kept(kind):
    """25 runs a method that may rise: the result against the history, status and message."""
    replaced = 0
    for seed in range(25):
        rng = np.random.default_rng(seed)
        T, n = int(rng.integers(4, 40)), int(rng.integers(1, 6))
        X, Y = rng.standard_normal((T, 2)), rng.standard_normal(T)
        problem = fg.Problem(fg.MLP((2, n, 1)), X, Y)
        result = fg.train(problem, seed=seed, method=METHODS[kind](T), max_iter=30)
        losses = [result.initial_loss, *(record.loss for record in result.history)]
        assert result.loss <= min(losses) * (1 + 1e-9) + 1e-20 * losses[0]
        assert result.loss == problem.loss(result.theta)
        if result.loss < losses[-1] * (1 - 1e-9) - 1e-20 * losses[0]:
            replaced += 1
            iteration = int(np.argmin(losses))
            assert f"after iteration {iteration}" in result.message
            assert not result.converged and result.status != "diverging"
    assert replaced > 0


def test_the_lowest_point_survives_a_resumption(tmp_path):
    rng = np.random.default_rng(1)
    X, Y = rng.standard_normal((20, 2)), rng.standard_normal(20)
    problem, method = fg.Problem(fg.MLP((2, 4, 1)), X, Y), fg.GradientDescent(rate=3.0)
    whole = fg.train(problem, seed=0, method=method, max_iter=20)
    for count in (7, 20):
        save = fg.Checkpoint(tmp_path / "run.ck", resume=True)
        part = fg.train(problem, seed=0, method=method, max_iter=count, checkpoint=save)
    assert (part.loss, part.message) == (whole.loss, whole.message) and "lowest" in whole.message
    np.testing.assert_array_equal(part.theta, whole.theta)


def test_no_rounding_is_named_at_a_kink():
    """At the kink of |theta| no step of any length lowers the loss, which is no rounding."""
    from fakes import ResidualProblem

    for seed in range(100):
        start = 10.0 ** np.random.default_rng(seed).uniform(-12.0, 0.0)
        kink = ResidualProblem(
            lambda t: 1.0 + np.abs(t), 1, 1, lambda t: np.where(t > 0.0, 1.0, -1.0).reshape(1, 1)
        )
        result = fg.train(kink, [start], stop=fg.Stop(gradient=0.0))
        assert "at its rounding" not in result.message, result.message
