"""The folders of this process's control groups (versions 1 and 2), which hold their limits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def group_folders(base: Path, controller: str) -> Iterator[tuple[int, Path]]:
    """Yield (version, folder) of each group with this controller and of its ancestors."""
    for line in read_text(base / "proc/self/cgroup").splitlines():
        # hierarchy:controllers:path; version 2 has the hierarchy 0 and no controllers
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        mounts: list[tuple[int, Path]] = []
        if controller in controllers.split(","):
            mounts = [(1, base / "sys/fs/cgroup" / controller)]
        elif hierarchy == "0" and not controllers:
            mounts = [(2, base / "sys/fs/cgroup"), (2, base / "sys/fs/cgroup/unified")]
        for version, mount in mounts:
            for folder in _ancestors(mount, path):
                yield version, folder


def _ancestors(mount: Path, path: str) -> Iterator[Path]:
    """Yield the folders of a group and of its ancestors."""
    # A container may show a path of the host, whose folders do not exist inside; the mount point is
    # then the container's own group.
    parts = [part for part in path.split("/") if part not in ("", ".", "..")]
    for count in range(len(parts), -1, -1):
        yield mount.joinpath(*parts[:count])


def read_text(path: Path) -> str:
    """Return the text of a file, or an empty string if it cannot be read."""
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
