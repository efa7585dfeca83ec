"""The memory that this process may still take, in pure Python.

A container or a batch job sees the memory of the complete machine in ``/proc/meminfo``; its control
groups (version 1 or 2) and their ancestors hold its own limit.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fastggn.runtime.cgroups import group_folders, read_text
from fastggn.runtime.platform import system_value

# The value without /proc and sysconf: any current machine has this memory.
FALLBACK_BYTES = 2 * 1024**3

# By version of the control groups: limit, usage, reclaimable entry of memory.stat.
FILES = {
    1: ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    2: ("memory.max", "memory.current", "inactive_file"),
}


def available_memory(root: str | Path = "/") -> int:
    """Return the bytes that can be allocated without swapping or being killed.

    The result is the least of the free memory of the machine and of the rest below the memory limit
    of every control group (version 1 or 2) of this process. Reclaimable page cache counts as free.

    Parameters
    ----------
    root : str or Path
        The folder of ``proc`` and ``sys``; tests use another one than "/".

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
        pages, size = system_value(name), system_value("SC_PAGE_SIZE")
        if pages is not None and size is not None:
            # If only the total is known, half of it counts as free.
            return pages * size // (1 if name == "SC_AVPHYS_PAGES" else 2)
    return FALLBACK_BYTES


def _group_rooms(base: Path) -> Iterator[int]:
    """Yield the rest below the limit of each control group, from the process to the root."""
    for version, folder in group_folders(base, "memory"):
        room = _room(folder, *FILES[version])
        if room is not None:
            yield room


def _room(folder: Path, limit_file: str, usage_file: str, reclaimable: str) -> int | None:
    try:
        limit = int(read_text(folder / limit_file))
        usage = int(read_text(folder / usage_file))
    except ValueError:
        # A missing file or "max" means no limit. (Version 1 writes a huge number instead.)
        return None
    cache = _entries(folder / "memory.stat").get(reclaimable, 0)
    return limit - usage + min(cache, usage)


def _entries(path: Path) -> dict[str, int]:
    """Return the entries of lines ``name: number [unit]`` or ``name number``."""
    entries = {}
    for line in read_text(path).splitlines():
        words = line.replace(":", " ").split()
        if len(words) >= 2 and words[1].isdigit():
            entries[words[0]] = int(words[1])
    return entries
