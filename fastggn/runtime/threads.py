"""One limit of threads for the compiled kernels and for BLAS.

The only pool is Numba's. BLAS uses one thread, inside Numba's workers and outside: two alternating
pools would spin on the same cores (see ``docs/decisions``).
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import llvmlite.binding as llvm
import numba
import numba.np.ufunc.parallel as numba_threads

# SciPy's BLAS, which the kernels call, must be loaded before the list of the libraries.
import scipy.linalg.cython_blas  # noqa: F401
import threadpoolctl

from fastggn.runtime.cores import FreeCores
from fastggn.runtime.errors import FastGGNWarning
from fastggn.runtime.forks import LocalLock, hold_over_forks
from fastggn.runtime.platform import at_fork

# Below so many operations, about 40 microseconds, a pass runs on the calling thread: waking the
# workers takes as long, and on a shared machine a barrier can take a time slice.
_WORTH_SHARING = 4e6
_LAYERS_WITH_TBB = ("tbb", "safe", "threadsafe", "forksafe")

P = ParamSpec("P")
R = TypeVar("R")


class Layer:
    """Numba's threading layer, as kernels see it."""

    def __init__(self) -> None:
        # Holds the address of the function that runs a loop on all workers; 0: the calling thread
        # runs it.
        self._function = ctypes.c_uint64(0)
        self.address = ctypes.addressof(self._function)
        self.spared = False  # whether kernels look at the address
        self.lost = False  # whether this process is a fork of one that had started the layer

    def start(self) -> None:
        """Let the layer run loops, unless it is lost."""
        if not self._function.value and not self.lost:
            self._function.value = llvm.address_of_symbol("numba_parallel_for") or 0

    def lose(self) -> None:
        """Let the calling thread run loops from now on: the child of a fork has no workers."""
        self.lost = self.lost or threading_layer() is not None
        self._function.value = 0


class _SingleThreadedBlas:
    """Limits BLAS to one thread while at least one Python thread is inside."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._inside: set[int] = set()
        self._libraries: list[Any] | None = None
        self._saved: list[int] = []

    def enter(self) -> None:
        with self.lock:
            if not self._inside:
                if self._libraries is None:
                    found = threadpoolctl.ThreadpoolController().select(user_api="blas")
                    self._libraries = list(found.lib_controllers)
                self._saved = [library.num_threads for library in self._libraries]
            # From here on `leave` restores, also after an interrupt.
            self._inside.add(threading.get_ident())
            if len(self._inside) == 1:
                self._set([1] * len(self._saved))

    def leave(self) -> None:
        """Restore the numbers if nobody is inside; harmless twice."""
        with self.lock:
            self._inside.discard(threading.get_ident())
            if not self._inside:
                self._set(self._saved)

    @property
    def callers(self) -> int:
        """The number of Python threads inside, at least 1."""
        return max(1, len(self._inside))

    def forget_others(self) -> None:
        """Let only this thread be inside, in the child of a fork."""
        others = self._inside - {threading.get_ident()}
        if others:
            self._inside -= others
            if not self._inside:
                self._set(self._saved)

    def _set(self, counts: list[int]) -> None:
        """Set the number of threads of each library, under the lock."""
        # Since release 3.7 threadpoolctl lets only the Python thread of the first limit change it.
        # Here the last caller restores the numbers from any thread, so each call takes control.
        for library, count in zip(self._libraries or [], counts, strict=True):
            release = getattr(library, "clear_controlling_thread", None)
            if release is not None:
                release(force=True)
            library.set_num_threads(count)
            if release is not None:
                release(force=True)
            if library.num_threads != count:
                raise RuntimeError(
                    f"BLAS {library.internal_api} {library.version} keeps {library.num_threads} "
                    f"threads where {count} were set: another part of the program controls it"
                )


class _Inside(threading.local):
    """An object of its own for each time that this Python thread is inside `one_pool`."""

    pool: object | None = None


LAYER = Layer()
_blas = _SingleThreadedBlas()
_kernel_lock = LocalLock()
_inside = _Inside()
_free_cores = FreeCores()
hold_over_forks(_blas.lock)


def _begin_alone() -> None:
    """Begin the child of a fork: no other thread holds a lock or works in BLAS."""
    LAYER.lose()
    # Numba's locks around the start of its layer may be held, one of them in the parent as well.
    numba_threads._backend_init_thread_lock = threading.RLock()
    numba_threads._backend_init_process_lock = contextlib.nullcontext()
    _blas.forget_others()
    _free_cores.restart()


at_fork(after_in_child=_begin_alone)


def threading_layer() -> str | None:
    """Return Numba's threading layer ("omp", "tbb", "workqueue"), or None before its use."""
    try:
        return str(numba.threading_layer())
    except ValueError:
        return None


def how_layer_waits() -> str:
    """Return, in words, what the threading layer's workers do while they wait."""
    layer = _settle_layer()
    if layer == "omp":
        names = {library["prefix"] for library in threadpoolctl.threadpool_info()
                 if library["user_api"] == "openmp"}  # fmt: skip
        policy = os.environ.get("OMP_WAIT_POLICY", "").lower()
        how = "sleep at once (OMP_WAIT_POLICY)" if policy == "passive" else "spin, then sleep"
        return f"workers {how}; OpenMP by {' and '.join(sorted(names)) or 'an unknown library'}"
    waits = {
        "tbb": "workers spin briefly, then sleep",
        "workqueue": "workers yield their cores in a loop; Python threads take turns",
    }
    return waits.get(str(layer), "no workers")


