"""Tables in workbooks of Excel."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastggn.data.arrays import foreign_file, from_records
from fastggn.data.columns import Raw
from fastggn.runtime.claims import TEXT_TIMES, check_claim

# A sheet of so many cells may be mostly empty. In a larger one a cell takes some 20 bytes of text.
MANY_CELLS = 2**20


def read_excel(file: Path, reading: Mapping[str, Any]) -> Raw:
    """Read the columns of one sheet of a workbook."""
    try:
        import openpyxl
    except ImportError:
        raise ImportError(
            f'{file}: reading it needs openpyxl: pip install "fastggn[table]"'
        ) from None
    with foreign_file(file, "Excel"):
        with zipfile.ZipFile(file) as archive:
            held = sum(member.file_size for member in archive.infolist())
        check_claim(file, held, TEXT_TIMES)
        book = openpyxl.load_workbook(file, read_only=True, data_only=True, keep_links=False)
        try:
            records = _records(_sheet(book, reading.get("sheet")), held)
        finally:
            book.close()
    header, decimal = reading.get("header", "auto"), str(reading.get("decimal", "."))
    return from_records(records, header, str(file), decimal)


def _sheet(book: Any, chosen: Any) -> Any:
    sheets = [sheet.title for sheet in book.worksheets]
    if chosen is None:
        chosen = 0
    if chosen not in sheets and not (isinstance(chosen, int) and chosen < len(sheets)):
        raise ValueError(f"there is no sheet {chosen!r} (sheets: {', '.join(sheets)})")
    sheet = book.worksheets[chosen if isinstance(chosen, int) else sheets.index(chosen)]
    sheet.reset_dimensions()  # the sheet may tell other ones than it has
    return sheet


def _records(sheet: Any, held: int) -> list[list[Any]]:
    """Return the rows of a sheet, all of the same width."""
    records: list[list[Any]] = []
    width = last = 0
    for row in sheet.rows:
        cells = [_value(cell) for cell in row]
        while cells and cells[-1] is None:
            cells.pop()
        records.append(cells)
        if cells:
            width, last = max(width, len(cells)), len(records)
            if width * last > max(MANY_CELLS, held):
                raise ValueError(
                    f"a cell at row {last:,} or in column {width:,} is far from the others: a "
                    "table of this size would be empty; delete what is outside of the table"
                )
    return [cells + [None] * (width - len(cells)) for cells in records[:last]]


def _value(cell: Any) -> Any:
    """Return the value of a cell, None for an empty one or an error such as #N/A."""
    value = cell.value
    if value is None or cell.data_type == "e":
        return None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value
