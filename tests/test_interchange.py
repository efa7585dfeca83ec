"""Plain arrays, scalings, and what all exports share."""

import csv
import pickle
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
from interchange_cases import (
    ACTIVATIONS,
    model_of,
    network,
    parts,
    raw_outputs,
    samples,
    scaling,
)

import fastggn as fg
from fastggn.data.scaler import Scaler
from fastggn.model import interchange
from fastggn.model.interchange import extras
from fastggn.model.interchange.chain import as_dtype, chain_of, folded
from fastggn.model.interchange.names import activation_of, text_of

BIASES = ("free", "none", "fixed")


def by_hand(layers, X):
    """The textbook forward pass over W x + b."""
    Y = X
    for layer in layers:
        Z = np.array([layer.weight @ y for y in Y])
        Y = layer.activation(Z if layer.bias is None else Z + layer.bias)
    return Y


@pytest.mark.parametrize("bias", BIASES)
def test_a_chain_computes_what_the_network_does(bias):
    net, theta = network((4, 6, 5, 3), ["tanh", "leaky_relu"], bias, "sigmoid")
    X = samples(4)
    layers = chain_of(net, theta)
    np.testing.assert_allclose(by_hand(layers, X), net.predict(theta, X), atol=1e-13)
    layers[0].weight[0, 0] = 7.0
    assert 7.0 not in theta  # copies, not views


@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize("output", ("identity", "tanh"))
def test_folding_a_scaling(bias, output):
    net, theta = network((3, 5, 2), "softplus", bias, output)
    X = samples(3)
    inputs, targets = scaling(3), scaling(2, 1)
    layers = folded(chain_of(net, theta), Scaler.at(*inputs), Scaler.at(*targets))
    assert len(layers) == (2 if output == "identity" else 3)
    expected = raw_outputs(net, theta, X, inputs, targets)
    np.testing.assert_allclose(by_hand(layers, X), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bias", BIASES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_round_trip_of_plain_arrays(name, bias, tmp_path):
    net, theta = network((2, 7, 3, 1), name, bias, "tanh")
    model_of(net, theta).export(tmp_path / "w.npz")
    again, vector = parts(fg.interchange.from_npz(tmp_path / "w.npz"))
    assert again.activations == net.activations and again.widths == net.widths
    if bias != "fixed":
        assert again.bias == bias and (vector == theta).all()
    np.testing.assert_array_equal(
        by_hand(chain_of(again, vector), samples(2)), by_hand(chain_of(net, theta), samples(2))
    )
    with np.load(tmp_path / "w.npz") as file:  # NumPy alone can read it
        assert file["W_2"].shape == (3, 7) and ("b_1" in file) == (bias != "none")


def test_scaled_plain_arrays_in_float32(tmp_path):
    net, theta = network((3, 4, 2), "tanh")
    mean, scale = [1.0, 2.0, 3.0], np.array([0.5, 1.0, 2.0])
    model_of(net, theta, (mean, scale)).export(tmp_path / "w.npz", "float32")
    with np.load(tmp_path / "w.npz") as file:
        assert file["W_1"].dtype == np.float32
    again, vector = parts(fg.interchange.from_npz(tmp_path / "w.npz"))
    X = samples(3)
    expected = net.predict(theta, (X - mean) / scale)
    np.testing.assert_allclose(again.predict(vector, X), expected, atol=2e-6)


@pytest.mark.parametrize(
    "names",
    (["W_1", "b_1", "W_2", "b_2"], ["W2", "b2", "W1", "b1"], ["W_0", "b_0", "W_1", "b_1"],
     ["0.weight", "0.bias", "2.weight", "2.bias"], ["u.weight", "u.bias", "a.b.weight", "a.b.bias"],
    ),
)  # fmt: skip
def test_names_of_arrays(names, tmp_path):
    net, theta = network((2, 3, 1), "tanh")
    first, second = chain_of(net, theta)
    arrays = [first.weight, first.bias, second.weight, second.bias]
    if names[0] == "W2":  # numbers decide, not the order
        arrays = arrays[2:] + arrays[:2]
    np.savez(tmp_path / "w.npz", **dict(zip(names, arrays, strict=True)))
    again, vector = parts(fg.interchange.from_npz(tmp_path / "w.npz", activation="tanh"))
    assert (vector == theta).all() and again.activations == net.activations


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({}, "there are no weights"),
        ({"x": np.ones((2, 2))}, "'x' is no weight or bias of a linear layer"),
        ({"W_1": np.ones((3, 2)), "W_3": np.ones((1, 3))}, "without a gap"),
        ({"W_1": np.ones((3, 2)), "W_2": np.ones((1, 4))}, "layer 2 takes 4 inputs, .* 3 outputs"),
        ({"W_1": np.ones((3, 2)), "b_1": np.ones(2)}, "the bias has shape"),
        ({"b_1": np.ones(2)}, "a bias and no weight"),
        ({"W_1": np.full((1, 2), np.nan)}, r"weight\[0, 0\] is nan"),
        ({"W_1": np.ones((3, 2)), "b_1": np.ones((3, 1))}, "only linear layers"),
        ({"0.weight": np.ones((4, 3, 5, 5))}, "only linear layers"),
        ({"1.running_mean": np.ones(3)}, "1 is a BatchNorm, not a linear layer"),
        ({"W_1": np.ones((3, 2)), "activations": np.ones(1)}, "must hold names"),
        ({"W_1": np.ones((3, 2)), "activations": np.array(["relu", "relu"])}, "one a hidden layer"),
        ({"W_1": np.ones((3, 2)), "activations": np.array(["relv"])}, "did you mean 'relu'"),
    ],
)
def test_files_that_are_no_network(arrays, message, tmp_path):
    np.savez(tmp_path / "w.npz", **arrays)
    with pytest.raises(ValueError, match=message) as caught:
        fg.interchange.from_npz(
            tmp_path / "w.npz", **({} if "activations" in arrays else {"activation": "tanh"})
        )
    assert "w.npz" in str(caught.value)


