"""A network as a chain of layers y = sigma(W x + b), the form that all packages share."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

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


@dataclass(frozen=True)
class Affine:
    """Columns scaled to ``(column - mean) / scale``, both of shape (n,)."""

    mean: FloatArray
    scale: FloatArray


def scales(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """Return the scaling in a model file, as arguments of the ``to_...`` functions.

    Parameters
    ----------
    metadata : mapping
        The third value of `load_model`.

    Returns
    -------
    dict
        ``scale_inputs`` and ``scale_targets``; None without scaling.

    Examples
    --------
    >>> from fastggn import interchange
    >>> interchange.scales({"samples": {"scale_inputs": {"mean": [1.0], "scale": [2.0]}}})
    {'scale_inputs': {'mean': [1.0], 'scale': [2.0]}, 'scale_targets': None}
    """
    samples = metadata.get("samples")
    known = samples if isinstance(samples, Mapping) else {}
    return {name: known.get(name) for name in ("scale_inputs", "scale_targets")}


def as_affine(name: str, value: Any, width: int) -> Affine | None:
    """Return a scaling as an `Affine`."""
    if value is None:
        return None
    if isinstance(value, Mapping):
        missing = {"mean", "scale"} - set(value)
        if missing:
            raise ValueError(f"{name} lacks {' and '.join(sorted(missing))}")
        mean, scale = value["mean"], value["scale"]
    elif hasattr(value, "mean") and hasattr(value, "scale"):
        mean, scale = value.mean, value.scale
    elif isinstance(value, Sequence) and not isinstance(value, str) and len(value) == 2:
        mean, scale = value
    else:
        raise TypeError(
            f"{name} must be a pair (mean, scale), a mapping with these keys or an object with "
            f"these attributes, not {type(value).__name__}"
        )
    out = Affine(
        as_float_vector(f"{name}: mean", mean, width),
        as_float_vector(f"{name}: scale", scale, width),
    )
    if (out.scale <= 0.0).any():
        raise ValueError(f"{name}: scale must be positive, got {out.scale.min()}")
    return out


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
    layers: Sequence[Dense], inputs: Affine | None, targets: Affine | None, dtype: Any = np.float64
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


def raw_chain(
    net: MLP,
    theta: ArrayLike,
    scale_inputs: Any,
    scale_targets: Any,
    dtype: Any = np.float64,
) -> list[Dense]:
    """Return the layers of a network with its scaling inside."""
    inputs = as_affine("scale_inputs", scale_inputs, net.n_inputs)
    targets = as_affine("scale_targets", scale_targets, net.n_outputs)
    return folded(chain_of(net, theta), inputs, targets, dtype)


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
