"""Sub-sampled curvature of equations: each term is a stratum, drawn alike everywhere."""

import numpy as np
import pytest

import fastggn as fg
from fastggn.objective.strata import drawn_points, shares, spread_weights


def poisson(T=400, few=40, seed=0):
    rng = np.random.default_rng([53, seed])
    X, edge = rng.random((T, 2)), rng.random((few, 2))
    edge[:, 0] = np.round(edge[:, 0])

    def equation(x, u):
        source = np.sin(np.pi * x[:, 0]) * np.sin(np.pi * x[:, 1])
        return u.d("x", "x") + u.d("y", "y") + 2.0 * np.pi**2 * source

    pair = [fg.Term(X, equation), fg.Term(edge, lambda x, u: u.value, weight=100.0)]
    return fg.ResidualProblem(fg.MLP((2, 6, 1)), pair, inputs=("x", "y"))


def test_shares():
    """A term has its share, at least half of an equal one, or all of its points."""
    assert shares([1000, 1000], 100) == [50, 50]
    assert shares([10_000, 40], 1000) == [997, 40]
    assert shares([10_000, 400], 1000) == [962, 250]
    rng = np.random.default_rng(0)
    for _ in range(100):
        sizes = rng.integers(1, 500, rng.integers(1, 5))
        count = int(rng.integers(1, sizes.sum() + 1))
        found = shares(sizes, count)
        assert all(1 <= own <= size for own, size in zip(found, sizes, strict=True))
        assert sum(found) >= count


def test_a_draw_does_not_depend_on_the_ranks():
    """The union over ranks, in each term's own numbers, is that of one process."""
    whole = np.array([[40, 10]])
    for sizes in (np.array([[15, 0], [25, 10]]), np.array([[0, 4], [40, 0], [0, 6]])):
        want, drawn = drawn_points(whole, 0, 12, np.random.default_rng(3))
        for term in (0, 1):
            first, found = 0, []
            for rank in range(len(sizes)):
                rows, own = drawn_points(sizes, rank, 12, np.random.default_rng(3))
                assert own == drawn
                found.append(rows[term] + first)
                first += sizes[rank, term]
            np.testing.assert_array_equal(np.concatenate(found), want[term])


@pytest.mark.parametrize("count", [20, 100, 300])
def test_each_term_keeps_its_weight(count):
    """The weights of a drawn term sum to those of all of its points; means over draws agree."""
    problem = poisson()
    theta = problem.init(0)
    rng = np.random.default_rng(1)
    found = []
    for _ in range(300):
        part = problem.drawn(count, 1, rng)
        for own, weight in zip(part.point_weights(), (1.0, 100.0), strict=True):
            assert own.sum() / part.n_samples == pytest.approx(weight, rel=1e-12)
        found.append(part.loss(theta))
    mean, error = np.mean(found), np.std(found) / np.sqrt(len(found))
    assert abs(mean - problem.loss(theta)) < 4.0 * error
    np.testing.assert_array_equal(spread_weights(np.array([40, 10]), [40, 10]), 1.0)


def test_a_sampled_matrix_is_unbiased():
    problem = poisson(T=100, few=10)
    theta = problem.init(0)
    rng = np.random.default_rng(2)
    mean = np.mean([problem.drawn(50, 1, rng).ggn(theta) for _ in range(400)], axis=0)
    whole = problem.ggn(theta)
    assert np.linalg.norm(mean - whole) < 0.03 * np.linalg.norm(whole)


def test_runs_with_samples():
    """The same bits over threads and a resume; the loss falls about as with all points."""
    problem = poisson(T=2000, few=80)
    method = fg.LevenbergMarquardt(curvature_samples=250)
    runs = []
    for count in (1, 2):
        with fg.threads(count):
            runs.append(fg.train(problem, method=method, seed=0, max_iter=25))
    np.testing.assert_array_equal(runs[0].theta, runs[1].theta)
    assert 250 <= runs[0].history[0].curvature_samples < 400
    whole = fg.train(problem, seed=0, max_iter=25)
    assert runs[0].loss < 30.0 * whole.loss < 1e-1 * problem.loss(problem.init(0))


def test_a_resumed_run_draws_the_same(tmp_path):
    method = fg.LevenbergMarquardt(curvature_samples=100)
    whole = fg.train(poisson(), method=method, seed=0, max_iter=8)
    file = fg.Checkpoint(tmp_path / "run", resume=True)
    for count in (4, 8):
        found = fg.train(poisson(), method=method, seed=0, max_iter=count, checkpoint=file)
    np.testing.assert_array_equal(found.theta, whole.theta)
