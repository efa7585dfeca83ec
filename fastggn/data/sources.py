"""Samples by rows: anything with shape, dtype and row slices, read in blocks as float64."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["ArraySource", "SampleSource", "as_source"]

FloatArray = NDArray[np.float64]

_BYTES_PER_READ = 32 * 2**20


class SampleSource(Protocol):
    """Two-dimensional samples that can be read by ranges of rows."""

    shape: tuple[int, int]

    def rows(self, start: int, stop: int) -> FloatArray:
        """Return the rows start..stop as a C-ordered float64 array."""
        ...

    def take(self, index: NDArray[np.intp]) -> FloatArray:
        """Return the rows of an index, in its order, as a C-ordered float64 array."""
        ...

    def block_rows(self) -> int:
        """Return how many rows a pass should read at a time."""
        ...


class ArraySource:
    """A source over an array-like object, in memory, mapped or in a file."""

    def __init__(self, array: Any) -> None:
        self._array = array
        self.shape: tuple[int, int] = (int(array.shape[0]), int(array.shape[1]))

    def rows(self, start: int, stop: int) -> FloatArray:
        """Return the rows start..stop; a view where the array is C-ordered float64."""
        return np.ascontiguousarray(self._array[start:stop], dtype=np.float64)

    def take(self, index: NDArray[np.intp]) -> FloatArray:
        """Return the rows of `index`; files are read in increasing order, each row once."""
        if isinstance(self._array, np.ndarray):
            return np.ascontiguousarray(self._array[index], dtype=np.float64)
        unique, inverse = np.unique(index, return_inverse=True)
        return np.ascontiguousarray(self._array[unique], dtype=np.float64)[inverse]

    def block_rows(self) -> int:
        """Return the rows of about 32 MiB of float64."""
        return max(1, _BYTES_PER_READ // (8 * max(1, self.shape[1])))


def as_source(name: str, samples: Any, width: int | None = None, *, least: int = 1) -> ArraySource:
    """Return `samples` as a source of float64 rows, after checks of its type and shape.

    Parameters
    ----------
    name : str
        The argument's name, for messages.
    samples : array_like
        Shape (T, n): an array, a list, ``np.memmap``, or any object with shape, dtype and row
        slices. In-memory arrays of another dtype or order are converted once.
    width : int, optional
        The number of columns asked for.
    least : int
        The fewest rows accepted.

    Raises
    ------
    TypeError
        If the entries are not real numbers.
    ValueError
        If it is not two-dimensional, has too few rows or no column, or another number of columns.
    """
    array = samples
    if not (hasattr(samples, "shape") and hasattr(samples, "dtype")):
        array = np.asarray(samples)
    if np.dtype(array.dtype).kind not in "fiub":
        raise TypeError(f"{name} must hold real numbers, got dtype {array.dtype}")
    if len(array.shape) != 2:
        raise ValueError(f"{name} must be two-dimensional (T, n), got shape {tuple(array.shape)}")
    if array.shape[0] < least or array.shape[1] == 0:
        raise ValueError(f"{name} is empty: shape {tuple(array.shape)}")
    if width is not None and array.shape[1] != width:
        raise ValueError(f"{name} must have {width} columns, got shape {tuple(array.shape)}")
    if isinstance(array, np.ndarray) and not isinstance(array, np.memmap):
        array = np.ascontiguousarray(array, dtype=np.float64)
    return ArraySource(array)
