"""The time a run has taken and may take."""

from __future__ import annotations

import time

from fastggn.runtime.comm import SERIAL, Comm
from fastggn.training.resumable import State


class Clock:
    """Seconds since its making, and whether a limit has passed."""

    def __init__(self, limit: float | None = None, comm: Comm = SERIAL) -> None:
        self._comm = comm
        self._start = time.perf_counter()
        self._limit = limit
        self._earlier = 0.0

    @property
    def seconds(self) -> float:
        """Seconds since the clock was made, with those of the earlier parts of a resumed run."""
        return self._earlier + time.perf_counter() - self._start

    @property
    def expired(self) -> bool:
        """Whether the limit has passed."""
        if self._limit is None:
            return False
        return self._comm.agree(self.seconds - self._earlier >= self._limit)

    def state(self) -> State:
        """Return the seconds taken so far."""
        return {"seconds": self.seconds}

    def restore(self, state: State) -> None:
        """Count the seconds of the earlier part too; the limit is for this part alone."""
        self._earlier = float(state["seconds"])
