"""A thread that reads the next part of a file while the caller works on the present one."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

Part = TypeVar("Part")


def read_ahead(
    read: Callable[[int, int], Part], n_rows: int, step: int
) -> Iterator[tuple[int, Part]]:
    """Yield ``(start, read(start, stop))`` for ranges of at most `step` rows, read ahead."""
    # At most two parts are alive besides the part of the caller. The thread ends with the pass,
    # also if the caller abandons it.
    if n_rows <= 0:
        return
    part = [read(0, min(step, n_rows))]  # emptied below, so that no reference keeps a part alive
    if n_rows <= step:
        yield 0, part.pop()
        return
    reader = _Reader(read)
    try:
        for start in range(0, n_rows, step):
            if start > 0:
                part.append(reader.result())
            if start + step < n_rows:
                reader.ask(start + step, min(start + 2 * step, n_rows))
            yield start, part.pop()
    finally:
        reader.end()


class _Reader(Generic[Part]):
    """A thread that reads ranges on request.

    One thread serves a whole pass, because its start costs as much as to read a megabyte.
    """

    def __init__(self, read: Callable[[int, int], Part]) -> None:
        self._read = read
        self._process = os.getpid()
        self._range = 0, 0
        self._asked: queue.SimpleQueue[tuple[int, int] | None] = queue.SimpleQueue()
        self._found: queue.SimpleQueue[list[Part] | BaseException] = queue.SimpleQueue()
        # A daemon, so that an unfinished pass does not keep the interpreter alive.
        self._thread = threading.Thread(target=self._run, name="fastggn-reader", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while (asked := self._asked.get()) is not None:
            try:
                self._found.put([self._read(*asked)])
            except BaseException as error:
                self._found.put(error)

    def ask(self, start: int, stop: int) -> None:
        """Request a range."""
        self._range = start, stop
        self._asked.put(self._range)

    def result(self) -> Part:
        """Return the requested part once, or raise the error of its reading."""
        if os.getpid() != self._process:  # the child of a fork, which lacks the thread
            return self._read(*self._range)
        found = self._found.get()
        if isinstance(found, BaseException):
            raise found
        return found.pop()

    def end(self) -> None:
        """End the thread, and wait for it."""
        self._asked.put(None)
        self._thread.join()
