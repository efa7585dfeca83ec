"""Rows of an ``.npy`` file by ranges, without a map, whose pages count as resident memory."""

from __future__ import annotations

import math
import os
import weakref
from collections.abc import Iterable
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fastggn.runtime.archive import ArchiveError, read_array_header, require_file
from fastggn.runtime.buffers import lend
from fastggn.runtime.platform import BINARY, read_at


def open_npy(path: str | os.PathLike[str]) -> NpyFile:
    """Open an ``.npy`` file for reading by rows.

    Resident memory holds only the rows of one read, while the pages of a mapped file (``np.load``
    with ``mmap_mode``) fill the memory.

    Parameters
    ----------
    path : path-like
        A file of real numbers in C order, shape (T,) or (T, n).

    Returns
    -------
    NpyFile
        An object with shape, dtype and row slices, for X or Y of a `Problem`.

    Raises
    ------
    ValueError
        If the file is missing, is not an ``.npy`` file, holds objects, is in Fortran order, has
        another number of dimensions, or does not have the length in its header.
    OSError
        If the file cannot be opened.
    """
    return NpyFile(path)


class NpyFile:
    """The rows of an ``.npy`` file, from `open_npy`.

    Attributes
    ----------
    shape : tuple of int
    dtype : dtype
    path : Path
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = require_file(path)
        descriptor = os.open(self.path, os.O_RDONLY | BINARY)
        self._close = weakref.finalize(self, os.close, descriptor)
        self._descriptor = descriptor
        try:
            self.shape, self.dtype, self._offset = self._header()
        except BaseException:
            self._close()
            raise
        self._row_bytes = self.dtype.itemsize * math.prod(self.shape[1:])

    def _header(self) -> tuple[tuple[int, ...], np.dtype[Any], int]:
        """Read the header, and compare it with the length of the file."""
        with open(self._descriptor, "rb", closefd=False) as stream:
            shape, fortran, dtype = read_array_header(stream, str(self.path))
            offset = stream.tell()
        if dtype.hasobject:
            raise ArchiveError(f"{self.path}: holds pickled objects, which are never loaded")
        if dtype.kind not in "fiub":
            raise ArchiveError(f"{self.path}: must hold real numbers, got dtype {dtype}")
        if len(shape) not in (1, 2):
            raise ArchiveError(f"{self.path}: the array must be (T,) or (T, n), got shape {shape}")
        if fortran and len(shape) == 2 and min(shape) > 1:
            raise ArchiveError(
                f"{self.path}: the array is in Fortran order, whose rows are scattered over the "
                "file; save it again from np.ascontiguousarray"
            )
        expected = offset + math.prod(shape) * dtype.itemsize
        size = os.fstat(self._descriptor).st_size
        if size != expected:
            raise ArchiveError(
                f"{self.path}: {size} bytes where its header (shape {shape}) asks for {expected}"
            )
        return shape, dtype, offset

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        """Return a range of rows in the dtype of the file."""
        if not isinstance(rows, slice):
            raise TypeError(f"{type(self).__name__} takes slices of rows, not {rows!r}")
        start, stop, step = rows.indices(self.shape[0])
        if step < 1:
            raise ValueError(f"the step of a slice must be positive, got {step}")
        out = lend((max(0, stop - start), *self.shape[1:]), self.dtype)
        if out.size:
            self._fill(out.data.cast("B"), start)
        return out[::step]

    def _fill(self, buffer: memoryview, start: int) -> None:
        """Read into the buffer from row `start` (thread-safe)."""
        position = self._offset + start * self._row_bytes
        if not self._close.alive:
            raise ValueError(f"{self.path} is closed")
        while buffer:
            count = read_at(self._descriptor, buffer, position)
            if count == 0:
                raise OSError(f"{self.path}: cut short while it was read, at byte {position}")
            position += count
            buffer = buffer[count:]

    def close(self) -> None:
        """Close the file; the end of the last reference also closes it."""
        self._close()

    def __enter__(self) -> NpyFile:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def write_npy(
    file: BinaryIO,
    parts: Iterable[NDArray[Any]],
    row: tuple[int, ...],
    dtype: str | np.dtype[Any] = "<f8",
) -> None:
    """Write an array whose rows, of shape `row`, come in parts.

    Parameters
    ----------
    file : binary file
        Open for writing at its start, with seek.
    parts : iterable of ndarray, shape (B, *row)
    row : tuple of int
    dtype : dtype
        The type of the file.
    """
    kind = np.dtype(dtype)

    def write_header(n_rows: int) -> int:
        file.seek(0)
        header: dict[str, Any] = {
            "descr": np.lib.format.dtype_to_descr(kind),
            "fortran_order": False,
            "shape": (n_rows, *row),
        }
        # The header has room for a longer number of rows, so that the data need not move.
        np.lib.format.write_array_header_1_0(file, header)
        return file.tell()

    start, count = write_header(0), 0
    for part in parts:
        file.write(np.ascontiguousarray(part, dtype=kind).tobytes())
        count += part.shape[0]
    if write_header(count) != start:
        raise RuntimeError("the header of the .npy file changed its length")
    file.seek(0, os.SEEK_END)
