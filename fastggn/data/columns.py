"""Raw columns of a table, and the kind of each column."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastggn.data.dates import read_dates
from fastggn.runtime.cached import cached_property

Kind = Literal["number", "percent", "date", "category"]
Values = NDArray[Any]

MISSING = frozenset(
    {"", "na", "n/a", "#n/a", "nan", "null", "none", "nil", "?", "-", ".", "missing", "<na>", "nat"}
)
COUNTER_NAMES = re.compile(r"|id|index|idx|row|row[_ ]?names?|no|nr|unnamed: ?0|#", re.IGNORECASE)
COUNTED_ROWS = 10  # a shorter column may count by chance
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
GROUPS = ", '\u2019\u00a0\u2009\u202f"  # marks between thousands
THOUSANDS = re.compile(rf"[+-]?\d{{1,3}}([{GROUPS}])\d{{3}}(\1\d{{3}})*(\.\d*)?")
GROUPED = re.compile(
    rf"^([+-]?\d{{1,3}}([{GROUPS}])\d{{3}}(\2\d{{3}})*(\.\d*)?)[ %]*$", re.MULTILINE
)
SWAPPED = str.maketrans(".,", ",.")
UNIT = re.compile(r".*\S\s*[\[(]([^\[\]()]{1,20})[\])]")  # size [m2]
ROW_NAMES = "row"  # the name of a first column without one
COPY = re.compile(r" \(column \d+\)$")  # the end of a name that appears a second time
OTHER_MARK = {".": ",", ",": "."}


@dataclass(frozen=True, eq=False)
class Raw:
    """Columns as they come: numbers, datetime64[us], or cells of text and numbers.

    Attributes
    ----------
    names : tuple of str
        Distinct names; a column of an array X is called x0, x1, ...
    columns : tuple of ndarray, each of shape (T,)
    source : str
        The name for messages.
    named : bool
        Whether the names are in the source.
    targets : tuple of str
        The columns that the source itself marks as targets (the array Y of a file).
    groups : mapping of str to tuple of str
        The columns of each array of a file of arrays.
    first_row : int
        The number of the first row.
    lines : ndarray of int or None
        The line of each row of a text file.
    notes : tuple of str
    units : mapping of str to str
    faulty : mapping of str to str
        Columns that cannot be used, with the reason.
    decimal : str
        The decimal mark of text.
    """

    names: tuple[str, ...]
    columns: tuple[Values, ...]
    source: str
    named: bool = True
    targets: tuple[str, ...] = ()
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    first_row: int = 0
    lines: NDArray[np.int64] | None = None
    notes: tuple[str, ...] = ()
    units: Mapping[str, str] = field(default_factory=dict)
    faulty: Mapping[str, str] = field(default_factory=dict)
    decimal: str = "."

    @property
    def n_rows(self) -> int:
        """The number of rows, T."""
        return int(self.columns[0].shape[0])

    def column(self, name: str) -> Values:
        """Return the values of a column."""
        return self.columns[self._places[name]]

    @cached_property
    def _places(self) -> dict[str, int]:
        return {name: j for j, name in enumerate(self.names)}

    def take(self, rows: NDArray[np.intp] | slice) -> Raw:
        """Return some rows."""
        first = self.first_row + (rows.start or 0 if isinstance(rows, slice) else 0)
        lines = None if self.lines is None else self.lines[rows]
        return replace(
            self, columns=tuple(v[rows] for v in self.columns), first_row=first, lines=lines
        )

    def place(self, row: int) -> str:
        """Return the words for the place of a row."""
        if self.lines is not None:
            return f"line {int(self.lines[row])}"
        return f"row {int(row) + self.first_row}"


def with_names(raw: Raw) -> Raw:
    """Return the columns with distinct names, and the units in them; a number where none is."""
    names = [name if name else f"column {j}" for j, name in enumerate(raw.names)]
    if not raw.names[0] and raw.named:
        names[0] = ROW_NAMES
    seen: set[str] = set()
    for j, name in enumerate(names):
        if name in seen:
            names[j] = f"{name} (column {j})"
        seen.add(names[j])
    units = {name: match[1].strip() for name in names if (match := UNIT.fullmatch(name))}
    return replace(raw, names=tuple(names), units={**units, **raw.units})


@dataclass(frozen=True)
class Reading:
    """A column as one kind: its values, its missing cells, and the cells that do not fit.

    `fault` says more about the cells that do not fit, `order` is the order of the parts of a date.
    """

    kind: Kind
    values: Values  # float64, datetime64[us] or text
    missing: NDArray[np.bool_]
    misfits: NDArray[np.intp] = field(default_factory=lambda: np.zeros(0, dtype=np.intp))
    fault: str = ""
    order: str = ""
    note: str = ""

    def take(self, rows: NDArray[np.intp]) -> Reading:
        """Return some rows, whose numbers are sorted."""
        place = np.searchsorted(rows, self.misfits)
        kept = place < rows.size
        kept[kept] = rows[place[kept]] == self.misfits[kept]
        return replace(
            self, values=self.values[rows], missing=self.missing[rows], misfits=place[kept]
        )


class Cells:
    """The different cells of a column; each of them is parsed once."""

    def __init__(self, values: Values, decimal: str) -> None:
        column = values.tolist()
        self.cells = list(dict.fromkeys(column))
        place = {cell: j for j, cell in enumerate(self.cells)}
        self.codes = np.fromiter(map(place.__getitem__, column), np.intp, len(column))
        self.texts = ["" if cell is None else str(cell).strip() for cell in self.cells]
        self.blank = np.array([text.lower() in MISSING for text in self.texts], dtype=bool)
        self.counts = np.bincount(self.codes, minlength=len(self.cells))
        self.decimal = decimal

    @property
    def missing(self) -> NDArray[np.bool_]:
        """The missing cells of the column, shape (T,)."""
        return np.asarray(self.blank[self.codes])

    @property
    def n_present(self) -> int:
        """The number of cells that are not missing."""
        return int(self.counts[~self.blank].sum())

    def read(self, kind: Kind, order: str = "") -> Reading:
        """Return the column as one kind."""
        if kind == "category":
            labels = np.array(
                [None if b else label_of(c) for c, b in zip(self.cells, self.blank, strict=True)],
                dtype=object,
            )
            return Reading(kind, labels[self.codes], self.missing)
        if kind == "date":
            dates, order, fault = read_dates(self.cells, self.blank, self.counts, order)
            return self._reading(kind, dates, np.isnat(dates), order, fault)
        numbers = self.numbers(kind, self.decimal)
        wrong = np.isnan(numbers)
        fault = ""
        if (wrong & ~self.blank).any() and (cell := self._other_mark(kind)):
            mark = OTHER_MARK[self.decimal]
            name = "comma" if mark == "," else "point"
            fault = f"have a decimal {name}, such as {cell!r}: decimal={mark!r}"
        return self._reading(kind, numbers, wrong, "", fault)

    def numbers(self, kind: str, decimal: str) -> NDArray[np.float64]:
        """Return the number of each different cell, NaN where it is none."""
        out = np.full(len(self.cells), np.nan)
        for j in np.flatnonzero(~self.blank):
            number = number_of(self.cells[j], decimal, percent=kind == "percent")
            if number is not None:
                out[j] = number
        return out

    def _other_mark(self, kind: str) -> str:
        """Return a cell with the other decimal mark, if all cells are numbers with it."""
        mark = OTHER_MARK[self.decimal]
        if np.isnan(self.numbers(kind, mark)[~self.blank]).any():
            return ""
        own = self.numbers(kind, self.decimal)
        cells = zip(self.texts, own, strict=True)
        return next((text for text, number in cells if mark in text and np.isnan(number)), "")

    def _reading(
        self, kind: Kind, values: Values, wrong: NDArray[np.bool_], order: str, fault: str
    ) -> Reading:
        misfits = np.flatnonzero((wrong & ~self.blank)[self.codes])
        note = ""
        if kind in ("number", "percent"):
            text = "\n".join(self.texts).replace("\u2212", "-")
            found = GROUPED.search(text.translate(SWAPPED) if self.decimal == "," else text)
            if found is not None:
                cell = text[found.start(1) : found.end(1)]
                note = f"{cell!r} is read as {number_of(cell, self.decimal):.15g}"
        return Reading(kind, values[self.codes], self.missing, misfits, fault, order, note)


def read_as(values: Values, kind: Kind, decimal: str, order: str = "") -> Reading:
    """Return a raw column read as one kind."""
    if values.dtype.kind == "M" and kind == "date":
        return Reading(kind, values, np.isnat(values))
    if values.dtype.kind in "fiu" and kind == "number":
        return _plain_numbers(values.astype(np.float64))
    if values.dtype.kind == "O" and kind == "number":
        numbers = _all_numbers(values, decimal)
        if numbers is not None:
            return _plain_numbers(numbers)
    return Cells(_as_cells(values), decimal).read(kind, order)


def find_kind(values: Values, decimal: str) -> Reading:
    """Return a raw column read as the kind that most of its cells have."""
    if values.dtype.kind in "fiu":
        return read_as(values, "number", decimal)
    if values.dtype.kind == "M":
        return read_as(values, "date", decimal)
    numbers = _all_numbers(values, decimal)
    if numbers is not None:
        return _plain_numbers(numbers)
    cells = Cells(values, decimal)
    kinds: tuple[Kind, ...] = ("number", "percent", "date")
    best = cells.read("number")
    for kind in kinds[1:]:
        if best.misfits.size == 0:
            return best
        best = min(best, cells.read(kind), key=lambda r: r.misfits.size - bool(r.fault))
    if best.misfits.size * 2 < cells.n_present or best.fault:
        return best
    return cells.read("category")


def _plain_numbers(numbers: NDArray[np.float64]) -> Reading:
    return Reading("number", numbers, np.isnan(numbers))


def _all_numbers(values: Values, decimal: str) -> NDArray[np.float64] | None:
    """Return cells that are all plain numbers, in one step; None for any other cells."""
    if decimal != "." or values.shape[0] == 0 or not isinstance(values[0], str):
        return None
    try:
        numbers = values.astype(np.float64)
        text = "".join(values.tolist())
    except (TypeError, ValueError):
        return None
    # Python takes 1_000 and digits of other scripts for numbers.
    return numbers if text.isascii() and "_" not in text else None


def _as_cells(values: Values) -> Values:
    """Return numbers and dates as cells."""
    if values.dtype.kind == "O":
        return values
    cells = values.astype(object)
    absent = np.isnat(values) if values.dtype.kind == "M" else np.isnan(values)
    cells[absent] = None
    return cells


def number_of(cell: Any, decimal: str, *, percent: bool = False) -> float | None:
    """Return the number that a cell holds, or None."""
    if not isinstance(cell, str):
        return None if percent or hasattr(cell, "year") else float(cell)
    text = cell.strip()
    if percent:
        if not text.endswith("%"):
            return None
        text = text[:-1].rstrip()
    if decimal == ".":
        try:
            number = float(text)
        except ValueError:
            pass
        else:
            return number if "_" not in text and text.isascii() else None
    return _careful(text, decimal)


def _careful(text: str, decimal: str) -> float | None:
    """Return the number of a text in one of the rarer spellings, or None."""
    text = text.replace("\u2212", "-")
    if decimal == ",":
        text = text.translate(SWAPPED)
    if THOUSANDS.fullmatch(text):
        text = re.sub(f"[{GROUPS}]", "", text)
    text = re.sub(r"(?<=[\d.])[dD](?=[+-]?\d)", "e", text)
    if not text.isascii():
        return None
    if NUMBER.fullmatch(text) or re.fullmatch(r"[+-]?inf(inity)?", text, re.IGNORECASE):
        return float(text)
    return None


def label_of(value: Any) -> str:
    """Return the text of a label: 3.0 and 3 are one label."""
    if isinstance(value, str):
        text = value.strip()
        if re.fullmatch(r"-?\d+\.\d*([eE][+-]?\d+)?", text) and float(text).is_integer():
            return str(int(float(text)))  # but "01" and "1e3" are codes
        return text
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    return str(value)


def counts_rows(name: str, values: Values, position: int, named: bool) -> bool:
    """Whether a column only counts the rows: the first one, without a telling name."""
    if position != 0 or values.dtype.kind not in "fiuO":
        return False
    if named and not COUNTER_NAMES.fullmatch(name.strip()):
        return False
    numbers = _all_numbers(values, ".") if values.dtype.kind == "O" else values.astype(np.float64)
    if numbers is None or numbers.size < (2 if named else COUNTED_ROWS):
        return False
    if not named and numbers[0] not in (0.0, 1.0):
        return False
    return bool((np.diff(numbers) == 1.0).all())


def listed(items: Sequence[Any], most: int = 6) -> str:
    """Return items separated by commas, the first ones of a long list."""
    shown = ", ".join(str(item) for item in items[:most])
    return shown if len(items) <= most else f"{shown}, ... ({len(items)} in all)"
