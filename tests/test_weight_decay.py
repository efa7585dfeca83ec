"""Weight decay by validation: the path, the choice, and what is refused."""

import json

import numpy as np
import pytest
from bayesian_cases import linear_problem, sine_problem

import fastggn as fg

GRID = [1e-1, 1e-2, 1e-3, 1e-4, 1e-5]


def test_ridge_regression():
    """A network without hidden layer: every point of the path is ridge regression."""
    problem, design = linear_problem(T=30, n=8, noise=1.0)
    test, fresh = linear_problem(T=200, n=8, noise=1.0)
    held = fresh[:, :8], test.targets
    path = fg.select_weight_decay(problem, held, grid=GRID, seed=0)
    losses = []
    for l2 in GRID:
        H = design.T @ design / 30 + l2 * np.eye(9)
        theta = np.linalg.solve(H, design.T @ problem.targets[:, 0] / 30)
        losses.append(0.5 * np.mean((fresh @ theta - test.targets[:, 0]) ** 2))
        if l2 == path.l2:
            np.testing.assert_allclose(path.result.theta, theta, rtol=1e-6)
    np.testing.assert_allclose(path.validation_losses, losses, rtol=1e-6)
    assert path.l2 == GRID[int(np.argmin(losses))]
    assert path.problem.l2 == path.l2
    assert path.result.loss == pytest.approx(path.problem.loss(path.result.theta))
    assert np.isnan(path.validation_errors).all()


@pytest.mark.slow
def test_folds_and_refit():
    problem = sine_problem(T=50, hidden=10, noise=0.3)
    path = fg.select_weight_decay(problem, 3, grid=GRID, seed=0, max_iter=80)
    assert (np.diff(path.grid) < 0).all()
    assert path.validation_losses.argmin() == path.grid.tolist().index(path.l2)
    assert np.isfinite(path.validation_errors).all()
    # The refit is on all samples.
    assert path.result.loss == pytest.approx(
        problem.with_l2(path.l2).loss(path.result.theta), rel=1e-12
    )
    # The held-out samples of a fold are not seen: less decay fits the training better and better.
    assert (np.diff(path.training_losses) < 1e-12).all()
    again = fg.select_weight_decay(problem, 3, grid=GRID[::-1], seed=0, max_iter=80)
    np.testing.assert_array_equal(again.validation_losses, path.validation_losses)
    X = np.linspace(-2, 2, 200)[:, None]
    plain = fg.train(problem, seed=0, max_iter=80)
    error, error_plain = (
        np.mean((problem.network.predict(r.theta, X) - np.sin(2 * X)) ** 2)
        for r in (path.result, plain)
    )
    assert error < error_plain


def test_a_weight_that_ends_at_zero_does_not_spoil_the_path():
    problem = sine_problem(T=50)
    path = fg.select_weight_decay(problem, 2, grid=[1e3, 1e-4], seed=0, max_iter=100)
    assert path.l2 == 1e-4
    assert path.result.loss < 0.1 * path.training_losses[0]


def test_report():
    path = fg.select_weight_decay(
        sine_problem(T=40), 2, grid=[1e-2, 1e-3, 1e-4], seed=0, max_iter=30
    )
    text = str(path)
    assert text.count("<- chosen") == 1
    assert ("edge of the grid" in text) == path.at_edge
    assert json.loads(json.dumps(path.to_dict()))["l2"] == path.l2
    pytest.importorskip("matplotlib", reason="extra 'plot'")
    axes = path.plot().axes[0]
    assert axes.get_xlabel()
    assert axes.get_ylabel()


def test_default_grid():
    path = fg.select_weight_decay(sine_problem(T=20, hidden=2), 2, seed=0, max_iter=5)
    assert path.grid.size == 17
    assert path.grid[0] == 1.0
    assert path.grid[-1] == pytest.approx(1e-8)


def test_refusals():
    problem = sine_problem(T=20)
    with pytest.raises(TypeError, match="problem must be"):
        fg.select_weight_decay(np.eye(3))
    with pytest.raises(ValueError, match="grid"):
        fg.select_weight_decay(problem, grid=[1.0, -1.0])
    with pytest.raises(ValueError, match="at least one"):
        fg.select_weight_decay(problem, grid=[])
    with pytest.raises(ValueError, match="at least 2"):
        fg.select_weight_decay(problem, 1)
    with pytest.raises(ValueError, match="30 folds, but there are 20"):
        fg.select_weight_decay(problem, 30)
    with pytest.raises(ValueError, match="held_out must be a number of folds"):
        fg.select_weight_decay(problem, None)
    with pytest.raises(ValueError, match="l2 = 0.5"):
        fg.select_weight_decay(problem.with_l2(0.5))
    for option in ({"regularize": fg.Evidence()}, {"checkpoint": "x"}):
        with pytest.raises(ValueError, match=next(iter(option))):
            fg.select_weight_decay(problem, **option)
    with pytest.raises(TypeError, match="no argument 'epochs'; did you mean 'max_iter'"):
        fg.select_weight_decay(problem, epochs=5)
    with pytest.raises(ValueError, match="max_iter"):
        fg.select_weight_decay(problem, max_iter=-1)
