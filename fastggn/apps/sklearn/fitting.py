"""Train the network of an estimator: restarts, early stopping, choice of the penalty."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from fastggn.apps.sklearn.samples import Samples
from fastggn.apps.sklearn.settings import Settings
from fastggn.apps.sklearn.watching import Plateau, Scores
from fastggn.network.losses.base import Loss
from fastggn.network.mlp import MLP
from fastggn.objective.problem import Problem
from fastggn.objective.residual_problem import ResidualProblem
from fastggn.objective.terms import with_gradients
from fastggn.training.control.stopping import Stop
from fastggn.training.control.validation import HeldOut
from fastggn.training.regularisation.priors import Evidence
from fastggn.training.regularisation.weight_decay import WeightDecayPath, select_weight_decay
from fastggn.training.result import TrainResult
from fastggn.training.train import train

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Task:
    """A network, its loss and its samples, all in the units of the network.

    `l2` is 0 where the fit chooses it, `options` are arguments of `train`, `score` maps outputs on
    the `held` samples to their score, and `start` (N,) is the first theta of the first run.
    """

    net: MLP
    loss: Loss
    l2: float
    penalize_biases: bool
    samples: Samples
    options: Mapping[str, Any]
    score: Callable[[FloatArray, Samples], float]
    held: Samples | None = None
    start: FloatArray | None = None

    def problem(self) -> Any:
        """Return the problem to minimise."""
        samples = self.samples
        if samples.gradients is not None:
            parts = samples.X, samples.Y, samples.gradients
            term = with_gradients(*parts, self.loss, samples.weights)
            return ResidualProblem(
                self.net, [term], l2=self.l2, penalize_biases=self.penalize_biases
            )
        return Problem(
            self.net,
            self.samples.X,
            self.samples.Y,
            self.loss,
            sample_weight=self.samples.weights,
            l2=self.l2,
            penalize_biases=self.penalize_biases,
        )


@dataclass(frozen=True, eq=False)
class Fitted:
    """A run, its final `l2`, its validation scores, and the path of weight decays if any."""

    result: TrainResult
    l2: float
    scores: list[float] | None = None
    path: WeightDecayPath | None = None

    @property
    def best_score(self) -> float | None:
        """The highest score; None without held-out samples."""
        return max(self.scores) if self.scores else None

    @property
    def merit(self) -> float:
        """Validation loss, negative log evidence, or objective: the lower, the better."""
        if self.path is not None:
            return float(self.path.validation_losses.min())
        if self.result.evidence is not None:
            return -self.result.evidence.log_evidence
        best = self.result.best_validation_loss
        return float(self.result.loss if best is None else best)


def draw_seed(rng: Any) -> int:
    """Draw a seed from a RandomState."""
    return int(rng.randint(np.iinfo(np.int32).max))


def fit_network(settings: Settings, task: Task, rng: Any) -> Fitted:
    """Return the best of `n_restarts` runs."""
    # Not `train_restarts`: each run has its own Plateau, whose stop would end all of them.
    problem = task.problem()
    began, limit = time.monotonic(), task.options["max_time"]
    best: Fitted | None = None
    for number in range(settings.n_restarts):
        options = dict(task.options)
        if limit is not None:
            options["max_time"] = max(limit - (time.monotonic() - began), 1e-9)
        start = task.start if number == 0 else None
        found = _run(settings, task, problem, start, seed=draw_seed(rng), **options)
        if best is None or found.merit < best.merit:
            best = found
        if found.result.status in ("interrupted", "max_time"):
            break
    assert best is not None  # there is one run at least
    _warn_of(best.result, task.options["max_iter"])
    return best


def _warn_of(result: TrainResult, max_iter: int) -> None:
    """Warn of a run that ended for another reason than convergence."""
    advice = {
        "max_iter": f"the loss has not settled after max_iter={max_iter} iterations: "
        "raise max_iter, or tol",
        "max_time": f"the loss has not settled: {result.message}; raise max_time, or tol",
        "failed": f"the training failed: {result.message}",
        "damping_limit": f"the training came to no minimum: {result.message}",
    }
    if result.status in advice:
        warnings.warn(advice[result.status], ConvergenceWarning, stacklevel=5)


def _run(
    settings: Settings,
    task: Task,
    problem: Any,
    start: FloatArray | None,
    **options: Any,
) -> Fitted:
    """Train once, with early stopping or the choice of the penalty that the settings ask for."""
    if settings.regularization == "bayesian":
        # The objective changes with the penalty: the end is where it stays the same.
        stop = Stop(loss=settings.tol)
        result = train(problem, start, regularize=Evidence(), stop=stop, **options)
        return Fitted(result, problem.l2 if result.evidence is None else result.evidence.l2)
    if settings.regularization == "validation":
        stop = Stop(loss=settings.tol)
        path = select_weight_decay(problem, theta0=start, stop=stop, **options)
        return Fitted(path.result, path.l2, path=path)
    held = task.held
    if held is None:
        plateau = Plateau(settings.tol, settings.n_iter_no_change)
        result = train(problem, start, callbacks=[plateau], **options)
        if plateau.reached and result.status == "interrupted":
            result = replace(result, status="converged_loss", message=plateau.message)
        return Fitted(result, problem.l2)
    scores = Scores(lambda theta: task.score(task.net.predict(theta, held.X), held))
    result = train(
        problem,
        start,
        callbacks=[scores],
        held_out=HeldOut(
            Problem(task.net, held.X, held.Y, task.loss, sample_weight=held.weights),
            patience=settings.patience,
            tol=settings.tol,
        ),
        **options,
    )
    return Fitted(result, problem.l2, scores.values)
