"""``fastggn train --starts N``: runs from N seeds in one process; the best one is kept."""

from __future__ import annotations

import time
import warnings
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from fastggn.checkpoints import CheckpointError, CheckpointFile
from fastggn.cli.options import Settings
from fastggn.cli.outcome import BadInput
from fastggn.cli.running import Runner
from fastggn.errors import CheckpointWarning, as_float_vector
from fastggn.signals import StopSignals, deferred_signals

if TYPE_CHECKING:
    from fastggn.problem import Problem
    from fastggn.training import TrainResult

__all__ = ["Starts"]

STOPPED = ("interrupted", "max_time")
KEPT = ("loss", "gradient_norm", "n_iter", "status", "message", "initial_loss", "solver", "seconds")

Best = tuple["TrainResult", int]


class Starts:
    """Runs from the seeds ``seed .. seed + starts - 1``, one after the other.

    The compiled kernels and the samples serve all of them. With a checkpoint, the finished
    starts and the best result stand in that file and the start under way in one beside it,
    ``PATH.seedN``: a finished start is not run again.

    Parameters
    ----------
    settings : Settings
        The options.
    problem : Problem
        What is minimised.
    runner : Runner
        Makes the runs.
    console : Console
        Takes a line a start.
    """

    def __init__(
        self, settings: Settings, problem: Problem, runner: Runner, console: Console
    ) -> None:
        self._settings = settings
        self._problem = problem
        self._runner = runner
        self._console = console
        self._file = None
        self._done: dict[str, Any] = {}
        self._best: Best | None = None
        if settings.checkpoint is not None:
            if problem.comm.size > 1:
                raise ValueError(
                    f"--starts with --checkpoint needs one process, and there are "
                    f"{problem.comm.size} ranks; with --mpi, --checkpoint goes with one start, "
                    "and --starts without --checkpoint"
                )
            self._file = CheckpointFile(settings.checkpoint, kind="starts-checkpoint")
            size = 8 * problem.n_params + 65536
            self._file.prepare(size, replace=not settings.resume)
            self._identity = self._identify()

    def run(self, stop: StopSignals) -> tuple[TrainResult, int]:
        """Run all starts that are not done yet; return the best result of all, and its seed."""
        settings = self._settings
        if self._file is not None and settings.resume:
            self._recall(self._file)
        began = time.monotonic()
        ended: TrainResult | None = None
        for number in range(settings.starts):
            seed = settings.seed + number
            if str(seed) in self._done:
                continue
            left = settings.max_time
            if left is not None:
                left = max(left - (time.monotonic() - began), 1e-3)
            result = self._runner.run(stop, seed, self._part(seed), left)
            self._tell(number, seed, result)
            if self._best is None or _loss(result) < _loss(self._best[0]):
                self._best = result, seed
            if result.status in STOPPED:
                ended = result
                break
            self._done[str(seed)] = {"loss": result.loss, "status": result.status}
            self._keep(seed)
        return self._outcome(ended)

    def _outcome(self, ended: TrainResult | None) -> tuple[TrainResult, int]:
        assert self._best is not None  # there is at least one start
        result, seed = self._best
        if ended is None:
            message = f"{result.message}; the best of {len(self._done)} starts, seed {seed}"
            return replace(result, message=message), seed
        message = (
            f"{ended.message} after {len(self._done)} of {self._settings.starts} starts; the best "
            f"is seed {seed}"
        )
        status, unsaved = ended.status, ended.unsaved
        return replace(result, message=message, status=status, unsaved=unsaved), seed

    def _tell(self, number: int, seed: int, result: TrainResult) -> None:
        if not self._settings.quiet:
            text = (
                f"start {number + 1}/{self._settings.starts}, seed {seed}: loss {result.loss:.6e}  "
                f"{result.status}  {result.n_iter} iterations  {result.seconds:.1f} s"
            )
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _part(self, seed: int) -> str | None:
        """Return the checkpoint of one start."""
        path = self._settings.checkpoint
        return None if path is None else f"{path}.seed{seed}"

    def _identify(self) -> dict[str, Any]:
        from fastggn.training.identity import run_identity

        settings = self._settings
        identity = run_identity(self._problem, self._runner.options, None, None)
        return {**identity, "init": settings.init, "max_iter": settings.max_iter}

    def _recall(self, file: CheckpointFile) -> None:
        """Take over the starts that an earlier run of the command has finished."""
        from fastggn.training.identity import compare_identities
        from fastggn.training.result import History, TrainResult

        try:
            content = file.load()
            if content is None:
                return
            compare_identities(file.path, content["identity"], self._identity)
            best, self._done = content["best"], dict(content["done"])
            theta = as_float_vector("theta", best["theta"], self._problem.n_params)
            kept = {name: best[name] for name in KEPT}
            self._best = TrainResult(theta=theta, history=History(), **kept), int(best["seed"])
            for seed in self._done:  # left behind where a kill came between two files
                self._drop(int(seed))
        except CheckpointError as error:
            raise BadInput(str(error)) from error
        except (LookupError, TypeError, ValueError) as error:
            raise BadInput(f"{file.path}: the file lacks a part ({error!r})") from error

    def _keep(self, seed: int) -> None:
        """Write the finished starts, and remove the checkpoint of the last one."""
        if self._file is None or self._best is None:
            return
        result, best_seed = self._best
        best = {name: getattr(result, name) for name in KEPT}
        best.update(theta=np.array(result.theta), seed=best_seed)
        try:
            with deferred_signals():
                self._file.save({"identity": self._identity, "done": self._done, "best": best})
                self._drop(seed)
        except OSError as error:
            message = f"the finished starts could not be written: {error}"
            warnings.warn(message, CheckpointWarning, stacklevel=2)

    def _drop(self, seed: int) -> None:
        part = self._part(seed)
        if part is not None:
            CheckpointFile(part).remove()


def _loss(result: TrainResult) -> float:
    usable = result.status != "failed" and np.isfinite(result.loss)
    return result.loss if usable else np.inf
