"""Conversion of a text table to ``.npy`` in bounded memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fastggn.data.files import Target, target_columns
from fastggn.data.text import TEXT_SUFFIXES, TextReader, open_text
from fastggn.runtime.archive import require_file
from fastggn.runtime.atomic_files import check_writable, write_atomically

FloatArray = NDArray[np.float64]
Progress = Callable[[int, float], None]


@dataclass(frozen=True)
class Conversion:
    """The rows and columns of a written file.

    `inputs` and `targets` are the names of the columns, or their numbers in the text file from 0.
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
    """Write the numbers of a text file to ``.npy``, in parts.

    Parameters
    ----------
    path : path-like
        ``.csv``, ``.tsv`` or ``.txt``: rows of numbers, with or without a line of column names.
    out : path-like
        ``.npy``: one array, with the target columns last. The file is replaced atomically, after
        everything is written.
    target : str, int or sequence of them, optional
        The target columns by name or number; by default the last column.
    progress : callable, optional
        A function of the rows so far and the share of the file, 0 to 1.

    Returns
    -------
    Conversion
        The rows and columns.

    Raises
    ------
    ValueError
        If the file is missing, empty, not text or of an unknown kind, if a row has another
        number of columns, a cell is not a finite number (the message names the line), or a target
        column is missing. `out` is then unchanged.
    OSError
        If the file cannot be read, or if `out` cannot be written (a full disk).
    """
    source, sink = require_file(path), Path(out)
    if source.suffix.lower() not in TEXT_SUFFIXES:
        raise ValueError(f"{source}: not a text table (known: {', '.join(TEXT_SUFFIXES)})")
    if sink.suffix.lower() != ".npy":
        raise ValueError(f"{sink}: unknown kind of file (known: .npy)")
    check_writable(sink)
    with open_text(source) as text:
        columns = _Columns(source, text, target)
        size = max(1, source.stat().st_size)
        count = 0

        def parts() -> Iterator[FloatArray]:
            nonlocal count
            for part in text.parts():
                count += part.shape[0]
                progress(count, min(1.0, text.position / size))
                yield part

        write_atomically(sink, lambda file: _write_npy(file, parts(), columns))
    return Conversion(count, columns.input_names, columns.target_names)


class _Columns:
    """The input columns and the target columns."""

    def __init__(self, source: Path, text: TextReader, target: Target) -> None:
        self.targets = target_columns(source, target, text.names, text.n_columns)
        self.inputs = [j for j in range(text.n_columns) if j not in self.targets]
        names = text.names or tuple(map(str, range(text.n_columns)))
        self.input_names = tuple(names[j] for j in self.inputs)
        self.target_names = tuple(names[j] for j in self.targets)


def _write_npy(file: BinaryIO, parts: Iterator[FloatArray], columns: _Columns) -> None:
    """Write the array, and at the end the number of rows into the header."""
    order = [*columns.inputs, *columns.targets]

    def write_header(n_rows: int) -> int:
        file.seek(0)
        header: dict[str, Any] = {
            "descr": "<f8",
            "fortran_order": False,
            "shape": (n_rows, len(order)),
        }
        # The header has room for a longer number of rows, so that the data need not move.
        np.lib.format.write_array_header_1_0(file, header)
        return file.tell()

    start, count = write_header(0), 0
    for part in parts:
        file.write(np.ascontiguousarray(part[:, order], dtype="<f8").data)
        count += part.shape[0]
    if write_header(count) != start:
        raise RuntimeError("the header of the .npy file changed its length")
    file.seek(0, os.SEEK_END)
