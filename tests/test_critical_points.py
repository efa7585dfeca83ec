"""Points of known type are told apart, and every claim of descent is a loss that fell."""

import json
from functools import cache

import numpy as np
import pytest
from critical_cases import BUILDERS, build, linear, scalar, sigmoid_saddle, xor, xor_point

import fastggn as fg

MINIMA = ("global_minimum", "local_minimum")


@cache
def report_of(name, polish=False):
    point = build(name)
    return point, fg.critical_point(point.problem, point.theta, polish=polish)


@pytest.mark.parametrize("name", list(BUILDERS))
def test_label(name):
    point, report = report_of(name)
    assert report.label == point.label, str(report)
    assert report.gradient_norm <= report.gradient_tolerance
    assert sum(report.inertia) == point.problem.n_params


@pytest.mark.parametrize("name", list(BUILDERS))
def test_polishing_first_changes_no_label(name):
    point, report = report_of(name, polish=True)
    assert report.label == point.label, str(report)
    assert report.gradient_norm <= 1e-13


@pytest.mark.parametrize("name", [n for n in BUILDERS if "saddle" in BUILDERS[n][0]])
def test_descent_is_a_loss_that_fell(name):
    point, report = report_of(name)
    problem = point.problem
    here, there = problem.loss(point.theta), problem.loss(report.descent_point)
    assert here - there == pytest.approx(report.decrease, rel=1e-6, abs=1e-14)
    assert report.decrease > 1e-9 * here
    assert np.linalg.norm(report.descent_direction) == pytest.approx(1.0)
    curvature = report.descent_direction @ problem.hessian(point.theta) @ report.descent_direction
    if report.label == "strict_saddle":
        assert curvature == pytest.approx(report.lowest_eigenvalue, rel=1e-6)
        assert report.inertia[2] > 0 and report.descent_order == 2.0
    else:
        assert abs(curvature) < 1e-10
        assert report.inertia[2] == 0 and report.descent_order > 2.5


@pytest.mark.parametrize("name", [n for n in BUILDERS if BUILDERS[n][0] in MINIMA])
def test_minima_are_not_undercut_nearby(name):
    """Brute force: no random point of a small ball is lower, beyond rounding."""
    point = build(name)
    here = point.problem.loss(point.theta)
    rng = np.random.default_rng(0)
    for radius in (1e-1, 1e-2, 1e-3):
        for _ in range(200):
            step = rng.standard_normal(point.theta.size)
            step *= radius / np.linalg.norm(step)
            assert point.problem.loss(point.theta + step) >= here - 1e-14 * max(1.0, here)


@pytest.mark.parametrize("name", list(BUILDERS))
def test_inertia_is_that_of_the_dense_hessian(name):
    point, report = report_of(name)
    values = np.linalg.eigvalsh(point.problem.hessian(point.theta))
    cut = 1e-9 * max(1.0, np.abs(values).max())
    expected = tuple(
        int(n) for n in (sum(values > cut), sum(abs(values) <= cut), sum(values < -cut))
    )
    assert report.inertia == expected
    assert report.null_dimension == expected[1]


def test_known_inertias():
    """Values proved by hand, beside those of the Hessian's own eigenvalues."""
    expected = {
        "1 + z^2, the unique minimiser": (1, 1, 0),  # Hessian diag(2, 0) up to the mean
        "XOR, one constant unit above the threshold": (3, 2, 0),
        "XOR, two inactive units": (3, 6, 0),
        "XOR, active and inactive constant units": (3, 6, 0),
        "XOR, three units, one active": (3, 10, 0),
        "deep linear, W = 0, H = 2": (0, 12, 0),
        "deep linear, first mode fitted, H = 2": (3, 9, 0),
        "max(z, 0)^3, zero Hessian": (0, 2, 0),
    }
    for name, inertia in expected.items():
        assert report_of(name)[1].inertia == inertia, name


@pytest.mark.parametrize(
    "v, label", [(0.80, "strict_saddle"), (0.97, "local_minimum"), (-0.97, "local_minimum")]
)
def test_the_threshold_of_one_constant_unit(v, label):
    """XOR, F(2,1,1): a minimum iff |v| > |sigma''(z)| / (2 sigma'(z)^2), 0.888 at z = 0.8."""
    activation = fg.activations.get_activation("sigmoid")
    threshold = abs(activation.second_derivative(0.8)) / (2 * activation.derivative(0.8) ** 2)
    assert threshold == pytest.approx(0.888, abs=1e-3)
    problem, theta = xor_point([[0.8] * 4], [v])
    report = fg.critical_point(problem, theta)
    assert report.label == label
    assert report.loss == pytest.approx(0.125)


