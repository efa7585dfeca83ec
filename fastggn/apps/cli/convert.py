"""``fastggn convert``: turn a text table into a file that training reads in a stream."""

from __future__ import annotations

import click

from fastggn.apps.cli.files import INPUT, OutputFile, checked_outputs
from fastggn.apps.cli.outcome import bad_input, say
from fastggn.apps.cli.types import TARGET
from fastggn.apps.cli.watch import Watch, watched

HELP = """Turn DATA (.csv, .tsv, .txt) into OUT (.npy), whatever its size.

\b
Examples:
  fastggn convert houses.csv houses.npy --target price
  fastggn convert big.csv big.npy
  fastggn train houses.npy

Targets become the last columns. OUT appears when all of it is written; where a line is wrong, it is
named and OUT stays as it was."""


@click.command(help=HELP, short_help="Turn a text table into .npy.")
@click.argument("data", type=INPUT, metavar="DATA")
@click.argument("out", type=OutputFile("table"), metavar="OUT")
@click.option(
    "--target", type=TARGET, metavar="COLUMNS",
    help="Target columns by name or number, separated by commas; the last one by default.",
)  # fmt: skip
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
@checked_outputs
@watched
def convert(
    data: str, out: str, target: tuple[str | int, ...] | None, quiet: bool, watch: Watch
) -> int:
    """Convert a text table, with a line of progress."""
    from fastggn.data.convert import convert_table

    def progress(rows: int, share: float) -> None:
        watch(share, 1.0, f"{rows} rows")

    with bad_input():
        done = convert_table(data, out, target, progress)
    if not quiet:
        targets = ", ".join(done.targets)
        say(
            f"{out}: {done.n_rows} rows, {len(done.inputs)} inputs, "
            f"{len(done.targets)} targets ({targets})"
        )
    return 0
