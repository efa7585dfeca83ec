"""A text table turned into ``.npy`` or ``.h5`` in a stream: memory does not grow with the file."""

from __future__ import annotations

import csv
import io
import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fastggn.data.files import Target, target_columns
from fastggn.data.text import TEXT_SUFFIXES, TextReader
from fastggn.runtime.archive import require_file
from fastggn.runtime.atomic_files import check_writable, write_atomically

FloatArray = NDArray[np.float64]
Progress = Callable[[int, float], None]

SUFFIXES = (".npy", ".h5", ".hdf5")
HDF5_ROWS = 8192  # rows a chunk of a data set, at most; fewer where they are wide
HDF5_BYTES = 2**20


@dataclass(frozen=True)
class Conversion:
    """What was written.

    Attributes
    ----------
    n_rows : int
    inputs, targets : tuple of str
        Names of the columns, or their numbers in the text file from 0.
    """

    n_rows: int
    inputs: tuple[str, ...]
    targets: tuple[str, ...]


def convert_table(
    path: str | os.PathLike[str],
    out: str | os.PathLike[str],
    target: Target = None,
    progress: Progress = lambda rows, share: None,
) -> Conversion:
    """Write the numbers of a text file to ``.npy`` or ``.h5``, a part at a time.

    Parameters
    ----------
    path : path-like
        ``.csv``, ``.tsv`` or ``.txt``: rows of numbers, under a line of column names or without.
    out : path-like
        ``.npy``: one array, the target columns last. ``.h5`` or ``.hdf5``: data sets X and Y,
        with the names of their columns; it needs the extra ``io``. Replaced in one step, when
        all has been written.
    target : str, int or sequence of them, optional
        The target columns by name or number, by default the last one.
    progress : callable, optional
        Called with the rows so far and the share of the file, 0 to 1.

    Returns
    -------
    Conversion
        Rows and columns.

    Raises
    ------
    ValueError
        If the file is missing, empty, not text or of an unknown kind, if a row has another
        number of columns, a cell is not a finite number (the line is named), or there is no such
        target column. `out` is then as it was.
    OSError
        If the file cannot be read, or `out` cannot be written: the disk is full.
    ImportError
        If an ``.h5`` file is asked for and h5py is not installed.
    """
    source, sink = require_file(path), Path(out)
    if source.suffix.lower() not in TEXT_SUFFIXES:
        raise ValueError(f"{source}: not a text table (known: {', '.join(TEXT_SUFFIXES)})")
    if sink.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{sink}: unknown kind of file (known: {', '.join(SUFFIXES)})")
    writer = _write_npy if sink.suffix.lower() == ".npy" else _write_hdf5
    check_writable(sink)
    try:
        with source.open("rb") as raw, io.TextIOWrapper(raw, "utf-8-sig", newline="") as stream:
            text = TextReader(stream, source)
            columns = _Columns(source, text, target)
            size = max(1, source.stat().st_size)
            count = 0

            def parts() -> Iterator[FloatArray]:
                nonlocal count
                for part in text.parts():
                    count += part.shape[0]
                    progress(count, min(1.0, raw.tell() / size))
                    yield part

            write_atomically(sink, lambda file: writer(file, parts(), columns))
    except UnicodeDecodeError as error:
        raise ValueError(f"{source}: not a text file in UTF-8 ({error})") from None
    except csv.Error as error:
        raise ValueError(f"{source}: not a table of numbers ({error})") from None
    return Conversion(count, columns.input_names, columns.target_names)


class _Columns:
    """Which columns are inputs and which are targets."""

    def __init__(self, source: Path, text: TextReader, target: Target) -> None:
        self.targets = target_columns(source, target, text.names, text.n_columns)
        self.inputs = [j for j in range(text.n_columns) if j not in self.targets]
        names = text.names or tuple(map(str, range(text.n_columns)))
        self.input_names = tuple(names[j] for j in self.inputs)
        self.target_names = tuple(names[j] for j in self.targets)


def _write_npy(file: BinaryIO, parts: Iterator[FloatArray], columns: _Columns) -> None:
    """Write the array; the number of rows goes into the header when it is known."""
    order = [*columns.inputs, *columns.targets]

    def write_header(n_rows: int) -> int:
        file.seek(0)
        header: dict[str, Any] = {
            "descr": "<f8",
            "fortran_order": False,
            "shape": (n_rows, len(order)),
        }
        # It leaves room for a longer number of rows: the data need not move.
        np.lib.format.write_array_header_1_0(file, header)
        return file.tell()

    start, count = write_header(0), 0
    for part in parts:
        file.write(np.ascontiguousarray(part[:, order], dtype="<f8").data)
        count += part.shape[0]
    if write_header(count) != start:
        raise RuntimeError("the header of the .npy file changed its length")
    file.seek(0, os.SEEK_END)


def _write_hdf5(file: BinaryIO, parts: Iterator[FloatArray], columns: _Columns) -> None:
    """Write the data sets X and Y."""
    try:
        import h5py
    except ImportError:
        raise ImportError('writing HDF5 needs h5py: pip install "fastggn[io]"') from None
    first = next(parts)  # a fault in the first lines is found before the library is at work
    forgiving = _Forgiving(file)
    with h5py.File(forgiving, "w") as archive:
        sets = []
        for name, chosen, names in (
            ("X", columns.inputs, columns.input_names),
            ("Y", columns.targets, columns.target_names),
        ):
            rows = max(1, min(HDF5_ROWS, HDF5_BYTES // (8 * len(chosen))))
            found = archive.create_dataset(
                name,
                (0, len(chosen)),
                "<f8",
                maxshape=(None, len(chosen)),
                chunks=(rows, len(chosen)),
            )
            found.attrs["columns"] = list(names)
            sets.append((found, chosen))
        count = 0
        for part in itertools.chain([first], parts):
            for found, chosen in sets:
                _append(found, count, part[:, chosen])
            forgiving.check()
            count += part.shape[0]
    forgiving.check()


class _Forgiving(io.RawIOBase):
    """A file that keeps its first failure to itself: HDF5 crashes over a write that fails."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._error: OSError | None = None

    def check(self) -> None:
        """Raise the first failure."""
        if self._error is not None:
            raise self._error

    def write(self, content: Any) -> int:
        """Write, or pretend to after a failure."""
        try:
            if self._error is None:
                self._file.write(content)
        except OSError as error:
            self._error = error
        return len(content)

    def truncate(self, size: int | None = None) -> int:
        """Set the size, or pretend to after a failure."""
        try:
            if self._error is None:
                self._file.truncate(size)
        except OSError as error:
            self._error = error
        return size or 0

    def flush(self) -> None:
        """Flush, or pretend to after a failure."""
        try:
            if self._error is None and not self.closed:
                self._file.flush()
        except OSError as error:
            self._error = error

    def readinto(self, buffer: Any) -> int:
        """Read what was written before."""
        return self._file.readinto(buffer)  # type: ignore[attr-defined,no-any-return]

    def seek(self, offset: int, whence: int = 0) -> int:
        """Move; a buffer that cannot be written out counts as a failure."""
        try:
            return self._file.seek(offset, whence)
        except OSError as error:
            self._error = self._error or error
            return offset

    def tell(self) -> int:
        """Return the position."""
        return self._file.tell()


def _append(found: Any, count: int, rows: FloatArray) -> None:
    found.resize(count + rows.shape[0], axis=0)
    found[count:] = rows
