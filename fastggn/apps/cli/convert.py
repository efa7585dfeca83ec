"""``fastggn convert``: turn a text table into a file that training reads in a stream."""

from __future__ import annotations

import sys
import time

import click

from fastggn.apps.cli.outcome import bad_input
from fastggn.apps.cli.types import TARGET

HELP = """Turn DATA (.csv, .tsv, .txt) into OUT (.npy), whatever its size.

\b
Examples:
  fastggn convert houses.csv houses.npy --target price
  fastggn convert big.csv big.npy
  fastggn train houses.npy

Targets become the last columns. OUT appears when all of it is written; where a line is wrong, it is
named and OUT stays as it was."""


@click.command(
    help=HELP,
    short_help="Turn a text table into .npy.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.argument("data", metavar="DATA")
@click.argument("out", metavar="OUT")
@click.option(
    "--target", type=TARGET, metavar="COLUMNS",
    help="Target columns by name or number, separated by commas; the last one by default.",
)  # fmt: skip
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
def convert(data: str, out: str, target: tuple[str | int, ...] | None, quiet: bool) -> int:
    """Convert a text table, with a line of progress."""
    from fastggn.data.convert import convert_table

    progress = _Progress(quiet)
    with bad_input():
        try:
            done = convert_table(data, out, target, progress)
        finally:
            progress.end()
    if not quiet:
        targets = ", ".join(done.targets)
        click.echo(
            f"{out}: {done.n_rows} rows, {len(done.inputs)} inputs, "
            f"{len(done.targets)} targets ({targets})"
        )
    return 0


class _Progress:
    """One line that is overwritten on a terminal; a line every ten seconds elsewhere."""

    def __init__(self, quiet: bool) -> None:
        self._stream = sys.stderr
        self._quiet = quiet
        self._terminal = self._stream.isatty()
        self._last = time.monotonic()
        self._open = False

    def __call__(self, rows: int, share: float) -> None:
        """Show the number of rows and the share of the file so far."""
        now = time.monotonic()
        if self._quiet or now - self._last < (0.2 if self._terminal else 10.0):
            return
        self._last = now
        self._open = self._terminal
        end = "\r" if self._terminal else "\n"
        self._stream.write(f"  {100.0 * share:5.1f} %  {rows} rows{end}")
        self._stream.flush()

    def end(self) -> None:
        """End the line."""
        if self._open:
            self._stream.write("\n")
            self._stream.flush()
