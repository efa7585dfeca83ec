"""A text table of numbers written as an array file, in bounded memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastggn.data.columns import Raw, listed, read_as, with_names
from fastggn.data.npy import write_npy
from fastggn.data.read_table import Names, chosen_columns
from fastggn.data.readers import kind_of
from fastggn.data.recipe import Column, TableError, column_faults
from fastggn.data.text_table import SUFFIXES, TextFile
from fastggn.runtime.archive import require_file
from fastggn.runtime.atomic_files import check_writable, write_atomically

FloatArray = NDArray[np.float64]
Progress = Callable[[int, float], None]

ROWS_PER_PART = 20_000
CELLS_PER_PART = 400_000


@dataclass(frozen=True)
class Conversion:
    """The rows and columns of a written file.

    `inputs` and `targets` are the names of the columns.
    """

    n_rows: int
    inputs: tuple[str, ...]
    targets: tuple[str, ...]


def convert_table(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    target: Names = None,
    progress: Progress = lambda rows, share: None,
    *,
    header: str | bool = "auto",
    decimal: str = ".",
    encoding: str = "utf-8-sig",
) -> Conversion:
    """Write the numbers of a text file to ``.npy``, in parts.

    Parameters
    ----------
    path : path-like
        ``.csv``, ``.tsv``, ``.txt`` and their relatives, or one of them with ``.gz``: rows of
        numbers, with or without a line of column names.
    out : path-like
        ``.npy``: one array, with the target columns last. The file is replaced atomically, after
        everything is written.
    target : str, int or sequence of them, optional
        The target columns by name or number; by default the last column.
    progress : callable, optional
        A function of the rows so far and the share of the file, 0 to 1.
    header, decimal, encoding
        As in `read_table`.

    Returns
    -------
    Conversion
        The rows and columns.

    Raises
    ------
    TableError
        If a column does not exist, or cells are no finite numbers: all columns of the first part
        with a fault are named. `out` is then unchanged, as for every error.
    ValueError
        If the file is missing, empty, not text or of an unknown kind, or if a row has another
        number of columns.
    OSError
        If the file cannot be read, or if `out` cannot be written (a full disk).
    """
    source, sink = require_file(path), Path(out)
    if kind_of(source) not in SUFFIXES:
        raise ValueError(f"{source}: not a text table (known: {', '.join(SUFFIXES)})")
    if sink.suffix.lower() != ".npy":
        raise ValueError(f"{sink}: unknown kind of file (known: .npy)")
    check_writable(sink)
    text = TextFile(source, {"header": header, "decimal": decimal, "encoding": encoding})
    names = with_names(text.head()).names
    targets = chosen_columns(with_names(text.head()), -1 if target is None else target, "target")
    inputs = [name for name in names if name not in targets]
    if not inputs:
        raise TableError(str(source), [f"{listed(names)}: inputs and a target need at least 2"])
    size, count = max(1, source.stat().st_size), 0

    def parts() -> Iterator[FloatArray]:
        nonlocal count
        for raw in text.parts(max(1, min(ROWS_PER_PART, CELLS_PER_PART // len(names)))):
            count += raw.n_rows
            progress(count, min(1.0, text.position / size))
            yield _numbers(with_names(raw), [*inputs, *targets])

    write_atomically(sink, lambda file: write_npy(file, parts(), (len(names),)))
    return Conversion(count, tuple(inputs), tuple(targets))


def _numbers(raw: Raw, names: list[str]) -> FloatArray:
    """Return columns as an array of finite numbers, or raise one error for all of them."""
    readings = {name: read_as(raw.column(name), "number", raw.decimal) for name in names}
    rows = np.arange(raw.n_rows)
    faults = [
        fault
        for name in names
        for fault in column_faults(Column(name, "number"), readings[name], raw, rows)
    ]
    if faults:
        raise TableError(raw.source, faults, "fastggn train reads such columns from the text")
    return np.column_stack([readings[name].values for name in names])
