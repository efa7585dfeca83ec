"""A network as a chain of layers y = sigma(W x + b), the form that all packages share."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastggn.data.scaler import Scaler
from fastggn.network.activations import Activation, get_activation
from fastggn.network.mlp import MLP
from fastggn.runtime.errors import (
    FastGGNWarning,
    as_float_vector,
    as_real,
    check_finite,
    unknown_name,
)

FloatArray = NDArray[np.float64]

DTYPES = ("float64", "float32")
# A scaling folded into float32 weights loses about eps times mean / scale.
MOST_FOLDING_ERROR = 1e-5


class InterchangeWarning(FastGGNWarning):
    """A conversion changed the model; the message names the difference."""


def notice(text: str) -> None:
    """Warn of a difference."""
    warnings.warn(text, InterchangeWarning, stacklevel=3)


@dataclass(frozen=True)
class Dense:
    """One layer, sigma(W x + b), with W of shape (n, m) and b of shape (n,)."""

    weight: FloatArray
    bias: FloatArray | None
    activation: Activation


def chain_of(net: MLP, theta: ArrayLike) -> list[Dense]:
    """Return the layers of a network; a fixed bias b, which the network subtracts, becomes -b."""
    matrices = net.unpack(as_float_vector("theta", theta, net.n_params))
    if net.has_free_bias:
        return [
            Dense(w[:, :-1].copy(), w[:, -1].copy(), a)
            for w, a in zip(matrices, net.activations, strict=True)
        ]
    fixed = [None] * net.n_layers if isinstance(net.bias, str) else [-b for b in net.bias]
    return [Dense(*both) for both in zip(matrices, fixed, net.activations, strict=True)]


def network_of(layers: Sequence[Dense], names: Sequence[str]) -> tuple[MLP, FloatArray]:
    """Return the network of a chain of layers, and its parameters."""
    if not layers:
        raise ValueError("the model has no linear layer")
    for (k, layer), name in zip(enumerate(layers), names, strict=True):
        check_finite(f"{name}: weight", layer.weight)
        if layer.bias is not None:
            check_finite(f"{name}: bias", layer.bias)
            if layer.bias.shape != layer.weight.shape[:1]:
                raise ValueError(
                    f"{name}: the bias has shape {layer.bias.shape}, the weight "
                    f"{layer.weight.shape}"
                )
        if k and layer.weight.shape[1] != layers[k - 1].weight.shape[0]:
            raise ValueError(
                f"{name} takes {layer.weight.shape[1]} inputs, but {names[k - 1]} before it has "
                f"{layers[k - 1].weight.shape[0]} outputs"
            )
    bare = [name for name, layer in zip(names, layers, strict=True) if layer.bias is None]
    free = len(bare) < len(layers)
    if free and bare:
        notice(
            f"{', '.join(bare)} has no bias and other layers have one: it gets a bias of 0, "
            "which counts as a parameter"
        )
    activations = [layer.activation for layer in layers]
    net = MLP(
        (layers[0].weight.shape[1], *(layer.weight.shape[0] for layer in layers)),
        activation=activations[:-1],
        output_activation=activations[-1],
        bias="free" if free else "none",
    )
    return net, net.pack([_with_column(layer) if free else layer.weight for layer in layers])


def _with_column(layer: Dense) -> FloatArray:
    bias = np.zeros(layer.weight.shape[0]) if layer.bias is None else layer.bias
    return np.column_stack([layer.weight, bias])


def folded(
    layers: Sequence[Dense], inputs: Scaler | None, targets: Scaler | None, dtype: Any = np.float64
) -> list[Dense]:
    """Return layers that contain the scalings, so that they map raw inputs to raw outputs."""
    out = list(layers)
    if inputs is not None:
        weight = out[0].weight / inputs.scale
        out[0] = replace(out[0], weight=weight, bias=_plus(out[0].bias, -(weight @ inputs.mean)))
        loss = float(np.finfo(dtype).eps * np.abs(inputs.mean / inputs.scale).max())
        if dtype == np.float32 and loss > MOST_FOLDING_ERROR:
            column = int(np.abs(inputs.mean / inputs.scale).argmax())
            notice(
                f"input {column} has mean {inputs.mean[column]:.4g} and deviation "
                f"{inputs.scale[column]:.4g}: with its scaling inside float32 weights, scaled "
                f"inputs are off by up to {loss:.1g} (float64 and ONNX avoid that)"
            )
    if targets is not None:
        # Behind an output activation, the scaling of the targets needs a layer of its own.
        if out[-1].activation.name != "identity":
            n = targets.mean.size
            out.append(Dense(np.eye(n), None, get_activation("identity")))
        weight = targets.scale[:, None] * out[-1].weight
        bias = None if out[-1].bias is None else targets.scale * out[-1].bias
        out[-1] = replace(out[-1], weight=weight, bias=_plus(bias, targets.mean))
    return out


def raw_chain(model: Any, dtype: Any = np.float64) -> list[Dense]:
    """Return the layers of a model with its scaling inside."""
    layers = chain_of(model.network, model.theta)
    return folded(layers, model.input_scaler, model.target_scaler, dtype)


def _plus(bias: FloatArray | None, more: FloatArray) -> FloatArray:
    return more if bias is None else bias + more


def as_dtype(dtype: Any) -> np.dtype[Any]:
    """Return float64 or float32 as a NumPy type."""
    try:
        name = str(np.dtype(dtype))
    except TypeError:
        name = str(dtype).removeprefix("torch.")
    if name not in DTYPES:
        raise unknown_name("dtype", str(dtype), DTYPES)
    return np.dtype(np.float64 if name == "float64" else np.float32)


def cast(name: str, array: FloatArray, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return a contiguous copy of this type."""
    with np.errstate(over="ignore"):
        out = np.array(array, dtype=dtype, order="C")
    if not np.isfinite(out).all():
        largest = float(np.abs(as_real(name, array)).max())
        raise ValueError(f"{name} has an entry of {largest:.3g}, too large for {dtype}")
    return out
