"""The vocabulary of the benchmarks: two sides that are timed in turns, a row, its outcome."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import fastggn as fg

__all__ = ["Absent", "Outcome", "Pair", "Row", "Side", "Timing", "compete", "relative_difference"]

SMOKE, FULL = "smoke", "full"
# Idle workers spin, on the cores that the next side needs: those of OpenBLAS for 105 ms after a
# call (`time.process_time` over a sleep shows it), those of libgomp for some ms.
PAUSE = 0.15
# A turn of short calls lasts this long, after one call that wakes its pool.
TURN = 0.04
MAX_CALLS = 20


class Absent(Exception):
    """A row that cannot be measured here; the message says what is missing."""


@dataclass(frozen=True)
class Timing:
    """Seconds a call, from the calls of all rounds."""

    label: str
    median: float
    minimum: float
    calls: int


@dataclass(frozen=True)
class Side:
    """What one of two competitors does.

    `call` gets what `setup` returned (if there is a setup), which is not timed. `threads` is the
    number of fastggn's threads; None for a peer, which runs outside of fastggn's pool.
    `scale` multiplies the seconds: calls that do a share or a multiple of the work compared.
    Sides of many seconds may do without a call to warm up, and with few calls.
    """

    label: str
    call: Callable[..., Any]
    setup: Callable[[], Any] | None = None
    threads: int | None = None
    scale: float = 1.0
    max_calls: int | None = None
    warm: bool = True

    def seconds(self) -> float:
        """Do it once, and return the seconds it took."""
        arguments = () if self.setup is None else (self.setup(),)
        start = time.perf_counter()
        self.call(*arguments)
        return time.perf_counter() - start

    def result(self) -> Any:
        """Do it once, and return what came out."""
        arguments = () if self.setup is None else (self.setup(),)
        if self.threads is None:
            return self.call(*arguments)
        with fg.threads(self.threads):
            return self.call(*arguments)

    def turn(self, calls: int) -> list[float]:
        """Return the seconds of `calls` calls in a row, by this side's threads."""
        time.sleep(PAUSE)
        if self.threads is None:
            return self._calls(calls)
        with fg.threads(self.threads):
            return self._calls(calls)

    def _calls(self, calls: int) -> list[float]:
        if calls > 1:
            self.seconds()
        return [self.seconds() for _ in range(calls)]


@dataclass(frozen=True)
class Pair:
    """Two sides that compute the same, and the test that they do.

    `difference` is the largest relative difference between their results, `tolerance` what
    rounding explains. `rate` is the work of one call of the peer in floating-point operations.
    """

    ours: Side
    peer: Side
    difference: Callable[[], float]
    tolerance: float
    rounds: int = 5
    flops: float = 0.0
    note: str = ""


@dataclass(frozen=True)
class Outcome:
    """What a row measured: its figure, the two timings behind it, and what to say of it.

    `others` is how many cores other processes kept busy meanwhile.
    """

    value: float | None
    ours: Timing | None = None
    peer: Timing | None = None
    note: str = ""
    failed: bool = False
    others: float | None = None


@dataclass(frozen=True)
class Row:
    """A row of the target table.

    `build` makes the pair of a size ("smoke" or "full"); rows that compare no two calls have
    `measure` instead, which returns the outcome. `sense` is ">=" or "<=", empty for figures
    without a target. `unit` is "x", "s", "MB" or "%".
    """

    key: str
    title: str
    sense: str = ""
    target: float | None = None
    unit: str = "x"
    build: Callable[[str], Pair] | None = None
    measure: Callable[[str], Outcome] | None = None

    def run(self, size: str) -> Outcome:
        """Measure the row; one that cannot be measured here has no value, and a reason."""
        try:
            if self.measure is not None:
                return self.measure(size)
            assert self.build is not None
            return compete(self.build(size), 1 if size == SMOKE else None)
        except Absent as reason:
            return Outcome(None, note=f"not available: {reason}")
        except Exception as error:  # the other rows of a long run are not lost
            return Outcome(None, note=f"failed: {type(error).__name__}: {error}", failed=True)

    def met(self, value: float | None) -> bool | None:
        """Whether the value meets the target; None where there is nothing to compare."""
        if value is None or self.target is None:
            return None
        return value >= self.target if self.sense == ">=" else value <= self.target


def compete(pair: Pair, rounds: int | None = None) -> Outcome:
    """Time the two sides in turns, after warming both up; the ratio is of the medians."""
    sides = (pair.ours, pair.peer)
    calls = [_calls_a_turn(side) for side in sides]
    samples: tuple[list[float], list[float]] = ([], [])
    for _ in range(rounds or pair.rounds):
        for side, count, taken in zip(sides, calls, samples, strict=True):
            if side.max_calls is None or len(taken) < side.max_calls:
                taken += side.turn(count)
    ours, peer = (_timing(s, t) for s, t in zip(sides, samples, strict=True))
    note = pair.note
    if pair.flops:
        rate = pair.flops / peer.median / 1e9
        note = f"{note}; " if note else ""
        note += f"{peer.label} at {rate:.0f} GFLOP/s"
    return Outcome(peer.median / ours.median, ours, peer, note)


def _calls_a_turn(side: Side) -> int:
    """Warm a side up, and return how many calls make a turn."""
    if not side.warm:
        return 1
    (seconds,) = side.turn(1)
    if seconds > TURN:
        (seconds,) = side.turn(1) if seconds < 1.0 else (seconds,)
    else:
        seconds = min(side.turn(2))
    return int(min(max(TURN / max(seconds, 1e-9), 1), MAX_CALLS))


def _timing(side: Side, samples: list[float]) -> Timing:
    scaled = [side.scale * s for s in samples]
    return Timing(side.label, statistics.median(scaled), min(scaled), len(scaled))


def relative_difference(a: Any, b: Any) -> float:
    """Return max |a - b| / max |b|."""
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    return float(np.max(np.abs(a - b)) / np.max(np.abs(b)))
