"""Read a table as people have them: columns of any kind, one refusal for all its faults."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from fastggn.data.columns import Raw, Reading, counts_rows, listed
from fastggn.data.readers import read_raw
from fastggn.data.recipe import (
    Column,
    Recipe,
    TableError,
    column_faults,
    learn_column,
)
from fastggn.data.table import Table
from fastggn.runtime.errors import suggest, unknown_name

Names: TypeAlias = str | int | Sequence[str | int] | None
MISSING = ("error", "drop", "impute")


def read_table(
    source: Any,
    target: Names = None,
    *,
    inputs: Names = None,
    drop: Names = (),
    categorical: Names = None,
    missing: str = "error",
    header: str | bool = "auto",
    decimal: str = ".",
    encoding: str = "utf-8-sig",
    sheet: str | int | None = None,
) -> Table:
    """Read a table and find the kind of each column.

    Numbers stay numbers; ``12 %`` is 12; a date becomes days since the first date; a text column
    becomes one input for each level but the first. A text column with different values in more than
    half of the rows, and a first column that only counts the rows, are left out; `Table.notes`
    says so.

    Parameters
    ----------
    source : path-like, frame, mapping or arrays
        A file (.csv, .tsv, .txt, each also .gz; .parquet, .xlsx, .mat, .npy, .npz, .h5), ``"-"`` for
        the standard input, a pandas or polars frame, a mapping of columns, an array (T, n), or a
        pair (X, Y). Other files than plain numbers need the extra ``table``.
    target : str, int or sequence of them, optional
        The target columns by name or position (-1 is the last); by default the last column, or
        the array Y. A single target of text holds classes.
    inputs : str, int or sequence of them, optional
        The input columns; by default all others.
    drop : str, int or sequence of them
        Columns that are left out.
    categorical : str, int or sequence of them, optional
        Columns of numbers that are labels.
    missing : {"error", "drop", "impute"}
        Refuse missing values, leave their rows out, or fill inputs with the mean (the most frequent
        level) and add an input that is 1 where the value was missing.
    header : {"auto", True, False}
        Whether the first line of a text file holds names; "auto": if none of its cells is a number.
    decimal : {".", ","}
        The decimal mark of text.
    encoding : str
        The encoding of text; a byte order mark is recognised.
    sheet : str or int, optional
        The sheet of an Excel file; by default the first.

    Returns
    -------
    Table

    Raises
    ------
    TableError
        If columns cannot be used: one message with every column, its kind, its count and the
        remedy (a ``ValueError``).
    ValueError
        If the file is missing, empty, or not of its kind.
    ImportError
        If a library of the extra ``table`` or ``io`` is missing.

    Examples
    --------
    >>> import fastggn as fg
    >>> table = fg.read_table({"size": [50, 80, 65], "kind": ["flat", "house", "flat"],
    ...                        "price": [100.0, 180.0, 130.0]}, target="price")
    >>> table.inputs
    ('size', 'kind=house')
    """
    if missing not in MISSING:
        raise unknown_name("missing", missing, MISSING)
    if decimal not in (".", ","):
        raise ValueError(f"decimal must be '.' or ',', got {decimal!r}")
    if isinstance(source, Table):
        if source.raw is None:
            raise ValueError("this table is read already")
        source = source.raw
    reading = {"header": header, "decimal": decimal, "encoding": encoding, "sheet": sheet}
    raw = _with_names(read_raw(source, reading))
    reading["missing"] = missing
    targets = _targets(raw, target)
    labels = set(_columns(raw, categorical, "categorical"))
    left_out = {name: "as asked" for name in _columns(raw, drop, "drop")}
    wanted = _columns(raw, inputs, "inputs") if inputs is not None else None
    faults = [f"the target {n!r} is dropped" for n in targets if n in left_out]
    columns: dict[str, Column] = {}
    readings: dict[str, Reading] = {}
    notes = list(raw.notes)
    for position, name in enumerate(raw.names):
        is_target = name in targets
        if name in left_out or (wanted is not None and not is_target and name not in wanted):
            left_out.setdefault(name, "not among the inputs")
            continue
        if not is_target and wanted is None and counts_rows(name, raw.columns[position], position):
            left_out[name] = "it counts the rows"
            notes.append(f"column {name!r} is left out: it counts the rows")
            continue
        kind = "category" if name in labels else None
        column, found, reason = learn_column(
            name, raw, kind=kind, decimal=decimal, missing=missing, target=is_target
        )
        if column is None:
            if is_target:
                faults.append(f"target {name!r}: {reason}")
            left_out[name] = reason
            notes.append(f"column {name!r} is left out: {reason}")
            continue
        columns[name], readings[name] = column, found
    rows = np.arange(raw.n_rows)
    if missing == "drop":
        lost = np.any([r.missing for r in readings.values()], axis=0)
        rows = np.flatnonzero(~lost)
        if lost.any():
            notes.append(f"{int(lost.sum())} of {lost.size} rows are left out: values are missing")
    for name, column in columns.items():
        seen = readings[name]
        part = seen if rows.size == raw.n_rows else _rows_of(seen, rows)
        faults += column_faults(column, part, raw, rows)
    if len(targets) > 1:
        faults += [
            f"target {n!r} is a category: several targets must be numbers"
            for n in targets
            if n in columns and columns[n].kind == "category"
        ]
    kept_inputs = tuple(c for n, c in columns.items() if n not in targets)
    if not kept_inputs:
        faults.append("no input column is left")
    if faults:
        raise TableError(raw.source, faults)
    recipe = Recipe(
        kept_inputs,
        tuple(columns[name] for name in targets),
        tuple(left_out.items()),
        raw.named,
        reading,
    )
    X, Y, rows = recipe.encode(raw, targets=True)
    return Table(X, Y, recipe, rows, raw, raw.source, tuple(notes))


def _rows_of(reading: Reading, rows: Any) -> Reading:
    place = {int(row): j for j, row in enumerate(rows)}
    misfits = tuple(place[row] for row in reading.misfits if row in place)
    return replace(
        reading, values=reading.values[rows], missing=reading.missing[rows], misfits=misfits
    )


def _with_names(raw: Raw) -> Raw:
    """Return the columns with distinct names; a missing name becomes the number."""
    names = [name if name else f"column {j}" for j, name in enumerate(raw.names)]
    if not raw.names[0] and raw.named:
        names[0] = "row"
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise TableError(raw.source, [
            f"column {name!r} appears {names.count(name)} times: give each a name of its own"
            for name in twice
        ])  # fmt: skip
    return replace(raw, names=tuple(names))


def _targets(raw: Raw, target: Names) -> list[str]:
    if target is not None:
        chosen = _columns(raw, target, "target")
        if not chosen:
            raise ValueError("target names no column")
        return chosen
    if raw.targets:
        return list(raw.targets)
    if len(raw.names) < 2:
        raise TableError(raw.source, ["1 column; inputs and a target need at least 2"])
    return [raw.names[-1]]


def _columns(raw: Raw, chosen: Names, argument: str) -> list[str]:
    """Return the names of columns that are given by name or position."""
    if chosen is None:
        return []
    items = [chosen] if isinstance(chosen, (str, int)) else list(chosen)
    names = []
    for item in items:
        if item in raw.names:
            names.append(str(item))
            continue
        try:
            index = int(item)
        except ValueError:
            raise TableError(raw.source, [
                f"{argument}: there is no column {item!r}{suggest(str(item), raw.names)} "
                f"(columns: {listed(raw.names, 20)})"
            ]) from None  # fmt: skip
        if not -len(raw.names) <= index < len(raw.names):
            raise TableError(
                raw.source,
                [f"{argument}: there is no column {index}; there are {len(raw.names)}, from 0"],
            )
        names.append(raw.names[index])
    if len(set(names)) < len(names):
        raise ValueError(f"{argument} names a column twice: {names}")
    return names
