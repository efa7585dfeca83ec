"""The communicator of an argument ``comm``, and a block whose errors end all ranks."""

from __future__ import annotations

import contextlib
import os
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from fastggn.runtime.comm import SERIAL, Comm
from fastggn.runtime.mpi import MpiComm, team


def as_comm(comm: Any) -> Comm:
    """Return the communicator for None, a `Comm`, or an mpi4py communicator."""
    if comm is None:
        return SERIAL
    if isinstance(comm, Comm):
        return comm
    if not all(hasattr(comm, name) for name in ("Get_rank", "Get_size", "Bcast", "Reduce")):
        raise TypeError(f"comm must be an mpi4py communicator or None, not {type(comm).__name__}")
    if comm.Get_size() > 1:
        return team(comm)
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
    """End all ranks when one rank leaves the block by an exception.

    Without this block the other ranks wait for a failed rank. After the first `Problem` with
    ``comm=``, an uncaught exception also ends all ranks. The block also covers earlier errors and
    ``sys.exit`` with a code other than 0.

    Parameters
    ----------
    comm : mpi4py.MPI.Intracomm or Comm
    report : callable, optional
        A function that prints the exception and returns the exit code; by default it prints a
        traceback and returns 1.

    Examples
    --------
    >>> from fastggn.runtime.ranks import abort_on_error
    >>> with abort_on_error(None):
    ...     pass
    """
    ranks = as_comm(comm)
    try:
        yield
    except BaseException as error:
        if not isinstance(ranks, MpiComm) or _is_success(error):
            raise
        ranks.abort((report or _print_traceback)(error) or 1)


def _is_success(error: BaseException) -> bool:
    return isinstance(error, SystemExit) and error.code in (None, 0)


def _print_traceback(error: BaseException) -> int:
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    traceback.print_exception(type(error), error, error.__traceback__)
    return 1
