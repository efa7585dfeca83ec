"""``--mpi``: each rank of a job reads its own rows; only rank 0 prints and writes."""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import click

from fastggn.apps.cli.outcome import bad_input, report
from fastggn.runtime.comm import SERIAL, Comm

MPI_OPTION = click.option(
    "--mpi",
    is_flag=True,
    help="Share the samples among the ranks of mpiexec or srun (extra mpi).",
)

# Seconds for rank 0 to report an error of all ranks and to end the others; more on a machine so
# busy that this rank itself took longer to find the error.
HEAD_START, MOST = 3.0, 15.0


def ended_together(command: Callable[..., int]) -> Callable[..., int]:
    """Wrap a command so that, with ``--mpi``, an error of one rank ends all ranks."""

    @functools.wraps(command)
    def run(*context: Any, **options: Any) -> int:
        if not options["mpi"]:
            return command(*context, **options)
        with bad_input():
            from fastggn.runtime.ranks import abort_on_error
            from fastggn.runtime.threads import max_threads, threads

            comm = team_of(options["mpi"])
        began = time.monotonic()
        share = comm.thread_share(max_threads())
        if options.get("threads", 0) is None:
            options["threads"] = share

        def report_own(error: BaseException) -> int:
            if comm.rank > 0:
                time.sleep(min(max(HEAD_START, time.monotonic() - began), MOST))
            return report(error, "" if comm.rank == 0 else f"rank {comm.rank}: ")

        with abort_on_error(comm, report_own), _quiet(comm.rank > 0):
            if "threads" in options:
                return command(*context, **options)
            with threads(share):
                return command(*context, **options)

    return run


def team_of(mpi: bool) -> Comm:
    """Return the ranks that share the samples: all ranks of the job with ``--mpi``, else one."""
    from fastggn.runtime.mpi import world
    from fastggn.runtime.ranks import as_comm

    return as_comm(world()) if mpi else SERIAL


@contextlib.contextmanager
def _quiet(enabled: bool) -> Iterator[None]:
    """Suppress all output if `enabled`."""
    if not enabled:
        yield
        return
    with (
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield
