"""Tables in text files (CSV, TSV, white space), read in parts."""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import itertools
import re
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from fastggn.data.columns import Raw, listed
from fastggn.data.layout import SAMPLE, find_layout, is_blank
from fastggn.runtime.claims import TEXT_TIMES, claim_message, most_content

SUFFIXES = (".csv", ".tsv", ".txt", ".dat", ".tab", ".data")
SEPARATORS = ("\t", ";", "|", ",")  # the first of those that split the lines equally well
ROWS_PER_PART = 20_000
DECIMAL_COMMA = re.compile(r"[+-]?\d+(,\d+)?")
Lines = Iterator[str]
UNREADABLE = (gzip.BadGzipFile, EOFError, zlib.error)


class _OnlyText(Exception):
    """The cells are not all plain numbers."""


def read_text_table(source: Path | str, reading: Mapping[str, Any]) -> Raw:
    """Return the columns of a text file, or of the standard input ("-")."""
    file = TextFile(source, reading)
    parts = list(file.parts(ROWS_PER_PART, whole=True))
    if len(parts) == 1:
        return parts[0]
    columns = tuple(np.concatenate(same) for same in zip(*(p.columns for p in parts), strict=True))
    lines = np.concatenate([part.lines for part in parts if part.lines is not None])
    return replace(parts[0], columns=columns, lines=lines)


class TextFile:
    """A text file whose separator, names and encoding are found from its beginning.

    Raises
    ------
    ValueError
        If it is empty, holds no text of this encoding, or no table.
    """

    def __init__(self, source: Path | str, reading: Mapping[str, Any]) -> None:
        self.name = "standard input" if source == "-" else str(source)
        self._open = _opener(source)
        self._decimal = str(reading.get("decimal", "."))
        self._text = bool(reading.get("text", False))
        asked = str(reading.get("encoding", "utf-8-sig"))
        try:
            with self._open() as stream:
                self._encoding = _encoding(stream.read(4096), asked)
        except UNREADABLE as error:
            raise ValueError(f"{self.name}: not a readable gzip file ({error})") from None
        with self._lines() as lines:
            sample = list(itertools.islice(lines, 2 * SAMPLE))
        if not any(line.strip() for line in sample):
            raise ValueError(f"{self.name}: the file is empty")
        self._separator = find_separator(sample, self._decimal, self.name)
        with self._records() as records:
            first = [record for _, record in itertools.islice(records, SAMPLE)]
        self._layout = find_layout(first, reading.get("header", "auto"), self.name)

    def parts(self, most_rows: int, *, whole: bool = False) -> Generator[Raw, None, None]:
        """Yield the rows in order, at most `most_rows` at a time.

        With `whole` either all parts are plain numbers or none is.
        """
        numeric = self._decimal == "." and not self._text and self._layout.width > 1
        if numeric and whole:
            try:
                found = list(self._numeric_parts(most_rows))
            except _OnlyText:
                pass
            else:
                if found:
                    yield from found
                    return
        with self._records() as records:
            rows = itertools.islice(records, self._layout.first, None)
            empty = True
            while part := list(itertools.islice(rows, most_rows)):
                empty = False
                yield self._raw(*self._columns(part))
        if empty:
            raise ValueError(f"{self.name}: the file has a header but no rows")

    def head(self) -> Raw:
        """Return the first row."""
        with closing(self.parts(1)) as parts:
            return next(parts)

    @property
    def position(self) -> int:
        """The bytes of the file that the present pass has read."""
        return int(getattr(self._stream, "fileobj", self._stream).tell())

    def _numeric_parts(self, most_rows: int) -> Iterator[Raw]:
        """Yield the rows as numbers, which NumPy reads, or raise `_OnlyText`."""
        with self._lines() as lines:
            filled = ((n, line) for n, line in enumerate(lines, start=1) if line.strip())
            kept = itertools.islice(filled, self._layout.first, None)
            while part := list(itertools.islice(kept, most_rows)):
                try:
                    values = np.loadtxt(
                        (line for _, line in part), delimiter=self._separator, comments=None,
                        quotechar='"', ndmin=2,
                    )  # fmt: skip
                except ValueError:
                    raise _OnlyText from None
                if values.shape != (len(part), self._layout.width):
                    raise _OnlyText
                numbers = np.fromiter((n for n, _ in part), np.int64, len(part))
                yield self._raw(tuple(values.T), numbers)

    def _raw(self, columns: tuple[NDArray[Any], ...], lines: NDArray[np.int64]) -> Raw:
        found = self._layout
        return Raw(
            found.names, columns, self.name, named=found.named, lines=lines, notes=found.notes,
            units=found.units, decimal=self._decimal,
        )  # fmt: skip

    def _columns(
        self, part: Sequence[tuple[int, list[str]]]
    ) -> tuple[tuple[NDArray[Any], ...], NDArray[np.int64]]:
        """Return records as columns of text with their lines, or raise for other lengths."""
        width = self._layout.width
        wrong = [(number, len(record)) for number, record in part if len(record) != width]
        if wrong:
            places = listed([f"line {number} has {count}" for number, count in wrong], 3)
            raise ValueError(
                f"{self.name}: {len(wrong)} line{'s' * (len(wrong) > 1)} with another number of "
                f"cells than the {width} columns ({places}): mend them, or quote the cells that "
                "hold a separator"
            )
        lines = np.fromiter((number for number, _ in part), np.int64, len(part))
        columns = zip(*(record for _, record in part), strict=True)
        return tuple(np.array(column, dtype=object) for column in columns), lines

    def _lines(self) -> _Lines:
        return _Lines(self._opened, self._encoding, self.name)

    def _opened(self) -> BinaryIO:
        self._stream: Any = self._open()
        opened: BinaryIO = self._stream
        return opened

    def _records(self) -> _Records:
        return _Records(self._lines(), self._separator, self.name)


