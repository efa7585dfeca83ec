"""Networks with fixed gates, the errata of the decomposition, and Section 3's constructions."""

import numpy as np
import pytest
from scipy.optimize import least_squares

import fastggn as fg
from fastggn import analysis


def naive_gated(X, y, patterns, theta, bias):
    """Return half the sum of squares of Eq. (2), written out."""
    h, n = len(patterns), X.shape[1]
    inner = theta[: h * (n + bias)].reshape(h, n + bias)
    v = theta[h * (n + bias) : h * (n + bias) + h]
    total = 0.0
    for x, target, a in zip(X, y, np.transpose(patterns), strict=True):
        output = theta[-1] if bias else 0.0
        for j in range(h):
            z = inner[j, :n] @ x + (inner[j, n] if bias else 0.0)
            output += v[j] * a[j] * z
        total += 0.5 * (output - target) ** 2
    return total


def samples(rng, bias):
    T, n, h = 6, 2, 2
    X, y = rng.standard_normal((T, n)), rng.standard_normal(T)
    return X, y, rng.random((h, T)) < 0.6


@pytest.mark.parametrize("bias", [False, True])
def test_gated_loss_gradient_and_hessian(bias):
    rng = np.random.default_rng(0)
    X, y, patterns = samples(rng, bias)
    problem = analysis.gated_problem(X, y, patterns, bias)
    theta = rng.standard_normal(problem.n_params)

    def loss(point):
        return naive_gated(X, y, patterns, point, bias) / len(X)

    assert problem.loss(theta) == pytest.approx(loss(theta), rel=1e-13)
    step = 1e-5
    moves = step * np.eye(problem.n_params)
    slope = [(loss(theta + m) - loss(theta - m)) / (2 * step) for m in moves]
    np.testing.assert_allclose(problem.gradient(theta), slope, atol=1e-8)
    bend = [(problem.gradient(theta + m) - problem.gradient(theta - m)) / (2 * step) for m in moves]
    np.testing.assert_allclose(problem.hessian(theta), bend, atol=1e-7)


def critical_point(problem, rng, descend):
    """Return the end of a descent, which is a minimum, or a zero of the gradient of any kind."""
    if descend:
        start = rng.standard_normal(problem.n_params)
        return fg.train(problem, start, max_iter=500, stop=fg.Stop(gradient=1e-12)).theta
    start = 0.3 * rng.standard_normal(problem.n_params)
    return least_squares(problem.gradient, start, problem.hessian, xtol=1e-15, ftol=1e-15,
                         gtol=1e-15, max_nfev=150).x  # fmt: skip


@pytest.mark.filterwarnings("ignore::fastggn.runtime.errors.SingularSystemWarning")
@pytest.mark.parametrize("bias", [False, True])
def test_critical_points_are_global_or_strict_saddles(bias):
    """Theorem 2.5 at critical points found numerically: 0 that are neither."""
    rng = np.random.default_rng(1 + bias)
    labels = []
    for trial in range(40):
        X, y, patterns = samples(rng, bias)
        problem = analysis.gated_problem(X, y, patterns, bias)
        point = critical_point(problem, rng, descend=bool(trial % 2))
        if np.linalg.norm(problem.gradient(point)) > 1e-10:
            continue
        report = analysis.classify_gated(X, y, patterns, point, bias)
        labels.append(report.label)
        lowest = np.linalg.eigvalsh(problem.hessian(point))[0] * len(X)
        gap = report.loss - report.subglobal_loss
        if report.label == "global_minimum":
            assert gap <= 1e-9 and lowest >= -1e-7
        else:
            assert report.label == "strict_saddle" and gap > 1e-9 and lowest < 0.0
            assert np.linalg.norm(report.direction) == pytest.approx(1.0)
            assert lowest - 1e-9 <= report.curvature < 0.0
            bend = report.direction @ problem.hessian(point) @ report.direction
            assert len(X) * bend == pytest.approx(report.curvature)
    assert labels.count("global_minimum") >= 10 and labels.count("strict_saddle") >= 10


def test_points_that_are_not_critical():
    rng = np.random.default_rng(2)
    X, y, patterns = samples(rng, False)
    report = analysis.classify_gated(X, y, patterns, np.ones(6))
    assert report.label == "not_critical" and "gradient" in str(report)
    assert report.to_dict()["direction"] is None
    with pytest.raises(ValueError, match="theta must have shape"):
        analysis.classify_gated(X, y, patterns, np.ones(5))


def test_subglobal_minima_are_global_for_their_gates():
    rng = np.random.default_rng(3)
    for bias in (False, True):
        X, y, patterns = samples(rng, bias)
        theta = analysis.subglobal_minimum(X, y, patterns, bias).theta
        assert analysis.classify_gated(X, y, patterns, theta, bias).label == "global_minimum"


