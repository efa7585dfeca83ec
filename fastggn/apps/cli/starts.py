"""``fastggn train --starts N``: runs from N seeds in one process; the best one is kept."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from rich.console import Console

from fastggn.apps.cli.options import Settings
from fastggn.apps.cli.outcome import BadInput
from fastggn.apps.cli.running import Runner, checkpoint_of
from fastggn.runtime.signals import StopSignals
from fastggn.training.checkpoint.files import CheckpointError

if TYPE_CHECKING:
    from fastggn.objective.problem import Problem
    from fastggn.training.checkpoint.saving import Checkpoint
    from fastggn.training.result import TrainResult


class Starts:
    """Runs from the seeds ``seed .. seed + starts - 1``, with one line of output each.

    Each start has its own checkpoint ``PATH.seedN``: a finished start does not run again.
    """

    def __init__(
        self, settings: Settings, problem: Problem, runner: Runner, console: Console
    ) -> None:
        from fastggn.training.restarts import Restarts

        self._settings = settings
        self._runner = runner
        self._console = console
        self._restarts = Restarts(
            problem, settings.starts, settings.seed, settings.max_time, checkpoint_of(settings)
        )

    def run(self, stop: StopSignals) -> tuple[TrainResult, int]:
        """Run all unfinished starts; return the best result of all starts, and its seed."""

        def one(seed: int, checkpoint: Checkpoint | None, left: float | None) -> TrainResult:
            return self._runner.run(stop, seed, checkpoint, left)

        try:
            found = self._restarts.run(one, self._tell)
        except CheckpointError as error:
            raise BadInput(str(error)) from error
        best, seed = found.best, found.best_seed
        if found.status == "done":
            return replace(best, message=f"{best.message}; {found.message}"), seed
        ended = next(run for run in found.results.values() if run.status == found.status)
        status, unsaved = ended.status, ended.unsaved
        return replace(best, message=found.message, status=status, unsaved=unsaved), seed

    def _tell(self, number: int, seed: int, result: TrainResult) -> None:
        finished_before = self._settings.resume and not self._runner.n_records
        if self._settings.quiet or finished_before:
            return
        watched = result.best_validation_loss
        held_out = "" if watched is None else f"  held-out {watched:.6e}"
        text = (
            f"start {number + 1}/{self._settings.starts}, seed {seed}: loss {result.loss:.6e}"
            f"{held_out}  {result.status}  {result.n_iter} iterations  {result.seconds:.1f} s"
        )
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)
