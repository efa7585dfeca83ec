"""All that differs by platform: what POSIX has and Windows has not, and its replacement.

The standard names are looked up once, by `getattr`, so that a type checker and a reader see the
same code on each platform.
"""

from __future__ import annotations

import _thread
import contextlib
import errno
import importlib
import mmap
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

# The signals of a terminal (Ctrl-C, and Ctrl-Break of Windows), of a scheduler at the time limit,
# and of `sbatch --signal=USR1`.
STOP_NAMES = ("SIGINT", "SIGBREAK", "SIGTERM", "SIGUSR1")
# The signal by which a program tells itself that its time is over. Windows has handlers for six
# signals only, of which this one is not used elsewhere.
TIME_OVER: signal.Signals = getattr(signal, "SIGXCPU", signal.SIGABRT)
# For `os.open`: bytes as they are; and no link followed at the end of a path.
BINARY: int = getattr(os, "O_BINARY", 0)
PLAIN_FLAGS: int = BINARY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
# The C function, with its arguments, by which a kernel lets other threads have its core: a sleep of
# 1 us, for after sched_yield Linux may pick the same thread again.
GIVE_WAY: tuple[Any, ...] = ("SwitchToThread",) if sys.platform == "win32" else ("usleep", 1)
WINDOWS: bool = sys.platform == "win32"
# By which Linux takes the pages of a map out of a process; elsewhere the name asks for less.
DONT_NEED: int | None = getattr(mmap, "MADV_DONTNEED", None) if sys.platform == "linux" else None
RENAMES = 20  # tries, over a second, where another program has the file open for a moment

_affinity: Any = getattr(os, "sched_getaffinity", None)
_register: Any = getattr(os, "register_at_fork", None)
_sysconf: Any = getattr(os, "sysconf", None)
_user: Any = getattr(os, "getuid", None)
_fchmod: Any = getattr(os, "fchmod", None)
_preadv: Any = getattr(os, "preadv", None)
_kill_thread: Any = getattr(signal, "pthread_kill", None)
_mask: Any = getattr(signal, "pthread_sigmask", None)
_block: Any = getattr(signal, "SIG_BLOCK", None)
_restore: Any = getattr(signal, "SIG_SETMASK", None)
give_way: Callable[[], object] = getattr(os, "sched_yield", lambda: time.sleep(0.0))
_position = threading.Lock()


def at_fork(**hooks: Callable[[], object]) -> None:
    """Call hooks (before, after_in_parent, after_in_child) at each fork, where there are forks."""
    if _register is not None:
        _register(**hooks)


def bound_cores() -> frozenset[int]:
    """Return the cores to which this process is bound, or an empty set if they are unknown."""
    return frozenset() if _affinity is None else frozenset(_affinity(0))


def system_value(name: str) -> int | None:
    """Return a value of `os.sysconf`, or None where it is not known or not positive."""
    try:
        value = -1 if _sysconf is None else int(_sysconf(name))
    except (OSError, ValueError):
        return None
    return value if value > 0 else None


def user_name() -> str:
    """Return the user's number, or on Windows the name."""
    return os.environ.get("USERNAME") or "user" if _user is None else str(_user())


def owned_by(found: os.stat_result, *others: int) -> bool:
    """Whether a file is this user's or one of `others`', and no other user can write to it."""
    if _user is None:  # the folder for temporary files and the profile are the user's alone
        return True
    return found.st_uid in (_user(), *others) and not found.st_mode & 0o022


def cache_home(environment: Mapping[str, str] = os.environ) -> str:
    """Return the user's cache folder, which may begin with "~" where nobody is logged in."""
    if sys.platform == "win32":
        return environment.get("LOCALAPPDATA") or os.path.expanduser("~")
    return environment.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")


def set_mode(descriptor: int, path: Path, mode: int) -> None:
    """Give an open file its permissions."""
    if _fchmod is not None:
        _fchmod(descriptor, mode)
    else:
        os.chmod(path, mode)


def rename(source: Path, target: Path) -> None:
    """Give a file a name, and replace the file of that name."""
    for again in range(RENAMES):
        try:
            os.replace(source, target)
            return
        except PermissionError:
            if sys.platform != "win32" or again == RENAMES - 1:
                raise
            time.sleep(0.05)


def sync_folder(folder: Path) -> None:
    """Let the names in a folder survive a crash, where a folder can be opened."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except PermissionError:
        if _fchmod is None:  # Windows, which keeps names itself
            return
        raise
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise  # some file systems cannot sync a folder: the write is still complete
    finally:
        os.close(descriptor)


def read_at(descriptor: int, buffer: memoryview, position: int) -> int:
    """Read bytes from a position of a file (thread-safe), and return their number."""
    if _preadv is not None:
        return int(_preadv(descriptor, [buffer], position))
    with _position:
        os.lseek(descriptor, position, os.SEEK_SET)
        found = os.read(descriptor, len(buffer))
    buffer[: len(found)] = found
    return len(found)


def rewrite(descriptor: int, content: bytes) -> None:
    """Replace the content of an open file."""
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, content)


def lock(descriptor: int) -> None:
    """Lock an open file until it is closed; BlockingIOError if another process has it.

    The error ENOSYS tells that the platform has no such locks.
    """
    with contextlib.suppress(ImportError):
        flock = importlib.import_module("fcntl")
        flock.flock(descriptor, flock.LOCK_EX | flock.LOCK_NB)
        return
    try:
        regions = importlib.import_module("msvcrt")
    except ImportError:
        raise OSError(errno.ENOSYS, "no locks of files") from None
    # Nobody can read a locked byte: this one is beyond the content.
    os.lseek(descriptor, 1 << 30, os.SEEK_SET)
    try:
        regions.locking(descriptor, regions.LK_NBLCK, 1)
    except PermissionError as error:
        raise BlockingIOError(errno.EWOULDBLOCK, "locked") from error


def lives(pid: int) -> bool:
    """Whether a process of this machine may be alive."""
    if sys.platform == "win32":  # where os.kill ends it
        import ctypes

        handle = ctypes.windll.kernel32.OpenProcess(0x1000, False, pid)  # to ask only
        ctypes.windll.kernel32.CloseHandle(handle)
        return bool(handle)
    if _user is None:
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # a process of another user
        return True
    return True


def signal_main_thread(number: int) -> None:
    """Let the main thread call the handler of a signal."""
    if _kill_thread is not None:
        _kill_thread(threading.main_thread().ident or 0, number)
    else:
        _thread.interrupt_main(signal.Signals(number))


@contextlib.contextmanager
def masked(numbers: tuple[int, ...]) -> Iterator[None]:
    """Keep signals from this thread and from processes started in the block, if possible."""
    if _mask is None:
        yield
        return
    before = _mask(_block, numbers)
    try:
        yield
    finally:
        _mask(_restore, before)
