"""Messages about signals and warnings."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any, TextIO

from rich.console import Console

from fastggn.runtime.errors import printable


class Lasting:
    """A stream that drops what cannot be written: no message is worth the end of a run."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the stream."""
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write text, or drop it."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Write what is held, or drop it."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()


def announce_stop(name: str) -> None:
    """Say that a signal came and what follows; called inside the handler of the signal."""
    # Not print: a handler may interrupt a print to the same stream.
    message = f"\nfastggn: {name}: stopping after this iteration (again: at once)\n"
    if sys.stderr is not None:  # else 2 is some other file
        with contextlib.suppress(OSError):
            os.write(2, message.encode())


@contextlib.contextmanager
def plain_warnings(console: Console, quiet: bool) -> Iterator[None]:
    """Print each warning as one line, without its place in the code."""

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if not quiet:
            text = printable(f"warning: {message}")
            console.print(text, markup=False, highlight=False, soft_wrap=True)

    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.showwarning = show
        yield
