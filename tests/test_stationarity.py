"""Stationary points of Theorems 1 and 4, and degenerate activation points with their errata."""

import json

import naive
import numpy as np
import pytest
from critical_cases import cubed_relu
from naive_shallow import Shallow

import fastggn as fg
from fastggn import analysis


def quartic():
    return fg.Activation.custom(
        "quartic", lambda z: z**4, lambda z: 4.0 * z**3, lambda z: 12.0 * z**2
    )


def problem_of(activation, X, Y, W1, W0):
    """Paper's shapes: X (n, d), Y (m, d), W1 (m, r), W0 (r, n)."""
    X, Y, W1, W0 = (np.atleast_2d(np.array(a, dtype=float)) for a in (X, Y, W1, W0))
    net = fg.MLP((X.shape[0], W0.shape[0], Y.shape[0]), activation=activation, bias="none")
    return fg.Problem(net, X.T, Y.T), net.pack([W0, W1])


# --- Theorems 1 and 4 -------------------------------------------------------------------------


def test_zero_misfit_and_orthogonality():
    rng = np.random.default_rng(0)
    for layers in (1, 2, 3):
        net = fg.MLP((2, *[5] * layers, 2))
        X, theta = rng.standard_normal((6, 2)), net.init(layers)
        exact = fg.Problem(net, X, net.predict(theta, X))
        assert analysis.stationarity_split(exact, theta).kind == "zero_misfit"
        other = fg.Problem(net, X, rng.standard_normal((6, 2)))
        assert analysis.stationarity_split(other, theta).kind == "not_stationary"
    few = fg.MLP((2, 1, 1))
    X = rng.standard_normal((20, 2))
    problem = fg.Problem(few, X, np.tanh(X[:, :1]) + 0.3 * rng.standard_normal((20, 1)))
    theta = fg.train(
        problem, seed=0, method="newton", stop=fg.Stop(gradient=1e-12), max_iter=300
    ).theta
    split = analysis.stationarity_split(problem, theta)
    assert split.kind == "orthogonality" and split.misfit > 0.05
    assert {c.holds_by for c in split.layers} == {"orthogonality"}
    assert "orthogonality" in str(split)
    assert json.loads(json.dumps(split.to_dict()))["kind"] == "orthogonality"


def test_products_are_the_gradient_of_every_layer():
    """Eq. 26 with the residual factor that it leaves out."""
    rng = np.random.default_rng(1)
    net = fg.MLP((3, 4, 3, 2), activation=("tanh", "softplus"))
    weights = rng.uniform(0.5, 2.0, 7)
    problem = fg.Problem(
        net, rng.standard_normal((7, 3)), rng.standard_normal((7, 2)), sample_weight=weights
    )
    theta = net.init(2)
    split = analysis.stationarity_split(problem, theta)
    for condition, part in zip(split.layers, net.unpack(problem.gradient(theta)), strict=True):
        assert condition.product == pytest.approx(np.linalg.norm(part), rel=1e-10)
    # Without the residual factor Eq. 26 would not vanish at an exact fit.
    outputs = problem.layer_sensitivities(theta)
    assert np.linalg.norm(outputs[0]) > 0.1


@pytest.mark.parametrize("widths", [(2, 3, 1), (2, 3, 4, 1)])
def test_corollaries_1_1_and_4_1(widths):
    """sigma = sigma' = 0 in the last hidden layer: stationary for any last weights."""
    rng = np.random.default_rng(2)
    net = fg.MLP(widths, activation="relu", bias="none")
    layers = [rng.standard_normal((n, m)) for n, m in net.layer_shapes]
    layers[-2] = -np.abs(layers[-2])
    X = np.abs(rng.standard_normal((5, 2)))
    problem = fg.Problem(net, X, rng.standard_normal(5))
    theta = net.pack(layers)
    np.testing.assert_array_equal(problem.gradient(theta), 0.0)
    split = analysis.stationarity_split(problem, theta)
    assert split.kind == "orthogonality"
    assert split.layers[-1].holds_by == "inputs vanish"
    assert split.layers[0].holds_by == "errors vanish"


