"""Regression with the interface of scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import validate_data

from fastggn.apps.sklearn.base import INPUTS, GGNEstimator, dense, takes_steps
from fastggn.apps.sklearn.frames import as_frame as framed
from fastggn.apps.sklearn.samples import Samples
from fastggn.apps.sklearn.settings import regression_loss
from fastggn.network.losses.base import Loss
from fastggn.network.mlp import MLP

FloatArray = NDArray[np.float64]


class GGNRegressor(RegressorMixin, GGNEstimator):
    """Regression by a multilayer perceptron, trained by second-order steps.

    The interface is that of scikit-learn's ``MLPRegressor``.

    Parameters
    ----------
    hidden_layer_sizes : int or sequence of int
        Units of each hidden layer; ``()`` for a linear model. A second-order method needs fewer
        units than a first-order one, so the default is 20 instead of 100.
    activation : str, Activation, or a sequence of them
        "tanh", "logistic" (also "sigmoid"), "relu", "identity" or another activation of `MLP`,
        one for all hidden layers or one for each.
    loss : {"squared_error", "huber", "smooth_lp", "cauchy", "blake_zisserman"} or Loss
        A name, or a loss object whose scales are in units of the standardised outputs. The mean
        is taken over samples and outputs.
    alpha : float
        Weight of the L2 penalty ``alpha / (2 sum(w)) |W|^2`` on the mean loss, as in scikit-learn,
        for all weights W but the biases and the sample weights w (sum T by default).
        `regularization` chooses it instead; "bayesian" penalises the biases too.
    method : {"auto", "lm", "newton", "ggn", "lbfgs", "bp", "adam"}
        A method of `train`. With `solver`, `batch_size` or regularization "bayesian", "auto" is
        "lm".
    solver : {"auto", "cholesky", "dual", "lsqr", "qr"}
        Solver of the linear systems of the method.
    batch_size : int, optional
        Samples of a mini-batch, in `partial_fit` and for the methods that take batches; None for
        all samples at once.
    max_iter : int
        Maximum number of iterations, with `batch_size` of passes over the samples.
    max_time : float, optional
        Time limit in seconds for all runs of a fit.
    tol : float
        A run ends when none of the last `n_iter_no_change` iterations lowered the loss, with
        `early_stopping` the validation loss, by this fraction (scikit-learn compares the
        difference itself); 0 leaves the end to the gradient. With `regularization` one iteration
        with a smaller change of the objective ends the run.
    n_iter_no_change : int or inf
        See `tol`.
    n_restarts : int
        Number of runs from different first weights. The fit keeps the run of the lowest loss:
        validation loss with `early_stopping` or regularization "validation", negative log
        evidence with "bayesian".
    random_state : int, RandomState instance or None
        Source of the first weights, the mini-batches and the held-out samples.
    warm_start : bool
        Start `fit` at the last solution.
    early_stopping : bool
        Hold out a part of the samples and keep the parameters of the lowest validation loss.
    validation_fraction : float
        The held-out fraction, in (0, 1).
    regularization : {"bayesian", "validation"}, optional
        Choose the penalty: by the evidence in every iteration (MacKay 1992, as MATLAB's trainbr
        does), or by the loss on five held-out folds.
    standardize_inputs : bool
        Scale the inputs to mean 0 and deviation 1.
    standardize_outputs : bool
        Scale the targets likewise; predictions are in the units of the targets.
    n_threads : int, optional
        Threads of fit and prediction; None for all threads of this process, in a worker process of
        joblib for its share of the cores, in a worker thread for one.
    verbose : bool
        Show the progress of each run.

    Attributes
    ----------
    model_ : Model
        Network, weights, scales, and the names of columns and classes: `Model.save`,
        `Model.export`.
    theta_ : ndarray, shape (N,)
        Parameters of `net_`, a network **on the standardised data**: see `input_scaler_` and
        `output_scaler_`.
    net_ : MLP
    coefs_, intercepts_ : list of ndarray, shapes (n_l, n_l+1) and (n_l+1,)
        The same parameters in the layout of scikit-learn.
    input_scaler_, output_scaler_ : Scaler or None
        The scales; None without scaling.
    result_ : TrainResult or None
        The best run, with its history; None after `partial_fit`.
    loss_, best_loss_ : float
        Objective with the penalty at `theta_`, and its lowest value, for standardised data and
        averaged over the outputs.
    loss_curve_ : list of float
        Objective after each iteration.
    validation_scores_ : list of float or None
        With `early_stopping`, R^2 on the held-out samples after each iteration.
    best_validation_score_ : float or None
        The highest validation score.
    alpha_ : float
        The final weight of the penalty.
    posterior_ : LaplacePosterior or None
        With regularization "bayesian": the posterior of the network on standardised data.
    weight_decay_path_ : dict or None
        With regularization "validation": the losses along the path.
    n_iter_, n_layers_, n_outputs_, n_features_in_ : int
    out_activation_ : str
        "identity"
    feature_names_in_, target_names_in_ : ndarray of object
        Names of the columns, where X and y are pandas objects (the latter None otherwise).

    Examples
    --------
    >>> import fastggn as fg
    >>> X, Y = fg.data.friedman1(200, seed=0)
    >>> model = fg.GGNRegressor(10, random_state=0, max_iter=50, tol=1e-2).fit(X, Y)
    >>> bool(model.score(X, Y) > 0.9)
    True
    """

    def __init__(
        self,
        hidden_layer_sizes: Any = (20,),
        activation: Any = "tanh",
        *,
        loss: Any = "squared_error",
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
        standardize_outputs: bool = True,
        n_threads: int | None = None,
        verbose: bool = False,
    ) -> None:
        self._set_parameters(locals())

    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, gradients: Any = None) -> Any:
        """Train the network.

        Parameters
        ----------
        X : array_like or DataFrame, shape (T, n_0)
        y : array_like, shape (T,) or (T, n_L)
        sample_weight : array_like, shape (T,), optional
        gradients : array_like, shape (T, n_0) or (T, n_L, n_0), optional
            Derivatives of y by the columns of X, in the units of both (a force is minus a
            gradient): the network is fitted to values and derivatives. The derivatives by each
            input, divided by their root mean square, count like the values. `loss_` includes them;
            scores, and the loss of held-out samples, are those of the values.

        Raises
        ------
        TypeError, ValueError
            If a parameter or the data are not valid; with `gradients` also for a `regularization`,
            and for an activation that is not smooth ("relu").
        """
        if gradients is not None and self.regularization is not None:
            raise ValueError(f"gradients do not go with regularization={self.regularization!r}")
        return self._fit_to(X, y, sample_weight, gradients)

    @available_if(takes_steps)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> GGNRegressor:
        """Continue training with more samples, one damped step for each mini-batch.

        The new samples also judge the last step, which decides the length of the next one. The
        scalers learn from each batch; the function of the network does not change with them.

        Parameters
        ----------
        X : array_like or DataFrame, shape (T, n_0)
        y : array_like, shape (T,) or (T, n_L)
        sample_weight : array_like, shape (T,), optional

        Raises
        ------
        TypeError, ValueError
            If a parameter or the data are not valid.
        """
        self._partial_fit(X, y, sample_weight)
        return self

    def predict(self, X: Any, return_std: bool = False, *, as_frame: bool = False) -> Any:
        """Return predictions in the units of the targets.

        Parameters
        ----------
        X : array_like or DataFrame, shape (T, n_0)
        return_std : bool
            Also return the standard deviation of a new target, noise included (Laplace
            approximation), after a fit with ``regularization="bayesian"``.
        as_frame : bool
            Return a Series (one output) or a DataFrame with the index of X and the names of y.

        Returns
        -------
        ndarray, shape (T,) or (T, n_L), or a pair of them

        Raises
        ------
        ValueError
            If X does not fit, or there is no deviation to return.
        """
        found: tuple[FloatArray, ...]
        if return_std:
            inputs = self._inputs(X)
            if self.posterior_ is None:
                raise ValueError("return_std=True needs a fit with regularization='bayesian'")
            with self._limited_threads():
                found = self.model_.deviations_of(inputs)
        else:
            found = (self._outputs(X),)
        values = [each[:, 0] if self.n_outputs_ == 1 else each for each in found]
        if as_frame:
            values = [framed(each, X, self.target_names_in_, table=False) for each in values]
        return tuple(values) if return_std else values[0]

    def _checked_data(self, X: Any, y: Any, first: bool) -> tuple[FloatArray, NDArray[Any]]:
        X, y = validate_data(self, X, y, multi_output=True, y_numeric=True, **INPUTS, reset=first)
        return dense(X), y

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
