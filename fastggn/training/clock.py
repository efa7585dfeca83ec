"""The time a run has taken and may take."""

from __future__ import annotations

import time

from fastggn.parallel.comm import SERIAL, Comm

__all__ = ["Clock"]


class Clock:
    """Seconds since its making, and whether a limit has passed.

    Parameters
    ----------
    limit : float or None
        Seconds allowed; None for no limit.
    comm : Comm
        All ranks go by the clock of rank 0.
    """

    def __init__(self, limit: float | None = None, comm: Comm = SERIAL) -> None:
        self._comm = comm
        self._start = time.perf_counter()
        self._limit = limit

    @property
    def seconds(self) -> float:
        """Seconds since the clock was made."""
        return time.perf_counter() - self._start

    @property
    def expired(self) -> bool:
        """Whether the limit has passed."""
        return self._limit is not None and self._comm.agree(self.seconds >= self._limit)