def test_zero_weights_are_a_strict_saddle_unless_nothing_is_to_be_fitted():
    X, y = np.array([[1.0, 0.0], [0.0, 1.0]]), np.array([1.0, -1.0])
    active = analysis.classify_gated(X, y, np.ones((2, 2)), np.zeros(6))
    assert active.label == "strict_saddle" and active.blocked_units == (0, 1)
    dead = analysis.classify_gated(X, y, np.zeros((2, 2)), np.zeros(6))
    assert dead.label == "global_minimum" and dead.loss == dead.subglobal_loss == 1.0


def test_erratum_of_lemma_2_2():
    """Lemma 2.2 takes differentiable points for interior ones: x = y = 1, (v, w) = (0, 0)."""
    X, y, origin = np.array([[1.0]]), np.array([1.0]), np.zeros(2)
    problem = fg.Problem(fg.MLP((1, 1, 1), "relu", bias="none"), X, y)
    # L_f is differentiable there: |L_f(d) - L_f(0)| is of second order.
    for direction in np.random.default_rng(0).standard_normal((20, 2)):
        change = problem.loss(1e-6 * direction) - problem.loss(origin)
        assert abs(change) <= 1e-11 * (direction @ direction)
    # By Definition 2.1 its pattern is 0, where L_gA is constant: a local minimum.
    assert analysis.classify_gated(X, y, [[0]], origin).label == "global_minimum"
    # But L_f falls.
    drop = problem.loss([0.1, 0.1]) - problem.loss(origin)
    assert drop == pytest.approx(-0.00995)
    place = analysis.region_of(X, y, origin)
    assert not place.interior and not place.patterns.any() and place.margin == 0.0


def test_erratum_of_corollary_2_7():
    """A differentiable local minimum on a boundary, .8, above its pattern's subglobal .64."""
    r, q = 0.8, 1.5
    X = np.array([[0.0, 1.0], [0.0, -1.0], [1.0, 1.0], [1.0, -1.0]])
    y = np.array([-r, r, q + r / 2, q - r / 2])
    theta = np.array([q, 0.0, 1.0])
    problem = fg.Problem(fg.MLP((2, 1, 1), "relu", bias="none"), X, y)
    assert 4 * problem.loss(theta) == pytest.approx(0.8)
    place = analysis.region_of(X, y, theta)
    assert not place.interior and place.on_boundary[0].tolist() == [True, True, False, False]
    assert analysis.subglobal_minimum(X, y, place.patterns).loss == pytest.approx(0.64)
    rng = np.random.default_rng(0)
    for size in (1e-2, 1e-4):
        for direction in rng.standard_normal((500, 3)):
            direction *= size / np.linalg.norm(direction)
            change = problem.loss(theta + direction) - problem.loss(theta)
            assert change >= -1e-15
            assert change <= 20 * size**2  # differentiable, with gradient zero
    # It is subglobal for a neighbouring pattern.
    values = [
        record.loss
        for record in analysis.enumerate_subglobal_minima(X, y, 1)
        if (record.patterns[0, 2:]).all()
    ]
    assert min(abs(value - 0.8) for value in values) < 1e-12
    faces = analysis.enumerate_subglobal_minima(X, y, 1, which="boundary")
    assert min(abs(record.loss - 0.8) for record in faces if record.attained) < 1e-12


@pytest.mark.parametrize("h", [1, 2, 5, (1, 1), (4, 3), (2, 1, 5), (3, 3, 3, 3)])
@pytest.mark.filterwarnings("ignore::fastggn.SingularSystemWarning")  # linear units: rank 4
def test_training_stays_in_the_linear_region(h):
    """Section 3.1: all pre-activations >= 1, the loss of linear regression, and it is stable."""
    hidden = (h,) if isinstance(h, int) else h
    rng = np.random.default_rng(hidden)
    X = rng.standard_normal((30, 3))
    y = np.sin(X[:, 0]) + X[:, 1] * X[:, 2]
    theta = analysis.linear_region_minimum(X, y, h)
    net = fg.MLP((3, *hidden, 1), "relu")
    problem = fg.Problem(net, X, y)
    signal = X
    for W in net.unpack(theta)[:-1]:
        signal = signal @ W[:, :-1].T + W[:, -1]
        assert signal.min() >= 1.0 - 1e-11
    line = np.column_stack([X, np.ones(30)])
    residual = y - line @ np.linalg.lstsq(line, y, rcond=None)[0]
    floor = 0.5 * np.mean(residual**2)
    assert problem.loss(theta) == pytest.approx(floor, rel=1e-11)
    assert np.linalg.norm(problem.gradient(theta)) <= 1e-11
    assert_training_returns(problem, theta, floor, rng, len(hidden) == 1)