@dataclass
class _Lines:
    """The lines of an open file; errors name the file."""

    open: Callable[[], BinaryIO]
    encoding: str
    name: str

    def __enter__(self) -> Lines:
        self._text = io.TextIOWrapper(self.open(), self.encoding, newline="")
        return self._checked()

    def __exit__(self, *error: object) -> None:
        self._text.close()

    def _checked(self) -> Lines:
        try:
            for line in self._text:
                if "\0" in line:
                    raise ValueError(f"{self.name}: not a text file (it holds zero bytes)")
                yield line
        except UnicodeError as error:
            raise ValueError(
                f"{self.name}: not a text file in {self.encoding} ({error}); encoding='latin-1' "
                "or encoding='utf-16' may be right"
            ) from None
        except UNREADABLE as error:
            raise ValueError(f"{self.name}: not a readable gzip file ({error})") from None


@dataclass
class _Records:
    """The records of a file with the number of their first line; blank records are left out."""

    lines: _Lines
    separator: str | None
    name: str

    def __enter__(self) -> Iterator[tuple[int, list[str]]]:
        return self._found(self.lines.__enter__())

    def __exit__(self, *error: object) -> None:
        self.lines.__exit__(*error)

    def _found(self, lines: Lines) -> Iterator[tuple[int, list[str]]]:
        reader = _split(lines, self.separator, strict=True)
        number = 1
        try:
            for record in reader:
                start, number = number, reader.line_num + 1
                if not is_blank(record):
                    yield start, record
        except csv.Error as error:
            raise ValueError(
                f"{self.name}: line {number}: {error}: a quoted cell must end, and quotes in it "
                "are doubled"
            ) from None


def _split(lines: Iterable[str], separator: str | None, *, strict: bool = False) -> Any:
    """Return a reader of records; white space separates them if there is no separator."""
    if separator is not None:
        return csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=strict)
    spaced = (" ".join(line.split()) + "\n" for line in lines)
    return csv.reader(spaced, delimiter=" ", skipinitialspace=True, strict=strict)


