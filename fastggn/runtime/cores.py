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
from fastggn.runtime.platform import bound_cores, system_value

# Seconds between two readings: the system counts the idle time in steps of 0.01 s.
_PERIOD = 0.1
# Busy cores to ignore: the error of these steps, and the work of the system.
_UNNOTICED = 0.3


def available_cores(root: str | Path = "/", environment: Mapping[str, str] | None = None) -> int:
    """Return the least of the bound cores, the CPU quotas (rounded up) and SLURM_CPUS_PER_TASK."""
    variables = os.environ if environment is None else environment
    counts = [_bound(), *(math.ceil(budget.cores) for budget in _budgets(Path(root)))]
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
    return len(bound_cores()) or os.cpu_count() or 1


class Budget(NamedTuple):
    """The CPU quota of a control group, in cores, and the seconds that all its programs used."""

    cores: float
    used: float | None


def _budgets(base: Path) -> Iterator[Budget]:
    for version, folder in group_folders(base, "cpu"):
        if version == 2:
            words = read_text(folder / "cpu.max").split()
        else:
            files = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
            words = [read_text(folder / file).strip() for file in files]
        # "max", or -1 in version 1, is no limit.
        if len(words) == 2 and all(word.isdigit() and int(word) > 0 for word in words):
            yield Budget(int(words[0]) / int(words[1]), _used(version, folder))


def _used(version: int, folder: Path) -> float | None:
    """Return the seconds that a control group has used, or None if it does not show them."""
    if version == 2:
        lines = (line.split() for line in read_text(folder / "cpu.stat").splitlines())
        text, unit = next((line[1] for line in lines if line[:1] == ["usage_usec"]), ""), 1e-6
    else:  # where both controllers share a folder, as is usual
        text, unit = read_text(folder / "cpuacct.usage").strip(), 1e-9
    return int(text) * unit if text.isdigit() else None


class Reading(NamedTuple):
    """Seconds of the clock, idle seconds of the cores, seconds of this process; and the cores.

    The idle seconds are None if the system does not show them.
    """

    clock: float
    idle: float | None
    own: float
    cores: int
    budgets: tuple[Budget, ...] = ()


def read_processors(root: str | Path = "/") -> Reading | None:
    """Return the use of the cores of this process, or None if the system shows nothing of it."""
    budgets = tuple(_budgets(Path(root)))
    idle = _idle(root)
    if idle is None and not budgets:
        return None
    return Reading(time.monotonic(), idle, time.process_time(), _bound(), budgets)


def _idle(root: str | Path) -> float | None:
    bound = {f"cpu{core}" for core in bound_cores()}
    lines = [line.split() for line in read_text(Path(root, "proc/stat")).splitlines()]
    # Columns: user, nice, system, idle, waiting for a disk.
    idle = [int(line[4]) + int(line[5]) for line in lines if line and line[0] in bound]
    # Some containers show only zeros, or not all cores.
    ticks = system_value("SC_CLK_TCK")
    return sum(idle) / ticks if ticks and any(idle) and len(idle) == len(bound) else None


class FreeCores:
    """The cores that other programs left to this process a moment ago.

    A core that was neither idle nor at work for this process was busy with another program, and so
    was the time of a CPU quota that this process did not use.
    """

    def __init__(
        self,
        read: Callable[[], Reading | None] = read_processors,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._read = read
        self._clock = clock
        self.restart()

    def restart(self) -> None:
        """Forget the earlier readings, which in the child of a fork are those of its parent."""
        self._before = self._read()
        self._next = self._clock() + _PERIOD
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
        seconds, own = after.clock - before.clock, after.own - before.own
        free = after.cores
        if before.idle is not None and after.idle is not None:
            free -= _taken(after.cores - (after.idle - before.idle + own) / seconds)
        for old, new in zip(before.budgets, after.budgets, strict=False):
            others = 0.0
            if old.used is not None and new.used is not None:
                others = (new.used - old.used - own) / seconds
            free = min(free, math.ceil(new.cores - _UNNOTICED) - _taken(others))
        return max(1, free)


def _taken(others: float) -> int:
    """Return the cores to leave to programs that used so many."""
    # Rounded up, because programs that share cores with our workers get less than they want.
    return max(0, math.ceil(others - _UNNOTICED))
