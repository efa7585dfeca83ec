"""Columns from objects in memory: arrays, frames, mappings, files of named arrays."""

from __future__ import annotations

import datetime
import decimal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.data.columns import Raw, listed
from fastggn.data.layout import Record, find_layout, is_blank

Array = NDArray[Any]
NUMBERS = (int, float, decimal.Decimal)
SPARSE = "it is sparse: convert it to a dense column"
TRANSPOSED = "samples are rows: pass x.T"


@contextmanager
def foreign_file(file: Path, kind: str) -> Iterator[None]:
    """Turn the errors of other libraries, which are of many types, into one that names the file."""
    try:
        yield
    except (ImportError, MemoryError):
        raise
    except Exception as error:
        raise ValueError(f"{file}: not a readable {kind} file ({error!r:.300})") from None


class UnusableColumn(TypeError):
    """A column that holds neither numbers, nor dates, nor text; `rows` is its length."""

    rows = 0


def raw_of(columns: Iterable[tuple[str, Callable[[], Any]]], source: str, **about: Any) -> Raw:
    """Return columns by name; a column that cannot be used keeps the reason."""
    names: list[str] = []
    values: list[Array | None] = []
    faulty: dict[str, str] = {}
    for name, read in columns:
        names.append(name)
        try:
            values.append(column_of(read()))
        except UnusableColumn as error:
            faulty[name] = str(error)
            values.append(np.full(error.rows, None) if error.rows else None)
    sizes = {n: v.shape[0] for n, v in zip(names, values, strict=True) if v is not None}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"{source}: the columns have different lengths: {sizes}")
    if not names or not all(sizes.values()):
        raise ValueError(f"{source}: the table is empty")
    n_rows = next(iter(sizes.values()), 1)
    filled = tuple(np.full(n_rows, None) if v is None else v for v in values)
    return Raw(tuple(names), filled, source, faulty=faulty, **about)


