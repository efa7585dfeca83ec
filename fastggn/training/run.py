"""The environment of a run: clock, seed, stop signals, display, warnings."""

from __future__ import annotations

import contextlib
import time
import warnings
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import numpy as np

from fastggn.runtime.comm import SERIAL, Comm
from fastggn.runtime.errors import FastGGNWarning
from fastggn.runtime.memory import available_memory
from fastggn.runtime.platform import STOP_NAMES
from fastggn.runtime.signals import StopSignals, left_surely
from fastggn.training.resumable import Resumable, State

if TYPE_CHECKING:
    from fastggn.training.progress import ProgressLine


# Vectors of length N that a run holds at once at its peak, measured on F(n, 20000, 20000, 1), and
# the bytes up to which the free memory is not looked at.
VECTORS, UNASKED = 11, 2**28


def check_memory(n_params: int, comm: Comm) -> None:
    """Raise `MemoryError` with the figure if the vectors of a run do not fit."""
    needed = 8 * VECTORS * n_params
    if needed <= UNASKED:
        return
    free = comm.memory_share(available_memory())
    if needed > free:
        raise MemoryError(
            f"{n_params:,} parameters need some {needed / 2**30:,.1f} GiB for vectors of this "
            f"length, and {free / 2**30:,.1f} GiB are free"
        )


class Clock(Resumable):
    """The seconds of a run, and its time limit."""

    def __init__(self, limit: float | None = None, comm: Comm = SERIAL) -> None:
        self._comm = comm
        self._start = time.perf_counter()
        self._limit = limit
        self._earlier = 0.0

    @property
    def seconds(self) -> float:
        """Seconds since the start, with the earlier parts of a resumed run."""
        return self._earlier + time.perf_counter() - self._start

    @property
    def expired(self) -> bool:
        """Whether the limit has passed."""
        if self._limit is None:
            return False
        return self._comm.agree(self.seconds - self._earlier >= self._limit)

    def state(self) -> State:
        """Return the seconds so far."""
        return {"seconds": self.seconds}

    def restore(self, state: State) -> None:
        """Add the seconds of the earlier part, which the limit does not count."""
        self._earlier = float(state["seconds"])


def warn(comm: Comm, kind: type[FastGGNWarning], messages: list[str]) -> None:
    """Warn the caller of `train`, on one rank only."""
    for message in messages if comm.rank == 0 else []:
        warnings.warn(message, kind, stacklevel=4)


def shared_seed(comm: Comm, seed: Any) -> Any:
    """Return one seed for all ranks, drawn if none is given."""
    if comm.size == 1:
        return seed
    return comm.agree(np.random.SeedSequence().entropy if seed is None else seed)


def stop_signals(saved: bool) -> AbstractContextManager[StopSignals]:
    """Return the handler of the signals that ask a run to stop."""
    return left_surely(StopSignals(STOP_NAMES[1:] if saved else (), unclaimed=True))


def shown(
    progress: bool, max_iter: int, max_time: float | None, comm: Comm
) -> AbstractContextManager[ProgressLine | None]:
    """Return the display of the run on one rank, or an empty context."""
    if not progress or comm.rank > 0:
        return contextlib.nullcontext()
    from fastggn.training.progress import ProgressLine

    return left_surely(ProgressLine(None, max_iter, max_time))
