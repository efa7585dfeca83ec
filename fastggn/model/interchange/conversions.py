"""The functions that convert networks for other packages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from numpy.typing import ArrayLike

from fastggn.model.interchange import npz, onnx, sklearn, torch
from fastggn.model.interchange.chain import as_affine, as_dtype, chain_of, raw_chain
from fastggn.network.mlp import MLP
from fastggn.runtime.atomic_files import PathLike


def to_torch(
    net: MLP,
    theta: ArrayLike,
    dtype: Any = "float64",
    *,
    scale_inputs: Any = None,
    scale_targets: Any = None,
) -> Any:
    """Return the network as a ``torch.nn.Sequential`` in evaluation mode that computes the same.

    Parameters
    ----------
    net : MLP
    theta : array_like, shape (n_params,)
    dtype : {"float64", "float32"}
        Type of the weights, and so of the inputs; also as ``torch.float32``.
    scale_inputs, scale_targets : pair, mapping or object, optional
        Mean and scale of the training, as ``(mean, scale)``, as in a model file
        (`interchange.scales`), or a `data.Standardised`. They are folded into the first and the
        last layer.

    Raises
    ------
    ValueError
        If torch has no module for an activation (bent_identity, square, custom ones), theta
        or a scaling is wrong, or an entry is too large for the type.
    ImportError
        If torch is not installed (extra ``torch``).

    Warns
    -----
    InterchangeWarning
        If inputs lie so far from zero that their scaling loses digits in float32.
    """
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
    """Return the network as a fitted scikit-learn estimator that predicts the same.

    Parameters
    ----------
    net : MLP
    theta : array_like, shape (n_params,)
    classes : array_like, shape (n_classes,), optional
        The label of each output of an ``MLPClassifier``, of any type; for one output two labels,
        of which it predicts the second. Without labels the result is an ``MLPRegressor``.
    scale_inputs, scale_targets : optional
        As in `to_torch`.

    Returns
    -------
    MLPRegressor or MLPClassifier
        With the weights in ``coefs_`` and ``intercepts_``; ``partial_fit`` continues from them.

    Raises
    ------
    ValueError
        If the hidden layers do not share one of the activations identity, sigmoid, tanh and
        relu, the estimator does not have the output, or theta, the classes or a scaling are wrong.
    ImportError
        If scikit-learn is not installed (extra ``sklearn``).
    """
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
    """Write the network as an ONNX model, input X (T, n_0) and output Y (T, n_L), for any T.

    ``onnx.checker`` checks the model, which then replaces the file in one step. It uses opset 17,
    format 8 and operators that onnxruntime has in float64.

    Parameters
    ----------
    net : MLP
    theta : array_like, shape (n_params,)
    path : path-like
    dtype : {"float64", "float32"}
        Type of weights, inputs and outputs. Many accelerators have float32 only.
    scale_inputs, scale_targets : optional
        As in `to_torch`, but as nodes of their own, which lose no digits.
    probabilities : {"softmax", "sigmoid"}, optional
        Last node, the one of the losses softmax_cross_entropy and logistic.
    properties : mapping of str to str, optional
        Metadata for the file.

    Raises
    ------
    ValueError
        If there is a custom activation, the network is larger than 2 GiB, theta or a scaling is
        wrong, or an entry is too large for the type.
    OSError
        If the file cannot be written.
    ImportError
        If onnx is not installed (extra ``onnx``).
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

    `save_model` writes files that keep all facts; this one is for other programs.

    Parameters
    ----------
    net : MLP
    theta : array_like, shape (n_params,)
    path : path-like
    dtype : {"float64", "float32"}
    scale_inputs, scale_targets : optional
        As in `to_torch`.

    Raises
    ------
    ValueError
        If theta or a scaling is wrong, or an entry is too large for the type.
    OSError
        If the file cannot be written.
    """
    kind = as_dtype(dtype)
    npz.write_npz(path, raw_chain(net, theta, scale_inputs, scale_targets, kind), kind)
