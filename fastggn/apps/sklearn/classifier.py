"""Classification with the interface of scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassifierMixin
from sklearn.metrics import accuracy_score
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import column_or_1d
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets, type_of_target, unique_labels
from sklearn.utils.validation import check_is_fitted, validate_data

from fastggn.apps.sklearn.base import INPUTS, GGNEstimator, dense, takes_steps
from fastggn.apps.sklearn.frames import as_frame as framed
from fastggn.apps.sklearn.samples import Samples
from fastggn.model.decision import Decision
from fastggn.network.losses import get_loss
from fastggn.network.losses.base import Loss
from fastggn.network.mlp import MLP
from fastggn.runtime.errors import unknown_name

FloatArray = NDArray[np.float64]

LOSSES = ("log_loss", "softmax_cross_entropy")


class GGNClassifier(ClassifierMixin, GGNEstimator):
    """Classification by a multilayer perceptron, trained by second-order steps.

    The interface is that of scikit-learn's ``MLPClassifier``. Labels may have any type that can be
    sorted. Two classes take one output and the logistic loss, several classes the softmax
    cross-entropy, and a 0/1 matrix of labels (multilabel) one logistic output for each label. All
    parameters and attributes that are not listed here are those of `GGNRegressor`.

    Parameters
    ----------
    loss : {"log_loss", "softmax_cross_entropy"}
        "softmax_cross_entropy" uses softmax for two classes as well.

    Attributes
    ----------
    classes_ : ndarray, shape (n_classes,)
        The labels, sorted; the columns of `predict_proba`. Labels of samples of weight 0 count, as
        in scikit-learn.
    out_activation_ : str
        "logistic" or "softmax"
    validation_scores_ : list of float or None
        With `early_stopping`, the accuracy on the held-out samples after each iteration.

    Examples
    --------
    >>> import fastggn as fg
    >>> X, _ = fg.data.four_regions(200, seed=0)
    >>> label = fg.data.four_regions_class(X)
    >>> model = fg.GGNClassifier(10, random_state=0, max_iter=100, tol=0.1, alpha=0.1).fit(X, label)
    >>> bool(model.score(X, label) > 0.9)
    True
    """

    # The correction cost more than it saved on every data set measured (docs/estimators.md).
    _geodesic = False

    def __init__(
        self,
        hidden_layer_sizes: Any = (20,),
        activation: Any = "tanh",
        *,
        loss: str = "log_loss",
        alpha: float = 1e-4,
        method: str = "auto",
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
        self._set_parameters(locals())

    @available_if(takes_steps)
    def partial_fit(
        self, X: Any, y: Any, classes: Any = None, sample_weight: Any = None
    ) -> GGNClassifier:
        """Continue training with more samples, one damped step for each mini-batch.

        The new samples also judge the last step, which decides the length of the next one.

        Parameters
        ----------
        X : array_like or DataFrame, shape (T, n_0)
        y : array_like, shape (T,), or (T, n_classes) of 0 and 1
        classes : array_like, optional
            All labels; needed at the first call unless y holds all of them.
        sample_weight : array_like, shape (T,), optional

        Raises
        ------
        TypeError, ValueError
            If a parameter or the data are not valid, or a label is not among the classes.
        """
        self._partial_fit(X, y, sample_weight, classes)
        return self

    def predict(self, X: Any, *, as_frame: bool = False) -> Any:
        """Return the labels (T,), or (T, n_classes) of 0 and 1 for multilabel targets.

        Parameters
        ----------
        X : array_like or DataFrame, shape (T, n_0)
        as_frame : bool
            Return a Series (a DataFrame for several labels) with the index of X.
        """
        labels = self._decision().winners(self._outputs(X))
        if not self._multilabel:
            labels = self.classes_[labels]
        if as_frame:
            return framed(labels, X, self.target_names_in_, table=False)
        return labels

    def decision_function(self, X: Any) -> FloatArray:
        """Return the logits of the classes.

        Parameters
        ----------
        X : array_like or DataFrame, shape (T, n_0)

        Returns
        -------
        ndarray, shape (T,), or (T, n_classes)
            For two classes one number, positive for the second class; otherwise one number for each
            class or label, for a label positive where it is given.
        """
        return self._decision().scores(self._outputs(X))

    def predict_proba(self, X: Any, *, as_frame: bool = False) -> Any:
        """Return the probabilities (T, n_classes) of the classes.

        After a fit with ``regularization="bayesian"`` they are moderated, as those of `model_`:
        nearer to even where the weights are uncertain.

        Parameters
        ----------
        X : array_like or DataFrame, shape (T, n_0)
        as_frame : bool
            Return a DataFrame with the index of X.
        """
        return self._by_class(X, as_frame, Decision.probabilities)

    def predict_log_proba(self, X: Any, *, as_frame: bool = False) -> Any:
        """Return the logarithms of `predict_proba`, accurate where the probabilities underflow."""
        return self._by_class(X, as_frame, Decision.log_probabilities)

    def _by_class(self, X: Any, as_frame: bool, function: Any) -> Any:
        """Return a function of the decision and the outputs, by class."""
        inputs = self._inputs(X)
        with self._limited_threads():
            values = function(self._decision(), self.model_.logits_of(inputs))
        if not as_frame:
            return values
        names = self.classes_
        if self._multilabel and self.target_names_in_ is not None:
            names = self.target_names_in_
        return framed(values, X, names, table=True)

    def _checked_data(self, X: Any, y: Any, first: bool) -> tuple[FloatArray, NDArray[Any]]:
        X, y = validate_data(self, X, y, multi_output=True, **INPUTS, reset=first)
        if y.ndim == 2 and y.shape[1] == 1:
            y = column_or_1d(y, warn=True)
        check_classification_targets(y)
        return dense(X), y

    def _encode(self, y: NDArray[Any], first: bool, classes: Any) -> FloatArray:
        if first:
            self._learn_classes(y, classes)
        elif classes is not None and not np.array_equal(unique_labels(classes), self.classes_):
            raise ValueError(
                f"classes={classes!r} differ from those of the first call, {self.classes_}"
            )
        if not first or classes is not None:
            unknown = np.setdiff1d(unique_labels(y), self.classes_)
            if unknown.size:
                raise ValueError(
                    f"y holds classes that are not among those known, {self.classes_}: {unknown}"
                )
        if self._multilabel:
            return np.ascontiguousarray(self._binarizer.transform(y), dtype=np.float64)
        index = np.searchsorted(self.classes_, y)
        if len(self.classes_) == 2 and self.loss != "softmax_cross_entropy":
            return index[:, None].astype(np.float64)
        codes = np.zeros((index.size, len(self.classes_)))
        codes[np.arange(index.size), index] = 1.0
        return codes

    def _learn_classes(self, y: NDArray[Any], classes: Any) -> None:
        """Set the classes from y, or from the argument `classes`."""
        table = y.ndim == 2
        multilabel = table and type_of_target(y, input_name="y").startswith("multilabel")
        if multilabel and self.loss == "softmax_cross_entropy":
            raise ValueError("loss='softmax_cross_entropy' is for classes that exclude each other")
        if table:
            self._binarizer = LabelBinarizer().fit(y)
            found = self._binarizer.classes_
        else:
            # The labels are checked: `unique_labels` would check them again.
            found = np.unique(y) if classes is None else unique_labels(classes)
        if len(found) < 2 and not multilabel:
            raise ValueError(
                f"y must hold at least 2 classes, but it holds 1 class only, {found[0]!r}"
            )
        self._multilabel, self.classes_ = multilabel, found
        several = len(found) > 2 or self.loss == "softmax_cross_entropy"
        self.out_activation_ = "softmax" if several and not multilabel else "logistic"

    def _check_loss(self) -> None:
        if self.loss not in LOSSES:
            raise unknown_name("loss", self.loss, LOSSES)

    def _loss(self) -> Loss:
        softmax_output = self.out_activation_ == "softmax"
        return get_loss("softmax_cross_entropy" if softmax_output else "logistic")

    def _labels(self) -> Any:
        return None if self._multilabel else self.classes_

    def _decision(self) -> Decision:
        check_is_fitted(self, "classes_")
        found = Decision.of(self._loss(), self._labels(), len(self.classes_))
        assert found is not None  # both losses are for classes
        return found

    def _summands(self, net: MLP) -> int:
        return 1

    def _score_outputs(self, outputs: FloatArray, held: Samples) -> float:
        given, found = (self._decision().winners(F) for F in (held.Y - 0.5, outputs))
        return float(accuracy_score(given, found, sample_weight=held.weights))

    def _strata(self, samples: Samples) -> NDArray[Any] | None:
        return None if self._multilabel else self._decision().winners(samples.Y - 0.5)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
