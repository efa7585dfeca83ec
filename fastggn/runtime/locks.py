"""A lock beside a file, for one writer, which ends with its process.

The kernel holds the lock (``flock``) and releases it when the process ends in any way, so that the
file of a killed job locks nobody out. On a file system without such locks the name of the holder in
the file decides.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import socket
import time
import weakref
from pathlib import Path
from typing import Any

from fastggn.runtime.platform import PLAIN_FLAGS, WINDOWS, at_fork, lives, lock, read_at, rewrite
from fastggn.runtime.signals import deferred_signals

# The errors of a file system without locks, or without its lock server.
WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL)
# The job numbers of schedulers: each job of an array has its own; a requeued job keeps it.
JOB_VARIABLES = ("SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID")


class LockedError(ValueError):
    """Another live process holds the lock."""


_held: weakref.WeakSet[FileLock] = weakref.WeakSet()


class FileLock:
    """The lock of a file in ``.NAME.fastggn-lock`` beside it, held after `acquire`."""

    def __init__(self, path: Path) -> None:
        self._guarded = path
        self.path = path.with_name(f".{path.name}.fastggn-lock")
        self._descriptor: int | None = None

    @deferred_signals()
    def acquire(self) -> None:
        """Take the lock, unless this object already holds it."""
        while self._descriptor is None:
            descriptor = self._open()
            try:
                if self._take(descriptor):
                    self._descriptor = descriptor
                    _held.add(self)
            finally:
                if self._descriptor is None:
                    os.close(descriptor)

    @deferred_signals()
    def release(self) -> None:
        """Release the lock, and remove its file."""
        if self._descriptor is None:
            return
        # Remove the file first: after the release the name may belong to another process.
        with contextlib.suppress(OSError):
            if os.fstat(self._descriptor).st_ino == os.stat(self.path).st_ino:
                os.unlink(self.path)
        os.close(self._descriptor)
        self._descriptor = None
        if WINDOWS:  # which removes no open file, neither ours nor another's
            with contextlib.suppress(OSError):
                os.unlink(self.path)

    def forget(self) -> None:
        """Leave the lock to the parent, in the child of a fork."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _open(self) -> int:
        """Open the lock file; a link is not followed, for it could lead to a file of others."""
        try:
            return os.open(self.path, os.O_RDWR | os.O_CREAT | PLAIN_FLAGS, 0o666)
        except OSError as error:
            if error.errno != errno.ELOOP:
                raise
            raise LockedError(
                f"{self.path} is a link: remove it, it is no lock of fastggn"
            ) from None

    def _take(self, descriptor: int) -> bool:
        """Lock an open file, and return whether the name still belongs to this file."""
        holder = _read(descriptor)
        try:
            lock(descriptor)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise self._refusal(holder) from None
            if error.errno not in WITHOUT_LOCKS:
                raise
            if _may_live(holder):
                raise self._refusal(
                    holder, f"; if it is gone, remove {self.path.name}: no locks work there"
                ) from None
        try:
            if os.fstat(descriptor).st_ino != os.stat(self.path).st_ino:
                return False
        except FileNotFoundError:  # the holder has just removed the file
            return False
        # The text only informs others, or serves file systems without locks: ignore a full disk.
        with contextlib.suppress(OSError):
            rewrite(descriptor, json.dumps(_this_process()).encode())
        return True

    def _refusal(self, holder: dict[str, Any], hint: str = "") -> LockedError:
        who = f"process {holder.get('pid', 'unknown')} on {holder.get('host', 'an unknown host')}"
        if holder.get("job"):
            who += f", job {holder['job']}"
        if holder.get("since"):
            who += f", since {holder['since']}"
        return LockedError(
            f"{self._guarded} is in use by another run ({who}): wait for its end, or choose "
            f"another file{hint}"
        )


def _leave_to_parent() -> None:
    """Release nothing, and keep nothing after the end of the parent."""
    for held in list(_held):
        held.forget()


at_fork(after_in_child=_leave_to_parent)


def _this_process() -> dict[str, Any]:
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "job": _job(),
        "since": time.strftime("%Y-%m-%d %H:%M:%S"),
    }


def _job() -> str:
    return next((os.environ[name] for name in JOB_VARIABLES if os.environ.get(name)), "")


def _read(descriptor: int) -> dict[str, Any]:
    """Return the holder in a lock file, or an empty one for an empty or damaged file."""
    try:
        content = bytearray(4096)
        found = json.loads(content[: read_at(descriptor, memoryview(content), 0)])
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _may_live(holder: dict[str, Any]) -> bool:
    """Whether the named process may be alive, on a file system without locks."""
    # A requeued job has the number of its earlier part, which has ended.
    pid = holder.get("pid")
    if not isinstance(pid, int) or (holder.get("job") and holder["job"] == _job()):
        return False
    if holder.get("host") != socket.gethostname():
        return True
    return lives(pid)
