"""The solvers on dense systems with known answers: nothing but the contract is used."""

import tracemalloc
from types import SimpleNamespace

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

import fastggn.solvers as solvers
from fastggn.solvers import choose_solver, get_solver
from fastggn.solvers.dual import DualSolver
from fastggn.solvers.kronecker import KroneckerPreconditioner
from fastggn.solvers.lsqr import TRIAL, LSQRSolver, conjugate_gradients
from fastggn.solvers.two_triangles import SymmetricMatrix, factor_cholesky


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Small systems: several threads of BLAS would wait for each other on a busy machine."""
    with threadpool_limits(1, "blas"):
        yield


NAMES = ["cholesky", "dual", "qr", "lsqr"]
SHAPES = [(40, 12), (12, 40), (13, 13), (1, 5), (5, 1), (1, 1), (300, 70)]
SHIFTS = [(0.0, 0.1), (0.1, 0.0), (0.03, 0.2)]


class DenseSystem:
    """A linearisation with given rows."""

    def __init__(self, a, b=None, *, l2=0.0, theta=None, signs=None, gradient=None, block=7):
        self.a = np.array(a, dtype=float)
        self.n_rows, self.n_params = self.a.shape
        self.l2 = l2
        self.theta = np.zeros(self.n_params) if theta is None else theta
        self.signs = signs
        self.b = b
        self.data_gradient = self.a.T @ b if gradient is None else gradient
        self.gradient = self.data_gradient + l2 * self.theta
        self.block = block
        self.sweeps = 0

    def matvec(self, v):
        self.sweeps += 1
        return self.a @ v

    def rmatvec(self, u):
        self.sweeps += 1
        return self.a.T @ u

    def gram(self):
        d = self.a if self.signs is None else self.signs[:, None] * self.a
        return np.ascontiguousarray(self.a.T @ d)

    def dual_gram(self):
        return np.ascontiguousarray(self.a @ self.a.T)

    def row_blocks(self):
        for i in range(0, self.n_rows, self.block):
            rows = slice(i, i + self.block)
            yield self.a[rows].copy(), None if self.b is None else self.b[rows]

    def kronecker_factors(self):
        """One layer of the largest square-ish shape: U = I, V = the mean diagonal block."""
        n = self.n_params
        units = max(k for k in range(1, n + 1) if n % k == 0 and k * k <= n)
        inputs = n // units
        gram = self.a.T @ self.a
        blocks = [
            gram[k * inputs : (k + 1) * inputs][:, k * inputs : (k + 1) * inputs]
            for k in range(units)
        ]
        return [(np.eye(units), sum(blocks) / units)]

    def system_matrix(self, mu):
        return self.gram() + mu * np.eye(self.n_params)


def random_system(shape, *, l2=0.0, seed=0, **options):
    rng = np.random.default_rng(seed)
    a = rng.standard_normal(shape) / np.sqrt(max(shape))
    return DenseSystem(
        a, rng.standard_normal(shape[0]), l2=l2, theta=rng.standard_normal(shape[1]), **options
    )


def conditioned(shape, cond, rng):
    """A random matrix with singular values from 1 down to 1 / cond."""
    k = min(shape)
    u, _ = np.linalg.qr(rng.standard_normal((shape[0], k)))
    v, _ = np.linalg.qr(rng.standard_normal((shape[1], k)))
    return u * np.logspace(0, -np.log10(cond), k) @ v.T, u, v


def reference_step(lin, damping):
    """The step by numpy.linalg.lstsq on the stacked system."""
    mu = lin.l2 + damping
    if mu == 0.0:
        return -np.linalg.lstsq(lin.a, lin.b, rcond=None)[0]
    root = np.sqrt(mu)
    stacked = np.vstack([lin.a, root * np.eye(lin.n_params)])
    rhs = np.concatenate([lin.b, lin.l2 / root * lin.theta])
    return -np.linalg.lstsq(stacked, rhs, rcond=None)[0]


def reference_correction(lin, damping, c):
    mu = lin.l2 + damping
    if mu == 0.0:
        return np.linalg.lstsq(lin.a, c, rcond=None)[0]
    stacked = np.vstack([lin.a, np.sqrt(mu) * np.eye(lin.n_params)])
    return np.linalg.lstsq(stacked, np.concatenate([c, np.zeros(lin.n_params)]), rcond=None)[0]


def relative(x, y):
    return np.linalg.norm(x - y) / max(np.linalg.norm(y), 1e-300)


# ---------------------------------------------------------------- agreement


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("l2", "damping"), SHIFTS)
def test_damped_step(name, shape, l2, damping):
    lin = random_system(shape, l2=l2)
    answer = get_solver(name).prepare(lin).solve(damping)
    assert answer.ok and answer.status == "ok"
    assert relative(answer.step, reference_step(lin, damping)) < 1e-10


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("l2", "damping"), SHIFTS)
def test_correction(name, shape, l2, damping):
    lin = random_system(shape, l2=l2)
    c = np.random.default_rng(5).standard_normal(shape[0])
    answer = get_solver(name).prepare(lin).correct(damping, c)
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
    state = get_solver(name).prepare(lin)
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
    state = get_solver(name).prepare(lin)
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
        state = get_solver(name).prepare(lin)
        c = np.arange(shape[0], dtype=float)
        for damping in [1.0, 1e-2, 1e-2, 10.0, 0.0, 1e-3, 1.0]:
            assert relative(state.solve(damping).step, reference_step(lin, damping)) < 1e-9
            exact = reference_correction(lin, damping, c)
            assert relative(state.correct(damping, c).step, exact) < 1e-9


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("damping", [-1.0, np.nan, np.inf])
def test_bad_damping(name, damping):
    state = get_solver(name).prepare(random_system((6, 4)))
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

    The normal equations leave errors of eps |A| |r| / mu, which Cholesky refuses above 1e-3.
    """
    rng = np.random.default_rng(4)
    a = dict(singular_systems())[label]
    a /= max(np.linalg.norm(a, 2), 1e-300)
    tolerance = 1e-3 if name == "cholesky" and damping in (1e-12, 1e-10) else 1e-6
    lin = DenseSystem(a, rng.standard_normal(a.shape[0]))
    state = get_solver(name).prepare(lin)
    c = rng.standard_normal(a.shape[0])
    for answer, sign, rhs in [(state.solve(damping), -1, lin.b), (state.correct(damping, c), 1, c)]:
        if not answer.ok:
            assert name == "cholesky" and damping < 1e-11
            assert answer.status in ("singular", "not_positive_definite")
            continue
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
    answer = get_solver(name).prepare(lin).solve(0.0)
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
    answer = get_solver(name).prepare(DenseSystem(a, rng.standard_normal(30))).solve(0.0)
    assert answer.rank == 7
    assert "rank 7" in answer.message


