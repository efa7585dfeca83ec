"""Models from ONNX files: chains of layers, whoever wrote them."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastggn.data.scaler import Scaler
from fastggn.model.decision import LINKS
from fastggn.model.interchange.chain import Dense, network_of
from fastggn.model.interchange.extras import require
from fastggn.model.interchange.facts import FACTS, described
from fastggn.model.interchange.onnx import read_onnx
from fastggn.model.model import Model
from fastggn.network.activations import Activation, get_activation, leaky_relu
from fastggn.runtime.archive import ArchiveError
from fastggn.runtime.atomic_files import PathLike

FloatArray = NDArray[np.float64]

# Activations that `Model.export` composes of operators, and those that are one operator, by the
# expression of the weighted sum z.
EXPRESSIONS = {
    "z": "identity",
    "Tanh(z)": "tanh",
    "Sigmoid(z)": "sigmoid",
    "Relu(z)": "relu",
    "Softplus(z)": "softplus",
    "Softsign(z)": "softsign",
    "Div(z,Add(Abs(z),1.0))": "softsign",
    "Add(Relu(z),Log(Add(Exp(Neg(Abs(z))),1.0)))": "softplus",
    "Mul(z,z)": "square",
    "Sin(z)": "sin",
    "Mul(z,Sigmoid(z))": "swish",
    "Div(z,Add(Exp(Neg(z)),1.0))": "swish",
    "Add(Mul(Sub(Sqrt(Add(Mul(z,z),1.0)),1.0),0.5),z)": "bent_identity",
}
UNARY = (
    "Tanh",
    "Sigmoid",
    "Relu",
    "Softplus",
    "Softsign",
    "Abs",
    "Neg",
    "Exp",
    "Log",
    "Sqrt",
    "Sin",
)
BINARY = ("Add", "Sub", "Mul", "Div")
SAME = ("Identity", "Cast", "Dropout", "Flatten")
LAST = ("Softmax", "LogSoftmax")
ACCEPTED = (
    "Gemm, MatMul, Add, Sub, Mul and Div with constants, Tanh, Sigmoid, Relu, LeakyRelu, PRelu, "
    "Softplus, Softsign, Sin, Identity, Cast, Flatten, Dropout, and a last Softmax or LogSoftmax"
)


def from_onnx(path: PathLike, *, logits: bool = False, classes: ArrayLike | None = None) -> Model:
    """Read a model from an ONNX file that holds a chain of dense layers.

    Parameters
    ----------
    path : path-like
        A file of `Model.export`, of ``torch.onnx.export``, skl2onnx, tf2onnx or another program:
        one input (T, n), one output, layers of ``Gemm`` or ``MatMul`` and ``Add`` with an
        activation each. Constants that shift and scale the inputs before the first layer, or the
        outputs behind the last one, become the scales of the model.
    logits : bool
        Leave out a last Sigmoid: the loss ``logistic`` contains it. A file of `Model.export`
        tells whether its Sigmoid is such a one.
    classes : array_like, shape (n_classes,), optional
        The labels of the outputs, of two classes for one output; by default those of the file,
        and behind a last Softmax 0, 1, ...

    Returns
    -------
    Model
        The stored weights in float64. From a file of `Model.export` also the names of columns
        and classes, and the loss.

    Raises
    ------
    MissingFileError
        If there is no such file.
    ArchiveError
        If it is no ONNX model, holds another operator (the message names it), or its shapes do
        not chain (a ``ValueError``).
    ImportError
        If onnx is not installed (extra ``onnx``).

    Warns
    -----
    InterchangeWarning
        If some layers have a bias and others none.
    """
    file = read_onnx(path)
    onnx = require("onnx", "onnx", f"{path}: reading it")
    try:
        facts = _facts(file)
        if classes is not None:
            facts["classes"] = [str(label) for label in np.asarray(classes).tolist()]
        left_out = facts.get("loss") == ["logistic"] or classes is not None
        return _model(_Chain(onnx, file.graph), logits or left_out, facts)
    except (TypeError, ValueError, LookupError) as error:
        raise ArchiveError(f"{path}: {error}") from None


def _facts(file: Any) -> dict[str, list[str]]:
    """Return the facts that `Model.export` keeps; other programs' properties are not read."""
    if file.producer_name != "fastggn":
        return {}
    found = {prop.key: prop.value for prop in file.metadata_props if prop.key in FACTS}
    return {name: json.loads(text) for name, text in found.items()}


def _model(chain: _Chain, logits: bool, facts: dict[str, list[str]]) -> Model:
    layers, link = list(chain.layers), chain.link
    if logits and link is None and layers[-1].activation.name == "sigmoid":
        layers[-1] = replace(layers[-1], activation=get_activation("identity"))
        link = "sigmoid"
    net, theta = network_of(layers, chain.names)
    if "loss" not in facts:
        several = "classes" in facts and net.n_outputs > 1
        losses = {function: loss for loss, function in LINKS.items()}
        if link is None and "classes" in facts:
            link = "softmax" if several else "sigmoid"
        facts["loss"] = [losses.get(str(link), "squared")]
    if link == "softmax" and "classes" not in facts:
        facts["classes"] = [str(k) for k in range(net.n_outputs)]
    loss, recipe = described(net.n_inputs, net.n_outputs, facts)
    inputs = _scaler(chain.inputs, invert=True)
    return Model(net, theta, loss, recipe, inputs, _scaler(chain.outputs, invert=False))