def column_of(values: Any) -> Array:
    """Return a column as numbers, datetime64[us], or cells of text and numbers."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise UnusableColumn(f"a column must have shape (T,), got {array.shape}")
    try:
        return _converted(array)
    except UnusableColumn as error:
        error.rows = array.shape[0]
        raise


def _converted(array: Array) -> Array:
    """Return a vector of any type as a column."""
    kind = array.dtype.kind
    if kind in "fiu":
        return array
    if kind == "b":
        return np.where(array, "True", "False").astype(object)
    if kind == "M":
        return array.astype("datetime64[us]")
    if kind in "US":
        return np.array([_text(cell) for cell in array.tolist()], dtype=object)
    if kind != "O":
        words = {"c": "complex numbers", "m": "durations: convert them to numbers"}
        raise UnusableColumn(f"it holds {words.get(kind, str(array.dtype))}")
    return _cells(array)


def _cells(array: Array) -> Array:
    """Return objects as cells of text and numbers, or as one kind if all have it."""
    cells = np.empty(array.shape[0], dtype=object)
    kinds = set()
    for j, cell in enumerate(array.tolist()):
        kind = type(cell)
        if kind is not str and (cell is None or str(cell) in ("nan", "<NA>", "NaT")):
            continue
        kinds.add(kind)
        if kind is str:
            cells[j] = cell
        elif isinstance(cell, (bool, bytes, np.bool_)):
            cells[j] = _text(cell)
        elif isinstance(cell, (*NUMBERS, np.number)) and not isinstance(cell, complex):
            cells[j] = float(cell) if isinstance(cell, decimal.Decimal) else cell
        elif isinstance(cell, (datetime.date, np.datetime64)):
            cells[j] = _moment(cell)
        else:
            raise UnusableColumn(f"it holds objects of type {kind.__name__}")
    if kinds and all(issubclass(k, (*NUMBERS, np.number)) and k is not bool for k in kinds):
        return np.array([np.nan if c is None else float(c) for c in cells])
    if kinds and all(issubclass(k, (datetime.date, np.datetime64)) for k in kinds):
        return np.array([np.datetime64("NaT") if c is None else c for c in cells], "datetime64[us]")
    return cells


def _text(cell: Any) -> str:
    if isinstance(cell, bytes):
        try:
            return cell.decode()
        except UnicodeDecodeError:
            return cell.decode("latin-1")
    return str(cell)


def _moment(cell: Any) -> datetime.datetime | datetime.date:
    """Return a date without a zone, in UTC."""
    if isinstance(cell, np.datetime64):
        found: datetime.datetime | datetime.date = cell.astype("datetime64[us]").item()
        return found
    if hasattr(cell, "to_pydatetime"):
        cell = cell.to_pydatetime(warn=False)
    if getattr(cell, "tzinfo", None) is not None:
        cell = cell.astimezone(datetime.timezone.utc).replace(tzinfo=None)
    moment: datetime.datetime | datetime.date = cell
    return moment


def from_array(array: Array, name: str, letter: str = "x") -> Raw:
    """Return the columns of an array (T, n), called x0, x1, ..."""
    if array.dtype.names:
        fields = [(key, lambda key=key: array[key]) for key in array.dtype.names]
        return raw_of(fields, name)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"{name} must have shape (T, n) and not be empty, got {array.shape}")
    if array.dtype.kind == "b":
        array = array.astype(np.float64)
    notes: tuple[str, ...] = ()
    if array.shape[1] > 10 * array.shape[0]:
        notes = (f"{array.shape[0]} rows of {array.shape[1]} columns: {TRANSPOSED}",)
    parts = [(f"{letter}{j}", lambda j=j: array[:, j]) for j in range(array.shape[1])]
    return raw_of(parts, name, named=False, notes=notes)


def from_frame(frame: Any, name: str) -> Raw:
    """Return the columns of a pandas or polars frame."""
    parts = [
        (str(key), lambda j=j, key=key: _series(frame, j, key))
        for j, key in enumerate(frame.columns)
    ]
    index = getattr(frame, "index", None)
    notes: tuple[str, ...] = ()
    if index is not None and any(label is not None for label in index.names):
        names = ", ".join(repr(str(label)) for label in index.names)
        notes = (f"the index {names} of the frame is no column; reset_index() makes it one",)
    return raw_of(parts, name, notes=notes)


def _series(frame: Any, position: int, key: Any) -> Array:
    """Return the values of one column of a frame."""
    if not hasattr(frame, "iloc"):
        series = frame[key]
        if str(series.dtype).startswith("Boolean"):
            return np.array(series.to_list(), dtype=object)
        return np.asarray(series.to_numpy())
    series = frame.iloc[:, position]
    kind = str(series.dtype)
    if kind.startswith("Sparse"):
        raise UnusableColumn(SPARSE)
    if kind.startswith(("period", "interval")):
        raise UnusableColumn(f"it holds the pandas type {kind}: convert it to dates or text")
    if hasattr(series.dtype, "tz"):
        series = series.dt.tz_convert("UTC").dt.tz_localize(None)
    if kind == "category" or not isinstance(series.dtype, np.dtype):
        plain = getattr(series.dtype, "numpy_dtype", None)
        if plain is not None and np.dtype(plain).kind in "iuf":
            return np.asarray(series.to_numpy(dtype=np.float64, na_value=np.nan))
        if not kind.startswith("datetime64"):
            series = series.astype(object)
    return np.asarray(series.to_numpy())


def from_pair(X: Any, Y: Any, name: str, read: Callable[[Any, str], Raw]) -> Raw:
    """Return the columns of inputs X and targets Y."""
    inputs, targets = read(X, "x"), read(Y, "y")
    n, m = inputs.n_rows, targets.n_rows
    if n != m:
        hint = f"; {TRANSPOSED}" if m in (len(inputs.names), 1) or n == 1 else ""
        raise ValueError(f"{name}: {n} rows of inputs and {m} rows of targets{hint}")
    names = targets.names
    if names in (("None",), ("0",)):  # a series without a name
        names = ("target",)
    columns = dict(zip(names, targets.columns, strict=True))
    twice = [n for n in names if n in inputs.names]
    if twice:
        raise ValueError(f"{name}: inputs and targets share the names {listed(twice)}")
    return replace(
        inputs, names=(*inputs.names, *names), columns=(*inputs.columns, *columns.values()),
        source=name, targets=names, units={**inputs.units, **targets.units},
        faulty={**inputs.faulty, **targets.faulty}, notes=(*inputs.notes, *targets.notes),
    )  # fmt: skip


def from_named(arrays: Mapping[str, Any], source: str) -> Raw:
    """Return the columns of named arrays: X and Y, or vectors of one length, or one matrix."""
    found = {key.lower(): key for key in arrays}
    if "x" in found:
        return _inputs_and_others(arrays, found["x"], source)
    sized = {k: np.asarray(v) for k, v in arrays.items() if np.size(v) > 1}
    notes = tuple(f"{k!r} is no column and is left out" for k in arrays if k not in sized)
    vectors = {k: v.ravel() for k, v in sized.items() if max(v.shape) == v.size}
    if len(sized) > 1 and len(vectors) == len(sized):
        if len({v.size for v in vectors.values()}) == 1:
            parts = [(k, lambda v=v: v) for k, v in vectors.items()]
            return raw_of(parts, source, notes=notes)
    matrices = {k: v for k, v in sized.items() if k not in vectors and v.ndim == 2}
    if len(matrices) == 1:
        key, matrix = next(iter(matrices.items()))
        if matrix.dtype.kind == "O":
            return from_records(matrix.tolist(), "auto", source)
        raw = from_array(matrix, source)
        labels = [v for v in vectors.values() if v.dtype.kind in "UO" and v.size == matrix.shape[1]]
        if len(labels) == 1 and len(vectors) == 1:
            return replace(raw, names=tuple(str(label) for label in labels[0]), named=True)
        if not vectors:
            return raw
    shapes = {key: np.shape(value) for key, value in arrays.items()}
    raise ValueError(
        f"{source}: arrays {shapes}: expected X and Y, vectors of one length, or one matrix"
    )


def _inputs_and_others(arrays: Mapping[str, Any], key: str, source: str) -> Raw:
    """Return the array X, and the other arrays with as many rows as groups of columns."""
    raw = from_array(np.asarray(arrays[key]), source)
    groups, notes = {"x": raw.names}, list(raw.notes)
    targets: tuple[str, ...] = ()
    for other, value in arrays.items():
        if other == key:
            continue
        array, letter = np.asarray(value), other.lower()
        if letter == "y" and (array.ndim == 0 or len(array) != raw.n_rows):
            hint = ""
            if raw.n_rows in array.shape or len(raw.names) in array.shape:
                hint = f": {TRANSPOSED}, y.T (MATLAB's h5write stores the transpose)"
            raise ValueError(
                f"{source}: X has shape {np.shape(arrays[key])} and Y {array.shape}{hint}"
            )
        if array.ndim not in (1, 2) or len(array) != raw.n_rows:
            notes.append(f"the array {other!r} of shape {array.shape} is left out")
            continue
        added = from_array(array, source, letter)
        groups[other] = added.names
        targets = added.names if letter == "y" else targets
        raw = replace(
            raw, names=(*raw.names, *added.names), columns=(*raw.columns, *added.columns),
            faulty={**raw.faulty, **added.faulty},
        )  # fmt: skip
    return replace(raw, groups=groups, targets=targets, notes=tuple(notes))


def from_records(
    records: Sequence[Record], header: str | bool, source: str, decimal: str = "."
) -> Raw:
    """Return the columns of rows of cells, with the names above them."""
    kept = [(n, record) for n, record in enumerate(records, start=1) if not is_blank(record)]
    if not kept:
        raise ValueError(f"{source}: the table is empty")
    layout = find_layout([record for _, record in kept[:100]], header, source)
    rows = kept[layout.first :]
    if not rows:
        raise ValueError(f"{source}: the table has a header but no rows")
    lines = np.array([n for n, _ in rows])
    parts = [
        (name, lambda j=j: _objects([record[j] for _, record in rows]))
        for j, name in enumerate(layout.names)
    ]
    return raw_of(
        parts, source, named=layout.named, lines=lines, notes=layout.notes, units=layout.units,
        decimal=decimal,
    )  # fmt: skip


def _objects(cells: Sequence[Any]) -> Array:
    out = np.empty(len(cells), dtype=object)
    out[:] = cells
    return out
