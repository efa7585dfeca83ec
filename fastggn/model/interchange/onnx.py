"""ONNX files from networks, in float64 or float32, for any number of samples."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastggn.model.interchange.chain import Affine, Dense, as_affine, cast
from fastggn.model.interchange.extras import require
from fastggn.network.activations import Activation
from fastggn.network.mlp import MLP
from fastggn.runtime.atomic_files import PathLike, write_atomically
from fastggn.runtime.errors import unknown_name
from fastggn.runtime.version import __version__

# Opset 17 and format 8 are read by onnxruntime from 1.13 on.
OPSET = 17
IR_VERSION = 8
MOST_BYTES = 2**31 - 2**20  # of one protocol buffer
COMPARED = 256  # random inputs
PROBABILITIES = {"softmax": "Softmax", "sigmoid": "Sigmoid"}


def write_onnx(
    path: PathLike,
    layers: Sequence[Dense],
    dtype: np.dtype[Any],
    inputs: Affine | None = None,
    targets: Affine | None = None,
    *,
    probabilities: str | None = None,
    properties: Mapping[str, str] | None = None,
) -> None:
    """Write layers as an ONNX model; see `interchange.to_onnx`."""
    onnx = require("onnx", "onnx", "writing .onnx files")
    if probabilities is not None and probabilities not in PROBABILITIES:
        raise unknown_name("probabilities", probabilities, PROBABILITIES)
    n_bytes = dtype.itemsize * sum(layer.weight.size + layer.weight.shape[0] for layer in layers)
    if n_bytes > MOST_BYTES:
        raise ValueError(
            f"an .onnx file holds at most {MOST_BYTES} bytes, the network needs {n_bytes}"
        )
    model = _Graph(onnx, dtype).model(layers, inputs, targets, probabilities)
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version = "fastggn", __version__
    if properties:
        onnx.helper.set_model_props(model, dict(properties))
    onnx.checker.check_model(model, full_check=True)
    content = model.SerializeToString()
    write_atomically(path, lambda stream: _write(stream, content))


def compare_onnx(
    path: PathLike,
    net: MLP,
    theta: ArrayLike,
    *,
    scale_inputs: Any = None,
    scale_targets: Any = None,
) -> float:
    """Run an ONNX model in onnxruntime, and compare it with the network.

    Parameters
    ----------
    path : path-like
        A file of `interchange.to_onnx`, without ``probabilities``.
    net : MLP
    theta : array_like, shape (n_params,)
    scale_inputs, scale_targets : optional
        As given to `interchange.to_onnx`.

    Returns
    -------
    float
        The largest difference of an output divided by the largest output, at 256 random inputs
        of standard normal distribution in the scaled units.

    Raises
    ------
    ValueError
        If an argument is wrong.
    ImportError
        If onnxruntime is not installed (extra ``onnx``).
    """
    runtime = require("onnxruntime", "onnx", "running .onnx files")
    session = runtime.InferenceSession(os.fspath(path), providers=["CPUExecutionProvider"])
    (node,) = session.get_inputs()
    kind = np.float64 if "double" in node.type else np.float32
    inputs = as_affine("scale_inputs", scale_inputs, net.n_inputs)
    targets = as_affine("scale_targets", scale_targets, net.n_outputs)
    X = np.random.default_rng(0).standard_normal((COMPARED, net.n_inputs))
    if inputs is not None:
        raw = (X * inputs.scale + inputs.mean).astype(kind)
        expected = net.predict(theta, (raw.astype(np.float64) - inputs.mean) / inputs.scale)
    else:
        raw = X.astype(kind)
        expected = net.predict(theta, raw.astype(np.float64))
    if targets is not None:
        expected = expected * targets.scale + targets.mean
    (found,) = session.run(None, {node.name: raw})
    largest = float(np.abs(expected).max())
    return float(np.abs(found - expected).max()) / (largest or 1.0)


def _write(stream: Any, content: bytes) -> None:
    stream.write(content)


class _Graph:
    """A chain of nodes and their constants."""

    def __init__(self, onnx: Any, dtype: np.dtype[Any]) -> None:
        self._onnx = onnx
        self._dtype = dtype
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def model(
        self,
        layers: Sequence[Dense],
        inputs: Affine | None,
        targets: Affine | None,
        probabilities: str | None,
    ) -> Any:
        """Return the model: input X (T, n_0), output Y (T, n_L)."""
        value = "X"
        if inputs is not None:
            mean = cast("the mean of the inputs", inputs.mean, self._dtype)
            layers = [_recentred(layers[0], inputs, mean), *layers[1:]]
            value = self.add("Sub", value, self.constant("input_mean", mean))
            value = self.add("Div", value, self.constant("input_scale", inputs.scale))
        for number, layer in enumerate(layers, start=1):
            value = self._layer(number, layer, value)
        if targets is not None:
            value = self.add("Mul", value, self.constant("target_scale", targets.scale))
            value = self.add("Add", value, self.constant("target_mean", targets.mean))
        if probabilities is not None:
            axis: dict[str, Any] = {"axis": 1} if probabilities == "softmax" else {}
            value = self.add(PROBABILITIES[probabilities], value, **axis)
        self.add("Identity", value, output="Y")
        helper = self._onnx.helper
        kind = helper.np_dtype_to_tensor_dtype(self._dtype)
        widths = {"X": layers[0].weight.shape[1], "Y": layers[-1].weight.shape[0]}
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
        """Keep an array or a number, and return its name."""
        if all(known.name != name for known in self._constants):
            array = cast(name, np.asarray(values, dtype=np.float64), self._dtype)
            self._constants.append(self._onnx.numpy_helper.from_array(array, name))
        return name

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
                f"layer {number}: the custom activation {sigma.name!r} has no ONNX operator "
                f"(known: identity, {', '.join(_ACTIVATIONS)})"
            )
        return _ACTIVATIONS[sigma.name](self, value, sigma)


def _recentred(layer: Dense, inputs: Affine, mean: NDArray[Any]) -> Dense:
    """Correct the bias for the rounding of the mean to its type."""
    rest = (inputs.mean - mean) / inputs.scale
    if not rest.any():
        return layer
    shift = layer.weight @ rest
    return replace(layer, bias=-shift if layer.bias is None else layer.bias - shift)


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
}
