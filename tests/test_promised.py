"""What a step promises: from the solution of its system, or by a product with J."""

import numpy as np
import pytest

import fastggn as fg
from fastggn.kernels import sensitivities
from fastggn.objective.point import Point
from fastggn.training.fallback import Fallback
from fastggn.training.step import Work


def problem_of(loss, n_outputs=3, **options):
    rng = np.random.default_rng(4)
    X = rng.standard_normal((90, 3))
    Y = rng.standard_normal((90, n_outputs))
    if loss == "softmax_cross_entropy":
        Y = Y.argmax(axis=1)
    return fg.Problem(fg.MLP((3, 5, n_outputs)), X, Y, loss=loss, **options)


def solved(problem, theta, damping, **options):
    """Return the point, its system, and the answer for a damping."""
    point = problem.at(theta)
    systems = Fallback(
        problem, "cholesky", needs_minimum_norm=False, patience=2, work=Work(), **options
    )
    system = systems.prepare(point)
    return point, system, system.solve(damping)


@pytest.mark.parametrize("loss", ["squared", "cauchy", "softmax_cross_entropy"])
@pytest.mark.parametrize("l2", [0.0, 0.01])
def test_a_well_conditioned_solution_tells_what_its_step_promises(loss, l2, monkeypatch):
    problem = problem_of(loss, l2=l2)
    theta = problem.init(0)
    for damping in (1e-4, 1e-2, 1.0):
        point, system, solution = solved(problem, theta, damping)
        assert solution.rcond >= 1e-8
        G = problem.ggn(theta)
        s, g = solution.step, problem.gradient(theta)
        with monkeypatch.context() as patch:
            patch.setattr(Point, "predicted_decrease", None)
            found = system.predicted_decrease(solution, damping)
        assert found == pytest.approx(-g @ s - 0.5 * s @ G @ s, rel=1e-9)


@pytest.mark.parametrize(("damping", "mixed"), [(1e-13, False), (1e-2, True)])
def test_a_poor_matrix_is_asked_for_a_product(damping, mixed, monkeypatch):
    problem = problem_of("squared")
    theta = problem.init(0)
    theta[:6] = 0.0  # units without inputs: their columns are dependent
    point, system, solution = solved(problem, theta, damping, mixed=mixed)
    monkeypatch.setattr(Point, "predicted_decrease", lambda self, step: float(step @ step))
    assert solution.ok
    assert system.predicted_decrease(solution, damping) == solution.step @ solution.step


@pytest.mark.parametrize("rate", [0.3, 0.05])
@pytest.mark.parametrize("solver", ["cholesky", "qr"])
def test_the_gain_of_a_gauss_newton_step(rate, solver):
    problem = problem_of("squared", l2=1e-3)
    theta = problem.init(0)
    run = fg.train(problem, theta, fg.GaussNewton(solver=solver, step=rate), max_iter=1)
    step = run.theta - theta
    promised = -problem.gradient(theta) @ step - 0.5 * step @ problem.ggn(theta) @ step
    wanted = (problem.loss(theta) - problem.loss(run.theta)) / promised
    assert run.history[0].gain_ratio == pytest.approx(wanted, rel=1e-8)


def test_products_of_one_output_share_their_sensitivities(monkeypatch):
    """Also with a matrix of the same point, but not with weighted rows."""
    sweeps, original = [], sensitivities.sensitivities

    def counted(*arguments):
        sweeps.append(1)
        return original(*arguments)

    monkeypatch.setattr(sensitivities, "sensitivities", counted)
    rng = np.random.default_rng(1)
    problem = problem_of("squared", 1, sample_weight=rng.uniform(0.5, 2.0, 90))
    theta = problem.init(0)
    J = problem.jacobian(theta)
    V = rng.standard_normal((problem.n_params, 3))
    first = J @ V
    np.testing.assert_array_equal(J @ V, first)
    np.testing.assert_array_equal(J @ V[:, 1], first[:, 1])
    gram = J.gram()
    assert len(sweeps) == 1
    dense = J.to_dense()
    np.testing.assert_allclose(first, dense @ V, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(gram, dense.T @ dense, rtol=1e-12, atol=1e-12)
    point = problem.at(theta)
    before, weighted = point.rows.products(V.T), point.gram()
    np.testing.assert_array_equal(point.rows.products(V.T), before)
    A = np.concatenate([rows for rows, _ in point.row_blocks()])
    np.testing.assert_allclose(before, (A @ V).T, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(weighted, A.T @ A, rtol=1e-12, atol=1e-12)
