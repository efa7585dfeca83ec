"""Signals that ask a run to stop: noted by a flag, and held off while a file is written."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import Any

__all__ = ["SIGNALS", "StopSignals", "deferred_signals", "ignore_signals"]

# What a terminal, a scheduler at the time limit, and `sbatch --signal=USR1` send.
SIGNALS = ("SIGINT", "SIGTERM", "SIGUSR1")
_EVERY = tuple(sorted(signal.valid_signals()))


class StopSignals:
    """Lets the first signal stop a run after the iteration under way, the second at once.

    Used as a callback of `train`: it returns True once a signal has come. The handler only sets
    a flag; at the second signal it raises `KeyboardInterrupt`. Only the main thread can take
    over signals; elsewhere this does nothing.

    Parameters
    ----------
    names : tuple of str
        The signals, by name.
    announce : callable, optional
        Called inside the handler with the name of the first signal.
    unclaimed : bool
        Leave those alone that have a handler already.
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
    """Hold signals off inside the block; their handlers run at its end.

    The stop signals, and every other one that a function of Python handles: that may raise.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    arrived: list[tuple[int, FrameType | None]] = []
    previous: dict[int, Any] = {}
    stops: set[int] = set(_numbers(SIGNALS))
    try:
        for number in _EVERY:
            handler = signal.getsignal(number)
            # None: of another language, not ours to replace
            if callable(handler) or (number in stops and handler is not None):
                previous[number] = handler
                signal.signal(number, lambda *arrival: arrived.append(arrival))
        yield
    finally:
        handlers = dict(previous)
        _restore(previous)
        for came, frame in arrived:
            # Called, not raised anew: who listens by `signal.set_wakeup_fd` has heard it already.
            if callable(handlers[came]):
                handlers[came](came, frame)
            else:
                signal.raise_signal(came)


def _restore(previous: dict[int, Any]) -> None:
    """Give all signals back, also when a handler that is back already raises meanwhile."""
    try:
        while previous:
            number, handler = next(iter(previous.items()))
            signal.signal(number, handler)
            del previous[number]
    except BaseException:
        _restore(previous)
        raise


def _numbers(names: tuple[str, ...]) -> list[int]:
    return [getattr(signal, name) for name in names if hasattr(signal, name)]
