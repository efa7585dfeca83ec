"""The parts of the classification against brute force: spectra, derivatives, polishing."""

import warnings

import numpy as np
import pytest
from critical_cases import BUILDERS, build, regression, xor_point

import fastggn as fg
from fastggn.analysis.critical import polishing
from fastggn.analysis.critical.manifold import level_manifold
from fastggn.analysis.critical.reduction import Reduction
from fastggn.analysis.critical.spectrum import dense_spectrum
from fastggn.analysis.critical.surface import Surface

# --- Lanczos beside dense, N of about 200 ---------------------------------------------------


def middle_sized(kind):
    """Return problem and theta: N = 205, a strict saddle or a minimum with weight decay."""
    rng = np.random.default_rng(7)
    X = rng.standard_normal((80, 4))
    Y = np.tanh(X @ rng.standard_normal((4, 5)))
    net = fg.MLP((4, 20, 5))
    if kind == "saddle":
        problem = fg.Problem(net, X, Y - Y.mean(axis=0))
        return problem, np.zeros(net.n_params)
    problem = fg.Problem(net, X, Y, l2=1e-3)
    return problem, fg.train(problem, seed=0, method="newton", max_iter=500).theta


@pytest.mark.parametrize(
    "kind, label",
    [
        pytest.param("saddle", "strict_saddle", marks=pytest.mark.slow),
        ("minimum", "local_minimum"),
    ],
)
def test_lanczos_agrees_with_dense(kind, label):
    problem, theta = middle_sized(kind)
    assert problem.n_params == 205
    dense = fg.critical_point(problem, theta, method="dense")
    lanczos = fg.critical_point(problem, theta, method="lanczos")
    assert dense.label == lanczos.label == label
    assert lanczos.lowest_eigenvalue == pytest.approx(dense.lowest_eigenvalue, rel=1e-6)
    positive, zero, negative = lanczos.inertia
    assert zero is None  # unknown; the others are lower bounds
    assert positive <= dense.inertia[0] and negative <= dense.inertia[2]
    assert (negative > 0) == (dense.inertia[2] > 0)
    if label == "strict_saddle":
        assert problem.loss(lanczos.descent_point) < problem.loss(theta) - 0.5 * lanczos.decrease
    np.testing.assert_allclose(sum(lanczos.inertia_estimate), 205)
    spread = 3 * np.sqrt(205)
    for got, want in zip(lanczos.inertia_estimate, dense.inertia, strict=True):
        assert abs(got - want) <= spread
    assert ">=" in str(lanczos) and "estimate" in str(lanczos)


def test_lanczos_at_a_zero_hessian():
    point = build("deep linear, W = 0, H = 2")
    report = fg.critical_point(point.problem, point.theta, method="lanczos")
    assert report.label in ("saddle", "degenerate")
    assert report.inertia == (0, None, 0)


def test_error_bound_holds_for_a_nearby_point():
    """Off the critical point by 1e-9 the bound covers the change of the eigenvalues."""
    point = build("XOR, active and inactive constant units")
    exact = np.linalg.eigvalsh(point.problem.hessian(point.theta))
    rng = np.random.default_rng(0)
    near = point.theta + 1e-9 * rng.standard_normal(point.theta.size)
    report = fg.critical_point(point.problem, near)
    assert report.label == "saddle"
    assert report.inertia == (3, 6, 0)
    np.testing.assert_allclose(report.eigenvalues[6:], exact[6:], rtol=1e-4)


# --- derivatives of the reduced function ----------------------------------------------------


def reduction_of(name):
    point = build(name)
    surface = Surface(point.problem)
    gradient = point.problem.gradient(point.theta)
    return point, Reduction(
        surface, point.theta, gradient, dense_spectrum(surface, point.theta, gradient)
    )


@pytest.mark.parametrize(
    "name", ["deep linear, W = 0, H = 2", "deep linear, first mode fitted, H = 2"]
)
def test_directional_derivatives_of_a_polynomial(name):
    """The loss of a linear network is a polynomial along a line: fitted exactly elsewhere."""
    point, reduction = reduction_of(name)
    rng = np.random.default_rng(1)
    n = reduction.basis @ rng.standard_normal(reduction.dimension)
    n /= np.linalg.norm(n)
    t = np.linspace(-1, 1, 7)
    losses = [point.problem.loss(point.theta + s * n) for s in t]
    coefficients = np.polynomial.polynomial.polyfit(t, losses, 6)
    found = reduction.derivatives(n)
    assert found.third == pytest.approx(6 * coefficients[3], abs=1e-11)
    assert found.third_error < 1e-9


@pytest.mark.parametrize(
    "name", ["XOR, two inactive units", "zero network on XOR, three units", "dead ReLU units"]
)
def test_reduced_quartic_against_the_loss(name):
    """f(theta + t n + r(t n)) - f is t^4 / 24 times the fourth derivative, to leading order."""
    point, reduction = reduction_of(name)
    rng = np.random.default_rng(2)
    for _ in range(3):
        n = reduction.basis @ rng.standard_normal(reduction.dimension)
        n /= np.linalg.norm(n)
        found = reduction.derivatives(n)
        assert abs(found.third) <= 1e-9
        t = 0.02
        rise = [reduction.point(s * t * n).loss - point.problem.loss(point.theta) for s in (-1, 1)]
        assert np.mean(rise) == pytest.approx(found.fourth * t**4 / 24, rel=5e-2, abs=1e-13)


