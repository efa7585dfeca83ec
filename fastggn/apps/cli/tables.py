"""Tables of commands: in memory, in their file, or built in."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.data.builtin import DATASETS
from fastggn.data.columns import label_of, listed, read_as
from fastggn.data.hdf5 import data_sets, open_hdf5
from fastggn.data.npy import open_npy
from fastggn.data.read_table import chosen_columns, read_table
from fastggn.data.recipe import Column, TableError, column_faults
from fastggn.data.stream import HDF5, stream_table
from fastggn.data.table import Table
from fastggn.model.model import Model
from fastggn.runtime.comm import SERIAL, Comm
from fastggn.runtime.errors import unknown_name
from fastggn.runtime.memory import available_memory

# A file whose numbers, as float64, take more than this share of the free memory stays in its place:
# in memory a table is held up to three times, as stored, converted and scaled.
MOST_OF_MEMORY = 0.25
MOST_CLASSES = 1000


def stays(path: str, asked: bool | None = None, comm: Comm = SERIAL) -> bool:
    """Whether a table stays in its file: as asked for, else for lack of memory."""
    if asked is not None:
        return asked
    if Path(path).suffix.lower() not in (".npy", *HDF5) or not os.path.isfile(path):
        return False
    return 8 * _numbers(Path(path)) > MOST_OF_MEMORY * comm.memory_share(available_memory())


def _numbers(file: Path) -> int:
    """Return how many numbers a file of arrays holds, which may be compressed or of 4 bytes."""
    try:
        if file.suffix.lower() in HDF5:
            with open_hdf5(file) as archive:
                return sum(item.size for item in data_sets(archive, file).values())
        return math.prod(open_npy(file).shape)
    except (ImportError, ValueError):  # which the reader of the table raises again
        return os.path.getsize(file) // 8


def rows_of(
    model: Model,
    data: str,
    comm: Comm = SERIAL,
    *,
    stream: bool | None = None,
    targets: bool | None = True,
) -> Table:
    """Return the rows of DATA as a model takes them; columns of numbers may stay in the file."""
    if stays(data, stream, comm) and (stream or _numeric(model)):
        return _in_file(model, data, comm)
    return model.encode(data, targets=targets)


def _numeric(model: Model) -> bool:
    """Whether all inputs are numbers as they stand."""
    columns = (*model.recipe.inputs, *(() if model.classes is not None else model.recipe.targets))
    return all(c.kind == "number" and c.fill is None for c in columns)


def _in_file(model: Model, path: str, comm: Comm) -> Table:
    """Return the rows of a file that stays where it is."""
    recipe = model.recipe
    if not _numeric(model):
        raise ValueError(f"--stream: the model has columns other than numbers, {path} none")
    wanted, given = list(recipe.input_names), list(recipe.target_names)
    whole = list(recipe.columns) or [*wanted, *given]
    if Path(path).suffix.lower() in HDF5:
        table = stream_table(path)
    else:
        inputs, targets = ([whole.index(name) for name in names] for names in (wanted, given))
        table = stream_table(path, targets, inputs=inputs)
    widths = (table.X.shape[1], table.Y.shape[1])
    if widths != (len(wanted), len(given)):
        raise TableError(path, [f"{widths[0]} inputs and {widths[1]} targets, where the model "
                                f"takes {len(wanted)} and {len(given)}"])  # fmt: skip
    if recipe.classes is not None:
        table = labelled(table, comm, recipe.classes)
    return replace(table, recipe=recipe)


def labelled(table: Table, comm: Comm, levels: Sequence[str] = ()) -> Table:
    """Return a table in a file with all its labels in memory, as the numbers of these classes.

    Each rank reads its share of them.
    """
    name, own = table.targets[0], comm.share(table.n_rows)
    with comm.raise_on_all():
        labels = np.asarray(table.Y[own], dtype=np.float64)[:, 0]
    values, codes = np.unique(comm.concatenate(labels), return_inverse=True)
    if values.size > MOST_CLASSES or not np.isfinite(values).all():
        raise TableError(
            table.source, [f"target {name!r} has {values.size} different values: no class labels"]
        )
    found = [label_of(value) for value in values]
    known = list(levels) or sorted(found)
    if unknown := [label for label in found if label not in known]:
        raise TableError(
            table.source,
            [f"target {name!r}: unknown classes {listed(unknown)} (known: {listed(known, 12)})"],
        )
    place = np.array([known.index(label) for label in found], dtype=np.int64)
    target = Column(name, "category", tuple(known))
    return replace(table, Y=place[codes], recipe=replace(table.recipe, targets=(target,)))


def builtin_table(name: str, labels: bool, **options: Any) -> Table:
    """Return built-in samples, with classes as labels or as numbers."""
    if name not in DATASETS:
        raise unknown_name("--dataset", name, DATASETS)
    dataset = DATASETS[name]
    if labels and not dataset.classes:
        raise ValueError(f"the loss needs classes; --dataset {name} has none")
    X, Y = dataset.make(**{key: options[key] for key in options if key in dataset.options})
    return replace(read_table((X, Y), categorical=["y0"] if labels else None), source=name)


def drawn_again(model: Model) -> Table:
    """Return the built-in samples of the training of a model."""
    run = model.training
    name = str(run.get("source", ""))
    if name not in DATASETS:
        raise ValueError(f"the model was trained on {name or 'unknown samples'}: give DATA")
    labels = model.classes is not None
    return builtin_table(name, labels, seed=samples_seed(model), T=int(run["n_rows"]))


def samples_seed(model: Model) -> int:
    """Return the seed of built-in samples: a run that went on from weights has another itself."""
    return int(model.training.get("samples_seed", model.training["seed"]))


def training_rows(model: Model, samples: Table, comm: Comm = SERIAL) -> Table:
    """Return the rows that a model was trained on, all rows of another table than its own."""
    if model.split is None:
        return samples
    if samples.digest_over(comm) != model.digest:
        return samples
    labels = samples.Y if model.classes is not None else None
    return samples.take(model.split.rows(samples.n_rows, labels)[0])


def own_rows(samples: Table, comm: Comm) -> Table:
    """Return this rank's share of the rows."""
    if comm.size == 1:
        return samples
    own = comm.share(samples.n_rows)
    return samples.take(np.arange(own.start, own.stop))


