"""The processes that share a problem's samples: one alone, or the ranks of an MPI communicator.

Every rank runs the same program on its own rows. What is summed over the samples is reduced to
rank 0 and broadcast from there, so that every rank holds the same bits; what is decided by a
clock, a signal or the memory at hand is decided once for all.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "SERIAL",
    "Comm",
    "MpiComm",
    "SerialComm",
    "abort_on_error",
    "as_comm",
    "comm_of",
    "require_serial",
    "world",
]

FloatArray = NDArray[np.float64]
T = TypeVar("T")

# Elements of one message: counts of MPI are C ints, and some libraries multiply them by 8.
PIECE = 2**28 - 1
_TAG = 2718


class Mergeable(Protocol):
    """A factorisation whose rows may come from several processes."""

    def packed(self) -> FloatArray:
        """Return all there is to it as one vector."""

    def merged(self, mine: FloatArray, other: FloatArray) -> FloatArray:
        """Return what was packed of the rows of both."""

    def load(self, packed: FloatArray) -> None:
        """Take the place of what was packed."""


class Comm(Protocol):
    """What the numerical core asks of the processes that share the samples."""

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""

    @property
    def size(self) -> int:
        """Number of processes."""

    def sum(self, array: FloatArray) -> FloatArray:
        """Add the arrays of all ranks, in place; every rank gets the same bits."""

    def sum_partials(self, lanes: NDArray[Any]) -> NDArray[Any]:
        """Return partial sums (k, n) whose sum over k is that of all ranks' lanes."""

    def total(self, value: float) -> float:
        """Return the sum of a number over the ranks."""

    def norm(self, own: float) -> float:
        """Return the 2-norm of a vector from the norms of the ranks' parts of it."""

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on at least one rank."""

    def broadcast(self, array: FloatArray) -> FloatArray:
        """Overwrite an array with that of rank 0, and return it."""

    def agree(self, value: T) -> T:
        """Return the value of rank 0."""

    def gather(self, value: T) -> list[T]:
        """Return the values of all ranks, in the order of the ranks, on each of them."""

    def unite(self, factor: Mergeable) -> None:
        """Merge one factor a rank into one that all of them hold."""

    def memory_share(self, available: int) -> int:
        """Return the bytes that every rank may take, `available` being free on this one."""

    def together(self) -> AbstractContextManager[None]:
        """Return a context that raises on every rank where the block raises on one."""


class SerialComm:
    """One process that holds all samples: every operation is the identity."""

    rank = 0
    size = 1

    def sum(self, array: FloatArray) -> FloatArray:
        """Return the array."""
        return array

    def sum_partials(self, lanes: NDArray[Any]) -> NDArray[Any]:
        """Return the lanes."""
        return lanes

    def total(self, value: float) -> float:
        """Return the number."""
        return value

    def norm(self, own: float) -> float:
        """Return the norm."""
        return own

    def any(self, flag: bool) -> bool:
        """Return the flag."""
        return flag

    def broadcast(self, array: FloatArray) -> FloatArray:
        """Return the array."""
        return array

    def agree(self, value: T) -> T:
        """Return the value."""
        return value

    def gather(self, value: T) -> list[T]:
        """Return the value, as the only one."""
        return [value]

    def unite(self, factor: Mergeable) -> None:
        """Leave the factor as it is."""

    def memory_share(self, available: int) -> int:
        """Return all of it."""
        return available

    def together(self) -> AbstractContextManager[None]:
        """Return a context that does nothing."""
        return contextlib.nullcontext()


SERIAL = SerialComm()


class MpiComm:
    """The ranks of an mpi4py communicator; buffers only, in pieces below 2^28 elements.

    An exception that nobody catches, on any rank, ends all of them: the interpreter's hook for
    uncaught exceptions is extended by ``MPI_Abort``.

    Parameters
    ----------
    comm : mpi4py.MPI.Intracomm
    """

    def __init__(self, comm: Any) -> None:
        from mpi4py import MPI

        self._mpi = MPI
        self._comm = comm
        self.rank: int = comm.Get_rank()
        self.size: int = comm.Get_size()
        names = self.gather(MPI.Get_processor_name())
        self._on_node = max(names.count(name) for name in names)
        _extend_excepthook(self)

    def sum(self, array: FloatArray) -> FloatArray:
        """Reduce to rank 0 and broadcast: MPI does not promise equal bits of an Allreduce."""
        flat = np.ascontiguousarray(array).reshape(-1)
        for piece in _pieces(flat):
            if self.rank == 0:
                self._comm.Reduce(self._mpi.IN_PLACE, piece, op=self._mpi.SUM, root=0)
            else:
                self._comm.Reduce(piece, None, op=self._mpi.SUM, root=0)
            self._comm.Bcast(piece, root=0)
        if not np.shares_memory(flat, array):
            array[...] = flat.reshape(array.shape)
        return array

    def sum_partials(self, lanes: NDArray[Any]) -> NDArray[Any]:
        """Return the sum over lanes and ranks in float64, shape (1, n): one lane is sent."""
        return self.sum(lanes.sum(axis=0, dtype=np.float64, keepdims=True))

    def total(self, value: float) -> float:
        """Return the sum of a number over the ranks."""
        return float(self.sum(np.array([value]))[0])

    def norm(self, own: float) -> float:
        """Return the root of the sum of squares, scaled so that no square overflows."""
        parts = np.array(self.gather(float(own)))
        largest = float(parts.max())
        if largest == 0.0 or not np.isfinite(largest):
            return largest if not np.isnan(parts).any() else float("nan")
        return largest * float(np.sqrt(np.sum((parts / largest) ** 2)))

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on at least one rank."""
        return self.total(float(bool(flag))) > 0.0

    def broadcast(self, array: FloatArray) -> FloatArray:
        """Overwrite a contiguous array with that of rank 0."""
        for piece in _pieces(array.reshape(-1)):
            self._comm.Bcast(piece, root=0)
        return array

    def agree(self, value: T) -> T:
        """Return the value of rank 0, sent as bytes."""
        content = np.frombuffer(pickle.dumps(value), dtype=np.uint8).copy()
        size = np.array([content.size])
        self._comm.Bcast(size, root=0)
        if self.rank != 0:
            content = np.empty(int(size[0]), dtype=np.uint8)
        self._comm.Bcast(content, root=0)
        agreed: T = pickle.loads(content.tobytes())  # of this very job
        return agreed

    def gather(self, value: T) -> list[T]:
        """Return the values of all ranks: small ones, sent as bytes."""
        content = np.frombuffer(pickle.dumps(value), dtype=np.uint8)
        sizes = np.empty(self.size, dtype=np.int64)
        self._comm.Allgather(np.array([content.size]), sizes)
        every = np.empty(int(sizes.sum()), dtype=np.uint8)
        self._comm.Allgatherv(content, [every, sizes])
        parts = np.split(every, np.cumsum(sizes)[:-1])
        return [pickle.loads(part.tobytes()) for part in parts]

    def unite(self, factor: Mergeable) -> None:
        """Merge by a binary tree, in the order of the ranks, and broadcast from rank 0."""
        step = 1
        merged = factor.packed()
        while step < self.size:
            if self.rank % (2 * step) != 0:
                for piece in _pieces(merged):
                    self._comm.Send(piece, dest=self.rank - step, tag=_TAG)
                break
            if self.rank + step < self.size:
                other = np.empty_like(merged)
                for piece in _pieces(other):
                    self._comm.Recv(piece, source=self.rank + step, tag=_TAG)
                merged = factor.merged(merged, other)
            step *= 2
        factor.load(self.broadcast(merged))

    def memory_share(self, available: int) -> int:
        """Return the least of all ranks' free bytes, over the ranks that share a node."""
        return min(self.gather(available)) // self._on_node

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Raise on every rank where the block raises on one; a rank that was fine names it.

        For blocks that do not communicate, such as checks of arguments.
        """
        error: Exception | None = None
        try:
            yield
        except Exception as raised:
            error = raised
        found = self.gather(None if error is None else f"{type(error).__name__}: {error}")
        if error is not None:
            raise error
        for rank, message in enumerate(found):
            if message is not None:
                raise ValueError(f"rank {rank}: {message}")

    def abort(self, code: int) -> None:
        """End all ranks, with this exit code."""
        sys.stdout.flush()
        sys.stderr.flush()
        self._comm.Abort(code)


def _pieces(flat: NDArray[Any]) -> Iterator[NDArray[Any]]:
    for start in range(0, flat.size, PIECE):
        yield flat[start : start + PIECE]


def _extend_excepthook(comm: MpiComm) -> None:
    """Let an uncaught exception end all ranks, once it has been reported as ever."""
    before = sys.excepthook
    if getattr(before, "ends_all_ranks", False):
        return

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        print(f"fastggn: rank {comm.rank} of {comm.size} failed; all ranks end", file=sys.stderr)
        before(kind, error, trace)
        comm.abort(1)

    hook.ends_all_ranks = True  # type: ignore[attr-defined]
    sys.excepthook = hook


def comm_of(holder: Any) -> Comm:
    """Return the communicator of a problem or of a system; those without one are serial."""
    comm: Comm = getattr(holder, "comm", SERIAL)
    return comm


def require_serial(comm: Comm, what: str) -> None:
    """Raise unless one process holds all samples.

    Raises
    ------
    ValueError
        If there are several; the message says what works on them.
    """
    if comm.size > 1:
        raise ValueError(
            f"{what} needs all samples in one process, and {comm.size} ranks share them; over "
            "ranks there are loss, gradient, GGN, exact Hessian, their operators, products, "
            "singular values and rank of J, and training by 'lm' and 'ggn' (solvers 'cholesky', "
            "'qr' and 'lsqr'), 'newton' and 'bp'"
        )


def world() -> Any:
    """Return mpi4py's communicator of all processes; this initialises MPI.

    Raises
    ------
    ImportError
        If mpi4py or the MPI library is missing; the message names the extra.
    """
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise ImportError(
            f'MPI needs mpi4py and an MPI library: pip install "fastggn[mpi]" ({error})'
        ) from error
    return MPI.COMM_WORLD


def as_comm(comm: Any) -> Comm:
    """Return a communicator of this module for what ``comm=`` was given.

    Parameters
    ----------
    comm : mpi4py.MPI.Intracomm, Comm or None
        None and a communicator of one process are serial.

    Raises
    ------
    TypeError
        If it is no communicator.
    ValueError
        If MPI was asked for in a SLURM job of several tasks and finds one process only: every
        task would then work on its own, each believing itself the whole job.
    """
    if comm is None:
        return SERIAL
    if isinstance(comm, (SerialComm, MpiComm)):
        return comm
    if not all(hasattr(comm, name) for name in ("Get_rank", "Get_size", "Bcast", "Reduce")):
        raise TypeError(f"comm must be an mpi4py communicator or None, not {type(comm).__name__}")
    if comm.Get_size() > 1:
        return MpiComm(comm)
    tasks = os.environ.get("SLURM_NTASKS", "1")
    if tasks.isdigit() and int(tasks) > 1:
        raise ValueError(
            f"comm has one process, but the SLURM job has {tasks} tasks: start the program with "
            "srun or mpiexec, and with an mpi4py built for the MPI that they start (see srun "
            "--mpi=list); without comm= and --mpi a task works on its own"
        )
    return SERIAL


@contextlib.contextmanager
def abort_on_error(
    comm: Any, report: Callable[[BaseException], int] | None = None
) -> Iterator[None]:
    """End all ranks when one of them leaves the block by an exception.

    Without it a rank that fails leaves the others waiting for it. An exception that nobody
    catches has the same effect once a `Problem` was made with ``comm=``; this also covers what
    comes before, and ``sys.exit`` with a code other than 0.

    Parameters
    ----------
    comm : mpi4py.MPI.Intracomm or Comm
    report : callable, optional
        Prints the exception and returns the exit code; by default a traceback, and 1.

    Examples
    --------
    >>> from fastggn.parallel import abort_on_error
    >>> with abort_on_error(None):
    ...     pass
    """
    team = as_comm(comm)
    try:
        yield
    except BaseException as error:
        if not isinstance(team, MpiComm) or _is_success(error):
            raise
        team.abort((report or _print_traceback)(error) or 1)


def _is_success(error: BaseException) -> bool:
    return isinstance(error, SystemExit) and error.code in (None, 0)


def _print_traceback(error: BaseException) -> int:
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    traceback.print_exception(type(error), error, error.__traceback__)
    return 1
