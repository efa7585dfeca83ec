"""An l2 that does not count the free biases: the objective, and the step of every solver."""

import numpy as np
import pytest
from checks import assert_close
from dense_system import Prepared

import fastggn as fg
from fastggn.solvers.choice import choose_solver, get_solver

LOSSES = ("squared", "softmax_cross_entropy", "logistic")


def made(T, loss="squared", l2=0.3, **options):
    rng = np.random.default_rng(T)
    net = fg.MLP((3, 4, 2))
    X, w = rng.standard_normal((T, 3)), rng.uniform(0.5, 2.0, T)
    Y = rng.standard_normal((T, 2)) if loss == "squared" else np.eye(2)[rng.integers(0, 2, T)]
    options = {"sample_weight": w, "penalize_biases": False} | options
    problem = fg.Problem(net, X, Y, loss, l2=l2, **options)
    return problem, net.init(seed=1, scheme="normal") + 0.1


def counted(net):
    """1 for a weight, 0 for a free bias."""
    return net.pack(
        [np.hstack([np.ones((n, m - 1)), np.zeros((n, 1))]) for n, m in net.layer_shapes]
    )


@pytest.mark.parametrize("loss", LOSSES)
def test_objective_and_derivatives(loss):
    problem, theta = made(9, loss)
    plain, mask = problem.with_l2(0.0), counted(problem.network)
    assert not problem.penalize_biases and problem.l2 == 0.3
    assert_close(loss, "loss", problem.loss(theta), plain.loss(theta) + 0.15 * mask @ theta**2)
    assert_close(
        loss, "gradient", problem.gradient(theta), plain.gradient(theta) + 0.3 * mask * theta
    )
    for name in ("ggn", "hessian"):
        want = getattr(plain, name)(theta) + 0.3 * np.diag(mask)
        assert_close(loss, name, getattr(problem, name)(theta), want)
        operator = getattr(problem, f"{name}_operator")(theta)
        assert_close(loss, f"{name}_operator", operator @ np.eye(theta.size), want)
    # Against differences of the loss alone.
    h = 1e-5
    numeric = [
        (problem.loss(theta + h * e) - problem.loss(theta - h * e)) / (2 * h)
        for e in np.eye(theta.size)
    ]
    assert_close(loss, "gradient by differences", problem.gradient(theta), numeric, 1e-7)


@pytest.mark.parametrize("solver", ["cholesky", "dual", "qr", "lsqr"])
@pytest.mark.parametrize(("T", "l2"), [(6, 0.3), (6, 1e-7), (40, 0.3)])
@pytest.mark.parametrize("loss", ["squared", "softmax_cross_entropy"])
def test_steps(solver, T, l2, loss):
    problem, theta = made(T, loss, l2)
    lin = problem.at(theta)
    if solver == "dual" and T > 6:
        with pytest.raises(ValueError, match="T n_L <= N"):
            choose_solver("dual", problem, needs_minimum_norm=False)
        return
    state = Prepared(get_solver(solver), lin)
    c = np.random.default_rng(3).standard_normal(lin.n_rows)
    # Softmax does not see a constant added to all biases: undamped it is singular.
    undamped = (0.0,) if solver != "dual" and l2 > 0.1 and loss == "squared" else ()
    for damping in (1.0, 1e-3, 0.1, *undamped):
        matrix = problem.ggn(theta) + damping * np.eye(theta.size)
        answer = state.solve(damping)
        assert answer.ok, answer
        case = f"{solver}, damping {damping}"
        assert_close(case, "step", answer.step, -np.linalg.solve(matrix, lin.gradient), 1e-8)
        correction = state.correct(damping, c)
        want = np.linalg.solve(matrix, lin.rmatvec(c))
        assert correction.ok
        assert_close(case, "correction", correction.step, want, 1e-8)
        curvature = answer.step @ problem.ggn(theta) @ answer.step
        promised = -lin.gradient @ answer.step - 0.5 * curvature
        assert lin.predicted_decrease(answer.step) == pytest.approx(promised, rel=1e-10)


@pytest.mark.parametrize(
    "method",
    [
        "lm",
        fg.LevenbergMarquardt(solver="dual"),
        fg.LevenbergMarquardt(solver="qr"),
        fg.LevenbergMarquardt(solver="lsqr"),
        fg.LevenbergMarquardt(precision="mixed", solver="cholesky"),
        "newton",
    ],
    ids=str,
)
def test_all_methods_end_at_the_same_minimum(method):
    problem, theta = made(6, l2=1e-3)
    reference = fg.train(problem, 0.1 * theta, method="newton", max_iter=300)
    assert reference.gradient_norm < 1e-9
    result = fg.train(problem, reference.theta + 0.02, method, max_iter=150)
    assert result.loss == pytest.approx(reference.loss, rel=1e-6)


def test_mini_batches():
    problem, theta = made(40, l2=1e-3)
    result = fg.train(
        problem, theta, method=fg.LevenbergMarquardt(batch_size=5), seed=0, max_iter=20
    )
    assert result.solver == "dual"
    assert result.loss < 0.9 * result.initial_loss


def test_what_does_not_go_with_it():
    problem, theta = made(6, l2=0.0)
    for call in (
        lambda: fg.train(problem, regularize=fg.Evidence()),
        lambda: fg.laplace(problem, theta),
    ):
        with pytest.raises(ValueError, match="penalize_biases=False"):
            call()
    for options, kind in (
        ({}, fg.GaussNewton),
        ({"loss": "cauchy", "curvature": "exact"}, fg.LevenbergMarquardt),
    ):
        Y = np.zeros((6, 2))
        hard = fg.Problem(
            problem.network, np.eye(6, 3), Y, l2=0.1, penalize_biases=False, **options
        )
        with pytest.raises(ValueError, match="solver 'dual'"):
            fg.train(hard, theta, method=kind(solver="dual"))
        assert (
            choose_solver("auto", hard, needs_minimum_norm=kind is fg.GaussNewton)[0].name != "dual"
        )
    with pytest.raises(TypeError, match="penalize_biases must be True or False"):
        made(6, penalize_biases=0)


def test_networks_without_free_biases_have_none_to_spare():
    net = fg.MLP((3, 2), bias="none")
    problem = fg.Problem(net, np.eye(3), np.zeros((3, 2)), l2=1.0, penalize_biases=False)
    assert problem.penalize_biases
    assert problem.loss(np.ones(6)) == pytest.approx(1.0 + 3.0)


def test_batches_and_copies_keep_it():
    problem, theta = made(9)
    part = problem.subset([0, 2]).with_l2(0.5)
    mask = counted(problem.network)
    assert part.loss(theta) - part.with_l2(0.0).loss(theta) == pytest.approx(0.25 * mask @ theta**2)
