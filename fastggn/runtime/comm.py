"""The processes that share a problem's samples: one alone, or the ranks of an MPI communicator.

Every rank runs the same program on its own rows. Sums over the samples are reduced to rank 0 and
broadcast from there, so that every rank holds the same bits; decisions by a clock, a signal or
the free memory are made once for all.
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
    """The processes that share the samples: here one that holds them all.

    Every operation is the identity; `fastggn.runtime.mpi.MpiComm` overrides them for several
    ranks.
    """

    rank = 0
    size = 1

    def sum(self, array: FloatArray) -> FloatArray:
        """Add the arrays of all ranks, in place; every rank gets the same bits."""
        return array

    def sum_partials(self, lanes: NDArray[Any]) -> NDArray[Any]:
        """Return partial sums (k, n) whose sum over k is that of all ranks' lanes."""
        return lanes

    def total(self, value: float) -> float:
        """Return the sum of a number over the ranks."""
        return value

    def norm(self, own: float) -> float:
        """Return the 2-norm of a vector from the norms of the ranks' parts of it."""
        return own

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on at least one rank."""
        return flag

    def broadcast(self, array: FloatArray) -> FloatArray:
        """Overwrite a contiguous array with that of rank 0, and return it."""
        return array

    def agree(self, value: T) -> T:
        """Return the value of rank 0."""
        return value

    def gather(self, value: T) -> list[T]:
        """Return the values of all ranks, in the order of the ranks, on each of them."""
        return [value]

    def concatenate(self, own: NDArray[Any]) -> NDArray[Any]:
        """Return the rows of all ranks, in the order of the ranks, on each of them."""
        return own

    def span(self, count: int) -> slice:
        """Return the place of this rank's rows, `count` of them, among the rows of all ranks."""
        return slice(0, count)

    def least(self, value: Number) -> Number:
        """Return the smallest over the ranks, of each entry of an array; NaN if one is NaN."""
        return value

    def largest(self, value: Number) -> Number:
        """Return the largest over the ranks, of each entry of an array; NaN if one is NaN."""
        return value

    def unite(self, factor: Any) -> None:
        """Merge one factor a rank (a `StreamingQR`) into one that all of them hold."""

    def memory_share(self, available: int) -> int:
        """Return the bytes that every rank may take, `available` being free on this one."""
        return available

    def thread_share(self, cores: int) -> int:
        """Return the threads that this rank may use of `cores` that it sees."""
        return cores

    def raise_on_all(self) -> AbstractContextManager[None]:
        """Return a context that raises on every rank where the block raises on one.

        The block must not communicate: it checks arguments or writes files.
        """
        return contextlib.nullcontext()


SERIAL = Comm()


def comm_of(holder: Any) -> Comm:
    """Return the communicator of a problem or of a system; a holder without one is serial."""
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
