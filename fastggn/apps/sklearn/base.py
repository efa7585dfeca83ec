"""The base class of both estimators: parameters, samples, training and results."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import issparse
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from fastggn.analysis.posterior.gaussian import LaplacePosterior
from fastggn.analysis.posterior.laplace import laplace
from fastggn.apps.sklearn.fitting import Task, draw_seed, fit_network
from fastggn.apps.sklearn.frames import target_names
from fastggn.apps.sklearn.online import OnlineSteps
from fastggn.apps.sklearn.parallelism import threads_to_use
from fastggn.apps.sklearn.samples import Samples, batches, checked_gradients
from fastggn.apps.sklearn.scaling import Scalers, Seen
from fastggn.apps.sklearn.settings import Settings, check_settings
from fastggn.data.columns import label_of
from fastggn.data.scaler import Scaler
from fastggn.model.history import kept_history
from fastggn.model.interchange.facts import described
from fastggn.model.model import Model
from fastggn.network.losses.base import Loss
from fastggn.network.mlp import MLP
from fastggn.objective.problem import Problem
from fastggn.objective.sample_checks import checked_weights
from fastggn.runtime.signals import heard_in_finalisers
from fastggn.runtime.threads import threads
from fastggn.training.methods.named import make_method
from fastggn.training.result import TrainResult

FloatArray = NDArray[np.float64]

# Checks of inputs by scikit-learn.
INPUTS: dict[str, Any] = {"accept_sparse": ("csr", "csc", "coo"), "dtype": np.float64, "order": "C"}


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
    model_: Model
    # Whether "lm" corrects its steps to second order; None leaves that to `train`.
    _geodesic: bool | None = None

    def _set_parameters(self, given: dict[str, Any]) -> None:
        """Set the arguments of `__init__` as attributes, as scikit-learn wants them."""
        self.__dict__.update((name, value) for name, value in given.items() if name != "self")

    # Parts of the model.

    @property
    def net_(self) -> MLP:
        """The network."""
        return self.model_.network

    @property
    def theta_(self) -> FloatArray:
        """The parameters of the network on scaled data, shape (N,)."""
        return self.model_.theta

    @property
    def input_scaler_(self) -> Scaler | None:
        """The scaling of the inputs."""
        return self.model_.input_scaler

    @property
    def output_scaler_(self) -> Scaler | None:
        """The scaling of the targets."""
        return self.model_.target_scaler

    @property
    def posterior_(self) -> LaplacePosterior | None:
        """The posterior of the network on scaled data."""
        return self.model_.posterior

    @property
    def coefs_(self) -> list[FloatArray]:
        """The weights of each layer in the layout of scikit-learn."""
        return [layer[:, :-1].T.copy() for layer in self.net_.unpack(self.theta_)]

    @property
    def intercepts_(self) -> list[FloatArray]:
        """The biases of each layer."""
        return [layer[:, -1].copy() for layer in self.net_.unpack(self.theta_)]

    @property
    def n_layers_(self) -> int:
        """The number of layers, with the inputs."""
        return self.net_.n_layers + 1

    @property
    def n_outputs_(self) -> int:
        """The number of outputs."""
        return self.net_.n_outputs

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

    def _labels(self) -> Any:
        """Return the labels of classes that exclude each other, or None."""
        return None

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
        return self._fit_to(X, y, sample_weight)

    def _fit_to(self, X: Any, y: Any, sample_weight: Any, gradients: Any = None) -> Any:
        settings = check_settings(self)
        warm = bool(self.warm_start) and hasattr(self, "model_")
        samples = self._samples(X, y, sample_weight, first=not warm, gradients=gradients)
        seed = draw_seed(check_random_state(self.random_state))
        with self._limited_threads(), heard_in_finalisers():
            self._fit(settings, samples, seed, warm)
        return self

    def _samples(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        *,
        first: bool,
        classes: Any = None,
        gradients: Any = None,
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
        Y = self._encode(y, first, classes)
        if gradients is not None:
            gradients = checked_gradients(gradients, X, Y.shape[1])
        samples = Samples(X, Y, weights, gradients)
        if first:
            self.target_names_in_ = names
        if weights is not None and not weights.all():
            return samples.rows(np.flatnonzero(weights))
        return samples

    def _fit(self, settings: Settings, samples: Samples, seed: int, warm: bool) -> None:
        held = None
        if self.early_stopping:
            fraction = settings.validation_fraction
            samples, held = samples.split(fraction, seed, self._strata(samples))
        net = self._network(settings, samples)
        seen = self._begun(samples)
        scalers = seen.scalers()
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
        fitted = fit_network(settings, task, seed)
        result = fitted.result
        self.result_: TrainResult | None = result
        self.alpha_ = fitted.l2 * samples.total / share
        self.weight_decay_path_ = None if fitted.path is None else fitted.path.to_dict()
        self.n_iter_ = result.n_iter
        self.loss_curve_ = [record.loss / share for record in result.history]
        self.loss_ = result.loss / share
        self.best_loss_ = min([*self.loss_curve_, self.loss_])
        self.validation_scores_ = fitted.scores
        self.best_validation_score_ = fitted.best_score
        self._online, self._seen = OnlineSteps(), seen
        evidence = result.evidence
        self.model_ = replace(
            self._model(net, np.array(result.theta), scalers),
            l2=fitted.l2,
            penalize_biases=task.penalize_biases,
            training={"status": result.status, "message": result.message, "loss": result.loss,
                      "n_iter": result.n_iter, "n_rows": samples.count},
            history=kept_history(result.history),
            posterior=None if evidence is None else laplace(
                task.problem(), result.theta, evidence),
        )  # fmt: skip
        if result.status == "interrupted":
            # A search over parameters must not run on with a half-trained network.
            raise KeyboardInterrupt(result.message)

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
        first = not hasattr(self, "model_")
        samples = self._samples(X, y, sample_weight, first=first, classes=classes)
        parts = [samples.rows(rows) for rows in batches(samples.count, settings.batch_size)]
        if first:
            self._begin(settings, parts[0])
        with self._limited_threads(), heard_in_finalisers():
            for number, batch in enumerate(parts):
                self._take_step(settings, batch, known=first and number == 0)

    def _begin(self, settings: Settings, batch: Samples) -> None:
        """Set the network and the counters at the first call of `partial_fit`."""
        net = self._network(settings, batch)
        theta = net.init(draw_seed(check_random_state(self.random_state)))
        self._online, self._seen = OnlineSteps(), self._begun(batch)
        self.n_iter_, self.loss_curve_, self.best_loss_ = 0, [], np.inf
        self.validation_scores_ = self.best_validation_score_ = None
        self.model_ = self._model(net, theta, self._seen.scalers())

    def _take_step(self, settings: Settings, batch: Samples, *, known: bool) -> None:
        net, before = self.net_, self._scalers()
        seen = self._seen
        if not known:
            seen = copy.deepcopy(seen)
            seen.add(batch)
        after, share = seen.scalers(), self._summands(net)
        self._online.move(lambda theta: before.carry(net, theta, after))
        scaled = after.scaled(batch)
        problem = Problem(
            net,
            scaled.X,
            scaled.Y,
            self._loss(),
            sample_weight=batch.weights,
            l2=settings.alpha * share / seen.weight,
            penalize_biases=False,
        )
        self.alpha_ = settings.alpha
        self.result_ = self.weight_decay_path_ = None  # of an earlier fit
        theta, loss = self._online.advance(
            problem, before.carry(net, self.theta_, after), self.solver
        )
        self.n_iter_ += 1
        self.loss_ = loss / share
        self.loss_curve_.append(self.loss_)
        self.best_loss_ = min(self.best_loss_, self.loss_)
        self._seen = seen
        self.model_ = replace(
            self.model_, theta=theta, input_scaler=after.inputs, target_scaler=after.targets,
            l2=problem.l2, penalize_biases=False, training={}, history={}, posterior=None,
        )  # fmt: skip

    def _network(self, settings: Settings, samples: Samples) -> MLP:
        widths = (samples.X.shape[1], *settings.hidden, samples.Y.shape[1])
        net = MLP(widths, settings.activation)
        known = self.net_ if hasattr(self, "model_") else None
        if self.warm_start and known is not None and known.to_config() != net.to_config():
            raise ValueError(
                f"warm_start goes on with the network of the last fit, {known!r}, but the "
                f"parameters and the data now ask for {net!r}"
            )
        return net

    def _model(self, net: MLP, theta: FloatArray, scalers: Scalers) -> Model:
        """Return the model of a network, with the names of the columns and the classes."""
        facts = {}
        names = getattr(self, "feature_names_in_", None)
        if names is not None:
            facts["inputs"] = [str(name) for name in names]
        if self.target_names_in_ is not None:
            facts["targets"] = [str(name) for name in self.target_names_in_]
        if (labels := self._labels()) is not None:
            facts["classes"] = [label_of(label) for label in labels]
        _, recipe = described(net.n_inputs, net.n_outputs, facts)
        return Model(net, theta, self._loss(), recipe, scalers.inputs, scalers.targets)

    def _scalers(self) -> Scalers:
        return Scalers(self.input_scaler_, self.output_scaler_)

    def _begun(self, samples: Samples) -> Seen:
        inputs, targets = bool(self.standardize_inputs), bool(self.standardize_outputs)
        return Seen(samples, inputs=inputs, targets=targets)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    # Prediction.

    def _limited_threads(self) -> Any:
        return threads(threads_to_use(self.n_threads))

    def _inputs(self, X: Any) -> FloatArray:
        """Return checked inputs, shape (T, n_0)."""
        check_is_fitted(self, "model_")
        return dense(validate_data(self, X, **INPUTS, reset=False))

    def _outputs(self, X: Any) -> FloatArray:
        """Return the outputs of the network, (T, n_L), in the units of the targets."""
        inputs = self._inputs(X)
        with self._limited_threads():
            return self.model_.outputs_of(inputs)
