"""Labels at kinks of ReLU networks, beside closed forms and linear programmes."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog

import fastggn as fg
from fastggn import analysis

HUNDRED = pytest.mark.parametrize(
    ("first", "count"), [(0, 20), pytest.param(20, 120, marks=pytest.mark.slow)]
)


def _relu(widths, X, y, bias="none", activation="relu", **options):
    return fg.Problem(fg.MLP(widths, activation, bias=bias), X, y, **options)


def _differentiable_minimum(rng):
    """The counterexample to LSD, Corollary 2.7 (2), for random r and q, turned in the plane.

    On both sides of the kink the gradient is 0, and the loss is convex in v w.
    """
    r, q = rng.uniform(0.1, 2.0, 2)
    turn, _ = np.linalg.qr(rng.normal(size=(2, 2)))
    X = np.array([[0.0, 1.0], [0.0, -1.0], [1.0, 1.0], [1.0, -1.0]])
    y = np.array([-r, r, q + r / 2, q - r / 2])
    v = rng.uniform(0.3, 3.0)
    return _relu((2, 1, 1), X @ turn, y), np.append(np.array([q, 0.0]) @ turn / v, v)


def test_the_pages_differentiable_minimum():
    X = [[0.0, 1.0], [0.0, -1.0], [1.0, 1.0], [1.0, -1.0]]
    y = [-0.8, 0.8, 1.9, 1.1]
    problem = _relu((2, 1, 1), X, y)
    for polish in (False, True):
        report = fg.critical_point(problem, [1.5, 0.0, 1.0], polish=polish)
        assert report.label == "local_minimum" and report.gradient_norm < 1e-14
    with pytest.raises(ValueError, match="no eigenvalues: local_minimum, .*kink"):
        report.plot()
    assert report.polished.startswith("kink")
    assert analysis.polish(problem, [1.5, 1e-5, 1.0]).status == "kink"


def test_polishing_at_a_kink_or_towards_it_says_so():
    """100 of them: at the minimum, and a short way across its kink."""
    for seed in range(100):
        problem, theta = _differentiable_minimum(np.random.default_rng(seed))
        assert analysis.polish(problem, theta).status == "kink", seed
        across = np.array([-theta[1], theta[0], 0.0]) / np.hypot(*theta[:2])
        assert analysis.polish(problem, theta + 1e-5 * across).status == "kink", seed


def test_a_ray_of_descent_at_the_origin_is_a_saddle():
    """The loss (1 - v relu(w))^2 / 2 falls where v and w are positive, a quarter of the rays."""
    problem = _relu((1, 1, 1), [[1.0]], [1.0])
    assert fg.critical_point(problem, [0.0, 0.0]).label == "saddle"


@HUNDRED
def test_differentiable_minima_on_kinks(first, count):
    for seed in range(first, first + count):
        problem, theta = _differentiable_minimum(np.random.default_rng(seed))
        report = fg.critical_point(problem, theta, seed=seed)
        assert report.label == "local_minimum", (seed, report.reason)


@HUNDRED
def test_one_unit_at_zero_by_its_two_slopes(first, count):
    """At w = 0 the slopes to both sides are sums over the samples of one sign."""
    for seed in range(first, first + count):
        check_two_slopes(seed)


def check_two_slopes(seed):
    rng = np.random.default_rng(seed)
    T = int(rng.integers(2, 7))
    X, y, v = rng.normal(size=(T, 1)), rng.normal(size=T), rng.normal()
    slope = ["relu", "leaky_relu"][seed % 2]
    low = 0.0 if slope == "relu" else 0.01
    terms = -v * y * X[:, 0]
    right = terms[X[:, 0] > 0].sum() + low * terms[X[:, 0] < 0].sum()
    left = -terms[X[:, 0] < 0].sum() - low * terms[X[:, 0] > 0].sum()
    if min(abs(right), abs(left)) < 1e-3:
        return
    size = 10.0 ** rng.integers(-8, 9)
    problem = _relu((1, 1, 1), X / size, y * size, activation=slope)
    label = fg.critical_point(problem, [0.0, v * size], seed=seed).label
    if right > 0.0 and left > 0.0:
        expected = "local_minimum"
    else:
        expected = "saddle" if right < 0.0 and left < 0.0 else "not_critical"
    assert label == expected, seed


@pytest.mark.parametrize("seed", range(20))
def test_no_weights_at_all_are_a_saddle(seed):
    """At 0 the loss falls like -v sum y relu(w x), for one sign of v; its gradient is 0."""
    rng = np.random.default_rng(seed)
    T, n, h = (int(k) for k in rng.integers(1, 5, 3))
    problem = _relu((n, h, 1), rng.normal(size=(T, n)), 0.5 + rng.uniform(size=T))
    report = fg.critical_point(problem, np.zeros(problem.n_params), seed=seed)
    assert report.label == "saddle"
    here, there = problem.loss(np.zeros(problem.n_params)), problem.loss(report.descent_point)
    assert here - there == pytest.approx(report.decrease, rel=1e-6)


class Slope:
    """g(w) = -mean y sigma(x w), the slope of the loss of F = sigma(x w) at F = 0 along w."""

    def __init__(self, rng, T, n, low):
        self.X, self.y, self.low = rng.normal(size=(T, n)), rng.normal(size=T), low

    def __call__(self, w):
        z = w @ self.X.T
        return -np.where(z > 0.0, z, self.low * z) @ self.y / len(self.y)

    def gradients(self):
        """Return those on the cones between the samples' kinks, (K, n), and a ray of each kink."""
        kinks = np.array([[1.0], [-1.0]])
        inside = kinks
        if self.X.shape[1] == 2:
            kinks = np.vstack([self.X, -self.X])[:, ::-1] * [1.0, -1.0]
            angles = np.sort(np.arctan2(kinks[:, 1], kinks[:, 0]))
            middle = 0.5 * (angles + np.append(angles[1:], angles[0] + 2.0 * np.pi))
            inside = np.stack([np.cos(middle), np.sin(middle)], axis=1)
        active = np.where(inside @ self.X.T > 0.0, 1.0, self.low)
        return -(active * self.y) @ self.X / len(self.y), kinks

    def range(self):
        """Return the least and the largest slope over all unit vectors."""
        gradients, kinks = self.gradients()
        rays = np.vstack([kinks, gradients, -gradients])
        rays = rays[rays.any(axis=1)]
        slopes = self(rays / np.linalg.norm(rays, axis=1, keepdims=True))
        return slopes.min(), slopes.max()


