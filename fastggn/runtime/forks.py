"""Locks and threads in the child of a fork, which has the forking thread alone."""

from __future__ import annotations

import concurrent.futures.thread
import contextlib
import importlib._bootstrap as importing
import logging
import sys
import tempfile
import threading
import time
import weakref
from types import TracebackType
from typing import Any, Protocol

from fastggn.runtime.platform import at_fork

LIBRARIES = ("fastggn", "llvmlite", "numba", "numpy", "scipy")
# Their hooks take locks that an import may need. As these modules are imported here, the hooks are
# registered before those below, and run after them.
HOOKED = (concurrent.futures.thread, logging)
PATIENCE = 30.0  # seconds for an import that may itself wait for the forking thread


# The first call searches under a lock, which another thread could hold at a fork.
with contextlib.suppress(OSError):
    tempfile.gettempdir()


class Lock(Protocol):
    """A lock of `threading`, or another one with its two methods."""

    def acquire(self) -> object: ...  # noqa: D102

    def release(self) -> object: ...  # noqa: D102


def hold_over_forks(lock: Lock) -> None:
    """Let a fork wait for this lock, so that no thread that the child lacks holds it there."""
    # The hooks before a fork run in reverse order: the last lock registered is the first one taken.
    at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)


class LocalLock:
    """A reentrant lock that nobody holds in the child of a fork."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        _local.add(self)

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._lock.release()

    def renew(self) -> None:
        """Forget a holder that is another thread."""
        if self._lock.acquire(blocking=False):  # free, or held by this thread, which goes on
            self._lock.release()
        else:
            self._lock = threading.RLock()


_local: weakref.WeakSet[LocalLock] = weakref.WeakSet()


def _renew_locks() -> None:
    """Release the locks that threads of the parent hold."""
    for lock in list(_local):
        lock.renew()


def _foreign_locks() -> list[Lock]:
    """Return the locks of Numba, LLVM and threadpoolctl, as far as imported, in Numba's order."""
    found = [
        _attribute("numba.core.compiler_lock", "global_compiler_lock"),
        _attribute("llvmlite.binding.ffi", "lib._lock._lock"),
        _attribute("threadpoolctl", "OpenBLASController._SHARED_STATE.lock"),
    ]
    return [lock for lock in found if lock is not None]


def _attribute(module: str, path: str) -> Any:
    """Return what a path of attributes leads to, or None."""
    found: Any = sys.modules.get(module)
    for name in path.split("."):
        found = getattr(found, name, None)
    return found


_held: list[Lock] = []


def _hold_foreign() -> None:
    """Let a fork wait for the compiler, whose import another thread may just have begun."""
    for lock in _foreign_locks():
        lock.acquire()
        _held.append(lock)


def _release_foreign() -> None:
    """Let the compiler go on."""
    while _held:
        _held.pop().release()


def _imports(own: bool) -> list[str]:
    """Return the names of the modules that this thread, or that others are importing."""
    locks: dict[str, Any] = getattr(importing, "_module_locks", {})
    owners = {name: getattr(reference(), "owner", None) for name, reference in list(locks.items())}
    me = threading.get_ident()
    return [name for name, owner in owners.items() if owner and (owner == me) == own]


def _wait_for_imports() -> None:
    """Let a fork wait for imports of libraries whose locks the child could not know."""
    # On a busy machine or a slow disk they take minutes.
    end = time.monotonic() + (PATIENCE if _imports(own=True) else 5.0 * PATIENCE)
    while any(name.partition(".")[0] in LIBRARIES for name in _imports(own=False)):
        if time.monotonic() > end:
            return
        time.sleep(0.001)


def _forget_unfinished_imports() -> None:
    """Let the child import anew the modules that another thread had begun to import."""
    for name in _imports(own=False):
        importing._module_locks.pop(name, None)  # type: ignore[attr-defined]
        sys.modules.pop(name, None)


at_fork(before=_hold_foreign, after_in_parent=_release_foreign, after_in_child=_release_foreign)
at_fork(before=_wait_for_imports)  # registered later: runs earlier
at_fork(after_in_child=_renew_locks)
at_fork(after_in_child=_forget_unfinished_imports)
