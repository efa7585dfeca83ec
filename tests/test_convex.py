"""Convex problems of any units and conditions, against optima of independent computations."""

import warnings

import mpmath
import numpy as np
import pytest

import fastggn as fg

# Method -> the largest decimal power of the condition number of J.
METHODS = {
    "lm": (fg.LevenbergMarquardt(), 10),
    "lm, qr": (fg.LevenbergMarquardt(solver="qr"), 10),
    "ggn": (fg.GaussNewton(), 10),
    "ggn, qr": (fg.GaussNewton(solver="qr"), 10),
    "newton": (fg.Newton(), 10),
    "auto": (fg.Auto(), 10),
    "lm, cholesky": (fg.LevenbergMarquardt(solver="cholesky"), 6),
    "ggn, cholesky": (fg.GaussNewton(solver="cholesky"), 6),
    "lm, lsqr": (fg.LevenbergMarquardt(solver="lsqr"), 4),
    "ggn, lsqr": (fg.GaussNewton(solver="lsqr"), 4),
    "newton, lsqr": (fg.Newton(solver="lsqr"), 4),
    "lbfgs": (fg.LBFGS(), 3),
}


def inputs(rng, most):
    """Return inputs (T, n) with a condition number up to 10^most, in any units."""
    n = int(rng.integers(1, 7))
    size = n + int(rng.integers(1, 25))
    u, _ = np.linalg.qr(rng.standard_normal((size, n)))
    v, _ = np.linalg.qr(rng.standard_normal((n, n)))
    values = 10.0 ** -np.linspace(0.0, rng.uniform(0.0, most), n)
    return np.sqrt(size) * (u * values) @ v.T


def least_squares(rng, most):
    """Return a problem, its least loss by 50 digits, and the loss of the best constant."""
    X = inputs(rng, most)
    y = X @ rng.standard_normal(X.shape[1]) * rng.choice([0.0, 1.0])
    y += 10.0 ** rng.uniform(-6, 0) * rng.standard_normal(len(X))
    X, y = X * 10.0 ** rng.uniform(-9, 9), y * 10.0 ** rng.uniform(-9, 9)
    with mpmath.workdps(50):
        _, left = mpmath.qr_solve(mpmath.matrix(X), mpmath.matrix(y))
        least = float(left**2 / (2 * len(y)))
    problem = fg.Problem(fg.MLP((X.shape[1], 1), bias="none"), X, y)
    return problem, least, 0.5 * float(np.var(y))


def logistic(rng, most):
    """Return a problem with weight decay, its least loss by Newton's steps, and the constant's."""
    X = inputs(rng, most)
    y = (X @ rng.standard_normal(X.shape[1]) + 0.3 * rng.standard_normal(len(X)) > 0).astype(float)
    unit = 10.0 ** rng.uniform(-9, 9)
    l2 = 10.0 ** rng.uniform(-4, 0)
    problem = fg.Problem(
        fg.MLP((X.shape[1], 1), bias="none"), unit * X, y, "logistic", l2=l2 * unit**2
    )
    share = np.clip(y.mean(), 1e-300, 1.0 - 1e-16)
    constant = -float(y.mean() * np.log(share) + (1.0 - y.mean()) * np.log1p(-share))
    return problem, _least_logistic(X, y, l2), constant


def _least_logistic(X, y, l2):
    """Return the least loss; each step is a least-squares solution."""
    theta, n = np.zeros(X.shape[1]), len(y)

    def loss(theta):
        z = X @ theta
        return float(np.mean(np.logaddexp(0.0, z) - y * z) + 0.5 * l2 * theta @ theta)

    for _ in range(200):
        p = 1.0 / (1.0 + np.exp(-X @ theta))
        root = np.sqrt(p * (1.0 - p) / n)
        rows = np.vstack([root[:, None] * X, np.sqrt(l2) * np.eye(theta.size)])
        right = np.concatenate([(y - p) / n / np.maximum(root, 1e-300), -np.sqrt(l2) * theta])
        step = np.linalg.lstsq(rows, right, rcond=None)[0]
        while not loss(theta + step) <= loss(theta) and np.linalg.norm(step) > 1e-16:
            step *= 0.5
        theta = theta + step
    return loss(theta)


def outcome(number):
    """Train instance `number`; return its status after the checks of what it says."""
    rng = np.random.default_rng(number)
    name = list(METHODS)[number % len(METHODS)]
    method, most = METHODS[name]
    kind = least_squares if rng.random() < 0.6 else logistic
    full = name.startswith("ggn") and kind is logistic  # may cycle: no damping, by definition
    problem, least, constant = kind(rng, most)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", RuntimeWarning)
        result = fg.train(problem, seed=number, method=method, max_iter=50 if full else 500)
    case = number, name, kind.__name__, result.status, result.message, result.loss, least
    assert result.status != "diverging", case
    converged = result.status.startswith("converged")
    if converged:
        assert result.loss <= least * (1.0 + 1e-6) + 1e-12 * constant, case
    return converged or full


@pytest.mark.parametrize(
    ("first", "count"),
    [
        (0, 48),
        *(pytest.param(k, 50, marks=pytest.mark.slow) for k in range(48, 248, 50)),
        *(pytest.param(k, 50, marks=pytest.mark.weekly) for k in range(248, 548, 50)),
    ],
)
def test_convex_problems(first, count):
    """A converged run is at the optimum, and 95 of 100 converge within 500 iterations."""
    assert sum(outcome(number) for number in range(first, first + count)) >= 0.95 * count


@pytest.mark.parametrize("number", [49, 472])
def test_small_slopes_hide_no_fall_of_the_loss(number):
    """Conditions near 1e10, where slopes of 1e-10 of their terms are 1e-3 of the loss."""
    outcome(number)


@pytest.mark.parametrize("number", [114, 145, 198, 216, 341])
def test_the_largest_damping_follows_the_curvature(number):
    """Logistic losses whose outputs are saturated at the start, where the curvature is tiny."""
    assert outcome(number)
