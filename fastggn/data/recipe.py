"""The recipe that turns raw columns into the numbers of a network, for new rows alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.data.columns import (
    Kind,
    Raw,
    Reading,
    days_since,
    find_kind,
    label_of,
    listed,
    read_as,
)
from fastggn.runtime.errors import suggest

FloatArray = NDArray[np.float64]


class TableError(ValueError):
    """A table that cannot be used; the message names every offending column at once."""

    def __init__(self, source: str, faults: Sequence[str]) -> None:
        lines = "".join(f"\n  {fault}" for fault in faults)
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
    """

    name: str
    kind: Kind
    levels: tuple[str, ...] = ()
    origin: str = ""
    fill: float | str | None = None
    indicator: bool = False
    drop_first: bool = True
    unit: str = ""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the encoded columns."""
        if self.kind != "category":
            names: tuple[str, ...] = (self.name,)
        else:
            kept = self.levels[1:] if self.drop_first else self.levels
            names = tuple(f"{self.name}={level}" for level in kept)
        return (*names, f"{self.name} is missing") if self.indicator else names

    def encode(self, reading: Reading) -> FloatArray:
        """Return the encoded columns of a reading without faults, shape (T, len(inputs))."""
        missing = reading.missing
        if self.kind == "category":
            texts = reading.values.copy()
            texts[missing] = self.fill
            kept = self.levels[1:] if self.drop_first else self.levels
            out = np.zeros((texts.shape[0], len(kept)))
            for j, level in enumerate(kept):
                out[:, j] = texts == level
        else:
            values = reading.values
            if self.kind == "date":
                values = days_since(values, np.datetime64(self.origin))
            out = np.array(values, dtype=np.float64)[:, None]
            if self.fill is not None:
                out[missing] = float(self.fill)
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
    reading : dict
        The arguments of `read_table` with which the file was read.
    """

    inputs: tuple[Column, ...]
    targets: tuple[Column, ...]
    left_out: tuple[tuple[str, str], ...] = ()
    named: bool = True
    reading: Mapping[str, Any] | None = None

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
        self, raw: Raw, *, targets: bool | None = None
    ) -> tuple[FloatArray, NDArray[Any] | None, NDArray[np.intp]]:
        """Return inputs (T, n_0), targets, and the numbers of the rows that are kept.

        `targets` None takes the targets if they are there. Targets are (T, n) numbers or (T,)
        labels.
        """
        raw = self._matched(raw, targets)
        present = targets is not False and all(n in raw.names for n in self.target_names)
        wanted = (*self.inputs, *(self.targets if present else ()))
        decimal = str((self.reading or {}).get("decimal", "."))
        readings = {c.name: read_as(raw.column(c.name), c.kind, decimal) for c in wanted}
        rows = np.arange(raw.n_rows)
        if (self.reading or {}).get("missing") == "drop":
            lost = np.any([r.missing for r in readings.values()], axis=0)
            rows = np.flatnonzero(~lost)
            readings = {k: _kept(r, rows) for k, r in readings.items()}
        faults = [f for c in wanted for f in column_faults(c, readings[c.name], raw, rows)]
        if rows.size == 0:
            faults.append("no row is left")
        if faults:
            raise TableError(raw.source, faults)
        X = np.ascontiguousarray(np.column_stack([c.encode(readings[c.name]) for c in self.inputs]))
        if not present or not self.targets:
            return X, None, rows
        if (classes := self.classes) is not None:
            texts = readings[self.targets[0].name].values
            place = {label: k for k, label in enumerate(classes)}
            return X, np.array([place[text] for text in texts], dtype=np.int64), rows
        Y = np.column_stack([c.encode(readings[c.name]) for c in self.targets])
        return X, np.ascontiguousarray(Y), rows

    def _matched(self, raw: Raw, targets: bool | None) -> Raw:
        """Return the columns under the names of the recipe, or raise for missing ones."""
        inputs, wanted = [c.name for c in self.inputs], list(self.target_names)
        if not (self.named and raw.named):
            return self._by_position(raw, targets)
        needed = [*inputs, *(wanted if targets else [])]
        absent = [name for name in needed if name not in raw.names]
        if absent:
            faults = [f"column {n!r} is missing{suggest(n, raw.names)}" for n in absent]
            faults.append(f"the columns there are: {listed(raw.names, 20)}")
            raise TableError(raw.source, faults)
        return raw

    def _by_position(self, raw: Raw, targets: bool | None) -> Raw:
        inputs, wanted = [c.name for c in self.inputs], list(self.target_names)
        if raw.targets:
            rest = [name for name in raw.names if name not in raw.targets]
            order = [*rest, *raw.targets]
        else:
            order = list(raw.names)
        n = len(order)
        if n == len(inputs) and not targets:
            names = inputs
        elif n == len(inputs) + len(wanted):
            names = [*inputs, *wanted]
        else:
            hint = ""
            if raw.n_rows == len(inputs) and n != len(inputs):
                hint = "; samples are rows: pass x.T"
            need = f"{len(inputs)} inputs" + (f" and {len(wanted)} targets" if targets else "")
            raise TableError(raw.source, [f"{n} columns, where the model takes {need}{hint}"])
        columns = tuple(raw.column(name) for name in order)
        return replace(raw, names=tuple(names), columns=columns, targets=())

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for a file."""
        return {
            "inputs": [asdict(column) for column in self.inputs],
            "targets": [asdict(column) for column in self.targets],
            "left_out": [list(pair) for pair in self.left_out],
            "named": self.named,
            "reading": dict(self.reading or {}),
        }

    @classmethod
    def from_dict(cls, kept: Mapping[str, Any]) -> Recipe:
        """Return the recipe of `to_dict`."""
        inputs, targets = (
            tuple(Column(**{**c, "levels": tuple(c["levels"])}) for c in kept[key])
            for key in ("inputs", "targets")
        )
        left_out = tuple((str(a), str(b)) for a, b in kept["left_out"])
        return cls(inputs, targets, left_out, bool(kept["named"]), kept["reading"])

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


def _kept(reading: Reading, rows: NDArray[np.intp]) -> Reading:
    place = {int(row): j for j, row in enumerate(rows)}
    misfits = tuple(place[row] for row in reading.misfits if row in place)
    return replace(
        reading, values=reading.values[rows], missing=reading.missing[rows], misfits=misfits
    )


def column_faults(column: Column, reading: Reading, raw: Raw, rows: NDArray[np.intp]) -> list[str]:
    """Return the faults of a column of known kind, one sentence each."""
    name, faults = f"column {column.name!r} ({column.kind})", []
    n_missing = int(reading.missing.sum())
    if n_missing and column.fill is None:
        first = int(rows[np.argmax(reading.missing)]) + raw.first_row
        faults.append(
            f"{name}: {n_missing} missing value{'s' * (n_missing > 1)}, the first in row {first}; "
            "missing='drop' leaves these rows out, missing='impute' fills them"
        )
    if reading.misfits:
        cells = [raw.column(column.name)[rows[row]] for row in reading.misfits[:3]]
        places = listed([int(rows[row]) + raw.first_row for row in reading.misfits], 3)
        faults.append(
            f"{name}: {len(reading.misfits)} cell{'s' * (len(reading.misfits) > 1)} hold "
            f"{listed([repr(str(c)) for c in cells])} (row {places}), no {column.kind}; "
            f"mend them, or leave the column out (drop={[column.name]!r})"
        )
    elif column.kind == "category" and column.levels:
        known = set(column.levels)
        texts = reading.values[~reading.missing]
        unknown = [t for t in dict.fromkeys(texts.tolist()) if t not in known]
        if unknown:
            faults.append(
                f"{name}: unknown level{'s' * (len(unknown) > 1)} "
                f"{listed([repr(u) for u in unknown])} (known: {listed(column.levels, 12)})"
            )
    elif column.kind in ("number", "percent"):
        infinite = np.isinf(reading.values)
        if infinite.any():
            first = int(rows[np.argmax(infinite)]) + raw.first_row
            faults.append(
                f"{name}: {int(infinite.sum())} infinite values, the first in row {first}"
            )
    return faults


def learn_column(
    name: str, raw: Raw, *, kind: Kind | None, decimal: str, missing: str, target: bool
) -> tuple[Column | None, Reading, str]:
    """Return the column of a raw one (None where it is left out), its reading, and the reason."""
    values = raw.column(name)
    reading = find_kind(values, decimal) if kind is None else read_as(values, kind, decimal)
    present = ~reading.missing
    unit = raw.units.get(name, "")
    if not present.any():
        return None, reading, "it holds no value"
    column = Column(name, reading.kind, unit=unit)
    if reading.kind == "category":
        levels = sorted(set(reading.values[present].tolist()))
        if kind is None and not target and len(levels) * 2 > int(present.sum()):
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