def slopes_of(table: Table, names: Sequence[str | int]) -> NDArray[np.float64]:
    """Return the derivatives of the target by the inputs in columns, shape (T, 1, n_0)."""
    assert table.raw is not None
    faults = []
    chosen = chosen_columns(table.raw, names, "--gradient-columns")
    others = [c.name for c in table.recipe.inputs if c.kind not in ("number", "percent")]
    if table.classes is not None or len(table.targets) != 1:
        faults.append(f"--gradient-columns needs one target of numbers, not {list(table.targets)}")
    if others or any(c.indicator for c in table.recipe.inputs):
        faults.append(f"--gradient-columns needs inputs of numbers without gaps, not {others}")
    elif len(chosen) != len(table.inputs):
        faults.append(
            f"--gradient-columns names {len(chosen)} columns for {len(table.inputs)} inputs: "
            f"give the derivatives by {listed(table.inputs, 20)}, in this order"
        )
    numbers = []
    for name in chosen:
        reading = read_as(table.raw.column(name), "number", table.raw.decimal).take(table.rows)
        faults += column_faults(Column(name, "number"), reading, table.raw, table.rows)
        numbers.append(reading.values)
    if faults:
        raise TableError(table.source, faults)
    return np.column_stack(numbers)[:, None, :]


def numbers_of(data: str, target: Sequence[str | int] | None) -> Table:
    """Return a table whose targets are numbers, as they are."""
    table = read_table(data, target)
    if table.classes is not None:
        raise TableError(table.source, [f"target {table.targets[0]!r} holds text: give numbers"])
    return table
