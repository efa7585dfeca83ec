"""The functions that exchange models with other packages.

A converted model predicts the same: weights in float32 become float64 exactly, and a scaling of
inputs or targets becomes part of the model, which then maps raw inputs to raw outputs. The
packages are extras, imported when a function is called.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastggn.model.interchange import npz, onnx, sklearn, torch
from fastggn.model.interchange.chain import as_affine, as_dtype, chain_of, raw_chain
from fastggn.network.activations import Activation
from fastggn.network.mlp import MLP
from fastggn.runtime.atomic_files import PathLike

Activations = str | Activation | Sequence[str | Activation]


def from_torch(
    model: Any,
    activation: Activations | None = None,
    output_activation: str | Activation | None = None,
    *,
    logits: bool = False,
) -> tuple[MLP, NDArray[np.float64]]:
    """Return the network and the parameters of a PyTorch model."""
    return torch.from_torch(model, activation, output_activation, logits)


def from_sklearn(estimator: Any) -> tuple[MLP, NDArray[np.float64]]:
    """Return the network and the parameters of a fitted scikit-learn perceptron."""
    return sklearn.from_sklearn(estimator)


def from_npz(
    path: PathLike,
    activation: Activations | None = None,
    output_activation: str | Activation | None = None,
) -> tuple[MLP, NDArray[np.float64]]:
    """Read a network from plain arrays W_1, b_1, W_2, ...; `load_model` reads model files."""
    return npz.read_npz(path, activation, output_activation)


def to_torch(
    net: MLP,
    theta: ArrayLike,
    dtype: Any = "float64",
    *,
    scale_inputs: Any = None,
    scale_targets: Any = None,
) -> Any:
    """Return the network as a ``torch.nn.Sequential`` that computes the same."""
    kind = as_dtype(dtype)
    return torch.to_torch(raw_chain(net, theta, scale_inputs, scale_targets, kind), kind)


def to_sklearn(
    net: MLP,
    theta: ArrayLike,
    classes: ArrayLike | None = None,
    *,
    scale_inputs: Any = None,
    scale_targets: Any = None,
) -> Any:
    """Return the network as a fitted scikit-learn estimator that predicts the same."""
    return sklearn.to_sklearn(raw_chain(net, theta, scale_inputs, scale_targets), classes)


def to_onnx(
    net: MLP,
    theta: ArrayLike,
    path: PathLike,
    dtype: Any = "float64",
    *,
    scale_inputs: Any = None,
    scale_targets: Any = None,
    probabilities: str | None = None,
    properties: Mapping[str, str] | None = None,
) -> None:
    """Write the network as an ONNX model, input X (T, n_0) and output Y (T, n_L).

    The number of samples T is free. The model passes ``onnx.checker`` before it is written,
    and replaces a file of that name in one step. It uses opset 17, format 8 and operators that
    onnxruntime has in float64.
    """
    onnx.write_onnx(
        path,
        chain_of(net, theta),
        as_dtype(dtype),
        as_affine("scale_inputs", scale_inputs, net.n_inputs),
        as_affine("scale_targets", scale_targets, net.n_outputs),
        probabilities=probabilities,
        properties=properties,
    )


def to_npz(
    net: MLP,
    theta: ArrayLike,
    path: PathLike,
    dtype: Any = "float64",
    *,
    scale_inputs: Any = None,
    scale_targets: Any = None,
) -> None:
    """Write the network as plain arrays W_1, b_1, W_2, ... and the names of the activations.

    `save_model` writes files that keep everything; this one is for other programs.
    """
    kind = as_dtype(dtype)
    npz.write_npz(path, raw_chain(net, theta, scale_inputs, scale_targets, kind), kind)
