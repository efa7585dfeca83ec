"""``--mpi``: the ranks of a job read their rows; only rank 0 prints and writes."""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import click

from fastggn.cli.outcome import bad_input

__all__ = ["ended_together"]

# A mistake that all ranks find is reported by rank 0, which then ends the others.
HEAD_START = 3.0


def ended_together(command: Callable[..., int]) -> Callable[..., int]:
    """Return the command such that, with ``--mpi``, an error of any rank ends all of them."""

    @functools.wraps(command)
    def run(ctx: click.Context, /, **options: Any) -> int:
        if not options["mpi"]:
            return command(ctx, **options)
        with bad_input():
            from fastggn.parallel.comm import as_comm
            from fastggn.parallel.mpi import abort_on_error, world

            comm = as_comm(world())
        if options["threads"] is None:
            from fastggn.parallel.threads import max_threads

            options["threads"] = comm.thread_share(max_threads())

        def report(error: BaseException) -> int:
            from fastggn.cli.main import report

            if comm.rank > 0:
                time.sleep(HEAD_START)
            return report(error, "" if comm.rank == 0 else f"rank {comm.rank}: ")

        with abort_on_error(comm, report), _quiet(comm.rank > 0):
            return command(ctx, **options)

    return run


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
