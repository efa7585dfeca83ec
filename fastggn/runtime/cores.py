"""How many cores this process may use, in pure Python.

A container or a batch job sees all cores of the machine; what it may use stands in its CPU
affinity, in the quota of its control groups, and in the scheduler's variables.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from fastggn.runtime.cgroups import group_folders, read_text


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
