"""The ranks of an MPI communicator."""

from __future__ import annotations

import contextlib
import pickle
import sys
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fastggn.runtime.comm import Comm, Number
from fastggn.runtime.meetings import Meeting, UnequalCalls, differences, join
from fastggn.runtime.platform import bound_cores

FloatArray = NDArray[np.float64]
T = TypeVar("T")

# Most elements of one message: MPI counts are C ints, which some libraries multiply by 8.
PIECE = 2**28 - 1
# Seconds in which mpiexec can print the last output of a rank before its end.
LINGER = 1.0
_TAG = 2718


class MpiComm(Comm):
    """The ranks of an mpi4py communicator, with messages below 2^28 elements.

    An uncaught exception on any rank ends all ranks: it calls ``MPI_Abort``. Ranks that call
    different operations all get an exception, also if one of them has left the program.
    """

    def __init__(self, comm: Any) -> None:
        from mpi4py import MPI

        self._mpi = MPI
        self.rank: int = comm.Get_rank()
        self.size: int = comm.Get_size()
        self._comm = comm
        _extend_excepthook(self)
        join(comm)
        # Messages of the program itself do not come between.
        self._comm = comm.Dup()
        self._meeting = Meeting(self._comm)
        node = MPI.Get_processor_name()
        cores = tuple(sorted(bound_cores()))
        places = self.gather((node, cores))
        nodes = [name for name, _ in places]
        self._on_node = max(nodes.count(name) for name in nodes)
        self._on_cores = places.count((node, cores))

    def sum(self, array: FloatArray) -> FloatArray:
        """Reduce to rank 0 and broadcast, because an Allreduce may give different bits."""
        flat = np.ascontiguousarray(array).reshape(-1)
        self._meeting.compare("sum", flat.size)
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
        """Return the sum over lanes and ranks in float64, shape (1, n), from one lane a rank."""
        return self.sum(lanes.sum(axis=0, dtype=np.float64, keepdims=True))

    def total(self, value: float) -> float:
        """See `Comm`."""
        return float(self.sum(np.array([value]))[0])

    def norm(self, own: float) -> float:
        """Return the root of the sum of squares, scaled so that no square overflows."""
        parts = np.empty(self.size)
        self._meeting.compare("norm")
        self._comm.Allgather(np.array([float(own)]), parts)
        largest = float(parts.max())
        if largest == 0.0 or not np.isfinite(largest):
            return largest if not np.isnan(parts).any() else float("nan")
        return largest * float(np.sqrt(np.sum((parts / largest) ** 2)))

    def any(self, flag: bool) -> bool:
        """See `Comm`."""
        return self.total(float(bool(flag))) > 0.0

    def broadcast(self, array: FloatArray) -> FloatArray:
        """See `Comm`."""
        self._meeting.compare("broadcast", array.size)
        for piece in _pieces(array.reshape(-1)):
            self._comm.Bcast(piece, root=0)
        return array

    def agree(self, value: T) -> T:
        """Return the value of rank 0, sent as bytes."""
        content = np.frombuffer(pickle.dumps(value), dtype=np.uint8).copy()
        self._meeting.compare("agree")
        size = np.array([content.size])
        self._comm.Bcast(size, root=0)
        if self.rank != 0:
            content = np.empty(int(size[0]), dtype=np.uint8)
        self._comm.Bcast(content, root=0)
        agreed: T = pickle.loads(content.tobytes())  # bytes of this job only
        return agreed

    def gather(self, value: T) -> list[T]:
        """Return the small values of all ranks, sent as bytes."""
        content = np.frombuffer(pickle.dumps(value), dtype=np.uint8)
        self._meeting.compare("gather")
        sizes = np.empty(self.size, dtype=np.int64)
        self._comm.Allgather(np.array([content.size]), sizes)
        every = np.empty(int(sizes.sum()), dtype=np.uint8)
        self._comm.Allgatherv(content, [every, sizes])
        parts = np.split(every, np.cumsum(sizes)[:-1])
        return [pickle.loads(part.tobytes()) for part in parts]

    def concatenate(self, own: NDArray[Any]) -> NDArray[Any]:
        """Broadcast the rows of each rank in turn, in pieces."""
        counts = self.gather(own.shape[0])
        out = np.empty((sum(counts), *own.shape[1:]), dtype=own.dtype)
        first = sum(counts[: self.rank])
        out[first : first + own.shape[0]] = own
        flat, width = out.reshape(-1), int(np.prod(own.shape[1:]))
        edges = np.cumsum([0, *counts]) * width
        for root in range(self.size):
            for piece in _pieces(flat[edges[root] : edges[root + 1]]):
                self._comm.Bcast(piece, root=root)
        return out

    def span(self, count: int) -> slice:
        """See `Comm`."""
        first = sum(self.gather(count)[: self.rank])
        return slice(first, first + count)

    def least(self, value: Number) -> Number:
        """See `Comm`."""
        found: Any = np.min(self.gather(value), axis=0)
        return float(found) if isinstance(value, float) else np.asarray(found)

    def largest(self, value: Number) -> Number:
        """See `Comm`."""
        found: Any = np.max(self.gather(value), axis=0)
        return float(found) if isinstance(value, float) else np.asarray(found)

    def unite(self, factor: Any) -> None:
        """Merge by a binary tree in rank order, and broadcast from rank 0."""
        step = 1
        merged = factor.packed()
        self._meeting.compare("unite", merged.size)
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
        """Return the least free bytes of all ranks, over the number of ranks on a node."""
        return min(self.gather(available)) // self._on_node

    def thread_share(self, cores: int) -> int:
        """Return `cores` over the number of ranks that may run on the same cores."""
        return max(1, cores // self._on_cores)

    @contextlib.contextmanager
    def raise_on_all(self) -> Iterator[dict[str, object]]:
        """Gather errors and what the ranks say; without an error of its own a rank raises one."""
        error: Exception | None = None
        said: dict[str, object] = {}
        try:
            yield said
        except UnequalCalls:  # on all ranks, some of which may not come to the exchange below
            raise
        except Exception as raised:
            error = raised
        failed = None if error is None else f"{type(error).__name__}: {error}"
        words = {n: v if isinstance(v, str) else repr(v) for n, v in said.items()}
        found = self.gather((failed, words))
        if error is not None:
            raise error
        for rank, (message, _) in enumerate(found):
            if message is not None:
                raise ValueError(f"rank {rank}: {message}")
        for name in found[0][1]:
            if told := differences(every.get(name, "nothing") for _, every in found):
                raise ValueError(f"the ranks of comm differ in {name}: {told}")

    def abort(self, code: int) -> None:
        """End all ranks with this exit code."""
        sys.stdout.flush()
        sys.stderr.flush()
        time.sleep(LINGER)
        self._comm.Abort(code)


def _pieces(flat: NDArray[Any]) -> Iterator[NDArray[Any]]:
    for start in range(0, flat.size, PIECE):
        yield flat[start : start + PIECE]


def _extend_excepthook(comm: MpiComm) -> None:
    """Make an uncaught exception end all ranks after its usual report."""
    before = sys.excepthook
    if getattr(before, "ends_all_ranks", False):
        return

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        print(f"fastggn: rank {comm.rank} of {comm.size} failed; all ranks end", file=sys.stderr)
        before(kind, error, trace)
        comm.abort(1)

    hook.ends_all_ranks = True  # type: ignore[attr-defined]
    sys.excepthook = hook


_keys: list[int] = []  # under which a communicator holds its `MpiComm`


def team(comm: Any) -> MpiComm:
    """Return the `MpiComm` of an mpi4py communicator, the same one each time."""
    from mpi4py import MPI

    if not _keys:
        _keys.append(MPI.Comm.Create_keyval())
    found = comm.Get_attr(_keys[0])
    if found is None:
        found = MpiComm(comm)
        comm.Set_attr(_keys[0], found)
    return found  # type: ignore[no-any-return]


def world() -> Any:
    """Return mpi4py's communicator of all processes; this initialises MPI."""
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise ImportError(
            f'MPI needs mpi4py and an MPI library: pip install "fastggn[mpi]" ({error})'
        ) from error
    return MPI.COMM_WORLD
