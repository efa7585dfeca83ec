"""``fastggn landscape regions``: the subglobal minima of a one-hidden-layer ReLU network."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from fastggn.apps.cli.outcome import bad_input
from fastggn.apps.cli.types import TARGET

if TYPE_CHECKING:
    from fastggn.analysis.relu.enumeration import RegionMinimum


HELP = """List the losses of the local minima of a one-hidden-layer ReLU network on DATA.

Every region of the weights in which the activations stay the same has one least loss, its subglobal
minimum (half the sum of squares). The table counts the regions, orderings of the hidden units
included, by that loss; those whose minimum lies inside are the network's differentiable local
minima.

\b
Examples:
  fastggn landscape regions houses.csv --target price --hidden 1
  fastggn landscape regions houses.csv --hidden 1 --bias --which attained --json minima.json

DATA is a table as in fastggn train; its numbers are taken as they are, without scaling."""


@click.command(
    help=HELP,
    short_help="Losses of the local minima of a one-hidden-layer ReLU network.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.argument("data", metavar="DATA")
@click.option(
    "--target", type=TARGET, metavar="COLUMN",
    help="The target column, by name or number.  [default: the last; Y]",
)  # fmt: skip
@click.option(
    "--hidden", type=click.IntRange(min=1), required=True, metavar="H",
    help="Number of hidden units.",
)  # fmt: skip
@click.option("--bias/--no-bias", default=False, help="Biases of hidden units and output.")
@click.option(
    "--which", default="realisable", show_default=True, metavar="SET",
    help="realisable, all (2^(T h) patterns), attained, or boundary (faces between regions).",
)  # fmt: skip
@click.option("--json", "file", metavar="FILE", help="Write the table and all records here.")
@click.option(
    "--start", type=click.IntRange(min=0), default=0, metavar="INDEX",
    help="Go on behind an enumeration that was cut off.",
)  # fmt: skip
@click.option(
    "--jobs", type=click.IntRange(min=1), default=1, metavar="N",
    help="Processes; more than one pays from some 10,000 regions on.",
)  # fmt: skip
def regions(
    data: str,
    target: tuple[str | int, ...] | None,
    hidden: int,
    bias: bool,
    which: str,
    file: str | None,
    start: int,
    jobs: int,
) -> int:
    """Enumerate the regions and print how often each loss occurs."""
    from fastggn.analysis.relu.enumeration import enumerate_subglobal_minima
    from fastggn.analysis.relu.table import ValueCounts
    from fastggn.data.files import load_table
    from fastggn.runtime.atomic_files import check_writable

    with bad_input():
        table = load_table(data, target)
        if table.Y.shape[1] != 1:
            raise ValueError(f"one target column is due, got {', '.join(table.targets)}")
        records = enumerate_subglobal_minima(
            table.X, table.Y, hidden, bias, which, start=start, n_jobs=jobs,  # type: ignore[arg-type]
            progress=_Progress(),
        )  # fmt: skip
        if file is not None:
            check_writable(file)
    click.echo(
        f"{len(table.X)} samples, {hidden} hidden ReLU units, {'with' if bias else 'no'} biases: "
        f"{len(records.patterns)} patterns of a unit, {records.total} regions up to order"
    )
    counts = ValueCounts(table.Y[:, 0])
    kept: list[dict[str, Any]] = []
    stream = _kept(records, kept) if file is not None else records
    counts.add(stream, ("regions", "attained", "boundary"))
    columns = {name: counts.column(name).tolist() for name in ("regions", "attained", "boundary")}
    click.echo(_table({"loss": [f"{value:.6g}" for value in counts.values], **columns}))
    if file is not None:
        report = {
            "samples": table.X.shape[0],
            "hidden": hidden,
            "bias": bias,
            "which": which,
            "start": start,
            "total": records.total,
            "values": counts.values,
            **columns,
            "records": kept,
        }
        with bad_input(), open(file, "w", encoding="utf-8") as out:
            json.dump(report, out)
    return 0


def _kept(records: Iterable[RegionMinimum], kept: list[dict[str, Any]]) -> Iterator[RegionMinimum]:
    """Pass the records on and append each to `kept`."""
    for record in records:
        kept.append(record.to_dict())
        yield record


def _table(columns: dict[str, list[Any]]) -> str:
    """Return aligned columns."""
    lines = [list(columns), *([str(v) for v in row] for row in zip(*columns.values(), strict=True))]
    widths = [max(len(line[k]) for line in lines) for k in range(len(columns))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    )


class _Progress:
    """Shows the progress of the enumeration on a terminal, after the first second."""

    def __init__(self) -> None:
        self._next = time.monotonic() + 1.0
        self._shown = False

    def __call__(self, done: int, total: int) -> None:
        if not sys.stderr.isatty():
            return
        if done == total and self._shown:
            click.echo(err=True)
        elif time.monotonic() >= self._next:
            self._next, self._shown = time.monotonic() + 0.2, True
            click.echo(f"\r{done} of {total} regions", nl=False, err=True)
