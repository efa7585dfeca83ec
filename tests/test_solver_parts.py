"""What the solvers are made of: the preconditioner, the iterations, the memory they take."""

import tracemalloc

import numpy as np
import pytest
from dense_system import DenseSystem, Prepared, random_system, reference_step, relative
from threadpoolctl import threadpool_limits

from fastggn.solvers.choice import get_solver
from fastggn.solvers.cholesky_in_place import SymmetricMatrix, factor_cholesky
from fastggn.solvers.kronecker import KroneckerPreconditioner
from fastggn.solvers.lsqr import TRIAL, LSQRSolver, conjugate_gradients


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Small systems: several threads of BLAS would wait for each other on a busy machine."""
    with threadpool_limits(1, "blas"):
        yield


# ---------------------------------------------------------------- lsqr


def test_lsqr_limit_returns_a_descent_direction():
    lin = random_system((80, 60))
    for b in [lin.b, None]:
        lin.b = b
        for preconditioned in [True, False]:
            solver = LSQRSolver(max_iterations=3, preconditioned=preconditioned)
            answer = Prepared(solver, lin).solve(1e-3)
            assert answer.ok and answer.status == "not_converged" and answer.iterations == 3
            assert answer.step @ lin.gradient < 0.0
    assert Prepared(LSQRSolver(max_iterations=3), lin).correct(0.0, np.ones(80)).ok


def test_lsqr_unpreconditioned_agrees():
    lin = random_system((30, 12), l2=0.1)
    answer = Prepared(LSQRSolver(preconditioned=False), lin).solve(0.2)
    assert relative(answer.step, reference_step(lin, 0.2)) < 1e-10


def test_lsqr_without_b_and_damping_is_refused():
    rng = np.random.default_rng(0)
    lin = DenseSystem(rng.standard_normal((5, 3)), None, gradient=rng.standard_normal(3))
    assert Prepared(LSQRSolver(), lin).solve(0.0).status == "refused"


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
        plain = Prepared(LSQRSolver(preconditioned=False), lin).solve(damping)
        quick = Prepared(LSQRSolver(), lin).solve(damping)
        assert quick.status == "ok"
        assert relative(quick.step, reference_step(lin, damping)) < 1e-8
        assert quick.iterations - trial < plain.iterations / 4
    lin.b = None
    conjugate = Prepared(LSQRSolver(), lin).solve(1e-9)
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
    lin.gram = lambda mixed: gram
    tracemalloc.start()
    state = Prepared(get_solver("cholesky"), lin)
    assert state.solve(0.1).ok and state.solve(1.0).ok
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 0.5 * 8 * n * n
    lin.a = np.ascontiguousarray(lin.a.T)
    lin.n_rows, lin.n_params = n, 40
    lin.dual_gram = lambda: random_system((40, n)).gram()
    lin.b, lin.theta, lin.data_gradient = np.ones(n), np.zeros(40), lin.a.T @ np.ones(n)
    tracemalloc.start()
    state = Prepared(get_solver("dual"), lin)
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
        state = Prepared(get_solver("qr"), lin)
        assert state.solve(0.0).rank == n
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


def test_one_factorisation_serves_the_correction(monkeypatch):
    counts = []
    original = factor_cholesky

    def counted(*args, **options):
        counts.append(args)
        return original(*args, **options)

    monkeypatch.setattr("fastggn.solvers.cholesky.factor_cholesky", counted)
    monkeypatch.setattr("fastggn.solvers.dual.factor_cholesky", counted)
    for name in ["cholesky", "dual"]:
        counts.clear()
        state = Prepared(get_solver(name), random_system((8, 12)))
        state.solve(0.1)
        state.correct(0.1, np.ones(8))
        state.solve(0.1)
        assert len(counts) == 1
