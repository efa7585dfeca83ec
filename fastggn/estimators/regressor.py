"""Regression with the interface of scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import validate_data

from fastggn.estimators.base import GGNEstimator, takes_steps
from fastggn.estimators.frames import as_frame as framed
from fastggn.estimators.samples import Samples
from fastggn.estimators.scaling import Units
from fastggn.estimators.settings import regression_loss
from fastggn.losses import Loss
from fastggn.network import MLP

__all__ = ["GGNRegressor"]

FloatArray = NDArray[np.float64]


class GGNRegressor(RegressorMixin, GGNEstimator):
    def __init__(
        self,
        hidden_layer_sizes: Any = (20,),
        activation: Any = "tanh",
        *,
        loss: Any = "squared_error",
        alpha: float = 1e-4,
        method: str = "lm",
        solver: str = "auto",
        batch_size: int | None = None,
        max_iter: int = 200,
        max_time: float | None = None,
        tol: float = 1e-4,
        n_iter_no_change: float = 10,
        n_restarts: int = 1,
        random_state: Any = None,
        warm_start: bool = False,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        regularization: str | None = None,
        standardize_inputs: bool = True,
        standardize_outputs: bool = True,
        n_threads: int | None = None,
        verbose: bool = False,
    ) -> None:
        self.hidden_layer_sizes = hidden_layer_sizes
        self.activation = activation
        self.loss = loss
        self.alpha = alpha
        self.method = method
        self.solver = solver
        self.batch_size = batch_size
        self.max_iter = max_iter
        self.max_time = max_time
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.n_restarts = n_restarts
        self.random_state = random_state
        self.warm_start = warm_start
        self.early_stopping = early_stopping
        self.validation_fraction = validation_fraction
        self.regularization = regularization
        self.standardize_inputs = standardize_inputs
        self.standardize_outputs = standardize_outputs
        self.n_threads = n_threads
        self.verbose = verbose

    @available_if(takes_steps)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> GGNRegressor:
        return self._partial_fit(X, y, sample_weight)

    def predict(self, X: Any, *, as_frame: bool = False) -> Any:
        outputs = self._outputs(X)
        values = Units.of(self.output_scaler_, self.n_outputs_).out_of(outputs)
        if self.n_outputs_ == 1:
            values = values[:, 0]
        if as_frame:
            return framed(values, X, self.target_names_in_, table=False)
        return values

    def _checked_data(self, X: Any, y: Any, first: bool) -> tuple[FloatArray, NDArray[Any]]:
        X, y = validate_data(
            self, X, y, multi_output=True, y_numeric=True, dtype=np.float64, order="C", reset=first
        )
        return X, y

    def _encode(self, y: NDArray[Any], first: bool, classes: Any) -> FloatArray:
        targets = np.ascontiguousarray(y.reshape(y.shape[0], -1), dtype=np.float64)
        if not first and targets.shape[1] != self.n_outputs_:
            raise ValueError(
                f"y has {targets.shape[1]} columns, and the estimator was fitted to "
                f"{self.n_outputs_}"
            )
        self.out_activation_ = "identity"
        return targets

    def _check_loss(self) -> None:
        regression_loss(self.loss)

    def _loss(self) -> Loss:
        return regression_loss(self.loss)

    def _summands(self, net: MLP) -> int:
        return net.n_outputs

    def _score_outputs(self, outputs: FloatArray, held: Samples) -> float:
        return float(r2_score(held.Y, outputs, sample_weight=held.weights))

    def _strata(self, samples: Samples) -> None:
        return None

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags
