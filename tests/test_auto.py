"""Method "auto": L-BFGS, Levenberg-Marquardt and Newton, and what decides between them."""

import numpy as np
import pytest
from scipy.optimize import fmin_l_bfgs_b

import fastggn as fg
from fastggn.network.losses import get_loss
from fastggn.training.methods.auto import BURST
from fastggn.training.methods.lbfgs import PAIRS, Memory, QuasiNewton
from fastggn.training.step import Work


def two_loops(pairs, g):
    """The inverse Hessian times g by the recursion of Nocedal (1980)."""
    alphas, q = [], g.copy()
    for s, y in reversed(pairs):
        alphas.append((s @ q) / (s @ y))
        q -= alphas[-1] * y
    s, y = pairs[-1]
    q *= (s @ y) / (y @ y)
    for (s, y), alpha in zip(pairs, reversed(alphas), strict=True):
        q += (alpha - (y @ q) / (s @ y)) * s
    return q


def test_compact_form_is_the_recursion():
    rng = np.random.default_rng(0)
    root = rng.standard_normal((30, 30))
    memory, pairs = Memory(30), []
    for count in range(PAIRS + 5):
        s = rng.standard_normal(30)
        y = root @ (root.T @ s)
        memory.add(s, y)
        memory.add(s, -y)  # curves downwards: left out
        pairs.append((s, y))
        g = rng.standard_normal(30)
        np.testing.assert_allclose(memory.times(g), two_loops(pairs[-PAIRS:], g), rtol=1e-8), count
    copy = Memory(30)
    copy.restore(memory.state())
    np.testing.assert_array_equal(copy.times(g), memory.times(g))
    with pytest.raises(ValueError, match="another number of parameters"):
        Memory(29).restore(memory.state())


def problem_of(hidden=8, T=60, noise=0.1, **options):
    rng = np.random.default_rng(3)
    X = rng.uniform(-1, 1, (T, 2))
    y = np.sin(3 * X[:, 0]) * X[:, 1] + noise * rng.standard_normal(T)
    return fg.Problem(fg.MLP((2, hidden, 1)), X, y, l2=1e-4, penalize_biases=False, **options)


def test_quasi_newton_is_about_as_good_as_scipy():
    problem = problem_of()
    theta = problem.network.init(0)
    method, point = QuasiNewton(problem, Work(), burst=BURST), problem.at(theta)
    for _ in range(20):
        point = method.step(point).point
    _, least, found = fmin_l_bfgs_b(
        lambda t: (problem.loss(t), problem.gradient(t)), theta, maxiter=100, factr=0.0, pgtol=0.0
    )
    assert found["nit"] == 100
    assert point.loss < 1.1 * least


@pytest.mark.slow
def test_small_problems_take_second_order_steps_alone():
    result = fg.train(problem_of(), seed=0, method="auto", max_iter=200)
    solvers = [record.solver for record in result.history]
    assert solvers[0] == "cholesky" and solvers[-1] == "trust_region"
    assert result.status == "converged_gradient"
    # Steps below the rounding of the loss lower the gradient.
    assert (np.diff([record.loss for record in result.history]) <= 1e-15).all()


def test_larger_ones_begin_with_gradients_and_end_with_what_pays(monkeypatch):
    monkeypatch.setattr("fastggn.training.methods.choice.SMALL", 0)
    monkeypatch.setattr("fastggn.training.methods.auto.LEAST_WORK", 1.0)
    problem = problem_of(hidden=12, T=200, noise=0.0).with_l2(0.0)
    result = fg.train(problem, seed=0, method="auto", max_iter=400, stop=fg.Stop(target=1e-9))
    solvers = [record.solver for record in result.history]
    assert solvers[0] == "lbfgs" and "cholesky" in solvers
    assert result.status == "target_reached"
    losses = [record.loss for record in result.history]
    assert all(b <= a for a, b in zip(losses, losses[1:], strict=False))


@pytest.mark.parametrize("small", [0, 400])
def test_resumes_bit_for_bit(tmp_path, monkeypatch, small):
    monkeypatch.setattr("fastggn.training.methods.choice.SMALL", small)
    monkeypatch.setattr("fastggn.training.methods.auto.LEAST_WORK", 1.0)
    problem = problem_of()
    whole = fg.train(problem, seed=0, method="auto", max_iter=40)
    path = tmp_path / "run.ckpt"
    for count in (3, 9, 17, 30, 40):
        part = fg.train(
            problem,
            seed=0,
            method="auto",
            max_iter=count,
            checkpoint=fg.Checkpoint(path, resume=True),
        )
    np.testing.assert_array_equal(part.theta, whole.theta)


