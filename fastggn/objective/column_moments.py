"""The mean and the deviation of columns that are read in parts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastggn.data.scaler import Moments
from fastggn.data.sources import SampleSource, StreamedTargets

# The least number of evenly spread samples; up to twice this number all samples count.
ENOUGH = 10_000


class ColumnMoments:
    """The moments of every k-th of `n_rows` rows."""

    def __init__(self, n_rows: int) -> None:
        self._stride = max(1, n_rows // ENOUGH)
        self.moments: Moments | None = None

    def see(self, start: int, rows: NDArray[np.generic]) -> None:
        """Add every k-th of some rows that begin with row `start`."""
        some = rows[-start % self._stride :: self._stride]
        if not some.shape[0]:
            return
        columns = np.asarray(some, dtype=np.float64).reshape(some.shape[0], -1)
        if self.moments is None:
            self.moments = Moments(columns.shape[1])
        self.moments.add(columns)


class SampleColumns:
    """The columns of the inputs and targets of this process."""

    def __init__(
        self, source: SampleSource, targets: NDArray[np.float64] | StreamedTargets
    ) -> None:
        self.n_rows = source.shape[0]
        self.streamed = source.streamed
        self._source, self._targets = source, targets
        self._inputs: Moments | None = None
        self._outputs: Moments | None = None

    def take(self, inputs: ColumnMoments, targets: ColumnMoments) -> None:
        """Set the moments from a first pass over samples in files."""
        self._inputs, self._outputs = inputs.moments, targets.moments

    def moments(self) -> tuple[Moments | None, Moments | None]:
        """Return the moments of inputs and targets, or None for files before the first pass."""
        if self._inputs is None and not self.streamed:
            self._inputs = _of(self._source.rows(0, self.n_rows))
        if self._outputs is None and isinstance(self._targets, np.ndarray):
            self._outputs = _of(self._targets)
        return self._inputs, self._outputs


def _of(rows: NDArray[np.float64]) -> Moments | None:
    columns = ColumnMoments(rows.shape[0])
    columns.see(0, rows)
    return columns.moments
