"""The number of cores that this process may use, in pure Python.

A container or a batch job sees all cores of the machine. Its CPU affinity, the quota of its control
groups, and the variables of the scheduler limit their use.
"""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from fastggn.runtime.cgroups import group_folders, read_text

# Seconds between two readings: the system counts the idle time in steps of 0.01 s.
_PERIOD = 0.1
# Busy cores to ignore: the error of these steps, and the work of the system.
_UNNOTICED = 0.3


def available_cores(root: str | Path = "/", environment: Mapping[str, str] | None = None) -> int:
    """Return the least of the bound cores, the CPU quotas (rounded up) and SLURM_CPUS_PER_TASK."""
    variables = os.environ if environment is None else environment
    counts = [_bound(), *_quotas(Path(root))]
    asked = variables.get("SLURM_CPUS_PER_TASK", "")
    if asked.isdigit():
        counts.append(int(asked))
    return max(1, min(counts))


def limit_numba() -> None:
    """Limit Numba's threads to the available cores, unless the user has set their number."""
    # Numba itself looks only at the affinity. It reads NUMBA_NUM_THREADS at its import, so this
    # function must come first.
    if "NUMBA_NUM_THREADS" in os.environ or "numba" in sys.modules:
        return
    count = available_cores()
    if count < _bound():
        os.environ["NUMBA_NUM_THREADS"] = str(count)


def _bound() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas(base: Path) -> Iterator[int]:
    for version, folder in group_folders(base, "cpu"):
        if version == 2:
            words = read_text(folder / "cpu.max").split()
        else:
            files = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            words = [read_text(folder / file).strip() for file in files]
        # "max", or -1 in version 1, is no limit.
        if len(words) == 2 and all(word.isdigit() and int(word) > 0 for word in words):
            yield math.ceil(int(words[0]) / int(words[1]))


class Reading(NamedTuple):
    """Seconds of the clock, idle seconds of the cores, seconds of this process; and the cores."""

    clock: float
    idle: float
    own: float
    cores: int


def read_processors(root: str | Path = "/") -> Reading | None:
    """Return the use of the cores of this process, or None if the system does not show it."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    bound = {f"cpu{core}" for core in os.sched_getaffinity(0)}
    lines = [line.split() for line in read_text(Path(root, "proc/stat")).splitlines()]
    # Columns: user, nice, system, idle, waiting for a disk.
    idle = [int(line[4]) + int(line[5]) for line in lines if line and line[0] in bound]
    if not any(idle):  # some containers show only zeros
        return None
    seconds = sum(idle) / os.sysconf("SC_CLK_TCK")
    return Reading(time.monotonic(), seconds, time.process_time(), len(idle))


class FreeCores:
    """The cores that other programs left to this process a moment ago.

    A core that was neither idle nor at work for this process was busy with another program.
    """

    def __init__(
        self,
        read: Callable[[], Reading | None] = read_processors,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._clock = clock
        self._before = read()
        self._next = clock() + _PERIOD
        self._count = sys.maxsize

    def count(self) -> int:
        """Return the number of free cores, at least 1, or a huge number if it is unknown."""
        # No lock is needed: two simultaneous threads measure the same.
        now = self._clock()
        if now >= self._next:
            self._next = now + _PERIOD
            before, self._before = self._before, self._read()
            if before is not None and self._before is not None:
                self._count = self._between(before, self._before)
        return self._count

    def _between(self, before: Reading, after: Reading) -> int:
        seconds = after.clock - before.clock
        used = after.idle - before.idle + after.own - before.own
        others = after.cores - used / seconds
        # Rounded up, because programs that share cores with our workers get less than they want.
        return max(1, after.cores - max(0, math.ceil(others - _UNNOTICED)))
