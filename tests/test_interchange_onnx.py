"""ONNX models: what onnxruntime computes is what the network computes."""

import json

import cases
import numpy as np
import pytest
from interchange_cases import (
    ACTIVATIONS,
    ARCHITECTURES,
    TOLERANCE,
    difference,
    network,
    raw_outputs,
    samples,
    scaling,
)

import fastggn as fg
from fastggn.model import interchange
from fastggn.model.interchange import onnx as module

onnx = pytest.importorskip("onnx", reason="onnx is absent: the extra onnx")
runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is absent: the extra onnx")


def run(path, X, dtype):
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (Y,) = session.run(["Y"], {"X": X.astype(dtype)})
    assert Y.dtype == dtype
    return Y


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("bias", ("free", "none", "fixed"))
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_and_biases(name, bias, dtype, tmp_path):
    path = tmp_path / "m.onnx"
    for widths in ARCHITECTURES:
        # Three squares on top of each other are of degree 8, and rounding grows eightfold.
        output = "identity" if name == "square" and len(widths) > 3 else name
        net, theta = network(widths, name, bias, output=output)
        fg.interchange.to_onnx(net, theta, path, dtype)
        onnx.checker.check_model(str(path), full_check=True)
        X = samples(widths[0], dtype)
        whole = run(path, X, dtype)
        assert difference(whole, net.predict(theta, X)) < TOLERANCE[dtype]
        for T in (1, 3):  # the number of samples is free
            assert difference(np.vstack([run(path, X[:T], dtype), whole[T:]]), whole) < 1e-6


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("output", ("identity", "tanh"))
@pytest.mark.parametrize("bias", ("free", "none"))
def test_scalings(bias, output, dtype, tmp_path):
    path = tmp_path / "m.onnx"
    net, theta = network((3, 5, 2), "softplus", bias, output)
    inputs, targets = scaling(3, far=4.0), scaling(2, 1, far=4.0)
    X = samples(3, dtype)
    fg.interchange.to_onnx(net, theta, path, dtype, scale_inputs=inputs, scale_targets=targets)
    expected = raw_outputs(net, theta, X, inputs, targets)
    assert difference(run(path, X, dtype), expected) < TOLERANCE[dtype]
    both = {"scale_inputs": inputs, "scale_targets": targets}
    assert interchange.compare_onnx(path, net, theta, **both) < TOLERANCE[dtype]
    fg.interchange.to_onnx(net, theta, path, dtype)
    assert interchange.compare_onnx(path, net, theta, **both) > 0.01  # it does find a difference


def test_inputs_far_from_zero_keep_their_digits(tmp_path):
    """Years: 2010 with a deviation of 5, which float32 weights could not hold."""
    path = tmp_path / "m.onnx"
    net, theta = network((2, 5, 1), "tanh")
    years = (np.array([0.0, 2010.123456789]), np.array([1.0, 5.0]))
    X = np.column_stack([samples(2)[:, 0], np.arange(40) + 1990.0]).astype(np.float32)
    fg.interchange.to_onnx(net, theta, path, "float32", scale_inputs=years)
    expected = raw_outputs(net, theta, X.astype(np.float64), years, (0.0, 1.0))
    assert difference(run(path, X, np.float32), expected) < 1e-6


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_probabilities(dtype, tmp_path):
    path = tmp_path / "m.onnx"
    net, theta = network((2, 5, 3), "relu")
    X = samples(2, dtype)
    Z = net.predict(theta, X)
    slack = max(1.0, np.abs(Z).max())  # the exponential turns relative errors of Z into these
    fg.interchange.to_onnx(net, theta, path, dtype, probabilities="softmax")
    e = np.exp(Z - Z.max(axis=1, keepdims=True))
    found = run(path, X, dtype)
    assert difference(found, e / e.sum(axis=1, keepdims=True)) < slack * TOLERANCE[dtype]
    fg.interchange.to_onnx(net, theta, path, dtype, probabilities="sigmoid")
    assert difference(run(path, X, dtype), 1 / (1 + np.exp(-Z))) < slack * TOLERANCE[dtype]
    with pytest.raises(ValueError, match="probabilities 'softmin' is unknown"):
        fg.interchange.to_onnx(net, theta, path, probabilities="softmin")


def test_extreme_inputs(tmp_path):
    """Nothing overflows, and NaN stays NaN."""
    path = tmp_path / "m.onnx"
    X = np.array([[-1e308], [-800.0], [-1e-300], [0.0], [1e-300], [800.0], [1e150], [np.nan]])
    for name in ACTIVATIONS:
        net = fg.MLP((1, 1), output_activation=name, bias="none")
        fg.interchange.to_onnx(net, np.ones(1), path)
        finite = X[1:-2] if name in ("square", "bent_identity") else X[:-1]
        np.testing.assert_allclose(
            run(path, finite, np.float64), net.predict(np.ones(1), finite), rtol=1e-12, atol=1e-16
        )
        assert np.isnan(run(path, X[-1:], np.float64)).all()


def test_what_a_file_tells(tmp_path):
    path = tmp_path / "m.onnx"
    net, theta = network((2, 3, 1), "tanh")
    known = {"inputs": ["area", "age"], "targets": ["price"], "classes": None}
    interchange.export(path, net, theta, {"samples": known, "loss": {"name": "squared"}})
    model = onnx.load(path)
    kept = {entry.key: json.loads(entry.value) for entry in model.metadata_props}
    assert kept == {"inputs": ["area", "age"], "targets": ["price"]}
    assert model.producer_name == "fastggn"
    (X,), (Y,) = model.graph.input, model.graph.output
    assert [d.dim_param or d.dim_value for d in X.type.tensor_type.shape.dim] == ["T", 2]
    assert [d.dim_param or d.dim_value for d in Y.type.tensor_type.shape.dim] == ["T", 1]
    with pytest.raises(ValueError, match="softmax_cross_entropy or logistic, not of squared"):
        interchange.export(path, net, theta, {"loss": {"name": "squared"}}, probabilities=True)


def test_what_the_format_cannot_hold(tmp_path, monkeypatch):
    path = tmp_path / "m.onnx"
    sine = cases.sine()
    net = fg.MLP((1, 2, 1), activation=sine)
    with pytest.raises(ValueError, match="layer 1: the custom activation 'sine' has no ONNX"):
        fg.interchange.to_onnx(net, net.init(seed=0), path)
    monkeypatch.setattr(module, "MOST_BYTES", 100)
    net, theta = network((2, 5, 1), "tanh")
    with pytest.raises(ValueError, match="at most 100 bytes, the network needs 168"):
        fg.interchange.to_onnx(net, theta, path)
    assert not path.exists()