@pytest.mark.parametrize("seed", range(50))
def test_the_linear_region_of_random_networks(seed):
    """No point around it has a lower loss, at any depth and width, margin and size of the data."""
    rng = np.random.default_rng(seed)
    n, T = int(rng.integers(1, 4)), int(rng.integers(3, 12))
    hidden = [int(w) for w in rng.integers(1, 5, int(rng.integers(1, 5)))]
    X, y = 10.0 ** rng.integers(-2, 3) * rng.standard_normal((T, n)), rng.standard_normal(T)
    theta = analysis.linear_region_minimum(X, y, hidden, margin=0.1 + rng.random(), seed=seed)
    problem = fg.Problem(fg.MLP((n, *hidden, 1), "relu"), X, y)
    line = np.column_stack([X, np.ones(T)])
    floor = 0.5 * np.mean((y - line @ np.linalg.lstsq(line, y, rcond=None)[0]) ** 2)
    assert problem.loss(theta) == pytest.approx(floor, rel=1e-8, abs=1e-14)
    for _ in range(20):
        near = theta + 1e-6 * rng.standard_normal(theta.size)
        assert problem.loss(near) >= floor * (1.0 - 1e-9) - 1e-14


def assert_training_returns(problem, theta, floor, rng, shallow=True):
    """Gradient descent too, in a shallow network: a fixed rate suits no product of many weights."""
    methods = (("lm", 1e-10), (fg.GradientDescent(rate=0.02), 1e-4))
    for method, above in methods[: 1 + shallow]:
        start = theta + 1e-3 * rng.standard_normal(theta.size)
        result = fg.train(problem, start, method=method, max_iter=300)
        assert floor - 1e-12 <= result.loss <= floor + above


@pytest.mark.parametrize("layer", [1, 2])
@pytest.mark.filterwarnings("ignore::fastggn.UnitsWarning")  # the dead unit is the point
def test_minima_of_a_narrower_network_stay(layer):
    """Section 3.2 in the hidden layers of a deeper network, trained to its own minimum first."""
    rng = np.random.default_rng(layer)
    X = rng.standard_normal((25, 2))
    y = np.abs(X[:, 0]) + 0.3 * X[:, 1]
    net = fg.MLP((2, 3, 2, 1), "relu")
    problem = fg.Problem(net, X, y)
    trained = fg.train(problem, seed=4, max_iter=500, stop=fg.Stop(gradient=1e-12))
    wider, theta = analysis.widen_with_dead_unit(net, trained.theta, X, layer=layer)
    assert wider.widths == ((2, 4, 2, 1) if layer == 1 else (2, 3, 3, 1))
    wide = fg.Problem(wider, X, y)
    assert wide.loss(theta) == pytest.approx(trained.loss, rel=1e-12)
    np.testing.assert_allclose(wide.outputs(theta), problem.outputs(trained.theta), atol=1e-14)
    gradient = np.linalg.norm(wide.gradient(theta))
    assert gradient <= trained.gradient_norm * (1 + 1e-9) + 1e-14
    result = fg.train(wide, theta, max_iter=100)
    assert result.loss == pytest.approx(trained.loss, rel=1e-6)


def test_erratum_of_section_3_2():
    """b_j = -max_i w_j^T h_i puts a sample on the boundary; strictly below, none is."""
    rng = np.random.default_rng(5)
    X, y = rng.standard_normal((10, 2)), rng.standard_normal(10)
    net = fg.MLP((2, 1, 1), "relu")
    theta = analysis.linear_region_minimum(X, y, 1)
    wider, wide = analysis.widen_with_dead_unit(net, theta, X)
    place = analysis.region_of(X, y, wide, bias=True)
    assert place.interior and not place.patterns[1].any()
    layers = [w.copy() for w in wider.unpack(wide)]
    layers[0][1, 2] = -(X @ layers[0][1, :2]).max()  # as printed
    printed = analysis.region_of(X, y, wider.pack(layers), bias=True)
    assert not printed.interior and printed.on_boundary[1].sum() == 1


def test_constructions_refuse_what_they_cannot_do():
    X, y = np.ones((3, 1)), np.ones(3)
    with pytest.raises(ValueError, match="margin"):
        analysis.linear_region_minimum(X, y, 1, margin=0.0)
    net = fg.MLP((1, 2, 1), "relu", bias="none")
    with pytest.raises(ValueError, match="free biases"):
        analysis.widen_with_dead_unit(net, np.zeros(4), X)
    net = fg.MLP((1, 2, 1), "tanh")
    with pytest.raises(ValueError, match="ReLU units, not tanh"):
        analysis.widen_with_dead_unit(net, np.zeros(7), X)
    with pytest.raises(ValueError, match="layer must be a hidden layer"):
        analysis.widen_with_dead_unit(net, np.zeros(7), X, layer=2)