# --- Theorem 3 --------------------------------------------------------------------------------


def test_theorem_3_has_the_other_sign():
    """v^T H v = -sum (What_0 x)^2 sigma'' (W_1^T y) on 300 points with sigma = z^2, W_0 = 0."""
    rng = np.random.default_rng(3)
    square = naive.ACTIVATIONS["square"]
    for _ in range(300):
        n, r, m, d = rng.integers(1, 4, 4)
        X, Y = rng.standard_normal((n, d)), rng.standard_normal((m, d))
        W1, V = rng.standard_normal((m, r)), rng.standard_normal((r, n))
        problem, theta = problem_of("square", X, Y, W1, np.zeros((r, n)))
        point = analysis.degenerate_activation(problem, theta)
        assert point.holds
        total = np.sum((V @ X) ** 2 * 2.0 * (W1.T @ Y))
        v = problem.network.pack([V, np.zeros((m, r))])
        curvature = d * (v @ problem.hessian(theta) @ v)
        assert curvature == pytest.approx(-total, abs=1e-10 * (1 + abs(total)))
        closed = Shallow(np.zeros((r, n)), W1, X, Y, square)
        lowest = np.linalg.eigvalsh(closed.hessian() / d)[0]
        assert min(point.lowest, 0.0) == pytest.approx(lowest, abs=1e-10)
        if point.direction is not None:
            assert point.label == "strict_saddle"
            t = 1e-3
            assert problem.loss(theta + t * point.direction) < problem.loss(theta)


def test_corollary_3_1_is_false_even_with_the_sign():
    """One direction meets all samples: sigma = z^2, X = [1, 2], W_1 = 1, Y = [1, -1]: block [6]."""
    problem, theta = problem_of("square", [[1, 2]], [[1, -1]], [[1]], [[0]])
    point = analysis.degenerate_activation(problem, theta)
    assert 2 * point.lowest == pytest.approx(6.0)
    assert point.direction is None and point.label == "undecided"
    # "Strictly convex" does not give sigma'' > 0: z^4.
    problem, theta = problem_of(quartic(), [[1]], [[1]], [[1]], [[0]])
    assert analysis.degenerate_activation(problem, theta).lowest == 0.0


def test_what_remains_of_corollary_3_1():
    """x_k outside the span of the other samples, (W_1^T y_k)_i > 0, sigma'' > 0: a saddle."""
    rng = np.random.default_rng(4)
    for _ in range(50):
        n, r = int(rng.integers(2, 5)), int(rng.integers(1, 4))
        d = int(rng.integers(1, n + 1))  # generic samples: independent
        X, Y, W1 = (rng.standard_normal(s) for s in ((n, d), (1, d), (1, r)))
        problem, theta = problem_of("square", X, Y, W1, np.zeros((r, n)))
        point = analysis.degenerate_activation(problem, theta)
        assert (point.label == "strict_saddle") == bool((W1.T @ Y > 0).any())


def test_corollary_3_2_needs_a_positive_row():
    for sign, value in ((-1, 10.0), (1, -10.0)):
        problem, theta = problem_of("square", [[1, 2]], [[sign, sign]], [[1]], [[0]])
        assert 2 * analysis.degenerate_activation(problem, theta).lowest == pytest.approx(value)


def test_corollary_3_3_is_false():
    """A zero Hessian is no local minimum: sigma = max(z, 0)^3, X = Y = W_1 = 1, W_0 = 0."""
    problem, theta = problem_of(cubed_relu(), [[1]], [[1]], [[1]], [[0]])
    np.testing.assert_array_equal(problem.hessian(theta), 0.0)
    point = analysis.degenerate_activation(problem, theta)
    assert point.holds and point.label == "undecided" and not point.spurious
    step = np.array([0.1, 0.0])
    assert problem.loss(theta + step) - problem.loss(theta) == pytest.approx(-1.0e-3, abs=1e-6)
    assert problem.loss(theta - step) == problem.loss(theta)


