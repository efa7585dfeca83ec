"""``fastggn landscape regions``: the subglobal minima of a one-hidden-layer ReLU network."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fastggn.apps.cli.files import INPUT, JSON, checked_outputs
from fastggn.apps.cli.outcome import DONE, INTERRUPTED, STOPPED_EARLY, BadInput, bad_input
from fastggn.apps.cli.types import TARGET
from fastggn.apps.cli.watch import Watch, watched
from fastggn.apps.outputs import STDOUT, write_report
from fastggn.runtime.memory import available_memory

if TYPE_CHECKING:
    from fastggn.analysis.relu.enumeration import SubglobalMinima
    from fastggn.analysis.relu.table import ValueCounts

COLUMNS = ("regions", "attained", "boundary")
RECORD = 1500  # bytes of a kept record, and 100 for each weight

HELP = """List the losses of the local minima of a one-hidden-layer ReLU network on DATA.

Every region of the weights in which the activations stay the same has one least loss, its subglobal
minimum (half the sum of squares). The table counts the regions, orderings of the hidden units
included, by that loss; those whose minimum lies inside are the network's differentiable local
minima.

\b
Examples:
  fastggn landscape regions houses.csv --target price --hidden 1
  fastggn landscape regions houses.csv --hidden 1 --bias --which attained --json minima.json

DATA is a table as in fastggn train; its numbers are taken as they are, without scaling. The JSON
report holds the table and all records. Ctrl-C and --max-time end the list early, with what there is
so far and the index from which --start goes on."""


@click.command(
    help=HELP, short_help="Losses of the local minima of a one-hidden-layer ReLU network."
)
@click.argument("data", type=INPUT, metavar="DATA")
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
@click.option(
    "--start", type=click.IntRange(min=0), default=0, metavar="INDEX",
    help="Go on behind an enumeration that was cut off.",
)  # fmt: skip
@click.option(
    "--jobs", type=click.IntRange(min=1), default=1, metavar="N",
    help="Processes; more than one pays from some 10,000 regions on.",
)  # fmt: skip
@JSON
@checked_outputs
@watched
def regions(
    data: str,
    target: tuple[str | int, ...] | None,
    hidden: int,
    bias: bool,
    which: str,
    start: int,
    jobs: int,
    json_file: str | None,
    watch: Watch,
) -> int:
    """Enumerate the regions and print how often each loss occurs."""
    from fastggn.analysis.relu.enumeration import enumerate_subglobal_minima
    from fastggn.analysis.relu.table import ValueCounts
    from fastggn.apps.cli.tables import numbers_of

    with bad_input():
        table = numbers_of(data, target)
        if table.Y.shape[1] != 1:
            raise ValueError(f"one target column is due, got {', '.join(table.targets)}")
        records = enumerate_subglobal_minima(
            table.X, table.Y, hidden, bias, which, start=start, n_jobs=jobs,  # type: ignore[arg-type]
            progress=watch,
        )  # fmt: skip
        _expect(watch, records, start, jobs, hidden * (table.X.shape[1] + 2), json_file)
    if json_file != STDOUT:
        click.echo(
            f"{len(table.X)} samples, {hidden} hidden ReLU units, {'with' if bias else 'no'} "
            f"biases: {len(records.patterns)} patterns of a unit, {records.total} regions up to "
            "order"
        )
    counts = ValueCounts(table.Y[:, 0])
    kept: list[dict[str, Any]] = []
    reached = _count(records, counts, None if json_file is None else kept, watch, start)
    columns = {name: counts.column(name).tolist() for name in COLUMNS}
    if json_file != STDOUT:
        click.echo(_table({"loss": [f"{value:.6g}" for value in counts.values], **columns}))
    if json_file is not None:
        report = {
            "samples": table.X.shape[0],
            "hidden": hidden,
            "bias": bias,
            "which": which,
            "start": start,
            "next": reached,
            "total": records.total,
            "values": counts.values,
            **columns,
            "records": kept,
        }
        with bad_input():
            write_report(json_file, report)
    if reached == records.total:
        return DONE
    click.echo(
        f"fastggn: stopped at region {reached} of {records.total}: --start {reached} goes on",
        err=True,
    )
    return INTERRUPTED if json_file in (None, STDOUT) else STOPPED_EARLY


def _expect(
    watch: Watch, records: SubglobalMinima, start: int, jobs: int, n_params: int, file: str | None
) -> None:
    """Tell the cost of the enumeration; refuse one without an end, or without room for its list."""
    count = max(0, records.total - start)
    work = f"{count:,} regions"
    remedy = "take fewer samples or hidden units, "
    watch.expect(count * records.pace() / jobs, work, remedy)
    needed, free = count * (RECORD + 100 * n_params), available_memory()
    if file is not None and watch.max_time is None and needed > free:
        raise BadInput(
            f"{work}: their list takes about {needed / 2**30:,.1f} GiB, of which "
            f"{free / 2**30:.1f} are free: {remedy}or leave out --json"
        )


def _count(
    records: SubglobalMinima,
    counts: ValueCounts,
    kept: list[dict[str, Any]] | None,
    watch: Watch,
    start: int,
) -> int:
    """Count the records, and return the index behind the last one."""
    reached = start
    watch.patient()
    try:
        for record in records:
            with watch.holding():
                counts.add([record], COLUMNS)
                if kept is not None:
                    kept.append(record.to_dict())
                reached = record.index + 1
        reached = records.total
    except KeyboardInterrupt:
        watch.hold()
    return reached


def _table(columns: dict[str, list[Any]]) -> str:
    """Return aligned columns."""
    lines = [list(columns), *([str(v) for v in row] for row in zip(*columns.values(), strict=True))]
    widths = [max(len(line[k]) for line in lines) for k in range(len(columns))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
        for line in lines
    )