def test_an_unnamed_activation_and_foreign_types(tmp_path):
    path = tmp_path / "w.npz"
    np.savez(path, W_1=np.ones((2, 2)), W_2=np.ones((1, 2)))
    with pytest.raises(ValueError, match="does not name the activation"):
        fg.interchange.from_npz(path)
    np.savez(path, W_1=np.ones((2, 2)))
    assert fg.interchange.from_npz(path).network.activations[0].name == "identity"
    np.savez(path, W_1=np.ones((2, 2), dtype=complex))
    with pytest.raises(TypeError, match="real numbers"):
        fg.interchange.from_npz(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("W_1.npy", pickle.dumps(print))
    with pytest.raises(ValueError, match=r"w\.npz"):
        fg.interchange.from_npz(path)
    with pytest.raises(FileNotFoundError):
        fg.interchange.from_npz(tmp_path / "none.npz")


def test_a_missing_bias_is_named(tmp_path):
    np.savez(tmp_path / "w.npz", W_1=np.ones((2, 3)), b_1=np.ones(2), W_2=np.ones((1, 2)))
    with pytest.warns(interchange.InterchangeWarning, match="layer 2 has no bias"):
        net, theta = parts(fg.interchange.from_npz(tmp_path / "w.npz", activation="tanh"))
    assert net.n_params == 11 and theta[-1] == 0.0


def test_csv_lists_every_weight(tmp_path):
    net, theta = network((2, 3, 1), "tanh")
    model_of(net, theta).export(tmp_path / "w.csv")
    with open(tmp_path / "w.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    values = [float(row["value"]) for row in rows]
    assert (np.array(values) == theta).all()  # the order of theta, all digits
    assert rows[2] == {"layer": "1", "unit": "1", "input": "bias", "value": repr(float(theta[2]))}
    model_of(net, theta).export(tmp_path / "w.csv", "float32")
    with open(tmp_path / "w.csv", newline="") as file:
        values = [np.float32(row["value"]) for row in csv.DictReader(file)]
    assert (np.array(values) == theta.astype(np.float32)).all()


@pytest.mark.parametrize(
    "mean, scale, message",
    [
        ([0.0], [1.0], "input_scaler has 1 columns, the network 2"),
        ([0.0, 1.0], [1.0, 0.0], "must be positive"),
        ([0.0, np.nan], [1.0, 1.0], r"mean\[1\] is nan"),
        ([0.0, 1.0], [1.0], r"scale must have shape \(2,\)"),
    ],
)
def test_bad_scalings(mean, scale, message):
    net, theta = network((2, 3, 1), "tanh")
    with pytest.raises(ValueError, match=message):
        model_of(net, theta, (mean, scale))


def test_names_classes_and_losses_in_plain_arrays(tmp_path):
    rows = {"u": [1.0, 2.0, 3.0, 4.0], "v": [0.0, 1.0, 0.5, 3.0], "kind": ["b", "a", "b", "a"]}
    model, _ = fg.fit(rows, 2, target="kind", seed=0, max_iter=3, l2=0.1)
    model.export(tmp_path / "w.npz")
    again = fg.interchange.from_npz(tmp_path / "w.npz")
    assert again.recipe.input_names == ("u", "v") and again.recipe.target_names == ("kind",)
    assert list(again.classes) == ["a", "b"] and again.loss.name == "softmax_cross_entropy"
    np.testing.assert_allclose(again.predict_proba(rows), model.predict_proba(rows), rtol=1e-12)
    with np.load(tmp_path / "w.npz") as file:
        arrays = dict(file)
    np.savez(tmp_path / "w.npz", **{**arrays, "inputs": np.array(["u"])})
    with pytest.raises(ValueError, match="there are 2 inputs, but 1 names"):
        fg.interchange.from_npz(tmp_path / "w.npz")


def test_types_of_numbers(tmp_path):
    assert as_dtype("float32") == as_dtype(np.float32) == as_dtype(np.dtype("f4")) == np.float32
    for wrong in ("float16", np.int64, "single precision"):
        with pytest.raises(ValueError, match="dtype .* is unknown"):
            as_dtype(wrong)
    net, theta = network((2, 1), "tanh")
    with pytest.raises(ValueError, match="W_1 has an entry of 1e.200, too large for float32"):
        model_of(net, np.array([1.0, 1e200, 0.0])).export(tmp_path / "w.npz", "float32")
    with pytest.raises(ValueError, match=r"theta must have shape \(3,\)"):
        model_of(net, theta[:2])


def test_activations_as_text():
    for name in (*ACTIVATIONS, "leaky_relu:0.137", "leaky_relu:-1e-300"):
        assert text_of(activation_of(name)) == name
    with pytest.raises(ValueError, match="is no number"):
        activation_of("leaky_relu:steep")
    with pytest.raises(ValueError, match="unknown"):
        activation_of("tanh:2")


def test_unknown_kinds_of_files(tmp_path):
    net, theta = network((2, 1), "tanh")
    with pytest.raises(ValueError, match=r"unknown kind of file '.onx'; did you mean '.onnx'"):
        model_of(net, theta).export(tmp_path / "w.onx")
    with pytest.raises(ValueError, match=r"probabilities go with .onnx"):
        model_of(net, theta).export(tmp_path / "w.npz", probabilities=True)


def test_an_absent_package_names_its_extra(monkeypatch, tmp_path):
    def absent(name):
        package = name.partition(".")[0]
        raise ModuleNotFoundError(f"No module named {package!r}", name=package)

    monkeypatch.setattr(extras, "importlib", SimpleNamespace(import_module=absent))
    net, theta = network((2, 1), "tanh")
    for extra, call in {
        "torch": lambda: fg.interchange.to_torch(model_of(net, theta)),
        "onnx": lambda: model_of(net, theta).export(tmp_path / "m.onnx"),
        "sklearn": lambda: fg.interchange.to_sklearn(model_of(net, theta)),
    }.items():
        with pytest.raises(ImportError, match=rf"pip install .fastggn\[{extra}\]"):
            call()


def test_a_broken_package_is_not_called_absent(monkeypatch):
    def broken(name):
        raise ModuleNotFoundError("No module named 'google'", name="google")

    monkeypatch.setattr(extras, "importlib", SimpleNamespace(import_module=broken))
    with pytest.raises(ModuleNotFoundError, match="google"):
        extras.require("onnx", "onnx", "writing")
