"""``fastggn warmup``: compile the kernels before a job needs them."""

from __future__ import annotations

import click

HELP = """Compile every kernel, or load it from the disk, and print the seconds.

Run it once after the installation. For batch jobs, fill a folder that all of them read:

\b
  NUMBA_CACHE_DIR=/shared/folder fastggn warmup"""


@click.command(help=HELP, short_help="Compile the kernels ahead of time.")
def warmup() -> int:
    """Call `fastggn.warmup` and print its report."""
    from fastggn.training.warmup import warmup as run

    click.echo(str(run()))
    return 0