def test_a_dead_relu_layer_is_a_flat_local_minimum():
    """What remains of Corollary 3.3: sigma vanishes on a neighbourhood of all its arguments."""
    rng = np.random.default_rng(5)
    X = rng.uniform(0.5, 1.5, (2, 4))
    problem, theta = problem_of("relu", X, np.ones((1, 4)), [[1, 1]], -np.ones((2, 2)))
    point = analysis.degenerate_activation(problem, theta)
    assert point.label == "flat_local_minimum" and point.locally_constant and point.spurious
    for _ in range(200):
        assert problem.loss(theta + 0.1 * rng.standard_normal(theta.size)) == problem.loss(theta)
    on_the_edge, theta = problem_of("relu", X, np.ones((1, 4)), [[1, 1]], np.zeros((2, 2)))
    assert not analysis.degenerate_activation(on_the_edge, theta).locally_constant
    assert "flat_local_minimum" in str(point)
    assert json.loads(json.dumps(point.to_dict()))["spurious"] is True


@pytest.mark.parametrize("activation", ["sigmoid", "softplus", "tanh"])
def test_smooth_activations_have_no_degenerate_points(activation):
    for weight in (0.0, -3.0, -30.0):
        problem, theta = problem_of(activation, [[1.0]], [[1.0]], [[1.0]], [[weight]])
        assert not analysis.degenerate_activation(problem, theta).holds


def test_degenerate_points_of_other_networks_are_refused():
    X, Y = fg.data.xor()
    for net in (fg.MLP((2, 1)), fg.MLP((2, 2, 1), output_activation="sigmoid")):
        with pytest.raises(ValueError, match="hidden layer"):
            analysis.degenerate_activation(fg.Problem(net, X, Y), net.init(0))
    net = fg.MLP((2, 2, 1), bias="none")
    with pytest.raises(ValueError, match="l2"):
        analysis.degenerate_activation(fg.Problem(net, X, Y, l2=0.1), net.init(0))


# --- any depth, biases, custom activations (Corollaries 4.1 and 3.3) --------------------------


def forward(net, layers, X, fixed=None):
    """Outputs by the textbook formula, with the last columns as biases where they are free."""
    signal = X.T
    for number, (W, activation) in enumerate(zip(layers, net.activations, strict=True)):
        if net.has_free_bias:
            signal = W[:, :-1] @ signal + W[:, -1:]
        else:
            signal = W @ signal
        if fixed is not None:
            signal = signal - fixed[number][:, None]
        signal = activation(signal)
    return signal.T


def dead_point(rng, bias):
    """A ReLU network, one hidden layer of which no sample activates; T samples of d outputs."""
    n, d, T = (int(v) for v in rng.integers(1, 4, 3))
    widths = (n, *(int(v) for v in rng.integers(1, 4, int(rng.integers(1, 4)))), d)
    fixed = None
    if bias == "fixed":
        fixed = [rng.standard_normal(w) for w in widths[1:]]
    net = fg.MLP(widths, "relu", bias=bias if fixed is None else fixed)
    X, Y = rng.uniform(0.5, 1.5, (T + 1, n)), rng.standard_normal((T + 1, d))
    layer = int(rng.integers(1, len(widths) - 1))
    layers = [rng.standard_normal(shape) for shape in net.layer_shapes]
    dead = -np.abs(layers[layer - 1]) - 0.1
    if fixed is not None:
        fixed[layer - 1] = np.abs(fixed[layer - 1]) + 0.1
        net = fg.MLP(widths, "relu", bias=fixed)
    if bias == "none":  # inputs of a bias-free layer must not all be zero for z < 0
        for number in range(layer - 1):
            layers[number] = np.abs(layers[number]) + 0.1
    layers[layer - 1] = dead
    return net, layers, layer, X, Y, fixed


