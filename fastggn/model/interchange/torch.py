"""``torch.nn.Sequential`` from and to networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from numpy.typing import ArrayLike

from fastggn.model.decision import LINKS
from fastggn.model.interchange.chain import (
    Dense,
    as_dtype,
    cast,
    network_of,
    notice,
    raw_chain,
)
from fastggn.model.interchange.extras import require
from fastggn.model.interchange.names import Names, layers_of
from fastggn.model.interchange.state_dict import array_of, arrays_of
from fastggn.model.model import Model
from fastggn.network.activations import Activation, get_activation, leaky_relu

# torch replaces log(1 + e^z) by z above a threshold: an error of 2e-9 at 20, the default.
EXACT_THRESHOLD = 50.0
LEAST_THRESHOLD = 20.0

ACCEPTED = (
    "Linear, Tanh, Sigmoid, ReLU, LeakyReLU, Softplus, Softsign, SiLU, GELU, Identity, Flatten, "
    "Dropout, nested Sequential, and a last Softmax or LogSoftmax"
)


def from_torch(
    model: Any,
    activation: Names | None = None,
    output_activation: str | Activation | None = None,
    *,
    logits: bool = False,
    classes: ArrayLike | None = None,
) -> Model:
    """Return the model of a PyTorch network.

    Parameters
    ----------
    model : torch.nn.Sequential or mapping of str to Tensor
        A chain of Linear and activations (Tanh, Sigmoid, ReLU, LeakyReLU, Softplus, Softsign,
        SiLU, GELU, Identity), also nested; or the state dict of a model whose layers are all
        Linear, in their order. Flatten and, as in ``model.eval()``, Dropout change nothing.
    activation : str, Activation, or sequence of them, optional
        Activation of the hidden layers; needed with a state dict, and only there.
    output_activation : str or Activation, optional
        Activation of the outputs with a state dict; the identity by default.
    logits : bool
        Leave out a last Softmax, LogSoftmax or Sigmoid: the losses ``softmax_cross_entropy``
        and ``logistic`` contain them, and the model gets the loss. Without it a last Sigmoid
        becomes the output activation, and a last Softmax or LogSoftmax is an error.
    classes : array_like, shape (n_classes,), optional
        The labels of the outputs, of two classes for one output; the loss is then one for
        classes. With a left-out softmax the default is 0, 1, ...

    Returns
    -------
    Model
        The weights, exactly, with free biases, or without biases if no layer has one; columns
        without names, no scaling.

    Raises
    ------
    TypeError
        If `model` is no module and no state dict, or a tensor does not hold real numbers.
    ValueError
        If a module is not accepted (the message names it), the shapes do not chain, a weight is
        not finite, or activations are given or missing.
    ImportError
        If torch is not installed (extra ``torch``).

    Warns
    -----
    InterchangeWarning
        If a Dropout in training mode is left out, some layers have a bias and others none,
        or layers share their weights.

    Notes
    -----
    Softplus of torch is z above its threshold, by default 20, and there differs from log(1 +
    e^z) by at most 2.1e-9.
    """
    torch = require("torch", "torch", "interchange.from_torch")
    if isinstance(model, Mapping):
        if activation is None:
            raise ValueError("a state dict does not tell the activation: give activation=")
        output = "identity" if output_activation is None else output_activation
        return _model(*layers_of(arrays_of(torch, model), activation, output), None, classes)
    if activation is not None or output_activation is not None:
        raise ValueError("activation and output_activation go with a state dict, not a module")
    if not isinstance(model, torch.nn.Module):
        raise TypeError(
            "model must be a torch.nn.Sequential or a state dict, not "
            f"{type(model).__name__}"
        )  # fmt: skip
    reader = _Reader(torch, logits)
    return _model(*reader.read(model), reader.link, classes)


def _model(layers: list[Dense], names: list[str], link: str | None, classes: Any) -> Model:
    """Return the model of layers, with the loss of the function that was left out behind them."""
    net, theta = network_of(layers, names)
    if link == "softmax" and classes is None:
        classes = range(net.n_outputs)
    if link is None and classes is not None:
        link = "sigmoid" if net.n_outputs == 1 else "softmax"
    if link == "sigmoid" and net.n_outputs == 1 and classes is None:
        classes = range(2)
    losses = {function: loss for loss, function in LINKS.items()}
    labels = None if classes is None else list(classes)
    return Model.of(net, theta, losses.get(str(link), "squared"), labels)


class _Reader:
    """Turns modules, in their order, into layers."""

    def __init__(self, torch: Any, logits: bool) -> None:
        self._torch = torch
        self._logits = logits
        self._layers: list[Dense] = []
        self._names: list[str] = []
        self._linear: list[Any] = []
        self._pending = False  # whether the last layer still waits for its activation
        self._ended = ""  # the module after which nothing may follow
        self.link: str | None = None  # the function of the loss that was left out

    def read(self, model: Any) -> tuple[list[Dense], list[str]]:
        for name, module in self._flat(model, ""):
            self._add(f"module {name or '(the model)'}, {type(module).__name__}", module)
        last = self._layers[-1].activation.name if self._layers else ""
        if self._logits and last == "sigmoid":
            self._layers[-1] = replace(self._layers[-1], activation=get_activation("identity"))
            self.link = "sigmoid"
        return self._layers, self._names

    def _flat(self, module: Any, name: str) -> Iterator[tuple[str, Any]]:
        """Yield the modules of nested Sequentials with their names."""
        if module._forward_pre_hooks or module._forward_hooks:
            raise ValueError(
                f"module {name or '(the model)'}, {type(module).__name__} has hooks, which change "
                "what it computes: remove_weight_norm takes away those of weight_norm; a lazy "
                "layer loses its own when it has seen samples"
            )
        if not self._is(module, "Sequential"):
            yield name, module
            return
        for key, child in enumerate(module):  # named_children() would show a shared one once
            yield from self._flat(child, f"{name}.{key}" if name else str(key))

    def _is(self, module: Any, kind: str) -> bool:
        """Whether a module is of this class, or of a subclass with the same forward."""
        base = getattr(self._torch.nn, kind)
        return isinstance(module, base) and type(module).forward is base.forward

    def _add(self, what: str, module: Any) -> None:
        if self._ended:
            raise ValueError(f"{what} stands behind {self._ended}, which must be the last one")
        if self._is(module, "Linear"):
            self._add_linear(what, module)
        elif self._is(module, "Identity"):
            pass
        elif self._is(module, "Flatten"):
            if (module.start_dim, module.end_dim) != (1, -1):
                raise ValueError(f"{what}: only start_dim=1, end_dim=-1 leaves (T, n) as it is")
        elif self._is(module, "Dropout"):
            if module.training and module.p > 0.0:
                notice(f"{what} is left out: the network is what model.eval() computes")
        elif self._is(module, "Softmax") or self._is(module, "LogSoftmax"):
            self._end(what, module)
        else:
            self._add_activation(what, self._activation(what, module))

    def _add_linear(self, what: str, module: Any) -> None:
        if module in self._linear:
            notice(f"{what} shares its weights with another: here each has its own")
        self._linear.append(module)
        weight = array_of(self._torch, f"{what}: weight", module.weight)
        bias = module.bias
        if bias is not None:
            bias = array_of(self._torch, f"{what}: bias", bias)
        self._layers.append(Dense(weight, bias, get_activation("identity")))
        self._names.append(what)
        self._pending = True

    def _add_activation(self, what: str, activation: Activation) -> None:
        if not self._pending:
            place = "another activation" if self._layers else "no Linear"
            raise ValueError(f"{what} stands behind {place}; an activation follows a Linear")
        self._layers[-1] = replace(self._layers[-1], activation=activation)
        self._pending = False

    def _end(self, what: str, module: Any) -> None:
        if module.dim not in (1, -1, None):  # None is 1 for samples in rows
            raise ValueError(f"{what}: dim must be 1 or -1, got {module.dim}")
        if not self._logits:
            raise ValueError(
                f"{what} is no activation of an MLP, whose losses contain it: with logits=True "
                "the network ends before it (loss softmax_cross_entropy)"
            )
        self._ended, self.link = what, "softmax"

    def _activation(self, what: str, module: Any) -> Activation:
        """Return the activation of a module."""
        for kind in ("Tanh", "Sigmoid", "ReLU", "Softsign"):
            if self._is(module, kind):
                return get_activation(kind.lower())
        if self._is(module, "SiLU"):
            return get_activation("swish")
        if self._is(module, "GELU"):
            if module.approximate != "none":
                raise ValueError(f"{what}: only approximate='none' can be read")
            return get_activation("gelu")
        if self._is(module, "LeakyReLU"):
            return leaky_relu(module.negative_slope)
        if self._is(module, "Softplus"):
            if module.beta != 1.0:
                raise ValueError(f"{what}: only beta=1 can be read, got {module.beta}")
            if module.threshold < LEAST_THRESHOLD:
                raise ValueError(
                    f"{what}: the threshold must be at least {LEAST_THRESHOLD:g} (below, it is "
                    f"no softplus), got {module.threshold}"
                )
            return get_activation("softplus")
        raise ValueError(
            f"{what} cannot be read; accepted: {ACCEPTED}. Of another module whose only layers "
            "are Linear, give model.state_dict() and activation="
        )


def to_torch(model: Model, dtype: Any = "float64") -> Any:
    """Return a model as a ``torch.nn.Sequential`` in evaluation mode that computes the same.

    Parameters
    ----------
    model : Model
        Its scaling is folded into the first and the last layer.
    dtype : {"float64", "float32"}
        Type of the weights, and so of the inputs; also as ``torch.float32``.

    Raises
    ------
    ValueError
        If torch has no module for an activation (bent_identity, square, sin, custom ones), or an
        entry is too large for the type.
    ImportError
        If torch is not installed (extra ``torch``).

    Warns
    -----
    InterchangeWarning
        If inputs lie so far from zero that their scaling loses digits in float32.
    """
    torch = require("torch", "torch", "interchange.to_torch")
    number_type = as_dtype(dtype)
    layers = raw_chain(model, number_type)
    makers = _makers(torch)
    modules: list[Any] = []
    kind = getattr(torch, number_type.name)
    for number, layer in enumerate(layers, start=1):
        sigma = layer.activation
        if sigma.name not in makers:
            raise ValueError(
                f"layer {number}: torch.nn has no module for the activation {sigma.name!r} "
                f"(it has: {', '.join(makers)}); fastggn export writes a state dict all the same"
            )
        n, m = layer.weight.shape
        linear = torch.nn.utils.skip_init(
            torch.nn.Linear, m, n, bias=layer.bias is not None, dtype=kind
        )
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(cast(f"W_{number}", layer.weight, number_type)))
            if layer.bias is not None:
                linear.bias.copy_(torch.from_numpy(cast(f"b_{number}", layer.bias, number_type)))
        modules.append(linear)
        if number < len(layers) or sigma.name != "identity":
            modules.append(makers[sigma.name](sigma))
    return torch.nn.Sequential(*modules).eval()


def _makers(torch: Any) -> dict[str, Callable[[Activation], Any]]:
    """Return the makers of activation modules by name."""
    nn = torch.nn
    return {
        "identity": lambda _: nn.Identity(),
        "sigmoid": lambda _: nn.Sigmoid(),
        "tanh": lambda _: nn.Tanh(),
        "softsign": lambda _: nn.Softsign(),
        "softplus": lambda _: nn.Softplus(threshold=EXACT_THRESHOLD),
        "relu": lambda _: nn.ReLU(),
        "swish": lambda _: nn.SiLU(),
        "gelu": lambda _: nn.GELU(),
        "leaky_relu": lambda sigma: nn.LeakyReLU(sigma.param),
    }
