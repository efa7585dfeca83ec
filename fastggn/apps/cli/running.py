"""Run one command ``fastggn train`` under a progress line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from fastggn.apps.cli.history import HistoryFile
from fastggn.apps.cli.options import Settings
from fastggn.apps.cli.outcome import BadInput
from fastggn.runtime.errors import check_positive, unknown_name
from fastggn.runtime.signals import StopSignals
from fastggn.training.progress import ProgressLine

if TYPE_CHECKING:
    from fastggn.objective.problem import Problem
    from fastggn.training.checkpoint.saving import Checkpoint
    from fastggn.training.methods.named import AnyMethod
    from fastggn.training.regularisation.priors import Evidence
    from fastggn.training.result import TrainResult


# Options of methods, with their defaults on the command line, and the name of --alpha there.
METHOD_OPTIONS = {
    "solver": "auto", "damping": None, "momentum": 0.0, "geodesic": None, "precision": "float64",
    "curvature_samples": "auto", "batch_size": None,
}  # fmt: skip
ALPHA = {"ggn": "step", "bp": "rate", "adam": "rate"}
LIMITS = {"gradient": "grad_tol", "loss": "loss_tol", "step": "step_tol", "target": "loss_target"}
EVIDENCE: dict[str, Literal["network", "unit"]] = {
    "bayesian": "network",
    "bayesian-units": "unit",
}


def train_arguments(settings: Settings, held_out: Problem | None) -> dict[str, Any]:
    """Return the arguments of `train` that the options name."""
    from fastggn.model.fit import PATIENCE
    from fastggn.training.control.stopping import Stop
    from fastggn.training.control.validation import HeldOut

    for name in ("patience", "held_out_tol"):
        if held_out is None and getattr(settings, name):
            option = name.replace("_", "-")
            raise ValueError(f"--{option} goes with held-out rows: give --held-out 0.15")
    limits = {field: getattr(settings, option) for field, option in LIMITS.items()}
    for field, option in LIMITS.items():
        if limits[field] is not None:
            check_positive(option, limits[field], zero=True)
    patience = PATIENCE if settings.patience is None else settings.patience
    return {
        "method": _method(settings),
        "max_iter": settings.max_iter,
        "max_time": settings.max_time,
        "stop": Stop(**limits),
        "held_out": None
        if held_out is None
        else HeldOut(held_out, patience=patience, tol=settings.held_out_tol),
        "regularize": _evidence(implied_prior(settings)),
        "leave_saddles": settings.escape,
    }


def _method(settings: Settings) -> AnyMethod:
    from fastggn.training.methods.named import get_method, make_method

    values = {name: getattr(settings, name) for name in METHOD_OPTIONS}
    if settings.curvature_samples.isdecimal():
        values["curvature_samples"] = int(settings.curvature_samples)
    given = {name: value for name, value in values.items() if value != METHOD_OPTIONS[name]}
    if settings.alpha is not None:
        name = get_method(settings.method).name
        if name not in ALPHA:
            takers = ", ".join(repr(taker) for taker in ALPHA)
            raise ValueError(f"alpha does not go with method {name!r}: only with {takers}")
        given[ALPHA[name]] = check_positive("alpha", settings.alpha)
    return make_method(settings.method, given)


def implied_prior(settings: Settings) -> str | None:
    """Return the regularisation of the options: a posterior needs one."""
    implied = settings.posterior and settings.l2 == 0.0
    return settings.regularization or ("bayesian" if implied else None)


def _evidence(name: str | None) -> Evidence | None:
    from fastggn.training.regularisation.priors import Evidence

    if name is None:
        return None
    if name not in EVIDENCE:
        raise unknown_name("regularization", name, EVIDENCE)
    return Evidence(per=EVIDENCE[name])


def checkpoint_of(settings: Settings) -> Checkpoint | None:
    """Return the checkpoint that the options name."""
    from fastggn.training.checkpoint.saving import Checkpoint

    every, resume = settings.checkpoint_every, settings.resume
    if settings.checkpoint is not None:
        given = {} if every is None else {"every": every}
        return Checkpoint(settings.checkpoint, resume=resume, **given)
    if every is not None or resume:
        name = "resume" if every is None else "checkpoint_every"
        raise ValueError(f"{name} goes with checkpoint: name the file")
    return None


class Runner:
    """Makes the runs of one command and shows their progress."""

    def __init__(
        self,
        settings: Settings,
        problem: Problem,
        console: Console,
        held_out: Problem | None = None,
        theta0: NDArray[np.float64] | None = None,
    ) -> None:
        from fastggn.runtime.threads import threads
        from fastggn.training.options import check_options

        self._settings = settings
        self._problem = problem
        self._console = console
        self._theta0 = theta0
        self._arguments = train_arguments(settings, held_out)
        check_options(problem, callbacks=(), **self._arguments)
        with threads(settings.threads):
            pass
        # All ranks of --mpi have the same history.
        path = settings.history if problem.comm.rank == 0 else None
        self._history = HistoryFile(path, resume=settings.resume)
        self.n_records = 0  # iterations of the last run in this call

    def run(
        self, stop: StopSignals, seed: int, checkpoint: Checkpoint | None, max_time: float | None
    ) -> TrainResult:
        """Train from the weights of a seed or of ``--from``; a signal stops the run in between."""
        from fastggn.runtime.threads import threads
        from fastggn.training.train import train

        settings = self._settings
        arguments = {**self._arguments, "max_time": max_time}
        line = self._line(max_time)
        theta0 = self._theta0
        if theta0 is None:
            theta0 = self._problem.init(seed, settings.init)
        limited = threads(settings.threads)
        with self._history.of(seed) as history, line, limited, _refused_at_first(line):
            result = train(
                self._problem,
                theta0,
                callbacks=(line, history, stop),
                seed=seed,
                checkpoint=checkpoint,
                **arguments,
            )
        self.n_records = line.n_records
        if result.status == "interrupted" and stop.signal is not None:
            return replace(result, message=f"stopped by {stop.signal}")
        return result

    def _line(self, max_time: float | None) -> ProgressLine:
        settings = self._settings
        # A line an iteration for each of many runs would bury the line of their outcome.
        several = settings.starts > 1 and not self._console.is_terminal and not settings.verbose
        quiet = settings.quiet or several
        return ProgressLine(
            self._console, settings.max_iter, max_time, verbose=settings.verbose, quiet=quiet
        )


@contextlib.contextmanager
def _refused_at_first(line: ProgressLine) -> Iterator[None]:
    """Turn an error before the first iteration into `BadInput`, for example too little memory."""
    # The types of the arguments are checked already: a TypeError is an error of the program.
    try:
        yield
    except (ValueError, MemoryError) as error:
        if line.n_records or isinstance(error, np.linalg.LinAlgError):
            raise
        raise BadInput(str(error) or "not enough memory") from error
