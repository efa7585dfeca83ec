"""Messages about signals and warnings."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from typing import TextIO

from rich.console import Console


def announce_stop(name: str) -> None:
    """Say that a signal came and what follows; called inside the handler of the signal."""
    # Not print: a handler may interrupt a print to the same stream.
    message = f"\nfastggn: {name}: stopping after this iteration (again: at once)\n"
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
            console.print(f"warning: {message}", markup=False, highlight=False, soft_wrap=True)

    with warnings.catch_warnings():
        warnings.simplefilter("default")
        warnings.showwarning = show
        yield