def find_separator(lines: Sequence[str], decimal: str, source: str) -> str | None:
    """Return the separator that gives most records the same number of cells; None: white space.

    Separators inside quotes do not count.
    """
    if match := re.fullmatch(r"sep=(.)", lines[0].strip()):  # a line for Excel
        return match[1]
    plain = [line for line in lines if line.strip() and not line.startswith(("#", "%"))] or lines
    best: tuple[int, str | None] = (0, None)
    for separator in SEPARATORS:
        if separator == decimal:
            continue
        agree, width = _agreement(plain, separator)
        if width > 1 and agree * 2 >= len(plain) and agree > best[0]:
            best = agree, separator
    if best[1] == ",":
        _refuse_decimal_commas(plain, source)
    return best[1]


def _agreement(lines: Sequence[str], separator: str | None) -> tuple[int, int]:
    """Return how many records have the most frequent number of cells, and this number."""
    try:
        counts = Counter(len(record) for record in _split(iter(lines), separator) if record)
    except csv.Error:
        return 0, 0
    width, agree = counts.most_common(1)[0] if counts else (0, 0)
    return agree, width


def _refuse_decimal_commas(lines: Sequence[str], source: str) -> None:
    """Raise where white space separates numbers with decimal commas."""
    agree, width = _agreement(lines, None)
    cells = [cell for line in lines[1:] for cell in line.split()]
    commas = [cell for cell in cells if "," in cell]
    if width > 1 and agree == len(lines) and commas:
        if all(DECIMAL_COMMA.fullmatch(cell) for cell in cells):
            raise ValueError(
                f"{source}: numbers such as {commas[0]!r} have a decimal comma: decimal=','"
            )


def _opener(source: Path | str) -> Callable[[], BinaryIO]:
    """Return a function that opens the bytes of a source from their beginning."""
    if source == "-":
        content = sys.stdin.buffer.read()
        if content[:2] == b"\x1f\x8b":
            return lambda: cast(BinaryIO, _Gzip("standard input", io.BytesIO(content)))
        return lambda: io.BytesIO(content)
    file = Path(source)
    if file.suffix.lower() == ".gz":
        return lambda: cast(BinaryIO, _Gzip(str(file), open(file, "rb")))
    return lambda: open(file, "rb")


class _Gzip(gzip.GzipFile):
    """A file of gzip that ends by an error where it holds far more than its size tells."""

    def __init__(self, name: str, stream: BinaryIO) -> None:
        self._size = stream.seek(0, io.SEEK_END)
        stream.seek(0)
        super().__init__(fileobj=stream, mode="rb")
        self.myfileobj = cast(Any, stream)  # closed with this one
        self._source, self._most = name, most_content(self._size, TEXT_TIMES)

    def read(self, size: int | None = -1) -> bytes:
        return self._counted(super().read(size))

    def read1(self, size: int = -1) -> bytes:
        return self._counted(super().read1(size))

    def _counted(self, part: bytes) -> bytes:
        if self.tell() > self._most:
            raise ValueError(claim_message(self._source, self.tell(), self._size))
        return part


def _encoding(head: bytes, asked: str) -> str:
    """Return the encoding that a byte order mark or zero bytes tell, or the one asked for."""
    if head[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
        return "utf-16"
    if head[:3] == codecs.BOM_UTF8:
        return "utf-8-sig"
    even, odd = head[0:200:2].count(0), head[1:200:2].count(0)
    if even + odd and asked == "utf-8-sig" and max(even, odd) > 0.4 * len(head[:200]) / 2:
        return "utf-16-le" if odd > even else "utf-16-be"
    try:
        return codecs.lookup(asked).name if asked != "utf-8-sig" else asked
    except LookupError:
        raise ValueError(f"the encoding {asked!r} is unknown") from None