def test_dual_keeps_its_decomposition_and_names_it():
    rng = np.random.default_rng(0)
    a = np.tile(rng.standard_normal((3, 20)), (4, 1))
    lin = DenseSystem(a, rng.standard_normal(12))
    state = DualSolver().prepare(lin)
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
    state = DualSolver().prepare(lin)
    answer = state.solve(0.0)
    assert "truncated" in answer.message and answer.rank == 3
    assert relative(answer.step, reference_step(lin, 0.0)) < 1e-10
    assert relative(state.solve(0.5).step, reference_step(lin, 0.5)) < 1e-10
    gradient = rng.standard_normal(20)
    state = DualSolver().prepare(DenseSystem(a, None, gradient=gradient))
    assert relative(state.solve(0.0).step, -np.linalg.pinv(a.T @ a) @ gradient) < 1e-10
    exact = -np.linalg.solve(a.T @ a + 1e-3 * np.eye(20), gradient)
    assert relative(state.solve(1e-3).step, exact) < 1e-10
    zero = DualSolver().prepare(DenseSystem(np.zeros((3, 4)), np.ones(3))).solve(0.0)
    assert zero.ok and zero.rank == 0 and not zero.step.any()


@pytest.mark.parametrize("name", ["dual", "qr"])
@pytest.mark.parametrize("singular", [False, True])
def test_minimum_norm_from_the_gradient(name, singular):
    rng = np.random.default_rng(1)
    a = rng.standard_normal((10, 40))
    if singular:
        a[5:] = a[:5]
    lin = DenseSystem(a, None, gradient=rng.standard_normal(40))
    answer = get_solver(name).prepare(lin).solve(0.0)
    assert relative(answer.step, -np.linalg.pinv(a.T @ a, rcond=1e-12) @ lin.gradient) < 1e-8
    assert answer.rank == (5 if singular else 10)


@pytest.mark.parametrize("name", ["dual", "qr"])
def test_long_system_from_the_gradient(name):
    rng = np.random.default_rng(1)
    a = rng.standard_normal((40, 10))
    lin = DenseSystem(a, None, gradient=rng.standard_normal(10))
    answer = get_solver(name).prepare(lin).solve(0.0)
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
        answer = get_solver(name).prepare(DenseSystem(a, b)).solve(mu)
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
        state = get_solver(name).prepare(lin)
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
    lin.gram = lambda: gram.copy()
    state = get_solver("cholesky").prepare(lin)
    answer = state.solve(0.1)
    assert answer.status == "not_positive_definite" and "pivot 9 of 12" in answer.message
    assert state.solve(0.0).status == "not_positive_definite"
    # The store survives a failed factorisation.
    exact = -np.linalg.solve(gram + 200.0 * np.eye(12), lin.gradient)
    assert relative(state.solve(200.0).step, exact) < 1e-12


