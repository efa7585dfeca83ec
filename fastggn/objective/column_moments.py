"""The mean and the deviation of columns that are read in parts."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastggn.data.scaling import Moments

# Samples that count, evenly spread; all of them where there are no more than twice as many.
ENOUGH = 10_000


class ColumnMoments:
    """Takes every k-th of `n_rows` rows."""

    def __init__(self, n_rows: int) -> None:
        self._stride = max(1, n_rows // ENOUGH)
        self.moments: Moments | None = None

    def see(self, start: int, rows: NDArray[np.generic]) -> None:
        """Take some of the rows that begin with row `start`."""
        some = rows[-start % self._stride :: self._stride]
        if not some.shape[0]:
            return
        columns = np.asarray(some, dtype=np.float64).reshape(some.shape[0], -1)
        if self.moments is None:
            self.moments = Moments(columns.shape[1])
        self.moments.add(columns)
