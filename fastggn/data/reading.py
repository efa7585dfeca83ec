"""Parts of a file read ahead by a thread, while the caller works on the part before."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

Part = TypeVar("Part")


def read_ahead(
    read: Callable[[int, int], Part], n_rows: int, step: int
) -> Iterator[tuple[int, Part]]:
    """Yield ``(start, read(start, stop))`` for consecutive ranges of at most `step` rows.

    While the caller works on a part, a thread reads the next one: beside the part in work at most
    two are alive, the one that was read and, while the caller still holds the last one, the one
    under way. The thread ends with the pass, also with one that is given up.
    """
    if n_rows <= 0:
        return
    part = [read(0, min(step, n_rows))]  # the list is emptied: nothing here keeps a part alive
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
    """A thread that reads the ranges it is asked for.

    One for a whole pass: to start one for each part costs as much as to read a megabyte.
    """

    def __init__(self, read: Callable[[int, int], Part]) -> None:
        self._read = read
        self._asked: queue.SimpleQueue[tuple[int, int] | None] = queue.SimpleQueue()
        self._found: queue.SimpleQueue[list[Part] | BaseException] = queue.SimpleQueue()
        # A daemon: a pass that is neither finished nor given up must not keep the interpreter.
        self._thread = threading.Thread(target=self._run, name="fastggn-reader", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while (asked := self._asked.get()) is not None:
            try:
                self._found.put([self._read(*asked)])
            except BaseException as error:
                self._found.put(error)

    def ask(self, start: int, stop: int) -> None:
        """Let a range be read."""
        self._asked.put((start, stop))

    def result(self) -> Part:
        """Return what was asked for, once; raise what the reading raised."""
        found = self._found.get()
        if isinstance(found, BaseException):
            raise found
        return found.pop()

    def end(self) -> None:
        """Wait for the end of the thread."""
        self._asked.put(None)
        self._thread.join()
