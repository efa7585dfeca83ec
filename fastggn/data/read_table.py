"""Read a table as people have them: columns of any kind, one refusal for all its faults."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from fastggn.data.columns import COPY, ROW_NAMES, Kind, Raw, Reading, counts_rows, listed
from fastggn.data.readers import read_raw
from fastggn.data.recipe import (
    Column,
    Recipe,
    TableError,
    column_faults,
    learn_column,
    left_out,
)
from fastggn.data.table import Table
from fastggn.runtime.errors import suggest, unknown_name

Names: TypeAlias = str | int | Sequence[str | int] | None
MISSING = ("error", "drop", "impute")
MISSING_TARGETS = ("error", "drop", "ignore")
MANY_INPUTS = 100
FEW_ROWS = 10  # in a shorter table each row may be a class of its own


def read_table(
    source: Any,
    target: Names = None,
    *,
    inputs: Names = None,
    drop: Names = (),
    categorical: Names = None,
    missing: str = "error",
    missing_targets: str | None = None,
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
        A file (.csv, .tsv, .txt, each also .gz; .parquet, .xlsx, .mat, .npy, .npz, .h5), ``"-"``
        for the standard input, a pandas or polars frame, a mapping of columns, an array (T, n), or
        a pair (X, Y). Parquet and Excel need the extra ``table``, HDF5 the extra ``io``.
    target : str, int or sequence of them, optional
        The target columns by name (its unit may be left out) or position (-1 is the last); by
        default the last column, or the array Y. A single target of text holds classes.
    inputs : str, int or sequence of them, optional
        The input columns; by default all others.
    drop : str, int or sequence of them
        Columns that are left out.
    categorical : str, int or sequence of them, optional
        Columns of numbers that are labels.
    missing : {"error", "drop", "impute"}
        Refuse missing values, leave their rows out, or fill inputs with the mean (the most frequent
        level) and add an input that is 1 where the value was missing.
    missing_targets : {"error", "drop", "ignore"}, optional
        Refuse missing targets, leave their rows out, or take them for unknown ("don't care"): NaN
        in `Table.Y`, without a part in the loss and in the errors; a row without any target is
        left out. By default as `missing`; targets are never filled in.
    header : {"auto", True, False}
        Whether the first row of a text file or a sheet holds names; "auto": if one of its cells is
        text above a column of numbers, if all of its cells are text, or if it counts the columns
        (0, 1, 2, ... as pandas writes them).
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
    >>> houses = {"size": [50, 80, 65, 90], "kind": ["flat", "house", "flat", "house"],
    ...           "price": [100.0, 180.0, 130.0, 210.0]}
    >>> table = fg.read_table(houses, target="price")
    >>> table.inputs
    ('size', 'kind=house')
    """
    if missing not in MISSING:
        raise unknown_name("missing", missing, MISSING)
    if missing_targets is not None and missing_targets not in MISSING_TARGETS:
        raise unknown_name("missing_targets", missing_targets, MISSING_TARGETS)
    if decimal not in (".", ","):
        raise ValueError(f"decimal must be '.' or ',', got {decimal!r}")
    if header not in ("auto", True, False):
        raise ValueError(f"header must be 'auto', True or False, got {header!r}")
    if isinstance(source, Table):
        if source.raw is None:
            raise ValueError("this table is read already")
        source = source.raw
    reading: dict[str, Any] = {"header": header, "decimal": decimal, "encoding": encoding,
                               "sheet": sheet, "missing": missing,
                               "missing_targets": missing_targets,
                               "text": categorical is not None}  # fmt: skip
    raw = read_raw(source, reading)
    plan = _Plan.of(raw, target, inputs, drop, categorical)
    return plan.table(reading)


