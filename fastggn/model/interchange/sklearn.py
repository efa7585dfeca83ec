"""Perceptrons of scikit-learn from and to models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.data.scaler import Scaler
from fastggn.model.interchange.chain import Dense, network_of, raw_chain
from fastggn.model.interchange.extras import require
from fastggn.model.interchange.facts import described
from fastggn.model.model import Model
from fastggn.network.activations import get_activation
from fastggn.runtime.errors import as_real

OURS = {"identity": "identity", "logistic": "sigmoid", "tanh": "tanh", "relu": "relu"}
THEIRS = {ours: theirs for theirs, ours in OURS.items()}
# Activations of the output layer; softmax and logistic belong to the loss here.
OUTPUTS = {"identity": "squared", "logistic": "logistic", "softmax": "softmax_cross_entropy"}
STEPS = (
    "an MLPRegressor or MLPClassifier, alone or in a Pipeline behind StandardScaler steps, the "
    "former also in a TransformedTargetRegressor with a StandardScaler, or an estimator of fastggn"
)


def from_sklearn(estimator: Any) -> Model:
    """Return the model of a fitted scikit-learn perceptron, with its scaling and its classes.

    Parameters
    ----------
    estimator : MLPRegressor, MLPClassifier, Pipeline or TransformedTargetRegressor
        In a pipeline the steps before the perceptron must be a `StandardScaler` each; so must the
        transformer of the targets. An estimator of fastggn gives its ``model_``.

    Returns
    -------
    Model
        Columns have the names of ``feature_names_in_``, where there are any.

    Raises
    ------
    TypeError
        If it is another object, or a step is.
    ValueError
        If it is not fitted, or its output is not identity, logistic or softmax.
    ImportError
        If scikit-learn is not installed (extra ``sklearn``).
    """
    module = require("sklearn.neural_network", "sklearn", "interchange.from_sklearn")
    names = getattr(estimator, "feature_names_in_", None)
    perceptron, inputs, targets = _unwrapped(estimator)
    inner = getattr(perceptron, "model_", None)
    if isinstance(inner, Model):
        both = _after(inputs, inner.input_scaler), _after(targets, inner.target_scaler)
        return replace(inner, input_scaler=both[0], target_scaler=both[1])
    if not isinstance(perceptron, (module.MLPRegressor, module.MLPClassifier)):
        raise TypeError(f"estimator must be {STEPS}, not {type(perceptron).__name__}")
    if not hasattr(perceptron, "coefs_"):
        raise ValueError(f"the {type(perceptron).__name__} is not fitted")
    if perceptron.activation not in OURS or perceptron.out_activation_ not in OUTPUTS:
        raise ValueError(
            f"activation {perceptron.activation!r} with the output {perceptron.out_activation_!r} "
            f"cannot be converted (hidden: {', '.join(OURS)}; outputs: {', '.join(OUTPUTS)})"
        )
    hidden = get_activation(OURS[perceptron.activation])
    layers = [
        Dense(as_real("coefs_", w).T.copy(), as_real("intercepts_", b), hidden)
        for w, b in zip(perceptron.coefs_, perceptron.intercepts_, strict=True)
    ]
    layers[-1] = replace(layers[-1], activation=get_activation("identity"))
    net, theta = network_of(layers, [f"coefs_[{k}]" for k in range(len(layers))])
    facts = {"loss": [OUTPUTS[perceptron.out_activation_]]}
    if names is not None:
        facts["inputs"] = [str(name) for name in names]
    loss, recipe = described(net.n_inputs, net.n_outputs, facts)
    classes = getattr(perceptron, "classes_", None)
    # Several labels at once (a binarizer of indicators) are no classes that exclude each other.
    if classes is not None and not perceptron._label_binarizer.y_type_.startswith("multilabel"):
        bare = Model.of(net, theta, loss, classes)
        recipe = replace(recipe, targets=bare.recipe.targets)
    return Model(net, theta, loss, recipe, inputs, targets)


def _unwrapped(estimator: Any) -> tuple[Any, Scaler | None, Scaler | None]:
    """Return the perceptron inside, and the scalers of inputs and targets."""
    compose = require("sklearn.compose", "sklearn", "interchange.from_sklearn")
    pipeline = require("sklearn.pipeline", "sklearn", "interchange.from_sklearn")
    inputs = targets = None
    if isinstance(estimator, compose.TransformedTargetRegressor):
        if not hasattr(estimator, "regressor_"):
            raise ValueError("the TransformedTargetRegressor is not fitted")
        targets = _scaler("transformer", estimator.transformer_)
        estimator = estimator.regressor_
    if isinstance(estimator, pipeline.Pipeline):
        for name, step in estimator.steps[:-1]:
            if step not in (None, "passthrough"):
                inputs = _after(inputs, _scaler(f"step {name!r}", step))
        estimator = estimator.steps[-1][1]
    return estimator, inputs, targets


def _scaler(name: str, step: Any) -> Scaler:
    """Return the scaling of a fitted StandardScaler."""
    module = require("sklearn.preprocessing", "sklearn", "interchange.from_sklearn")
    if not isinstance(step, module.StandardScaler):
        raise TypeError(f"{name} is a {type(step).__name__}; only a StandardScaler can be read")
    if not hasattr(step, "n_features_in_"):
        raise ValueError(f"{name} is not fitted")
    n = step.n_features_in_
    mean = step.mean_ if step.with_mean else np.zeros(n)
    return Scaler.at(mean, step.scale_ if step.with_std else np.ones(n))


def _after(first: Scaler | None, second: Scaler | None) -> Scaler | None:
    """Return two scalings, one after the other, as one."""
    if first is None or second is None:
        return first or second
    return Scaler.at(first.mean + first.scale * second.mean, first.scale * second.scale)


def to_sklearn(model: Model) -> Any:
    """Return a model as a fitted scikit-learn estimator that predicts the same.

    Parameters
    ----------
    model : Model
        Its scaling is folded into the first and the last layer.

    Returns
    -------
    MLPRegressor or MLPClassifier
        With the weights in ``coefs_`` and ``intercepts_``; ``partial_fit`` continues from them.

    Raises
    ------
    ValueError
        If the hidden layers do not share one of the activations identity, sigmoid, tanh and
        relu, or the estimator does not have the output.
    ImportError
        If scikit-learn is not installed (extra ``sklearn``).
    """
    module = require("sklearn.neural_network", "sklearn", "interchange.to_sklearn")
    layers: Sequence[Dense] = raw_chain(model)
    options = {
        "hidden_layer_sizes": tuple(layer.weight.shape[0] for layer in layers[:-1]),
        "activation": _hidden_activation(layers),
    }
    n_inputs, n_outputs = layers[0].weight.shape[1], layers[-1].weight.shape[0]
    if model.classes is None:
        output = layers[-1].activation.name
        if output != "identity" or model.decision is not None:
            raise ValueError(
                f"an MLPRegressor has an identity output and the squared loss, not {output!r} "
                f"and {model.loss.name}; an MLPClassifier needs classes"
            )
        estimator = module.MLPRegressor(**options)
        targets = np.zeros((1, n_outputs)) if n_outputs > 1 else np.zeros(1)
        estimator.partial_fit(np.zeros((1, n_inputs)), targets)
    else:
        labels = model.classes
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


def _for_classes(layers: Sequence[Dense], labels: NDArray[Any]) -> list[Dense]:
    """Return layers whose outputs are scores of the sorted classes, one score for two classes."""
    last = layers[-1]
    n_outputs, output = last.weight.shape[0], last.activation.name
    if output not in ("identity", "sigmoid") or (output == "sigmoid" and n_outputs > 1):
        raise ValueError(
            "a classifier's outputs must be scores (output activation identity), or one sigmoid; "
            f"the network has {n_outputs} of {output}"
        )
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
