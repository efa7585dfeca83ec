"""Signals that ask a run to stop: recorded by a flag, and deferred while a file is written."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from types import FrameType, TracebackType
from typing import Any, TypeVar

from fastggn.runtime.platform import STOP_NAMES, TIME_OVER, masked, signal_main_thread

T = TypeVar("T")

SIGNALS = STOP_NAMES
PAUSE = 0.02  # seconds before a lost interrupt is sent again
_EVERY = tuple(sorted(signal.valid_signals()))
_NOT_CALLED = (signal.SIG_DFL, signal.SIG_IGN)


class StopSignals:
    """A callback of `train` that returns True after a stop signal.

    The first signal sets a flag, and the second one raises `KeyboardInterrupt`. Only the main
    thread can handle signals; in other threads this does nothing.
    """

    def __init__(
        self,
        names: tuple[str, ...] = SIGNALS,
        announce: Callable[[str], None] | None = None,
        *,
        unclaimed: bool = False,
    ) -> None:
        self.signal: str | None = None
        self._names = names
        self._announce = announce
        self._unclaimed = unclaimed
        self._previous: dict[int, Any] = {}
        self._saving = False

    def __call__(self, record: object) -> bool:
        """Return whether a signal asks the run to stop; then a second one cannot end it sooner."""
        if self.signal is not None:
            self._saving = True
        return self.signal is not None

    def __enter__(self) -> StopSignals:
        """Install the handlers."""
        if threading.current_thread() is threading.main_thread():
            for number in _numbers(self._names):
                if not self._unclaimed or signal.getsignal(number) is signal.SIG_DFL:
                    self._previous[number] = signal.getsignal(number)
                    signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Restore the earlier handlers; harmless twice."""
        _give_back(self._previous)

    def hold(self) -> None:
        """Ignore further signals while the last file is written."""
        self._saving = True

    def release(self) -> None:
        """Make every signal raise `KeyboardInterrupt`, after everything is saved."""
        self._saving, self.signal = False, self.signal or ""

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._saving:
            return
        if self.signal is not None:  # a second signal, or any signal after `release`
            raise KeyboardInterrupt
        self.signal = signal.Signals(number).name
        if self._announce is not None:
            self._announce(self.signal)


@contextlib.contextmanager
def left_surely(block: AbstractContextManager[T]) -> Iterator[T]:
    """Enter a block whose exit is harmless twice, and leave it whenever an interrupt comes."""
    try:
        yield block.__enter__()
    finally:
        # The interrupt may come at the call itself: then the call is repeated.
        try:
            block.__exit__(None, None, None)
        except BaseException:
            block.__exit__(None, None, None)
            raise


@contextlib.contextmanager
def heard_in_finalisers() -> Iterator[None]:
    """Send Ctrl-C again where it comes inside a finaliser, which drops exceptions."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before, sent = sys.unraisablehook, list[threading.Timer]()

    def again(lost: Any) -> None:
        if lost.exc_type is not KeyboardInterrupt:
            before(lost)
            return
        sent.append(threading.Timer(PAUSE, signal_main_thread, (signal.SIGINT,)))
        sent[-1].start()  # later: an interrupt here would be dropped too

    sys.unraisablehook = again
    try:
        yield
    finally:
        sys.unraisablehook = before
        waiting = [timer for timer in sent if timer.is_alive()]
        for timer in waiting:
            timer.cancel()
        if waiting:
            raise KeyboardInterrupt


def ignore_signals() -> None:
    """Ignore the stop signals from now on, so that the process keeps its exit code."""
    if threading.current_thread() is threading.main_thread():
        for number in _numbers(SIGNALS):
            signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def blocked_interrupts() -> Iterator[None]:
    """Keep Ctrl-C and a time limit for the end of the block, and from processes started there."""
    numbers = (signal.SIGINT, TIME_OVER)
    arrived: list[tuple[int, FrameType | None]] = []
    handlers = {}
    if threading.current_thread() is threading.main_thread():
        # A signal that another thread receives would still interrupt this one.
        handlers = {n: h for n in numbers if callable(h := signal.getsignal(n))}
        for number in handlers:
            signal.signal(number, lambda *received: arrived.append(received))
    try:
        with masked(numbers):
            yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if arrived:
            handlers[signal.Signals(arrived[0][0])](*arrived[0])


@contextlib.contextmanager
def deferred_signals() -> Iterator[None]:
    """Defer the signals with Python handlers, which may raise, to the end of the block."""
    handlers = {number: signal.getsignal(number) for number in _EVERY}
    with _held({number: handler for number, handler in handlers.items() if callable(handler)}):
        yield


def uninterrupted(imported: Callable[[str], Any]) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a package with signals deferred while it imports a name.

    C code of an import, that of Numba above all, puts an error of its own in an interrupt's place.
    """
    known: set[str] = set()

    def attribute(name: str) -> Any:
        if name in known:
            return imported(name)
        with deferred_signals():
            found = imported(name)
        known.add(name)
        return found

    return attribute


@contextlib.contextmanager
def deferred_stops() -> Iterator[None]:
    """Defer also the stop signals whose default effect ends the process."""
    stops = {number: signal.getsignal(number) for number in _numbers(SIGNALS)}
    # None means a handler of another language, which stays in place.
    defaults = {n: handler for n, handler in stops.items() if handler in _NOT_CALLED}
    with _held(defaults), deferred_signals():
        yield


@contextlib.contextmanager
def _held(handlers: dict[int, Any]) -> Iterator[None]:
    """Record signals inside the block, and call these handlers at its end."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[tuple[int, FrameType | None]] = []
    taken: dict[int, Any] = {}
    try:
        for number, handler in handlers.items():
            taken[number] = handler
            signal.signal(number, lambda *arrival: arrived.append(arrival))
        yield
    finally:
        try:
            _give_back(taken)
        finally:
            _deliver(arrived, handlers)


def _give_back(taken: dict[int, Any]) -> None:
    """Restore all handlers, even if a restored one raises meanwhile."""
    try:
        while taken:
            number, handler = next(iter(taken.items()))
            signal.signal(number, handler)
            del taken[number]
    except BaseException:
        _give_back(taken)
        raise


def _deliver(arrived: list[tuple[int, FrameType | None]], handlers: dict[int, Any]) -> None:
    """Call all handlers in the order of arrival, even if one raises."""
    try:
        while arrived:
            number, frame = arrived.pop(0)
            if callable(handlers[number]):
                # Not raised again: a listener by `signal.set_wakeup_fd` already has it.
                handlers[number](number, frame)
            else:
                signal.raise_signal(number)
    except BaseException:
        _deliver(arrived, handlers)
        raise


def _numbers(names: tuple[str, ...]) -> list[int]:
    return [getattr(signal, name) for name in names if hasattr(signal, name)]
