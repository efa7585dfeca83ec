"""The processes that share a problem's samples: one alone, or the ranks of an MPI communicator.

Every rank runs the same program on its own rows. Sums over the samples are reduced to rank 0 and
broadcast from there, so that every rank has the same bits. All ranks share one decision by a clock,
a signal or the free memory.
"""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
T = TypeVar("T")
Number = TypeVar("Number", float, FloatArray)


class Comm:
    """The processes that share the samples; here a single process.

    Every operation is the identity; `fastggn.runtime.mpi.MpiComm` overrides them for several
    ranks.
    """

    rank = 0
    size = 1

    def sum(self, array: FloatArray) -> FloatArray:
        """Add the arrays of all ranks in place, with the same bits on every rank."""
        return array

    def sum_partials(self, lanes: NDArray[Any]) -> NDArray[Any]:
        """Return partial sums (k, n) whose sum over k is the sum of the lanes of all ranks."""
        return lanes

    def total(self, value: float) -> float:
        """Return the sum of a number over the ranks."""
        return value

    def norm(self, own: float) -> float:
        """Return the 2-norm of a vector from the norms of its parts on the ranks."""
        return own

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on at least one rank."""
        return flag

    def broadcast(self, array: FloatArray) -> FloatArray:
        """Overwrite a contiguous array with the array of rank 0, and return it."""
        return array

    def agree(self, value: T) -> T:
        """Return the value of rank 0."""
        return value

    def gather(self, value: T) -> list[T]:
        """Return the values of all ranks, in rank order, on every rank."""
        return [value]

    def concatenate(self, own: NDArray[Any]) -> NDArray[Any]:
        """Return the rows of all ranks, in rank order, on every rank."""
        return own

    def span(self, count: int) -> slice:
        """Return the place of this rank's `count` rows among the rows of all ranks."""
        return slice(0, count)

    def share(self, total: int) -> slice:
        """Return the rows of a table of `total` rows that belong to this rank."""
        return slice(self.rank * total // self.size, (self.rank + 1) * total // self.size)

    def least(self, value: Number) -> Number:
        """Return the minimum over the ranks, by entries; NaN if one rank has NaN."""
        return value

    def largest(self, value: Number) -> Number:
        """Return the maximum over the ranks, by entries; NaN if one rank has NaN."""
        return value

    def unite(self, factor: Any) -> None:
        """Merge the factors of all ranks (`StreamingQR`) into one factor on every rank."""

    def memory_share(self, available: int) -> int:
        """Return the bytes that every rank may use, if `available` are free on this rank."""
        return available

    def thread_share(self, cores: int) -> int:
        """Return the number of threads for this rank, which sees `cores` cores."""
        return cores

    def raise_on_all(self) -> AbstractContextManager[dict[str, object]]:
        """Return a context that raises on all ranks if one does, or if they say different values.

        The block gets a dict for the values, by name, and must not communicate.
        """
        return contextlib.nullcontext({})


SERIAL = Comm()


def comm_of(holder: Any) -> Comm:
    """Return the communicator of a problem or a system, by default `SERIAL`."""
    comm: Comm = getattr(holder, "comm", SERIAL)
    return comm


def require_serial(comm: Comm, what: str) -> None:
    """Raise unless one process holds all samples."""
    if comm.size > 1:
        raise ValueError(
            f"{what} needs all samples in one process, and {comm.size} ranks share them; over "
            "ranks there are all functions of theta of a Problem, training by every method and "
            "solver, rank_analysis, critical_point and null_space"
        )
