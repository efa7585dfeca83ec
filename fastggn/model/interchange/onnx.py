"""ONNX files from models, with weights in float64 or float32, for any number of samples."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.data.recipe import Recipe
from fastggn.model.interchange.chain import Dense, cast, chain_of
from fastggn.model.interchange.extras import require
from fastggn.model.interchange.facts import facts_of
from fastggn.network.activations import Activation
from fastggn.runtime.archive import ArchiveError, require_file
from fastggn.runtime.atomic_files import PathLike, write_atomically
from fastggn.runtime.version import __version__

FloatArray = NDArray[np.float64]

# Opset 17 and format 8 are read by onnxruntime from 1.13 on.
OPSET = 17
IR_VERSION = 8
MOST_BYTES = 2**31 - 2**20  # of one protocol buffer
COMPARED = 256  # random rows
ABSENT_SHARE = 8  # one in so many values is missing where the recipe fills it
LINKS: dict[str, tuple[str, dict[str, Any]]] = {
    "softmax": ("Softmax", {"axis": 1}),
    "sigmoid": ("Sigmoid", {}),
}


@dataclass(frozen=True)
class Columns:
    """The inputs X of a graph, and how they become those of the network.

    Numbers, dates (as days) and percentages with missing values may be NaN: the graph fills them,
    and derives their indicators. All other inputs are those of the network.
    """

    names: tuple[str, ...]
    fills: FloatArray  # (r,), NaN where nothing is filled
    flagged: tuple[int, ...]  # the inputs whose indicators stand behind the r inputs
    order: tuple[int, ...]  # of the inputs of the network among the inputs and indicators

    @classmethod
    def of(cls, recipe: Recipe) -> Columns:
        """Return the inputs of the graph for a recipe."""
        names: list[str] = []
        fills: list[float] = []
        flagged: list[int] = []
        order: list[int] = []
        for column in recipe.inputs:
            own, fill = column.inputs, np.nan
            if column.kind != "category" and column.fill is not None:
                fill = float(column.fill)
            derived = column.kind != "category" and column.indicator
            for name in own[:-1] if derived else own:
                order.append(len(names))
                names.append(name)
                fills.append(fill)
            if derived:
                flagged.append(len(names) - 1)
                order.append(-len(flagged))
        r = len(names)
        places = tuple(r - 1 - place if place < 0 else place for place in order)
        return cls(tuple(names), np.array(fills), tuple(flagged), places)

    def encode(self, X: FloatArray) -> FloatArray:
        """Return the inputs of the network for rows of X, as the graph does."""
        missing = np.isnan(X)
        both = np.hstack([np.where(missing, self.fills, X), missing[:, list(self.flagged)]])
        return np.ascontiguousarray(both[:, list(self.order)])


def write_onnx(
    path: PathLike, model: Any, dtype: np.dtype[Any], *, probabilities: bool = False
) -> None:
    """Write a model as an ONNX file with input X (T, n) and output Y (T, n_L), both float64.

    ``onnx.checker`` checks the file, which then replaces an older one in one step. It uses opset
    17, format 8 and operators that onnxruntime has in float64.
    """
    onnx = require("onnx", "onnx", "writing .onnx files")
    link = _link(model) if probabilities else None
    layers = chain_of(model.network, model.theta)
    n_bytes = dtype.itemsize * sum(layer.weight.size + layer.weight.shape[0] for layer in layers)
    if n_bytes > MOST_BYTES:
        raise ValueError(
            f"an .onnx file holds at most {MOST_BYTES} bytes, the network needs {n_bytes}"
        )
    columns = Columns.of(model.recipe)
    file = _Graph(onnx, dtype).model(model, columns, layers, link)
    file.ir_version = IR_VERSION
    file.producer_name, file.producer_version = "fastggn", __version__
    facts: dict[str, Any] = facts_of(model)
    if "inputs" in facts:
        facts["inputs"] = list(columns.names)
    if days := {c.name: c.origin for c in model.recipe.inputs if c.kind == "date"}:
        facts["days_since"] = days
    onnx.helper.set_model_props(file, {name: json.dumps(value) for name, value in facts.items()})
    onnx.checker.check_model(file, full_check=True)
    content = file.SerializeToString()
    write_atomically(path, lambda stream: _write(stream, content))


def read_onnx(path: PathLike) -> Any:
    """Return the ONNX model in a file, whoever wrote it."""
    onnx = require("onnx", "onnx", f"{path}: reading it")
    content = require_file(path).read_bytes()
    try:
        return onnx.load_model_from_string(content)
    except require("google.protobuf.message", "onnx", f"{path}: reading it").DecodeError as error:
        raise ArchiveError(f"{path}: not an ONNX model ({error})") from None


def _link(model: Any) -> str:
    """Return the function from the outputs of a classifier to probabilities."""
    decision = model.decision
    if decision is None or decision.link is None:
        raise ValueError(
            "probabilities need a model of the loss softmax_cross_entropy or logistic, not of "
            f"{model.loss.name}"
        )
    return str(decision.link)


def compare_onnx(path: PathLike, model: Any, *, probabilities: bool = False) -> float:
    """Run an ONNX file in onnxruntime, and compare it with the model in float64.

    Parameters
    ----------
    path : path-like
        A file of `Model.export`.
    model : Model
    probabilities : bool
        Whether the file ends in probabilities.

    Returns
    -------
    float
        The largest difference of an output, divided by the largest distance of an output from the
        mean of the targets (from 0 where they are not scaled), at 256 rows drawn evenly over the
        range of the training, with missing values where the recipe fills them.

    Raises
    ------
    ValueError
        If the model has no probabilities, and they are asked for.
    ImportError
        If onnxruntime is not installed (extra ``onnx``).
    """
    runtime = require("onnxruntime", "onnx", "running .onnx files")
    session = runtime.InferenceSession(os.fspath(path), providers=["CPUExecutionProvider"])
    (node,) = session.get_inputs()
    columns = Columns.of(model.recipe)
    X = _drawn(model, columns)
    (found,) = session.run(None, {node.name: X})
    expected = model.outputs_of(columns.encode(X))
    middle = 0.0 if model.target_scaler is None else model.target_scaler.mean
    if probabilities:
        _link(model)
        expected, middle = model.decision.linked(expected), 0.0
    largest = float(np.abs(expected - middle).max())
    return float(np.abs(found - expected).max()) / (largest or 1.0)


def _drawn(model: Any, columns: Columns) -> FloatArray:
    """Return rows of X over the range of the training, or of a standard normal distribution."""
    rng = np.random.default_rng(0)
    kept = [place for place in columns.order if place < len(columns.names)]
    scaler = model.input_scaler
    if scaler is None:
        encoded = rng.standard_normal((COMPARED, len(columns.order)))
    else:
        encoded = rng.uniform(scaler.least, scaler.largest, (COMPARED, len(columns.order)))
    X = np.empty((COMPARED, len(columns.names)))
    X[:, kept] = encoded[:, [k for k, place in enumerate(columns.order) if place in set(kept)]]
    absent = rng.integers(ABSENT_SHARE, size=X.shape) == 0
    X[absent & ~np.isnan(columns.fills)] = np.nan
    return X


def _write(stream: Any, content: bytes) -> None:
    stream.write(content)


class _Graph:
    """A chain of nodes and their constants."""

    def __init__(self, onnx: Any, dtype: np.dtype[Any]) -> None:
        self._onnx = onnx
        self._dtype = dtype  # of the layers
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def model(self, model: Any, columns: Columns, layers: list[Dense], link: str | None) -> Any:
        """Return the ONNX model: inputs, scaling, layers, units, probabilities."""
        value = self._encoded("X", columns)
        # An offset in float32 would lose the digits of a column far from zero.
        if (scaler := model.input_scaler) is not None:
            value = self.add("Sub", value, self.exact("input_mean", scaler.mean))
            value = self.add("Div", value, self.exact("input_scale", scaler.scale))
        value = self._cast(value, self._dtype)
        for number, layer in enumerate(layers, start=1):
            value = self._layer(number, layer, value)
        value = self._cast(value, np.dtype(np.float64))
        if (scaler := model.target_scaler) is not None:
            value = self.add("Mul", value, self.exact("target_scale", scaler.scale))
            value = self.add("Add", value, self.exact("target_mean", scaler.mean))
        if link is not None:
            kind, options = LINKS[link]
            value = self.add(kind, value, **options)
        self.add("Identity", value, output="Y")
        helper = self._onnx.helper
        kind = helper.np_dtype_to_tensor_dtype(np.dtype(np.float64))
        widths = {"X": len(columns.names), "Y": layers[-1].weight.shape[0]}
        ends = [helper.make_tensor_value_info(k, kind, ["T", n]) for k, n in widths.items()]
        graph = helper.make_graph(
            self._nodes, "fastggn", ends[:1], ends[1:], initializer=self._constants
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])

    def add(self, kind: str, *values: str, output: str | None = None, **options: Any) -> str:
        """Add a node and return the name of its output."""
        name = output or f"v{len(self._nodes) + 1}"
        self._nodes.append(
            self._onnx.helper.make_node(kind, list(values), [name], f"{kind}_{name}", **options)
        )
        return name

    def constant(self, name: str, values: Any) -> str:
        """Keep an array or a number in the type of the layers, and return its name."""
        return self.exact(name, cast(name, np.asarray(values, dtype=np.float64), self._dtype))

    def exact(self, name: str, values: NDArray[Any]) -> str:
        """Keep an array in its own type, and return its name."""
        if all(known.name != name for known in self._constants):
            self._constants.append(self._onnx.numpy_helper.from_array(values, name))
        return name

    def _cast(self, value: str, dtype: np.dtype[Any]) -> str:
        if self._dtype == np.float64:
            return value
        kind = self._onnx.helper.np_dtype_to_tensor_dtype(dtype)
        return self.add("Cast", value, to=kind)

    def _encoded(self, value: str, columns: Columns) -> str:
        """Fill missing values and add their indicators."""
        if np.isnan(columns.fills).all():
            return value
        missing = self.add("IsNaN", value)
        value = self.add("Where", missing, self.exact("fills", columns.fills), value)
        if not columns.flagged:
            return value
        places = self.exact("flagged", np.array(columns.flagged, dtype=np.int64))
        flags = self.add("Gather", missing, places, axis=1)
        double = self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(np.float64))
        both = self.add("Concat", value, self.add("Cast", flags, to=double), axis=1)
        order = self.exact("order", np.array(columns.order, dtype=np.int64))
        return self.add("Gather", both, order, axis=1)

    def _layer(self, number: int, layer: Dense, value: str) -> str:
        parts = [self.constant(f"W_{number}", layer.weight)]
        if layer.bias is not None:
            parts.append(self.constant(f"b_{number}", layer.bias))
        value = self.add("Gemm", value, *parts, transB=1)
        sigma = layer.activation
        if sigma.name == "identity":
            return value
        if sigma.name not in _ACTIVATIONS:
            raise ValueError(
                f"layer {number}: the activation {sigma.name!r} has no ONNX operator in float64 "
                f"(known: identity, {', '.join(_ACTIVATIONS)})"
            )
        return _ACTIVATIONS[sigma.name](self, value, sigma)


# Operators that onnxruntime has in float32 only are composed of others.


def _operator(kind: str) -> Callable[[_Graph, str, Activation], str]:
    return lambda graph, z, _: graph.add(kind, z)


def _softsign(graph: _Graph, z: str, _: Activation) -> str:
    return graph.add("Div", z, graph.add("Add", graph.add("Abs", z), graph.constant("one", 1.0)))


def _softplus(graph: _Graph, z: str, _: Activation) -> str:
    """Add max(z, 0) + log(1 + exp(-|z|)), which never overflows."""
    small = graph.add("Exp", graph.add("Neg", graph.add("Abs", z)))
    rest = graph.add("Log", graph.add("Add", small, graph.constant("one", 1.0)))
    return graph.add("Add", graph.add("Relu", z), rest)


def _leaky_relu(graph: _Graph, z: str, sigma: Activation) -> str:
    # LeakyRelu keeps its slope in float32, whatever the type of z.
    return graph.add("PRelu", z, graph.constant(f"slope_{sigma.param!r}", [sigma.param]))


def _square(graph: _Graph, z: str, _: Activation) -> str:
    return graph.add("Mul", z, z)


def _swish(graph: _Graph, z: str, _: Activation) -> str:
    # onnxruntime makes QuickGelu of Mul and Sigmoid, and many of its releases have no such kernel.
    rest = graph.add("Exp", graph.add("Neg", z))
    return graph.add("Div", z, graph.add("Add", rest, graph.constant("one", 1.0)))


def _bent_identity(graph: _Graph, z: str, _: Activation) -> str:
    root = graph.add("Sqrt", graph.add("Add", graph.add("Mul", z, z), graph.constant("one", 1.0)))
    bend = graph.add("Mul", graph.add("Sub", root, graph.constant("one", 1.0)),
                     graph.constant("half", 0.5))  # fmt: skip
    return graph.add("Add", bend, z)


_ACTIVATIONS: dict[str, Callable[[_Graph, str, Activation], str]] = {
    "sigmoid": _operator("Sigmoid"),
    "tanh": _operator("Tanh"),
    "softsign": _softsign,
    "softplus": _softplus,
    "bent_identity": _bent_identity,
    "relu": _operator("Relu"),
    "leaky_relu": _leaky_relu,
    "square": _square,
    "sin": _operator("Sin"),
    "swish": _swish,
}
