"""The base class of both estimators: parameters, samples, training and results."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from fastggn.analysis.posterior.laplace import laplace
from fastggn.apps.sklearn.fitting import Task, draw_seed, fit_network
from fastggn.apps.sklearn.frames import target_names
from fastggn.apps.sklearn.online import OnlineSteps
from fastggn.apps.sklearn.parallelism import threads_to_use
from fastggn.apps.sklearn.samples import Samples, batches
from fastggn.apps.sklearn.scaling import Scalers, Units
from fastggn.apps.sklearn.settings import Settings, check_settings
from fastggn.network.losses.base import Loss
from fastggn.network.mlp import MLP
from fastggn.objective.problem import Problem
from fastggn.objective.sample_checks import checked_weights
from fastggn.runtime.threads import threads
from fastggn.training.methods.named import make_method
from fastggn.training.result import TrainResult

FloatArray = NDArray[np.float64]

# Checks of inputs by scikit-learn.
INPUTS: dict[str, Any] = {
    "accept_sparse": ("csr", "csc", "coo"),
    "dtype": np.float64,
    "order": "C",
}


def dense(X: Any) -> FloatArray:
    """Return inputs (T, n_0) as an array: standardised, a sparse matrix has no zeros to save."""
    return np.ascontiguousarray(X.toarray() if issparse(X) else X)


def takes_steps(estimator: Any) -> bool:
    """Check that the estimator offers `partial_fit`."""
    if estimator.method not in ("lm", "auto"):
        raise AttributeError(
            f"partial_fit takes steps of the method 'lm' only, not of {estimator.method!r}"
        )
    return True


class GGNEstimator(BaseEstimator):
    """Base class of `GGNRegressor` and `GGNClassifier`."""

    standardize_outputs: bool = False
    out_activation_: str
    # Whether "lm" corrects its steps to second order; None leaves that to `train`.
    _geodesic: bool | None = None

    def _set_parameters(self, given: dict[str, Any]) -> None:
        """Set the arguments of `__init__` as attributes, as scikit-learn wants them."""
        self.__dict__.update((name, value) for name, value in given.items() if name != "self")

    # Hooks of the subclasses for their targets.

    def _checked_data(self, X: Any, y: Any, first: bool) -> tuple[FloatArray, NDArray[Any]]:
        """Return inputs (T, n_0) and targets as arrays."""
        raise NotImplementedError

    def _encode(self, y: NDArray[Any], first: bool, classes: Any) -> FloatArray:
        """Return targets (T, n_L); set or check the attributes that describe them."""
        raise NotImplementedError

    def _check_loss(self) -> None:
        """Raise if the parameter `loss` is not valid."""
        raise NotImplementedError

    def _loss(self) -> Loss:
        """Return the loss, once the targets are known."""
        raise NotImplementedError

    def _summands(self, net: MLP) -> int:
        """Return the number of outputs by which to divide the loss: `Problem` takes their sum."""
        raise NotImplementedError

    def _score_outputs(self, outputs: FloatArray, held: Samples) -> float:
        """Return the score of network outputs on held-out samples, in the units of the network."""
        raise NotImplementedError

    def _strata(self, samples: Samples) -> NDArray[Any] | None:
        """Return the labels that stratify the held-out samples, or None."""
        raise NotImplementedError

    # Fitting.

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """Train the network."""
        settings = check_settings(self)
        warm = bool(self.warm_start) and hasattr(self, "theta_")
        samples = self._samples(X, y, sample_weight, first=not warm)
        rng = check_random_state(self.random_state)
        with self._limited_threads():
            self._fit(settings, samples, rng, warm)
        return self

    def _samples(
        self, X: Any, y: Any, sample_weight: Any, *, first: bool, classes: Any = None
    ) -> Samples:
        """Return the checked samples without the samples of weight 0."""
        self._check_loss()
        names = target_names(y)
        X, y = self._checked_data(X, y, first)
        weights = None
        if sample_weight is not None:
            weights = _check_sample_weight(sample_weight, X, dtype=np.float64)
            weights = checked_weights(weights, X.shape[0])
            if weights is not None and not weights.any():
                raise ValueError("sample_weight is zero for every sample")
        samples = Samples(X, self._encode(y, first, classes), weights)
        if first:
            self.target_names_in_ = names
        if weights is not None and not weights.all():
            return samples.rows(np.flatnonzero(weights))
        return samples

    def _fit(self, settings: Settings, samples: Samples, rng: Any, warm: bool) -> None:
        held = None
        if self.early_stopping:
            fraction = settings.validation_fraction
            samples, held = samples.split(fraction, rng, self._strata(samples))
        net = self._network(settings, samples)
        scalers = self._learned(Scalers(), samples)
        share = self._summands(net)
        task = Task(
            net=net,
            loss=self._loss(),
            l2=0.0 if settings.regularization else settings.alpha * share / samples.total,
            # The evidence knows one prior for all parameters; else as in scikit-learn.
            penalize_biases=settings.regularization == "bayesian",
            samples=scalers.scaled(samples),
            options=self._options(settings, samples),
            score=self._score_outputs,
            held=None if held is None else scalers.scaled(held),
            start=self._scalers().carry(net, self.theta_, scalers) if warm else None,
        )
        fitted = fit_network(settings, task, rng)
        self.result_: TrainResult | None = fitted.result
        self.alpha_ = fitted.l2 * samples.total / share
        self.posterior_, self.weight_decay_path_ = None, None
        if fitted.path is not None:
            self.weight_decay_path_ = fitted.path.to_dict()
        if fitted.result.evidence is not None:
            self.posterior_ = laplace(task.problem(), fitted.result.theta, fitted.result.evidence)
        self.n_iter_ = fitted.result.n_iter
        self.loss_curve_ = [record.loss / share for record in fitted.result.history]
        self.loss_ = fitted.result.loss / share
        self.best_loss_ = min([*self.loss_curve_, self.loss_])
        self.validation_scores_ = fitted.scores
        self.best_validation_score_ = fitted.best_score
        self._online, self._weight_seen = OnlineSteps(), samples.total
        self._keep(net, np.array(fitted.result.theta), scalers)

    def _options(self, settings: Settings, samples: Samples) -> dict[str, Any]:
        """Return the arguments of `train` that are parameters of the estimator."""
        batch_size, name = settings.batch_size, self.method
        given: dict[str, Any] = {} if self.solver == "auto" else {"solver": self.solver}
        if batch_size is not None:
            given["batch_size"] = min(batch_size, samples.count)
        if name == "auto" and (given or settings.regularization == "bayesian"):
            name = "lm"
        if name == "lm" and self._geodesic is not None:
            given["geodesic"] = self._geodesic
        return {
            "method": make_method(name, given),
            "max_iter": self.max_iter,
            "max_time": self.max_time,
            "progress": bool(self.verbose),
        }

    def _partial_fit(self, X: Any, y: Any, sample_weight: Any, classes: Any = None) -> None:
        settings = check_settings(self)
        for name in ("early_stopping", "regularization"):
            if getattr(self, name):
                raise ValueError(f"partial_fit does not go with {name}={getattr(self, name)!r}")
        first = not hasattr(self, "theta_")
        samples = self._samples(X, y, sample_weight, first=first, classes=classes)
        parts = [samples.rows(rows) for rows in batches(samples.count, settings.batch_size)]
        if first:
            self._begin(settings, parts[0])
        with self._limited_threads():
            for batch in parts:
                self._take_step(settings, batch)

    def _begin(self, settings: Settings, batch: Samples) -> None:
        """Set the network and the counters at the first call of `partial_fit`."""
        net = self._network(settings, batch)
        theta = net.init(draw_seed(check_random_state(self.random_state)))
        self._online, self._weight_seen = OnlineSteps(), 0.0
        self.n_iter_, self.loss_curve_, self.best_loss_ = 0, [], np.inf
        self.validation_scores_ = self.best_validation_score_ = None
        self._keep(net, theta, self._learned(Scalers(), batch))

    def _take_step(self, settings: Settings, batch: Samples) -> None:
        net, before = self.net_, self._scalers()
        # The units of the first batch are known already.
        after = self._learned(before, batch) if self._weight_seen else before
        self._weight_seen += batch.total
        share = self._summands(net)
        self._online.move(lambda theta: before.carry(net, theta, after))
        scaled = after.scaled(batch)
        problem = Problem(
            net,
            scaled.X,
            scaled.Y,
            self._loss(),
            sample_weight=batch.weights,
            l2=settings.alpha * share / self._weight_seen,
            penalize_biases=False,
        )
        self.alpha_ = settings.alpha
        self.result_ = self.posterior_ = self.weight_decay_path_ = None  # of an earlier fit
        theta, loss = self._online.advance(
            problem, before.carry(net, self.theta_, after), self.solver
        )
        self.n_iter_ += 1
        self.loss_ = loss / share
        self.loss_curve_.append(self.loss_)
        self.best_loss_ = min(self.best_loss_, self.loss_)
        self._keep(net, theta, after)

    def _network(self, settings: Settings, samples: Samples) -> MLP:
        widths = (samples.X.shape[1], *settings.hidden, samples.Y.shape[1])
        net = MLP(widths, settings.activation)
        known = getattr(self, "net_", None)
        if self.warm_start and known is not None and known.to_config() != net.to_config():
            raise ValueError(
                f"warm_start goes on with the network of the last fit, {known!r}, but the "
                f"parameters and the data now ask for {net!r}"
            )
        return net

    def _keep(self, net: MLP, theta: FloatArray, scalers: Scalers) -> None:
        """Set the attributes that describe the trained network."""
        self.net_, self.theta_ = net, theta
        self.input_scaler_, self.output_scaler_ = scalers.inputs, scalers.targets
        layers = net.unpack(theta)
        self.coefs_ = [layer[:, :-1].T.copy() for layer in layers]
        self.intercepts_ = [layer[:, -1].copy() for layer in layers]
        self.n_layers_ = net.n_layers + 1
        self.n_outputs_ = net.n_outputs

    def _scalers(self) -> Scalers:
        return Scalers(self.input_scaler_, self.output_scaler_)

    def _learned(self, scalers: Scalers, samples: Samples) -> Scalers:
        return scalers.learned(
            samples,
            inputs=bool(self.standardize_inputs),
            targets=bool(self.standardize_outputs),
        )

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    # Prediction.

    def _limited_threads(self) -> Any:
        return threads(threads_to_use(self.n_threads))

    def _inputs(self, X: Any) -> FloatArray:
        """Check inputs and convert them to the units of the network."""
        check_is_fitted(self, "theta_")
        X = dense(validate_data(self, X, **INPUTS, reset=False))
        return Units.of(self.input_scaler_, self.net_.n_inputs).into(X)

    def _outputs(self, inputs: FloatArray) -> FloatArray:
        """Return the outputs of the network, (T, n_L), in its own units."""
        with self._limited_threads():
            return self.net_.predict(self.theta_, inputs)
