"""Where a table begins: lines before it, names, a row of units."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from fastggn.data.columns import MISSING, number_of
from fastggn.data.dates import DATE

Record: TypeAlias = Sequence[Any]

SAMPLE = 100  # records that decide
COMMENTS = ("#", "%", "//", "sep=")
LONGEST_UNIT = 20


@dataclass(frozen=True)
class Layout:
    """The first record with values, the number of cells of a record, the names, and the units."""

    first: int
    width: int
    names: tuple[str, ...]
    named: bool
    units: dict[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def find_layout(records: Sequence[Record], header: str | bool, source: str) -> Layout:
    """Return where the table begins in its first records; blank records are left out before.

    Raises
    ------
    ValueError
        If the names do not fit the records.
    """
    plain = [record for record in records if not _is_comment(record)]
    if not plain:
        raise ValueError(f"{source}: the file holds comments and no table")
    width = Counter(map(len, plain)).most_common(1)[0][0]
    start, comment = _begin(records, width)
    notes = [f"lines before the table that are skipped: {start}"] if start else []
    first, body = records[start], [r for r in records[start + 1 :] if len(r) == width]
    is_named = header is True or (len(first) == width and is_header(first, body))
    if comment is not None and not is_named:
        return _with_units(records, start, width, comment, ["the comment holds the names"])
    if header == "auto":
        header = len(first) != width or is_named
        if header and not any(_kind(cell) == "text" for cell in first):
            notes.append("the first line of numbers holds the names; header=False makes it a row")
    if not header:
        names = tuple(f"column {j}" for j in range(width))
        return Layout(start, width, names, False, {}, tuple(notes))
    named = tuple(_name(cell) for cell in first)
    if len(named) == width - 1:
        named = ("", *named)
        notes.append("the first column has no name")
    if len(named) == width + 1 and not named[-1]:
        named = named[:-1]
    if len(named) != width:
        raise ValueError(
            f"{source}: {len(named)} names ({', '.join(map(repr, named[:8]))}) where the rows have "
            f"{width} cells"
        )
    return _with_units(records, start + 1, width, named, notes)


def is_blank(record: Record) -> bool:
    """Whether no cell of a record holds anything."""
    for cell in record:
        if cell is not None and str(cell).strip():
            return False
    return True


def is_header(first: Record, body: Sequence[Record]) -> bool:
    """Whether a record holds names, judged by the records below it."""
    kinds = [_kind(cell) for cell in first]
    if not body:
        return "value" not in kinds
    below = [{_kind(record[j]) for record in body} - {"blank"} for j in range(len(first))]
    if any(k == "text" and b == {"value"} for k, b in zip(kinds, below, strict=True)):
        return True
    if "value" not in kinds:
        return "text" in kinds
    return _numbered(first, kinds, body)


def _numbered(first: Record, kinds: Sequence[str], body: Sequence[Record]) -> bool:
    """Whether a record of numbers holds the names 0, 1, 2, ... that pandas gives columns."""
    texts = [str(cell).strip() for cell in first]
    start = 1 if kinds[0] == "blank" and len(texts) > 2 else 0
    for j, (text, kind) in enumerate(zip(texts, kinds, strict=True)):
        if kind == "text" and any(str(record[j]).strip() == text for record in body):
            return False
        if kind == "value" and text != str(j - start):
            return False
    if start:
        return all(_kind(record[0]) != "blank" for record in body)
    whole = any(str(c).strip().lstrip("-").isdigit() for record in body for c in record)
    return kinds.count("value") >= (4 if whole and "text" not in kinds else 2)


def _begin(records: Sequence[Record], width: int) -> tuple[int, tuple[str, ...] | None]:
    """Return the number of records before the table, and the names in the last comment."""
    start, names = 0, None
    while start < len(records) - 1:
        record = records[start]
        if _is_comment(record):
            names = _commented(record, width)
        elif len(record) < width - 1 or _is_title(records, start, width):
            names = None
        else:
            break
        start += 1
    return start, names


def _is_title(records: Sequence[Record], at: int, width: int) -> bool:
    """Whether a record that is one cell short, or has one cell in a sheet, is above the names."""
    record, below = records[at], records[at + 1]
    in_sheet = len(record) == width > 1 == _filled(record) and _kind(record[0]) == "text"
    if len(below) != width or not (in_sheet or len(record) == width - 1):
        return False
    return is_header(below, [r for r in records[at + 2 :] if len(r) == width])


def _commented(record: Record, width: int) -> tuple[str, ...] | None:
    """Return the names in a comment, or None."""
    cells = [str(cell).strip() for cell in record]
    cells[0] = cells[0].lstrip("#%/ ")
    if len(cells) == width + 1 and not cells[0]:
        cells = cells[1:]
    if len(cells) != width or width < 2 or any(_kind(cell) != "text" for cell in cells[1:]):
        return None
    return tuple(cells)


def _with_units(
    records: Sequence[Record], at: int, width: int, names: tuple[str, ...], notes: list[str]
) -> Layout:
    """Return the layout with the units of a row below the names."""
    units = {}
    body = [record for record in records[at + 1 :] if len(record) == width]
    if at < len(records) and len(records[at]) == width and _is_units(records[at], body):
        for name, cell in zip(names, records[at], strict=True):
            if _kind(cell) == "text":
                units[name] = str(cell).strip().strip("[]()")
        notes = [*notes, f"the row below the names holds units ({', '.join(units.values())})"]
        at += 1
    return Layout(at, width, names, True, units, tuple(notes))


def _is_units(record: Record, body: Sequence[Record]) -> bool:
    """Whether a record holds no value where all the records below it do."""
    below = [{_kind(other[j]) for other in body} - {"blank"} for j in range(len(record))]
    kinds = [_kind(cell) for cell in record]
    over_values = [k for k, b in zip(kinds, below, strict=True) if b == {"value"}]
    short = all(len(str(cell)) <= LONGEST_UNIT for cell in record)
    again = any(
        kind == "text" and str(other[j]).strip() == str(cell).strip()
        for j, (cell, kind) in enumerate(zip(record, kinds, strict=True))
        for other in body
    )
    own = "text" in over_values and "value" not in kinds and not again
    return own and short and len(body) > 1


def _is_comment(record: Record) -> bool:
    first = str(record[0]).strip() if record else ""
    return first.startswith(COMMENTS) and first != "%"


def _filled(record: Record) -> int:
    return sum(_kind(cell) != "blank" for cell in record)


def _name(cell: Any) -> str:
    if cell is None or (isinstance(cell, float) and cell != cell):
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    name = str(cell).strip()
    return "" if name.startswith("Unnamed: ") else name


def _kind(cell: Any) -> str:
    """Return "blank", "value" (a number, a percentage or a date) or "text"."""
    text = "" if cell is None else str(cell).strip()
    if text.lower() in MISSING:
        return "blank"
    if not isinstance(cell, str) or DATE.fullmatch(text):
        return "value"
    bare = text.rstrip("% ")
    found = number_of(bare, ".") if number_of(bare, ".") is not None else number_of(bare, ",")
    return "text" if found is None else "value"
