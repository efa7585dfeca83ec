"""Train the network of an estimator: restarts, early stopping, and when the loss has settled."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from fastggn.estimators.samples import Samples
from fastggn.estimators.settings import Settings
from fastggn.estimators.watching import Plateau, Scores
from fastggn.losses import Loss
from fastggn.network import MLP
from fastggn.problem import Problem
from fastggn.training import TrainResult, train

__all__ = ["Fitted", "Task", "draw_seed", "fit_network"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Task:
    """What is trained on what.

    Attributes
    ----------
    net : MLP
    loss : Loss
    l2 : float
    samples : Samples
        In the units of the network.
    held : Samples or None
        Set aside for early stopping, in the same units.
    score : callable or None
        From the network's outputs on `held`, and these samples, to the score.
    start : ndarray, shape (N,), or None
        Where the first run starts.
    """

    net: MLP
    loss: Loss
    l2: float
    samples: Samples
    held: Samples | None = None
    score: Callable[[FloatArray, Samples], float] | None = None
    start: FloatArray | None = None

    def problem(self) -> Problem:
        """Return the problem to be minimised."""
        return Problem(
            self.net,
            self.samples.X,
            self.samples.Y,
            self.loss,
            sample_weight=self.samples.weights,
            l2=self.l2,
        )


@dataclass(frozen=True, eq=False)
class Fitted:
    """The best run, and the scores on the samples set aside after each of its iterations."""

    result: TrainResult
    scores: list[float] | None

    @property
    def best_score(self) -> float | None:
        """The highest of the scores; None without samples set aside."""
        return max(self.scores) if self.scores else None

    @property
    def quality(self) -> float:
        """The lower the better: the validation loss where there is one, or the objective."""
        best = self.result.best_validation_loss
        return float(self.result.loss if best is None else best)


def draw_seed(rng: Any) -> int:
    """Return a seed drawn from a RandomState."""
    return int(rng.randint(np.iinfo(np.int32).max))


def fit_network(estimator: Any, settings: Settings, task: Task, rng: Any) -> Fitted:
    """Return the best of the runs that the estimator asks for.

    Parameters
    ----------
    estimator : GGNEstimator
        Its parameters are those of `train`.
    settings : Settings
    task : Task
    rng : RandomState
        Draws where the runs start, and their batches.
    """
    problem = task.problem()
    best: Fitted | None = None
    for number in range(settings.n_restarts):
        start = task.start if number == 0 else None
        found = _run(estimator, settings, task, problem, start, draw_seed(rng))
        if best is None or not best.quality <= found.quality:
            best = found
    assert best is not None  # there is one run at least
    if best.result.status == "max_iter":
        warnings.warn(
            f"the loss has not settled after max_iter={estimator.max_iter} iterations: raise "
            "max_iter, or tol",
            ConvergenceWarning,
            stacklevel=4,
        )
    return best


def _run(
    estimator: Any,
    settings: Settings,
    task: Task,
    problem: Problem,
    start: FloatArray | None,
    seed: int,
) -> Fitted:
    plateau = Plateau(settings.tol, settings.n_iter_no_change)
    options: dict[str, Any] = {"callbacks": [plateau]}
    scores: Scores | None = None
    if task.held is not None:
        held, score = task.held, task.score
        assert score is not None
        scores = Scores(lambda theta: score(task.net.predict(theta, held.X), held))
        weights = () if held.weights is None else (held.weights,)
        options = {
            "callbacks": [scores],
            "validation": (held.X, held.Y, *weights),
            "patience": settings.patience,
            "validation_tol": settings.tol,
        }
    batch_size = settings.batch_size
    result = train(
        problem,
        start,
        method=estimator.method,
        solver=estimator.solver,
        seed=seed,
        max_iter=estimator.max_iter,
        max_time=estimator.max_time,
        batch_size=None if batch_size is None else min(batch_size, problem.n_samples),
        progress=bool(estimator.verbose),
        **options,
    )
    if plateau.reached and result.status == "interrupted":
        result = replace(result, status="converged_loss", message=plateau.message)
    return Fitted(result, None if scores is None else scores.values)
