"""The recipe that turns raw columns into the numbers of a network, for new rows alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import repeat
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.data.columns import (
    Kind,
    Raw,
    Reading,
    find_kind,
    label_of,
    listed,
    read_as,
)
from fastggn.data.dates import days_since
from fastggn.runtime.errors import suggest

FloatArray = NDArray[np.float64]


class TableError(ValueError):
    """A table that cannot be used; the message names every offending column at once."""

    def __init__(self, source: str, faults: Sequence[str], advice: str = "") -> None:
        told = [*faults, advice] if len(faults) > 1 else [f"{faults[0]}; {advice}"]
        lines = "".join(f"\n  {line}" for line in (told if advice else faults))
        super().__init__(f"{source}: {len(faults)} fault{'s' * (len(faults) > 1)}:{lines}")
        self.faults = tuple(faults)


@dataclass(frozen=True)
class Column:
    """One raw column and how it becomes numbers.

    Attributes
    ----------
    name : str
    kind : {"number", "percent", "date", "category"}
    levels : tuple of str
        The levels of a category, sorted; of a target, its classes.
    origin : str
        The first date of a date column: dates become days since it.
    fill : float, str or None
        The value that replaces a missing one; None refuses missing values.
    indicator : bool
        Whether a further input is 1 where the value was missing.
    drop_first : bool
        Whether the first level has no input of its own.
    unit : str
        The unit, where the table tells it.
    order : str
        The order of day, month and year in a date column: "ymd", "dmy", "mdy", or "" if unknown.
    stored : str
        The type of the stored numbers, if it is narrower than float64.
    optional : bool
        Whether a missing value is NaN: of a target that does not count there.
    """

    name: str
    kind: Kind
    levels: tuple[str, ...] = ()
    origin: str = ""
    fill: float | str | None = None
    indicator: bool = False
    drop_first: bool = True
    unit: str = ""
    order: str = ""
    stored: str = ""
    optional: bool = False

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the encoded columns."""
        if self.kind != "category":
            names: tuple[str, ...] = (self.name,)
        else:
            kept = self.levels[1:] if self.drop_first else self.levels
            names = tuple(f"{self.name}={level}" for level in kept)
        return (*names, f"{self.name} is missing") if self.indicator else names

    def codes(self, reading: Reading) -> NDArray[np.int64]:
        """Return the number of the level of each cell of a category, -1 for an unknown one."""
        place: dict[Any, int] = {level: j for j, level in enumerate(self.levels)}
        if self.fill is not None:
            place[None] = place[str(self.fill)]
        texts = reading.values.tolist()
        return np.fromiter(map(place.get, texts, repeat(-1)), np.int64, len(texts))

    def encode(self, reading: Reading) -> FloatArray:
        """Return the encoded columns of a reading without faults, shape (T, len(inputs))."""
        missing = reading.missing
        if self.kind == "category":
            first = int(self.drop_first)
            codes = self.codes(reading) - first
            out = np.zeros((codes.shape[0], len(self.levels) - first))
            rows = np.flatnonzero(codes >= 0)
            out[rows, codes[rows]] = 1.0
        else:
            values = reading.values
            if self.kind == "date":
                values = days_since(values, np.datetime64(self.origin))
            out = np.array(values, dtype=np.float64)[:, None]
            # One pattern of bits for NaN: the digest of the rows holds it.
            out[missing] = np.nan if self.fill is None else float(self.fill)
        if self.indicator:
            out = np.column_stack([out, missing.astype(np.float64)])
        return out


