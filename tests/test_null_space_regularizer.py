"""train(regularize=fg.NullSpace(...)): fast convergence on a manifold of minima, no bias."""

import numpy as np
import pytest

import fastggn as fg
from fastggn.solvers.null_space import DenseNullSpace, IteratedNullSpace
from fastggn.training.regularisation.penalty import Penalised

SEEDS = range(8)
FLOOR = 1e-15
READINGS = [
    fg.NullSpace(),
    fg.NullSpace(gamma=np.inf),
    fg.NullSpace(mode="objective"),
    fg.NullSpace(mode="objective", refresh=None),
]
NAMES = ["step", "truncated", "objective", "fixed reference"]


def exact_fit(seed, T=10, widths=(2, 8, 1)):
    """A problem with a manifold of exact fits (N = 33, rank 10), and a start close to it."""
    rng = np.random.default_rng(seed)
    net = fg.MLP(widths)
    X = rng.standard_normal((T, widths[0]))
    theta = net.init(seed, scheme="normal")
    problem = fg.Problem(net, X, net.predict(theta, X))
    return problem, theta + 0.05 * rng.standard_normal(net.n_params)


def order(errors, floor=FLOOR):
    """The order of the last triple of errors that ends above 100 times the floor."""
    e = [x for x in errors if x > 100 * floor]
    return np.log(e[-1] / e[-2]) / np.log(e[-2] / e[-3])


def residuals(result):
    losses = [result.initial_loss, *(record.loss for record in result.history)]
    return np.sqrt(2.0 * np.array(losses))


def newton_with_l2_damping(problem, theta, damping, steps=40):
    """(H + damping I)^-1 g with a fixed damping: the residuals of its iterates."""
    errors = []
    for _ in range(steps):
        errors.append(np.sqrt(2.0 * problem.loss(theta)))
        H = problem.hessian(theta) + damping * np.eye(problem.n_params)
        theta = theta - np.linalg.solve(H, problem.gradient(theta))
    return theta, np.array(errors)


# --- the mathematics --------------------------------------------------------------------------


def test_lifted_ggn_gives_the_minimum_norm_step():
    """(G + gamma N N^T)^-1 g = G^+ g for any gamma > 0."""
    problem, theta = exact_fit(0)
    G, g = problem.ggn(theta), problem.gradient(theta)
    space = DenseNullSpace(problem.at(theta))
    want = np.linalg.pinv(G, rcond=1e-13) @ g
    for gamma in (1e-3, 1.0, 1e3):
        step = np.linalg.solve(G + gamma * space.basis @ space.basis.T, g)
        assert np.linalg.norm(step - want) < 1e-9 * np.linalg.norm(want)
    one = fg.train(
        problem, theta, method=fg.GaussNewton(solver="qr"), max_iter=1, regularize=fg.NullSpace()
    )
    assert np.linalg.norm(one.theta - theta + want) < 1e-9 * np.linalg.norm(want)
    assert one.history[0].rank == 10


def test_projector_without_a_basis():
    problem, theta = exact_fit(1, widths=(2, 5, 2))
    lin = problem.at(theta)
    dense, iterated = DenseNullSpace(lin), IteratedNullSpace(problem.at(theta))
    v = np.random.default_rng(0).standard_normal(problem.n_params)
    np.testing.assert_allclose(iterated.project(v), dense.project(v), atol=1e-9)
    np.testing.assert_allclose(dense.combine(dense.coordinates(v)), dense.project(v), atol=1e-14)
    assert np.linalg.norm(lin.matvec(dense.project(v))) < 1e-12


@pytest.mark.parametrize("kind", [DenseNullSpace, IteratedNullSpace])
def test_penalised_objective_is_consistent(kind):
    """Loss, gradient, rows, Gram matrix and Hessian of the sum belong together."""
    problem, theta = exact_fit(2, T=6, widths=(2, 4, 1))
    rng = np.random.default_rng(3)
    penalised = Penalised(problem, 0.7)
    penalised.refer_to(theta, kind(problem.at(theta)))
    here = theta + 0.1 * rng.standard_normal(theta.size)
    point, v = penalised.at(here), rng.standard_normal(theta.size)
    t = 1e-5
    ends = [penalised.at(here + s * t * v) for s in (1, -1)]
    slope = (ends[0].loss - ends[1].loss) / (2 * t)
    assert slope == pytest.approx(point.gradient @ v, rel=1e-7)
    bend = (ends[0].gradient - ends[1].gradient) / (2 * t)
    product = penalised.hessian_operator(here).matvec(v)
    np.testing.assert_allclose(product, bend, atol=1e-7)
    np.testing.assert_allclose(point.rmatvec(point.b), point.gradient, atol=1e-12)
    assert point.matvec(v).shape == (point.n_rows,)
    step = -0.1 * point.gradient
    image = point.matvec(step)
    want = -(point.gradient @ step) - 0.5 * image @ image
    assert point.predicted_decrease(step) == pytest.approx(want, rel=1e-9)
    with pytest.raises(NotImplementedError):
        point.dual_gram()
    if kind is DenseNullSpace:
        rows = np.concatenate([part for part, _ in point.row_blocks()])
        np.testing.assert_allclose(rows.T @ rows, point.gram(), atol=1e-12)
        np.testing.assert_allclose(penalised.hessian(here) @ v, product, atol=1e-12)
    else:
        with pytest.raises(TypeError, match="lsqr"):
            point.gram()