def depth(gradients):
    """Return the largest t with a direction along which all slopes are at most -t; 0 without."""
    n = gradients.shape[1]
    rows = np.hstack([gradients, np.ones((len(gradients), 1))])
    bounds = [(-1.0, 1.0)] * n + [(0.0, None)]
    return -linprog(np.eye(n + 1)[n] * -1.0, rows, np.zeros(len(rows)), bounds=bounds).fun


def units_at_zero(seed):
    """Return a problem at which all incoming weights are 0, its label, and the descending rays.

    To first order the loss changes by sum v g(w); with v = 0 so it does to second order.
    """
    rng = np.random.default_rng(seed)
    name, low = [("relu", 0.0), ("leaky_relu", 0.01)][seed % 2]
    n, h = int(rng.integers(1, 3)), int(rng.integers(1, 3))
    slope = Slope(rng, int(rng.integers(2, 5)), n, low)
    v = rng.normal(size=h) if rng.random() < 0.8 else np.zeros(h)
    least, most = slope.range()
    if least * most > 0.0 and rng.random() < 0.7:
        v = np.abs(v) * np.sign(least)
    size = max(abs(least), abs(most))
    if min(abs(least), abs(most)) < 1e-2 * size or (v != 0.0).any() and np.abs(v).min() < 0.1:
        return None
    rays = rng.normal(size=(4000, h, n + 1))
    outer = v if v.any() else rays[:, :, n]
    share = np.mean((outer * slope(rays[:, :, :n])).sum(axis=1) < 0.0)
    problem = _relu((n, h, 1), slope.X, slope.y, activation=name)
    theta = problem.network.pack([np.zeros((h, n)), v[None]])
    if not v.any():
        return problem, theta, "saddle", share
    if all(least > 0.0 if w > 0.0 else most < 0.0 for w in v):
        return problem, theta, "local_minimum", share
    common = [depth(w * slope.gradients()[0]) / size for w in v]
    if any(0.0 < t < 1e-3 for t in common):
        return None
    return problem, theta, "not_critical" if max(common) > 0.0 else "saddle", share