@pytest.mark.parametrize("bias", ["free", "none", "fixed"])
@pytest.mark.parametrize("seed", range(25))
def test_dead_layers_of_any_depth(seed, bias):
    """Labels against the outputs of a textbook forward pass around the point."""
    rng = np.random.default_rng([seed, len(bias)])
    net, layers, layer, X, Y, fixed = dead_point(rng, bias)

    def loss(weights):
        return 0.5 * np.mean(np.sum((forward(net, weights, X, fixed) - Y) ** 2, axis=1))

    problem, theta = fg.Problem(net, X, Y), net.pack(layers)
    point = analysis.degenerate_activation(problem, theta)
    assert point.holds and point.locally_constant and point.loss == pytest.approx(loss(layers))
    assert np.ptp(forward(net, layers, X, fixed), axis=0).max() < 1e-12
    slope = np.abs(problem.gradient(theta)).max()
    assert point.critical == (slope < 1e-12)
    if bias == "none":
        assert point.label == "flat_local_minimum"
    if bias == "free":
        assert not point.critical and point.label == "not_critical"
        # The output's bias at the best constant makes it a minimum, whatever the other weights.
        layers[-1][:, -1] += Y.mean(axis=0) - forward(net, layers, X)[0]
        theta = net.pack(layers)
        point = analysis.degenerate_activation(problem, theta)
        assert point.critical and point.label == "flat_local_minimum"
    if point.label == "flat_local_minimum":
        here = loss(net.unpack(theta))
        for _ in range(50):
            near = theta + 1e-3 * rng.standard_normal(theta.size)
            assert loss(net.unpack(near)) >= here - 1e-12 * (1.0 + here)
    if point.spurious:
        assert point.lower_loss < point.loss


@pytest.mark.parametrize("seed", range(8))
def test_curvature_below_a_degenerate_layer_of_any_depth(seed):
    """Eigenvalues against second differences of the loss, by a textbook forward pass."""
    rng = np.random.default_rng(seed)
    above = ["tanh"] * int(rng.integers(0, 2))
    below = ["tanh"] * int(rng.integers(0, 2))
    activations = [*below, "square", *above]
    widths = (3, *([3] * len(below)), 2, *([2] * len(above)), 2)
    net = fg.MLP(widths, activations, bias="none")
    X, Y = rng.standard_normal((2, 3)), rng.standard_normal((2, 2))
    layers = [rng.standard_normal(shape) for shape in net.layer_shapes]
    place = len(below)
    reached = X.T
    for W in layers[:place]:
        reached = np.tanh(W @ reached)
    # Two samples in three units: weights beside them, z = 0 at both.
    layers[place] = layers[place] @ (np.eye(3) - reached @ np.linalg.pinv(reached))
    problem, theta = fg.Problem(net, X, Y), net.pack(layers)
    point = analysis.degenerate_activation(problem, theta, tol=1e-12)
    assert point.holds and point.layer == place + 1 and not point.locally_constant

    def loss(vector):
        return 0.5 * np.mean(np.sum((forward(net, net.unpack(vector), X) - Y) ** 2, axis=1))

    N, t = net.n_params, 1e-4
    basis = t * np.eye(N)
    values = np.array([[loss(theta + a + b) - loss(theta + a - b) for b in basis] for a in basis])
    other = np.array([[loss(theta - a + b) - loss(theta - a - b) for b in basis] for a in basis])
    hessian = (values - other) / (4.0 * t * t)
    cut = sum(n * m for n, m in net.layer_shapes[: place + 1])
    assert np.abs(hessian[:cut, cut:]).max() < 1e-5
    np.testing.assert_allclose(
        np.sort(point.eigenvalues), np.linalg.eigvalsh(hessian[:cut, :cut]), atol=1e-5
    )
    lowest = np.linalg.eigvalsh(hessian)[0]
    assert (point.label == "strict_saddle") == (lowest < -1e-5)
    if point.direction is not None:
        assert loss(theta + 1e-2 * point.direction) < loss(theta)


def hinge_from(edge):
    """max(z - edge, 0)^3: zero with two derivatives below the edge."""
    return fg.Activation.custom(
        f"hinge at {edge}",
        lambda z: max(z - edge, 0.0) ** 3,
        lambda z: 3.0 * max(z - edge, 0.0) ** 2,
        lambda z: 6.0 * max(z - edge, 0.0),
    )


