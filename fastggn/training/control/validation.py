"""Validation samples: their loss after each iteration, the best theta, early stopping."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastggn.objective.problem import Problem
from fastggn.runtime.errors import check_count, check_positive
from fastggn.training.resumable import Resumable
from fastggn.training.step import Iteration, Method, Stop, WrappedMethod

if TYPE_CHECKING:
    from fastggn.objective.point import Point


ACCEPTED = "(X, Y), (X, Y, sample_weight) or a fastggn.Problem of the same network"


@dataclass(frozen=True)
class HeldOut:
    """The checked arguments `validation`, `patience` and `validation_tol` of `train`."""

    problem: Problem
    patience: int | None
    tolerance: float


def check_validation(
    problem: Any, validation: Any, patience: int | None, validation_tol: float
) -> HeldOut | None:
    """Return the checked arguments, or None without validation samples."""
    tolerance = check_positive("validation_tol", validation_tol, zero=True)
    if validation is None:
        for name, given in (("patience", patience is not None), ("validation_tol", tolerance > 0)):
            if given:
                raise ValueError(f"{name} goes with validation: give {ACCEPTED}")
        return None
    if patience is not None:
        patience = check_count("patience", patience, 1)
    if not isinstance(validation, Problem):
        validation = _problem_of(problem, validation)
    if validation.network.to_config() != problem.network.to_config():
        raise ValueError(
            f"validation is a problem of another network, {validation.network!r}, than the one "
            f"that is trained, {problem.network!r}"
        )
    if validation.comm.size != problem.comm.size:
        raise ValueError(
            f"validation is a problem with a comm of size {validation.comm.size} and the one that "
            f"is trained has one of size {problem.comm.size}: give both the same comm, and each "
            "rank its own rows"
        )
    return HeldOut(validation, patience, tolerance)


def _problem_of(problem: Problem, validation: Any) -> Problem:
    """Return the problem of the held-out arrays, with the loss of the training and without l2."""
    if not isinstance(validation, (tuple, list)):
        raise TypeError(f"validation must be {ACCEPTED}, not {type(validation).__name__}")
    if len(validation) not in (2, 3):
        raise ValueError(f"validation must be {ACCEPTED}, got {len(validation)} parts")
    if problem.gated:
        raise ValueError(
            "validation must be a fastggn.Problem, with gates of its own, where the problem has "
            "gates"
        )
    X, Y, *weight = validation
    try:
        return Problem(
            problem.network,
            X,
            Y,
            loss=problem.loss_function,
            sample_weight=weight[0] if weight else None,
            comm=problem.comm,
        )
    except ValueError as error:
        raise ValueError(f"validation: {error}") from error
    except TypeError as error:
        raise TypeError(f"validation: {error}") from error


class Validation(Resumable):
    """Follows the mean loss, without l2, of the validation samples, and keeps the best theta.

    The run ends after `patience` iterations without a relative fall of more than the tolerance.
    """

    _resumes = (
        "_iteration",
        "_loss",
        "_reference",
        "_waited",
        "_best_theta",
        "_best_loss",
        "_best_iteration",
        "_first_loss",
    )

    def __init__(self, held_out: HeldOut) -> None:
        self._problem = held_out.problem
        self._patience = held_out.patience
        self._tolerance = held_out.tolerance
        self._iteration = 0
        self._loss = np.nan  # at the current theta
        self._reference = np.inf  # the loss after its last sufficient fall
        self._waited = 0
        self._best_theta = np.zeros(held_out.problem.n_params)
        self._best_loss = np.nan
        self._best_iteration = 0
        self._first_loss = np.nan  # at theta0

    def begin(self, point: Point) -> None:
        """Measure the loss at theta0."""
        self._loss = self._best_loss = self._first_loss = self._measure(point)
        self._best_theta = point.theta
        if np.isfinite(self._loss):
            self._reference = self._loss

    def watch(self, iteration: Iteration) -> Iteration:
        """Return the iteration with its validation loss and, at the end, with a stop."""
        loss = self._measure(iteration.point) if iteration.accepted else self._loss
        self._iteration += 1
        self._loss = loss
        if loss < self._best_loss or not np.isfinite(self._best_loss) and np.isfinite(loss):
            self._best_theta, self._best_loss = iteration.point.theta, loss
            self._best_iteration = self._iteration
        margin = 0.0 if np.isinf(self._reference) else self._tolerance * abs(self._reference)
        if loss < self._reference - margin:
            self._reference, self._waited = loss, 0
        else:
            self._waited += 1
        # A resumed run repeats a cut pass.
        early = None if iteration.cut else self._stop()
        return replace(iteration, validation_loss=loss, early_stop=early)

    def results(self) -> dict[str, Any]:
        """Return the fields of a `TrainResult` for the lowest loss."""
        theta, loss = np.array(self._best_theta), self._best_loss
        found = {"best_theta": theta, "best_validation_loss": loss}
        found |= {"best_iter": self._best_iteration, "initial_validation_loss": self._first_loss}
        return found

    def restored(self) -> tuple[NDArray[np.float64], int] | None:
        """Return the best theta and its iteration with early stopping, else None."""
        return None if self._patience is None else (self._best_theta, self._best_iteration)

    def _measure(self, point: Point) -> float:
        return float(self._problem.at(point.theta).data_loss)

    def _stop(self) -> Stop | None:
        if self._patience is None or self._waited < self._patience:
            return None
        waited = f"{self._waited} iteration{'' if self._waited == 1 else 's'}"
        return Stop(
            "early_stopped",
            f"{waited} without a fall of the validation loss "
            f"(lowest {self._best_loss:.6g} at iteration {self._best_iteration})",
        )


class Watched(WrappedMethod):
    """A method that measures the validation loss after each iteration."""

    def __init__(self, method: Method, validation: Validation) -> None:
        super().__init__(method)
        self._validation = validation

    def step(self, point: Point) -> Iteration:
        """Do one iteration, and measure the validation loss after it."""
        return self._validation.watch(self._method.step(point))