# --- Must show: order of convergence, no bias -------------------------------------------------


@pytest.mark.parametrize("regularizer", READINGS, ids=NAMES)
def test_newton_converges_quadratically(regularizer):
    orders, fits = [], []
    for seed in SEEDS:
        problem, theta = exact_fit(seed)
        result = fg.train(
            problem,
            theta,
            method="newton",
            regularize=regularizer,
            stop=fg.Stop(gradient=1e-15),
            max_iter=30,
        )
        orders.append(order(residuals(result)))
        fits.append(np.abs(problem.outputs(result.theta) - problem.targets).max())
    assert np.median(orders) >= 1.8, orders
    assert max(fits) < 1e-8, fits


def test_fixed_l2_damping_is_linear_and_l2_is_biased():
    orders, biases, free = [], [], []
    for seed in SEEDS:
        problem, theta = exact_fit(seed)
        near = fg.train(problem, theta, method="newton", max_iter=3).theta
        _, errors = newton_with_l2_damping(problem, near, 1e-2)
        orders.append(order(errors))
        biased = fg.Problem(problem.network, problem.layer_outputs(theta)[0][:-1].T,
                            problem.targets, l2=1e-3)  # fmt: skip
        result = fg.train(biased, theta, method="newton", max_iter=200)
        biases.append(np.abs(problem.outputs(result.theta) - problem.targets).max())
        result = fg.train(problem, theta, method="newton", regularize=fg.NullSpace())
        free.append(np.abs(problem.outputs(result.theta) - problem.targets).max())
    assert np.median(orders) < 1.3 and max(orders) < 1.3, orders
    assert min(biases) > 1e-4, biases
    assert max(free) < 1e-8, free


@pytest.mark.parametrize("regularizer", READINGS, ids=NAMES)
@pytest.mark.parametrize("kind", [fg.LevenbergMarquardt, fg.GaussNewton])
@pytest.mark.parametrize("solver", ["auto", pytest.param("lsqr", marks=pytest.mark.slow)])
def test_gauss_newton_keeps_its_fit(regularizer, kind, solver):
    problem, theta = exact_fit(4)
    result = fg.train(problem, theta, kind(solver=solver), regularize=regularizer)
    assert np.abs(problem.outputs(result.theta) - problem.targets).max() < 1e-8
    assert result.n_iter <= 10


@pytest.mark.parametrize("regularizer", READINGS, ids=NAMES)
def test_matrix_free_newton(regularizer):
    problem, theta = exact_fit(5)
    result = fg.train(problem, theta, fg.Newton(solver="lsqr"), regularize=regularizer)
    assert "matrix-free" in result.solver_reason
    assert np.abs(problem.outputs(result.theta) - problem.targets).max() < 1e-8
    assert result.n_iter <= 12


@pytest.mark.parametrize("mode", ["step", "objective"])
def test_large_problems_are_matrix_free(mode):
    """N = 1501: nothing N x N, the projector by LSQR."""
    problem, theta = exact_fit(8, T=12, widths=(3, 300, 1))
    assert problem.n_params > 1000
    result = fg.train(
        problem,
        theta,
        method="newton",
        regularize=fg.NullSpace(mode=mode),
        stop=fg.Stop(gradient=1e-12),
    )
    assert "matrix-free" in result.solver_reason and result.status == "converged_gradient"
    assert np.abs(problem.outputs(result.theta) - problem.targets).max() < 1e-8
    assert order(residuals(result)) > 1.5  # conjugate gradients: superlinear


def test_the_whole_function_is_unchanged():
    """Linear factors: all fits are one function, (W_1 B, B^-1 W_0) for invertible B."""
    rng = np.random.default_rng(0)
    net = fg.MLP((3, 3, 2), activation="identity", bias="none")
    X, M = rng.standard_normal((20, 3)), rng.standard_normal((3, 2))
    problem = fg.Problem(net, X, X @ M)
    fresh = rng.standard_normal((50, 3))
    want = fresh @ M
    near = fg.train(problem, net.init(1), max_iter=3).theta
    assert np.abs(net.predict(near, fresh) - want).max() > 1e-3
    for regularizer in READINGS:
        result = fg.train(problem, near, method="newton", regularize=regularizer)
        assert np.abs(net.predict(result.theta, fresh) - want).max() < 1e-8
    ridge = fg.train(fg.Problem(net, X, X @ M, l2=1e-2), near, method="newton")
    assert np.abs(net.predict(ridge.theta, fresh) - want).max() > 1e-3


