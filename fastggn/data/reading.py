"""Parts of a file read ahead by a thread, while the caller works on the part before."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

__all__ = ["read_ahead"]

Part = TypeVar("Part")


def read_ahead(
    read: Callable[[int, int], Part], n_rows: int, step: int
) -> Iterator[tuple[int, Part]]:
    """Yield ``(start, read(start, stop))`` for consecutive ranges of at most `step` rows.

    While the caller works on a part, a thread reads the next one: beside the part in work at most
    two are alive, the one that was read and, while the caller still holds the last one, the one
    under way. Each range has a thread of its own, which ends with it, whatever the caller does.

    Parameters
    ----------
    read : callable
        Returns the rows start..stop; called by one thread at a time, in order.
    n_rows, step : int
        The rows in all, and in a part at most.

    Raises
    ------
    Exception
        What `read` raises, where the caller asks for that part.
    """
    ahead: _Reading[Part] | None = None
    try:
        for start in range(0, n_rows, step):
            following = start + step
            # In a list, out of which it goes to the caller: nothing here keeps it alive.
            part = [read(start, min(following, n_rows)) if ahead is None else ahead.result()]
            ahead = None
            if following < n_rows:
                ahead = _Reading(read, following, min(following + step, n_rows))
            yield start, part.pop()
    finally:
        if ahead is not None:
            ahead.join()


class _Reading(Generic[Part]):
    """One range that a thread reads."""

    def __init__(self, read: Callable[[int, int], Part], start: int, stop: int) -> None:
        self._read = read
        self._range = (start, stop)
        self._part: list[Part] = []
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="fastggn-reader")
        self._thread.start()

    def _run(self) -> None:
        try:
            self._part.append(self._read(*self._range))
        except BaseException as error:
            self._error = error

    def join(self) -> None:
        """Wait for the end of the thread."""
        self._thread.join()

    def result(self) -> Part:
        """Return what was read, once; raise what the reading raised."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._part.pop()