def _scaler(affine: _Affine | None, *, invert: bool) -> Scaler | None:
    """Return the scaler of y = scale x + shift, or of its inverse."""
    if affine is None:
        return None
    if invert:
        return Scaler.at(-affine.shift / affine.scale, 1.0 / affine.scale)
    return Scaler.at(affine.shift, affine.scale)


@dataclass(frozen=True)
class _Affine:
    """y = scale x + shift, entry by entry."""

    scale: FloatArray
    shift: FloatArray

    def then(self, kind: str, constant: FloatArray, *, reverse: bool) -> _Affine:
        """Return this map with one more operation behind it."""
        if kind == "Add":
            return _Affine(self.scale, self.shift + constant)
        if kind == "Sub" and not reverse:
            return _Affine(self.scale, self.shift - constant)
        if kind == "Sub":
            return _Affine(-self.scale, constant - self.shift)
        if kind == "Mul":
            return _Affine(self.scale * constant, self.shift * constant)
        if reverse:
            raise ValueError("a constant divided by a value is no layer")
        return _Affine(self.scale / constant, self.shift / constant)


@dataclass(frozen=True)
class _Value:
    """An expression of the weighted sums of one layer (0: of the inputs), and what follows it."""

    layer: int
    text: str
    affine: _Affine | None = None