def test_corollary_3_3_for_custom_activations():
    """The samples prove nothing; the word of where sigma vanishes does, and is tried."""
    hinge = hinge_from(1.0)
    net = fg.MLP((1, 2, 1), hinge)
    X, Y = np.array([[1.0], [2.0]]), np.array([[1.0], [2.0]])
    problem = fg.Problem(net, X, Y)
    layers = [np.array([[0.2, 0.1], [-1.0, 0.0]]), np.array([[1.0, 1.0, 1.5]])]
    theta = net.pack(layers)
    assert analysis.degenerate_activation(problem, theta).label == "undecided"
    point = analysis.degenerate_activation(problem, theta, zero_below=1.0)
    assert point.label == "flat_local_minimum" and point.spurious
    rng = np.random.default_rng(0)
    for _ in range(100):
        near = theta + 0.05 * rng.standard_normal(theta.size)
        assert problem.loss(near) >= problem.loss(theta)
    # z = 0.5 is below 1, but not below 0.3: nothing follows.
    assert analysis.degenerate_activation(problem, theta, zero_below=0.3).label == "undecided"
    with pytest.raises(ValueError, match="not zero at"):
        analysis.degenerate_activation(problem, theta, zero_below=1.5)
    # On the edge of its zeros the Hessian vanishes, and the loss falls.
    on_the_edge, edge = problem_of(hinge, [[1]], [[1]], [[1]], [[1]])
    found = analysis.degenerate_activation(on_the_edge, edge, zero_below=1.0)
    assert found.label == "undecided" and found.lowest == 0.0


@pytest.mark.parametrize(("inputs", "targets"), [([[1, 1]], [[1, -1]]), ([[1, 2]], [[2, -1]])])
def test_a_flat_minimum_may_be_global(inputs, targets):
    """No ReLU network without biases fits these any better than zero: nothing spurious."""
    problem, theta = problem_of("relu", inputs, targets, [[1]], [[-1]])
    point = analysis.degenerate_activation(problem, theta)
    assert point.label == "flat_local_minimum" and not point.spurious


# --- probability ------------------------------------------------------------------------------

RNG = np.random.default_rng(6)
CONES = [
    np.array([[1.0], [2.0]]),
    np.array([[1.0], [-2.0]]),
    RNG.standard_normal((1, 4)),
    RNG.standard_normal((3, 2)) + [3.0, 0.0],
    RNG.standard_normal((5, 2)),
    RNG.standard_normal((2, 5)),
    RNG.standard_normal((3, 3)),
    np.eye(5) * 2.0,
    RNG.standard_normal((6, 4)),
]


@pytest.mark.parametrize("X", CONES, ids=lambda X: f"{X.shape[0]}x{X.shape[1]}")
def test_probability_of_a_sleeping_unit(X):
    report = analysis.degenerate_probability(X, 3, n_draws=40_000)
    if report.exact is None:
        assert X.shape == (6, 4)
        return
    assert abs(report.estimate - report.exact) < 4 * report.standard_error + 1e-12
    assert report.layer == pytest.approx(report.exact**3)
    assert str(report.n_hidden) in str(report) and report.to_dict()["exact"] == report.exact


def test_the_paper_heuristic_holds_for_orthogonal_samples():
    report = analysis.degenerate_probability(np.eye(4), 2, n_draws=10)
    assert report.exact == report.heuristic == 2.0**-4
    close = analysis.degenerate_probability([[1.0, 0.0], [1.0, 0.1]], 2, n_draws=10)
    assert close.exact > 0.4 and close.heuristic == 0.25


@pytest.mark.parametrize(
    ("X", "count", "words"),
    [([[0.0, 0.0]], 1, "zero"), ([1.0], 1, "shape"), ([[np.nan]], 1, "nan"), ([[1.0]], 0, "n_hid")],
)
def test_probability_of_bad_input(X, count, words):
    with pytest.raises(ValueError, match=words):
        analysis.degenerate_probability(X, count)
