"""Warnings with advice: what they see, and that they leave healthy problems alone."""

import time
import warnings
from dataclasses import replace

import numpy as np
import pytest

import fastggn as fg
from fastggn.objective import column_moments
from fastggn.training import advice
from fastggn.training.advice import scaling_advice, unit_advice

X = np.random.default_rng(0).standard_normal((60, 3))
Y = np.sin(X[:, :1])
NET = fg.MLP((3, 4, 1))


def told(net=NET, X=X, Y=Y, kind=fg.ScalingWarning, **keywords):
    """Return the messages of this kind that training gives."""
    problem = fg.Problem(net, X, Y, **keywords)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fg.train(problem, seed=0, max_iter=2)
    found = [warning for warning in caught if issubclass(warning.category, kind)]
    assert all(warning.filename == __file__ for warning in found)  # the caller's line
    return [str(warning.message) for warning in found]


# --- scales -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda X: X * [1.0, 2e3, 1.0], "column 1 of X has a standard deviation of 1"),
        (lambda X: X * [1.0, 1.0, 1e-4], "column 2 one of "),
        (lambda X: X + [0.0, 2000.0, 0.0], "column 1 of X has a mean of 2e+03"),
        (lambda X: X - [500.0, 0.0, 0.0], "column 0 of X has a mean of -500"),
        (lambda X: np.c_[X[:, :2], np.full(60, 0.1)], "constant column: column 2 of X is 0.1"),
    ],
)
def test_badly_scaled_inputs(change, words):
    (message,) = told(X=change(X))
    assert words in message
    assert "fastggn.data.Standardised" in message and "--standardise" in message
    # The advice helps.
    scaled = fg.data.Standardised(change(X))
    assert told(X=scaled[0:60]) == told(X=scaled) == []


def test_badly_scaled_targets():
    net = fg.MLP((3, 4, 2))
    assert told(net, Y=np.c_[Y, Y]) == []
    (message,) = told(net, Y=np.c_[Y, 1e-5 * Y])
    assert "the targets are badly scaled: column 0 of Y" in message
    (message,) = told(Y=Y + 1e4)
    assert "the targets are badly scaled: column 0 of Y has a mean of 1e+04" in message
    # A constant target is learned by the bias alone.
    assert told(Y=np.ones((60, 1))) == []


def test_labels_have_no_scale():
    rare = np.zeros(60, dtype=int)
    rare[0] = 1
    assert told(Y=rare.astype(float), loss="logistic") == []
    assert told(fg.MLP((3, 4, 2)), Y=rare, loss="softmax_cross_entropy") == []


def test_below_the_thresholds():
    assert told(X=X * [1.0, 900.0, 1.0]) == []
    assert told(X=X + [0.0, 0.0, 80.0]) == []
    # Columns of zeros waste weights and do no harm.
    assert told(X=np.c_[X[:, :2], np.zeros(60)]) == []
    # Without a bias a column of ones is one.
    assert told(fg.MLP((3, 4, 1), bias="none"), X=np.c_[X[:, :2], np.ones(60)]) == []
    assert told(X=X[:5] * [1.0, 1e6, 1.0], Y=Y[:5]) == []


@pytest.mark.parametrize("make", fg.data.DATASETS.values(), ids=fg.data.DATASETS)
def test_the_built_in_samples_are_healthy(make):
    X, Y = make.make()
    widths = (X.shape[1], 8, Y.shape[1])
    for activation in ("tanh", "sigmoid", "softplus", "relu"):
        problem = fg.Problem(fg.MLP(widths, activation=activation), X, Y)
        assert scaling_advice(problem) == []
        for seed in range(2):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", fg.DivergenceWarning)
                warnings.simplefilter("error", fg.UnitsWarning)
                fg.train(problem, seed=seed, max_iter=30)


