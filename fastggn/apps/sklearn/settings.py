"""Check the parameters of an estimator before any work."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fastggn.network.activations import Activation
from fastggn.network.losses import get_loss
from fastggn.network.losses.base import Loss
from fastggn.runtime.errors import check_positive, unknown_name

REGULARIZATIONS = ("bayesian", "validation")
# Names of scikit-learn, and ours.
ACTIVATION_NAMES = {"logistic": "sigmoid"}
LOSS_NAMES = {"squared_error": "squared"}
REGRESSION_LOSSES = ("squared_error", "huber", "smooth_lp", "cauchy", "blake_zisserman")
# Solvers of MLPRegressor; they are methods here.
FOREIGN_SOLVERS = ("lbfgs", "sgd", "adam")
NEVER = 2**31 - 1  # more iterations than any run has


@dataclass(frozen=True)
class Settings:
    """The checked parameters, except for those that `fastggn.train` checks itself."""

    hidden: tuple[int, ...]
    activation: Any
    alpha: float
    tol: float
    n_iter_no_change: float
    n_restarts: int
    validation_fraction: float
    batch_size: int | None
    regularization: str | None

    @property
    def patience(self) -> int:
        """Iterations without progress on the held-out samples that end a run."""
        return NEVER if math.isinf(self.n_iter_no_change) else int(self.n_iter_no_change)


def check_settings(estimator: Any) -> Settings:
    """Return the checked parameters of an estimator."""
    fraction = check_positive("validation_fraction", estimator.validation_fraction)
    if fraction >= 1.0:
        raise ValueError(f"validation_fraction must be in (0, 1), got {fraction}")
    regularization = estimator.regularization
    if regularization is not None and regularization not in REGULARIZATIONS:
        raise unknown_name("regularization", regularization, REGULARIZATIONS)
    if regularization is not None and estimator.early_stopping:
        raise ValueError(
            f"early_stopping=True does not go with regularization={regularization!r}: both keep "
            "the network from fitting noise"
        )
    if estimator.solver in FOREIGN_SOLVERS:
        raise ValueError(
            f"solver {estimator.solver!r} is unknown: here `method` names the optimiser ('lm', "
            "'newton', 'auto', ...) and `solver` what solves its linear systems "
            "('auto', 'cholesky', 'dual', 'lsqr', 'qr')"
        )
    patience = estimator.n_iter_no_change
    if not (isinstance(patience, float) and math.isinf(patience)):
        patience = _whole("n_iter_no_change", patience)
    batch_size = estimator.batch_size
    return Settings(
        hidden=_hidden(estimator.hidden_layer_sizes),
        activation=_activation(estimator.activation),
        alpha=check_positive("alpha", estimator.alpha, zero=True),
        tol=check_positive("tol", estimator.tol, zero=True),
        n_iter_no_change=patience,
        n_restarts=_whole("n_restarts", estimator.n_restarts),
        validation_fraction=fraction,
        batch_size=None if batch_size is None else _whole("batch_size", batch_size),
        regularization=regularization,
    )


def regression_loss(loss: str | Loss | Any) -> Loss:
    """Return the loss of a regressor from its name or the object."""
    if not isinstance(loss, str):
        return get_loss(loss)
    name = LOSS_NAMES.get(loss, loss)
    if name not in (LOSS_NAMES.get(known, known) for known in REGRESSION_LOSSES):
        raise unknown_name("loss", loss, REGRESSION_LOSSES)
    return get_loss(name)


def _hidden(sizes: Any) -> tuple[int, ...]:
    if hasattr(sizes, "__index__"):
        sizes = (sizes,)
    if isinstance(sizes, (str, bytes)) or not hasattr(sizes, "__len__"):
        raise TypeError(f"hidden_layer_sizes must be an integer or several, not {sizes!r}")
    return tuple(_whole(f"hidden_layer_sizes[{i}]", size) for i, size in enumerate(sizes))


def _activation(activation: Any) -> Any:
    if isinstance(activation, str):
        return ACTIVATION_NAMES.get(activation, activation)
    if isinstance(activation, Activation) or not isinstance(activation, Sequence):
        return activation
    return [_activation(each) for each in activation]


def _whole(name: str, value: Any) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    number = int(value.__index__())
    if number < 1:
        raise ValueError(f"{name} must be at least 1, got {number}")
    return number
