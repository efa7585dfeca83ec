"""What a run shows while it goes on."""

from __future__ import annotations

import contextlib
import os
import time
import warnings
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from fastggn.training import Record

__all__ = ["ProgressLine", "announce_stop", "plain_warnings"]

PLAIN_INTERVAL = 0.5  # seconds between two plain lines: a fast run must not flood a log


def announce_stop(name: str) -> None:
    """Say that a signal has come and what follows; called inside its handler."""
    # Not print: a handler may interrupt a print to the same stream.
    message = f"\nfastggn: {name}: stopping after this iteration (again: at once)\n"
    with contextlib.suppress(OSError):
        os.write(2, message.encode())


class ProgressLine:
    """One line that changes on a terminal, plain lines elsewhere; a callback of `train`.

    Parameters
    ----------
    console : Console
        Where to write: the standard error stream.
    max_iter : int
        The iterations asked for.
    verbose : bool
        Print every iteration on a line of its own.
    quiet : bool
        Print nothing.
    """

    def __init__(self, console: Console, max_iter: int, verbose: bool, quiet: bool) -> None:
        self.n_records = 0
        self._console = console
        self._max_iter = max_iter
        self._verbose = verbose
        self._quiet = quiet
        self._bar: Progress | None = None
        self._last: Record | None = None
        self._printed = -1.0

    def __enter__(self) -> ProgressLine:
        """Start the display."""
        if self._console.is_terminal and not self._quiet and not self._verbose:
            self._bar = Progress(
                SpinnerColumn(),
                TextColumn("{task.description}"),
                BarColumn(bar_width=10),
                TimeElapsedColumn(),
                console=self._console,
                transient=True,
            )
            self._bar.add_task(
                "starting (the first run compiles the kernels)", total=self._max_iter
            )
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop the display; the last iteration is shown in any case."""
        if self._bar is not None:
            self._bar.stop()
        if self._last is not None:
            self._print(self._last)

    def __call__(self, record: Record) -> None:
        """Show an iteration."""
        self.n_records += 1
        if self._quiet:
            return
        if self.n_records == 1 and record.iteration > 1:
            self._write(f"going on after iteration {record.iteration - 1}")
        if self._bar is not None:
            self._last = record
            # The bar has a clock of its own.
            text = describe(record, self._max_iter, full=False).rpartition("  ")[0]
            self._bar.update(self._bar.task_ids[0], completed=self.n_records, description=text)
        elif self._verbose or time.monotonic() - self._printed >= PLAIN_INTERVAL:
            self._print(record)
        else:
            self._last = record

    def _print(self, record: Record) -> None:
        text = describe(record, self._max_iter, full=self._verbose)
        self._write(text)
        self._printed = time.monotonic()
        self._last = None

    def _write(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)


def describe(record: Record, max_iter: int, full: bool) -> str:
    """Return one line about an iteration; `full` names everything that was counted."""
    parts = [
        f"iteration {record.iteration:>{len(str(max_iter))}}/{max_iter}",
        f"loss {record.loss:.6e}",
        *([] if record.validation_loss is None else [f"validation {record.validation_loss:.6e}"]),
        f"|gradient| {record.gradient_norm:.2e}",
    ]
    if record.damping is not None:
        parts.append(f"damping {record.damping:.1e}")
    if full:
        parts += [
            f"|step| {record.step_norm:.2e}",
            *([] if record.gain_ratio is None else [f"gain ratio {record.gain_ratio:.3f}"]),
            *([] if record.rank is None else [f"rank {record.rank}"]),
            *([] if record.rcond is None else [f"rcond {record.rcond:.1e}"]),
            f"{record.solver}{'' if record.accepted else ' (rejected)'}",
        ]
    return "  ".join([*parts, f"{record.seconds:.1f} s"])


@contextlib.contextmanager
def plain_warnings(console: Console, quiet: bool) -> Iterator[None]:
    """Print each warning as one line, without the place in the code that it came from."""

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