def test_indefinite_is_refused():
    lin = random_system((8, 12), signs=np.array([1.0, -1.0] * 4))
    for name in ["qr", "lsqr"]:
        state = get_solver(name).prepare(lin)
        assert state.solve(1.0).status == "refused" and "cholesky" in state.solve(1.0).message
        assert not state.correct(1.0, np.ones(8)).ok
    assert get_solver("dual").prepare(lin).solve(0.0).status == "refused"
    assert get_solver("dual").prepare(lin).correct(0.0, np.ones(8)).status == "refused"


def test_dual_indefinite_singular():
    """An eigenvalue of A^T D A at -mu: refused by rcond or by the inertia."""
    lin = DenseSystem(np.eye(2, 3), None, signs=np.array([1.0, -1.0]), gradient=np.ones(3))
    assert not get_solver("dual").prepare(lin).solve(1.0).ok
    assert not get_solver("cholesky").prepare(lin).solve(1.0).ok


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
        state = get_solver(name).prepare(lin)
        for answer in [state.solve(0.1), state.correct(0.1, b)]:
            assert not answer.ok and answer.status == "non_finite"
            assert np.isnan(answer.step).all()


@pytest.mark.parametrize("name", NAMES)
def test_right_hand_side_not_finite(name):
    lin = random_system((6, 9))
    state = get_solver(name).prepare(lin)
    c = np.ones(6)
    c[2] = np.nan
    assert state.correct(0.1, c).status == "non_finite"
    signed = random_system((6, 9), signs=np.ones(6))
    if name == "dual":
        assert get_solver(name).prepare(signed).correct(0.1, c).status == "non_finite"
    lin.gradient[1] = np.inf
    lin.b[0] = np.inf
    assert get_solver(name).prepare(lin).solve(0.1).status == "non_finite"


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(20, 8), (8, 20)])
@pytest.mark.parametrize("damping", [0.0, 1e-3])
def test_zero_gradient(name, shape, damping):
    lin = random_system(shape)
    lin.b[:] = 0.0
    lin.gradient[:] = 0.0
    answer = get_solver(name).prepare(lin).solve(damping)
    if name == "cholesky" and shape[0] < shape[1] and damping == 0.0:
        assert answer.status == "singular"
        return
    assert answer.ok and answer.status == "ok" and not answer.step.any()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("scale", [1e-100, 1e-30, 1e30, 1e100])
def test_scales(name, scale):
    lin = random_system((20, 9))
    lin.a *= scale
    lin.gradient = lin.a.T @ lin.b
    damping = 0.1 * scale**2
    answer = get_solver(name).prepare(lin).solve(damping)
    plain = get_solver(name).prepare(random_system((20, 9))).solve(0.1)
    assert answer.ok and relative(answer.step * scale, plain.step) < 1e-9


# ---------------------------------------------------------------- lsqr


def test_lsqr_limit_returns_a_descent_direction():
    lin = random_system((80, 60))
    for b in [lin.b, None]:
        lin.b = b
        for preconditioned in [True, False]:
            solver = LSQRSolver(max_iterations=3, preconditioned=preconditioned)
            answer = solver.prepare(lin).solve(1e-3)
            assert answer.ok and answer.status == "not_converged" and answer.iterations == 3
            assert answer.step @ lin.gradient < 0.0
    assert LSQRSolver(max_iterations=3).prepare(lin).correct(0.0, np.ones(80)).ok


def test_lsqr_unpreconditioned_agrees():
    lin = random_system((30, 12), l2=0.1)
    answer = LSQRSolver(preconditioned=False).prepare(lin).solve(0.2)
    assert relative(answer.step, reference_step(lin, 0.2)) < 1e-10


def test_lsqr_without_b_and_damping_is_refused():
    rng = np.random.default_rng(0)
    lin = DenseSystem(rng.standard_normal((5, 3)), None, gradient=rng.standard_normal(3))
    assert LSQRSolver().prepare(lin).solve(0.0).status == "refused"


