"""Train the network of an estimator: restarts, early stopping, choice of the penalty."""

from __future__ import annotations

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
from fastggn.training.checkpoint.saving import Checkpoint
from fastggn.training.control.stopping import Stop
from fastggn.training.control.validation import HeldOut
from fastggn.training.regularisation.priors import Evidence
from fastggn.training.regularisation.weight_decay import WeightDecayPath, select_weight_decay
from fastggn.training.restarts import Restarts
from fastggn.training.result import ASKED, TrainResult
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


def draw_seed(rng: Any) -> int:
    """Draw a seed from a RandomState."""
    return int(rng.randint(np.iinfo(np.int32).max))


def fit_network(settings: Settings, task: Task, seed: int) -> Fitted:
    """Return the best of `n_restarts` runs, whose seeds are `seed` and those after it."""
    problem, runs = task.problem(), dict[int, Fitted]()

    def run(number: int, _: Checkpoint | None, left: float | None) -> TrainResult:
        start = task.start if number == seed else None
        options = {**task.options, "max_time": left}
        runs[number] = _run(settings, task, problem, start, seed=number, **options)
        return runs[number].result

    found = Restarts(problem, settings.n_restarts, seed, task.options["max_time"], None).run(run)
    best = runs[found.best_seed]
    if found.status == "interrupted":  # perhaps another run than the best one
        ended = replace(best.result, status="interrupted", message=found.message)
        return replace(best, result=ended)
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
    settings: Settings, task: Task, problem: Any, start: FloatArray | None, **options: Any
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
        lowest = float(path.validation_losses.min())  # by which runs compare
        return Fitted(replace(path.result, best_validation_loss=lowest), path.l2, path=path)
    held = task.held
    if held is None:
        plateau = Plateau(settings.tol, settings.n_iter_no_change)
        result = train(problem, start, callbacks=[plateau], **options)
        if plateau.reached and result.message.startswith(ASKED):
            result = replace(result, status="converged_loss", message=plateau.message)
        return Fitted(result, problem.l2)
    scores = Scores(lambda theta: task.score(task.net.predict(theta, held.X), held))
    result = train(
        problem,
        start,
        callbacks=[np.errstate(all="ignore")(scores)],  # of weights that may overflow
        held_out=HeldOut(
            Problem(task.net, held.X, held.Y, task.loss, sample_weight=held.weights),
            patience=settings.patience,
            tol=settings.tol,
        ),
        **options,
    )
    return Fitted(result, problem.l2, scores.values)
