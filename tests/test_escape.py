"""escape=: strict saddles are left, minima are not."""

import numpy as np
import pytest

import fastggn as fg
from fastggn.training.control.escape import lowest_eigenpair
from fastggn.training.methods.newton import DENSE_LIMIT

BOTH = pytest.mark.parametrize("escape", ["negative_curvature", "noise"])


def origin(hidden):
    """F(2, hidden, 1), tanh, at theta = 0: a strict saddle wherever x and y correlate."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((30, 2))
    Y = np.sin(X[:, 0]) + 0.1 * rng.standard_normal(30)
    problem = fg.Problem(fg.MLP((2, hidden, 1)), X, Y - Y.mean())
    return problem, np.zeros(problem.n_params)


def xor_saddle():
    """The strict saddle of XOR with a sigmoid output (documentation, notation page, XOR)."""
    X, Y = fg.data.xor()
    net = fg.MLP((2, 2, 1), activation="sigmoid", output_activation="sigmoid")
    W1 = np.array([[2.0, 0.0, -1.0], [0.0, 2.0, -1.0]])
    W2 = np.array([[-3.65101667, -3.65101667, 4.4946154]])
    return fg.Problem(net, X, Y), net.pack([W1, W2])


SADDLES = {
    "origin": lambda: origin(4),
    "origin, matrix-free": lambda: origin(DENSE_LIMIT // 4 + 1),
    "xor": xor_saddle,
}


@pytest.mark.parametrize("name", list(SADDLES))
def test_it_is_a_strict_saddle(name):
    problem, theta = SADDLES[name]()
    assert np.linalg.norm(problem.gradient(theta)) < 1e-8
    value, vector, largest = lowest_eigenpair(problem, theta, np.random.default_rng(0))
    assert value < -1e-3 * largest
    np.testing.assert_allclose(np.linalg.norm(vector), 1.0)
    residual = problem.hessian_operator(theta) @ vector - value * vector
    assert np.linalg.norm(residual) < 1e-3 * largest


@pytest.mark.parametrize("name", list(SADDLES))
@pytest.mark.parametrize("method", ["lm", "newton"])
def test_without_escape_the_run_stays(name, method):
    problem, theta = SADDLES[name]()
    result = fg.train(problem, theta, method=method, stop=fg.Stop(gradient=1e-8))
    assert (result.status, result.n_iter) == ("converged_gradient", 0)


@pytest.mark.filterwarnings("ignore::fastggn.DivergenceWarning")
@BOTH
@pytest.mark.parametrize("name", list(SADDLES))
@pytest.mark.parametrize("method", ["lm", "newton"])
def test_strict_saddle_is_left(name, method, escape):
    problem, theta = SADDLES[name]()
    result = fg.train(
        problem,
        theta,
        method=method,
        leave_saddles=escape,
        seed=0,
        stop=fg.Stop(gradient=1e-8),
        max_iter=40,
    )
    assert result.history[0].solver == escape
    assert result.history[0].loss < result.initial_loss
    assert result.loss < 0.5 * result.initial_loss


@BOTH
def test_minimum_is_not_left(escape):
    X, Y = fg.data.four_regions(60, seed=1)
    problem = fg.Problem(fg.MLP((2, 5, 1)), X, Y, l2=1e-2)
    minimum = fg.train(problem, seed=0, method="newton", max_iter=400)
    result = fg.train(problem, minimum.theta, method="newton", leave_saddles=escape, seed=0)
    assert (result.status, result.n_iter) == ("converged_gradient", 0)
    np.testing.assert_array_equal(result.theta, minimum.theta)


@BOTH
def test_exact_fit_is_not_left(escape):
    X, Y = fg.data.xor()
    problem = fg.Problem(fg.MLP((2, 6, 1)), X, Y)
    result = fg.train(problem, seed=1, leave_saddles=escape)
    assert result.status == "converged_gradient"
    assert not [record for record in result.history if record.solver == escape]


@BOTH
def test_degenerate_saddle_is_tried_in_vain(escape):
    """Theta = 0 on XOR: no negative eigenvalue, and the noise cannot descend in its steps."""
    X, Y = fg.data.xor()
    problem = fg.Problem(fg.MLP((2, 3, 1)), X, Y - 0.5)
    result = fg.train(problem, np.zeros(problem.n_params), leave_saddles=escape, seed=0)
    assert (result.status, result.n_iter) == ("converged_gradient", 0)
    np.testing.assert_array_equal(result.theta, 0.0)


@BOTH
def test_no_iteration_is_left(escape):
    problem, theta = origin(4)
    result = fg.train(problem, theta, leave_saddles=escape, max_iter=0)
    assert result.n_iter == 0


def test_same_seed_same_noise():
    problem, theta = origin(4)
    a, b, c = (
        fg.train(problem, theta, leave_saddles="noise", seed=seed, max_iter=1) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(a.theta, b.theta)
    assert np.abs(a.theta - c.theta).max() > 0.0