class _Chain:
    """Walks through the nodes of a graph, and collects its layers."""

    def __init__(self, onnx: Any, graph: Any) -> None:
        self._onnx = onnx
        self.layers: list[Dense] = []
        self.names: list[str] = []
        self.inputs: _Affine | None = None
        self.outputs: _Affine | None = None
        self.link: str | None = None
        self._slopes: dict[str, float] = {}
        self._constants = {c.name: self._array(c.name, c) for c in graph.initializer}
        inputs = [value.name for value in graph.input if value.name not in self._constants]
        if len(inputs) != 1 or len(graph.output) != 1:
            outputs = ", ".join(value.name for value in graph.output)
            raise ValueError(
                f"the graph must have one input and one output, it has {', '.join(inputs)} and "
                f"{outputs}"
            )
        self._values = {inputs[0]: _Value(0, "z")}
        for node in graph.node:
            self._read(node)
        self._finish(self._values.get(graph.output[0].name))

    def _array(self, name: str, tensor: Any) -> NDArray[Any]:
        if tensor.data_location == self._onnx.TensorProto.EXTERNAL:
            raise ValueError(f"{name} lies in another file; save the model with its weights inside")
        array = self._onnx.numpy_helper.to_array(tensor)
        if array.dtype.kind not in "fiu" and array.dtype.name != "bfloat16":
            return np.asarray(array)  # the node that uses it is refused
        return np.asarray(array, dtype=np.float64)

    def _read(self, node: Any) -> None:
        what = f"node {node.name or node.output[0]}, {node.op_type}"
        options = {a.name: self._onnx.helper.get_attribute_value(a) for a in node.attribute}
        if node.op_type == "Constant" and "value" in options:
            self._constants[node.output[0]] = self._array(what, options["value"])
            return
        constants = [self._constants[name] for name in node.input if name in self._constants]
        if node.op_type == "Transpose" and len(constants) == 1:
            self._constants[node.output[0]] = constants[0].transpose(options.get("perm"))
            return
        values = [self._values.get(name) for name in node.input]
        found = [value for value in values if value is not None]
        if not found or len(found) + len(constants) != sum(bool(name) for name in node.input):
            raise ValueError(f"{what} does not read the chain of layers and constants alone")
        if self.link is not None and node.op_type not in SAME:
            raise ValueError(f"{what} stands behind a softmax, which must be the last one")
        self._values[node.output[0]] = self._result(what, node, options, found, constants)

    def _result(
        self, what: str, node: Any, options: Any, found: list[_Value], constants: list[Any]
    ) -> _Value:
        kind, value = node.op_type, found[0]
        if node.domain not in ("", "ai.onnx"):
            raise ValueError(f"{what}, of {node.domain}, cannot be read; accepted: {ACCEPTED}")
        if kind in SAME:
            if kind == "Cast" and options["to"] not in self._real_types():
                raise ValueError(f"{what}: only casts between real types can be read")
            if kind == "Flatten" and options.get("axis", 1) != 1:
                raise ValueError(f"{what}: only axis=1 leaves (T, n) as it is")
            return value
        if kind in LAST:
            if options.get("axis", -1) not in (1, -1):
                raise ValueError(f"{what}: axis must be 1 or -1, got {options['axis']}")
            self.link = "softmax"
            return value
        if kind in ("Gemm", "MatMul"):
            return self._dense(what, node, options, value, constants)
        if kind in BINARY and len(node.input) == 2:
            return self._binary(what, node, found, constants)
        if value.affine is None and value.layer and len(node.input) == 1 + len(constants):
            if kind in UNARY:
                return replace(value, text=f"{kind}({value.text})")
            if kind in ("LeakyRelu", "PRelu") and value.text == "z":
                slopes = constants[0] if kind == "PRelu" else options.get("alpha", 0.01)
                if np.unique(slopes).size == 1:
                    name = f"leaky_relu:{float(np.unique(slopes)[0])!r}"
                    self._slopes[name] = float(np.unique(slopes)[0])
                    return replace(value, text=name)
        raise ValueError(f"{what} cannot be read here; accepted: {ACCEPTED}")

    def _real_types(self) -> tuple[int, ...]:
        kinds = self._onnx.TensorProto
        return kinds.DOUBLE, kinds.FLOAT, kinds.FLOAT16, kinds.BFLOAT16

    def _dense(
        self, what: str, node: Any, options: Any, value: _Value, constants: list[Any]
    ) -> _Value:
        """Read a product with a matrix of weights."""
        if node.input[0] not in self._values or options.get("transA", 0) or not constants:
            raise ValueError(f"{what}: the samples must be the rows of the first factor")
        weight = constants[0] if options.get("transB", 0) else constants[0].T
        weight = options.get("alpha", 1.0) * weight
        if weight.ndim != 2:
            raise ValueError(f"{what}: the weights have shape {constants[0].shape}")
        bias = None
        if len(constants) == 2:
            bias = np.broadcast_to(options.get("beta", 1.0) * constants[1], (1, weight.shape[0]))[0]
        if value.layer == 0:
            self.inputs = self._wide(what, value.affine, weight.shape[1])
        else:
            self._close(value)
        if value.layer != len(self.layers):
            raise ValueError(f"{what} does not stand behind the last layer: the graph branches")
        self.layers.append(Dense(np.array(weight), bias, get_activation("identity")))
        self.names.append(what)
        return _Value(len(self.layers), "z")

    def _wide(self, what: str, affine: _Affine | None, width: int) -> _Affine | None:
        if affine is None:
            return None
        try:
            scale, shift = (np.broadcast_to(a, (1, width))[0] for a in (affine.scale, affine.shift))
        except ValueError:
            raise ValueError(f"{what}: the constants before it do not fit its width") from None
        if not (np.isfinite(scale).all() and np.isfinite(shift).all() and (scale > 0.0).all()):
            raise ValueError(f"{what}: the scales before it must be positive and finite")
        return _Affine(scale, shift)

    def _binary(self, what: str, node: Any, found: list[_Value], constants: list[Any]) -> _Value:
        kind, value = node.op_type, found[0]
        if len(found) == 2:
            first, second = found
            if first.layer == second.layer > 0 and first.affine is None is second.affine:
                return replace(first, text=f"{kind}({first.text},{second.text})")
            raise ValueError(f"{what}: the graph branches")
        constant = constants[0]
        reverse = node.input[0] not in self._values
        last = self.layers[-1] if self.layers else None
        if kind == "Add" and value.text == "z" and last is not None and value.affine is None:
            if last.bias is None and constant.size == last.weight.shape[0]:
                self.layers[-1] = replace(last, bias=constant.reshape(-1))
                return value
        if constant.size == 1 and value.affine is None and value.text != "z" and not reverse:
            composed = f"{kind}({value.text},{float(constant.reshape(-1)[0])!r})"
            if any(composed in text for text in EXPRESSIONS):
                return replace(value, text=composed)
        identity = _Affine(np.ones(1), np.zeros(1))
        affine = (value.affine or identity).then(kind, constant, reverse=reverse)
        return replace(value, affine=affine)

    def _close(self, value: _Value) -> None:
        """Give the last layer its activation, and fold what follows into the next product."""
        if value.affine is not None:
            raise ValueError(
                f"constants stand between {self.names[-1]} and the next layer: only those before "
                "the first layer and behind the last one can be read"
            )
        self.layers[-1] = replace(self.layers[-1], activation=self._activation(value.text))

    def _activation(self, text: str) -> Activation:
        if text in self._slopes:
            return leaky_relu(self._slopes[text])
        if text not in EXPRESSIONS:
            raise ValueError(f"{self.names[-1]} is followed by {text}, which is no activation here")
        return get_activation(EXPRESSIONS[text])

    def _finish(self, value: _Value | None) -> None:
        if value is None or not self.layers or value.layer != len(self.layers):
            raise ValueError("the output is not that of a chain of layers")
        self.outputs = self._wide(self.names[-1], value.affine, self.layers[-1].weight.shape[0])
        self._close(replace(value, affine=None))