def test_a_minimum_with_a_misfit():
    """Linear factors again: renewed readings reach it, sooner than Newton alone; a fixed and far
    reference biases."""
    rng = np.random.default_rng(0)
    net = fg.MLP((3, 3, 2), activation="identity", bias="none")
    X, Y = rng.standard_normal((20, 3)), rng.standard_normal((20, 2))
    problem = fg.Problem(net, X, Y)
    M = np.linalg.lstsq(X, Y, rcond=None)[0]
    least, fresh = 0.5 * np.sum((X @ M - Y) ** 2) / 20, rng.standard_normal((50, 3))
    biased = 0
    for seed in range(5):
        plain = fg.train(problem, seed=seed, method="newton", max_iter=60)
        for regularizer in READINGS[:3]:
            result = fg.train(
                problem, seed=seed, method="newton", regularize=regularizer, max_iter=60
            )
            assert result.status == "converged_gradient"
            assert result.loss == pytest.approx(least, rel=1e-12)
            assert np.abs(net.predict(result.theta, fresh) - fresh @ M).max() < 1e-8
            assert result.n_iter < plain.n_iter
        far = fg.train(problem, seed=seed, method="newton", regularize=READINGS[3], max_iter=60)
        biased += far.loss > least + 1e-4
    assert biased >= 3


def test_gradient_descent_with_the_penalty():
    problem, theta = exact_fit(6)
    keywords = {"method": fg.GradientDescent(rate=0.05), "max_iter": 50}
    plain = fg.train(problem, theta, **keywords)
    same = fg.train(problem, theta, **keywords, regularize=fg.NullSpace(mode="objective"))
    # Renewed at every iteration, the penalty has no gradient where it is asked for.
    np.testing.assert_allclose(same.theta, plain.theta, atol=1e-14)
    fixed = fg.NullSpace(mode="objective", refresh=None)
    kept = fg.train(problem, theta, **keywords, regularize=fixed)
    assert kept.loss < kept.initial_loss
    assert np.linalg.norm(kept.theta - plain.theta) > 1e-6


def test_records_hold_the_loss_of_the_problem():
    problem, theta = exact_fit(7)
    fixed = fg.NullSpace(10.0, "objective", None)
    result = fg.train(problem, theta, method="newton", max_iter=3, regularize=fixed)
    assert result.loss == pytest.approx(problem.loss(result.theta), rel=1e-12)
    assert result.gradient_norm == pytest.approx(
        np.linalg.norm(problem.gradient(result.theta)), rel=1e-9
    )


# --- bad input --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"mode": "both"}, "mode"),
        ({"gamma": -1.0}, "gamma"),
        ({"gamma": 0.0}, "gamma"),
        ({"gamma": np.inf, "mode": "objective"}, "gamma"),
        ({"refresh": 0}, "refresh"),
        ({"refresh": 1.5}, "refresh"),
    ],
)
def test_bad_regularizers(arguments, words):
    with pytest.raises((ValueError, TypeError), match=words):
        fg.NullSpace(**arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"regularize": 0.1}, "NullSpace"),
        ({"regularize": fg.NullSpace(), "method": "adam"}, "adam"),
        ({"regularize": fg.NullSpace(), "method": "bp"}, "bp"),
        (
            {"regularize": fg.NullSpace(), "method": fg.LevenbergMarquardt(solver="cholesky")},
            "cholesky",
        ),
        (
            {
                "regularize": fg.NullSpace(mode="objective"),
                "method": fg.LevenbergMarquardt(solver="dual"),
            },
            "dual",
        ),
        (
            {"regularize": fg.NullSpace(), "method": fg.LevenbergMarquardt(batch_size=2)},
            "batch_size",
        ),
        (
            {
                "regularize": fg.NullSpace(mode="objective"),
                "method": fg.LevenbergMarquardt(precision="mixed"),
            },
            "mixed",
        ),
    ],
)
def test_arguments_that_do_not_fit(arguments, words):
    problem, _ = exact_fit(0)
    with pytest.raises((ValueError, TypeError), match=words):
        fg.train(problem, seed=0, **arguments)


def test_l2_and_exact_curvature_are_refused():
    problem, _ = exact_fit(0)
    X = problem.layer_outputs(np.zeros(problem.n_params))[0][:-1].T
    with pytest.raises(ValueError, match="l2"):
        decayed = fg.Problem(problem.network, X, problem.targets, l2=0.1)
        fg.train(decayed, seed=0, regularize=fg.NullSpace())
    exact = fg.Problem(problem.network, X, problem.targets, loss="cauchy", curvature="exact")
    with pytest.raises(ValueError, match="exact"):
        fg.train(exact, seed=0, regularize=fg.NullSpace())