def test_rows_in_files_are_seen_in_the_pass_that_checks_them(tmp_path, monkeypatch):
    bad = X * [1.0, 2e3, 1.0] + [0.0, 0.0, 1e3]
    np.save(tmp_path / "X.npy", bad)
    np.save(tmp_path / "Y.npy", Y + 1e4)
    files = fg.data.open_npy(tmp_path / "X.npy"), fg.data.open_npy(tmp_path / "Y.npy")
    assert told(X=files[0], Y=files[1]) == told(X=bad, Y=Y + 1e4)
    problem = fg.Problem(NET, *files)

    def read(*arguments):
        raise AssertionError("another pass")

    monkeypatch.setattr("fastggn.data.sources.read_rows", read)
    assert len(scaling_advice(problem)) == 3


def test_some_of_many_samples_are_enough(tmp_path, monkeypatch):
    """Every k-th row, the same ones from memory and from parts of a file."""
    monkeypatch.setattr(column_moments, "ENOUGH", 20)
    monkeypatch.setattr("fastggn.data.sources.BYTES_PER_READ", 8 * 3 * 7)
    columns = np.random.default_rng(1).standard_normal((205, 3))
    np.save(tmp_path / "X.npy", columns)
    targets = columns[:, :1]
    here = fg.Problem(NET, columns, targets)
    there = fg.Problem(NET, fg.data.open_npy(tmp_path / "X.npy"), targets)
    for problem in (here, there):
        inputs, outputs = advice.column_scales(problem)
        assert inputs.count == outputs.count == 21
        np.testing.assert_allclose(inputs.mean, columns[::10].mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(inputs.deviation, columns[::10].std(axis=0), rtol=1e-12)
        np.testing.assert_allclose(outputs.mean, columns[::10, :1].mean(axis=0), rtol=1e-12)


def test_batches_and_values_that_overflow():
    problem = fg.Problem(NET, X * [1.0, 2e3, 1.0], Y)
    assert len(scaling_advice(problem.subset(np.arange(20)))) == 1
    huge = np.where(X > 0, 1e308, -1e308)
    assert isinstance(scaling_advice(fg.Problem(NET, huge, Y)), list)


# --- units --------------------------------------------------------------------------------------


def trained(problem, theta, **keywords):
    """Return the result of a run that ended at theta with the loss it has there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fg.UnitsWarning)
        result = fg.train(problem, theta, max_iter=1, **keywords)
    return replace(result, theta=theta, loss=problem.loss(theta), initial_loss=problem.loss(theta))


@pytest.mark.parametrize("name", ["tanh", "sigmoid", "softsign"])
def test_saturated_units(name):
    net = fg.MLP((3, 8, 4, 1), activation=name)
    problem = fg.Problem(net, X, Y)
    theta = net.init(0)
    assert unit_advice(problem, trained(problem, theta)) == []
    layers = net.unpack(theta.copy())
    layers[0][:5, -1] = 1e5  # far to the right, at all samples
    (message,) = unit_advice(problem, trained(problem, net.pack(layers)))
    assert message.startswith(f"layer 1: 5 of 8 {name} units are saturated at nearly all of 60")
    layers[0][4:5, -1] = 0.0  # four of eight are a half, three are not
    assert len(unit_advice(problem, trained(problem, net.pack(layers)))) == 1
    layers[0][3:4, -1] = 0.0
    assert unit_advice(problem, trained(problem, net.pack(layers))) == []
    layers[1][:, -1] = -1e5
    (message,) = unit_advice(problem, trained(problem, net.pack(layers)))
    assert message.startswith(f"layer 2: 4 of 4 {name} units")


def test_steps_of_both_signs_are_saturated_too():
    """As where inputs of mean zero are too large: such units pass no gradient on either."""
    net = fg.MLP((3, 4, 1))
    problem = fg.Problem(net, X, Y)
    layers = net.unpack(net.init(0))
    layers[0][:] = 0.0
    layers[0][:, 0] = 1e6
    layers[0][:, -1] = -1e6 * np.quantile(X[:, 0], [0.1, 0.5, 0.9, 0.95])
    theta = net.pack(layers)
    assert len(unit_advice(problem, trained(problem, theta))) == 1


def test_dead_units():
    net = fg.MLP((3, 8, 1), activation="relu")
    problem = fg.Problem(net, X, Y)
    layers = net.unpack(net.init(0))
    layers[0][:, -1] = 1.0
    layers[0][:4, -1] = -1e3
    (message,) = unit_advice(problem, trained(problem, net.pack(layers)))
    assert message.startswith("layer 1: 4 of 8 relu units are dead (zero at all of 60 samples)")
    # Awake at a single sample: it can learn.
    layers[0][0] = [0.0, 0.0, 1.0, -np.sort(X[:, 2])[-2]]
    assert unit_advice(problem, trained(problem, net.pack(layers))) == []
    leaky = fg.MLP((3, 8, 1), activation="leaky_relu")
    layers[0][:4, -1] = -1e3
    theta = leaky.pack(layers)
    assert unit_advice(fg.Problem(leaky, X, Y), trained(problem, theta)) == []


def test_a_run_that_is_stuck_says_why():
    """Years as inputs: every unit is saturated from the start, and nothing is learned."""
    years = 2000.0 + 10.0 * X
    net = fg.MLP((3, 6, 1))
    problem = fg.Problem(net, years, Y)
    with pytest.warns(fg.UnitsWarning, match="layer 1: . of 6 tanh units are saturated"):
        with pytest.warns(fg.ScalingWarning, match="the inputs are badly scaled"):
            fg.train(problem, seed=0, max_iter=20)


def test_runs_that_need_no_advice():
    """Those that fit, diverge or have not begun, and problems of few samples."""
    net = fg.MLP((3, 4, 1))
    problem = fg.Problem(net, X, Y)
    layers = net.unpack(net.init(0))
    layers[0][:, -1] = 1e5
    stuck = trained(problem, net.pack(layers))
    assert unit_advice(problem, stuck) != []
    for changes in (
        {"initial_loss": 1e4 * stuck.loss},
        {"status": "diverging"},
        {"n_iter": 0},
    ):
        assert unit_advice(problem, replace(stuck, **changes)) == []
    few = fg.Problem(net, X[:9], Y[:9])
    assert unit_advice(few, replace(stuck, loss=1.0, initial_loss=1.0)) == []
    gated = fg.Problem(net, X, Y, gates=[np.ones((60, 4))])
    assert unit_advice(gated, stuck) == []


def test_some_samples_of_a_file(tmp_path, monkeypatch):
    """Runs of neighbours, evenly spread, each row once."""
    monkeypatch.setattr(column_moments, "ENOUGH", 200)
    columns = np.random.default_rng(1).standard_normal((5000, 3))
    np.save(tmp_path / "X.npy", columns)
    net = fg.MLP((3, 8, 1))
    theta = net.init(0)
    for samples in (columns, fg.data.open_npy(tmp_path / "X.npy")):
        problem = fg.Problem(net, samples, columns[:, :1])
        rows = advice._some_rows(problem, 5000)
        assert np.unique(rows).size == rows.size and rows.min() == 0 and rows.max() >= 4970
        (units,) = advice.unit_outputs(problem, theta, [(-0.5, 0.5)])
        W = net.unpack(theta)[0]
        phi = np.tanh(columns[rows] @ W[:, :3].T + W[:, 3])
        assert units.count == rows.size >= 190
        np.testing.assert_allclose(units.above, (np.abs(phi) > 0.5).mean(axis=0))
        np.testing.assert_allclose(units.largest, np.abs(phi).max(axis=0), rtol=1e-12)


def test_it_costs_little():
    """Beside a run of a few iterations on a small problem."""
    problem = fg.Problem(fg.MLP((3, 10, 1)), X, Y)
    result = fg.train(problem, seed=0, max_iter=1)
    seconds = []
    for _ in range(20):
        start = time.thread_time()
        scaling_advice(problem)
        unit_advice(problem, result)
        seconds.append(time.thread_time() - start)
    assert min(seconds) < 0.01  # about 0.0005 s; caches are shared with other programs


@pytest.mark.parametrize("power", [-8, -4, 4, 8])
def test_inputs_of_another_size(power):
    """Runs on such inputs hardly start; a linear model has no trouble with them."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((50, 2))
    for size, said in ((1.0, 0), (10.0**power, 1)):
        problem = fg.Problem(fg.MLP((2, 3, 1)), size * X, X[:, 0])
        assert len(scaling_advice(problem)) == said
        assert scaling_advice(fg.Problem(fg.MLP((2, 1)), size * X, X[:, 0])) == []
