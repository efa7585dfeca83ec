"""Samples by rows: any object with shape, dtype and row slices, read in blocks as float64."""

from __future__ import annotations

import math
import mmap
import re
from collections.abc import Callable, Iterator
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastggn.data.reading import read_ahead
from fastggn.runtime.buffers import lend
from fastggn.runtime.errors import check_finite, samples_are_rows
from fastggn.runtime.forks import LocalLock
from fastggn.runtime.platform import DONT_NEED

FloatArray = NDArray[np.float64]

BYTES_PER_READ = 8 * 2**20
# Linux maps the neighbours of a page that is read, as far as the page table reaches: 2 MiB.
FAULT_AROUND = mmap.PAGESIZE * (mmap.PAGESIZE // 8)
# A gap of at most so many unwanted rows is read, not skipped.
SHORT_GAP = 16


class SampleSource(Protocol):
    """Two-dimensional samples by ranges of rows."""

    shape: tuple[int, int]
    streamed: bool

    def rows(self, start: int, stop: int) -> FloatArray:
        """Return the rows start..stop as a C-ordered float64 array."""
        ...

    def take(self, index: NDArray[np.intp]) -> FloatArray:
        """Return the rows of an index, in the order of the index, as a C-ordered float64 array."""
        ...

    def block_rows(self) -> int:
        """Return the number of rows for one read of a pass."""
        ...


class ArraySource:
    """A source over an array-like object in memory, in a map or in a file.

    `streamed` says whether each request reads the file; then a thread may read ahead.
    """

    def __init__(self, name: str, array: Any) -> None:
        self._name = name
        self._array = array
        self.shape: tuple[int, int] = (int(array.shape[0]), int(array.shape[1]))
        self.streamed = is_streamed(array)

    def rows(self, start: int, stop: int) -> FloatArray:
        """Return the rows start..stop, as a view of an array of float64 in memory."""
        return as_doubles(read_rows(self._name, self._array, start, stop))

    def take(self, index: NDArray[np.intp]) -> FloatArray:
        """Return the rows of `index`; a file is read in increasing order, each row once."""
        # Rows of a map by slices too, which give their pages back one after the other.
        if isinstance(self._array, np.ndarray) and not isinstance(self._array, np.memmap):
            return as_doubles(np.asarray(self._array[index]))
        return take_rows(self.rows, index, self.shape[1:], self.block_rows())

    def block_rows(self) -> int:
        """Return the rows of about 8 MiB of float64."""
        return max(1, BYTES_PER_READ // (8 * max(1, self.shape[1])))


class RowRange:
    """Consecutive rows of an array in a file as separate samples, from `row_range`."""

    def __init__(self, array: Any, start: int, stop: int) -> None:
        self._array = array
        self._start = start
        self.shape = (stop - start, *array.shape[1:])
        self.dtype = array.dtype

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        """Return some of the rows."""
        start, stop, step = rows.indices(self.shape[0])
        found: NDArray[Any] = self._array[self._start + start : self._start + stop : step]
        return found


def row_range(array: Any, start: int, stop: int) -> Any:
    """Return the rows start..stop of an array; rows of a file stay there."""
    return RowRange(array, start, stop) if is_streamed(array) else array[start:stop]


class PickedRows:
    """Some rows of an array in a file as separate samples, from `picked_rows`."""

    def __init__(self, array: Any, index: NDArray[Any]) -> None:
        if isinstance(array, PickedRows):  # whose own index need not stay
            array, index = array._array, array._index[index]
        small = array.shape[0] < 2**30  # half of the memory, of a file of many rows
        self._array: Any = array
        self._index: NDArray[Any] = index.astype(np.int32, copy=False) if small else index
        self.shape = (index.size, *array.shape[1:])
        self.dtype = array.dtype

    def __getitem__(self, rows: slice) -> NDArray[Any]:
        """Return some of the rows, read in parts of bounded size."""
        wanted = self._index[rows]
        width = math.prod(self.shape[1:])
        most = max(1, BYTES_PER_READ // (8 * max(1, width)))
        return take_rows(lambda a, b: as_doubles(read_rows("the rows", self._array, a, b)),
                         wanted, self.shape[1:], most)  # fmt: skip


def picked_rows(array: Any, index: NDArray[np.intp]) -> Any:
    """Return the rows of an index; rows of a file stay there."""
    return PickedRows(array, index) if is_streamed(array) else array[index]


class StreamedTargets:
    """Targets that stay in their file; indexing returns them prepared for the loss, as float64.

    The last two parts stay in memory, because the loss needs the same part several times.
    """

    KEPT = 2  # the present part and the next part

    def __init__(self, array: Any, prepare: Callable[[Any, int], FloatArray]) -> None:
        self._array = array
        self._prepare = prepare
        self._lock = LocalLock()
        self._parts: dict[tuple[int, int], FloatArray] = {}
        self._n_rows = int(array.shape[0])
        width = self[:1].shape[1]
        self.shape: tuple[int, int] = (self._n_rows, width)

    def __len__(self) -> int:
        return self._n_rows

    def __getitem__(self, rows: slice | NDArray[np.intp]) -> FloatArray:
        """Return the targets of a range of samples, or of an index, shape (B, n_L)."""
        if not isinstance(rows, slice):
            return take_rows(self._read, rows, self.shape[1:], self.block_rows())
        start, stop, step = rows.indices(self._n_rows)
        if step != 1:
            raise ValueError("targets are read by ranges of consecutive samples")
        with self._lock:
            part = self._parts.get((start, stop))
            while part is None and len(self._parts) >= self.KEPT:  # room for the next part
                del self._parts[next(iter(self._parts))]
        if part is None:
            part = self._read(start, stop)
            with self._lock:
                self._parts[start, stop] = part
        return part

    def _read(self, start: int, stop: int) -> FloatArray:
        return self._prepare(read_rows("Y", self._array, start, stop), stop - start)

    def divided(self, unit: float) -> StreamedTargets:
        """Return the same targets over `unit`."""
        prepare = self._prepare
        return StreamedTargets(self._array, lambda raw, count: prepare(raw, count) / unit)

    def block_rows(self) -> int:
        """Return the rows of about 8 MiB of float64."""
        return max(1, BYTES_PER_READ // (8 * max(1, self.shape[1])))

    def check(self, also: Callable[[int, NDArray[Any]], None] | None = None) -> None:
        """Read all targets once with `also`, and raise an error for the first bad target."""
        for start, raw in read_ahead(
            lambda a, b: read_rows("Y", self._array, a, b), self._n_rows, self.block_rows()
        ):
            check_finite("Y", raw, start)
            try:
                self._prepare(raw, raw.shape[0])
            except ValueError as error:
                raise ValueError(_shifted(str(error), start)) from None
            if also is not None:
                also(start, raw)


def _shifted(message: str, offset: int) -> str:
    """Return the message about a part with the sample's number in the whole file."""
    return re.sub(r"\bY\[(\d+)", lambda found: f"Y[{int(found[1]) + offset}", message)


def is_streamed(array: Any) -> bool:
    """Return whether the rows of an object with shape and dtype are in a file."""
    if isinstance(array, np.ndarray):
        return isinstance(array, np.memmap)
    if not (hasattr(array, "shape") and hasattr(array, "dtype")):
        return False
    # Arrays of other libraries are in memory and are converted once.
    marks = ("__array_interface__", "__dlpack__", "to_numpy")
    return not any(hasattr(array, mark) for mark in marks)


def as_doubles(rows: NDArray[Any]) -> FloatArray:
    """Return rows as a C-ordered float64 array."""
    return np.ascontiguousarray(rows, dtype=np.float64)


def read_rows(name: str, array: Any, start: int, stop: int) -> NDArray[Any]:
    """Return rows of an array in its own dtype; rows of a file are copied."""
    rows = array[start:stop]
    if isinstance(rows, np.memmap):
        _check_map(name, rows)
        copy = lend(rows.shape, rows.dtype)
        copy[...] = rows
        _give_pages_back(rows)
        return copy
    found = np.asarray(rows)
    if found.shape != (stop - start, *array.shape[1:]):
        raise ValueError(
            f"{name}[{start}:{stop}] gave shape {found.shape} where {name} has shape "
            f"{tuple(array.shape)}"
        )
    return found


def _check_map(name: str, rows: np.memmap[Any, Any]) -> None:
    """Raise if the file is shorter than its map: a read beyond its end is a SIGBUS."""
    mapping = getattr(rows, "_mmap", None)
    if mapping is None or mapping.closed:
        return
    end = rows.offset - rows.offset % mmap.ALLOCATIONGRANULARITY + len(mapping)
    if (size := mapping.size()) < end:
        raise OSError(f"{name}: {rows.filename} was cut short while it was mapped, at byte {size}")


def _give_pages_back(rows: np.memmap[Any, Any]) -> None:
    """Release the pages of these rows from this process; the page cache keeps them.

    With a page that is read the system maps those around it (`FAULT_AROUND`), which go too.
    """
    # The changes of private maps (mode "c") exist in memory only: their pages stay.
    mapping = getattr(rows, "_mmap", None)
    backwards = any(stride < 0 for stride in rows.strides)
    if DONT_NEED is None or mapping is None or rows.mode == "c" or not rows.size:
        return
    if backwards or list(rows.strides) != sorted(rows.strides, reverse=True):
        return  # the rows are scattered over the file
    base = np.frombuffer(mapping, np.uint8).__array_interface__["data"][0]
    first = rows.__array_interface__["data"][0]
    extent = sum((n - 1) * stride for n, stride in zip(rows.shape, rows.strides, strict=True))
    last = first + extent + rows.itemsize
    first = max(base, first - first % FAULT_AROUND)
    last += -last % FAULT_AROUND  # madvise stops at the end of the map
    mapping.madvise(DONT_NEED, first - base, last - first)


def take_rows(
    read: Callable[[int, int], NDArray[Any]],
    index: NDArray[Any],
    row_shape: tuple[int, ...],
    most: int,
) -> FloatArray:
    """Return the rows of an index by slices only: neighbours together, each row once."""
    wanted, inverse = np.unique(index, return_inverse=True)
    out = np.empty((wanted.size, *row_shape))
    for first, last in _runs(wanted, most):
        start = int(wanted[first])
        part = read(start, int(wanted[last - 1]) + 1)
        out[first:last] = part[wanted[first:last] - start]
    return out[inverse]


def _runs(wanted: NDArray[Any], most: int) -> Iterator[tuple[int, int]]:
    """Yield ranges of at most `most` rows that hold neighbours of a sorted index."""
    far = np.flatnonzero(np.diff(wanted) > SHORT_GAP) + 1
    for first, last in zip([0, *far.tolist()], [*far.tolist(), wanted.size], strict=True):
        while first < last:
            end = int(np.searchsorted(wanted[first:last], wanted[first] + most)) + first
            yield first, end
            first = end


def in_parts(source: SampleSource) -> Iterator[tuple[int, FloatArray]]:
    """Yield (first row, rows) of a source in parts of bounded size, with files read ahead."""
    if source.streamed:
        yield from read_ahead(source.rows, source.shape[0], source.block_rows())
        return
    for start in range(0, source.shape[0], source.block_rows()):
        yield start, source.rows(start, min(source.shape[0], start + source.block_rows()))


def check_rows(
    name: str, source: SampleSource, also: Callable[[int, FloatArray], None] | None = None
) -> None:
    """Read a source once, with `also` for parts of a file, and raise for the first NaN or inf."""
    for start, rows in in_parts(source):
        check_finite(name, rows, start)
        if also is not None and source.streamed:
            also(start, rows)


def as_source(name: str, samples: Any, width: int | None = None, *, least: int = 1) -> ArraySource:
    """Return `samples` as a source of float64 rows, after checks of type and shape."""
    array = samples
    if not is_streamed(samples):
        array = np.asarray(samples)
    if np.dtype(array.dtype).kind not in "fiub":
        raise TypeError(f"{name} must hold real numbers, got dtype {array.dtype}")
    if len(array.shape) != 2:
        raise ValueError(f"{name} must be two-dimensional (T, n), got shape {tuple(array.shape)}")
    if array.shape[0] < least or array.shape[1] == 0:
        raise ValueError(f"{name} is empty: shape {tuple(array.shape)}")
    if width is not None and array.shape[1] != width:
        shape = tuple(array.shape)
        hint = samples_are_rows(name, shape, width)
        raise ValueError(f"{name} must have {width} columns, got shape {shape}{hint}")
    if isinstance(array, np.ndarray) and not isinstance(array, np.memmap):
        array = np.ascontiguousarray(array, dtype=np.float64)
    return ArraySource(name, array)
