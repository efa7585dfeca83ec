"""The trust-region subproblem: against its optimality conditions, hard cases included."""

import numpy as np
import pytest

from fastggn.training.control import tridiagonal
from fastggn.training.control.trust_region import DenseModel, KrylovModel, SpectralModel, forcing

pytestmark = pytest.mark.nojit

N = 12
LARGE_LOSS = 1e6  # never promised


def symmetric(rng, values):
    q, _ = np.linalg.qr(rng.standard_normal((len(values), len(values))))
    return (q * values) @ q.T, q


def spectra(rng):
    """Name -> eigenvalues."""
    positive = np.geomspace(1e-3, 10.0, N)
    return {
        "positive": positive,
        "singular": np.concatenate([np.zeros(4), positive[4:]]),
        "indefinite": np.concatenate([[-2.0, -0.1], positive[2:]]),
        "negative": -positive[::-1],
        "double_lowest": np.concatenate([[-1.0, -1.0], positive[2:]]),
        "zero": np.zeros(N),
    }


def assert_optimal(h, g, ball, radius):
    """(H + shift I) p = -g with shift >= 0, H + shift I >= 0, shift (radius - |p|) = 0."""
    p = ball.step
    assert np.linalg.norm(p) <= radius * (1 + 1e-8)
    shift = -float(p @ (h @ p + g)) / float(p @ p) if p @ p > 0 else 0.0
    scale = np.linalg.norm(g) + np.linalg.norm(h) * np.linalg.norm(p)
    assert shift >= -1e-8 * np.linalg.norm(h)
    assert np.linalg.norm(h @ p + shift * p + g) <= 1e-7 * scale
    assert np.linalg.eigvalsh(h)[0] + shift >= -1e-7 * np.linalg.norm(h)
    if shift > 1e-6 * np.linalg.norm(h):
        assert np.linalg.norm(p) == pytest.approx(radius, rel=1e-6)
        assert ball.on_boundary
    assert ball.predicted == pytest.approx(-(g @ p + 0.5 * p @ h @ p), rel=1e-9, abs=1e-12)
    assert ball.predicted >= 0.0


@pytest.mark.parametrize("radius", [1e-6, 1e-2, 1.0, 100.0, 1e6])
@pytest.mark.parametrize("name", ["positive", "indefinite", "negative", "double_lowest"])
@pytest.mark.parametrize("seed", range(4))
def test_exact_solution(name, radius, seed):
    rng = np.random.default_rng(seed)
    h, _ = symmetric(rng, spectra(rng)[name])
    g = rng.standard_normal(N)
    assert_optimal(h, g, DenseModel(LARGE_LOSS * radius**2, g, h).step(radius), radius)


@pytest.mark.parametrize("seed", range(4))
def test_hard_case(seed):
    """The gradient has no part along the lowest eigenvector: it completes the step."""
    rng = np.random.default_rng(seed)
    h, q = symmetric(rng, spectra(rng)["indefinite"])
    g = q[:, 3:] @ rng.standard_normal(N - 3)
    for radius in (0.5, 1e4):
        ball = DenseModel(np.inf, g, h).step(radius)
        assert np.linalg.norm(ball.step) == pytest.approx(radius)
        assert_optimal(h, g, ball, radius)


def test_saddle_without_gradient():
    ball = DenseModel(np.inf, np.zeros(3), np.diag([1.0, -2.0, 3.0])).step(0.1)
    assert np.abs(ball.step) == pytest.approx([0.0, 0.1, 0.0])
    assert ball.predicted == pytest.approx(0.01)


@pytest.mark.parametrize("seed", range(8))
def test_singular_hessian_gives_the_shortest_newton_step(seed):
    """The rounding of the Hessian tilts its null space, so that g has a slope of 1e-14 there."""
    rng = np.random.default_rng(seed)
    h, q = symmetric(rng, spectra(rng)["singular"])
    g = q[:, 4:] @ rng.standard_normal(N - 4)
    model = DenseModel(np.inf, g, h)
    assert model.rank == N - 4
    ball = model.step(1e9)
    assert not ball.on_boundary
    np.testing.assert_allclose(ball.step, -np.linalg.pinv(h, rcond=1e-10) @ g, rtol=1e-8)


def test_flat_direction_with_a_slope_runs_to_the_boundary():
    ball = DenseModel(np.inf, np.array([1.0, 0.0]), np.zeros((2, 2))).step(3.0)
    np.testing.assert_allclose(ball.step, [-3.0, 0.0], atol=1e-9)
    assert ball.on_boundary


def test_promise_below_zero_takes_the_truncated_newton_step():
    """Small negative eigenvalues beside a nearly exact fit are not followed to the boundary."""
    h = np.diag([-1e-6, 1.0, 2.0])
    g = np.array([1e-12, 1e-6, 1e-6])
    ball = DenseModel(1e-12, g, h).step(1.0)
    np.testing.assert_allclose(ball.step, [0.0, -1e-6, -5e-7])
    assert not ball.on_boundary
    followed = DenseModel(1.0, g, h).step(1.0)
    assert followed.on_boundary


def test_rotation_changes_nothing():
    rng = np.random.default_rng(1)
    h, q = symmetric(rng, spectra(rng)["indefinite"])
    g = rng.standard_normal(N)
    turned = DenseModel(np.inf, q.T @ g, q.T @ h @ q).step(0.7).step
    np.testing.assert_allclose(q @ turned, DenseModel(np.inf, g, h).step(0.7).step, atol=1e-8)