def _load_tbb(wanted: str) -> None:
    """Load the TBB that pip has put where the loader does not look."""
    library = Path(sys.prefix, "lib", "libtbb.so.12")
    if wanted in _LAYERS_WITH_TBB and library.exists():
        with contextlib.suppress(OSError):  # for another processor; Numba says that it is absent
            ctypes.CDLL(str(library))


def _settle_layer() -> str | None:
    """Start and return the threading layer, or another one if the requested layer is absent."""
    layer = threading_layer()
    if layer is None and not numba.config.DISABLE_JIT:
        wanted = numba.config.THREADING_LAYER
        _load_tbb(str(wanted).lower())
        try:
            numba.get_num_threads()
        except ValueError as error:
            if str(wanted).lower() not in ("omp", *_LAYERS_WITH_TBB):
                raise  # no layer at all, or an unknown name
            numba.config.THREADING_LAYER = "default"
            numba.get_num_threads()
            reason = str(error).splitlines()[0]
            warnings.warn(
                f"threading layer {wanted!r} cannot be loaded ({reason}): "
                f"{threading_layer()!r} is used in its place",
                FastGGNWarning,
                stacklevel=3,
            )
        layer = threading_layer()
    if layer is not None:
        LAYER.start()
    return layer


@contextlib.contextmanager
def one_pool() -> Iterator[None]:
    """Limit BLAS to one thread inside the block, and exclude other Python threads if necessary.

    Numba's ``workqueue`` layer aborts the process when two Python threads enter kernels at the
    same time. With this layer, or an unknown one, the threads take turns.
    """
    if _inside.pool:
        yield
        return
    serialise = _settle_layer() in (None, "workqueue") and not LAYER.lost
    if LAYER.lost and not LAYER.spared:
        raise RuntimeError(
            "this process was forked from one that had started Numba's threads, which it lacks: "
            'make processes by the start method "spawn" or "forkserver"'
        )
    with _kernel_lock if serialise else contextlib.nullcontext():
        before = numba.get_num_threads()
        try:
            _blas.enter()
            _inside.pool = object()
            yield
        finally:
            # An interrupt may come at any call of a function: then the restoration is repeated.
            try:
                _restore(before)
            except BaseException:
                _restore(before)
                raise


def _restore(n: int) -> None:
    """Leave the pool, and let it have `n` workers again; harmless twice."""
    _inside.pool = None
    _blas.leave()
    numba.set_num_threads(n)


def pooled(method: Callable[P, R]) -> Callable[P, R]:
    """Make a function run inside `one_pool`."""

    @functools.wraps(method)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        if _inside.pool:
            return method(*args, **kwargs)
        with one_pool():
            return method(*args, **kwargs)

    return wrapper


def _masked() -> int:
    """Return the workers of this Python thread."""
    # Numba's own functions take two locks, 1.5 microseconds, and are called some 30 times an
    # iteration; those that they call exist as soon as the layer has started.
    direct = getattr(numba_threads, "_get_num_threads", numba.get_num_threads)
    return int(direct())


def _mask(n: int) -> None:
    """Set the workers of this Python thread, 1 to `max_threads`."""
    getattr(numba_threads, "_set_num_threads", numba.set_num_threads)(n)


class _AtMost:
    """A context in which the kernels use at most `most` workers."""

    __slots__ = ("_before", "_most")

    def __init__(self, most: int) -> None:
        self._most = most

    def __enter__(self) -> None:
        self._before = _masked()
        if self._before > self._most:
            _mask(self._most)

    def __exit__(self, *error: object) -> None:
        if self._before > self._most:
            _mask(self._before)


def workers_for(operations: float) -> AbstractContextManager[None]:
    """Use a worker for each free core inside the block, or a single worker for little work."""
    # A worker that shares its core with another program, or with the workers of another Python
    # thread, delays all others at the end of each kernel. The partition of the work, and so the
    # result, does not depend on their number.
    if operations < _WORTH_SHARING:
        return _AtMost(1)
    return _AtMost(max(1, min(_free_cores.count(), max_threads()) // _blas.callers))


def workers() -> int:
    """Return the number of workers of the next kernel."""
    return int(numba.get_num_threads())


def max_threads() -> int:
    """Return the largest number that `threads` accepts (NUMBA_NUM_THREADS)."""
    return int(numba.config.NUMBA_NUM_THREADS)


def thread_count() -> int:
    """Return the number of kernel threads of this Python thread."""
    _settle_layer()
    return int(numba.get_num_threads())


@contextlib.contextmanager
def threads(n: int | None = None) -> Iterator[None]:
    """Use `n` threads inside the block, and restore the setting on exit.

    The kernels use `n` workers of Numba's pool, and BLAS one thread. As with
    ``numba.set_num_threads``, the setting belongs to the calling Python thread.

    Parameters
    ----------
    n : int or None
        The number of threads, 1 to ``NUMBA_NUM_THREADS``; None keeps the current number.

    Raises
    ------
    TypeError
        If `n` is not an integer.
    ValueError
        If `n` is below 1 or above ``NUMBA_NUM_THREADS``.

    Examples
    --------
    >>> import fastggn as fg
    >>> with fg.threads(1):
    ...     pass
    """
    if n is not None:
        if isinstance(n, bool) or not hasattr(n, "__index__"):
            raise TypeError(f"the number of threads must be an integer, not {n!r}")
        if not 1 <= n <= max_threads():
            raise ValueError(
                f"the number of threads must lie in 1..{max_threads()} "
                f"(NUMBA_NUM_THREADS, set before the first import), got {n}"
            )
    with one_pool():
        pool, previous = _inside.pool, numba.get_num_threads()
        if n is not None:
            numba.set_num_threads(int(n))
        try:
            yield
        finally:
            # After an interrupt this block may end late, with the traceback that holds it.
            if _inside.pool is pool:
                numba.set_num_threads(previous)
