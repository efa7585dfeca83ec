"""Runs from several seeds, which share samples and compiled kernels, and the best run."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fastggn.objective.kinds import AnyProblem, as_problem
from fastggn.runtime.comm import comm_of
from fastggn.runtime.errors import check_count, refuse_unknown
from fastggn.training.checkpoint.files import CheckpointFile
from fastggn.training.checkpoint.saving import (
    Checkpoint,
    as_checkpoint,
    check_checkpoint,
    locked,
    shared_part,
)
from fastggn.training.control.validation import HeldOut
from fastggn.training.options import Options, check_options
from fastggn.training.result import TrainResult
from fastggn.training.train import train

if TYPE_CHECKING:
    from fastggn.objective.problem import Problem


STOPPED = ("interrupted", "max_time")

# One run, from its seed, its checkpoint and the seconds left.
Run = Callable[[int, Checkpoint | None, float | None], TrainResult]


@dataclass(frozen=True, eq=False)
class RestartsResult:
    """The runs of `train_restarts`.

    Attributes
    ----------
    best : TrainResult
        The run with the lowest held-out loss. Without held-out samples it is the run with the
        lowest loss, or with ``regularize=Evidence()`` with the highest log evidence.
    best_seed : int
        The seed of the best run.
    results : dict of int to TrainResult
        All runs, by seed.
    status : str
        "done", or the reason that stopped the last run, and with it all runs: "interrupted" or
        "max_time".
    message : str
        The status in words.
    """

    best: TrainResult
    best_seed: int
    results: dict[int, TrainResult] = field(repr=False)
    status: str
    message: str

    def plot(self, *, path: str | None = None) -> Any:
        """Return a matplotlib figure of the training curves of all runs that have a history.

        Parameters
        ----------
        path : str, optional
            The file for the figure.
        """
        from fastggn.figures.curves import compare_curves

        runs = {f"seed {seed}": run.history for seed, run in self.results.items() if run.history}
        return compare_curves(runs, path=path)

    @property
    def usable(self) -> list[TrainResult]:
        """The results of the runs that did not fail."""
        return [run for run in self.results.values() if np.isfinite(_merit(run))]

    def to_dict(self) -> dict[str, Any]:
        """Return seeds and outcomes as plain values, without theta and history."""
        rows = []
        for seed, result in self.results.items():
            names = ("loss", "best_validation_loss", "status", "n_iter", "seconds")
            rows.append({"seed": seed, **{name: getattr(result, name) for name in names}})
        return {"best_seed": self.best_seed, "status": self.status, "runs": rows}

    def __str__(self) -> str:
        """Return a table with one line for each run and a mark at the best run."""
        watched = self.best.best_validation_loss is not None
        head = f"{'seed':>6}  {'loss':>13}" + f"  {'held-out':>13}" * watched
        lines = [f"{head}  {'iterations':>10}  {'seconds':>8}  status"]
        for seed, result in self.results.items():
            line = f"{seed:>6}  {result.loss:>13.6e}"
            if watched:
                line += f"  {result.best_validation_loss:>13.6e}"
            line += f"  {result.n_iter:>10}  {result.seconds:>8.2f}  {result.status}"
            lines.append(line + "  <- best" * (seed == self.best_seed))
        return "\n".join([*lines, self.message])


def train_restarts(
    problem: AnyProblem,
    n_starts: int = 10,
    *,
    seed: int = 0,
    init: str = "glorot",
    max_time: float | None = None,
    checkpoint: Checkpoint | str | os.PathLike[str] | None = None,
    **options: Any,
) -> RestartsResult:
    """Train from several first weights, and return the best run and all of them.

    The runs follow one another and share the samples and the compiled kernels. Each run has the
    same bits as ``train(problem, problem.init(s, scheme=init), seed=s)``.

    Parameters
    ----------
    problem : Problem or ResidualProblem
        The problem to minimise.
    n_starts : int
        The number of runs.
    seed : int
        The runs have the seeds ``seed, seed + 1, ...``.
    init : str
        The scheme of the first weights, as in `MLP.init`.
    max_time : float, optional
        Seconds for all runs together.
    checkpoint : Checkpoint or path-like, optional
        As in `train`; the run with seed N has the file ``NAME.seedN``. Over MPI ranks, rank 0 reads
        and writes the files. A finished run is not repeated; its restoration takes two passes over
        the samples.
    **options
        Any other argument of `train`, except `theta0`. A callback is called in all runs. With
        `held_out` the best run has the lowest held-out loss. An interrupted run (Ctrl-C, a signal,
        a callback) is the last run.

    Returns
    -------
    RestartsResult

    Raises
    ------
    TypeError, ValueError
        As in `train`, before any work; also if `theta0` is given, or if `checkpoint` belongs to
        other runs.

    Examples
    --------
    >>> import fastggn as fg
    >>> problem = fg.Problem(fg.MLP((2, 3, 1)), *fg.data.xor())
    >>> found = fg.train_restarts(problem, 4, seed=0, max_iter=50)
    >>> found.best.loss == min(result.loss for result in found.results.values())
    True
    """
    problem = as_problem(problem)
    if "theta0" in options:
        raise TypeError("theta0 does not go with train_restarts, which draws it: use train")

    def others() -> dict[str, object]:
        problem.init(0, scheme=init)  # raises for an unknown scheme
        counts = check_count("n_starts", n_starts, 1), check_count("seed", seed, 0)
        words = {"init": init, "checkpoint": shared_part(checkpoint)}
        return {"call": "train_restarts", "n_starts and seed": counts, **words}

    checked = _checked(problem, {**options, "max_time": max_time}, others)
    n_starts, seed = check_count("n_starts", n_starts, 1), check_count("seed", seed, 0)
    held = checked.held_out
    if held is not None:  # check the held-out samples once
        options["held_out"] = HeldOut(held.problem, patience=held.patience, tol=held.tol)
    starts = Restarts(problem, n_starts, seed, max_time, checkpoint)

    def run(s: int, part: Checkpoint | None, left: float | None) -> TrainResult:
        start = problem.init(s, scheme=init)
        return train(problem, start, seed=s, max_time=left, checkpoint=part, **options)

    return starts.run(run)


def _checked(
    problem: Problem, given: Mapping[str, Any], others: Callable[[], dict[str, object]]
) -> Options:
    """Return the checked options of `train`, with its own defaults."""
    arguments = inspect.signature(train).parameters
    own = inspect.signature(train_restarts).parameters
    refuse_unknown("train_restarts", given, {**own, **arguments})
    known = inspect.signature(check_options).parameters
    defaults = {
        name: parameter.default
        for name, parameter in arguments.items()
        if name in known and name != "problem"
    }
    options = {**defaults, **{k: v for k, v in given.items() if k in known}}
    return check_options(problem, **options, others=others)


class Restarts:
    """Does the runs with the seeds ``seed .. seed + n_starts - 1``, one after another."""

    def __init__(
        self,
        problem: Problem,
        n_starts: int,
        seed: int,
        max_time: float | None,
        checkpoint: Checkpoint | str | os.PathLike[str] | None,
    ) -> None:
        self._seeds = range(seed, seed + n_starts)
        self._max_time = max_time
        self._checkpoint = as_checkpoint(checkpoint)
        self._comm = comm_of(problem)
        # This file is never written: the lock beside it serves all runs.
        self._plan = check_checkpoint(problem, checkpoint)
        with locked(self._plan, self._comm), self._comm.raise_on_all():
            if self._plan is not None and self._comm.rank == 0:
                parts = [part for s in self._seeds if (part := self._part(s)) is not None]
                files = [CheckpointFile(part.path) for part in parts]
                for file in files:
                    file.prepare(0, replace=not self._plan.resume)
                for file in files if not self._plan.resume else ():
                    file.remove()

    def run(
        self, run: Run, tell: Callable[[int, int, TrainResult], None] | None = None
    ) -> RestartsResult:
        """Do all runs; a run that is finished in its checkpoint ends at once."""
        results: dict[int, TrainResult] = {}
        left, began = self._max_time, time.monotonic()
        with locked(self._plan, self._comm):
            for number, seed in enumerate(self._seeds):
                if self._max_time is not None:
                    spent = time.monotonic() - began
                    left = self._comm.agree(max(self._max_time - spent, 1e-9))
                result = results[seed] = run(seed, self._part(seed), left)
                if tell is not None:
                    tell(number, seed, result)
                if result.status in STOPPED:
                    break
        return self._outcome(results, result)

    def _outcome(self, results: dict[int, TrainResult], last: TrainResult) -> RestartsResult:
        seed = min(results, key=lambda s: _merit(results[s]))  # the first of equal runs
        if last.status not in STOPPED:
            message = f"the best of {len(results)} starts, seed {seed}"
            return RestartsResult(results[seed], seed, results, "done", message)
        message = f"{last.message} after {len(results) - 1} of {len(self._seeds)} starts"
        message += f"; the best is seed {seed}"
        return RestartsResult(results[seed], seed, results, last.status, message)

    def _part(self, seed: int) -> Checkpoint | None:
        """Return the checkpoint of one run."""
        whole = self._checkpoint
        return whole and replace(whole, path=f"{os.fspath(whole.path)}.seed{seed}")


def _merit(result: TrainResult) -> float:
    watched = result.best_validation_loss
    loss = result.loss if watched is None else watched
    if watched is None and result.evidence is not None:
        # Runs with different weight decays compare by evidence, not by loss.
        loss = -result.evidence.log_evidence
    return loss if result.status != "failed" and np.isfinite(loss) else np.inf
