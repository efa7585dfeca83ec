"""Views of rows in a file, computed at each read: scaled columns, selected columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastggn.data.npy import NpyFile
from fastggn.data.scaler import Scaler
from fastggn.data.sources import as_source, is_streamed, read_rows
from fastggn.runtime.buffers import lend
from fastggn.runtime.errors import as_float_vector
from fastggn.runtime.forks import LocalLock

FloatArray = NDArray[np.float64]

MOST_BYTES = 32 * 2**20  # the largest range of a table that is read
STEP_BYTES = 2**19  # the step of a table that is split while it is read, within a core's cache


class Standardised:
    """Samples that every read scales to ``(column - mean) / scale``.

    Parameters
    ----------
    samples : array_like
        Shape (T, n): an array, ``np.memmap``, `open_npy`, an h5py or Zarr data set, or any object
        with shape, dtype and row slices. Without `mean` and `scale` all rows are read once, in
        parts.
    mean, scale : array_like, shape (n,), optional
        The mean and scale of other samples, to scale new samples in the same way; both or none.

    Attributes
    ----------
    shape : tuple of int
    dtype : dtype
        float64.
    mean, scale : ndarray, shape (n,)
        The mean and the standard deviation of each column; a constant column has a power of two
        as its scale.

    Raises
    ------
    TypeError
        If the samples are not real numbers.
    ValueError
        If the samples are not two-dimensional, are empty, or hold NaN or infinity (the message
        names the first one); if the values overflow; if only one of mean and scale is given, or a
        scale is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> import fastggn as fg
    >>> X = fg.data.Standardised(np.array([[1.0, 5.0], [3.0, 5.0]]))
    >>> X[0:2]
    array([[-1.,  0.],
           [ 1.,  0.]])
    """

    dtype = np.dtype(np.float64)

    def __init__(
        self, samples: Any, mean: ArrayLike | None = None, scale: ArrayLike | None = None
    ) -> None:
        self._source = as_source("samples", samples)
        self.shape = self._source.shape
        if (mean is None) != (scale is None):
            raise ValueError("mean and scale go together: give both or none")
        if mean is None:
            found = Scaler.of(samples)
            self.mean, self.scale = found.mean, found.scale
            return
        self.mean = as_float_vector("mean", mean, self.shape[1])
        self.scale = as_float_vector("scale", scale, self.shape[1])
        if (self.scale <= 0.0).any():
            raise ValueError(f"scale must be positive, got {self.scale.min()}")

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> FloatArray:
        """Return a range of scaled rows."""
        if not isinstance(rows, slice):
            raise TypeError(f"Standardised takes slices of rows, not {rows!r}")
        start, stop, step = rows.indices(self.shape[0])
        if step < 1:
            raise ValueError(f"the step of a slice must be positive, got {step}")
        found = self._source.rows(start, max(start, stop))
        part: FloatArray = lend(found.shape, np.float64)
        few = max(1, STEP_BYTES // (8 * self.shape[1]))  # steps that fit the cache
        for first in range(0, found.shape[0], few):
            here = slice(first, first + few)
            np.subtract(found[here], self.mean, out=part[here])
            part[here] /= self.scale
        return part[::step]

    def undo(self, rows: ArrayLike) -> FloatArray:
        """Return scaled rows in the original units."""
        return np.asarray(np.asarray(rows) * self.scale + self.mean)


def scaled(samples: Any, scaler: Scaler) -> Any:
    """Return samples in scaled units: an array, or rows of a file that every read scales."""
    if not is_streamed(samples):
        return scaler.apply(samples)
    return Standardised(samples, scaler.mean, scaler.scale)


class Columns:
    """Some columns of a table as separate samples, from `split_columns`."""

    def __init__(self, table: _Table, number: int) -> None:
        self._table = table
        self._number = number
        self.shape = (table.n_rows, table.widths[number])
        self.dtype = np.dtype(np.float64)

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice) -> FloatArray:
        """Return a range of rows."""
        start, stop, step = rows.indices(self.shape[0])
        if step < 1:
            raise ValueError(f"the step of a slice must be positive, got {step}")
        stop = max(start, stop)
        most = self._table.most_rows
        if stop - start <= most:
            return self._table.rows(start, stop, self._number)[::step]
        # A few columns may fit into memory even if the table does not.
        out = np.empty((stop - start, self.shape[1]))
        for first in range(start, stop, most):
            last = min(stop, first + most)
            out[first - start : last - start] = self._table.rows(first, last, self._number)
        return out[::step]


class _Table:
    """A table that is read once for inputs and targets.

    NumPy arrays and ``.npy`` files are read in small steps, so that the columns are split in the
    processor's cache and no complete range of the table is in memory.
    """

    def __init__(self, table: Any, parts: Sequence[Sequence[int]]) -> None:
        self._table = table
        self._parts = [_selection(columns) for columns in parts]
        self.widths = [len(columns) for columns in parts]
        self.n_rows = int(table.shape[0])
        row_bytes = 8 * int(table.shape[1])
        self.most_rows = max(1, MOST_BYTES // row_bytes)
        # Other objects may decompress a complete chunk for each step.
        stepwise = isinstance(table, (NpyFile, np.ndarray))
        self._step = max(1, STEP_BYTES // row_bytes) if stepwise else self.most_rows
        self._lock = LocalLock()
        self._waiting: tuple[int, int, dict[int, FloatArray]] | None = None

    def rows(self, start: int, stop: int, number: int) -> FloatArray:
        """Return the columns of one part, and keep the other columns for their request."""
        with self._lock:
            waiting = self._waiting
            if waiting is None or waiting[:2] != (start, stop) or number not in waiting[2]:
                self._waiting = None  # free the range before the next read
                waiting = self._waiting = (start, stop, self._read(start, stop))
            return waiting[2].pop(number)

    def _read(self, start: int, stop: int) -> dict[int, FloatArray]:
        outs = {
            number: lend((stop - start, width), np.float64)
            for number, width in enumerate(self.widths)
        }
        for first in range(start, stop, self._step):
            last = min(stop, first + self._step)
            rows = read_rows("the table", self._table, first, last)
            for number, out in outs.items():
                out[first - start : last - start] = rows[:, self._parts[number]]
        return outs


def _selection(columns: Sequence[int]) -> slice | NDArray[np.intp]:
    """Return an index of columns: a slice (faster to copy) if they are neighbours."""
    index = np.asarray(columns, dtype=np.intp)
    if (np.diff(index) == 1).all():
        return slice(int(index[0]), int(index[-1]) + 1)
    return index


def split_columns(
    table: Any, targets: Sequence[int] = (-1,), inputs: Sequence[int] | None = None
) -> tuple[Columns, Columns]:
    """Return inputs and targets from the columns of one table in a file.

    Parameters
    ----------
    table : object
        Shape (T, n), with shape, dtype and row slices.
    targets : sequence of int
        The target columns.
    inputs : sequence of int, optional
        The input columns; by default all others, in order.

    Returns
    -------
    X, Y : Columns
        The arguments of `Problem`. One read of a range serves both.

    Raises
    ------
    ValueError
        If the table is not two-dimensional, a column does not exist or is named twice, or no
        input is left.
    """
    if len(table.shape) != 2:
        raise ValueError(f"the table must have shape (T, n), got {tuple(table.shape)}")
    n = int(table.shape[1])
    for column in (*targets, *(inputs or ())):
        if not -n <= column < n:
            kind = "target" if column in targets else "input"
            raise ValueError(f"there is no {kind} column {column} among {n} columns")
    chosen = [column % n for column in targets]
    rest = [j for j in range(n) if j not in chosen]
    if inputs is not None:
        rest = [column % n for column in inputs if column % n not in chosen]
    if len(set(chosen)) < len(chosen) or not chosen:
        raise ValueError(f"targets must name columns, each once, got {list(targets)}")
    if not rest:
        raise ValueError("every column is a target; none is left for the inputs")
    rows = _Table(table, (rest, chosen))
    return Columns(rows, 0), Columns(rows, 1)
