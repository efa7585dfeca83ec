"""The time a run has taken and may take."""

from __future__ import annotations

import time

__all__ = ["Clock"]


class Clock:
    """Seconds since its making, and whether a limit has passed.

    Parameters
    ----------
    limit : float or None
        Seconds allowed; None for no limit.
    """

    def __init__(self, limit: float | None = None) -> None:
        self._start = time.perf_counter()
        self._limit = limit

    @property
    def seconds(self) -> float:
        """Seconds since the clock was made."""
        return time.perf_counter() - self._start

    @property
    def expired(self) -> bool:
        """Whether the limit has passed."""
        return self._limit is not None and self.seconds >= self._limit
