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
from fastggn.apps.cli.models import activation_options, read_model_for, reading_options
from fastggn.apps.cli.outcome import DONE, bad_input, say
from fastggn.apps.cli.watch import Watch, watched
from fastggn.apps.outputs import STDOUT

if TYPE_CHECKING:
    from fastggn.data.table import Table
    from fastggn.model.model import Model

FloatArray = NDArray[np.float64]


MOST_ROWS = 20_000  # of a part

HELP = """Write the predictions of MODEL for the rows of DATA, one line a row.

The columns of the model are found by name, in any order; others are ignored, and a file without
them is refused. OUT is a .csv with the names of the targets, or an .npy array: the predictions, or
with --proba the probabilities alone. A row that the model leaves out, as train --missing drop does,
has an empty cell, in .npy NaN.

\b
Examples:
  fastggn predict houses.npz new-houses.csv -o prices.csv
  fastggn predict flowers.npz new-flowers.csv --proba -o kinds.csv
  fastggn predict houses.npz new-houses.csv --std -o prices.csv   after train --posterior"""


@click.command(help=HELP, short_help="Write the predictions of MODEL for DATA.")
@click.argument("model", type=INPUT, metavar="MODEL")
@click.argument("data", type=INPUT, metavar="DATA")
@click.option(
    "--out", "-o", type=OutputFile("table"), default=STDOUT, metavar="OUT",
    help="The predictions.  [default: print them]",
)  # fmt: skip
@click.option("--proba", is_flag=True, help="The probability of each class as well.")
@click.option("--std", is_flag=True, help="The standard deviation of each prediction as well.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
@reading_options
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
        known = read_model_for(model, foreign)
        predictions = Predictions(known, data, proba=proba, std=std)
        suffix = Path(out).suffix.lower()
        if out != STDOUT and suffix not in WRITERS:
            raise ValueError(f"{out}: the name must end in {' or '.join(WRITERS)}")
        if out == STDOUT:
            _write_csv(sys.stdout.buffer, predictions, watch)
            return DONE
        write_atomically(out, lambda stream: WRITERS[suffix](stream, predictions, watch))
    if not quiet:
        say(f"{out}: {predictions.n_rows} rows, {', '.join(predictions.names)}")
    return DONE


def _fault(model: Model, proba: bool, std: bool) -> str:
    """Return why the model cannot give what is asked for, and the remedy; empty if it can."""
    decision = model.decision
    if proba and decision is None:
        return "--proba is for classes, and the model predicts numbers: --std is for these"
    if proba and decision is not None and decision.link is None:
        return (f"--proba needs probabilities, and the loss {model.loss.name} has none: train with "
                "--loss softmax_cross_entropy")  # fmt: skip
    if std and decision is not None:
        return "--std is for numbers, and the model predicts classes: --proba is for these"
    if std and model.posterior is None:
        return "--std needs a posterior, and the model has none: train it with --posterior"
    return ""


class Predictions:
    """The predictions for the rows of a file, part by part."""

    def __init__(self, model: Model, data: str, *, proba: bool, std: bool) -> None:
        if fault := _fault(model, proba, std):
            raise ValueError(fault)
        self.model, self._data, self.proba, self._std = model, data, proba, std
        self.n_rows = 0
        targets = list(model.recipe.target_names)
        self.names = list(targets)
        if std:
            self.names += [f"{name} std" for name in targets]
        if proba:
            labels = model.recipe.classes or targets
            self.names += [f"p({label})" for label in labels]

    def parts(self, watch: Watch) -> Iterator[tuple[NDArray[Any], FloatArray]]:
        """Yield predictions (B, n) and further columns (B, m); left-out rows are None and NaN."""
        from fastggn.data.stream import read_parts

        model = self.model

        def progress(share: float) -> None:
            watch(share, 1.0, f"{self.n_rows:,} rows")

        for raw in read_parts(self._data, model.recipe.reading or {}, MOST_ROWS, progress):
            table = model.encode(raw, targets=False)
            both = self._of(table) if table.n_rows else self._of_none()
            if table.n_rows < raw.n_rows:
                both = _spread(both[0], table.rows, raw.n_rows), _spread(
                    both[1], table.rows, raw.n_rows)  # fmt: skip
            self.n_rows += raw.n_rows
            yield both

    def _of(self, table: Table) -> tuple[NDArray[Any], FloatArray]:
        model, decision = self.model, self.model.decision
        if self._std:
            return model.deviations_of(table.X)
        F = model.outputs_of(table.X)
        further = np.zeros((table.n_rows, 0))
        if decision is None:
            return F, further
        if self.proba:
            further = decision.probabilities(model.logits_of(table.X))
        winners = decision.winners(F)
        labels = winners if model.classes is None else model.classes[winners]
        return labels.reshape(table.n_rows, -1), further

    def _of_none(self) -> tuple[NDArray[Any], FloatArray]:
        """Return the predictions of no row."""
        n = len(self.model.recipe.target_names)
        return np.zeros((0, n), dtype=self.dtype), np.zeros((0, len(self.names) - n))

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the predictions."""
        if self.model.decision is None:
            return np.dtype(np.float64)
        classes = self.model.classes
        return np.dtype(np.int64) if classes is None else np.asarray(classes).dtype


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
        head = [predictions.names]  # with the first rows: a file that is refused prints nothing
        for first, further in predictions.parts(watch):
            lines.writerows(head)
            head = []
            lines.writerows(zip(*map(_cells, (*first.T, *further.T)), strict=True))
        text.flush()
    finally:
        text.detach()


def _cells(column: NDArray[Any]) -> list[Any]:
    """Return the cells of a column, numbers in full."""
    if column.dtype.kind == "f":
        return ["" if value != value else repr(value) for value in column.tolist()]
    return ["" if value is None else value for value in column.tolist()]


def _write_npy(stream: BinaryIO, predictions: Predictions, watch: Watch) -> None:
    from fastggn.data.npy import write_npy

    recipe = predictions.model.recipe
    gaps = (recipe.reading or {}).get("missing") == "drop"
    dtype = predictions.dtype
    if dtype.kind == "i" and gaps:
        dtype = np.dtype(np.float64)
    if predictions.proba:
        dtype = np.dtype(np.float64)

    def arrays() -> Iterator[NDArray[Any]]:
        for first, further in predictions.parts(watch):
            if predictions.proba:
                yield further
                continue
            if dtype.kind == "U":
                first = np.where(first == None, "", first)  # noqa: E711
            both = np.hstack([first, further]) if further.shape[1] else first
            yield both.reshape(len(both), *row)

    n = len(predictions.names) - (len(recipe.target_names) if predictions.proba else 0)
    row = (n,) if n > 1 or predictions.proba else ()
    write_npy(stream, arrays(), row, dtype)


WRITERS = {".csv": _write_csv, ".npy": _write_npy}
