"""Method "newton": to |g| <= 1e-12, dense and matrix-free, and away from saddles."""

import itertools
import warnings

import numpy as np
import pytest
from fakes import ResidualProblem, rosenbrock
from scipy.linalg import null_space
from scipy.optimize import linprog

import fastggn as fg
from fastggn.training.methods.newton import DENSE_LIMIT

EPS = np.finfo(float).eps
DENSE_AND_KRYLOV = pytest.mark.parametrize("solver", ["cholesky", "lsqr"])


def regularised(loss):
    """Name of a loss -> a small problem whose minima are regular, by l2."""
    X, Y = fg.data.four_regions(60, seed=1)
    if loss == "softmax_cross_entropy":
        return fg.Problem(fg.MLP((2, 5, 4)), X, Y.ravel().astype(int) - 1, loss=loss, l2=1e-2)
    if loss == "logistic":
        return fg.Problem(fg.MLP((2, 5, 1)), X, (Y > 2).astype(float), loss=loss, l2=1e-2)
    return fg.Problem(fg.MLP((2, 5, 1)), X, Y, loss=loss, l2=1e-2)


@DENSE_AND_KRYLOV
@pytest.mark.parametrize(
    "loss", ["squared", "softmax_cross_entropy", "logistic", "cauchy", "huber", "smooth_lp"]
)
def test_gradient_of_1e_12(loss, solver):
    """Far below the rounding of the loss, which hides decreases from |g| of about 1e-8 on."""
    problem = regularised(loss)
    result = fg.train(
        problem, seed=0, method=fg.Newton(solver=solver), stop=fg.Stop(gradient=1e-12), max_iter=400
    )
    assert result.status == "converged_gradient"
    assert np.linalg.norm(problem.gradient(result.theta)) <= 1e-12
    assert np.linalg.eigvalsh(problem.hessian(result.theta))[0] > 0.0


@DENSE_AND_KRYLOV
def test_convergence_is_quadratic_at_a_regular_minimum(solver):
    problem = regularised("squared")
    near = fg.train(
        problem, seed=0, method="newton", stop=fg.Stop(gradient=1e-3), max_iter=400
    ).theta
    result = fg.train(problem, near, method=fg.Newton(solver=solver), stop=fg.Stop(gradient=1e-12))
    assert result.n_iter <= 8


@DENSE_AND_KRYLOV
def test_more_parameters_than_equations(solver):
    """A singular Hessian with small negative eigenvalues around an exact fit."""
    X, Y = fg.data.xor()
    problem = fg.Problem(fg.MLP((2, 6, 1)), X, Y)
    result = fg.train(
        problem, seed=1, method=fg.Newton(solver=solver), stop=fg.Stop(gradient=1e-12)
    )
    assert result.status == "converged_gradient"
    assert result.loss < 1e-24
    assert result.n_iter <= 40


@DENSE_AND_KRYLOV
def test_rosenbrock(solver):
    result = fg.train(rosenbrock(), [-1.2, 1.0], method=fg.Newton(solver=solver))
    np.testing.assert_allclose(result.theta, 1.0, atol=1e-9)
    assert result.n_iter <= 40