def test_lbfgs_alone():
    problem, stop = problem_of(), fg.Stop(gradient=1e-2)
    runs = [
        fg.train(problem, seed=0, method=fg.LBFGS(memory=memory), max_iter=400, stop=stop)
        for memory in (1, 10)
    ]
    for result in runs:
        losses = [result.initial_loss, *(record.loss for record in result.history)]
        assert all(b < a for a, b in zip(losses, losses[1:], strict=False))
        assert {record.solver for record in result.history} == {result.solver} == {"lbfgs"}
    assert runs[1].status == "converged_gradient" and runs[1].n_iter < runs[0].n_iter


@pytest.mark.parametrize("memory", [2, 10])
def test_an_iteration_of_lbfgs_is_one_of_the_steps_of_auto(memory):
    problem = problem_of()
    quasi = QuasiNewton(problem, Work(), memory=memory, burst=7)
    seven = fg.train(problem, seed=0, method=fg.LBFGS(memory=memory), max_iter=7)
    start = problem.at(problem.network.init(0))
    np.testing.assert_array_equal(quasi.step(start).point.theta, seven.theta)


def test_lbfgs_ends_where_no_step_lowers_the_loss(monkeypatch):
    monkeypatch.setattr(QuasiNewton, "_step", lambda self, point, gradient: None)
    result = fg.train(problem_of(), seed=0, method="lbfgs", max_iter=9)
    assert (result.status, result.n_iter) == ("converged_step", 1)
    assert result.message == "no step along the gradient lowers the loss"


def test_what_auto_refuses():
    with pytest.raises(TypeError, match="Auto has no argument 'batch_size'"):
        fg.Auto(batch_size=10)
    with pytest.raises(ValueError, match="goes with method 'lm', not 'auto'"):
        fg.train(problem_of(), method="auto", regularize=fg.Evidence())


@pytest.mark.parametrize("name", ["softmax_cross_entropy", "logistic", "squared"])
def test_value_and_gradient_of_a_loss_are_its_value_and_its_gradient(name):
    loss, rng = get_loss(name), np.random.default_rng(0)
    F = rng.standard_normal((40, 3)) * np.logspace(-2, 3, 40)[:, None]
    F[:2] = F[:2, :1]  # ties
    Y = np.eye(3)[rng.integers(0, 3, 40)]
    if name == "softmax_cross_entropy":
        Y[::5] = rng.dirichlet(np.ones(3), 8)
    value, gradient = loss.value_and_gradient(F, Y)
    np.testing.assert_allclose(value, loss.value(F, Y), rtol=1e-13, atol=1e-300)
    np.testing.assert_allclose(gradient, loss.gradient(F, Y), rtol=1e-13, atol=1e-300)


def test_without_a_direction_of_descent_the_second_order_method_takes_over(monkeypatch):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((450, 2))
    problem = fg.Problem(fg.MLP((2, 120, 1)), X, np.sin(X[:, :1]))
    monkeypatch.setattr(QuasiNewton, "_step", lambda self, point, gradient: None)
    result = fg.train(problem, method="auto", seed=0, max_iter=2)
    assert {record.solver for record in result.history} == {"dual"}
    assert result.loss < 0.5 * result.initial_loss


def sines(k):
    """Return samples of sines over [0, 60], and the number of hidden units."""
    rng = np.random.default_rng(k)
    x = np.sort(rng.uniform(0, 60, int(rng.integers(150, 400))))
    y = np.sin(rng.uniform(0.3, 1.2) * x)
    if k % 2:
        y += rng.uniform(0.2, 0.6) * np.sin(rng.uniform(0.3, 1.2) * x + 1)
    if k % 4 >= 2:
        y += 0.1 * rng.standard_normal(x.size)
    return x[:, None], y, int(rng.integers(15, 35))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("k", [2, 9, *(pytest.param(k, marks=pytest.mark.slow) for k in range(20))])
def test_auto_is_never_much_worse_than_lm(k):
    """Newton's steps on a plateau ended eight of these twenty fits at R2 of 0.01 to 0.79."""
    X, y, hidden = sines(k)
    scores = [
        fg.GGNRegressor(hidden, method=method, random_state=k).fit(X, y).score(X, y)
        for method in ("auto", "lm")
    ]
    assert scores[0] > scores[1] - 0.05