@dataclass
class _Plan:
    """The roles of the columns, and all faults that were found."""

    raw: Raw
    targets: list[str]
    labels: set[str]
    left_out: dict[str, str]
    wanted: frozenset[str] | None
    faults: list[str]

    @classmethod
    def of(cls, raw: Raw, target: Names, inputs: Names, drop: Names, labels: Names) -> _Plan:
        """Return the roles that the arguments give."""
        chosen: dict[str, list[str]] = {}
        faults: list[str] = []
        given = {"target": target, "inputs": inputs, "drop": drop, "categorical": labels}
        for argument, names in given.items():
            try:
                chosen[argument] = chosen_columns(raw, names, argument)
            except TableError as error:
                faults += error.faults
        if faults:
            raise TableError(raw.source, faults, _columns_of(raw))
        targets = _targets(raw, chosen["target"], target)
        left_out = {name: "as asked" for name in chosen["drop"]}
        wanted = None if inputs is None else frozenset(chosen["inputs"])
        if wanted is None and raw.groups:
            wanted = frozenset(raw.groups["x"])
        faults = [f"the target {n!r} is dropped" for n in targets if n in left_out]
        faults += [f"column {n!r} is an input and a target" for n in targets if n in (wanted or ())]
        return cls(raw, targets, set(chosen["categorical"]), left_out, wanted, faults)

    def table(self, reading: dict[str, Any]) -> Table:
        """Return the table, or raise one error for all faults."""
        raw, targets = self.raw, frozenset(self.targets)
        notes = list(raw.notes)
        columns, readings = self._learned(reading, notes)
        rows = np.arange(raw.n_rows)
        lost = left_out(readings, self.targets, reading) if readings else np.zeros(0, dtype=bool)
        if lost.any():
            rows = np.flatnonzero(~lost)
            notes.append(f"{int(lost.sum())} of {lost.size} rows are left out: values are missing")
            readings = {name: found.take(rows) for name, found in readings.items()}
            columns = {name: _with_levels(column, readings[name])
                       for name, column in columns.items()}  # fmt: skip
        for name, column in columns.items():
            role = "target" if name in targets else "input"
            self.faults += column_faults(column, readings[name], raw, rows, role)
            unknown = int(readings[name].missing.sum())
            if column.optional and unknown:
                notes.append(f"target {name!r}: {unknown} of {rows.size} values are missing and do "
                             "not count")  # fmt: skip
        kept = tuple(c for n, c in columns.items() if n not in targets)
        self._check(columns, kept, rows)
        chosen = tuple(columns[name] for name in self.targets)
        text = any(c.kind == "category" for c in columns.values())
        # New files have names as this one, whatever their first rows look like.
        header = True if raw.named and raw.lines is not None else reading["header"]
        recipe = Recipe(kept, chosen, tuple(self.left_out.items()), raw.named,
                        {**reading, "text": text, "header": header}, raw.names)  # fmt: skip
        X, Y = recipe.numbers(readings, targets=True)
        return Table(X, Y, recipe, rows, raw, raw.source, tuple(notes))

    def _learned(
        self, rules: dict[str, Any], notes: list[str]
    ) -> tuple[dict[str, Column], dict[str, Reading]]:
        """Return the columns that are used, and their readings; say which are left out."""
        columns: dict[str, Column] = {}
        readings: dict[str, Reading] = {}
        raw, targets = self.raw, frozenset(self.targets)
        for position, name in enumerate(raw.names):
            is_target = name in targets
            wanted = is_target or self.wanted is None or name in self.wanted
            if name in self.left_out or not wanted:
                self.left_out.setdefault(name, "not among the inputs")
                continue
            counts = not is_target and self.wanted is None and _counts(raw, position)
            column, reading, reason = None, None, "it counts the rows"
            if not counts:
                kind: Kind | None = "category" if name in self.labels else None
                column, reading, reason = learn_column(
                    name, raw, kind=kind, missing=rules["missing"], target=is_target
                )
            if column is None or reading is None:
                if is_target:
                    self.faults.append(f"target {name!r}: {reason}")
                self.left_out[name] = reason
                notes.append(f"column {name!r} is left out: {reason}")
                continue
            optional = is_target and rules["missing_targets"] == "ignore"
            columns[name], readings[name] = replace(column, optional=optional), reading
            if reading.note:
                notes.append(f"column {name!r}: {reading.note}")
            if not is_target and len(column.inputs) > MANY_INPUTS:
                notes.append(f"column {name!r} becomes {len(column.inputs)} inputs, one a level")
        return columns, readings

    def _check(self, columns: dict[str, Column], kept: Sequence[Column], rows: Any) -> None:
        """Raise the error for all faults of the table."""
        for name in (n for n in self.targets if n in columns):
            self.faults += _target_faults(columns[name], len(self.targets), rows.size)
        names = [name for name in columns if COPY.search(name)]
        for name in sorted({COPY.sub("", name) for name in names}):
            if name in columns or len([n for n in names if COPY.sub("", n) == name]) > 1:
                numbers = [j for j, n in enumerate(self.raw.names)
                           if n in columns and COPY.sub("", n) == name]  # fmt: skip
                self.faults.append(
                    f"column {name!r} appears {len(numbers)} times (numbers "
                    f"{listed(numbers, 20)}): rename them, or drop=[{listed(numbers[1:], 20)}]"
                )
        if not kept:
            reasons = [f"{name!r}: {reason}" for name, reason in self.left_out.items()]
            hint = f" ({'; '.join(reasons[:20])})" if reasons else ""
            self.faults.append(f"no input column is left{hint}")
        elif rows.size == 0:
            self.faults.append("no row is left")
        if self.faults:
            raise TableError(self.raw.source, self.faults)


