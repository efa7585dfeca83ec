"""The solvers on dense systems with known answers: nothing but the contract is used."""

import numpy as np
import pytest
from dense_system import (
    NAMES,
    DenseSystem,
    Prepared,
    conditioned,
    random_system,
    reference_correction,
    reference_step,
    relative,
)
from threadpoolctl import threadpool_limits

from fastggn.solvers.choice import get_solver
from fastggn.solvers.dual import DualSolver

SHAPES = [(40, 12), (12, 40), (13, 13), (1, 5), (5, 1), (1, 1), (300, 70)]
SHIFTS = [(0.0, 0.1), (0.1, 0.0), (0.03, 0.2)]


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Small systems: several threads of BLAS would wait for each other on a busy machine."""
    with threadpool_limits(1, "blas"):
        yield


# ---------------------------------------------------------------- agreement


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("l2", "damping"), SHIFTS)
def test_damped_step(name, shape, l2, damping):
    lin = random_system(shape, l2=l2)
    answer = Prepared(get_solver(name), lin).solve(damping)
    assert answer.ok and answer.status == "ok"
    assert relative(answer.step, reference_step(lin, damping)) < 1e-10


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("l2", "damping"), SHIFTS)
def test_correction(name, shape, l2, damping):
    lin = random_system(shape, l2=l2)
    c = np.random.default_rng(5).standard_normal(shape[0])
    answer = Prepared(get_solver(name), lin).correct(damping, c)
    assert answer.ok
    assert relative(answer.step, reference_correction(lin, damping, c)) < 1e-10


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("l2", "damping"), SHIFTS)
def test_step_from_the_gradient_alone(name, shape, l2, damping):
    """No finite b, and a gradient that does not even lie in the row space."""
    rng = np.random.default_rng(2)
    a = rng.standard_normal(shape) / np.sqrt(max(shape))
    lin = DenseSystem(
        a, None, l2=l2, theta=rng.standard_normal(shape[1]), gradient=rng.standard_normal(shape[1])
    )
    state = Prepared(get_solver(name), lin)
    answer = state.solve(damping)
    assert answer.ok and answer.status == "ok"
    exact = -np.linalg.solve(lin.system_matrix(l2 + damping), lin.gradient)
    assert relative(answer.step, exact) < 1e-10
    c = rng.standard_normal(shape[0])
    assert relative(state.correct(damping, c).step, reference_correction(lin, damping, c)) < 1e-10


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(40, 12), (12, 40), (13, 13), (3, 1), (1, 3)])
def test_undamped_step(name, shape):
    """Minimum norm, or the status of a singular matrix."""
    lin = random_system(shape)
    state = Prepared(get_solver(name), lin)
    answer = state.solve(0.0)
    c = np.random.default_rng(5).standard_normal(shape[0])
    correction = state.correct(0.0, c)
    if name == "cholesky" and shape[0] < shape[1]:
        assert not answer.ok and answer.status == "singular"
        assert not correction.ok and np.isnan(correction.step).all()
        return
    if name == "dual" and shape[0] > shape[1]:
        assert answer.rank == shape[1]
    tolerance = 1e-9
    assert answer.ok and relative(answer.step, reference_step(lin, 0.0)) < tolerance
    assert relative(correction.step, reference_correction(lin, 0.0, c)) < tolerance


@pytest.mark.parametrize("name", NAMES)
def test_several_dampings_from_one_state(name):
    for shape in [(60, 30), (30, 60)]:
        lin = random_system(shape, l2=0.01)
        state = Prepared(get_solver(name), lin)
        c = np.arange(shape[0], dtype=float)
        for damping in [1.0, 1e-2, 1e-2, 10.0, 0.0, 1e-3, 1.0]:
            assert relative(state.solve(damping).step, reference_step(lin, damping)) < 1e-9
            exact = reference_correction(lin, damping, c)
            assert relative(state.correct(damping, c).step, exact) < 1e-9


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("damping", [-1.0, np.nan, np.inf])
def test_bad_damping(name, damping):
    state = Prepared(get_solver(name), random_system((6, 4)))
    with pytest.raises(ValueError, match="damping"):
        state.solve(damping)
    with pytest.raises(ValueError, match="damping"):
        state.correct(damping, np.ones(6))


# ---------------------------------------------------------------- singular and ill-conditioned


def singular_systems():
    rng = np.random.default_rng(3)
    low = rng.standard_normal((30, 4)) @ rng.standard_normal((4, 20))
    yield "rank 4, long", low
    yield "rank 4, wide", low.T
    yield "columns ten times", np.tile(rng.standard_normal((50, 3)), 10)
    yield "rows ten times", np.tile(rng.standard_normal((3, 50)), (10, 1))
    dead = rng.standard_normal((30, 20))
    dead[:, 5:11] = 0.0
    yield "dead units", dead
    yield "zero", np.zeros((6, 9))
    # Softmax: every sample's rows are orthogonal to the shift of all outputs.
    q = np.full(3, 1 / 3)
    root = np.diag(np.sqrt(q)) - np.outer(q, np.sqrt(q))
    yield "softmax shift", np.vstack([root.T @ rng.standard_normal((3, 40)) for _ in range(4)])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("label", [label for label, _ in singular_systems()])
@pytest.mark.parametrize("damping", [0.0, 1e-14, 1e-12, 1e-10, 1e-8, 1e-4, 1.0])
def test_singular(name, label, damping):
    """The minimum-norm or damped step to 1e-6, or a refusal; |A| = 1, inconsistent rows.

    The normal equations leave errors of eps |A| |r| / mu: Cholesky says "ill_conditioned" where
    they pass 1e-6, and refuses above 1e-3.
    """
    rng = np.random.default_rng(4)
    a = dict(singular_systems())[label]
    a /= max(np.linalg.norm(a, 2), 1e-300)
    lin = DenseSystem(a, rng.standard_normal(a.shape[0]))
    state = Prepared(get_solver(name), lin)
    c = rng.standard_normal(a.shape[0])
    for answer, sign, rhs in [(state.solve(damping), -1, lin.b), (state.correct(damping, c), 1, c)]:
        if not answer.ok:
            assert name == "cholesky" and damping < 1e-11
            assert answer.status in ("singular", "not_positive_definite")
            continue
        tolerance = 1e-6
        if answer.status == "ill_conditioned":
            assert name == "cholesky" and damping <= 1e-10
            tolerance = 1e-2  # the estimate that the status rests on is one of magnitude
        u, s, vt = np.linalg.svd(a, full_matrices=False)
        k = np.linalg.matrix_rank(a)
        exact = vt[:k].T @ (s[:k] / (s[:k] ** 2 + damping) * (u[:, :k].T @ rhs))
        assert np.linalg.norm(answer.step - sign * exact) <= tolerance * np.linalg.norm(exact)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(60, 20), (20, 60)])
@pytest.mark.parametrize("k", range(13))
def test_condition_numbers(name, shape, k):
    """J with cond 10^k and an exactly consistent right-hand side: accurate, or refused."""
    rng = np.random.default_rng(k)
    a, _, v = conditioned(shape, 10.0**k, rng)
    exact = v @ rng.standard_normal(min(shape))
    lin = DenseSystem(a, a @ exact)
    answer = Prepared(get_solver(name), lin).solve(0.0)
    if name == "cholesky" and (k >= 8 or shape[0] < shape[1] or not answer.ok):
        assert answer.status == "singular" and (k >= 7 or shape[0] < shape[1])
        return
    if name == "dual" and shape[0] > shape[1]:
        return
    assert answer.ok
    # Any backward stable method errs by cond eps (LSQR: by cond tolerance); the message of an
    # LSQR that has not converged is its own.
    if name == "lsqr" and answer.status == "not_converged":
        assert k >= 4
        return
    bound = 1e-13 if name != "lsqr" else 1e-11
    assert relative(-answer.step, exact) < 50 * bound * 10.0**k
    if name == "qr":
        assert answer.rank == min(shape)


@pytest.mark.parametrize("name", ["qr", "dual"])
def test_rank_is_reported(name):
    rng = np.random.default_rng(0)
    a = rng.standard_normal((30, 7)) @ rng.standard_normal((7, 50))
    answer = Prepared(get_solver(name), DenseSystem(a, rng.standard_normal(30))).solve(0.0)
    assert answer.rank == 7
    assert "rank 7" in answer.message


def test_dual_keeps_its_decomposition_and_names_it():
    rng = np.random.default_rng(0)
    a = np.tile(rng.standard_normal((3, 20)), (4, 1))
    lin = DenseSystem(a, rng.standard_normal(12))
    state = Prepared(DualSolver(), lin)
    assert state.solve(1.0).message == ""
    assert "singular values of the rows" in state.solve(0.0).message
    damped = state.solve(1.0)
    assert "singular values" in damped.message
    assert relative(damped.step, reference_step(lin, 1.0)) < 1e-12


def test_dual_without_room_for_the_rows(monkeypatch):
    monkeypatch.setattr("fastggn.solvers.dual.available_memory", lambda: 0)
    rng = np.random.default_rng(0)
    a = np.tile(rng.standard_normal((3, 20)), (4, 1))
    lin = DenseSystem(a, rng.standard_normal(12))
    state = Prepared(DualSolver(), lin)
    answer = state.solve(0.0)
    assert "truncated" in answer.message and answer.rank == 3
    assert relative(answer.step, reference_step(lin, 0.0)) < 1e-10
    assert relative(state.solve(0.5).step, reference_step(lin, 0.5)) < 1e-10
    gradient = rng.standard_normal(20)
    state = Prepared(DualSolver(), DenseSystem(a, None, gradient=gradient))
    assert relative(state.solve(0.0).step, -np.linalg.pinv(a.T @ a) @ gradient) < 1e-10
    exact = -np.linalg.solve(a.T @ a + 1e-3 * np.eye(20), gradient)
    assert relative(state.solve(1e-3).step, exact) < 1e-10
    zero = Prepared(DualSolver(), DenseSystem(np.zeros((3, 4)), np.ones(3))).solve(0.0)
    assert zero.ok and zero.rank == 0 and not zero.step.any()


@pytest.mark.parametrize("name", ["dual", "qr"])
@pytest.mark.parametrize("singular", [False, True])
def test_minimum_norm_from_the_gradient(name, singular):
    rng = np.random.default_rng(1)
    a = rng.standard_normal((10, 40))
    if singular:
        a[5:] = a[:5]
    lin = DenseSystem(a, None, gradient=rng.standard_normal(40))
    answer = Prepared(get_solver(name), lin).solve(0.0)
    assert relative(answer.step, -np.linalg.pinv(a.T @ a, rcond=1e-12) @ lin.gradient) < 1e-8
    assert answer.rank == (5 if singular else 10)


@pytest.mark.parametrize("name", ["dual", "qr"])
def test_long_system_from_the_gradient(name):
    rng = np.random.default_rng(1)
    a = rng.standard_normal((40, 10))
    lin = DenseSystem(a, None, gradient=rng.standard_normal(10))
    answer = Prepared(get_solver(name), lin).solve(0.0)
    assert relative(answer.step, -np.linalg.solve(a.T @ a, lin.gradient)) < 1e-8


@pytest.mark.parametrize("mu", [1e-3, 1e-6, 1e-9, 1e-12])
def test_small_damping_where_the_primal_loses(mu):
    """M <= N: dual and qr keep their digits as mu goes to 0 (consistent rows, mpmath-free)."""
    rng = np.random.default_rng(6)
    a, u, v = conditioned((15, 40), 10.0, rng)
    s = np.linalg.svd(a, compute_uv=False)
    b = rng.standard_normal(15)
    exact = -(v * (s / (s**2 + mu))) @ (u.T @ b)
    for name in ["dual", "qr", "lsqr"]:
        answer = Prepared(get_solver(name), DenseSystem(a, b)).solve(mu)
        assert answer.ok and relative(answer.step, exact) < 1e-11


# ---------------------------------------------------------------- indefinite curvature


@pytest.mark.parametrize("shape", [(30, 12), (12, 30)])
def test_indefinite_block(shape):
    rng = np.random.default_rng(7)
    a = rng.standard_normal(shape)
    signs = np.ones(shape[0])
    signs[::3] = -1.0
    signs[1::5] = 0.0
    theta, gradient = rng.standard_normal((2, shape[1]))
    lin = DenseSystem(a, None, signs=signs, theta=theta, gradient=gradient, l2=0.1)
    lowest = -np.linalg.eigvalsh(lin.gram())[0]
    c = rng.standard_normal(shape[0])
    for name in ["cholesky", "dual"]:
        state = Prepared(get_solver(name), lin)
        for damping in [0.5 * lowest, 2.0 * lowest, 0.9 * lowest, 50.0 * lowest]:
            answer, correction = state.solve(damping), state.correct(damping, c)
            if damping < lowest:
                assert not answer.ok and answer.status == "not_positive_definite"
                assert np.isnan(answer.step).all() and np.isnan(correction.step).all()
                continue
            matrix = lin.system_matrix(0.1 + damping)
            assert relative(answer.step, -np.linalg.solve(matrix, lin.gradient)) < 1e-10
            exact = np.linalg.solve(matrix, a.T @ (signs * c))
            assert relative(correction.step, exact) < 1e-10


def test_cholesky_names_the_first_bad_pivot():
    lin = random_system((30, 12))
    gram = lin.gram()
    gram[8, 8] -= 100.0
    lin.gram = lambda mixed: gram.copy()
    state = Prepared(get_solver("cholesky"), lin)
    answer = state.solve(0.1)
    assert answer.status == "not_positive_definite" and "pivot 9 of 12" in answer.message
    assert state.solve(0.0).status == "not_positive_definite"
    # The store survives a failed factorisation.
    exact = -np.linalg.solve(gram + 200.0 * np.eye(12), lin.gradient)
    assert relative(state.solve(200.0).step, exact) < 1e-12


def test_indefinite_is_refused():
    lin = random_system((8, 12), signs=np.array([1.0, -1.0] * 4))
    for name in ["qr", "lsqr"]:
        state = Prepared(get_solver(name), lin)
        assert state.solve(1.0).status == "refused" and "cholesky" in state.solve(1.0).message
        assert not state.correct(1.0, np.ones(8)).ok
    assert Prepared(get_solver("dual"), lin).solve(0.0).status == "refused"
    assert Prepared(get_solver("dual"), lin).correct(0.0, np.ones(8)).status == "refused"


def test_dual_indefinite_singular():
    """An eigenvalue of A^T D A at -mu: refused by rcond or by the inertia."""
    lin = DenseSystem(np.eye(2, 3), None, signs=np.array([1.0, -1.0]), gradient=np.ones(3))
    assert not Prepared(get_solver("dual"), lin).solve(1.0).ok
    assert not Prepared(get_solver("cholesky"), lin).solve(1.0).ok


# ---------------------------------------------------------------- not finite, zero


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("shape", [(20, 8), (8, 20)])
@pytest.mark.parametrize("with_b", [True, False])
def test_not_finite(name, value, shape, with_b):
    rng = np.random.default_rng(0)
    a = rng.standard_normal(shape)
    a[3, 4] = value
    b = rng.standard_normal(shape[0])
    with np.errstate(invalid="ignore"):
        lin = DenseSystem(a, b if with_b else None, gradient=rng.standard_normal(shape[1]))
        state = Prepared(get_solver(name), lin)
        for answer in [state.solve(0.1), state.correct(0.1, b)]:
            assert not answer.ok and answer.status == "non_finite"
            assert np.isnan(answer.step).all()


@pytest.mark.parametrize("name", NAMES)
def test_right_hand_side_not_finite(name):
    lin = random_system((6, 9))
    state = Prepared(get_solver(name), lin)
    c = np.ones(6)
    c[2] = np.nan
    assert state.correct(0.1, c).status == "non_finite"
    signed = random_system((6, 9), signs=np.ones(6))
    if name == "dual":
        assert Prepared(get_solver(name), signed).correct(0.1, c).status == "non_finite"
    lin.data_gradient[1] = np.inf
    lin.b[0] = np.inf
    assert Prepared(get_solver(name), lin).solve(0.1).status == "non_finite"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(20, 8), (8, 20)])
@pytest.mark.parametrize("damping", [0.0, 1e-3])
def test_zero_gradient(name, shape, damping):
    lin = random_system(shape)
    lin.b[:] = 0.0
    lin.data_gradient[:] = 0.0
    answer = Prepared(get_solver(name), lin).solve(damping)
    if name == "cholesky" and shape[0] < shape[1] and damping == 0.0:
        assert answer.status == "singular"
        return
    assert answer.ok and answer.status == "ok" and not answer.step.any()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", [1e-100, 1e-30, 1e30, 1e100])
def test_scales(name, scale):
    lin = random_system((20, 9))
    lin.a *= scale
    lin.data_gradient = lin.a.T @ lin.b
    damping = 0.1 * scale**2
    answer = Prepared(get_solver(name), lin).solve(damping)
    plain = Prepared(get_solver(name), random_system((20, 9))).solve(0.1)
    assert answer.ok and relative(answer.step * scale, plain.step) < 1e-9
