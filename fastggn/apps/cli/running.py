"""Run one command ``fastggn train`` under a progress line."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console

from fastggn.apps.cli.history import HistoryFile
from fastggn.apps.cli.options import Settings
from fastggn.apps.cli.outcome import BadInput
from fastggn.runtime.signals import StopSignals
from fastggn.training.progress import ProgressLine

if TYPE_CHECKING:
    from fastggn.objective.problem import Problem
    from fastggn.training.options import Options
    from fastggn.training.result import TrainResult


# The arguments of `train` that are options of the same name.
TRAIN_ARGUMENTS = (
    "method", "solver", "max_iter", "alpha", "damping", "momentum", "geodesic", "precision",
    "batch_size", "regularization", "escape", "grad_tol", "loss_tol", "step_tol", "loss_target",
    "max_time", "patience", "validation_tol",
)  # fmt: skip


class Runner:
    """Makes the runs of one command and shows their progress."""

    def __init__(
        self,
        settings: Settings,
        problem: Problem,
        console: Console,
        validation: Problem | None = None,
    ) -> None:
        from fastggn.runtime.threads import threads
        from fastggn.training.options import check_options

        self._settings = settings
        self._problem = problem
        self._console = console
        self._arguments = {name: getattr(settings, name) for name in TRAIN_ARGUMENTS}
        self._arguments["validation"] = validation
        self.options: Options = check_options(problem, callbacks=(), **self._arguments)
        with threads(settings.threads):
            pass
        # All ranks of --mpi have the same history.
        path = settings.history if problem.comm.rank == 0 else None
        self._history = HistoryFile(path, resume=settings.resume)
        self.n_records = 0  # iterations of the last run in this call

    def run(
        self, stop: StopSignals, seed: int, checkpoint: str | None, max_time: float | None
    ) -> TrainResult:
        """Train from the first weights of a seed; signals stop the run between two iterations."""
        from fastggn.training.train import train

        settings = self._settings
        arguments = {**self._arguments, "max_time": max_time}
        if checkpoint is not None:
            arguments["checkpoint"] = checkpoint
            arguments["checkpoint_every"] = settings.checkpoint_every
            arguments["resume"] = settings.resume
        line = self._line(max_time)
        with self._history.of(seed) as history, line, _refused_at_first(line):
            result = train(
                self._problem,
                self._problem.network.init(seed=seed, scheme=settings.init),
                callbacks=(line, history, stop),
                n_threads=settings.threads,
                seed=seed,
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
