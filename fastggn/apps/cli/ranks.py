"""``--mpi``: the ranks of a job read their rows; only rank 0 prints and writes."""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from fastggn.apps.cli.outcome import bad_input, report

if TYPE_CHECKING:
    from fastggn.runtime.comm import Comm


MPI_OPTION = click.option(
    "--mpi",
    is_flag=True,
    help="Share the samples among the ranks of mpiexec or srun (extra mpi).",
)

# A mistake that all ranks find is reported by rank 0, which then ends the others.
HEAD_START = 3.0


def ended_together(command: Callable[..., int]) -> Callable[..., int]:
    """Return the command such that, with ``--mpi``, an error of any rank ends all of them."""

    @functools.wraps(command)
    def run(*context: Any, **options: Any) -> int:
        if not options["mpi"]:
            return command(*context, **options)
        with bad_input():
            from fastggn.runtime.ranks import abort_on_error
            from fastggn.runtime.threads import max_threads, threads

            comm = team_of(options["mpi"])
        share = comm.thread_share(max_threads())
        if options.get("threads", 0) is None:
            options["threads"] = share

        def report_own(error: BaseException) -> int:
            if comm.rank > 0:
                time.sleep(HEAD_START)
            return report(error, "" if comm.rank == 0 else f"rank {comm.rank}: ")

        with abort_on_error(comm, report_own), _quiet(comm.rank > 0):
            if "threads" in options:
                return command(*context, **options)
            with threads(share):
                return command(*context, **options)

    return run


def team_of(mpi: bool) -> Comm:
    """Return the ranks that share the samples: with ``--mpi`` those of the job, else one."""
    from fastggn.runtime.comm import SERIAL
    from fastggn.runtime.mpi import world
    from fastggn.runtime.ranks import as_comm

    return as_comm(world()) if mpi else SERIAL


@contextlib.contextmanager
def _quiet(enabled: bool) -> Iterator[None]:
    """Let nothing be printed, where `enabled`."""
    if not enabled:
        yield
        return
    with (
        open(os.devnull, "w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        yield
