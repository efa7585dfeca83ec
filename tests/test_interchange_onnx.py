"""ONNX models: what onnxruntime computes is what the model predicts."""

import contextlib
import json
from dataclasses import replace

import cases
import numpy as np
import pytest
from interchange_cases import (
    ACTIVATIONS,
    ARCHITECTURES,
    TOLERANCE,
    difference,
    model_of,
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


def run(path, X):
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (Y,) = session.run(["Y"], {"X": np.asarray(X, dtype=np.float64)})
    assert Y.dtype == np.float64  # whatever the type of the weights
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
        model_of(net, theta).export(path, dtype)
        onnx.checker.check_model(str(path), full_check=True)
        X = samples(widths[0], dtype)
        whole = run(path, X)
        assert difference(whole, net.predict(theta, X)) < TOLERANCE[dtype]
        for T in (1, 3):  # the number of samples is free
            assert difference(np.vstack([run(path, X[:T]), whole[T:]]), whole) < 1e-6


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("output", ("identity", "tanh"))
@pytest.mark.parametrize("bias", ("free", "none"))
def test_scalings(bias, output, dtype, tmp_path):
    path = tmp_path / "m.onnx"
    net, theta = network((3, 5, 2), "softplus", bias, output)
    inputs, targets = scaling(3, far=4.0), scaling(2, 1, far=4.0)
    X = samples(3, dtype)
    model = model_of(net, theta, inputs, targets)
    model.export(path, dtype)
    expected = raw_outputs(net, theta, X, inputs, targets)
    assert difference(run(path, X), expected) < TOLERANCE[dtype]
    assert interchange.compare_onnx(path, model) < TOLERANCE[dtype]
    model_of(net, theta).export(path, dtype)
    assert interchange.compare_onnx(path, model) > 0.01  # it does find a difference


@pytest.mark.parametrize("middle", [2010.0, 1e6, 1e9])
def test_columns_far_from_zero_keep_their_digits(middle, tmp_path):
    """A column 1e6 + N(0, 1): float32 inputs would be off by 6e-2."""
    path = tmp_path / "m.onnx"
    net, theta = network((2, 5, 1), "tanh")
    far = (np.array([0.0, middle]), np.array([1.0, 1.0]))
    model = model_of(net, theta, far, (np.array([middle]), np.array([1.0])))
    X = samples(2) + [0.0, middle]
    for dtype, most in (("float64", 1e-9 + middle * 1e-15), ("float32", 1e-6)):
        model.export(path, dtype)
        error = np.abs(run(path, X)[:, 0] - model.predict(X)).max()
        assert error < most
        assert interchange.compare_onnx(path, model) < most


@pytest.mark.parametrize("dtype", TOLERANCE)
def test_probabilities(dtype, tmp_path):
    path = tmp_path / "m.onnx"
    X = samples(2, dtype)
    cases_ = (
        ((2, 5, 3), "softmax_cross_entropy", ["a", "b", "c"], slice(None)),
        ((2, 5, 1), "logistic", ["a", "b"], slice(1, 2)),
        ((2, 5, 3), "logistic", None, slice(None)),
    )
    for widths, loss, classes, columns in cases_:
        net, theta = network(widths, "relu")
        model = model_of(net, theta, loss=loss, classes=classes)
        slack = max(1.0, np.abs(net.predict(theta, X)).max())  # exp turns relative errors into it
        model.export(path, dtype, probabilities=True)
        expected = model.predict_proba(X)[:, columns]
        assert difference(run(path, X), expected) < slack * TOLERANCE[dtype]
        assert interchange.compare_onnx(path, model, probabilities=True) < slack * TOLERANCE[dtype]
        assert interchange.compare_onnx(path, model) > 0.01
    net, theta = network((2, 5, 1), "relu")
    with pytest.raises(ValueError, match="softmax_cross_entropy or logistic, not of squared"):
        model_of(net, theta).export(path, probabilities=True)


def test_the_recipe_of_numbers_is_inside_the_graph(tmp_path):
    """Missing numbers, percentages and dates are filled by the graph; levels are inputs."""
    path = tmp_path / "m.onnx"
    rng = np.random.default_rng(0)
    day = np.array("2020-01-01", dtype="datetime64[D]") + rng.integers(0, 900, 80)
    table = {
        "kind": rng.choice(["flat", "house", "shed"], 80),
        "share": [f"{v:.1f} %" for v in rng.uniform(0, 100, 80)],
        "day": [str(d) for d in day],
        "size": [None if k % 9 == 4 else float(v) for k, v in enumerate(rng.normal(50, 9, 80))],
        "rooms": rng.integers(1, 7, 80).astype(float),
        "price": rng.normal(1e6, 10.0, 80),
    }
    samples_ = fg.read_table(table, target="price", missing="impute")
    model, _ = fg.fit(samples_, 4, seed=0, max_iter=5, held_out=0.1)
    model.export(path)
    file = onnx.load(path)
    kept = {entry.key: json.loads(entry.value) for entry in file.metadata_props}
    assert kept["inputs"] == ["kind=house", "kind=shed", "share", "day", "size", "rooms"]
    assert kept["targets"] == ["price"] and "day" in kept["days_since"]
    assert interchange.compare_onnx(path, model) < 1e-9
    names = list(model.recipe.input_names)
    X = model.encode(table).X[:, [names.index(n) for n in kept["inputs"]]]
    X[:, 4] = [np.nan if v is None else v for v in table["size"]]
    np.testing.assert_allclose(run(path, X)[:, 0], model.predict(table), rtol=1e-9)
    again, _ = fg.fit(fg.read_table(table, target="price", missing="drop"), 2, seed=0, max_iter=1)
    again.export(path)
    assert interchange.compare_onnx(path, again) < 1e-9  # no value is filled


def test_extreme_inputs(tmp_path):
    """Nothing overflows, and NaN stays NaN."""
    path = tmp_path / "m.onnx"
    X = np.array([[-1e308], [-800.0], [-1e-300], [0.0], [1e-300], [800.0], [1e150], [np.nan]])
    for name in ACTIVATIONS:
        net = fg.MLP((1, 1), output_activation=name, bias="none")
        model_of(net, np.ones(1)).export(path)
        finite = X[1:-2] if name in ("square", "bent_identity", "sin") else X[:-1]
        np.testing.assert_allclose(
            run(path, finite), net.predict(np.ones(1), finite), rtol=1e-12, atol=1e-16
        )
        assert np.isnan(run(path, X[-1:])).all()


def test_what_a_file_tells(tmp_path):
    path = tmp_path / "m.onnx"
    net, theta = network((2, 3, 1), "tanh")
    model = model_of(net, theta)
    names = tuple(replace(c, name=n) for c, n in zip(model.recipe.inputs, ("a", "b"), strict=True))
    replace(model, recipe=replace(model.recipe, inputs=names, named=True)).export(path)
    file = onnx.load(path)
    kept = {entry.key: json.loads(entry.value) for entry in file.metadata_props}
    assert kept == {"inputs": ["a", "b"], "targets": ["y0"], "loss": ["squared"]}
    assert file.producer_name == "fastggn"
    (X,), (Y,) = file.graph.input, file.graph.output
    assert [d.dim_param or d.dim_value for d in X.type.tensor_type.shape.dim] == ["T", 2]
    assert [d.dim_param or d.dim_value for d in Y.type.tensor_type.shape.dim] == ["T", 1]


def test_what_the_format_cannot_hold(tmp_path, monkeypatch):
    path = tmp_path / "m.onnx"
    sine = cases.sine()
    net = fg.MLP((1, 2, 1), activation=sine)
    with pytest.raises(ValueError, match="layer 1: the activation 'sine' has no ONNX"):
        model_of(net, net.init(seed=0)).export(path)
    monkeypatch.setattr(module, "MOST_BYTES", 100)
    net, theta = network((2, 5, 1), "tanh")
    with pytest.raises(ValueError, match="at most 100 bytes, the network needs 168"):
        model_of(net, theta).export(path)
    assert not path.exists()


# --- models from files --------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("bias", ("free", "none", "fixed"))
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_a_file_is_read_back(name, bias, dtype, tmp_path):
    path = tmp_path / "m.onnx"
    for widths in ARCHITECTURES:
        output = "identity" if name == "square" and len(widths) > 3 else name
        net, theta = network(widths, name, bias, output=output)
        scales = scaling(widths[0]), scaling(widths[-1], seed=1)
        X = samples(widths[0], dtype)
        for model in (model_of(net, theta), model_of(net, theta, *scales)):
            model.export(path, dtype)
            again = interchange.from_onnx(path)
            assert difference(again.predict(X), model.predict(X)) < 10 * TOLERANCE[dtype]
            if dtype == "float64" and bias != "fixed":
                assert np.array_equal(again.theta, theta)


def test_names_classes_and_losses_are_read_back(tmp_path):
    rng = np.random.default_rng(0)
    table = {"a": rng.standard_normal(90), "b": rng.standard_normal(90)}
    table["kind"] = np.where(table["a"] > 0.3, "left", np.where(table["b"] > 0, "up", "down"))
    model, _ = fg.fit(fg.read_table(table, target="kind"), hidden=3, seed=0, max_iter=5)
    for probabilities in (False, True):
        model.export(tmp_path / "m.onnx", probabilities=probabilities)
        again = interchange.from_onnx(tmp_path / "m.onnx")
        assert again.loss.name == "softmax_cross_entropy"
        assert again.recipe.input_names == model.recipe.input_names
        assert list(again.classes) == list(model.classes)
        rows = {name: table[name] for name in "ba"}
        assert np.array_equal(again.predict(rows), model.predict(rows))
        assert np.allclose(again.predict_proba(rows), model.predict_proba(rows), rtol=1e-12)


def graph_of(nodes, constants, inputs=("x",), outputs=("y",), producer="elsewhere"):
    """A file of another program, in float32."""
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    ends = [[helper.make_tensor_value_info(n, kind, ["T", None]) for n in names]
            for names in (inputs, outputs)]  # fmt: skip
    arrays = [onnx.numpy_helper.from_array(np.float32(a), n) for n, a in constants.items()]
    made = [helper.make_node(kind, i.split(), o.split(), **options)
            for kind, i, o, options in nodes]  # fmt: skip
    graph = helper.make_graph(made, "g", *ends, initializer=arrays)
    file = helper.make_model(graph, opset_imports=[helper.make_opsetid("", module.OPSET)])
    file.producer_name, file.ir_version = producer, module.IR_VERSION
    return file


RNG = np.random.default_rng(5)
CONSTANTS = {
    "W": RNG.standard_normal((3, 5)), "b": RNG.standard_normal(5),
    "V": RNG.standard_normal((2, 5)), "c": RNG.standard_normal(2),
    "mean": RNG.standard_normal((1, 3)), "factor": RNG.uniform(1, 2, (1, 3)),
    "r": RNG.standard_normal((1, 5)), "two": 2.0,
}  # fmt: skip
FRONT = [("Sub", "x mean", "s", {}), ("Mul", "s factor", "t", {}), ("MatMul", "t W", "u", {})]
CHAINS = {
    "as Keras writes it": [
        *FRONT, ("Add", "u b", "v", {}), ("Relu", "v", "w", {}),
        ("Gemm", "w V c", "y", {"transB": 1, "alpha": 0.5, "beta": 2.0}),
    ],
    "a bias first, a slope, a scale behind": [
        *FRONT, ("Add", "b u", "v", {}), ("LeakyRelu", "v", "w", {"alpha": 0.25}),
        ("Gemm", "w V", "q", {"transB": 1}), ("Mul", "q two", "p", {}), ("Add", "p c", "y", {}),
    ],
    "SiLU as PyTorch writes it": [
        *FRONT, ("Add", "u b", "v", {}), ("Sigmoid", "v", "p", {}), ("Mul", "v p", "w", {}),
        ("Gemm", "w V c", "y", {"transB": 1}),
    ],
    "a transposed constant, a dropout, a sigmoid": [
        *FRONT, ("Softplus", "u", "v", {}), ("Dropout", "v", "w", {}),
        ("Transpose", "r", "rt", {"perm": [1, 0]}), ("MatMul", "w rt", "q", {}),
        ("Sigmoid", "q", "y", {}),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", CHAINS)
def test_chains_of_other_programs(name, tmp_path):
    path = tmp_path / "m.onnx"
    file = graph_of(CHAINS[name], CONSTANTS)
    onnx.checker.check_model(file)
    path.write_bytes(file.SerializeToString())
    X = np.float32(np.random.default_rng(6).standard_normal((40, 3)))
    session = runtime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (expected,) = session.run(None, {"x": X})
    with (
        pytest.warns(interchange.InterchangeWarning)
        if "bias" in name or "slope" in name
        else contextlib.nullcontext()
    ):
        model = interchange.from_onnx(path)
    assert difference(model.predict(np.float64(X)), expected) < 2e-6
    if name.endswith("sigmoid"):
        assert interchange.from_onnx(path, logits=True).loss.name == "logistic"
        labelled = interchange.from_onnx(path, classes=["no", "yes"])
        assert list(labelled.classes) == ["no", "yes"]


DENSE = ("Gemm", "x W b", "u", {})
REFUSED = {
    "another operator": ([DENSE, ("Gelu", "u", "y", {})], "Gelu"),
    "a wider activation": ([DENSE, ("Exp", "u", "y", {})], r"Exp\(z\)"),
    "a branch": ([DENSE, ("Gemm", "x W b", "v", {}), ("Add", "u v", "y", {})], "branch"),
    "a skip": ([("Gemm", "x S", "u", {}), ("Add", "u x", "y", {})], "branches"),
    "behind a softmax": ([DENSE, ("Softmax", "u", "v", {}), ("Tanh", "v", "y", {})], "softmax"),
    "a constant between": (
        [DENSE, ("Tanh", "u", "v", {}), ("Mul", "v two", "w", {}),
         ("Gemm", "w V", "y", {"transB": 1})],
        "between",
    ),
    "samples in columns": ([("MatMul", "W x", "y", {})], "rows"),
    "no layer": ([("Tanh", "x", "y", {})], "Tanh"),
    "a negative scale": ([("Mul", "x minus", "s", {}), ("Gemm", "s W", "y", {})], "positive"),
    "widths that do not chain": ([DENSE, ("Gemm", "u W", "y", {})], "takes 3 inputs"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_graphs_that_are_no_chain_of_layers(name, tmp_path):
    nodes, words = REFUSED[name]
    more = {"S": np.eye(3), "minus": -np.ones(3)}
    (tmp_path / "m.onnx").write_bytes(graph_of(nodes, CONSTANTS | more).SerializeToString())
    with pytest.raises(ValueError, match=words):
        interchange.from_onnx(tmp_path / "m.onnx")


def test_files_that_are_no_network_are_refused(tmp_path):
    path = tmp_path / "m.onnx"
    file = graph_of([DENSE], CONSTANTS, inputs=("x", "z"), outputs=("u",))
    path.write_bytes(file.SerializeToString())
    with pytest.raises(ValueError, match="one input and one output, it has x, z and u"):
        interchange.from_onnx(path)
    file = graph_of([DENSE], CONSTANTS, outputs=("u",))
    tensor = file.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")
    path.write_bytes(file.SerializeToString())
    with pytest.raises(ValueError, match="lies in another file"):
        interchange.from_onnx(path)
    file = graph_of([DENSE], CONSTANTS, outputs=("u",))
    file.graph.initializer[0].dims[0] = 10**9
    path.write_bytes(file.SerializeToString())
    with pytest.raises(ValueError, match=r"m\.onnx: "):
        interchange.from_onnx(path)
    path.write_bytes(b"no model")
    with pytest.raises(ValueError, match="not an ONNX model"):
        interchange.from_onnx(path)


def test_a_changed_byte_is_an_error_or_another_number(tmp_path):
    path = tmp_path / "m.onnx"
    model_of(*network((2, 3, 1), "tanh")).export(path)
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in rng.integers(len(whole), size=200):
        changed = bytearray(whole)
        changed[place] ^= 1 << rng.integers(8)
        path.write_bytes(changed if place % 4 else whole[:place])
        with contextlib.suppress(ValueError):
            assert isinstance(interchange.from_onnx(path), fg.Model)
