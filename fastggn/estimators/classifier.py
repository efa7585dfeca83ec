"""Classification with the interface of scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, log_expit, log_softmax, softmax
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import column_or_1d
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets, type_of_target, unique_labels
from sklearn.utils.validation import validate_data

from fastggn.errors import unknown_name
from fastggn.estimators.base import GGNEstimator, takes_steps
from fastggn.estimators.frames import as_frame as framed
from fastggn.estimators.samples import Samples
from fastggn.losses import Loss, get_loss
from fastggn.network import MLP

__all__ = ["GGNClassifier"]

FloatArray = NDArray[np.float64]

CERTAIN = np.nextafter(1.0, 0.0)
LOSSES = ("log_loss", "softmax_cross_entropy")


class GGNClassifier(ClassifierMixin, GGNEstimator):
    def __init__(
        self,
        hidden_layer_sizes: Any = (20,),
        activation: Any = "tanh",
        *,
        loss: str = "log_loss",
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
        self.n_threads = n_threads
        self.verbose = verbose

    @available_if(takes_steps)
    def partial_fit(
        self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None
    ) -> GGNClassifier:
        return self._partial_fit(X, y, sample_weight, classes)

    def predict(self, X: Any, *, as_frame: bool = False) -> Any:
        outputs = self._outputs(X)
        if self._multilabel:
            labels = (outputs > 0.0).astype(np.int64)
        else:
            labels = self.classes_[_winners(outputs)]
        if as_frame:
            return framed(labels, X, self.target_names_in_, table=False)
        return labels

    def predict_proba(self, X: Any, *, as_frame: bool = False) -> Any:
        outputs = self._outputs(X)
        if self.out_activation_ == "softmax":
            values = softmax(outputs, axis=1)
        elif self._multilabel:
            values = _sigmoid(outputs)
        else:
            values = np.hstack([_sigmoid(-outputs), _sigmoid(outputs)])
        return self._by_class(values, X, as_frame)

    def predict_log_proba(self, X: Any, *, as_frame: bool = False) -> Any:
        outputs = self._outputs(X)
        if self.out_activation_ == "softmax":
            values = log_softmax(outputs, axis=1)
        elif self._multilabel:
            values = log_expit(outputs)
        else:
            values = np.hstack([log_expit(-outputs), log_expit(outputs)])
        return self._by_class(values, X, as_frame)

    def _by_class(self, values: FloatArray, X: Any, as_frame: bool) -> Any:
        if not as_frame:
            return values
        names = self.classes_
        if self._multilabel and self.target_names_in_ is not None:
            names = self.target_names_in_
        return framed(values, X, names, table=True)

    def _checked_data(self, X: Any, y: Any, first: bool) -> tuple[FloatArray, NDArray[Any]]:
        X, y = validate_data(
            self, X, y, multi_output=True, dtype=np.float64, order="C", reset=first
        )
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        return X, y

    def _encode(self, y: NDArray[Any], first: bool, classes: Any) -> FloatArray:
        if first:
            self._learn_classes(y, classes)
        elif classes is not None and not np.array_equal(unique_labels(classes), self.classes_):
            raise ValueError(
                f"classes={classes!r} differ from those of the first call, {self.classes_}"
            )
        unknown = np.setdiff1d(unique_labels(y), self.classes_)
        if unknown.size:
            raise ValueError(
                f"y holds classes that are not among those known, {self.classes_}: {unknown}"
            )
        codes = self._binarizer.transform(y).astype(np.float64)
        if self.loss == "softmax_cross_entropy" and codes.shape[1] == 1 and not self._multilabel:
            codes = np.hstack([1.0 - codes, codes])
        return np.ascontiguousarray(codes)

    def _learn_classes(self, y: NDArray[Any], classes: Any) -> None:
        """Set the classes, by the argument `classes` where it is given."""
        multilabel = type_of_target(y, input_name="y").startswith("multilabel")
        if multilabel and self.loss == "softmax_cross_entropy":
            raise ValueError("loss='softmax_cross_entropy' is for classes that exclude each other")
        binarizer = LabelBinarizer().fit(y if classes is None or multilabel else classes)
        found = binarizer.classes_
        if len(found) < 2 and not multilabel:
            raise ValueError(
                f"y must hold at least 2 classes, but it holds 1 class only, {found[0]!r}"
            )
        self._binarizer, self._multilabel, self.classes_ = binarizer, multilabel, found
        several = len(found) > 2 or self.loss == "softmax_cross_entropy"
        self.out_activation_ = "softmax" if several and not multilabel else "logistic"

    def _check_loss(self) -> None:
        if self.loss not in LOSSES:
            raise unknown_name("loss", self.loss, LOSSES)

    def _loss(self) -> Loss:
        softmax_output = self.out_activation_ == "softmax"
        return get_loss("softmax_cross_entropy" if softmax_output else "logistic")

    def _summands(self, net: MLP) -> int:
        return 1

    def _score_outputs(self, outputs: FloatArray, held: Samples) -> float:
        if self._multilabel:
            found, given = outputs > 0.0, held.Y > 0.5
        else:
            found, given = _winners(outputs), _winners(held.Y - 0.5)
        return float(accuracy_score(given, found, sample_weight=held.weights))

    def _strata(self, samples: Samples) -> NDArray[Any] | None:
        return None if self._multilabel else _winners(samples.Y - 0.5)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags


def _winners(outputs: FloatArray) -> NDArray[np.intp]:
    """Return the index of the class with the largest output; that of a single output is 1."""
    if outputs.shape[1] == 1:
        return (outputs[:, 0] > 0.0).astype(np.intp)
    return outputs.argmax(axis=1)


def _sigmoid(outputs: FloatArray) -> FloatArray:
    """Return probabilities; what would be rounded to certainty is the last number below 1."""
    return np.minimum(expit(outputs), CERTAIN)
