"""Split, added and merged units: the outputs stay, and so do critical points."""

from dataclasses import replace

import numpy as np
import pytest

import fastggn as fg
from fastggn import analysis
from fastggn.figures.critical import plot_split_index

SMOOTH = ("tanh", "sigmoid", "softplus", "identity")
BIASES = ("free", "none", "fixed")


def network(rng, activation="tanh", bias="free", widths=None):
    widths = widths or (int(rng.integers(1, 4)), *rng.integers(2, 5, rng.integers(1, 3)), 2)
    if bias == "fixed":
        bias = [rng.standard_normal(n) for n in widths[1:]]
    net = fg.MLP(widths, activation, bias=bias)
    return net, rng.standard_normal(net.n_params)


def agree(first, second, X, tolerance=1e-12):
    (net, theta), (other, vector) = first, second
    a, b = net.predict(theta, X), other.predict(vector, X)
    return np.abs(a - b).max() <= tolerance * max(1.0, np.abs(a).max())


@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize("activation", [*SMOOTH, "relu", "square"])
def test_wider_networks_compute_the_same_and_shrink_again(activation, bias):
    rng = np.random.default_rng(SMOOTH.index(activation) if activation in SMOOTH else 9)
    for trial in range(5):
        net, theta = network(rng, activation, bias)
        X = rng.standard_normal((30, net.n_inputs))
        start = analysis.effective_width(fg.Problem(net, X, np.zeros((30, 2))), theta)
        assert agree((net, theta), (start.network, start.theta), X)
        wide = net, theta
        for _ in range(2):
            layer = int(rng.integers(1, net.n_layers))
            unit = int(rng.integers(1, wide[0].widths[layer] + 1))
            wide = analysis.split_unit(*wide, layer, unit, float(rng.normal()))
            assert wide[0].widths[layer] == unit or agree((net, theta), wide, X)
            m = wide[0].layer_shapes[layer - 1][1]
            wide = analysis.add_unit(*wide, layer, incoming=rng.standard_normal(m))
            if wide[0].bias != "none" or activation in ("tanh", "identity", "relu", "square"):
                out = rng.standard_normal(wide[0].widths[layer + 1])
                wide = analysis.add_unit(*wide, layer, outgoing=out)
            assert agree((net, theta), wide, X)
        found = analysis.effective_width(fg.Problem(wide[0], X, np.zeros((30, 2))), wide[1])
        assert found.widths == start.widths, (trial, found)
        assert agree((net, theta), (found.network, found.theta), X, 1e-11)
        assert found.error <= 1e-12


@pytest.mark.parametrize(
    ("activation", "factor", "constant"),
    [("tanh", -1.0, 0.0), ("sigmoid", -1.0, 1.0), ("square", 1.0, 0.0), ("softsign", -1.0, 0.0)],
)
def test_sign_flipped_copies_merge(activation, factor, constant):
    rng = np.random.default_rng(3)
    net, theta = network(rng, activation, widths=(2, 3, 1))
    first, last = (w.copy() for w in net.unpack(theta))
    first[2] = -first[0]
    theta = net.pack([first, last])
    X = rng.standard_normal((20, 2))
    merged, vector = analysis.merge_units(net, theta, 1, 1, 3)
    assert merged.widths == (2, 2, 1) and agree((net, theta), (merged, vector), X)
    above = merged.unpack(vector)[1]
    assert np.isclose(above[0, 0], last[0, 0] + factor * last[0, 2])
    assert np.isclose(above[0, 2], last[0, 3] + constant * last[0, 2])
    with pytest.raises(ValueError, match="units 1 and 2 of layer 1 do not compute the same"):
        analysis.merge_units(net, theta, 1, 1, 2)


def test_units_that_are_dead_constant_or_linear_at_the_samples():
    rng = np.random.default_rng(8)
    X = rng.uniform(-1, 1, (40, 2))
    net = fg.MLP((2, 7, 1), "relu")
    first, last = rng.standard_normal((7, 3)), rng.standard_normal((1, 8))
    first[0] = [1.0, 1.0, -5.0]  # dead
    first[1:5, 2] = 9.0  # on the linear side: four units, whose sum is one
    first[5:, 2] = 0.0  # these two bend within the samples
    theta = net.pack([first, last])
    found = analysis.effective_width(fg.Problem(net, X, np.zeros(40)), theta)
    assert found.widths == (2, 3, 1) and not found.everywhere and found.error < 1e-13
    assert [step.split(" of layer 1 ")[1] for step in found.steps] == [
        "is dead at all samples", "are linear at all samples: 1 do the same"
    ]  # fmt: skip
    saturated = fg.MLP((2, 2, 1), "tanh")
    theta = saturated.pack([[[0.1, 0.2, 30.0], [1.0, 2.0, 0.1]], [[1.0, 2.0, 3.0]]])
    found = analysis.effective_width(fg.Problem(saturated, X, np.zeros(40)), theta)
    assert found.widths == (2, 1, 1) and "is constant, 1 at all samples" in found.steps[0]
    assert "F(2,1,1); same outputs at the samples" in str(found)


