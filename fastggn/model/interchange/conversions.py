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
    """Return the network and the parameters of a PyTorch model.

    Parameters
    ----------
    model : torch.nn.Sequential or mapping of str to Tensor
        A chain of Linear and activations (Tanh, Sigmoid, ReLU, LeakyReLU, Softplus, Softsign,
        Identity), also nested; or the state dict of any model whose layers are Linear, in
        their order. Flatten and, as in ``model.eval()``, Dropout change nothing.
    activation : str, Activation, or sequence of them, optional
        Of the hidden layers; needed with a state dict, and only there.
    output_activation : str or Activation, optional
        With a state dict; the identity by default.
    logits : bool
        Leave out a last Softmax, LogSoftmax or Sigmoid: the losses ``softmax_cross_entropy``
        and ``logistic`` contain them. Without it a last Sigmoid becomes the output
        activation, and a last Softmax or LogSoftmax is an error.

    Returns
    -------
    net : MLP
        With free biases, or with none where no layer has one.
    theta : ndarray, shape (n_params,), float64
        The weights, exactly.

    Raises
    ------
    TypeError
        If `model` is no module and no state dict, or a tensor does not hold real numbers.
    ValueError
        If a module is not among the accepted ones (the message names it), the shapes do not
        chain, a weight is not finite, or activations are given or missing.
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
    return torch.from_torch(model, activation, output_activation, logits)


def from_sklearn(estimator: Any) -> tuple[MLP, NDArray[np.float64]]:
    """Return the network and the parameters of a fitted scikit-learn perceptron.

    Parameters
    ----------
    estimator : MLPRegressor or MLPClassifier
        Of a pipeline, its last step; the steps before it are yours to apply.

    Returns
    -------
    net : MLP
        With an identity output: of a classifier, the scores before softmax (for the loss
        ``softmax_cross_entropy``) or, for two classes or several labels, before the logistic
        function (``logistic``).
    theta : ndarray, shape (n_params,), float64

    Raises
    ------
    TypeError
        If it is something else.
    ValueError
        If it is not fitted, or has an output that is none of identity, logistic, softmax.
    ImportError
        If scikit-learn is not installed (extra ``sklearn``).
    """
    return sklearn.from_sklearn(estimator)


def from_npz(
    path: PathLike,
    activation: Activations | None = None,
    output_activation: str | Activation | None = None,
) -> tuple[MLP, NDArray[np.float64]]:
    """Read a network from plain arrays W_1, b_1, W_2, ...; `load_model` reads model files.

    Parameters
    ----------
    path : path-like
        An ``.npz`` file without pickles: W_l of shape (n_l, n_{l-1}), b_l of shape (n_l,) or
        absent, or arrays under the names of a state dict; by custom ``activations``.
    activation : str, Activation, or sequence of them, optional
        Of the hidden layers, where the file does not name them or names others.
    output_activation : str or Activation, optional
        By default what the file names, else the identity.

    Returns
    -------
    net : MLP
    theta : ndarray, shape (n_params,), float64

    Raises
    ------
    ValueError
        If there is no such file, it holds something else, the shapes do not chain, or the
        activation is not known.
    OSError
        If it cannot be opened.
    """
    return npz.read_npz(path, activation, output_activation)


def to_torch(
    net: MLP,
    theta: ArrayLike,
    dtype: Any = "float64",
    *,
    scale_inputs: Any = None,
    scale_targets: Any = None,
) -> Any:
    """Return the network as a ``torch.nn.Sequential`` that computes the same.

    Parameters
    ----------
    net : MLP
    theta : array_like, shape (n_params,)
    dtype : {"float64", "float32"}
        Of the weights, and so of the inputs; ``torch.float32`` will do.
    scale_inputs, scale_targets : pair, mapping or object, optional
        Mean and scale that the network was trained with, as ``(mean, scale)``, as a model file
        keeps them (`interchange.scales`), or a `data.Standardised`. They are folded into the
        first and the last layer.

    Returns
    -------
    torch.nn.Sequential
        In evaluation mode, as ``Linear, activation, Linear, ...``.

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
        For an ``MLPClassifier``: the label of each output, of any type; two labels for one
        output, which speaks for the second. Without it the result is an ``MLPRegressor``.
    scale_inputs, scale_targets : optional
        As in `to_torch`.

    Returns
    -------
    MLPRegressor or MLPClassifier
        With the weights in ``coefs_`` and ``intercepts_``; ``partial_fit`` goes on from them.

    Raises
    ------
    ValueError
        If the hidden layers do not all have one of the activations identity, sigmoid, tanh
        and relu; if the output is none that the estimator has; or if theta, the classes or a
        scaling are wrong.
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
    """Write the network as an ONNX model, input X (T, n_0) and output Y (T, n_L).

    The number of samples T is free. The model passes ``onnx.checker`` before it is written,
    and replaces a file of that name in one step. It uses opset 17, format 8 and operators that
    onnxruntime has in float64.

    Parameters
    ----------
    net : MLP
    theta : array_like, shape (n_params,)
    path : path-like
    dtype : {"float64", "float32"}
        Of weights, inputs and outputs. Many accelerators have float32 only.
    scale_inputs, scale_targets : optional
        As in `to_torch`, but as nodes of their own, which lose no digits.
    probabilities : {"softmax", "sigmoid"}, optional
        Applied to the outputs: of the losses softmax_cross_entropy and logistic.
    properties : mapping of str to str, optional
        Metadata kept in the file.

    Raises
    ------
    ValueError
        If an activation is a custom one, the network is larger than 2 GiB, theta or a scaling
        is wrong, or an entry is too large for the type.
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

    `save_model` writes files that keep everything; this one is for other programs.

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
