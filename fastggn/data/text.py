"""Numbers in text files (CSV, TSV, white space); errors name the line and the column."""

from __future__ import annotations

import csv
import io
import itertools
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

TEXT_SUFFIXES = (".csv", ".tsv", ".txt")
SEPARATORS = (",", ";", "\t")
ROWS_PER_PART = 20_000
CELLS_PER_PART = 400_000
NO_TABLE = "the file cannot be read as a table of numbers (are there line breaks inside quotes?)"


@dataclass(frozen=True)
class TextTable:
    """The finite cells of a text file, (rows, columns), and its column names, () without header."""

    values: NDArray[np.float64]
    names: tuple[str, ...]


def read_text(path: Path) -> TextTable:
    """Read a rectangular table of finite numbers."""
    with open_text(path) as reader:
        return TextTable(np.concatenate(list(reader.parts())), reader.names)


@contextmanager
def open_text(path: Path) -> Iterator[TextReader]:
    """Open a table for reading in parts, or raise `ValueError`."""
    try:
        with path.open("rb") as stream:
            yield TextReader(stream, path)
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text file in UTF-8 ({error})") from None
    except csv.Error as error:
        raise ValueError(f"{path}: not a table of numbers ({error})") from None


class TextReader:
    """A table that is read from an open text file in parts.

    The separator is a comma, a semicolon or a tab, whichever is most frequent in the first line, or
    else white space. The first line is a header if none of its cells is a number.
    """

    def __init__(self, stream: BinaryIO, path: Path) -> None:
        self._stream = stream
        self._path = path
        # The reference keeps the stream open.
        self._text = io.TextIOWrapper(stream, "utf-8-sig", newline="")
        self._lines: Iterator[tuple[int, str]] = (
            (number, line) for number, line in enumerate(self._text, start=1) if line.strip()
        )
        first = next(self._lines, None)
        if first is None:
            raise ValueError(f"{path}: the file is empty")
        self._separator = _separator(first[1])
        cells = _split(first[1], self._separator)
        self.n_columns = len(cells)
        self.names: tuple[str, ...] = ()
        if any(_is_number(cell) for cell in cells):
            self._lines = itertools.chain([first], self._lines)
        else:
            self.names = tuple(c.strip() for c in cells)

    @property
    def position(self) -> int:
        """The bytes of the file that were read so far."""
        return self._stream.tell()

    def parts(self) -> Iterator[NDArray[np.float64]]:
        """Yield the rows in order, in parts of some thousands."""
        count = max(1, min(ROWS_PER_PART, CELLS_PER_PART // self.n_columns))
        empty = True
        while lines := list(itertools.islice(self._lines, count)):
            empty = False
            values = _numbers((line for _, line in lines), self._separator)
            if values is None or values.shape[1] != self.n_columns or not np.isfinite(values).all():
                faults = (
                    _fault_of(n, x, self._separator, self.names, self.n_columns) for n, x in lines
                )
                reason = next((fault for fault in faults if fault), NO_TABLE)
                raise ValueError(f"{self._path}: {reason}")
            yield values
        if empty:
            raise ValueError(f"{self._path}: the file has a header but no rows")


def _numbers(lines: Iterable[str], separator: str | None) -> NDArray[np.float64] | None:
    """Return the lines as an array, or None if a cell or a row is wrong."""
    try:
        return np.loadtxt(lines, delimiter=separator, comments=None, quotechar='"', ndmin=2)
    except ValueError:
        return None


def _fault_of(
    number: int, line: str, separator: str | None, names: tuple[str, ...], n_columns: int
) -> str:
    """Return the fault of a line that is not blank, or an empty string."""
    cells = _split(line, separator)
    if len(cells) != n_columns:
        return f"line {number} has {len(cells)} columns where the first line has {n_columns}"
    for column, cell in enumerate(cells):
        if reason := _reason(cell):
            return f"line {number}, column {_column(names, column)} {reason}"
    return ""


def _column(names: tuple[str, ...], index: int) -> str:
    return f"{index + 1} ({names[index]!r})" if names else str(index + 1)


def _reason(cell: str) -> str:
    """Return the fault of a cell, or an empty string."""
    text = cell.strip()
    if not text:
        return "is empty; missing values are not filled in: remove the row or fill it"
    if not _is_number(text):
        advice = "number classes, drop other text"
        return f"holds the text {text[:40]!r}; every cell must be a number ({advice})"
    if not math.isfinite(float(text)):
        return f"is {text}; every cell must be finite"
    return ""


def _is_number(cell: str) -> bool:
    text = cell.strip()
    try:
        float(text)
    except ValueError:
        return False
    # Python accepts 1_000 and digits of other scripts, which a data file does not mean as numbers.
    return "_" not in text and text.isascii()


def _separator(line: str) -> str | None:
    best = max(SEPARATORS, key=line.count)
    return best if best in line else None


def _split(line: str, separator: str | None) -> list[str]:
    if separator is None:
        return line.split()
    return next(csv.reader([line], delimiter=separator), [])
