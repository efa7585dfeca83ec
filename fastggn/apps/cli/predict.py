"""``fastggn predict``: the predictions of a model for new rows, in parts of bounded size."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click
import numpy as np
from numpy.typing import NDArray

from fastggn.apps.cli.files import INPUT, OutputFile, checked_outputs
from fastggn.apps.cli.models import activation_options, read_model
from fastggn.apps.cli.outcome import DONE, bad_input
from fastggn.apps.cli.watch import Watch, watched
from fastggn.apps.outputs import STDOUT

if TYPE_CHECKING:
    from fastggn.model.model import Model


MOST_ROWS = 20_000  # of a part

HELP = """Write the predictions of MODEL for the rows of DATA, one line a row.

The columns of the model are found by name, in any order; others are ignored, and a file without
them is refused. OUT is a .csv with the name of the target, or an .npy array. A row that the model
leaves out, as --missing drop of the training does, has an empty cell, in .npy NaN.

\b
Examples:
  fastggn predict houses.npz new-houses.csv -o prices.csv
  fastggn predict flowers.npz new-flowers.csv --proba -o kinds.csv
  fastggn predict houses.npz new-houses.csv --std -o prices.csv   after train --posterior"""


@click.command(
    help=HELP,
    short_help="Write the predictions of MODEL for DATA.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.argument("model", type=INPUT, metavar="MODEL")
@click.argument("data", type=INPUT, metavar="DATA")
@click.option(
    "--out", "-o", type=OutputFile("table"), default=STDOUT, metavar="OUT",
    help="The predictions.  [default: print them]",
)  # fmt: skip
@click.option("--proba", is_flag=True, help="The probability of each class as well.")
@click.option("--std", is_flag=True, help="The standard deviation of each prediction as well.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
@activation_options
@checked_outputs
@watched
def predict(
    model: str,
    data: str,
    out: str,
    proba: bool,
    std: bool,
    quiet: bool,
    watch: Watch,
    **foreign: Any,
) -> int:
    """Predict the rows of a file."""
    from fastggn.runtime.atomic_files import write_atomically

    with bad_input():
        known = read_model(model, **foreign)
        predictions = Predictions(known, data, proba=proba, std=std)
        suffix = Path(out).suffix.lower()
        if out != STDOUT and suffix not in WRITERS:
            raise ValueError(f"{out}: the name must end in {' or '.join(WRITERS)}")
        if out == STDOUT:
            with watch.holding():  # a line is printed whole
                _write_csv(sys.stdout.buffer, predictions, watch)
            return DONE
        write_atomically(out, lambda stream: WRITERS[suffix](stream, predictions, watch))
    if not quiet:
        click.echo(f"{out}: {predictions.n_rows} rows, {', '.join(predictions.names)}")
    return DONE


class Predictions:
    """The predictions for the rows of a file, part by part."""

    def __init__(self, model: Model, data: str, *, proba: bool, std: bool) -> None:
        decision = model.decision
        if proba and (decision is None or decision.link is None):
            raise ValueError("--proba needs a model of classes, with probabilities")
        if std and (decision is not None or model.posterior is None):
            raise ValueError("--std needs a model of fastggn train --posterior, of numbers")
        self._model, self._data, self._proba, self._std = model, data, proba, std
        self.n_rows = 0
        targets = list(model.recipe.target_names)
        self.names = list(targets)
        if std:
            self.names += [f"{name} std" for name in targets]
        if proba:
            labels = model.recipe.classes or targets
            self.names += [f"p({label})" for label in labels]

    def parts(self, watch: Watch) -> Iterator[tuple[NDArray[Any], NDArray[np.float64]]]:
        """Yield predictions (B, n) and further columns (B, m); left-out rows are None and NaN."""
        from fastggn.data.stream import read_parts

        model = self._model
        for raw in read_parts(self._data, model.recipe.reading or {}, MOST_ROWS):
            table = model.encode(raw, targets=False)
            first, further = self._of(table)
            if table.n_rows < raw.n_rows:
                first, further = (_spread(part, table.rows, raw.n_rows)
                                  for part in (first, further))  # fmt: skip
            self.n_rows += raw.n_rows
            watch(0.0, 1.0, f"{self.n_rows:,} rows")
            yield first, further

    def _of(self, table: Any) -> tuple[NDArray[Any], NDArray[np.float64]]:
        model, decision = self._model, self._model.decision
        if self._std:
            return model.deviations_of(table.X)
        F = model.outputs_of(table.X)
        further = np.zeros((table.n_rows, 0))
        if decision is None:
            return F, further
        if self._proba:
            further = model.predict_proba(table)
        winners = decision.winners(F)
        labels = winners if model.classes is None else model.classes[winners]
        return labels.reshape(table.n_rows, -1), further


def _spread(part: NDArray[Any], rows: NDArray[np.intp], total: int) -> NDArray[Any]:
    """Return rows of a part at their places among all rows."""
    floats = part.dtype.kind == "f"
    out = np.full((total, part.shape[1]), np.nan if floats else None,
                  dtype=part.dtype if floats else object)  # fmt: skip
    out[rows] = part
    return out


def _write_csv(stream: BinaryIO, predictions: Predictions, watch: Watch) -> None:
    text = io.TextIOWrapper(stream, encoding="utf-8", newline="", write_through=True)
    try:
        lines = csv.writer(text, lineterminator="\n")
        lines.writerow(predictions.names)
        for first, further in predictions.parts(watch):
            both = zip(first.tolist(), further.tolist(), strict=True)
            lines.writerows([_cell(v) for v in (*a, *b)] for a, b in both)
        text.flush()
    finally:
        text.detach()


def _cell(value: Any) -> Any:
    missing = value is None or (isinstance(value, float) and np.isnan(value))
    return "" if missing else repr(value) if isinstance(value, float) else value


def _write_npy(stream: BinaryIO, predictions: Predictions, watch: Watch) -> None:
    kept = [np.hstack([first, further]) if further.shape[1] else first
            for first, further in predictions.parts(watch)]  # fmt: skip
    array = np.concatenate(kept)
    if array.dtype == object:
        array = array.astype(np.float64 if _numeric(array) else str)
    np.save(stream, array[:, 0] if array.shape[1] == 1 else array, allow_pickle=False)


def _numeric(array: NDArray[Any]) -> bool:
    return all(v is None or isinstance(v, (int, float)) for v in array.ravel())


WRITERS = {".csv": _write_csv, ".npy": _write_npy}