def test_dense_and_matrix_free_by_size():
    X, Y = fg.data.four_regions(20, seed=0)
    small = fg.Problem(fg.MLP((2, 4, 1)), X, Y)
    large = fg.Problem(fg.MLP((2, DENSE_LIMIT // 4 + 1, 1)), X, Y)
    for problem, name in ((small, "trust_region"), (large, "steihaug")):
        result = fg.train(problem, seed=0, method="newton", max_iter=2)
        assert [record.solver for record in result.history] == [name, name]
        assert result.solver == name


def test_leaves_the_neighbourhood_of_a_strict_saddle():
    """Half (theta_0^2 - 1)^2 + ...: a maximum in theta_0 at 0, minima at +-1."""
    problem = ResidualProblem(
        lambda t: np.array([t[0] ** 2 - 1.0, t[1]]), 2, 2,
        lambda t: np.array([[2.0 * t[0], 0.0], [0.0, 1.0]]),
    )  # fmt: skip
    result = fg.train(problem, [1e-9, 0.5], method=fg.Newton(solver="cholesky"))
    assert result.status == "converged_gradient"
    np.testing.assert_allclose(np.abs(result.theta), [1.0, 0.0], atol=1e-8)


@pytest.mark.filterwarnings("ignore::fastggn.DivergenceWarning")
@DENSE_AND_KRYLOV
def test_newton_finds_a_stationary_point_of_xor(solver):
    """Exact fits, or the documented values at infinity: 1/8, 1/12, 1/16 of the half mean."""
    X, Y = fg.data.xor()
    problem = fg.Problem(fg.MLP((2, 2, 1), activation="tanh"), X, Y)
    for seed in range(8):
        theta = problem.network.init(seed, scheme="normal")
        result = fg.train(problem, theta, method=fg.Newton(solver=solver), max_iter=500)
        value = min((0.0, 1 / 8, 1 / 12, 1 / 16), key=lambda v: abs(v - result.loss))
        assert abs(result.loss - value) < 1e-5, (seed, result)
        if result.status == "diverging":
            assert np.linalg.norm(result.theta) > 5.0


def dependent_classes(rng):
    """Return classes of linearly dependent columns, and a basis (N, k) of the flat directions."""
    n, n_samples = int(rng.integers(1, 4)), int(rng.integers(6, 40))
    x = rng.standard_normal((n_samples, n)) * 10.0 ** rng.integers(-2, 3)
    score = x @ rng.standard_normal(n)
    label = score > 0.2 * rng.normal() * np.abs(score).max()
    if rng.random() < 1 / 3:
        label ^= rng.random(n_samples) < 0.1
    mix = np.eye(n)[:, :1]  # a column twice
    if rng.random() < 0.5:
        mix = rng.standard_normal((n, int(rng.integers(1, 3)))).round(1)
    flat = np.vstack([mix, -np.eye(mix.shape[1]), np.zeros((1, mix.shape[1]))])
    return np.c_[x, x @ mix], label, np.linalg.qr(flat)[0]


def drift_by_rounding(X, flat, path):
    """Return how far rounding of the Hessian may move steps along its null directions, in all.

    It tilts the eigenvectors of the least curvature above 0, along which a step may be, towards
    them: by N eps |H| over this curvature. Where classes are separated, both fall to rounding.
    """
    rows, moved = np.c_[X, np.ones(len(X))], 0.0
    across = null_space(flat.T)
    for here, there in itertools.pairwise(path):
        t = np.exp(-np.abs(rows @ here))
        hessian = (rows * (t / (1.0 + t) ** 2 / len(X))[:, None]).T @ rows
        rounding = here.size * EPS * np.linalg.norm(hessian, 2)
        curvatures = np.linalg.eigvalsh(across.T @ hessian @ across)
        least = curvatures[curvatures > rounding].min(initial=np.inf)
        moved += min(1.0, rounding / least) * np.linalg.norm(there - here)
    return moved


@DENSE_AND_KRYLOV
@pytest.mark.parametrize(("seed", "count"), [(0, 40), pytest.param(1, 100, marks=pytest.mark.slow)])
def test_a_slope_of_rounding_size_along_a_flat_direction_is_none(solver, seed, count):
    """And the run ends as a linear program says: a minimum, or none where a plane separates."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        X, label, flat = dependent_classes(rng)
        problem = fg.Problem(fg.MLP((X.shape[1], 1)), X, label.astype(float), "logistic")
        start = problem.network.init(0)
        path = [start]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = fg.train(
                problem, start, method=fg.Newton(solver=solver), max_iter=200,
                callbacks=[lambda record, path=path: path.append(np.array(record.theta))],
            )  # fmt: skip
        moved = np.linalg.norm(flat.T @ (result.theta - start))
        sides = np.where(label, -1.0, 1.0)[:, None] * np.c_[X, np.ones(len(X))]
        plane = linprog(np.zeros(X.shape[1] + 1), sides, -np.ones(len(X)), bounds=(None, None))
        assert result.status == ("diverging" if plane.status == 0 else "converged_gradient"), number
        allowed = drift_by_rounding(X, flat, path) + 1e-13 * np.linalg.norm(result.theta)
        assert moved <= 4.0 * allowed, number
        assert plane.status == 0 or moved < 1e-4 * np.linalg.norm(result.theta), number