STRESS = [
    # hidden activation, z, |v| over the threshold, order of the samples
    ("sigmoid", 0.3, 1.1, (0, 1, 2, 3)),
    ("sigmoid", 0.3, 1.1, (3, 0, 2, 1)),
    ("sigmoid", 0.3, 0.94, (1, 3, 0, 2)),
    ("sigmoid", 0.8, 1.06, (2, 1, 3, 0)),
    ("sigmoid", 0.8, 1.35, (0, 1, 2, 3)),
    ("sigmoid", 1.5, 2.0, (1, 0, 3, 2)),
    ("tanh", 0.3, 1.06, (3, 2, 1, 0)),
    ("tanh", 1.5, 0.94, (2, 0, 1, 3)),
]


@pytest.mark.parametrize(
    "hidden, z, factor, order",
    [
        pytest.param(*case, marks=[] if number in (1, 2, 7) else pytest.mark.slow)
        for number, case in enumerate(STRESS)
    ],
)
def test_roundings_choose_no_label(hidden, z, factor, order):
    """Another order of the samples and other random points, on both sides of the threshold."""
    activation = fg.activations.get_activation(hidden)
    threshold = abs(activation.second_derivative(z)) / (2 * activation.derivative(z) ** 2)
    problem, theta = xor_point([[z] * 4], [factor * threshold], hidden)
    X, Y = fg.data.xor()
    problem = fg.Problem(problem.network, X[list(order)], Y[list(order)])
    report = fg.critical_point(problem, theta, seed=sum(order[:2]))
    assert report.label == ("local_minimum" if factor > 1 else "strict_saddle"), str(report)


def test_the_second_family_of_xor():
    """A sigmoid output has stationary points with F not 1/2 (Shen 2018, Section 5.1)."""
    problem, theta = sigmoid_saddle()
    report = fg.critical_point(problem, theta, polish=True)
    assert report.label == "strict_saddle"
    assert report.loss == pytest.approx(0.28235 / 2, abs=1e-5)
    # the paper's mean of squares has twice the Hessian
    assert 2 * report.lowest_eigenvalue == pytest.approx(-0.0167, abs=1e-4)


@pytest.mark.parametrize("seed", range(6))
def test_semi_definite_alone_is_no_minimum(seed):
    """XOR with inactive units of random weights: never called a minimum."""
    rng = np.random.default_rng(seed)
    signs = [(-1, -1, 1, 1), (-1, 1, -1, 1)]
    z = [rng.uniform(0.3, 1.5) * np.array(signs[k % 2]) for k in range(2 + seed % 2)]
    problem, theta = xor_point(z, np.zeros(len(z)))
    report = fg.critical_point(problem, theta)
    assert report.label in ("saddle", "strict_saddle", "degenerate")
    assert report.loss == pytest.approx(0.125)


def test_a_trained_fit_is_global_by_the_pointwise_certificate():
    """A small gradient and full row rank: the exact fit is found a short way off."""
    point = build("exact fit, over-parametrised")
    near = point.theta + 1e-10
    assert point.problem.loss(near) > 1e-22
    report = fg.critical_point(point.problem, near)
    assert report.label == "global_minimum"
    assert point.problem.jacobian(near).rank() == point.problem.n_samples


@pytest.mark.filterwarnings("ignore::fastggn.FastGGNWarning")
@pytest.mark.parametrize(
    "units, output, limits", [(1, "identity", {1 / 12}), (2, "sigmoid", {0.0, 1 / 16})]
)
def test_runs_to_infinity(units, output, limits):
    """Finite points are told from sequences that escape, whatever the gradient's norm."""
    problem = xor(units, "sigmoid", output)
    found = []
    for seed in range(8):
        start = np.random.default_rng(seed).standard_normal(problem.n_params)
        result = fg.train(problem, start, max_iter=400)
        polished = fg.analysis.polish(problem, result.theta)
        if np.abs(polished.theta).max() < 10.0:
            continue
        report = fg.critical_point(problem, polished.theta)
        assert report.label == "diverging", str(report)
        found.append(min(limits, key=lambda limit: abs(limit - report.loss)))
        assert report.loss == pytest.approx(found[-1], abs=1e-4)
    assert set(found) == limits


def test_separable_classes_diverge():
    X = np.array([[-2.0], [-1.0], [1.0], [2.0]])
    problem = fg.Problem(fg.MLP((1, 1)), X, np.array([0.0, 0, 1, 1]), loss="logistic")
    report = fg.critical_point(problem, [40.0, 0.0])
    assert report.label == "diverging"


@pytest.mark.parametrize("size", [60.0, 300.0, 1e6])
def test_saturated_units_make_no_minimum(size):
    """F(2,1,1) at z = +-size and the best output weights: the gradient underflows to zero."""
    problem = xor(1, "sigmoid", "identity")
    W1 = np.array([[size, size, -1.5 * size]])
    theta = problem.network.pack([W1, np.array([[-2 / 3, 2 / 3]])])
    report = fg.critical_point(problem, theta)
    assert report.loss == pytest.approx(1 / 12)
    assert report.label == "diverging", str(report)


