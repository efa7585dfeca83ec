"""Where the limits of this process's control groups stand, of version 1 and 2."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def group_folders(base: Path, controller: str) -> Iterator[tuple[int, Path]]:
    """Yield (version, folder) of each group with this controller, and of all those around it."""
    for line in read_text(base / "proc/self/cgroup").splitlines():
        # hierarchy:controllers:path, where version 2 has the hierarchy 0 and no controllers
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
    """Yield the folders of a group and of all those around it.

    In a container the path may be the host's, which is not to be seen inside: its folders then
    do not exist, and the mount point is the container's own group.
    """
    parts = [part for part in path.split("/") if part not in ("", ".", "..")]
    for count in range(len(parts), -1, -1):
        yield mount.joinpath(*parts[:count])


def read_text(path: Path) -> str:
    """Return the text of a file, nothing where it cannot be read."""
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""
