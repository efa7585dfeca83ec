"""Held-out samples: their loss after each iteration, the best theta, early stopping."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastggn.data.scaler import same_scale
from fastggn.objective.problem import Problem
from fastggn.objective.residual_problem import ResidualProblem
from fastggn.runtime.errors import check_count, check_positive, hinted_fields
from fastggn.training.resumable import Resumable
from fastggn.training.run_units import Units
from fastggn.training.step import Ending, Iteration, Method, WrappedMethod

if TYPE_CHECKING:
    from fastggn.objective.point import Point


PROBLEMS = (Problem, ResidualProblem)
ACCEPTED = "a fastggn.HeldOut, (X, Y) or a fastggn.Problem of the same network"


@hinted_fields
@dataclass(frozen=True, eq=False)
class HeldOut:
    """Samples that the training does not use: the argument `held_out` of `train`.

    Their mean loss is recorded after every iteration (with mini-batches, after every pass). The
    result keeps the lowest loss and its theta: `TrainResult.best_theta`.

    Parameters
    ----------
    X : (T, n_0) array_like, Problem or ResidualProblem
        Inputs, for the loss of the trained problem without its l2; or a problem of the same
        network with its own loss, targets and gates. If ranks share the training samples, each
        rank gives its own rows here too.
    Y : (T, n_L) or (T,) array_like
        Targets; None for a problem.
    sample_weight : (T,) array_like, optional
        Weights of the samples.
    patience : int or None
        Early stopping: end the run with the status "early_stopped" after so many successive
        iterations without a lower loss. For every status, `TrainResult.theta` is then **the theta
        with the lowest held-out loss**, with its training loss and gradient. MATLAB's trainlm uses
        6 (``max_fail``). None: the loss is only recorded; `TrainResult.theta` is the last one.
    tol : float
        A fall of the loss by at most this share does not count for `patience`.

    Raises
    ------
    TypeError, ValueError
        If `patience` or `tol` is not valid, or a problem comes with further samples.

    Examples
    --------
    >>> import fastggn as fg
    >>> X, Y = fg.data.four_regions(200, seed=0)
    >>> problem = fg.Problem(fg.MLP((2, 10, 1)), X[:150], Y[:150])
    >>> result = fg.train(problem, seed=0, held_out=fg.HeldOut(X[150:], Y[150:], patience=6))
    >>> result.status
    'early_stopped'
    """

    X: Any = field(repr=False)
    Y: Any = field(default=None, repr=False)
    sample_weight: Any = field(default=None, repr=False)
    _: KW_ONLY
    patience: int | None = 20
    tol: float = 0.0

    def __post_init__(self) -> None:
        if self.patience is not None:
            object.__setattr__(self, "patience", check_count("patience", self.patience, 1))
        object.__setattr__(self, "tol", check_positive("tol", self.tol, zero=True))
        whole = isinstance(self.X, PROBLEMS)
        if whole and not (self.Y is None and self.sample_weight is None):
            raise ValueError("a problem has its own targets and weights: give it alone")
        if not whole and self.Y is None:
            raise TypeError("Y is missing: give HeldOut(X, Y), or a fastggn.Problem alone")


@dataclass(frozen=True)
class Watching:
    """The checked argument `held_out` of `train`."""

    problem: Problem | ResidualProblem
    patience: int | None
    tol: float


def as_held_out(held_out: Any) -> HeldOut | None:
    """Return the argument `held_out` of `train` as a `HeldOut`, or None."""
    if held_out is None:
        return None
    if isinstance(held_out, (tuple, list)):
        if len(held_out) != 2:
            raise ValueError(
                f"held_out must be {ACCEPTED}, got {len(held_out)} parts (weights: "
                "fg.HeldOut(X, Y, sample_weight=...))"
            )
        held_out = HeldOut(*held_out)
    elif isinstance(held_out, PROBLEMS):
        held_out = HeldOut(held_out)
    if not isinstance(held_out, HeldOut):
        raise TypeError(f"held_out must be {ACCEPTED}, not {type(held_out).__name__}")
    return held_out


def check_held_out(problem: Problem, given: Any) -> Watching | None:
    """Return the checked argument, or None without held-out samples."""
    held_out = as_held_out(given)
    if held_out is None:
        return None
    found = held_out.X if isinstance(held_out.X, PROBLEMS) else _problem_of(problem, held_out)
    if found.network.to_config() != problem.network.to_config():
        raise ValueError(
            f"held_out is a problem of another network, {found.network!r}, than the one that is "
            f"trained, {problem.network!r}"
        )
    if found.n_params != problem.n_params:
        raise ValueError(
            f"held_out has {found.n_params} parameters and the problem that is trained "
            f"{problem.n_params}: give both the same coefficients"
        )
    scales = [getattr(one, "input_scaler", None) for one in (found, problem)]
    if any(scales) and not same_scale(*scales):
        raise ValueError(
            "held_out and the problem that is trained scale their inputs differently: give a "
            "fastggn.ResidualProblem with scale=problem.input_scaler"
        )
    if found.comm.size != problem.comm.size:
        raise ValueError(
            f"held_out is a problem with a comm of size {found.comm.size} and the one that is "
            f"trained has one of size {problem.comm.size}: give both the same comm, and each rank "
            "its own rows"
        )
    return Watching(found, held_out.patience, held_out.tol)


def _problem_of(problem: Problem, held_out: HeldOut) -> Problem:
    """Return the problem of the held-out arrays, with the loss of the training and without l2."""
    if isinstance(problem, ResidualProblem):
        raise ValueError(
            "held_out must be a fastggn.ResidualProblem of the same network and coefficients, or a "
            "fastggn.Problem where there are none"
        )
    if problem.gated:
        raise ValueError(
            "held_out must be a fastggn.Problem, with gates of its own, where the problem has gates"
        )
    try:
        return Problem(
            problem.network,
            held_out.X,
            held_out.Y,
            loss=problem.loss_function,
            sample_weight=held_out.sample_weight,
            comm=problem.comm,
        )
    except ValueError as error:
        raise ValueError(f"held_out: {error}") from error
    except TypeError as error:
        raise TypeError(f"held_out: {error}") from error


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

    def __init__(self, watching: Watching, units: Units | None = None) -> None:
        self._units = Units() if units is None else units
        self._problem = watching.problem
        self._patience = watching.patience
        self._tolerance = watching.tol
        self._iteration = 0
        self._loss = np.nan  # at the current theta
        self._reference = np.inf  # the loss after its last sufficient fall
        self._waited = 0
        self._best_theta = np.zeros(watching.problem.n_params)
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
        return float(self._problem.at(self._units.outside(point.theta)).data_loss)

    def _stop(self) -> Ending | None:
        if self._patience is None or self._waited < self._patience:
            return None
        waited = f"{self._waited} iteration{'' if self._waited == 1 else 's'}"
        return Ending(
            "early_stopped",
            f"{waited} without a fall of the held-out loss "
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
