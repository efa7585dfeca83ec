"""Where columns of float64 stand in a file or a map, for workers that fetch rows themselves."""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

PROBE_BYTES = 2**18
# Of a row: a chunk of longer ones would not fit into a core's cache.
MOST_ROW_BYTES = 2**13
# MADV_POPULATE_READ (Linux 5.14), which Python does not name.
POPULATE_READ = 22


class Bytes(Protocol):
    """Bytes that the workers can fetch: an open file, or memory that is mapped."""

    descriptor: int  # of the open file, or -1 where positions are addresses
    tells_at_once: bool  # whether `ready` answers without waiting

    @property
    def whole(self) -> object:
        """The file or the map: the same one for all that stands in it."""
        ...

    def ready(self, position: int, count: int) -> bool:
        """Return whether so many bytes from a position on can be had without waiting."""
        ...

    def release(self, position: int, count: int) -> None:
        """Let go of bytes that were fetched."""
        ...


class FileBytes:
    """An open file whose pages may be in the page cache."""

    tells_at_once = True

    def __init__(self, whole: object, descriptor: int, is_open: Callable[[], bool]) -> None:
        self._whole = whole
        self._is_open = is_open
        self.descriptor = descriptor

    @property
    def whole(self) -> object:
        """The file."""
        return self._whole

    def ready(self, position: int, count: int) -> bool:
        """Return whether the page cache has them, by a look at a byte every 256 KiB.

        False also where the system cannot tell.
        """
        if not hasattr(os, "RWF_NOWAIT") or not self._is_open():
            return False
        byte = [bytearray(1)]
        last = position + count - 1
        try:
            return all(
                os.preadv(self.descriptor, byte, at, os.RWF_NOWAIT) == 1
                for at in (*range(position, last, PROBE_BYTES), last)
            )
        except OSError:  # it would wait, or cannot tell; the reading itself says what is wrong
            return False

    def release(self, position: int, count: int) -> None:
        """Do nothing: no page of the file was mapped."""


class MappedBytes:
    """A map of a file; its pages count as resident until they are given back."""

    descriptor = -1
    tells_at_once = False

    def __init__(self, mapping: mmap.mmap, *, private: bool) -> None:
        self._mapping = mapping
        self._private = private
        self.start = int(np.frombuffer(mapping, np.uint8).__array_interface__["data"][0])
        self.stop = self.start + len(mapping)

    @property
    def whole(self) -> object:
        """The map."""
        return self._mapping

    def ready(self, position: int, count: int) -> bool:
        """Map the pages, read from the disk where need be: then the workers do not wait.

        False where the system is not able to.
        """
        if sys.platform != "linux":
            return False
        try:
            self._advise(POPULATE_READ, position, count)
        except OSError:
            return False
        return True

    def release(self, position: int, count: int) -> None:
        """Give the pages back to the page cache.

        Not those of a private map (mode "c"): its changes are in memory only.
        """
        if sys.platform == "linux" and not self._private:
            self._advise(mmap.MADV_DONTNEED, position, count)

    def _advise(self, advice: int, position: int, count: int) -> None:
        first = position - self.start
        first -= first % mmap.PAGESIZE
        self._mapping.madvise(advice, first, position - self.start + count - first)


