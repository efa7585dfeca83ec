"""Checkpoints of a run: when they are written, and how a run resumes from one."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, asdict, dataclass
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
import scipy
from numpy.typing import NDArray

from fastggn.runtime.comm import Comm, comm_of
from fastggn.runtime.errors import CheckpointWarning, as_float_vector, checked_flag, hinted_fields
from fastggn.runtime.signals import deferred_stops
from fastggn.training.checkpoint.files import CheckpointError, CheckpointFile
from fastggn.training.checkpoint.identity import compare_identities, run_identity
from fastggn.training.options import Options
from fastggn.training.result import STATUSES
from fastggn.training.resumable import Resumable, State
from fastggn.training.step import Ending

if TYPE_CHECKING:
    from fastggn.objective.point import Point
    from fastggn.objective.problem import Problem
    from fastggn.runtime.atomic_files import PathLike
    from fastggn.training.history import HistoryWriter


UNITS = {"s": 1.0, "sec": 1.0, "min": 60.0, "h": 3600.0}
# The loss at the saved theta is recomputed: a larger change means another function.
SAME_LOSS = 1e-6


@dataclass(frozen=True)
class Interval:
    """The least distance between two checkpoints, in iterations or in seconds."""

    iterations: int | None = None
    seconds: float | None = None

    @classmethod
    def parse(cls, value: int | str) -> Interval:
        """Return the interval of an integer (iterations) or of a text such as "5min"."""
        valid = "an integer (iterations) or a time such as '30s', '5min' or '2h'"
        if isinstance(value, str):
            match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(s|sec|min|h|)\s*", value)
            if match is None or (not match[2] and "." in match[1]):
                raise ValueError(f"every must be {valid}, got {value!r}")
            if match[2]:
                return cls(seconds=float(match[1]) * UNITS[match[2]])
            value = int(match[1])
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise TypeError(f"every must be {valid}, not {value!r}")
        if value < 1:
            raise ValueError(f"every must be at least 1 iteration, got {value}")
        return cls(iterations=int(value))


@hinted_fields
@dataclass(frozen=True)
class Checkpoint:
    """A file from which a run can be resumed: the argument `checkpoint` of `train`.

    The file is written atomically every `every`, at the end, and after an interrupt or an
    exception; the older file is ``NAME.previous``. SIGTERM and SIGUSR1, unless something else
    handles them, end the run after the current iteration with the status "interrupted", and a
    second signal ends it at once. A failed save is a `CheckpointWarning`; the run continues.

    Parameters
    ----------
    path : path-like
        The file.
    every : int or str
        Iterations (10), or a time ("30s", "5min", "2h"), between two checkpoints.
    resume : bool
        Resume from the file if it exists, else start a new run. The outcome has the bits of an
        uninterrupted run, for any number of threads. `max_iter` (for all parts together),
        `max_time` (for this part alone) and `callbacks` may differ; everything else must be the
        same, including the number of MPI ranks.

    Raises
    ------
    TypeError, ValueError
        If a value is not valid.

    Examples
    --------
    >>> import fastggn as fg
    >>> fg.Checkpoint("run.ckpt", every="2min", resume=True)
    Checkpoint(path='run.ckpt', every='2min', resume=True)
    """

    path: PathLike
    _: KW_ONLY
    every: int | str = "5min"
    resume: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.path, (str, os.PathLike)):
            kind = type(self.path).__name__
            raise TypeError(f"checkpoint must be a path or a fastggn.Checkpoint, not {kind}")
        Interval.parse(self.every)
        object.__setattr__(self, "resume", checked_flag("resume", self.resume))


@dataclass(frozen=True)
class Checkpointing:
    """The checked argument `checkpoint` of `train`."""

    file: CheckpointFile
    every: Interval
    resume: bool
    n_params: int


def as_checkpoint(checkpoint: Checkpoint | PathLike | None) -> Checkpoint | None:
    """Return the checkpoint of a path, or the object itself."""
    if checkpoint is None or isinstance(checkpoint, Checkpoint):
        return checkpoint
    return Checkpoint(checkpoint)


def shared_part(checkpoint: Checkpoint | PathLike | None) -> str:
    """Return, in words, the part of the argument on which all ranks agree: not the path."""
    given = as_checkpoint(checkpoint)
    return "None" if given is None else f"every {given.every!r}, resume {given.resume}"


def check_checkpoint(
    problem: Problem, checkpoint: Checkpoint | PathLike | None
) -> Checkpointing | None:
    """Return the checked argument (the file is on rank 0), or None without a checkpoint."""
    given = as_checkpoint(checkpoint)
    if given is None:
        return None
    file, resume = CheckpointFile(given.path), given.resume
    comm = comm_of(problem)
    with comm.raise_on_all():
        if comm.rank == 0:
            # The lock protects the file of another run; `locked` takes it again later.
            with file.locked():
                # Theta, at most three vectors of a method, and the history.
                file.prepare(32 * problem.n_params + 65536, replace=not resume)
    return Checkpointing(file, Interval.parse(given.every), resume, problem.n_params)


@contextlib.contextmanager
def locked(plan: Checkpointing | None, comm: Comm) -> Iterator[None]:
    """Lock the checkpoint against other runs inside the block."""
    if plan is None:
        yield
        return
    with contextlib.ExitStack() as held:
        with comm.raise_on_all():
            if comm.rank == 0:
                held.enter_context(plan.file.locked())
        yield


@dataclass(frozen=True)
class Start:
    """The start of a run: theta, and for a resumed run the state of the loop there."""

    theta: NDArray[np.float64]
    resumed: bool = False
    initial_loss: float | None = None
    stop: Ending | None = None
    settled: bool = False


def make_saver(
    problem: Problem,
    options: Options,
    plan: Checkpointing | None,
    seed: Any,
    theta0: NDArray[np.float64] | None,
    parts: Mapping[str, Resumable],
    history: HistoryWriter,
) -> Saver:
    """Return the saver of a run; without a checkpoint it saves nothing."""
    if plan is None:
        return Saver()
    identity = run_identity(problem, options, seed, theta0)
    return FileSaver(plan, identity, parts, history, comm_of(problem))


class Saver:
    """The interface of a saver; this one saves nothing."""

    unsaved = ""

    def resume(self) -> Start | None:
        """Restore the parts of the run, and return its start; None for a new run."""
        return None

    def begin(self, point: Point, initial_loss: float) -> None:
        """Keep the loss at theta0, and compare the loss at a resumed point with the saved one."""

    def note(self, point: Point, stop: Ending | None) -> None:
        """Keep the state at the end of an iteration, and write it if a save is due."""

    def settle(self) -> None:
        """Mark the last stop as final: no escape to a lower loss was found."""

    def finish(self, stop: Ending | None) -> None:
        """Write the state if it is not saved yet; `stop` is None after an exception."""


class FileSaver(Saver):
    """Saves a run to its checkpoint file, on rank 0.

    The saver keeps references to the state between two iterations, and writes only such a state,
    also after an interrupt. A failed save is a `CheckpointWarning`, and the run continues.
    """

    def __init__(
        self,
        plan: Checkpointing,
        identity: dict[str, Any],
        parts: Mapping[str, Resumable],
        history: HistoryWriter,
        comm: Comm,
    ) -> None:
        self._comm = comm
        self._file = plan.file
        self._every = plan.every
        self._resume = plan.resume
        self._n_params = plan.n_params
        self._identity = identity
        self._parts = parts
        self._history = history
        self._initial_loss = np.nan
        self._expected: float | None = None
        self._snapshot: State | None = None
        self._stale = False  # whether the snapshot is newer than the file
        self._written_at = time.monotonic()
        self._written_count = 0
        self.unsaved = ""

    def resume(self) -> Start | None:
        """Restore the parts of the run, and return its start; None for a new run."""
        content = None
        with self._comm.raise_on_all(), self._complete():
            if self._resume and self._comm.rank == 0:
                content = self._file.load()
            if content is not None:
                compare_identities(self._file.path, content["identity"], self._identity)
        content = self._comm.agree(content)
        if content is None:
            return None
        with self._complete():
            start = self._restore(content)
        self._written_count = len(self._history.records)
        return start

    @contextlib.contextmanager
    def _complete(self) -> Iterator[None]:
        """Turn a missing or wrong part into a `CheckpointError` that names the file."""
        try:
            yield
        except CheckpointError:
            raise
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{self._file.path}: the checkpoint lacks a part or has a wrong one ({error!r})"
            ) from error

    def _restore(self, content: State) -> Start:
        for name, part in self._parts.items():
            part.restore(content["parts"][name])
        self._history.restore(content["history"])
        stop = content["stop"]
        if stop is not None:
            stop = Ending(stop["status"], str(stop["message"]))
            if stop.status not in STATUSES:
                raise ValueError(f"unknown status {stop.status!r}")
        self._expected = float(content["loss"])
        return Start(
            theta=as_float_vector("theta", content["theta"], self._n_params),
            resumed=True,
            initial_loss=float(content["initial_loss"]),
            stop=stop,
            settled=bool(content["settled"]),
        )

    def begin(self, point: Point, initial_loss: float) -> None:
        """Keep the loss at theta0, and compare the loss at a resumed point with the saved one."""
        self._initial_loss = initial_loss
        expected, loss = self._expected, float(point.loss)
        if expected is None or loss == expected or not (np.isfinite(expected) or np.isfinite(loss)):
            return
        if not abs(loss - expected) <= SAME_LOSS * abs(expected):
            raise CheckpointError(
                f"{self._file.path}: the loss at its theta is {loss:.17g} here and was "
                f"{expected:.17g} there: the code of the network or of the loss has changed"
            )
        warnings.warn(
            f"the loss at the checkpoint's theta differs in its last digits ({loss:.17g} here, "
            f"{expected:.17g} there): another machine or other libraries; the run goes on, but "
            "not bit for bit",
            CheckpointWarning,
            stacklevel=5,
        )

    def note(self, point: Point, stop: Ending | None) -> None:
        """Keep the state at the end of an iteration, and write it if a save is due."""
        self._snapshot = {
            "theta": point.theta,
            "loss": float(point.loss),
            "initial_loss": self._initial_loss,
            "stop": None if stop is None else asdict(stop),
            "settled": False,
            "count": len(self._history.records),
            "parts": {name: part.state() for name, part in self._parts.items()},
        }
        self._stale = True
        if self._due():
            self._write()

    def settle(self) -> None:
        """Mark the last stop as final: no escape to a lower loss was found."""
        if self._snapshot is not None:
            self._snapshot["settled"] = self._stale = True

    def _due(self) -> bool:
        if self._every.iterations is not None:
            return len(self._history.records) - self._written_count >= self._every.iterations
        return time.monotonic() - self._written_at >= (self._every.seconds or 0.0)

    def _write(self) -> None:
        if self._snapshot is None or not self._stale or self._comm.rank > 0:
            return
        snapshot = dict(self._snapshot)
        count = snapshot.pop("count")
        content = {
            **snapshot,
            "history": self._history.columns(count),
            "identity": self._identity,
            "versions": _versions(),
        }
        self._written_at, self._written_count = time.monotonic(), count
        try:
            with deferred_stops():
                self._file.save(content)
                self._stale, self.unsaved = False, ""
        except OSError as error:
            self.unsaved = f"the checkpoint could not be written: {error}"
            warnings.warn(self.unsaved, CheckpointWarning, stacklevel=6)

    def finish(self, stop: Ending | None) -> None:
        """Write the state if it is not saved yet; `stop` is None after an exception."""
        try:
            self._write()
        except KeyboardInterrupt:  # the signal was deferred until the file was complete
            if stop is None or stop.status != "interrupted":
                raise


def _versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
        "numba": numba.__version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
    }
