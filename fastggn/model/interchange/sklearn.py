"""MLPRegressor and MLPClassifier of scikit-learn from and to networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.model.interchange.chain import Dense, network_of
from fastggn.model.interchange.extras import require
from fastggn.network.activations import get_activation
from fastggn.network.mlp import MLP
from fastggn.runtime.errors import as_real

OURS = {"identity": "identity", "logistic": "sigmoid", "tanh": "tanh", "relu": "relu"}
THEIRS = {ours: theirs for theirs, ours in OURS.items()}
# Activations of the output layer; softmax and logistic belong to the loss here.
OUTPUTS = ("identity", "logistic", "softmax")


def from_sklearn(estimator: Any) -> tuple[MLP, NDArray[np.float64]]:
    """Return the network and the parameters of a fitted scikit-learn perceptron.

    Parameters
    ----------
    estimator : MLPRegressor or MLPClassifier
        For a pipeline, its last step; the caller applies the steps before it.

    Returns
    -------
    net : MLP
        With an identity output: for a classifier, the scores before softmax (loss
        ``softmax_cross_entropy``) or, for two classes or several labels, before the logistic
        function (loss ``logistic``).
    theta : ndarray, shape (n_params,), float64

    Raises
    ------
    TypeError
        If it is another object.
    ValueError
        If it is not fitted, or its output is not identity, logistic or softmax.
    ImportError
        If scikit-learn is not installed (extra ``sklearn``).
    """
    module = require("sklearn.neural_network", "sklearn", "interchange.from_sklearn")
    if not isinstance(estimator, (module.MLPRegressor, module.MLPClassifier)):
        raise TypeError(
            "estimator must be an MLPRegressor or an MLPClassifier (of a pipeline, its last "
            f"step), not {type(estimator).__name__}"
        )
    if not hasattr(estimator, "coefs_"):
        raise ValueError(f"the {type(estimator).__name__} is not fitted")
    if estimator.activation not in OURS or estimator.out_activation_ not in OUTPUTS:
        raise ValueError(
            f"activation {estimator.activation!r} with the output {estimator.out_activation_!r} "
            f"cannot be converted (hidden: {', '.join(OURS)}; outputs: {', '.join(OUTPUTS)})"
        )
    hidden = get_activation(OURS[estimator.activation])
    layers = [
        Dense(as_real("coefs_", w).T.copy(), as_real("intercepts_", b), hidden)
        for w, b in zip(estimator.coefs_, estimator.intercepts_, strict=True)
    ]
    layers[-1] = replace(layers[-1], activation=get_activation("identity"))
    return network_of(layers, [f"coefs_[{k}]" for k in range(len(layers))])


def to_sklearn(layers: Sequence[Dense], classes: Any = None) -> Any:
    """Return layers as a fitted estimator; see `interchange.to_sklearn`."""
    module = require("sklearn.neural_network", "sklearn", "interchange.to_sklearn")
    options = {
        "hidden_layer_sizes": tuple(layer.weight.shape[0] for layer in layers[:-1]),
        "activation": _hidden_activation(layers),
    }
    n_inputs, n_outputs = layers[0].weight.shape[1], layers[-1].weight.shape[0]
    if classes is None:
        output = layers[-1].activation.name
        if output != "identity":
            raise ValueError(
                f"an MLPRegressor has an identity output, not {output!r}; give classes= for an "
                "MLPClassifier"
            )
        estimator = module.MLPRegressor(**options)
        targets = np.zeros((1, n_outputs)) if n_outputs > 1 else np.zeros(1)
        estimator.partial_fit(np.zeros((1, n_inputs)), targets)
    else:
        labels = _checked_classes(classes)
        layers = _for_classes(layers, labels)
        labels = np.sort(labels)
        estimator = module.MLPClassifier(**options)
        estimator.partial_fit(np.zeros((labels.size, n_inputs)), labels, classes=labels)
    _fill(estimator, layers)
    return estimator


def _hidden_activation(layers: Sequence[Dense]) -> str:
    """Return the name in scikit-learn of the one activation of all hidden layers."""
    names = list(dict.fromkeys(layer.activation.name for layer in layers[:-1])) or ["identity"]
    if len(names) > 1 or names[0] not in THEIRS:
        raise ValueError(
            "scikit-learn has one activation for all hidden layers, one of "
            f"{', '.join(THEIRS)}; the network has {', '.join(names)}"
        )
    return THEIRS[names[0]]


def _checked_classes(classes: Any) -> NDArray[Any]:
    labels = np.asarray(classes)
    if labels.ndim != 1 or np.unique(labels).size != labels.size or labels.size < 2:
        raise ValueError(f"classes must be at least two different labels, got {classes!r}")
    return labels


def _for_classes(layers: Sequence[Dense], labels: NDArray[Any]) -> list[Dense]:
    """Return layers whose outputs are scores of the sorted classes, one score for two classes."""
    last = layers[-1]
    n_outputs, output = last.weight.shape[0], last.activation.name
    if output not in ("identity", "sigmoid") or (output == "sigmoid" and n_outputs > 1):
        raise ValueError(
            "a classifier's outputs must be scores (output activation identity), or one sigmoid; "
            f"the network has {n_outputs} of {output}"
        )
    if n_outputs != labels.size and (n_outputs, labels.size) != (1, 2):
        raise ValueError(f"classes has {labels.size} labels, the network {n_outputs} outputs")
    order = np.argsort(labels)
    if n_outputs == 1:
        mixing = np.array([[1.0 if order[0] == 0 else -1.0]])
    elif labels.size == 2:
        # The softmax of two scores is the logistic function of their difference.
        mixing = np.array([[-1.0, 1.0]])[:, np.argsort(order)]
    else:
        mixing = np.eye(n_outputs)[order]
    bias = None if last.bias is None else mixing @ last.bias
    return [*layers[:-1], replace(last, weight=mixing @ last.weight, bias=bias)]


def _fill(estimator: Any, layers: Sequence[Dense]) -> None:
    """Replace the weights that `partial_fit` drew, and reset the counters of its step."""
    for k, layer in enumerate(layers):
        n = layer.weight.shape[0]
        estimator.coefs_[k] = layer.weight.T.copy()
        estimator.intercepts_[k] = np.zeros(n) if layer.bias is None else layer.bias.copy()
    estimator.n_iter_ = estimator.t_ = 0
    estimator.loss_curve_ = []
    estimator.loss_ = estimator.best_loss_ = np.inf
    # The moments of that step: a later partial_fit starts without them.
    vars(estimator).pop("_optimizer", None)
