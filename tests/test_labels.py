"""Labels of critical points whose type is known by proof: false ones were given once."""

from __future__ import annotations

import numpy as np
import pytest

import fastggn as fg


def _chain(depth, x, y, **options):
    net = fg.MLP((1,) * (depth + 1), activation="identity", bias="none")
    return fg.Problem(net, np.array([[v] for v in x]), np.array(y, dtype=float), **options)


@pytest.mark.parametrize("depth", [3, 8, 11, 12, 14])
def test_a_chain_at_zero_is_no_minimum(depth):
    """The loss (1 - prod w)^2 / 2 falls along w = s, though all derivatives below it vanish."""
    problem = _chain(depth, (-1.0, 1.0), (-1.0, 1.0))
    assert fg.critical_point(problem, np.zeros(depth)).label in ("saddle", "degenerate")


def test_a_saturated_exact_fit_is_at_infinity():
    """No finite v, w fit v tanh w = v tanh 2w = 1: at w = 20 both hold to the last digit."""
    net = fg.MLP((1, 1, 1), bias="none")
    problem = fg.Problem(net, np.array([[1.0], [2.0]]), np.ones(2))
    assert fg.critical_point(problem, [20.0, 1.0]).label == "diverging"


@pytest.mark.parametrize("residual", [28.0, 40.0])
def test_an_underflowed_gradient_is_no_critical_point(residual):
    net = fg.MLP((1, 1), bias="none")
    problem = fg.Problem(net, np.ones((1, 1)), [residual], loss="blake_zisserman")
    label = fg.critical_point(problem, [0.0]).label
    assert label in ("not_critical", "degenerate")


def test_the_entropy_of_the_targets_is_a_global_minimum():
    X = np.array([[0.0], [0.0], [1.0]])
    labels = np.array([[1.0, 0.0], [0.0, 1.0], [0.25, 0.75]])
    net = fg.MLP((1, 2))
    problem = fg.Problem(net, X, labels, loss="softmax_cross_entropy")
    theta = np.array([0.0, 0.0, np.log(3.0), 0.0])
    assert fg.critical_point(problem, theta).label == "global_minimum"


def test_log_two_is_a_global_minimum_of_the_logistic_loss():
    X, Y = np.zeros((2, 1)), np.array([0.0, 1.0])
    problem = fg.Problem(fg.MLP((1, 3, 1)), X, Y, loss="logistic")
    theta = np.zeros(problem.n_params)
    theta[:6] = np.random.default_rng(0).normal(size=6)
    assert fg.critical_point(problem, theta).label == "global_minimum"


@pytest.mark.parametrize("gap", [1e-3, 1e-6, 1e-10])
def test_a_small_negative_eigenvalue_is_a_strict_saddle(gap):
    """At the origin of F(1,1,1) with x = y = 1 the eigenvalues are l2 - 1 and l2 + 1."""
    problem = _chain(2, (1.0,), (1.0,), l2=1.0 - gap)
    report = fg.critical_point(problem, np.zeros(2))
    assert report.label == "strict_saddle"
    assert report.lowest_eigenvalue == pytest.approx(-gap, rel=1e-5)


@pytest.mark.parametrize("scale", [1e-165, 1e-120, 1e120])
@pytest.mark.parametrize("loss", ["huber", "squared", "cauchy"])
def test_extreme_data_give_a_label(scale, loss):
    X = np.linspace(-1.0, 1.0, 5)[:, None] * scale
    problem = fg.Problem(fg.MLP((1, 2, 1)), X, np.sin(X) + scale, loss=loss)
    assert fg.critical_point(problem, np.zeros(problem.n_params)).label != "global_minimum"


@pytest.mark.parametrize("unit", [1e-8, 1e-4, 1.0, 1e4, 1e8])
def test_a_label_does_not_depend_on_the_unit_of_the_targets(unit):
    """A saddle stays one, and residuals of two thirds of the targets are no exact fit."""
    rng = np.random.default_rng(3)
    X = rng.normal(size=(12, 2))
    Y = np.sin(X[:, 0] + 2.0 * X[:, 1])
    at_zero = fg.Problem(fg.MLP((2, 3, 1), bias="none"), X, unit * Y)
    assert fg.critical_point(at_zero, np.zeros(9)).label == "strict_saddle"
    problem = fg.Problem(fg.MLP((2, 3, 1)), X, unit * Y)
    theta = 0.3 * rng.normal(size=13)
    theta[-4:] *= unit
    assert fg.critical_point(problem, theta).label == "not_critical"


def test_dense_and_lanczos_see_the_same_strict_saddle():
    """A clear negative eigenvalue comes first, also where the point may run to infinity."""
    X, Y = fg.data.xor()
    problem = fg.Problem(fg.MLP((2, 1, 1)), X, Y - 0.5)
    start = np.array([-0.92, 0.0, -6.8, 0.0, 0.5])
    net_theta = start if problem.n_params == 5 else np.resize(start, problem.n_params)
    labels = set()
    for method in ("dense", "lanczos"):
        report = fg.critical_point(problem, net_theta, method=method, polish=True)
        if report.label != "not_critical" and report.lowest_eigenvalue < -report.eigenvalue_bound:
            labels.add(report.label)
    assert labels <= {"strict_saddle"}


@pytest.mark.parametrize("seed", range(30))
def test_split_units_keep_their_known_type(seed):
    """A trained minimum with residual, one unit split in two: a critical point of known index."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(20, 1))
    Y = np.sin(3.0 * X[:, 0]) + 0.3 * rng.normal(size=20)
    small = fg.Problem(fg.MLP((1, 2, 1), bias="none"), X, Y)
    result = fg.train(small, seed=seed, method="newton", max_iter=300)
    report = fg.critical_point(small, result.theta, polish=True)
    if report.label != "local_minimum":
        return
    w, v = report.theta[:2], report.theta[2:]
    gamma = rng.uniform(-1.5, 2.5)
    theta = np.array([w[0], w[0], w[1], gamma * v[0], (1.0 - gamma) * v[0], v[1]])
    wide = fg.Problem(fg.MLP((1, 3, 1), bias="none"), X, Y)
    values = np.linalg.eigvalsh(wide.hessian(theta))
    found = fg.critical_point(wide, theta, grad_tol=1e-6)
    size = np.abs(values).max()
    if values[0] < -1e-6 * size:
        assert found.label == "strict_saddle"
    else:
        assert found.label in ("local_minimum", "degenerate", "strict_saddle", "saddle")
        if found.label == "strict_saddle":
            assert values[0] < 0.0
