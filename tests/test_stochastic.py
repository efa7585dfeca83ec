"""batch_size=: stochastic GGN steps, through the dual where a batch is small."""

import numpy as np
import pytest

import fastggn as fg
from fastggn.training.methods.first_order import batches


@pytest.fixture
def problem():
    """F(2, 10, 1) on 200 samples: N = 41."""
    X, Y = fg.data.four_regions(200, seed=0)
    return fg.Problem(fg.MLP((2, 10, 1)), X, Y)


@pytest.mark.parametrize(("T", "size"), [(10, 3), (10, 5), (10, 10), (7, 1)])
def test_batches_are_a_partition(T, size):
    rng = np.random.default_rng(0)
    first, second = ([rows for rows in batches(T, size, rng)] for _ in range(2))
    for found in (first, second):
        np.testing.assert_array_equal(np.sort(np.concatenate(found)), np.arange(T))
        assert all(len(rows) == size for rows in found[:-1])
    if T > size > 1:
        assert any(not np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize(("size", "solver"), [(20, "dual"), (100, "cholesky")])
def test_lm_descends_by_passes(problem, size, solver):
    result = fg.train(problem, seed=0, method=fg.LevenbergMarquardt(batch_size=size), max_iter=30)
    losses = [result.initial_loss, *(record.loss for record in result.history)]
    assert all(b <= a for a, b in zip(losses, losses[1:], strict=False))
    assert result.loss < 0.05 * result.initial_loss
    assert {record.solver for record in result.history} == {solver}
    assert result.history[0].assemblies == 200 // size


def test_rejected_pass_leaves_theta(problem):
    """A pass is undone, and the damping raised, where the loss of all samples rose."""
    result = fg.train(problem, seed=0, method=fg.LevenbergMarquardt(batch_size=10), max_iter=60)
    rejected = [k for k, record in enumerate(result.history) if not record.accepted]
    assert rejected
    for k in rejected:
        assert k == 0 or result.history[k].loss == result.history[k - 1].loss
        assert k + 1 == result.n_iter or result.history[k + 1].damping > result.history[k].damping


def test_a_hopeless_pass_is_broken_off(monkeypatch):
    """Steps that fit noise, four samples at a time, make all others worse: theta stays."""
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((200, 3)), rng.standard_normal(200)
    problem = fg.Problem(fg.MLP((3, 10, 1)), X, Y)
    theta = problem.network.init(seed=0)

    def first_pass():
        return fg.train(
            problem,
            theta,
            seed=0,
            method=fg.LevenbergMarquardt(batch_size=4, damping=1e-9),
            max_iter=1,
        )

    result = first_pass()
    assert not result.history[0].accepted
    assert 20 <= result.history[0].assemblies + 1 < 50
    np.testing.assert_array_equal(result.theta, theta)
    monkeypatch.setattr("fastggn.training.methods.stochastic.WORSE", np.inf)
    whole = first_pass()
    assert whole.history[0].assemblies == 50
    np.testing.assert_array_equal(whole.theta, theta)


def test_ggn_takes_minimum_norm_steps_on_batches():
    """A consistent linear problem: undamped steps project onto each batch's solutions."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40, 6))
    problem = fg.Problem(fg.MLP((6, 1)), X, X @ rng.standard_normal(6) + 0.3)
    result = fg.train(
        problem,
        seed=0,
        method=fg.GaussNewton(batch_size=5),
        max_iter=60,
        stop=fg.Stop(gradient=1e-9),
    )
    assert result.status == "converged_gradient"
    assert result.history[0].solver == "dual"


@pytest.mark.filterwarnings("ignore::fastggn.AscentWarning")
def test_whole_batch_is_the_deterministic_step(problem):
    one = fg.train(problem, seed=0, method=fg.GaussNewton(step=0.1, solver="qr"), max_iter=2)
    batch = fg.train(
        problem, seed=0, method=fg.GaussNewton(step=0.1, solver="qr", batch_size=200), max_iter=2
    )
    np.testing.assert_allclose(batch.theta, one.theta, rtol=1e-8, atol=1e-10)


def test_dual_asked_for(problem):
    result = fg.train(
        problem, seed=0, method=fg.LevenbergMarquardt(batch_size=20, solver="dual"), max_iter=2
    )
    assert result.history[-1].solver == "dual"
    with pytest.raises(ValueError, match="T n_L <= N"):
        fg.train(problem, seed=0, method=fg.LevenbergMarquardt(batch_size=100, solver="dual"))


def test_weights_and_l2_reach_the_batches():
    """Samples of weight zero change nothing, whatever their targets."""
    X, Y = fg.data.four_regions(60, seed=0)
    weights = np.ones(60)
    weights[::7] = 0.0
    wild = Y.copy()
    wild[::7] = 1e3
    net = fg.MLP((2, 5, 1))
    a, b = (
        fg.train(
            fg.Problem(net, X, y, sample_weight=weights, l2=1e-2),
            seed=0,
            method=fg.LevenbergMarquardt(batch_size=20),
            max_iter=5,
        )
        for y in (Y, wild)
    )
    np.testing.assert_allclose(a.theta, b.theta, rtol=1e-10)


def test_adam_learns(problem):
    result = fg.train(problem, seed=0, method=fg.Adam(rate=1e-2, batch_size=20), max_iter=60)
    assert result.loss < 0.1 * result.initial_loss
    assert result.history[0].solver == "adam"


def test_time_limit_ends_a_pass(problem):
    result = fg.train(problem, seed=0, method=fg.Adam(batch_size=1), max_time=1e-3)
    assert result.status == "max_time"
    assert result.n_iter <= 1
