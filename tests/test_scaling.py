"""Memory does not grow with T N, and blocks and lanes do not change a result."""

import tracemalloc

import numpy as np
import pytest

import fastggn as fg
from fastggn.kernels.jit import DISABLED
from fastggn.network import workspace

pytestmark = pytest.mark.skipif(DISABLED, reason="sizes are too large without the compiler")

NET = fg.MLP((4, 20, 20, 1))
T = 80_000


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    return fg.Problem(NET, rng.normal(size=(T, 4)), rng.normal(size=T), "huber")


@pytest.fixture
def small_blocks(monkeypatch):
    """Let a block hold a few chunks only, so that a pass takes many."""
    monkeypatch.setattr(workspace, "_BLOCK_BYTES", 2 * 2**20)


def _singular_values(problem, theta):
    return problem.jacobian(theta).singular_values()


CALLS = {
    "loss": lambda p, t: p.loss(t),
    "gradient": lambda p, t: p.gradient(t),
    "ggn": lambda p, t: p.ggn(t),
    "hessian": lambda p, t: p.hessian(t),
    "J v": lambda p, t: p.jacobian(t) @ t,
    "J^T u": lambda p, t: p.jacobian(t).T @ np.ones(T),
    "ggn_operator": lambda p, t: p.ggn_operator(t) @ t,
    "hessian_operator": lambda p, t: p.hessian_operator(t) @ t,
    "singular_values": _singular_values,
    "train": lambda p, t: fg.train(
        p, t, max_iter=1, method=fg.LevenbergMarquardt(solver="cholesky")
    ),
}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.slow
def test_no_call_allocates_anything_of_order_t_n(problem, small_blocks, name):
    theta = NET.init(seed=0)
    CALLS[name](problem, theta)
    tracemalloc.start()
    try:
        CALLS[name](problem, theta)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    dense = 8 * T * NET.n_params
    # Blocks of rows (32 MiB), pair panels (64 MiB), lanes, and a few vectors over the samples.
    assert peak < 130 * 2**20 < dense / 2


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name == "hessian" else name
        for name in CALLS
        if name not in ("train", "singular_values")
    ],
)
def test_many_blocks_give_the_result_of_one(problem, monkeypatch, name):
    theta = NET.init(seed=0)
    one = CALLS[name](problem, theta)
    monkeypatch.setattr(workspace, "_BLOCK_BYTES", 2**20)
    many = CALLS[name](problem, theta)
    scale = np.abs(one).max()
    np.testing.assert_allclose(many, one, rtol=0, atol=1e-13 * scale)


def test_singular_values_of_blocks_match_the_dense_matrix(small_blocks):
    rng = np.random.default_rng(1)
    net = fg.MLP((3, 8, 1))
    problem = fg.Problem(net, rng.normal(size=(20_000, 3)), rng.normal(size=20_000))
    jacobian = problem.jacobian(net.init(seed=1))
    dense = np.linalg.svd(jacobian.to_dense(), compute_uv=False)
    np.testing.assert_allclose(jacobian.singular_values(), dense, rtol=0, atol=1e-13 * dense[0])


@pytest.mark.parametrize("loss", ["squared", "softmax_cross_entropy", "cauchy", "smooth_lp"])
def test_the_residual_of_the_rows_in_one_pass(small_blocks, loss):
    """A^T (b - A x) and the quadratic model, against vectors over all rows."""
    rng = np.random.default_rng(4)
    X, Y = rng.normal(size=(300, 2)), rng.normal(size=(300, 2))
    net = fg.MLP((2, 5, 2))
    target = rng.integers(0, 2, 300) if loss == "softmax_cross_entropy" else Y
    for curvature in ("psd", "exact"):
        problem = fg.Problem(
            net, X, target, loss, sample_weight=rng.random(300), l2=0.1, curvature=curvature
        )
        lin = problem.at(net.init(seed=0))
        x = rng.normal(size=net.n_params)
        image, signs = lin.matvec(x), lin.signs
        if lin.b is None:
            assert lin.data_residual(x) is None
        else:
            np.testing.assert_allclose(lin.data_residual(x), lin.rmatvec(lin.b - image), rtol=1e-11)
        square = image @ (image if signs is None else signs * image)
        expected = -lin.gradient @ x - 0.5 * (square + 0.1 * x @ x)
        assert lin.predicted_decrease(x) == pytest.approx(expected, rel=1e-12)


class Waves:
    """Samples that are computed as they are read."""

    def __init__(self, n_samples, width, frequency):
        self.shape, self.dtype = (n_samples, width), np.dtype(float)
        self.frequency = frequency

    def __getitem__(self, rows):
        grid = np.arange(rows.start, rows.stop)[:, None] + np.arange(self.shape[1])
        return np.sin(grid * self.frequency)


def test_an_iteration_holds_no_vector_over_the_samples(monkeypatch):
    """One of 8 bytes a sample would be 4.8 MB more for the larger problem."""
    monkeypatch.setattr(workspace, "_BLOCK_BYTES", 2**19)
    net, peaks = fg.MLP((3, 4, 1)), []
    theta = net.init(seed=0)
    for n_samples in (100_000, 100_000, 700_000):
        problem = fg.Problem(net, Waves(n_samples, 3, 0.7), Waves(n_samples, 1, 1.3))
        tracemalloc.start()
        fg.train(
            problem,
            theta,
            method=fg.LevenbergMarquardt(solver="cholesky", geodesic=False),
            max_iter=1,
        )
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < peaks[1] + 2_000_000, peaks
