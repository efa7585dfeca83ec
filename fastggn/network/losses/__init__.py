"""Losses: value, gradient, Hessian and curvature of the misfit between outputs and targets.

`get_loss` returns a loss by name or wraps an object of the user.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastggn.network.losses.base import Loss
from fastggn.network.losses.classification import Logistic, SoftmaxCrossEntropy
from fastggn.network.losses.custom import CustomLoss
from fastggn.network.losses.separable import (
    BlakeZisserman,
    Cauchy,
    Huber,
    SeparableLoss,
    SmoothLp,
    Squared,
)
from fastggn.runtime.errors import unknown_name

__all__ = [
    "LOSSES",
    "BlakeZisserman",
    "Cauchy",
    "CustomLoss",
    "Huber",
    "Logistic",
    "Loss",
    "SeparableLoss",
    "SmoothLp",
    "SoftmaxCrossEntropy",
    "Squared",
    "get_loss",
    "loss_from_config",
]

LOSSES: dict[str, type[Loss]] = {
    loss.name: loss
    for loss in (Squared, SoftmaxCrossEntropy, Logistic, Cauchy, BlakeZisserman, SmoothLp, Huber)
}


def get_loss(loss: Any) -> Loss:
    """Return the loss of this name with its default scales, or the object as a loss.

    Parameters
    ----------
    loss : str or object
        One of squared, softmax_cross_entropy, logistic, cauchy, blake_zisserman, smooth_lp and
        huber; a `Loss`; or any object with value, gradient, hessian and hessian_sqrt.

    Raises
    ------
    ValueError
        If the name is unknown; the message suggests the nearest valid one.
    TypeError
        If the object is a class, or lacks one of the methods.
    """
    if isinstance(loss, Loss):
        return loss
    if isinstance(loss, str):
        if loss not in LOSSES:
            raise unknown_name("loss", loss, LOSSES)
        return LOSSES[loss]()
    return CustomLoss(loss)


def loss_from_config(config: Mapping[str, Any], custom: Mapping[str, Any] | None = None) -> Loss:
    """Return the loss of a dictionary of `Loss.to_config`.

    Parameters
    ----------
    config : mapping
    custom : mapping of str to object, optional
        The custom losses by name: their methods are not stored.

    Raises
    ------
    ValueError
        If the name or a parameter is unknown, or a custom loss is not in `custom`.
    """
    if "custom" in config:
        name = config["custom"]
        if custom is None or name not in custom:
            raise ValueError(
                f"the custom loss {name!r} is not stored in the file: pass it by its name"
            )
        return get_loss(custom[name])
    name = config.get("name")
    if name not in LOSSES:
        raise unknown_name("loss", name, LOSSES)
    parameters = {key: value for key, value in config.items() if key != "name"}
    try:
        return LOSSES[name](**parameters)
    except TypeError as error:
        raise ValueError(f"loss {name!r}: {error}") from None
