"""Ctrl-C, the time limit, the cost and the progress of a command that keeps no state."""

from __future__ import annotations

import contextlib
import functools
import math
import multiprocessing
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any

import click
import numpy as np

from fastggn.apps.cli.outcome import INTERRUPTED, BadInput, OutOfTime
from fastggn.runtime.atomic_files import discard_open_files
from fastggn.runtime.memory import available_memory
from fastggn.runtime.platform import TIME_OVER, signal_main_thread

GRACE = 0.8  # seconds in which the main thread answers; inside a kernel it cannot
PATIENCE = 20.0  # seconds of a command that keeps its part
TOLD = 10.0  # a command that may take more seconds tells its cost
MOST = 30 * 86400.0  # seconds that a command starts with, without a time limit
LIMIT = TIME_OVER  # sent by the watch at the time limit
PAUSE = 0.02  # seconds before a lost signal is sent again
TERMINAL, LOG = 0.5, 10.0  # seconds between two lines of progress

COPIES = 3  # of a matrix, during its factorisation

MAX_TIME = click.option(
    "--max-time", type=click.FloatRange(min=0.0, min_open=True), metavar="SECONDS",
    help="Time limit.",
)  # fmt: skip


class Watch:
    """A thread that shows progress, and ends the process where the main thread cannot.

    Ctrl-C and the time limit raise `KeyboardInterrupt` and `OutOfTime`. Python raises between two
    of its instructions: after 0.8 seconds within a kernel, and at the second Ctrl-C, the thread
    ends the process. Files are safe: they are written beside their place and renamed.
    """

    def __init__(self, max_time: float | None = None, quiet: bool = False) -> None:
        self.max_time = max_time
        self._quiet = quiet
        self._began = time.monotonic()
        self._share, self._note = 0.0, ""
        self._expected: float | None = None
        self._patient = False
        self._held = 0
        self._arrived: type[KeyboardInterrupt] | None = None
        self._lost = signal.SIGINT
        self._thread: threading.Thread | None = None

    def __call__(self, done: float, total: float, note: str = "") -> None:
        """Take note of the work done so far."""
        self._share, self._note = done / total if total else 1.0, note

    def expect(self, seconds: float, work: str, remedy: str = "") -> None:
        """Tell a cost of more than ten seconds; refuse one of more than a month without a limit."""
        self._expected = time.monotonic() - self._began + seconds
        words = f"{work}: about {duration(seconds)}"
        if seconds > MOST and self.max_time is None:
            raise BadInput(f"{words}: {remedy}or set a limit by --max-time")
        if seconds > TOLD and not self._quiet:
            click.echo(words, err=True)

    def expect_singular_values(
        self, rows: int, columns: int, ranks: int = 1, vectors: bool = False
    ) -> None:
        """Tell the cost of the singular values of a matrix; refuse one that memory cannot hold."""
        work = f"the singular values of {rows:,} x {columns:,} numbers"
        remedy = "take fewer samples or a smaller network"
        least = min(rows, columns)
        whole = vectors and rows >= columns  # fewer rows are kept as reflectors
        needed, free = COPIES * 8 * columns * (columns if whole else least), available_memory()
        if needed > free:
            gib = f"{needed / 2**30:,.1f} GiB, of which {free / 2**30:.1f} are free"
            raise BadInput(f"{work} take some {gib}: {remedy}")
        operations = 4.0 * rows * columns * least / ranks + 10.0 * columns * least**2
        if whole:
            operations += 10.0 * columns**3
        self.expect(seconds_of(operations), work, f"{remedy}, ")

    @contextlib.contextmanager
    def holding(self) -> Iterator[None]:
        """Keep a first Ctrl-C and the time limit for the end of the block."""
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
        if self._arrived is not None:
            raise self._arrived(self._words(self._arrived))

    def patient(self) -> None:
        """Leave the answer to the main thread, which keeps a part; a second Ctrl-C ends all."""
        self._patient = True

    def hold(self) -> None:
        """Ignore a signal from now on, while the last file is written."""
        self._held += 1

    def __enter__(self) -> Watch:
        """Start."""
        if threading.current_thread() is not threading.main_thread():
            return self
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        wanted = [LIMIT]
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # of a job in the background
            wanted.append(signal.SIGINT)
        self._handlers = {number: signal.signal(number, self._raise) for number in wanted}
        self._hook = sys.unraisablehook
        sys.unraisablehook = self._again
        self._wakeup = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._thread = threading.Thread(target=self._guard, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End."""
        if self._thread is None:
            return
        sys.unraisablehook = self._hook
        signal.set_wakeup_fd(self._wakeup)
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        self._writer.send(b"\0")
        self._thread.join()
        self._reader.close()
        self._writer.close()

    def _raise(self, number: int, frame: FrameType | None) -> None:
        kind = OutOfTime if number == LIMIT else KeyboardInterrupt
        if _imports(frame):  # C code there would put an error of its own in the place of this one
            self._lost = signal.Signals(number)
            self._writer.send(b"\1")
            return
        if self._held:
            self._arrived = kind
            return
        raise kind(self._words(kind))

    def _again(self, lost: Any) -> None:
        """Let the guard send an interrupt again that came inside a finaliser, which drops it."""
        if not issubclass(lost.exc_type, KeyboardInterrupt):
            self._hook(lost)
            return
        self._lost = LIMIT if issubclass(lost.exc_type, OutOfTime) else signal.SIGINT
        self._writer.send(b"\1")

    def _words(self, kind: type[KeyboardInterrupt]) -> str:
        return f"out of time after {self.max_time:g} s" if kind is OutOfTime else ""

    def _guard(self) -> None:
        """Wait for signals and for the time limit, and show the progress meanwhile."""
        pause = TERMINAL if sys.stderr.isatty() else LOG
        limit = math.inf if self.max_time is None else self._began + self.max_time
        end, again, show, count = math.inf, math.inf, self._began + pause, 0
        while True:
            wait = max(0.0, min(limit, end, again, show) - time.monotonic())
            ready = select.select([self._reader], [], [], wait)[0]
            numbers = self._reader.recv(64) if ready else b""
            now = time.monotonic()
            if 0 in numbers:
                self._clear()
                return
            count += numbers.count(signal.SIGINT)
            if end == math.inf and {signal.SIGINT, LIMIT} & set(numbers):
                end = now + (PATIENCE if self._patient else GRACE)
            if now >= end or count > 1:
                self._end()
            if 1 in numbers:
                again = now + PAUSE
            elif now >= again:
                again = math.inf
                count -= self._lost == signal.SIGINT
                signal_main_thread(self._lost)
            if now >= limit:
                limit = math.inf
                signal_main_thread(LIMIT)
            if now >= show:
                show = now + pause
                self._show(now - self._began)

    def _show(self, elapsed: float) -> None:
        if self._quiet:
            return
        total = elapsed / self._share if self._share > 0.0 else self._expected
        text = f"{self._share:7.1%}" if self._share > 0.0 else "  "
        text += f"  {self._note}  " if self._note else "  "
        text += f"{duration(elapsed)}"
        if total is not None and total > elapsed:
            text += f", about {duration(total - elapsed)} left"
        self._clear()
        end = "" if sys.stderr.isatty() else "\n"
        sys.stderr.write(text + end)
        sys.stderr.flush()

    def _clear(self) -> None:
        if sys.stderr.isatty() and not self._quiet:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()

    def _end(self) -> None:
        """End the process and its workers at once."""
        for worker in multiprocessing.active_children():
            worker.kill()
        discard_open_files()
        if sys.stderr is not None:  # else 2 is some other file
            with contextlib.suppress(OSError):
                os.write(2, b"fastggn: interrupted: nothing is saved\n")
        os._exit(INTERRUPTED)


def _imports(frame: FrameType | None) -> bool:
    """Whether a module is imported there."""
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            return True
        frame = frame.f_back
    return False


def watched(command: Callable[..., int]) -> Callable[..., int]:
    """Wrap a command in a `Watch`, its argument ``watch``, and add ``--max-time``."""

    @functools.wraps(command)
    def run(*context: Any, max_time: float | None, **options: Any) -> int:
        with Watch(max_time, options.get("quiet", False)) as watch:
            return command(*context, watch=watch, **options)

    return MAX_TIME(run)


def seconds_of(operations: float) -> float:
    """Return the seconds of floating-point operations of matrices on this machine, roughly."""
    if operations < 1e9:
        return 0.0
    block = np.ones((400, 400))
    block @ block  # wakes the threads up
    start = time.perf_counter()
    block @ block
    # Factorisations reach about half the speed of a product.
    return operations / (2.0 * 400.0**3) * (time.perf_counter() - start) * 2.0


def seconds_of_call(call: Callable[[], object]) -> float:
    """Return the seconds of a call, the second one: the first loads the kernels."""
    call()
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def duration(seconds: float) -> str:
    """Return a time in words."""
    for size, unit in ((31_557_600.0, "years"), (86400.0, "days"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2.0 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.0f} s"