def critical(seed, activation="tanh"):
    rng = np.random.default_rng([seed, 77])
    X = rng.standard_normal((25, 2))
    Y = np.sin(2 * X[:, 0]) + X[:, 1] ** 2 + 0.1 * rng.standard_normal(25)
    problem = fg.Problem(fg.MLP((2, 2, 1), activation), X, Y)
    theta = fg.train(problem, seed=seed, max_iter=300).theta
    return problem, analysis.polish(problem, theta).theta


@pytest.mark.filterwarnings("ignore::fastggn.FastGGNWarning")  # some of the runs go to infinity
def test_the_index_along_gamma_is_that_of_the_theory():
    """Of the split point of a minimum: psd or indefinite by the sign of gamma (1 - gamma)."""
    checked = 0
    for seed in range(6):
        problem, theta = critical(seed)
        if fg.critical_point(problem, theta).label != "local_minimum":
            continue
        table = analysis.index_along_gamma(problem, theta, 1, 1)
        assert (table.gradient_norms < 1e-9).all()
        assert np.ptp(table.losses) < 1e-14 * table.losses[0]
        # The new eigenvalues are those of gamma (1 - gamma) B with one matrix B of the unit.
        sizes = table.gammas * (1.0 - table.gammas)
        below = table.inertias[:, 2]
        inside, outside = below[sizes > 0], below[sizes < 0]
        assert np.ptp(inside) == 0 and np.ptp(outside) == 0
        assert inside[0] + outside[0] > 0
        net, wide = analysis.split_unit(problem.network, theta, 1, 1, 0.25)
        X, _ = problem.read_samples(0, 25)
        wider = fg.Problem(net, X, problem.targets)
        report = fg.critical_point(wider, wide)
        label = report.label
        assert report.embedded == "F(2,2,1): unit 3 of layer 1 is a copy of unit 1"
        assert "embedded" in str(report) and fg.critical_point(problem, theta).embedded is None
        assert label == ("strict_saddle" if inside[0] else label)
        assert "negative" in str(table)
        checked += 1
    assert checked >= 3


def test_the_picture_of_the_index(tmp_path):
    problem, theta = critical(0)
    table = analysis.index_along_gamma(problem, theta, 1, 1, gammas=np.linspace(-1, 2, 13))
    figure = plot_split_index(table)
    (axes,) = figure.axes
    assert axes.get_xlabel() == "share gamma of the outgoing weights"
    (drawn,) = [line for line in axes.get_lines() if len(line.get_xdata()) == 13]
    np.testing.assert_array_equal(drawn.get_xdata(), table.gammas)
    # Without a negative eigenvalue the lowest one is rounding: a copy has no outgoing weights.
    below = table.inertias[:, 2] > 0
    assert list(table.gammas[~below]) == [0.0, 1.0] and table.eigenvalues[~below, 0].any()
    np.testing.assert_array_equal(drawn.get_ydata(), below * table.eigenvalues[:, 0])
    assert [text.get_text() for text in axes.texts] == [str(n) for n in table.inertias[:, 2]]


def test_a_model_is_reduced():
    rng = np.random.default_rng(1)
    X = rng.standard_normal((60, 2))
    model, _ = fg.fit((X, X[:, 0] * X[:, 1]), hidden=3, seed=0, max_iter=5)
    net, theta = analysis.split_unit(model.network, model.theta, 1, 2, 0.3)
    wide = replace(model, network=net, theta=theta)
    narrow = wide.reduced()
    assert narrow.network.widths == (2, 3, 1) and narrow.posterior is None
    np.testing.assert_allclose(narrow.predict(X), model.predict(X), rtol=1e-13)
    dead = fg.Model.of(fg.MLP((2, 2, 1), "relu"), [1, 1, -99, 1, 1, 0, 1, 1, 1])
    assert dead.reduced().network.widths == (2, 2, 1)
    assert dead.reduced((X, np.zeros(60))).network.widths == (2, 1, 1)


def test_bad_arguments():
    net, theta = network(np.random.default_rng(0), widths=(2, 3, 1))
    with pytest.raises(ValueError, match="layer must be a hidden layer, 1 to 1, got 2"):
        analysis.split_unit(net, theta, 2, 1)
    with pytest.raises(ValueError, match="unit must be 1 to 3 in layer 1, got 4"):
        analysis.split_unit(net, theta, 1, 4)
    with pytest.raises(ValueError, match="either incoming"):
        analysis.add_unit(net, theta, 1)
    with pytest.raises(ValueError, match="no bias to take it back"):
        bare = fg.MLP((2, 3, 1), "sigmoid", bias="none")
        analysis.add_unit(bare, bare.init(seed=0), 1, outgoing=[1.0])
    with pytest.raises(ValueError, match="gamma must be finite"):
        analysis.split_unit(net, theta, 1, 1, np.nan)


