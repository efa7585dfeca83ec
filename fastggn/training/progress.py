"""The progress of a training run: one line that changes, or plain lines in a log."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections import deque
from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TextColumn
from rich.text import Text

from fastggn.runtime.errors import FastGGNWarning

if TYPE_CHECKING:
    from fastggn.training.result import Record


PLAIN_INTERVAL = 0.5  # seconds between two plain lines, so that a fast run does not fill a log
RECENT = 20  # last iterations that predict the time of the next ones
WIDE = 100  # terminal columns that a spinner and a bar need
BAR = 10


class _Messages(Console):
    """The standard error stream; if its reader has gone, that is an `OSError` as any other."""

    def on_broken_pipe(self) -> None:
        """Raise the error: rich would close the standard output, and end the program."""
        raise


class ProgressLine:
    """A callback of `train` that shows one line on a terminal, or plain lines elsewhere.

    The time left is an upper bound from the speed of the last iterations.
    """

    def __init__(
        self,
        console: Console | None,
        max_iter: int,
        max_time: float | None = None,
        *,
        verbose: bool = False,
        quiet: bool = False,
    ) -> None:
        self.n_records = 0
        self._console = _Messages(stderr=True) if console is None else console
        self._max_iter = max_iter
        self._max_time = max_time
        self._verbose = verbose
        self._quiet = quiet
        self._bar: Progress | None = None
        self._last: Record | None = None
        self._printed = -1.0
        self._began = time.monotonic()
        self._iteration = 0
        self._times: deque[float] = deque(maxlen=RECENT + 1)

    def __enter__(self) -> ProgressLine:
        """Start the display."""
        self._began = time.monotonic()
        if self._console.is_terminal and not self._quiet and not self._verbose:
            wide = self._console.width >= WIDE
            self._bar = Progress(
                *([SpinnerColumn()] if wide else []),
                TextColumn("{task.description}"),
                *([BarColumn(bar_width=BAR)] if wide else []),
                _Clock(self),
                console=self._console,
                transient=True,
            )
            self._bar.add_task(
                "starting (the first run compiles the kernels)", total=self._max_iter
            )
            with self._surviving():
                self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Show the last iteration, and stop the display."""
        with self._surviving():
            if self._bar is not None:
                self._bar.stop()
            if self._last is not None:
                self._print(self._last)

    def __call__(self, record: Record) -> None:
        """Show an iteration."""
        self.n_records += 1
        self._iteration = record.iteration
        self._times.append(time.monotonic())
        if not self._quiet:
            with self._surviving():
                self._show(record)

    @contextlib.contextmanager
    def _surviving(self) -> Iterator[None]:
        """Go on without a display if its stream cannot be written: a full disk, a closed pipe."""
        try:
            yield
        except (OSError, ValueError) as error:  # of a closed stream, or of one without this letter
            bar, self._bar = self._bar, None
            self._quiet, self._last = True, None
            if bar is not None:  # ends its thread, also where it had not begun
                with contextlib.suppress(OSError, ValueError, IndexError):
                    bar.stop()
            message = f"the progress could not be written ({error}); the run goes on without it"
            warnings.warn(message, FastGGNWarning, stacklevel=4)

    def _show(self, record: Record) -> None:
        if self.n_records == 1 and record.iteration > 1:
            self._write(f"going on after iteration {record.iteration - 1}")
        if self._bar is not None:
            self._last = record
            task = self._bar.task_ids[0]
            text = self._fitting(record)
            self._bar.update(task, completed=record.iteration, description=text)
        elif self._verbose or time.monotonic() - self._printed >= PLAIN_INTERVAL:
            self._print(record, left=True)
        else:
            self._last = record

    @property
    def elapsed(self) -> float:
        """Seconds since the start of the display."""
        return time.monotonic() - self._began

    @property
    def left(self) -> float | None:
        """An upper bound of the seconds left, or None if it is unknown."""
        bounds = []
        if self._max_time is not None:
            bounds.append(self._max_time - self.elapsed)
        if len(self._times) > 1:
            pace = (self._times[-1] - self._times[0]) / (len(self._times) - 1)
            idle = time.monotonic() - self._times[-1]
            bounds.append((self._max_iter - self._iteration) * pace - idle)
        return max(0.0, min(bounds)) if bounds else None

    def _print(self, record: Record, left: bool = False) -> None:
        text = describe(record, self._max_iter, full=self._verbose)
        seconds = self.left if left and record.iteration < self._max_iter else None
        if seconds is not None:
            text = f"{text}, at most {seconds:.1f} s left"
        self._write(text)
        self._printed = time.monotonic()
        self._last = None

    def _write(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _fitting(self, record: Record) -> str:
        """Return as many numbers of an iteration as fit into the terminal."""
        taken = 1 + len(clock(self.elapsed, self.left))
        if self._console.width >= WIDE:
            taken += 2 + BAR + 1
        room = self._console.width - taken
        parts = {
            "iteration": f"{record.iteration:>{len(str(self._max_iter))}}/{self._max_iter}",
            "loss": f"loss {record.loss:.3e}",
            "validation": _optional("val {:.2e}", record.validation_loss),
            "damping": _optional("damping {:.0e}", record.damping),
            "gain ratio": _optional("gain {:.1f}", record.gain_ratio),
            "gradient": f"|gradient| {record.gradient_norm:.1e}",
        }
        parts = {name: text for name, text in parts.items() if text}
        while len("  ".join(parts.values())) > room and len(parts) > 2:
            del parts[list(parts)[-1]]
        return "  ".join(parts.values())


class _Clock(ProgressColumn):
    """The elapsed time and the time left."""

    max_refresh = 0.2

    def __init__(self, line: ProgressLine) -> None:
        super().__init__()
        self._line = line

    def render(self, task: Task) -> Text:
        """Return both times as text."""
        return Text(clock(self._line.elapsed, self._line.left), style="progress.elapsed")


def _optional(form: str, value: float | None) -> str:
    return "" if value is None else form.format(value)


def clock(elapsed: float, left: float | None) -> str:
    """Return both times in minutes and seconds."""
    return _minutes(elapsed) + ("" if left is None else f" ≤{_minutes(left)} left")


def _minutes(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def describe(record: Record, max_iter: int, full: bool) -> str:
    """Return one line about an iteration; `full` includes all counts."""
    parts = [
        f"iteration {record.iteration:>{len(str(max_iter))}}/{max_iter}",
        f"loss {record.loss:.6e}",
        _optional("held-out {:.6e}", record.validation_loss),
        f"|gradient| {record.gradient_norm:.2e}",
        _optional("damping {:.1e}", record.damping),
        _optional("gain ratio {:.3f}", record.gain_ratio),
    ]
    if full:
        parts += [
            f"|step| {record.step_norm:.2e}",
            _optional("rank {}", record.rank),
            _optional("rcond {:.1e}", record.rcond),
            f"{record.solver}{'' if record.accepted else ' (rejected)'}",
        ]
    return "  ".join([*filter(None, parts), f"{record.seconds:.1f} s"])