@dataclass(frozen=True)
class RawColumns:
    """Columns of float64 in rows at equal distances.

    Attributes
    ----------
    source : Bytes
    position : int
        The place of the first row, in bytes.
    pitch : int
        Bytes from row to row, a multiple of 8.
    columns : ndarray of int64, shape (n,)
        Their places in a row, in units of 8 bytes.
    scaling : ndarray, shape (2, n) or (2, 0)
        Mean and scale: (column - mean) / scale is what is meant.
    """

    source: Bytes
    position: int
    pitch: int
    columns: IntArray
    scaling: FloatArray

    def extent(self, start: int, stop: int) -> tuple[int, int]:
        """Return position and number of the bytes of some rows."""
        span = 8 * (1 + int(self.columns.max()))
        return self.position + start * self.pitch, (stop - start - 1) * self.pitch + span

    def chosen(self, columns: Any) -> RawColumns:
        """Return some of the columns."""
        scaling = self.scaling[:, columns] if self.scaling.size else self.scaling
        return replace(self, columns=self.columns[columns], scaling=scaling)

    def scaled(self, mean: FloatArray, scale: FloatArray) -> RawColumns | None:
        """Return the scaled columns; None where they are scaled already."""
        return None if self.scaling.size else replace(self, scaling=np.stack([mean, scale]))

    def scaled_rows(self, rows: FloatArray) -> FloatArray:
        """Return rows (B, n) of these columns as they are meant."""
        if not self.scaling.size:
            return rows
        return np.asarray((rows - self.scaling[0]) / self.scaling[1])

    def from_row(self, start: int) -> RawColumns:
        """Return the rows from one on."""
        return replace(self, position=self.position + start * self.pitch)

    def beside(self, other: RawColumns) -> tuple[RawColumns, RawColumns] | None:
        """Return both with one position; None where they do not stand in the same rows."""
        apart = other.position - self.position
        if other.source.whole is not self.source.whole or other.pitch != self.pitch or apart % 8:
            return None
        low = min(0, apart)
        first, second = self.columns - low // 8, other.columns + (apart - low) // 8
        if 8 * (1 + max(first.max(), second.max())) > self.pitch:
            return None
        position = self.position + low
        return (
            replace(self, position=position, columns=first),
            replace(other, position=position, columns=second),
        )


def raw_columns(array: Any) -> RawColumns | None:
    """Return where the rows of an array (T, n) in a file stand; None where only it can read them.

    An object of this package says so by a method `_raw_columns`.
    """
    if isinstance(array, np.memmap):
        return _of_map(array)
    ask = getattr(array, "_raw_columns", None)
    found: RawColumns | None = None if ask is None else ask()
    return found


def _of_map(array: np.memmap[Any, Any]) -> RawColumns | None:
    mapping = getattr(array, "_mmap", None)
    plain = array.ndim == 2 and array.dtype == np.float64 and array.dtype.isnative and array.size
    if mapping is None or not plain:
        return None
    pitch, step = array.strides
    columns = np.arange(array.shape[1], dtype=np.int64) * (step // 8)
    inside = 0 < step and step % 8 == 0 and pitch % 8 == 0 and 8 * (columns[-1] + 1) <= pitch
    source = MappedBytes(mapping, private=array.mode == "c")
    address = int(array.__array_interface__["data"][0])
    end = address + (array.shape[0] - 1) * pitch + 8 * int(columns[-1] + 1)
    if not inside or address < source.start or end > source.stop:
        return None
    return RawColumns(source, address, pitch, columns, np.zeros((2, 0)))


@dataclass(frozen=True)
class RawRows:
    """Some consecutive rows, in place of an array of them.

    Attributes
    ----------
    shape : tuple of int
        (B, n_0), of the inputs.
    source : Bytes
    position, pitch : int
        Of the first of these rows, and from row to row, in bytes.
    columns : ndarray of int64
        Of the inputs, and of other columns that `keep` takes.
    scaling : ndarray, shape (2, n_0) or (2, 0)
        Of the inputs.
    read : callable
        Returns the inputs (B, n_0) in the usual way, or raises what is wrong.
    keep : callable
        Takes the other columns (B, .), as they stand in the file.
    """

    shape: tuple[int, int]
    source: Bytes
    position: int
    pitch: int
    columns: IntArray
    scaling: FloatArray
    read: Callable[[], FloatArray]
    keep: Callable[[FloatArray], None]

    @property
    def span(self) -> int:
        """The bytes of a row that are wanted."""
        return 8 * (1 + int(self.columns.max()))

    def ready(self) -> bool:
        """Return whether they can be had without waiting."""
        return self.source.ready(self.position, self._count())

    def release(self) -> None:
        """Let go of the rows, which were fetched."""
        self.source.release(self.position, self._count())

    def _count(self) -> int:
        return (self.shape[0] - 1) * self.pitch + self.span
