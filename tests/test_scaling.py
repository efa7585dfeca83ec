"""Memory does not grow with T N, and blocks and lanes do not change a result."""

import tracemalloc

import numpy as np
import pytest

import fastggn as fg
from fastggn import workspace
from fastggn.kernels.jit import DISABLED

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
    "train": lambda p, t: fg.train(p, t, max_iter=1, solver="cholesky"),
}


@pytest.mark.parametrize("name", CALLS)
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


@pytest.mark.parametrize("name", [n for n in CALLS if n not in ("train", "singular_values")])
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
