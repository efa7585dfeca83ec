"""Raw columns of a table, and the kind of each column."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["number", "percent", "date", "category"]
Values = NDArray[Any]

MISSING = frozenset(
    {"", "na", "n/a", "#n/a", "nan", "null", "none", "nil", "?", "-", ".", "missing", "<na>", "nat"}
)
COUNTER_NAMES = re.compile(r"|id|index|idx|rownames?|row|no|nr|unnamed: ?0|#", re.IGNORECASE)
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
THOUSANDS = re.compile(r"[+-]?\d{1,3}([, '\u00a0\u202f]\d{3})+(\.\d*)?")
DAY = np.timedelta64(86_400_000_000_000, "ns")


@dataclass(frozen=True, eq=False)
class Raw:
    """Columns as they come: float64, datetime64[ns], or text with None for a missing cell.

    `targets` are the columns that the source itself marks as targets (the array Y of a file),
    `named` says whether the columns have names of their own, `first_row` is the line of the first
    row in a text file.
    """

    names: tuple[str, ...]
    columns: tuple[Values, ...]
    source: str
    named: bool = True
    targets: tuple[str, ...] = ()
    first_row: int = 1
    notes: tuple[str, ...] = ()
    units: dict[str, str] = field(default_factory=dict)

    @property
    def n_rows(self) -> int:
        """The number of rows, T."""
        return int(self.columns[0].shape[0])

    def column(self, name: str) -> Values:
        """Return the values of a column."""
        return self.columns[self.names.index(name)]

    def take(self, rows: NDArray[np.intp]) -> Raw:
        """Return some rows."""
        return replace(self, columns=tuple(values[rows] for values in self.columns))


@dataclass(frozen=True)
class Reading:
    """A column as one kind: its values, its missing cells, and the cells that do not fit."""

    kind: Kind
    values: Values  # float64, datetime64[ns] or text
    missing: NDArray[np.bool_]
    misfits: tuple[int, ...] = ()


def is_missing(values: Values) -> NDArray[np.bool_]:
    """Return the missing cells of a raw column."""
    if values.dtype.kind == "f":
        return np.asarray(np.isnan(values))
    if values.dtype.kind == "M":
        return np.asarray(np.isnat(values))
    if values.dtype.kind != "O":
        return np.zeros(values.shape, dtype=bool)
    return np.fromiter(
        (cell is None or str(cell).strip().lower() in MISSING for cell in values),
        bool,
        values.shape[0],
    )


def read_as(values: Values, kind: Kind, decimal: str) -> Reading:
    """Return a raw column read as one kind."""
    missing = is_missing(values)
    if kind == "category":
        texts = np.array([None if m else label_of(v) for v, m in zip(values, missing, strict=True)],
                         dtype=object)  # fmt: skip
        return Reading(kind, texts, missing)
    if kind == "date":
        dates, misfits = _dates(values, missing)
        return Reading(kind, dates, missing, misfits)
    if values.dtype.kind in "fiub":
        return Reading(kind, values.astype(np.float64), missing)
    numbers = np.full(values.shape, np.nan)
    misfits = []
    for row, cell in enumerate(values):
        if missing[row]:
            continue
        number = number_of(cell, decimal, percent=kind == "percent")
        if number is None:
            misfits.append(row)
        else:
            numbers[row] = number
    return Reading(kind, numbers, missing, tuple(misfits))


def find_kind(values: Values, decimal: str) -> Reading:
    """Return a raw column read as the kind that most of its cells have."""
    if values.dtype.kind in "fiub":
        return read_as(values, "number", decimal)
    if values.dtype.kind == "M":
        return read_as(values, "date", decimal)
    present = int((~is_missing(values)).sum())
    if present == 0:
        return read_as(values, "number", decimal)
    kinds: tuple[Kind, ...] = ("number", "percent", "date")
    readings = [read_as(values, kind, decimal) for kind in kinds]
    best = min(readings, key=lambda reading: len(reading.misfits))
    if len(best.misfits) * 2 < present:
        return best
    return read_as(values, "category", decimal)


def number_of(cell: Any, decimal: str, *, percent: bool = False) -> float | None:
    """Return the number that a cell holds, or None."""
    if isinstance(cell, (int, float, np.integer, np.floating)):
        return float(cell)
    text = str(cell).strip().replace("\u2212", "-")
    if percent:
        if not text.endswith("%"):
            return None
        text = text[:-1].strip()
    if decimal == ",":
        if "." in text and "," not in text and not re.fullmatch(r"[+-]?\d{1,3}(\.\d{3})+", text):
            return None
        text = text.replace(".", "\0").replace(",", ".").replace("\0", ",")
    if THOUSANDS.fullmatch(text):
        text = re.sub("[, '\u00a0\u202f]", "", text)
    text = re.sub(r"(?<=[\d.])[dD](?=[+-]?\d)", "e", text)
    if NUMBER.fullmatch(text) and text.isascii():
        return float(text)
    if re.fullmatch(r"[+-]?inf(inity)?", text, re.IGNORECASE):
        return float(text)
    return None


def label_of(value: Any) -> str:
    """Return the text of a label: 3.0 and 3 are one label."""
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    if isinstance(value, (bool, np.bool_)):
        return str(bool(value))
    return str(value).strip()


def _dates(values: Values, missing: NDArray[np.bool_]) -> tuple[Values, tuple[int, ...]]:
    """Return the dates of a column, and the rows that hold none or an ambiguous one."""
    if values.dtype.kind == "M":
        return values.astype("datetime64[ns]"), ()
    dates = np.full(values.shape, np.datetime64("NaT"), dtype="datetime64[ns]")
    orders = [order for order in ("ymd", "dmy", "mdy")]
    found = {order: [_date(str(cell), order) if not m else None
                     for cell, m in zip(values, missing, strict=True)] for order in orders}  # fmt: skip
    counts = {order: sum(d is not None for d in found[order]) for order in orders}
    best = max(orders, key=lambda order: counts[order])
    rivals = [order for order in orders if counts[order] == counts[best]]
    if counts[best] and len(rivals) > 1:
        if found[rivals[0]] != found[rivals[1]]:
            # 03/04/2020 in both orders: the caller refuses what is ambiguous.
            return dates, tuple(np.flatnonzero(~missing).tolist())
    misfits = []
    for row, date in enumerate(found[best]):
        if date is not None:
            dates[row] = date
        elif not missing[row]:
            misfits.append(row)
    return dates, tuple(misfits)


DATE = re.compile(r"(\d{1,4})([-/.])(\d{1,2})\2(\d{1,4})([T ]\d{1,2}:\d{2}(:\d{2}(\.\d+)?)?)?Z?")


def _date(text: str, order: str) -> np.datetime64 | None:
    """Return the date of a text whose parts have this order, or None."""
    match = DATE.fullmatch(text.strip())
    if match is None:
        return None
    parts = dict(zip(order, (match[1], match[3], match[4]), strict=True))
    if len(parts["y"]) != 4 or len(parts["d"]) > 2 or len(parts["m"]) > 2:
        return None
    if match[2] == "." and order != "dmy" and order != "ymd":
        return None  # dots separate day, month and year
    clock = (match[5] or " 00:00")[1:].zfill(5)
    try:
        return np.datetime64(f"{parts['y']}-{int(parts['m']):02}-{int(parts['d']):02}T{clock}")
    except ValueError:
        return None


def days_since(dates: Values, first: np.datetime64) -> NDArray[np.float64]:
    """Return days since a date, NaN for a missing one."""
    days = (dates - first) / DAY
    return np.asarray(np.where(np.isnat(dates), np.nan, days), dtype=np.float64)


def counts_rows(name: str, values: Values, position: int) -> bool:
    """Whether a column only counts the rows: the first one, without a telling name."""
    if position != 0 or not COUNTER_NAMES.fullmatch(name.strip()):
        return False
    if values.dtype.kind not in "fiu":
        return False
    numbers = values.astype(np.float64)
    return bool(numbers.size > 1 and (np.diff(numbers) == 1.0).all())


def listed(items: Sequence[Any], most: int = 6) -> str:
    """Return items separated by commas, the first ones of a long list."""
    shown = ", ".join(str(item) for item in items[:most])
    return shown if len(items) <= most else f"{shown}, ... ({len(items)} in all)"
