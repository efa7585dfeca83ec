"""The processes that share a problem's samples: one alone, or the ranks of an MPI communicator.

Every rank runs the same program on its own rows. What is summed over the samples is reduced to
rank 0 and broadcast from there, so that every rank holds the same bits; what is decided by a
clock, a signal or the memory at hand is decided once for all.
"""

from __future__ import annotations

import contextlib
import os
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
T = TypeVar("T")
Number = TypeVar("Number", float, FloatArray)


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

    def concatenate(self, own: NDArray[Any]) -> NDArray[Any]:
        """Return the rows of all ranks, in the order of the ranks, on each of them."""

    def span(self, count: int) -> slice:
        """Return where this rank's rows, `count` of them, lie among those of all ranks."""

    def least(self, value: Number) -> Number:
        """Return the smallest over the ranks, of each entry of an array; NaN if one is NaN."""

    def largest(self, value: Number) -> Number:
        """Return the largest over the ranks, of each entry of an array; NaN if one is NaN."""

    def unite(self, factor: Mergeable) -> None:
        """Merge one factor a rank into one that all of them hold."""

    def memory_share(self, available: int) -> int:
        """Return the bytes that every rank may take, `available` being free on this one."""

    def thread_share(self, cores: int) -> int:
        """Return the threads that this rank may use of `cores` that it sees."""

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

    def concatenate(self, own: NDArray[Any]) -> NDArray[Any]:
        """Return the rows."""
        return own

    def span(self, count: int) -> slice:
        """Return all."""
        return slice(0, count)

    def least(self, value: Number) -> Number:
        """Return the number."""
        return value

    def largest(self, value: Number) -> Number:
        """Return the number."""
        return value

    def unite(self, factor: Mergeable) -> None:
        """Leave the factor as it is."""

    def memory_share(self, available: int) -> int:
        """Return all of it."""
        return available

    def thread_share(self, cores: int) -> int:
        """Return all of them."""
        return cores

    def together(self) -> AbstractContextManager[None]:
        """Return a context that does nothing."""
        return contextlib.nullcontext()


SERIAL = SerialComm()


def comm_of(holder: Any) -> Comm:
    """Return the communicator of a problem or of a system; those without one are serial."""
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


def as_comm(comm: Any) -> Comm:
    """Return a communicator of this module for what ``comm=`` was given."""
    if comm is None:
        return SERIAL
    if hasattr(comm, "sum_partials"):
        known: Comm = comm
        return known
    if not all(hasattr(comm, name) for name in ("Get_rank", "Get_size", "Bcast", "Reduce")):
        raise TypeError(f"comm must be an mpi4py communicator or None, not {type(comm).__name__}")
    if comm.Get_size() > 1:
        from fastggn.runtime.mpi import MpiComm

        return MpiComm(comm)
    tasks = os.environ.get("SLURM_NTASKS", "1")
    if tasks.isdigit() and int(tasks) > 1:
        raise ValueError(
            f"comm has one process, but the SLURM job has {tasks} tasks: start the program with "
            "srun or mpiexec, and with an mpi4py built for the MPI that they start (see srun "
            "--mpi=list); without comm= and --mpi a task works on its own"
        )
    return SERIAL
