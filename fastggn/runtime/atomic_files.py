"""Atomic writes: a crash at any moment leaves the old file or the complete new file."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, TypeAlias

from fastggn.runtime.platform import at_fork, rename, set_mode, sync_folder

PathLike: TypeAlias = str | os.PathLike[str]

BLOCK = 1 << 20
LEFTOVER_AGE = 900.0  # seconds without a write after which a temporary file is abandoned

_open_files: set[Path] = set()
at_fork(after_in_child=_open_files.clear)  # those of the parent


def write_atomically(
    path: PathLike, write: Callable[[BinaryIO], None], keep: PathLike | None = None
) -> None:
    """Write a file atomically, after the old file gets the name `keep` if given."""
    # Between the two renames the old content exists only under the name `keep`.
    target = _target(path)
    with _naming(target), _beside(target) as (stream, temporary):
        _keep_mode(stream, temporary, target)  # before there is anything to read
        write(stream)
        stream.flush()
        os.fsync(stream.fileno())
        if keep is not None:
            with contextlib.suppress(FileNotFoundError):
                rename(target, target.with_name(Path(keep).name))
        rename(temporary, target)
        sync_folder(target.parent)


def check_writable(path: PathLike, n_bytes: int = 0) -> None:
    """Check that `n_bytes` bytes can be written to `path`, by a trial file beside it."""
    target = _target(path)
    with _naming(target), _beside(target) as (stream, _):
        block = bytes(min(n_bytes, BLOCK))
        for start in range(0, n_bytes, BLOCK):
            stream.write(block[: n_bytes - start])
        stream.flush()


def remove_leftovers(path: PathLike) -> None:
    """Remove the temporary files of killed writers of `path`."""
    # A recent file can belong to an active writer, on this machine or another, and stays.
    target = Path(os.path.realpath(path))
    pattern = re.compile(re.escape(f".{target.name[:100]}.") + r"\d+\.[0-9a-f]{12}\.tmp")
    for name in os.listdir(target.parent):
        if pattern.fullmatch(name):
            file = target.with_name(name)
            with contextlib.suppress(OSError):
                if time.time() - file.stat().st_mtime > LEFTOVER_AGE:
                    file.unlink()


def _target(path: PathLike) -> Path:
    target = Path(os.path.realpath(path))
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return target
    if not stat.S_ISREG(mode):
        what = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
        raise ValueError(f"cannot write {path}: it is {what}")
    if not mode & 0o222:
        raise PermissionError(errno.EACCES, "the file is read-only", str(target))
    return target


def _keep_mode(stream: BinaryIO, temporary: Path, target: Path) -> None:
    """Give a new file the permissions of the file that it replaces."""
    with contextlib.suppress(FileNotFoundError):
        set_mode(stream.fileno(), temporary, stat.S_IMODE(target.stat().st_mode))


@contextlib.contextmanager
def _beside(target: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """Open a new file with a unique name in the folder of `target`, and remove it at the end."""
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "the folder does not exist", str(target.parent))
    temporary = _temporary(target)
    _open_files.add(temporary)  # first: an interrupt may follow the creation at once
    try:
        with open(temporary, "x+b") as stream:
            yield stream, temporary
    finally:
        try:
            _discard(temporary)
        except BaseException:
            _discard(temporary)
            raise


def _discard(temporary: Path) -> None:
    """Remove a file, if it is there; after a rename it is not."""
    with contextlib.suppress(OSError):
        os.unlink(temporary)
    _open_files.discard(temporary)


def discard_open_files() -> None:
    """Remove the unfinished files of this process, which is about to end at once."""
    for temporary in list(_open_files):
        _discard(temporary)


def _temporary(target: Path) -> Path:
    return target.with_name(f".{target.name[:100]}.{os.getpid()}.{secrets.token_hex(6)}.tmp")


@contextlib.contextmanager
def _naming(target: Path) -> Iterator[None]:
    """Replace the temporary file by the requested file in operating system errors."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        name = error.filename if error.errno == errno.ENOENT else str(target)
        raise OSError(error.errno, error.strerror, name) from None
