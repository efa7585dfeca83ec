"""Named layers: W_1, b_1, ... in plain arrays, 0.weight, 0.bias, ... in state dicts."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.model.interchange.chain import Dense
from fastggn.network.activations import Activation, get_activation, leaky_relu

Names = str | Activation | Sequence[str | Activation]

ACTIVATIONS = "activations"  # an array of names in an .npz file
# An attribute of a state dict, which load_state_dict of torch does not see.
KEPT = "fastggn"
PLAIN = re.compile(r"([Wb])_?(\d+)")


@dataclass
class _Pair:
    """The arrays of one layer."""

    weight: NDArray[Any] | None = None
    bias: NDArray[Any] | None = None


def activation_of(name: str | Activation) -> Activation:
    """Return the activation of a name, or of ``leaky_relu:SLOPE``."""
    kind, colon, slope = name.partition(":") if isinstance(name, str) else (name, "", "")
    if not colon or kind != "leaky_relu":
        return get_activation(name)
    try:
        return leaky_relu(float(slope))
    except ValueError:
        raise ValueError(f"activation {name!r}: the slope of leaky_relu is no number") from None


def text_of(activation: Activation) -> str:
    """Return a name that `activation_of` reads."""
    if activation.name == "leaky_relu" and activation.param != 0.01:
        return f"leaky_relu:{activation.param!r}"
    return activation.name


def layers_of(
    arrays: Mapping[str, NDArray[Any]], activation: Names, output_activation: str | Activation
) -> tuple[list[Dense], list[str]]:
    """Return the layers in named arrays, and a name for each."""
    refuse_normalisation(arrays)
    pairs = _plain_pairs(arrays) or _dotted_pairs(arrays)
    if not pairs:
        raise ValueError(
            "there are no weights: expected W_1, b_1, ... or names that end in .weight and .bias "
            f"(found: {_listed(arrays)})"
        )
    hidden = len(pairs) - 1
    single = isinstance(activation, (str, Activation))
    chosen = [activation] * hidden if single else list(activation)  # type: ignore[arg-type]
    if len(chosen) != hidden:
        raise ValueError(
            f"activation must be one name or one a hidden layer ({hidden}), got {len(chosen)}"
        )
    activations = [activation_of(a) for a in (*chosen, output_activation)]
    layers = []
    for (name, pair), sigma in zip(pairs.items(), activations, strict=True):
        if pair.weight is None:
            raise ValueError(f"{name} has a bias and no weight")
        weight = _real(f"{name}: weight", pair.weight, 2)
        bias = None if pair.bias is None else _real(f"{name}: bias", pair.bias, 1)
        layers.append(Dense(weight, bias, sigma))
    return layers, list(pairs)


def refuse_normalisation(names: Iterable[object]) -> None:
    """Refuse a state dict with a batch normalisation, and say how to be rid of it."""
    for name in map(str, names):
        place, _, kind = name.rpartition(".")
        if kind in ("running_mean", "running_var", "num_batches_tracked"):
            raise ValueError(
                f"{place or 'the layer'} is a BatchNorm, not a linear layer: after model.eval(), "
                "fold it into the layer before it by torch.nn.utils.fusion.fuse_linear_bn_eval, "
                "and save again"
            )


def _plain_pairs(arrays: Mapping[str, Any]) -> dict[str, _Pair]:
    """Return the pairs W_l, b_l by number; an empty dict if there is another name."""
    matches = {name: PLAIN.fullmatch(name) for name in arrays}
    if not matches or not all(matches.values()):
        return {}
    pairs: dict[int, _Pair] = {}
    for name, match in matches.items():
        assert match is not None
        pair = pairs.setdefault(int(match[2]), _Pair())
        if match[1] == "W":
            pair.weight = arrays[name]
        else:
            pair.bias = arrays[name]
    numbers = sorted(pairs)
    if numbers != list(range(numbers[0], numbers[0] + len(numbers))):
        raise ValueError(f"the layers must be numbered without a gap, got {numbers}")
    return {f"layer {number}": pairs[number] for number in numbers}


def _dotted_pairs(arrays: Mapping[str, Any]) -> dict[str, _Pair]:
    """Return the pairs NAME.weight, NAME.bias in their order."""
    pairs: dict[str, _Pair] = {}
    for name, array in arrays.items():
        place, _, kind = name.rpartition(".")
        if kind not in ("weight", "bias"):
            raise ValueError(
                f"{name!r} is no weight or bias of a linear layer; only networks made of linear "
                f"layers can be read (found: {_listed(arrays)})"
            )
        pair = pairs.setdefault(place or "the layer", _Pair())
        setattr(pair, kind, array)
    return pairs


def _real(name: str, array: NDArray[Any], n_axes: int) -> NDArray[np.float64]:
    if array.dtype.kind not in "fiu":
        raise TypeError(f"{name} must hold real numbers, got dtype {array.dtype}")
    if array.ndim != n_axes or array.size == 0:
        shape = "(outputs, inputs)" if n_axes == 2 else "(outputs,)"
        raise ValueError(
            f"{name} has shape {array.shape}, not {shape}: only linear layers can be read"
        )
    return np.array(array, dtype=np.float64, order="C")


def _listed(arrays: Mapping[str, Any]) -> str:
    names = [str(name) for name in arrays]
    return ", ".join([*names[:8], *(["..."] if len(names) > 8 else [])]) or "nothing"
