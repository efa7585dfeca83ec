"""Weights of each output of each sample: targets that do not count."""

import numpy as np
import pytest

import fastggn as fg

RNG = np.random.default_rng(0)
NET = fg.MLP((2, 3, 2))
X, Y = RNG.normal(size=(30, 2)), RNG.normal(size=(30, 2))
W = RNG.uniform(0.0, 2.0, (30, 2))
THETA = NET.init(seed=0)
LOSSES = ("squared", "huber", "smooth_lp", "cauchy", "blake_zisserman", "logistic")


def targets(loss):
    return (Y > 0.0).astype(float) if loss == "logistic" else Y


@pytest.mark.parametrize("loss", LOSSES)
def test_weights_by_row_are_weights_of_all_outputs(loss):
    rows = W[:, 0]
    by_row = fg.Problem(NET, X, targets(loss), loss, sample_weight=rows)
    by_output = fg.Problem(NET, X, targets(loss), loss, sample_weight=np.column_stack([rows, rows]))
    assert by_output.loss(THETA) == pytest.approx(by_row.loss(THETA), rel=1e-13)
    for name in ("gradient", "ggn", "hessian"):
        one, other = (getattr(problem, name)(THETA) for problem in (by_row, by_output))
        np.testing.assert_allclose(other, one, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_objective_by_hand(loss):
    """Each output of each sample is a problem of its own, with its own weight."""
    problem = fg.Problem(NET, X, targets(loss), loss, sample_weight=W)
    F = NET.predict(THETA, X)
    by_output = fg.losses.get_loss(loss).by_output(F, targets(loss))
    assert problem.loss(THETA) == pytest.approx((W * by_output).sum() / W.mean() / 30, rel=1e-12)
    if loss == "squared":
        J = problem.jacobian(THETA).to_dense()
        gram = J.T @ (W.reshape(-1, 1) / W.mean() * J) / 30
        np.testing.assert_allclose(problem.ggn(THETA), gram, atol=1e-14)
    step = 1e-6 * RNG.normal(size=THETA.size)
    slope = problem.loss(THETA + step) - problem.loss(THETA - step)
    assert slope == pytest.approx(2 * problem.gradient(THETA) @ step, rel=1e-6)
    curve = problem.gradient(THETA + step) - problem.gradient(THETA - step)
    np.testing.assert_allclose(curve, 2 * problem.hessian(THETA) @ step, rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize("solver", ["cholesky", "dual", "lsqr", "qr"])
def test_targets_that_do_not_count(solver):
    """NaN where the weight is 0: each output learns from its own samples only."""
    gaps = RNG.uniform(size=(30, 2)) < 0.3
    holed = np.where(gaps, np.nan, Y)
    net = fg.MLP((2, 12, 2)) if solver == "dual" else NET  # which needs T n_L <= N
    theta = net.init(seed=0)
    problem = fg.Problem(net, X, holed, sample_weight=~gaps, l2=1e-9)
    filled = fg.Problem(net, X, np.where(gaps, 1e3, Y), sample_weight=~gaps, l2=1e-9)
    assert problem.loss(theta) == filled.loss(theta)
    result = fg.train(problem, theta, fg.LevenbergMarquardt(solver=solver), max_iter=30)
    error = (net.predict(result.theta, X) - Y)[~gaps]
    decay = 0.5e-9 * float(result.theta @ result.theta)
    assert result.loss == pytest.approx(np.sum(error**2) / (~gaps).sum() + decay)
    assert result.loss < 0.5 * result.initial_loss
    part = problem.subset([3, 7])
    assert np.isfinite(part.loss(theta))


def test_refusals():
    with pytest.raises(ValueError, match=r"must have shape \(30,\) or \(30, 2\), got \(30, 3\)"):
        fg.Problem(NET, X, Y, sample_weight=np.ones((30, 3)))
    with pytest.raises(ValueError, match=r"sample_weight\[4, 1\] is -1"):
        wrong = np.ones((30, 2))
        wrong[4, 1] = -1.0
        fg.Problem(NET, X, Y, sample_weight=wrong)
    with pytest.raises(ValueError, match="sums over the outputs, not softmax_cross_entropy"):
        fg.Problem(NET, X, np.zeros(30, int), "softmax_cross_entropy", sample_weight=W)
    with pytest.raises(ValueError, match=r"Y\[2, 0\] is nan"):
        holed = Y.copy()
        holed[2, 0] = np.nan
        fg.Problem(NET, X, holed, sample_weight=np.ones((30, 2)))
    problem = fg.Problem(NET, X, Y, sample_weight=W)
    with pytest.raises(ValueError, match="weights by output, .* are for training"):
        fg.rank_analysis(problem, THETA)
    with pytest.raises(ValueError, match="weights by output"):
        fg.train(problem, THETA, regularize=fg.Evidence(), max_iter=2)
    assert repr(problem).startswith("Problem F(2,3,2): 30 samples, 17 parameters, squared loss")
    result = fg.train(problem, THETA, max_iter=2)
    assert repr(result).startswith("TrainResult: max_iter after 2 iterations, loss 0.")