@HUNDRED
def test_the_share_of_descending_rays(first, count):
    """Where rays descend, however few, no label says that none does: by the slopes' closed form."""
    labels, shares, seed = [], [], first
    while len(labels) < count:
        seed += 1001
        if (found := units_at_zero(seed)) is None:
            continue
        problem, theta, expected, share = found
        assert (share == 0.0) == (expected == "local_minimum"), seed
        report = fg.critical_point(problem, theta, seed=seed)
        assert report.label == expected, (seed, share, str(report))
        labels.append(expected)
        shares.append(share)
    assert set(labels) == {"saddle", "not_critical", "local_minimum"}
    assert count < 100 or min(share for share in shares if share > 0.0) < 0.1


@pytest.mark.parametrize("bias", [False, True])
def test_faces_against_linear_programmes(bias):
    """Candidates on faces are minima exactly where no one-sided derivative is negative."""
    rng = np.random.default_rng(5 + bias)
    T, n, h = (4, 1, 2) if bias else (4, 2, 1)
    seen = set()
    for _ in range(3):
        X, y = rng.standard_normal((T, n)), rng.standard_normal(T)
        problem = _relu((n, h, 1), X, y, bias="free" if bias else "none")
        records = analysis.enumerate_subglobal_minima(X, y, h, bias, "boundary")
        points = [r.theta for r in records if r.attained]
        for theta in points[:: 1 + len(points) // 10]:
            label = fg.critical_point(problem, theta).label
            falls = analysis.descent_direction(X, y, theta, bias) is not None
            seen.add(label)
            allowed = {"saddle", "not_critical"} if falls else {"local_minimum"}
            if not falls and np.abs(problem.network.unpack(theta)[1][0, :h]).min() < 1e-9:
                allowed |= {"saddle", "degenerate"}
            if problem.loss(theta) < 1e-20:
                allowed = {"global_minimum"}
            assert label in allowed, (label, falls, theta)
    assert "local_minimum" in seen


def test_a_sample_of_zeros_is_no_kink():
    """Without biases a unit's pre-activation at x = 0 is 0 for all weights."""
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(6, 2)), rng.normal(size=6)
    X[0] = 0.0
    problem = _relu((2, 1, 1), X, y)
    record = next(iter(analysis.enumerate_subglobal_minima(X, y, 1, which="attained")))
    report = fg.critical_point(problem, record.theta)
    assert report.label == "local_minimum" and "kink" not in report.reason


def test_a_slope_at_a_kink_is_not_critical():
    """A bias 0 at x = 0: the other weights have a slope."""
    X, y = np.array([[0.0], [1.0], [2.0]]), np.array([1.0, -1.0, 0.5])
    problem = _relu((1, 1, 1), X, y, bias="free")
    report = fg.critical_point(problem, [1.0, 0.0, 1.0, 0.0])
    assert report.label == "not_critical" and "kink" in report.reason


def test_weight_decay_at_a_kink_is_a_strict_minimum():
    """At 0 with l2 the slopes vanish, and l2 outweighs every product v relu(w x)."""
    X, y = np.array([[1.0], [-1.0]]), np.array([0.3, 0.2])
    problem = _relu((1, 1, 1), X, y, l2=1.0)
    assert fg.critical_point(problem, [0.0, 0.0]).label == "local_minimum"
    problem = _relu((1, 1, 1), X, y, l2=0.1)
    assert fg.critical_point(problem, [0.0, 0.0]).label == "saddle"
