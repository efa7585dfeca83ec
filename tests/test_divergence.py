"""DivergenceTest on sequences whose fate is known."""

import numpy as np

import fastggn as fg
from fastggn.training.control.divergence import DivergenceTest, has_minimum


def fate(records, converged=False):
    """The iteration at which the test first holds, or None."""
    test = DivergenceTest()
    for k, record in enumerate(records):
        test.observe(*record)
        if k and test.holds(converged=converged):
            return k
    return None


def path(x, loss, gradient):
    """(loss, gradient norm, theta norm, step norm) along the points x of a line."""
    x = np.asarray(x, float)
    steps = np.concatenate([[0.0], np.abs(np.diff(x))])
    return list(zip(loss(x), np.abs(gradient(x)), np.abs(x), steps, strict=True))


def test_exponential_tail_diverges():
    x = np.arange(1, 40)
    assert fate(path(x, lambda x: np.exp(-x), lambda x: np.exp(-x))) == 14


def test_exponential_tail_is_told_earlier_when_converged():
    x = np.arange(1, 40)
    assert fate(path(x, lambda x: np.exp(-x), lambda x: np.exp(-x)), converged=True) == 7


def test_linear_convergence_from_below_does_not():
    x = 5.0 - 4.0 * 0.8 ** np.arange(200)
    path_ = path(x, lambda x: 1 + (x - 5) ** 2, lambda x: 2 * (x - 5))
    assert fate(path_) is None
    assert fate(path_, converged=True) is None


def test_quadratic_convergence_does_not():
    x = 5.0 - np.array([1.0, 1e-1, 1e-2, 1e-4, 1e-8, 1e-15])
    assert fate(path(x, lambda x: (x - 5) ** 2, lambda x: 2 * (x - 5)), converged=True) is None


def test_flat_minimum_does_not():
    """Newton's method on (x - 5)^4 and ^8 from below: linear, the gradient far faster."""
    for power in (4, 8):
        x = 5.0 - 4.0 * ((power - 2) / (power - 1)) ** np.arange(150)
        records = path(x, lambda x, p=power: (x - 5) ** p, lambda x, p=power: (x - 5) ** (p - 1))
        assert fate(records) is None
        assert fate(records, converged=True) is None


def test_slow_growth_at_an_almost_constant_gradient_does_not():
    x = np.arange(1, 300)
    assert fate(path(x, lambda x: 1 / x, lambda x: 1 / x**2)) is None


def test_growing_steps_of_little_length_do_not():
    """A zigzag in a valley far from the origin, with a gradient that falls a thousandfold."""
    x = 800.0 + 0.01 * np.arange(40)
    g = np.geomspace(1, 1e-9, 40)
    records = [(1 - 1e-9 * k, g[k], x[k], 0.01) for k in range(40)]
    assert fate(records) is None


def test_zigzag_of_one_length_is_told_when_converged():
    """Newton's method in a valley that leads to infinity: the gradient alternates."""
    g = [1.0, 1e-2, 1e-4, *([1e-6, 1e-10] * 5)]
    x = 10.0 + 0.2 * np.arange(len(g))
    records = [(1.0 - 0.01 * k, g[k], x[k], 0.2) for k in range(len(g))]
    assert fate(records, converged=True) is not None
    assert fate(records) is None


def test_zigzag_with_jumps_is_not_told_before_convergence():
    """A finite minimum far along a curved valley: steps and gradient jump (a real run)."""
    g = np.array([1.0, 5e-1, 1e-5, 6e-6, 4e-6, 2e-6, 4e-6, 2e-5, 1e-5, 5e-6, 2e-6, 9e-7, 9e-7])
    steps = [0.0, 0.1, 0.3, 0.03, 0.006, 0.03, 0.1, 0.2, 0.015, 0.01, 0.005, 0.1, 0.3]
    x = 10.0 + np.cumsum(steps)
    records = [(1.0 - 0.01 * k, g[k], x[k], steps[k]) for k in range(len(g))]
    assert fate(records) is None


def test_boundary_steps_to_a_finite_minimum_do_not():
    """A trust region that doubles on the way to a least-squares solution."""
    x = np.array([1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 200.0])
    records = path(x, lambda x: 1 + (x - 200) ** 2, lambda x: 2 * (x - 200))
    assert fate(records, converged=True) is None


def test_leap_to_saturation_is_told_when_converged():
    records = [(1.0, 1.0, 2.0, 0.0), (0.5, 0.0, 1e9, 1e9)]
    assert fate(records, converged=True) == 1
    assert fate(records) is None


def test_leap_to_an_exact_fit_is_not():
    assert fate([(1.0, 1.0, 2.0, 0.0), (1e-30, 1e-16, 1e9, 1e9)], converged=True) is None


def test_one_step_shows_a_minimum():
    """50 exact fits of teachers, each from a point nearby."""
    for seed in range(50):
        rng = np.random.default_rng(seed)
        net = fg.MLP((2, 2, 1))
        X, theta = rng.standard_normal((30, 2)), net.init(rng, "normal")
        problem = fg.Problem(net, X, net.predict(theta, X))
        point = problem.at(theta + 1e-6 * rng.standard_normal(9))
        assert has_minimum(problem, point) or np.linalg.cond(problem.ggn(theta)) > 1e6, seed