def test_preconditioner_saves_iterations():
    """A layer whose curvature is a Kronecker product, up to noise."""
    rng = np.random.default_rng(0)
    units, inputs, rows = 6, 10, 400
    psi = rng.standard_normal((rows, units)) * np.logspace(0, -2, units)
    phi = rng.standard_normal((rows, inputs)) * np.logspace(0, -3, inputs)
    a = (psi[:, :, None] * phi[:, None, :]).reshape(rows, -1)
    lin = DenseSystem(a, rng.standard_normal(rows))
    lin.kronecker_factors = lambda: [(psi.T @ psi / rows, phi.T @ phi)]
    # Relative to |A|^2, one damping above the limit of the preconditioner and one below it.
    for damping, trial in [(1e-5, 0), (1e-9, TRIAL)]:
        plain = LSQRSolver(preconditioned=False).prepare(lin).solve(damping)
        quick = LSQRSolver().prepare(lin).solve(damping)
        assert quick.status == "ok"
        assert relative(quick.step, reference_step(lin, damping)) < 1e-8
        assert quick.iterations - trial < plain.iterations / 4
    lin.b = None
    conjugate = LSQRSolver().prepare(lin).solve(1e-9)
    assert conjugate.status == "ok" and conjugate.iterations < 60


def test_preconditioner_is_the_inverse_square_root():
    rng = np.random.default_rng(0)
    factors, blocks = [], []
    for units, inputs in [(3, 4), (1, 5), (2, 1)]:
        u = rng.standard_normal((units, 7))
        v = rng.standard_normal((inputs, 7))
        factors.append((u @ u.T, v @ v.T))
        blocks.append(np.kron(u @ u.T, v @ v.T))
    n = sum(block.shape[0] for block in blocks)
    dense = np.zeros((n, n))
    start = 0
    for block in blocks:
        stop = start + block.shape[0]
        dense[start:stop, start:stop] = block
        start = stop
    preconditioner = KroneckerPreconditioner(factors)
    scales = preconditioner.scales(0.3)
    c = np.column_stack([preconditioner.apply(scales, e) for e in np.eye(n)])
    transposed = np.column_stack([preconditioner.apply_transposed(scales, e) for e in np.eye(n)])
    assert preconditioner.size == n
    np.testing.assert_allclose(transposed, c.T, atol=1e-12)
    np.testing.assert_allclose(c @ c.T, np.linalg.inv(dense + 0.3 * np.eye(n)), atol=1e-11)


def test_conjugate_gradients():
    rng = np.random.default_rng(0)
    m = rng.standard_normal((20, 20))
    m = m @ m.T + np.eye(20)
    rhs = rng.standard_normal(20)
    x, converged, count = conjugate_gradients(lambda v: m @ v, rhs, lambda v: v, 1e-13, 200)
    assert converged and count < 100 and relative(x, np.linalg.solve(m, rhs)) < 1e-10
    assert not conjugate_gradients(lambda v: m @ v, rhs, lambda v: v, 1e-13, 4)[1]


# ---------------------------------------------------------------- memory and reuse


def test_factor_and_store_share_one_array():
    rng = np.random.default_rng(0)
    for n in [1, 2, 255, 256, 257, 600]:
        a = rng.standard_normal((n + 3, n))
        gram = np.ascontiguousarray(a.T @ a)
        dense = gram.copy()
        matrix = SymmetricMatrix(gram)
        for shift in [0.5, 2.0, 0.0, 0.5]:
            factor = factor_cholesky(matrix, shift)
            assert np.shares_memory(factor.factor, gram)
            lower = np.tril(factor.factor)
            np.testing.assert_allclose(
                lower @ lower.T, dense + shift * np.eye(n), atol=1e-10 * n, rtol=1e-12
            )
        assert matrix.norm(1.0) == pytest.approx(np.linalg.norm(dense + np.eye(n), 1))
        np.testing.assert_array_equal(np.tril(matrix.restored(0.0)), np.tril(dense))


def test_no_second_square_array():
    n = 1500
    lin = random_system((40, n))
    gram = lin.gram()
    lin.gram = lambda: gram
    tracemalloc.start()
    state = get_solver("cholesky").prepare(lin)
    assert state.solve(0.1).ok and state.solve(1.0).ok
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 0.5 * 8 * n * n
    lin.a = np.ascontiguousarray(lin.a.T)
    lin.n_rows, lin.n_params = n, 40
    lin.dual_gram = lambda: random_system((40, n)).gram()
    lin.b, lin.theta, lin.gradient = np.ones(n), np.zeros(40), lin.a.T @ np.ones(n)
    tracemalloc.start()
    state = get_solver("dual").prepare(lin)
    tracemalloc.reset_peak()
    assert state.solve(0.1).ok and state.solve(1.0).ok
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1.5 * 8 * n * n