@pytest.mark.parametrize("name", [n for n in BUILDERS if BUILDERS[n][0] == "saddle"])
def test_no_level_manifold_at_a_saddle(name):
    """Even where the search for descent is left out, for any random points."""
    point, reduction = reduction_of(name)
    loss = point.problem.loss(point.theta)
    spectrum = dense_spectrum(reduction.surface, point.theta, point.problem.gradient(point.theta))
    for seed in range(4):
        rng = np.random.default_rng(seed)
        assert level_manifold(reduction, loss, spectrum, rng) is None


def test_the_branch_is_known_near_the_point_only():
    """Above the threshold by 9 %, the manifold's points farther off are saddles."""
    problem, theta = xor_point([[0.8] * 4], [0.97])
    surface, gradient = Surface(problem), problem.gradient(theta)
    reduction = Reduction(surface, theta, gradient, dense_spectrum(surface, theta, gradient))
    for n in reduction.basis.T:
        assert reduction.known(0.5 * n) is None
        near = reduction.known(0.01 * n)
        assert np.linalg.norm(near.gradient) <= reduction.zero
        assert np.linalg.eigvalsh(problem.hessian(near.theta))[2] > 1e-4


# --- polishing ------------------------------------------------------------------------------

SADDLES = [n for n in BUILDERS if BUILDERS[n][0] == "strict_saddle"]


@pytest.mark.parametrize("name", SADDLES)
def test_saddles_stay_saddles(name):
    point = build(name)
    before = fg.critical_point(point.problem, point.theta)
    rng = np.random.default_rng(3)
    near = point.theta + 1e-4 * rng.standard_normal(point.theta.size)
    result = fg.analysis.polish(point.problem, near)
    assert result.status == "converged" and result.gradient_norm <= 1e-13
    assert np.linalg.norm(point.problem.gradient(result.theta)) <= 1e-13
    assert result.moved < 1e-2
    after = fg.critical_point(point.problem, result.theta)
    assert after.label == "strict_saddle"
    assert after.loss == pytest.approx(before.loss, rel=1e-6)
    # A point of a level set may have neighbours with more of them, none with fewer.
    assert after.inertia[2] >= before.inertia[2]


@pytest.mark.parametrize("name", ["XOR, two inactive units", "deep linear, W = 0, H = 2"])
def test_degenerate_saddles_stay(name):
    point = build(name)
    rng = np.random.default_rng(4)
    near = point.theta + 1e-3 * rng.standard_normal(point.theta.size)
    result = fg.analysis.polish(point.problem, near)
    assert result.gradient_norm <= 1e-13
    assert point.problem.loss(result.theta) == pytest.approx(point.problem.loss(point.theta))
    assert result.moved < 0.1


def test_polishing_without_matrices(monkeypatch):
    point = build("XOR, sigmoid output, the second family")
    dense = fg.analysis.polish(point.problem, point.theta + 1e-4)
    monkeypatch.setattr(polishing, "DENSE_LIMIT", 0)
    krylov = fg.analysis.polish(point.problem, point.theta + 1e-4)
    assert dense.status == krylov.status == "converged"
    assert point.problem.loss(krylov.theta) == pytest.approx(0.28234557 / 2, rel=1e-5)


def test_polish_stalls_where_the_gradient_has_a_least_norm():
    """The gradient norm of logistic regression on separable data has no zero."""
    X, Y = regression()
    problem = fg.Problem(fg.MLP((3, 2)), X, Y)
    result = fg.analysis.polish(problem, np.ones(8), tol=1e-300)
    assert result.status == "stalled" and result.gradient_norm < 1e-14
    assert "stalled" in str(result)
    assert result.to_dict()["n_iter"] == result.n_iter


@pytest.mark.parametrize(
    ("first", "count"), [(0, 20), pytest.param(20, 130, marks=pytest.mark.slow)]
)
def test_polishing_any_magnitude_ends_in_silence(first, count):
    """Inputs and targets of 1e-300 to 1e140: a status and a finite theta."""
    for seed in range(first, first + count):
        rng = np.random.default_rng(seed)
        sizes = 10.0 ** rng.choice([-300.0, -155.0, -20.0, 0.0, 20.0, 77.0, 140.0], 2)
        X, Y = sizes[0] * rng.normal(size=(6, 2)), sizes[1] * rng.normal(size=(6, 1))
        net = fg.MLP((2, 2, 1), str(rng.choice(["tanh", "relu", "softplus"])))
        loss = str(rng.choice(["squared", "huber", "cauchy", "smooth_lp"]))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", fg.FastGGNWarning)
            problem = fg.Problem(net, X, Y, loss)
            warnings.simplefilter("error", RuntimeWarning)
            result = fg.analysis.polish(problem, net.init(seed))
        assert np.isfinite(result.theta).all(), seed
        assert result.status in ("converged", "stalled", "kink", "max_iter")


@pytest.mark.parametrize("options", [{"tol": 0.0}, {"max_iter": 0}, {"tol": "small"}])
def test_polish_refuses(options):
    problem = fg.Problem(fg.MLP((2, 1)), np.eye(2), [1.0, 2.0])
    with pytest.raises((ValueError, TypeError), match=next(iter(options))):
        fg.analysis.polish(problem, np.zeros(3), **options)
