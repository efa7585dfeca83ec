"""How many cores this process may use, in pure Python.

A container or a batch job sees all cores of the machine; what it may use stands in its CPU
affinity, in the quota of its control groups, and in the scheduler's variables.
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

# Seconds between two readings: the idle time of a core is shown in steps of 0.01 s.
_PERIOD = 0.1
# Cores that other programs may keep busy unnoticed: the steps above, and the system's own work.
_UNNOTICED = 0.3


def available_cores(root: str | Path = "/", environment: Mapping[str, str] | None = None) -> int:
    """Return the number of threads that can run at the same time.

    The smallest of the cores that the process is bound to (or the machine has), the CPU quota
    of every control group (version 1 or 2) that it is in, rounded up, and the variable
    SLURM_CPUS_PER_TASK.
    """
    variables = os.environ if environment is None else environment
    counts = [_bound(), *_quotas(Path(root))]
    asked = variables.get("SLURM_CPUS_PER_TASK", "")
    if asked.isdigit():
        counts.append(int(asked))
    return max(1, min(counts))


def limit_numba() -> None:
    """Let Numba start no more threads than the process may use, if that is not settled yet.

    Numba itself looks at the affinity only. It reads the variable NUMBA_NUM_THREADS when it is
    imported, so that this must come first; where the variable is set, or Numba is there already,
    nothing is changed.
    """
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
    """Times in seconds: of the clock, unused by the cores, used by this process; and the cores."""

    clock: float
    idle: float
    own: float
    cores: int


def read_processors(root: str | Path = "/") -> Reading | None:
    """Return how busy the cores of this process have been; None where the system does not tell."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    bound = {f"cpu{core}" for core in os.sched_getaffinity(0)}
    lines = [line.split() for line in read_text(Path(root, "proc/stat")).splitlines()]
    # Columns: user, nice, system, idle, waiting for a disk.
    idle = [int(line[4]) + int(line[5]) for line in lines if line and line[0] in bound]
    if not any(idle):  # some containers show zeros
        return None
    seconds = sum(idle) / os.sysconf("SC_CLK_TCK")
    return Reading(time.monotonic(), seconds, time.process_time(), len(idle))


class FreeCores:
    """The cores that other programs leave to this process, as it was a moment ago.

    A core was busy with another program when it was neither idle nor at work for this process.
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
        """Return the number of free cores, at least 1; a huge one where nothing is known."""
        # Without a lock: two threads that come at once measure the same.
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
        # Rounded up: programs that share cores with our workers get less than they want.
        return max(1, after.cores - max(0, math.ceil(others - _UNNOTICED)))