def on_the_way(kind, eps):
    """Return a network whose large outgoing weights cancel: two units near a limit, or one."""
    net, far = fg.MLP((2, 3, 1)), 1.0 / eps
    w, v, other = np.array([1.0, -0.5, 0.3]), np.array([0.4, 0.8, -0.2]), [0.3, 0.4, 0.5]
    if kind == "channel":
        first, last = [w + eps * v / 2, other, w - eps * v / 2], [0.5 + far, 0.7, 0.5 - far, 0.1]
    elif kind == "linear":
        first, last = [eps * w * [1, 1, 0], other, [1.0, 2.0, 3.0]], [far, 0.7, 0.5, 0.1]
    else:  # tanh z + 1 is about 2 exp(2 z)
        depth = np.log(eps) / 2.0
        first, last = [[0.5, -0.5, depth], other, [1.0, 2.0, 3.0]], [far, 0.7, 0.5, 0.1 + far]
    return net, net.pack([first, [last]])


@pytest.mark.parametrize("eps", [1e-4, 1e-8, 1e-10, 1e-12])
@pytest.mark.parametrize("kind", ["channel", "linear", "exponential"])
def test_units_with_large_outgoing_weights_that_cancel_stay(kind, eps):
    """Equal to 1e-10 of a weight are their rows, or their outgoing weights, but not the outputs."""
    net, theta = on_the_way(kind, eps)
    X = np.random.default_rng(0).standard_normal((30, 2))
    found = analysis.effective_width(fg.Problem(net, X, np.zeros(30)), theta)
    assert found.widths == (2, 3, 1) and found.error == 0.0, str(found)
    assert fg.Model.of(net, theta).reduced().network.widths == (2, 3, 1)


@pytest.mark.parametrize("gamma", [1e3, 1e8, -1e10])
@pytest.mark.parametrize("flip", [False, True])
def test_copies_with_large_shares_merge(gamma, flip):
    """Outgoing weights of any size: the outputs lose the digits that the large terms take."""
    net = fg.MLP((2, 2, 1), "sigmoid")
    theta = net.init(3, "normal")
    wide, vector = analysis.split_unit(net, theta, 1, 2, gamma)
    if flip:
        first, last = (part.copy() for part in wide.unpack(vector))
        first[2] *= -1.0
        last[0, -1] += last[0, 2]
        last[0, 2] *= -1.0
        vector = wide.pack([first, last])
    X = np.random.default_rng(0).standard_normal((30, 2))
    found = analysis.effective_width(fg.Problem(wide, X, np.zeros(30)), vector)
    assert found.widths == (2, 2, 1), str(found)
    assert found.error <= 1e-14 * abs(gamma)


def test_the_tolerance_is_a_share_of_weights_and_of_changes_above():
    """Copies but for noise of 1e-6: none at 1e-10, one at 1e-4, with an error of the noise."""
    rng = np.random.default_rng(4)
    net, theta = network(rng, "tanh", widths=(2, 3, 4, 2))
    X = rng.standard_normal((40, 2))
    wide, vector = analysis.split_unit(net, theta, 2, 3, 0.4)
    vector = vector * (1.0 + 1e-6 * rng.standard_normal(vector.size))
    problem = fg.Problem(wide, X, np.zeros((40, 2)))
    assert analysis.effective_width(problem, vector).steps == ()
    found = analysis.effective_width(problem, vector, tolerance=1e-4)
    assert found.widths == net.widths and 1e-8 < found.error < 1e-5
    assert found.steps == ("unit 5 of layer 2 is a copy of unit 3",)


def test_a_unit_of_large_outputs_and_small_outgoing_weights_stays():
    net = fg.MLP((2, 3, 1), "relu")
    first = [[1e12, -1e12, 0.0], [0.3, 0.4, 0.5], [1.0, 2.0, -3.0]]
    theta = net.pack([first, [[1e-12, 1.0, 1.0, 0.1]]])
    X = np.random.default_rng(0).standard_normal((30, 2))
    found = analysis.effective_width(fg.Problem(net, X, np.zeros(30)), theta)
    assert found.widths == (2, 3, 1), str(found)


@pytest.mark.parametrize("bias", BIASES)
def test_nothing_below_a_layer_that_says_nothing_counts(bias):
    """Its last unit stays, without weights; the units of the layers below go but for one."""
    rng = np.random.default_rng(5)
    net, theta = network(rng, "relu", bias, (2, 3, 4, 1, 2))
    weights = [part.copy() for part in net.unpack(theta)]
    weights[2][:] = -np.abs(weights[2])  # dead: its inputs are not negative
    if bias == "fixed":
        net = fg.MLP(net.widths, "relu", bias=[*net.bias[:2], [1.0], net.bias[3]])
    X = rng.standard_normal((30, 2))
    problem = fg.Problem(net, X, np.zeros((30, 2)))
    found = analysis.effective_width(problem, net.pack(weights))
    assert found.widths == (2, 1, 1, 1, 2) and found.error == 0.0, str(found)
    numbers = [int(step.split()[1]) for step in found.steps if "layer 2 has no" in step]
    assert len(numbers) >= 2 and numbers == sorted(numbers, reverse=True), str(found)
    weights[3][:, 0] = 0.0
    if bias != "fixed":  # a model without a table: for every input
        whole = fg.Model.of(net, net.pack(weights)).reduced()
        assert whole.network.widths == (2, 1, 1, 1, 2)