def test_qr_memory_does_not_grow_with_the_rows():
    n = 60

    class Streamed(DenseSystem):
        def row_blocks(self):
            rng = np.random.default_rng(0)
            for _ in range(self.n_rows // 64):
                yield rng.standard_normal((64, n)), np.ones(64)

    peaks = []
    for rows in [640, 12800]:
        lin = Streamed(np.ones((1, n)), np.ones(1))
        lin.n_rows = rows
        tracemalloc.start()
        state = get_solver("qr").prepare(lin)
        assert state.solve(0.0).rank == n
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


def test_one_factorisation_serves_the_correction(monkeypatch):
    counts = []
    original = factor_cholesky

    def counted(*args):
        counts.append(args)
        return original(*args)

    monkeypatch.setattr("fastggn.solvers.cholesky.factor_cholesky", counted)
    monkeypatch.setattr("fastggn.solvers.dual.factor_cholesky", counted)
    for name in ["cholesky", "dual"]:
        counts.clear()
        state = get_solver(name).prepare(random_system((8, 12)))
        state.solve(0.1)
        state.correct(0.1, np.ones(8))
        state.solve(0.1)
        assert len(counts) == 1


# ---------------------------------------------------------------- choice


def shaped(rows, n, curvature="psd", outputs=1):
    return SimpleNamespace(
        n_samples=rows // outputs, n_outputs=outputs, n_params=n, curvature=curvature
    )


@pytest.fixture
def memory(monkeypatch):
    def set_to(size):
        monkeypatch.setattr(solvers, "available_memory", lambda: size)

    set_to(2**40)
    return set_to


def auto(problem, minimum_norm=False):
    solver, reason = choose_solver("auto", problem, needs_minimum_norm=minimum_norm)
    assert reason.startswith(solver.name + ":")
    return solver.name


def test_automatic_choice(memory):
    assert auto(shaped(20, 81)) == "dual"
    assert auto(shaped(81, 81)) == "dual"
    assert auto(shaped(82, 81)) == "cholesky"
    assert auto(shaped(90, 81, outputs=3)) == "cholesky"
    assert auto(shaped(82, 81), True) == "qr"
    assert auto(shaped(20, 81), True) == "dual"
    assert auto(shaped(10**6, 20_000)) == "cholesky"
    assert auto(shaped(10**6, 20_001)) == "lsqr"
    assert auto(shaped(10**6, 20_001), True) == "lsqr"
    assert auto(shaped(82, 81, "exact")) == "cholesky"
    assert auto(shaped(82, 81, "exact"), True) == "cholesky"
    assert auto(shaped(20, 81, "exact")) == "dual"


def test_automatic_choice_by_memory(memory):
    memory(2 * 8 * 100**2)
    assert auto(shaped(100, 1000)) == "dual"
    assert auto(shaped(101, 1000)) == "lsqr"
    assert auto(shaped(1000, 100)) == "cholesky"
    assert auto(shaped(1000, 101)) == "lsqr"
    assert auto(shaped(1000, 100), True) == "lsqr"
    with pytest.raises(MemoryError, match="exact"):
        auto(shaped(1000, 101, "exact"))


def test_explicit_choice(memory):
    for name in NAMES:
        solver, reason = choose_solver(name, shaped(20, 81), needs_minimum_norm=False)
        assert solver.name == name and name in reason
    own = LSQRSolver(tolerance=1e-6)
    assert choose_solver(own, shaped(20, 81), needs_minimum_norm=False)[0] is own
    with pytest.raises(ValueError, match=r"T n_L = 82 and N = 81"):
        choose_solver("dual", shaped(82, 81), needs_minimum_norm=False)
    for name in ["qr", "lsqr"]:
        with pytest.raises(ValueError, match="exact"):
            choose_solver(name, shaped(20, 81, "exact"), needs_minimum_norm=False)
    memory(1000)
    for name in ["cholesky", "dual", "qr"]:
        with pytest.raises(MemoryError, match="lsqr"):
            choose_solver(name, shaped(20, 81), needs_minimum_norm=False)
    assert choose_solver("lsqr", shaped(20, 81), needs_minimum_norm=False)[0].name == "lsqr"


def test_unknown_names():
    with pytest.raises(ValueError, match="did you mean 'cholesky'"):
        get_solver("cholesk")
    with pytest.raises(ValueError, match="auto"):
        choose_solver("lqsr", shaped(2, 2), needs_minimum_norm=False)
    with pytest.raises(TypeError, match="solver"):
        get_solver(3)
