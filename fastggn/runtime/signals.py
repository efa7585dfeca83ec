"""Signals that ask a run to stop: noted by a flag, and held off while a file is written."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any

# What a terminal, a scheduler at the time limit, and `sbatch --signal=USR1` send.
SIGNALS = ("SIGINT", "SIGTERM", "SIGUSR1")
_EVERY = tuple(sorted(signal.valid_signals()))
_NOT_CALLED = (signal.SIG_DFL, signal.SIG_IGN)


class StopSignals:
    """Lets the first signal stop a run after the iteration under way, the second at once.

    Used as a callback of `train`: it returns True once a signal has come. The handler only sets
    a flag; at the second signal it raises `KeyboardInterrupt`. Only the main thread can take
    over signals; elsewhere this does nothing.
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
        """Return whether the run should stop."""
        return self.signal is not None

    def __enter__(self) -> StopSignals:
        """Take over the signals."""
        if threading.current_thread() is threading.main_thread():
            for number in _numbers(self._names):
                if not self._unclaimed or signal.getsignal(number) is signal.SIG_DFL:
                    self._previous[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give the signals back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def hold(self) -> None:
        """Let no further signal interrupt: the last file is being written."""
        self._saving = True

    def release(self) -> None:
        """Let every signal raise `KeyboardInterrupt` from here on: all is saved."""
        self._saving, self.signal = False, self.signal or ""

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._saving:
            return
        if self.signal is not None:  # also after `release`
            raise KeyboardInterrupt
        self.signal = signal.Signals(number).name
        if self._announce is not None:
            self._announce(self.signal)


def ignore_signals() -> None:
    """Let the stop signals have no effect any more: the process ends with the code it has."""
    if threading.current_thread() is threading.main_thread():
        for number in _numbers(SIGNALS):
            signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def deferred_signals() -> Iterator[None]:
    """Hold off, inside the block, the signals that functions of Python handle: these may raise.

    Their handlers run at the end of the block. Only the main thread has any.
    """
    handlers = {number: signal.getsignal(number) for number in _EVERY}
    with _held({number: handler for number, handler in handlers.items() if callable(handler)}):
        yield


@contextlib.contextmanager
def deferred_stops() -> Iterator[None]:
    """Hold off the stop signals too that have their default effect, which is to end the process."""
    stops = {number: signal.getsignal(number) for number in _numbers(SIGNALS)}
    # None: of another language, not ours to replace
    defaults = {n: handler for n, handler in stops.items() if handler in _NOT_CALLED}
    with _held(defaults), deferred_signals():
        yield


@contextlib.contextmanager
def _held(handlers: dict[int, Any]) -> Iterator[None]:
    """Note signals inside the block, and hand them to these handlers at its end."""
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
    """Install all handlers again, also when one that is back already raises meanwhile."""
    try:
        while taken:
            number, handler = next(iter(taken.items()))
            signal.signal(number, handler)
            del taken[number]
    except BaseException:
        _give_back(taken)
        raise


def _deliver(arrived: list[tuple[int, FrameType | None]], handlers: dict[int, Any]) -> None:
    """Call the handlers in the order of arrival, all of them, also when one raises."""
    try:
        while arrived:
            number, frame = arrived.pop(0)
            if callable(handlers[number]):
                # Not raised anew: who listens by `signal.set_wakeup_fd` has heard it already.
                handlers[number](number, frame)
            else:
                signal.raise_signal(number)
    except BaseException:
        _deliver(arrived, handlers)
        raise


def _numbers(names: tuple[str, ...]) -> list[int]:
    return [getattr(signal, name) for name in names if hasattr(signal, name)]
