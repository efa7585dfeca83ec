"""``fastggn evaluate``: the errors of a model on rows with targets, in parts of bounded size."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

from fastggn.apps.cli.files import INPUT, OutputFile, checked_outputs
from fastggn.apps.cli.models import activation_options, read_model_for, reading_options
from fastggn.apps.cli.outcome import DONE, bad_input, say
from fastggn.apps.cli.predict import MOST_ROWS
from fastggn.apps.cli.types import OneOf
from fastggn.apps.cli.watch import Watch, watched
from fastggn.apps.outputs import STDOUT, write_report

HELP = """Print the errors of MODEL on the rows of DATA, which has the targets too.

For each target rms and mae in its unit, and R2; for classes the accuracy, the log loss, and count,
precision and recall of each class. The columns of the model are found by name; a file without them
is refused. Missing targets are refused too, unless the model was trained with, or DATA is read with
--missing-targets ignore: then the errors are those of the known ones.

\b
Examples:
  fastggn evaluate houses.npz other-houses.csv
  fastggn evaluate flowers.npz other-flowers.csv --json"""


@click.command(help=HELP, short_help="Print the errors of MODEL on DATA.")
@click.argument("model", type=INPUT, metavar="MODEL")
@click.argument("data", type=INPUT, metavar="DATA")
@click.option(
    "--json", "json_file", type=OutputFile("report"), is_flag=False, flag_value=STDOUT,
    metavar="[FILE]", help="Write the errors as JSON, or print them.",
)  # fmt: skip
@click.option(
    "--missing-targets", type=OneOf(("error", "drop", "ignore")), metavar="HOW",
    help="Missing targets of DATA: error, drop (their rows), ignore.  [default: as in training]",
)  # fmt: skip
@reading_options
@activation_options
@checked_outputs
@watched
def evaluate(
    model: str,
    data: str,
    json_file: str | None,
    missing_targets: str | None,
    watch: Watch,
    **foreign: Any,
) -> int:
    """Evaluate a model on a file."""
    from fastggn.data.stream import read_parts
    from fastggn.model.metrics import Evaluation

    with bad_input():
        known = read_model_for(model, foreign)
        known = replace(known, recipe=known.recipe.with_missing_targets(missing_targets))
        found, count = Evaluation(known), 0

        def progress(share: float) -> None:
            watch(share, 1.0, f"{count:,} rows")

        for raw in read_parts(data, known.recipe.reading or {}, MOST_ROWS, progress):
            table = known.encode(raw, targets=True)
            if table.n_rows:  # a part may have no complete row
                found.add(table)
            count += table.n_rows
        if not count:
            raise ValueError(f"{data}: no row without missing values is left")
        metrics = found.metrics()
    if json_file != STDOUT:
        say(str(metrics))
    if json_file is not None:
        with bad_input():
            write_report(json_file, metrics.to_dict())
    return DONE