@dataclass(frozen=True)
class Recipe:
    """Which raw columns a network takes, and how they become numbers.

    Attributes
    ----------
    inputs, targets : tuple of Column
        A single target of kind "category" holds classes.
    left_out : tuple of (str, str)
        Columns that are not used, with the reason.
    named : bool
        Whether the columns have names; without names they are matched by position.
    columns : tuple of str
        All raw columns of the table, in order.
    reading : dict
        The arguments of `read_table` with which the file was read.
    """

    inputs: tuple[Column, ...]
    targets: tuple[Column, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    named: bool = True
    reading: Mapping[str, Any] | None = None
    columns: tuple[str, ...] = ()

    @property
    def input_names(self) -> tuple[str, ...]:
        """The names of the inputs of the network."""
        return tuple(name for column in self.inputs for name in column.inputs)

    @property
    def target_names(self) -> tuple[str, ...]:
        """The names of the target columns."""
        return tuple(column.name for column in self.targets)

    @property
    def classes(self) -> tuple[str, ...] | None:
        """The labels of the classes; None for a regression."""
        first = self.targets[0] if self.targets else None
        return first.levels if first is not None and first.kind == "category" else None

    def encode(
        self, raw: Raw, *, targets: bool | None = None, whole: bool = True
    ) -> tuple[FloatArray, NDArray[Any] | None, NDArray[np.intp]]:
        """Return inputs (T, n_0), targets, and the numbers of the rows that are kept.

        `targets` None takes the targets if they are there. Targets are (T, n) numbers or (T,)
        labels. `whole` says that the rows are all rows, so that at least one must be left.
        """
        raw = self._matched(raw, targets)
        present = targets is not False and all(n in raw.names for n in self.target_names)
        wanted = (*self.inputs, *(self.targets if present else ()))
        readings = {c.name: read_as(raw.column(c.name), c.kind, raw.decimal, c.order)
                    for c in wanted}  # fmt: skip
        rows = np.flatnonzero(~left_out(readings, self.target_names, self.reading or {}))
        if rows.size < raw.n_rows:
            readings = {name: reading.take(rows) for name, reading in readings.items()}
        faults = []
        for c in wanted:
            role = "target" if c in self.targets else "input"
            faults += column_faults(c, readings[c.name], raw, rows, f"new {role}")
        if rows.size == 0 and whole:
            faults.append("no row is left")
        if faults:
            raise TableError(raw.source, faults)
        return *self.numbers(readings, present), rows

    def numbers(
        self, readings: Mapping[str, Reading], targets: bool
    ) -> tuple[FloatArray, NDArray[Any] | None]:
        """Return inputs (T, n_0) and targets, None without them, of readings without faults."""
        X = np.ascontiguousarray(np.column_stack([c.encode(readings[c.name]) for c in self.inputs]))
        if not targets or not self.targets:
            return X, None
        if self.classes is not None:
            return X, self.targets[0].codes(readings[self.targets[0].name])
        Y = np.column_stack([c.encode(readings[c.name]) for c in self.targets])
        return X, np.ascontiguousarray(Y)

    def _matched(self, raw: Raw, targets: bool | None) -> Raw:
        """Return the columns under the names of the recipe, or raise for missing ones."""
        if not (self.named and raw.named):
            return self._by_position(raw, targets)
        needed = [c.name for c in (*self.inputs, *(self.targets if targets else ()))]
        absent = [name for name in needed if name not in raw.names]
        if absent:
            raise TableError(
                raw.source,
                [f"column {n!r} is missing{suggest(n, raw.names)}" for n in absent],
                f"the columns there are: {listed(raw.names, 20)}",
            )
        return raw

    def _by_position(self, raw: Raw, targets: bool | None) -> Raw:
        """Return columns without names under the names of the recipe."""
        inputs, wanted = [c.name for c in self.inputs], list(self.target_names)
        order = [*(n for n in raw.names if n not in raw.targets), *raw.targets]
        whole = list(self.columns) or [*inputs, *wanted]
        layouts = [whole, [*inputs, *wanted]]
        if raw.targets:  # they are the last ones in `order`
            layouts.reverse()
        if not targets:
            layouts = [inputs, [n for n in whole if n not in wanted], *layouts]
        for names in layouts:
            if len(names) == len(order):
                columns = tuple(raw.column(name) for name in order)
                renamed = dict(zip(order, names, strict=True))
                faulty = {renamed[n]: reason for n, reason in raw.faulty.items()}
                return replace(raw, names=tuple(names), columns=columns, targets=(), faulty=faulty)
        hint = "; samples are rows: pass x.T" if raw.n_rows in map(len, layouts) else ""
        need = f"{len(inputs)} inputs" + (f" and {len(wanted)} targets" if targets else "")
        raise TableError(raw.source, [f"{len(order)} columns, where the model takes {need}{hint}"])

    def with_missing_targets(self, rule: str | None) -> Recipe:
        """Return the recipe with another rule for missing targets; None keeps its own."""
        if rule is None:
            return self
        targets = tuple(replace(c, optional=rule == "ignore") for c in self.targets)
        reading = {**(self.reading or {}), "missing_targets": rule}
        return replace(self, targets=targets, reading=reading)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for a file."""
        return {
            "inputs": [asdict(column) for column in self.inputs],
            "targets": [asdict(column) for column in self.targets],
            "left_out": [list(pair) for pair in self.left_out],
            "named": self.named,
            "reading": dict(self.reading or {}),
            "columns": list(self.columns),
        }

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> Recipe:
        """Return the recipe of `to_dict`."""
        inputs, targets = (
            tuple(Column(**{**c, "levels": tuple(c["levels"])}) for c in kept[key])
            for key in ("inputs", "targets")
        )
        left_out = tuple((str(a), str(b)) for a, b in kept["left_out"])
        return cls(inputs, targets, left_out, bool(kept["named"]), kept["reading"],
                   tuple(kept["columns"]))  # fmt: skip

    @classmethod
    def of_arrays(
        cls, n_inputs: int, n_targets: int, classes: Sequence[Any] | None = None
    ) -> Recipe:
        """Return the recipe of unnamed numbers."""
        inputs = tuple(Column(f"x{j}", "number") for j in range(n_inputs))
        if classes is not None:
            target = Column("y0", "category", tuple(label_of(c) for c in classes))
            return cls(inputs, (target,), named=False)
        return cls(inputs, tuple(Column(f"y{j}", "number") for j in range(n_targets)), named=False)


# What to do about missing values, by the role of the column.
REMEDIES = {
    "input": "missing='drop' leaves these rows out, missing='impute' fills them in",
    "target": "missing_targets='drop' leaves these rows out, missing_targets='ignore' takes the "
    "targets that are known",
    "new input": "fill them, or train with missing='impute'",
    "new target": "leave these rows out, or train or evaluate with missing_targets='ignore'",
    "plain": "fill them, or leave these rows out",
}


def left_out(
    readings: Mapping[str, Reading], targets: Sequence[str], reading: Mapping[str, Any]
) -> NDArray[np.bool_]:
    """Return which rows are left out for their missing values, by the rules of `read_table`."""
    missing = reading.get("missing")
    rule = reading.get("missing_targets") or missing
    inputs = [r.missing for name, r in readings.items() if name not in targets]
    outputs = [r.missing for name, r in readings.items() if name in targets]
    lost = np.zeros(next(iter(readings.values())).missing.shape, dtype=bool)
    if missing == "drop":
        lost |= np.any(inputs, axis=0)
    if outputs and rule in ("drop", "ignore"):
        lost |= (np.any if rule == "drop" else np.all)(outputs, axis=0)
    return lost


def column_faults(
    column: Column, reading: Reading, raw: Raw, rows: NDArray[np.intp], role: str = "plain"
) -> list[str]:
    """Return the faults of a column of known kind, one sentence each; roles are in `REMEDIES`."""
    drop = f", or leave the column out (drop={[column.name]!r})" if role == "input" else ""
    if column.name in raw.faulty:
        return [f"column {column.name!r}: {raw.faulty[column.name]}{drop}"]
    name, faults = f"column {column.name!r} ({column.kind})", []
    n_missing = int(reading.missing.sum())
    if n_missing and column.fill is None and not column.optional:
        place = raw.place(rows[np.argmax(reading.missing)])
        faults.append(
            f"{name}: {n_missing} missing value{'s' * (n_missing > 1)}, the first in {place}; "
            f"{REMEDIES[role]}"
        )
    if reading.misfits.size:
        labels = f", or read labels (categorical={[column.name]!r})"
        remedy = f"mend them{labels if role in ('input', 'target') else ''}{drop}"
        faults.append(f"{name}: {_misfits(column, reading, raw, rows, remedy)}")
    elif column.kind == "category" and column.levels:
        unknown = np.flatnonzero((column.codes(reading) < 0) & ~reading.missing)
        levels = list(dict.fromkeys(reading.values[unknown].tolist()))
        if levels:
            faults.append(
                f"{name}: unknown level{'s' * (len(levels) > 1)} "
                f"{listed([repr(level) for level in levels])}, the first in "
                f"{raw.place(rows[unknown[0]])} (known: {listed(column.levels, 12)}); mend them, "
                "or train on rows that have them"
            )
    elif column.kind in ("number", "percent"):
        infinite = np.isinf(reading.values)
        if infinite.any():
            place = raw.place(rows[np.argmax(infinite)])
            count = int(infinite.sum())
            faults.append(
                f"{name}: {count} infinite value{'s' * (count > 1)}, the first in {place}; mend "
                "them, or leave the cells empty"
            )
    return faults


def _misfits(
    column: Column, reading: Reading, raw: Raw, rows: NDArray[np.intp], remedy: str
) -> str:
    """Return how many cells do not fit a column, which, where, and the remedy."""
    where = rows[reading.misfits[:3]]
    count = f"{reading.misfits.size} cell{'s' * (reading.misfits.size > 1)}"
    if reading.fault:
        return f"{count} {reading.fault}"
    cells = listed([repr(str(raw.column(column.name)[row])) for row in where])
    return (
        f"{count} with {cells} ({', '.join(raw.place(row) for row in where)}), no {column.kind}; "
        f"{remedy}"
    )


def learn_column(
    name: str, raw: Raw, *, kind: Kind | None, missing: str, target: bool
) -> tuple[Column | None, Reading, str]:
    """Return the column of a raw one (None where it is left out), its reading, and the reason."""
    values = raw.column(name)
    reading = find_kind(values, raw.decimal) if kind is None else read_as(values, kind, raw.decimal)
    present = ~reading.missing
    unit = raw.units.get(name, "%" if reading.kind == "percent" else "")
    stored = str(values.dtype) if values.dtype.kind == "f" and values.itemsize < 8 else ""
    column = Column(name, reading.kind, unit=unit, order=reading.order, stored=stored)
    if name in raw.faulty:
        return column, reading, ""
    if not present.any():
        return None, reading, "it holds no value"
    if reading.kind == "category":
        levels = sorted(set(reading.values[present].tolist()))
        if kind is None and not target and len(levels) * 2 > present.size:
            return None, reading, f"a text column with {len(levels)} different values"
        column = replace(column, levels=tuple(levels), drop_first=True)
    elif reading.kind == "date" and not np.isnat(reading.values).all():
        first = np.nanmin(reading.values)
        column = replace(column, origin=str(first.astype("datetime64[s]")))
    if missing == "impute" and reading.missing.any() and not target:
        column = replace(column, fill=_fill(column, reading), indicator=True)
    return column, reading, ""


def _fill(column: Column, reading: Reading) -> float | str:
    """Return the mean, or the most frequent level."""
    present = ~reading.missing
    if column.kind == "category":
        values, counts = np.unique(reading.values[present].astype(str), return_counts=True)
        return str(values[np.argmax(counts)])
    values = reading.values
    if column.kind == "date":
        values = days_since(values, np.datetime64(column.origin))
    good = present & np.isfinite(values)
    return float(values[good].mean()) if good.any() else 0.0
