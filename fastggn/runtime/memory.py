"""How much memory this process may still take, in pure Python.

A container or a batch job sees the memory of the whole machine in ``/proc/meminfo``; its own
limit stands in the control groups, of version 1 or 2, its own or an ancestor's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from fastggn.runtime.cgroups import group_folders, read_text

# Where nothing can be found out (no /proc, no sysconf): what any current machine has.
FALLBACK_BYTES = 2 * 1024**3

# By version of the groups: limit, usage, reclaimable entry of memory.stat.
FILES = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: ("memory.max", "memory.current", "inactive_file"),
}


def available_memory(root: str | Path = "/") -> int:
    """Return the bytes that can be allocated without swapping or being killed.

    The smallest of what the machine has free and what is left below the memory limit of every
    control group (version 1 or 2) that this process is in; page cache that the kernel would
    give back counts as free.

    Parameters
    ----------
    root : str or Path
        Where ``proc`` and ``sys`` are found; another than "/" serves tests.

    Returns
    -------
    int
        Bytes, at least 0.
    """
    base = Path(root)
    left = [_machine(base)]
    left.extend(_group_rooms(base))
    return max(0, min(left))


def _machine(base: Path) -> int:
    entries = _entries(base / "proc/meminfo")
    if "MemAvailable" in entries:
        return entries["MemAvailable"] * 1024
    if "MemFree" in entries:
        cached = entries.get("Cached", 0) + entries.get("Buffers", 0)
        return (entries["MemFree"] + cached) * 1024
    for name in ("SC_AVPHYS_PAGES", "SC_PHYS_PAGES"):
        try:
            pages = os.sysconf(name)
            size = os.sysconf("SC_PAGE_SIZE")
        except (AttributeError, OSError, ValueError):
            continue
        if pages > 0 and size > 0:
            # Of the total, where only that is known, half is taken as free.
            return pages * size // (1 if name == "SC_AVPHYS_PAGES" else 2)
    return FALLBACK_BYTES


def _group_rooms(base: Path) -> Iterator[int]:
    """Yield what is left below the limit of each group, from the process's own to the root."""
    for version, folder in group_folders(base, "memory"):
        room = _room(folder, *FILES[version])
        if room is not None:
            yield room


def _room(folder: Path, limit_file: str, usage_file: str, reclaimable: str) -> int | None:
    try:
        limit = int(read_text(folder / limit_file))
        usage = int(read_text(folder / usage_file))
    except ValueError:
        # No such file, or "max": no limit here. (Version 1 writes a huge number instead.)
        return None
    cache = _entries(folder / "memory.stat").get(reclaimable, 0)
    return limit - usage + min(cache, usage)


def _entries(path: Path) -> dict[str, int]:
    """Read lines of ``name: number [unit]`` or ``name number``."""
    entries = {}
    for line in read_text(path).splitlines():
        words = line.replace(":", " ").split()
        if len(words) >= 2 and words[1].isdigit():
            entries[words[0]] = int(words[1])
    return entries
