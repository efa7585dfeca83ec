"""One-sided descent on the boundaries between regions."""

import numpy as np
import pytest

import fastggn as fg
from fastggn import analysis


def test_figure_2_is_a_minimum_on_one_half_line():
    X, y = [[-2.0], [2.0]], [-3.0, -1.0]
    for v in (0.3, 1.0, 4.0):
        assert analysis.descent_direction(X, y, [0.0, v]) is None
        direction = analysis.descent_direction(X, y, [0.0, -v])
        assert direction[0] == -1.0  # the steeper of the two sides


def test_the_differentiable_boundary_minimum_has_none():
    r, q = 0.8, 1.5  # the counterexample to Corollary 2.7 (2)
    X = [[0.0, 1.0], [0.0, -1.0], [1.0, 1.0], [1.0, -1.0]]
    y = [-r, r, q + r / 2, q - r / 2]
    assert analysis.descent_direction(X, y, [q, 0.0, 1.0]) is None


@pytest.mark.parametrize("bias", [False, True])
def test_candidates_on_faces_against_random_directions(bias):
    """Where a direction is returned the loss falls; where none is, no random one descends."""
    rng = np.random.default_rng(3 + bias)
    T, n, h = (4, 1, 2) if bias else (4, 2, 1)
    found = {True: 0, False: 0}
    for _ in range(4):
        X, y = rng.standard_normal((T, n)), rng.standard_normal(T)
        net = fg.MLP((n, h, 1), "relu", bias="free" if bias else "none")
        problem = fg.Problem(net, X, y)
        records = analysis.enumerate_subglobal_minima(X, y, h, bias, "boundary")
        candidates = [r.theta for r in records if r.attained]
        for theta in candidates[:: 1 + len(candidates) // 8]:
            here = problem.loss(theta)
            direction = analysis.descent_direction(X, y, theta, bias)
            found[direction is None] += 1
            if direction is not None:
                assert np.abs(direction).max() == pytest.approx(1.0)
                assert problem.loss(theta + 1e-6 * direction) < here
                continue
            moves = 1e-6 * rng.uniform(-1, 1, (200, theta.size))
            lowest = min(problem.loss(theta + move) for move in moves) - here
            assert lowest > -1e-9 * max(1.0, np.abs(theta).max() ** 2)
    assert min(found.values()) >= 2, found


def test_interior_points_have_the_gradient():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((6, 2)), rng.standard_normal(6)
    problem = fg.Problem(fg.MLP((2, 2, 1), "relu"), X, y)
    theta = rng.standard_normal(problem.n_params)
    direction = analysis.descent_direction(X, y, theta, bias=True)
    assert problem.gradient(theta) @ direction < 0.0
    minimum = next(iter(analysis.enumerate_subglobal_minima(X, y, 2, True, "attained")))
    assert analysis.descent_direction(X, y, minimum.theta, bias=True) is None


@pytest.mark.parametrize(
    ("first", "count"), [(0, 30), pytest.param(30, 120, marks=pytest.mark.slow)]
)
def test_descent_is_seen_in_any_units(first, count):
    """Points on faces, with inputs and targets of 1e-12 to 1e12: the answers of usual units."""
    falling = 0
    for seed in range(first, first + count):
        rng = np.random.default_rng(seed)
        X, y, h = rng.normal(size=(4, 2)), rng.normal(size=4), int(rng.integers(1, 3))
        W, v = rng.normal(size=(h, 2)), rng.normal(size=h)
        W[0] = np.array([-X[0, 1], X[0, 0]]) * rng.normal()
        if seed % 2 == 0:  # where all units are at their kinks for all samples
            W[:] = 0.0
            X, y = np.abs(X), np.abs(y)
        usual = analysis.descent_direction(X, y, np.append(W.ravel(), v))
        a, b = 10.0 ** rng.uniform(-12.0, 12.0, 2)
        theta = np.append(W.ravel() * np.sqrt(b) / a, v * np.sqrt(b))
        found = analysis.descent_direction(a * X, b * y, theta)
        assert (found is None) == (usual is None), seed
        if found is not None:
            falling += 1
            net = fg.MLP((2, len(v), 1), "relu", bias="none")
            problem = fg.Problem(net, a * X, b * y)
            step = 1e-6 * found * np.repeat([np.sqrt(b) / a, np.sqrt(b)], [W.size, len(v)])
            assert problem.loss(theta + step) < problem.loss(theta), seed
    assert 0.5 * count < falling < 0.95 * count