@pytest.mark.parametrize("radius", [1e-6, 1e-2, 1.0, 1e6])
@pytest.mark.parametrize("name", list(spectra(None)))
@pytest.mark.parametrize("seed", range(4))
def test_steihaug(name, radius, seed):
    """Inside the ball, at least the decrease of the Cauchy point, and an honest prediction."""
    rng = np.random.default_rng(seed)
    h, _ = symmetric(rng, spectra(rng)[name])
    g = rng.standard_normal(N)
    ball = KrylovModel(g, lambda v: h @ v).step(radius)
    p = ball.step
    assert np.linalg.norm(p) <= radius * (1 + 1e-10)
    assert ball.predicted == pytest.approx(-(g @ p + 0.5 * p @ h @ p), rel=1e-8)
    curvature = g @ h @ g / (g @ g)
    length = np.linalg.norm(g)
    t = radius if curvature <= 0 else min(radius, length / curvature)
    cauchy = t * length - 0.5 * curvature * t**2
    assert ball.predicted >= cauchy * (1 - 1e-10)
    if not ball.on_boundary:
        assert np.linalg.norm(h @ p + g) <= forcing(length) * (1 + 1e-8)


def test_steihaug_without_gradient():
    ball = KrylovModel(np.zeros(3), lambda v: v).step(1.0)
    np.testing.assert_array_equal(ball.step, 0.0)
    assert ball.predicted == 0.0


# --- tridiagonal matrices -----------------------------------------------------------------------


def tridiagonals(rng):
    """Name -> (diagonal, what is beside it)."""
    return {
        "one": (rng.standard_normal(1), np.zeros(0)),
        "two": (rng.standard_normal(2), rng.standard_normal(1)),
        "many": (rng.standard_normal(40), rng.standard_normal(39)),
        "diagonal": (rng.standard_normal(9), np.zeros(9 - 1)),
        "equal": (np.full(6, 2.0), np.zeros(5)),
        "zero": (np.zeros(4), np.zeros(3)),
        "large": (1e150 * rng.standard_normal(9), 1e150 * rng.standard_normal(8)),
        "small": (1e-150 * rng.standard_normal(9), 1e-150 * rng.standard_normal(8)),
        "graded": (10.0 ** -np.arange(12.0), 10.0 ** -np.arange(1.0, 12.0)),
    }


def dense(d, e):
    return np.diag(d) + np.diag(e, 1) + np.diag(e, -1)


@pytest.mark.parametrize("name", list(tridiagonals(np.random.default_rng(0))))
def test_eigenvalues_of_tridiagonal_matrices(name):
    d, e = tridiagonals(np.random.default_rng(3))[name]
    values = np.linalg.eigvalsh(dense(d, e))
    scale = np.abs(values).max()
    np.testing.assert_allclose(tridiagonal.eigenvalues(d, e), values, rtol=0, atol=1e-14 * scale)


@pytest.mark.parametrize("name", ["one", "two", "many", "diagonal", "equal", "graded"])
def test_solutions_with_tridiagonal_matrices(name):
    rng = np.random.default_rng(4)
    d, e = tridiagonals(rng)[name]
    slopes = rng.standard_normal(d.size)
    low, high = tridiagonal.eigenvalues(d, e)[[0, -1]]
    shift = max(0.0, -low) + 0.1
    p = tridiagonal.step_at(d, e, slopes, shift)
    np.testing.assert_allclose((dense(d, e) + shift * np.eye(d.size)) @ p, -slopes, atol=1e-12)
    assert tridiagonal.step_at(d, e, slopes, -low - 0.1 * (1.0 + abs(high))) is None
    for radius in (1e-3, 0.5 * np.linalg.norm(p)):
        shift, p = tridiagonal.shift_of_length(d, e, slopes, max(0.0, -low), radius)
        assert np.linalg.norm(p) == pytest.approx(radius, rel=1e-9)
        system = dense(d, e) + shift * np.eye(d.size)
        np.testing.assert_allclose(system @ p, -slopes, atol=1e-11)


@pytest.mark.parametrize("radius", [1e-3, 0.1, 1.0, 1e3])
@pytest.mark.parametrize("name", ["positive", "indefinite", "negative", "double_lowest"])
@pytest.mark.parametrize("seed", range(3))
def test_both_decompositions_give_one_step(name, radius, seed, monkeypatch):
    """And that without eigenvectors, where the gradient has a part along the lowest one."""
    rng = np.random.default_rng(seed)
    h, _ = symmetric(rng, spectra(rng)[name])
    g = rng.standard_normal(N)
    expected = SpectralModel(np.inf, g, h).step(radius)

    def refuse(*arguments):
        raise AssertionError("eigenvectors")

    monkeypatch.setattr(np.linalg, "eigh", refuse)
    model = DenseModel(np.inf, g, h)
    ball = model.step(radius)
    np.testing.assert_allclose(ball.step, expected.step, atol=1e-9 * radius)
    assert ball.on_boundary == expected.on_boundary
    assert ball.predicted == pytest.approx(expected.predicted, rel=1e-9)
    assert model.rank == N


def test_rank_by_both_decompositions():
    rng = np.random.default_rng(0)
    for name, values in spectra(rng).items():
        h, _ = symmetric(rng, values)
        g = rng.standard_normal(N)
        assert DenseModel(1.0, g, h).rank == SpectralModel(1.0, g, h).rank, name


def test_one_parameter():
    ball = DenseModel(np.inf, np.array([2.0]), np.array([[4.0]])).step(10.0)
    np.testing.assert_allclose(ball.step, [-0.5])
    ball = DenseModel(np.inf, np.array([2.0]), np.array([[-4.0]])).step(10.0)
    np.testing.assert_allclose(ball.step, [-10.0])