def test_l2_keeps_everything_finite():
    X = np.array([[-2.0], [-1.0], [1.0], [2.0]])
    problem = fg.Problem(fg.MLP((1, 1)), X, np.array([0.0, 0, 1, 1]), loss="logistic", l2=1e-3)
    theta = fg.train(problem, seed=0, method="newton").theta
    assert fg.critical_point(problem, theta).label == "global_minimum"


@pytest.mark.filterwarnings("ignore::fastggn.SingularSystemWarning")
def test_equal_inputs_with_different_targets():
    """The floor of the loss is reached, though no sample is fitted."""
    X = np.array([[0.0], [0.0], [1.0]])
    problem = fg.Problem(fg.MLP((1, 3, 1)), X, np.array([0.0, 1.0, 2.0]))
    theta = fg.train(problem, seed=0, max_iter=200).theta
    report = fg.critical_point(problem, theta, polish=True)
    assert report.loss == pytest.approx(0.25 / 3)
    assert (report.label, report.reason[:12]) == ("global_minimum", "equal inputs")


def test_relu_at_a_kink_has_no_hessian():
    net = fg.MLP((1, 1, 1), activation="relu", bias="none")
    problem = fg.Problem(net, np.array([[1.0]]), np.array([[1.0]]))
    report = fg.critical_point(problem, [0.0, 0.0])
    assert report.label in ("saddle", "degenerate")
    assert "kink" in report.reason


def test_not_critical():
    problem, theta = scalar("square", [1, 2], [1, -1], 1, 0.3)
    report = fg.critical_point(problem, theta)
    assert report.label == "not_critical" and report.inertia is None
    assert "exceeds the tolerance" in report.reason and "polish=True" in report.reason


def test_the_tolerance_is_the_callers():
    problem, theta = sigmoid_saddle()
    assert fg.critical_point(problem, theta, grad_tol=1e-12).label == "not_critical"


@pytest.mark.filterwarnings("ignore::fastggn.SingularSystemWarning")
def test_escape_leaves_what_is_called_a_strict_saddle():
    point, report = report_of("deep linear, second mode fitted, H = 2")
    for escape in ("negative_curvature", "noise"):
        result = fg.train(point.problem, point.theta, leave_saddles=escape, seed=0)
        assert result.loss < report.loss - 1e-3


def test_report_as_text_and_plain_values():
    _, report = report_of("XOR, two inactive units")
    text = str(report)
    for part in ("saddle", "3 positive, 6 zero, 0 negative", "descent", "network evaluations"):
        assert part in text
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain["label"] == "saddle" and plain["inertia"] == [3, 6, 0]
    assert report.cost > 0


def test_picture(tmp_path):
    for name in ("XOR, two inactive units", "zero network, correlated", "linear regression"):
        figure = report_of(name)[1].plot()
        figure.savefig(tmp_path / "spectrum.png")
        assert figure.axes[0].get_ylabel() == "eigenvalue of the Hessian"
    problem, theta = scalar("square", [1, 2], [1, -1], 1, 0.3)
    with pytest.raises(ValueError, match="no eigenvalues"):
        fg.critical_point(problem, theta).plot()


@pytest.mark.parametrize(
    "options, error, match",
    [
        ({"theta": [1.0]}, ValueError, "theta"),
        ({"theta": [np.nan, 0.0, 0.0]}, ValueError, "theta"),
        ({"method": "sparse"}, ValueError, "method 'sparse' is unknown"),
        ({"method": "lanczos"}, ValueError, "at least 4"),
        ({"grad_tol": -1.0}, ValueError, "grad_tol"),
    ],
)
def test_bad_input(options, error, match):
    problem = fg.Problem(fg.MLP((2, 1)), np.eye(2), [1.0, 2.0])
    arguments = {"theta": np.zeros(3), **options}
    with pytest.raises(error, match=match):
        fg.critical_point(problem, arguments.pop("theta"), **arguments)


def test_linear_networks_of_random_data():
    """Kawaguchi's minima are global: trained deep linear networks get the certificate."""
    rng = np.random.default_rng(4)
    W = [rng.standard_normal(shape) for shape in ((2, 3), (2, 2), (3, 2))]
    problem, theta = linear(W, rng.standard_normal((3, 12)), rng.standard_normal((12, 3)))
    theta = fg.train(problem, theta, method="newton", max_iter=500).theta
    report = fg.critical_point(problem, theta)
    assert report.label == "global_minimum" and "optimum" in report.reason
