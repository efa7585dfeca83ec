"""The solvers on linearisations of networks, against the dense matrices of the problem."""

import numpy as np
import pytest
from dense_system import NAMES, Prepared, relative
from threadpoolctl import threadpool_limits

import fastggn as fg
from fastggn.solvers.choice import choose_solver, get_solver

LOSSES = ["squared", "softmax_cross_entropy", "logistic", "huber", "cauchy", "smooth_lp"]
# T n_L against N = 26: long, wide.
SIZES = [40, 8]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    with threadpool_limits(1, "blas"):
        yield


def make(samples, loss="squared", seed=0, X=None, **options):
    rng = np.random.default_rng(seed)
    net = fg.MLP((3, 4, 2), activation="tanh")
    X = rng.standard_normal((samples, 3)) if X is None else X
    Y = {
        "softmax_cross_entropy": lambda: rng.integers(0, 2, samples),
        "logistic": lambda: rng.integers(0, 2, (samples, 2)),
    }.get(loss, lambda: rng.standard_normal((samples, 2)))()
    problem = fg.Problem(net, X, Y, loss=loss, **options)
    return problem, net.init(seed=seed + 1)


def weighted_rows(problem, theta, weights):
    """Return A and b of the squared loss from the dense Jacobian, independently of the solvers."""
    root = np.sqrt(np.repeat(weights / weights.sum(), problem.n_outputs))
    jacobian = problem.jacobian(theta).to_dense()
    return root[:, None] * jacobian, root


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("samples", SIZES)
@pytest.mark.parametrize(("l2", "damping"), [(0.0, 0.02), (0.02, 0.0), (1e-3, 0.02)])
def test_damped_step_and_correction(name, loss, samples, l2, damping):
    weights = np.random.default_rng(9).uniform(0.2, 2.0, samples)
    problem, theta = make(samples, loss, sample_weight=weights, l2=l2)
    lin = problem.at(theta)
    state = Prepared(get_solver(name), lin)
    answer = state.solve(damping)
    matrix = problem.ggn(theta) + damping * np.eye(problem.n_params)
    assert answer.ok and answer.status == "ok"
    assert relative(answer.step, -np.linalg.solve(matrix, problem.gradient(theta))) < 1e-10
    c = lin.curvature_along(answer.step)
    correction = state.correct(damping, c)
    assert relative(correction.step, np.linalg.solve(matrix, lin.rmatvec(c))) < 1e-10


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("samples", [8, 40])
@pytest.mark.parametrize("duplicates", [False, True])
@pytest.mark.parametrize("damping", [0.0, 1e-10, 1e-6, 1e-2])
def test_singular_systems(name, samples, duplicates, damping):
    """The step of numpy.linalg.lstsq to 1e-6, or a refusal; zero weights and duplicate samples."""
    rng = np.random.default_rng(3)
    X = rng.standard_normal((samples, 3))
    if duplicates:
        X[3:] = X[rng.integers(0, 3, samples - 3)]
    weights = rng.uniform(0.5, 1.5, samples)
    weights[1] = 0.0
    problem, theta = make(samples, X=X, sample_weight=weights)
    a, root = weighted_rows(problem, theta, weights)
    b = root * (problem.outputs(theta) - problem.targets).ravel()
    answer = Prepared(get_solver(name), problem.at(theta)).solve(damping)
    if not answer.ok:
        assert name == "cholesky" and damping < 1e-6
        assert answer.status in ("singular", "not_positive_definite")
        return
    u, s, vt = np.linalg.svd(a, full_matrices=False)
    k = np.linalg.matrix_rank(a)
    exact = -vt[:k].T @ (s[:k] / (s[:k] ** 2 + damping) * (u[:, :k].T @ b))
    if damping == 0.0:
        assert relative(exact, -np.linalg.lstsq(a, b, rcond=None)[0]) < 1e-9
    if answer.status == "ill_conditioned":  # the normal equations lost digits, and say so
        assert name == "cholesky" and damping == 1e-10
        assert relative(answer.step, exact) < 1e-2
        return
    assert relative(answer.step, exact) < 1e-6
    if answer.rank is not None:
        assert answer.rank == k


@pytest.mark.parametrize(
    "loss", [fg.losses.Cauchy(scale=0.3), fg.losses.BlakeZisserman(scale=0.3)], ids=lambda x: x.name
)
@pytest.mark.parametrize("samples", SIZES)
def test_exact_curvature(loss, samples):
    problem, theta = make(samples, loss, curvature="exact", l2=1e-3)
    lin = problem.at(theta)
    matrix = problem.ggn(theta)
    lowest = -np.linalg.eigvalsh(matrix)[0]
    assert lowest > 0.0
    for name in ["cholesky", "dual"]:
        if name == "dual" and problem.n_params < samples * problem.n_outputs:
            continue
        state = Prepared(get_solver(name), lin)
        assert state.solve(0.5 * lowest).status == "not_positive_definite"
        answer = state.solve(1.5 * lowest)
        damped = matrix + 1.5 * lowest * np.eye(problem.n_params)
        assert relative(answer.step, -np.linalg.solve(damped, problem.gradient(theta))) < 1e-8
        c = lin.curvature_along(answer.step)
        correction = state.correct(1.5 * lowest, c)
        expected = np.linalg.solve(damped, lin.rmatvec(lin.signs * c))
        assert relative(correction.step, expected) < 1e-8
    for name in ["qr", "lsqr"]:
        assert Prepared(get_solver(name), lin).solve(1.0).status == "refused"
        with pytest.raises(ValueError, match="exact"):
            choose_solver(name, problem, needs_minimum_norm=False)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("samples", SIZES)
def test_saturated_softmax_has_no_right_hand_side(name, samples):
    """q underflows: no finite b, and the step comes from the gradient (form D2)."""
    problem, theta = make(samples, "softmax_cross_entropy")
    theta = theta.copy()
    theta[-1] = 2000.0
    lin = problem.at(theta)
    assert lin.b is None
    answer = Prepared(get_solver(name), lin).solve(0.1)
    matrix = problem.ggn(theta) + 0.1 * np.eye(problem.n_params)
    assert answer.ok
    assert relative(answer.step, -np.linalg.solve(matrix, problem.gradient(theta))) < 1e-10


@pytest.mark.parametrize("name", NAMES)
def test_overflowing_network(name):
    """Outputs that are not finite end in a status, not in an exception."""
    problem, theta = make(8)
    answer = Prepared(get_solver(name), problem.at(theta * 1e308)).solve(0.1)
    assert not answer.ok and answer.status == "non_finite"


def test_automatic_choice():
    for samples, minimum_norm, name in [
        (8, False, "dual"),
        (40, False, "cholesky"),
        (40, True, "qr"),
    ]:
        problem, _ = make(samples)
        assert choose_solver("auto", problem, needs_minimum_norm=minimum_norm)[0].name == name
