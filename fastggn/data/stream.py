"""Tables that are read in parts, in constant memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fastggn.data.arrays import from_array, from_frame, from_named
from fastggn.data.columns import Raw, with_names
from fastggn.data.hdf5 import data_sets, open_hdf5
from fastggn.data.npy import open_npy
from fastggn.data.read_table import Names, chosen_columns
from fastggn.data.readers import kind_of, open_parquet, read_raw
from fastggn.data.recipe import Column, Recipe, TableError
from fastggn.data.scaling import split_columns
from fastggn.data.table import Table
from fastggn.data.text_table import SUFFIXES, TextFile
from fastggn.runtime.archive import require_file

Progress = Callable[[float], None]
Part = tuple[Raw, float]
HDF5 = (".h5", ".hdf5")
PARQUET = (".parquet", ".pq")


def stream_table(
    source: str | os.PathLike[str], target: Names = None, *, inputs: Names = None, drop: Names = ()
) -> Table:
    """Open a table of numbers whose samples stay in the file.

    Parameters
    ----------
    source : path-like
        ``.npy`` with one array (T, n) in C order, or ``.h5`` with data sets X (T, n_0) and Y
        (T, n_L), whose names may be in lower case.
    target : str, int or sequence of them, optional
        The target columns of an array (called ``x0``, ``x1``, ... or by position), by default the
        last one; the data set of targets in ``.h5``, by default Y.
    inputs, drop : str, int or sequence of them, optional
        The input columns of an array, by default all others; columns that are left out.

    Returns
    -------
    Table
        X and Y have shape, dtype and row slices, and are checked where they are read.

    Raises
    ------
    TableError
        If a column or data set is missing.
    ValueError
        If the file is missing or damaged, or holds a table of another kind: `read_table` reads it
        into the memory.
    """
    file = require_file(source)
    kind = kind_of(file)
    if kind == ".npy":
        return _stream_npy(file, target, inputs, drop)
    if kind in HDF5 and inputs is None and not drop:
        return _stream_hdf5(file, target)
    raise ValueError(
        f"{file}: only .npy, and .h5 with all columns of X, stay in their file; fastggn convert "
        "writes .npy from text"
    )


def _stream_npy(file: Path, target: Names, inputs: Names, drop: Names) -> Table:
    array = open_npy(file)
    if len(array.shape) != 2 or array.shape[1] < 2 or array.shape[0] == 0:
        raise TableError(str(file), [f"shape {array.shape}; inputs and a target need (T, 2)"])
    raw = from_array(array[:1], str(file))
    chosen = chosen_columns(raw, -1 if target is None else target, "target")
    out = chosen_columns(raw, drop, "drop")
    wanted = raw.names if inputs is None else chosen_columns(raw, inputs, "inputs")
    kept = [n for n in wanted if n not in chosen and n not in out]
    faults = [f"the target {n!r} is dropped" for n in chosen if n in out]
    if faults or not kept or not chosen:
        raise TableError(str(file), faults or ["no input column is left"])
    left_out = tuple((n, "as asked") for n in raw.names if n not in chosen and n not in kept)
    X, Y = split_columns(
        array, [raw.names.index(n) for n in chosen], [raw.names.index(n) for n in kept]
    )
    return _table(X, Y, kept, chosen, left_out, raw.names, file, np.dtype(array.dtype))


def _stream_hdf5(file: Path, target: Names) -> Table:
    with open_hdf5(file) as archive:
        found = {name.lower(): name for name in data_sets(archive, file)}
        wanted = ["y"] if target is None else [target] if isinstance(target, str) else target
    names = ["x", *(str(name).lower() for name in (wanted if isinstance(wanted, list) else []))]
    absent = [name for name in names if name not in found]
    if absent or len(names) != 2:
        raise TableError(
            str(file),
            [f"there is no data set {n!r}" for n in absent] or ["give one data set of targets"],
            f"the data sets there are: {', '.join(found.values())}",
        )
    import h5py

    archive = h5py.File(file, "r")  # open as long as a data set is in use
    X, Y = (archive[found[name]] for name in names)
    if X.ndim != 2 or Y.ndim != 2 or X.shape[0] != Y.shape[0] or "MATLAB_class" in X.attrs:
        hint = ": samples are rows" if X.shape[-1] == Y.shape[-1] else ""
        raise ValueError(
            f"{file}: X has shape {X.shape} and {found[names[1]]} {Y.shape}{hint}; a file that is "
            "streamed needs (T, n_0) and (T, n_L)"
        )
    inputs, targets = ([f"{letter}{j}" for j in range(data.shape[1])]
                       for letter, data in zip(names, (X, Y), strict=True))  # fmt: skip
    return _table(X, Y, inputs, targets, (), (*inputs, *targets), file, X.dtype)


def _table(
    X: Any,
    Y: Any,
    inputs: Sequence[str],
    targets: Sequence[str],
    left_out: tuple[tuple[str, str], ...],
    columns: tuple[str, ...],
    file: Path,
    dtype: np.dtype[Any],
) -> Table:
    """Return the table of columns of numbers that stay in a file."""
    if dtype.kind not in "fiub":
        raise ValueError(f"{file}: X must hold real numbers, got dtype {dtype}")
    stored = str(dtype) if dtype.kind == "f" and dtype.itemsize < 8 else ""
    kept, chosen = (tuple(Column(n, "number", stored=stored) for n in names)
                    for names in (inputs, targets))  # fmt: skip
    recipe = Recipe(kept, chosen, left_out, False, {}, columns)
    rows = np.arange(X.shape[0], dtype=np.int32 if X.shape[0] < 2**30 else np.intp)
    return Table(X, Y, recipe, rows, None, str(file))


def read_parts(
    source: Any, reading: Mapping[str, Any], most_rows: int, progress: Progress = lambda share: None
) -> Iterator[Raw]:
    """Yield the raw columns of a source in parts of at most `most_rows` rows.

    Parameters
    ----------
    source : path-like, frame, mapping or arrays
        As for `read_table`. Text, ``.npy``, ``.h5`` and Parquet are read in constant memory, any
        other source at once.
    reading : mapping
        Arguments of `read_table`: `header`, `decimal`, `encoding`, `sheet`; for new rows of a model
        ``model.recipe.reading``.
    most_rows : int
        The largest number of rows of a part.
    progress : callable, optional
        A function of the share of the source so far, 0 to 1; 0 of the standard input.

    Yields
    ------
    Raw
        The argument of ``model.recipe.encode(part, whole=False)``.

    Raises
    ------
    ValueError
        If the source cannot be read; also after some parts.
    """
    for part, share in _parts(source, reading, most_rows):
        progress(min(1.0, share))
        yield with_names(part)


def _parts(source: Any, reading: Mapping[str, Any], most_rows: int) -> Iterator[Part]:
    """Yield parts, and the share of the source that they end."""
    if isinstance(source, str) and source == "-":
        yield from ((part, 0.0) for part in TextFile("-", reading).parts(most_rows))
        return
    if isinstance(source, (str, os.PathLike)):
        file = require_file(source)
        kind = kind_of(file)
        if kind in SUFFIXES:
            text, size = TextFile(file, reading), max(1, file.stat().st_size)
            yield from ((part, text.position / size) for part in text.parts(most_rows))
            return
        if kind == ".npy" and _is_plain(file):
            array = open_npy(file)
            for start in range(0, array.shape[0], most_rows):
                part = from_array(np.array(array[start : start + most_rows]), str(file))
                yield replace(part, first_row=start), (start + most_rows) / array.shape[0]
            return
        if kind in HDF5:
            yield from _hdf5_parts(file, most_rows)
            return
        if kind in PARQUET:
            with open_parquet(file) as parquet:
                start, total = 0, max(1, parquet.metadata.num_rows)
                for batch in parquet.iter_batches(batch_size=most_rows):
                    part = from_frame(batch.to_pandas(), str(file))
                    yield replace(part, first_row=start), (start + part.n_rows) / total
                    start += part.n_rows
            return
    yield from _of_memory(read_raw(source, reading), most_rows)


def _of_memory(raw: Raw, most_rows: int) -> Iterator[Part]:
    for start in range(0, raw.n_rows, most_rows):
        yield raw.take(slice(start, start + most_rows)), (start + most_rows) / raw.n_rows


def _is_plain(file: Path) -> bool:
    """Whether an array is one of rows of numbers in C order."""
    try:
        return len(open_npy(file).shape) == 2
    except ValueError:
        return False  # the reader of whole arrays takes it, or names the fault


def _hdf5_parts(file: Path, most_rows: int) -> Iterator[Part]:
    """Yield parts of the data sets with as many rows as X."""
    with open_hdf5(file) as archive:
        found = data_sets(archive, file)
        x = next((item for name, item in found.items() if name.lower() == "x"), None)
        if x is None or "MATLAB_class" in x.attrs or x.ndim not in (1, 2):
            yield from _of_memory(read_raw(file, {}), most_rows)
            return
        total = x.shape[0]
        data = {n: d for n, d in found.items() if d.ndim in (1, 2) and d.shape[0] == total}
        for start in range(0, total, most_rows):
            part = {name: item[start : start + most_rows] for name, item in data.items()}
            raw = replace(from_named(part, str(file)), first_row=start)
            yield raw, (start + most_rows) / total