def _with_levels(column: Column, reading: Reading) -> Column:
    """Return a category with the levels of the rows that are left."""
    present = set(reading.values.tolist()) if column.kind == "category" else set()
    present.add(column.fill)
    return replace(column, levels=tuple(level for level in column.levels if level in present))


def _target_faults(column: Column, n_targets: int, n_rows: int) -> list[str]:
    """Return the faults of a target that holds labels."""
    name, levels = f"target {column.name!r}", len(column.levels)
    if column.kind != "category" or not levels:
        return []
    if n_targets > 1:
        return [f"{name} is a category: several targets must be numbers"]
    if levels == 1:
        return [f"{name} has one class, {column.levels[0]!r}: there is nothing to learn"]
    if levels * 2 > n_rows and n_rows > FEW_ROWS:
        return [f"{name} holds text with {levels} different values in {n_rows} rows: no classes"]
    return []


def _counts(raw: Raw, position: int) -> bool:
    """Whether a column of a table counts the rows; arrays hold what they are given for."""
    if not raw.named and (raw.lines is None or len(raw.names) < 3):
        return False
    name = "" if raw.names[position] == ROW_NAMES else raw.names[position]
    return counts_rows(name, raw.columns[position], position, raw.named)


def _targets(raw: Raw, chosen: list[str], target: Names) -> list[str]:
    if target is not None:
        if not chosen:
            raise ValueError("target names no column")
        return chosen
    if raw.targets:
        return list(raw.targets)
    if raw.groups:
        raise TableError(raw.source, ["there is no array 'Y' of targets"], _columns_of(raw))
    if len(raw.names) < 2:
        raise TableError(raw.source, ["1 column; inputs and a target need at least 2"])
    filled = [
        name
        for name, values in zip(raw.names, raw.columns, strict=True)
        if values.dtype.kind != "O" or any(c is not None and str(c).strip() for c in values)
    ]
    return filled[-1:] or [raw.names[-1]]


def chosen_columns(raw: Raw, chosen: Names, argument: str) -> list[str]:
    """Return the names of columns that are given by name or position."""
    if chosen is None:
        return []
    items = [chosen] if isinstance(chosen, (str, int)) else list(chosen)
    names: list[str] = []
    faults = []
    for item in items:
        found = _named(raw, item)
        names += found
        if not found:
            faults.append(f"{argument}: there is no column {item!r}{suggest(str(item), raw.names)}")
    if faults:
        raise TableError(raw.source, faults, _columns_of(raw))
    if len(set(names)) < len(names):
        raise ValueError(f"{argument} names a column twice: {names}")
    return names


def _columns_of(raw: Raw) -> str:
    return f"the columns there are: {listed(raw.names, 20)}"


def _named(raw: Raw, item: str | int) -> list[str]:
    """Return the columns of a name, of a name without its unit, of an array, or of a number."""
    if item in raw.names:
        copies = [n for n in raw.names if COPY.search(n) and COPY.sub("", n) == item]
        return [str(item), *copies]
    if item in raw.groups:
        return list(raw.groups[str(item)])
    bare = [n for n in raw.units if re.sub(r"\s*[\[(][^\[\]()]*[\])]$", "", n) == item]
    if len(bare) == 1:
        return bare
    try:
        index = int(item)
    except ValueError:
        return []
    return [raw.names[index]] if -len(raw.names) <= index < len(raw.names) else []
