"""Singular values of a matrix whose rows come in blocks, on its smaller side."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from fastggn.kernels.spectrum import singular_values, values_and_turned
from fastggn.kernels.tsqr import StreamingQR
from fastggn.runtime.comm import Comm

FloatArray = NDArray[np.float64]


class RowSpectrum:
    """Singular values of a matrix whose rows come in blocks, and the residual of one vector.

    Up to N rows are kept; more go through a streaming QR, in O(N^2) memory and one block.
    """

    def __init__(self, n_columns: int, *, with_rhs: bool = False) -> None:
        self.n_columns = n_columns
        self.n_rows = 0
        self._held: list[tuple[FloatArray, FloatArray]] = []
        self._qr: StreamingQR | None = None
        self._n_rhs = 1 if with_rhs else 0

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows so far, and of columns."""
        return self.n_rows, self.n_columns

    def fold(self, rows: FloatArray, rhs: FloatArray | None = None) -> None:
        """Add rows (r, N), which must not change, with their part (r,) of the vector."""
        if rows.shape[0] == 0:
            return
        self.n_rows += rows.shape[0]
        self._held.append((rows, np.zeros(0) if rhs is None else rhs))
        if self._qr is not None or self.n_rows > self.n_columns:
            self._factor()

    def unite(self, comm: Comm) -> None:
        """Add the rows of the other ranks; collective."""
        if comm.size == 1:
            return
        self.n_rows = int(comm.total(self.n_rows))
        if self.n_rows == 0:
            return
        if self.n_rows <= self.n_columns:
            rows, rhs = self.matrix(), self._vector()
            self._held = [(comm.concatenate(rows), comm.concatenate(rhs) if self._n_rhs else rhs)]
            return
        self._factor()
        comm.unite(self._qr)

    def _factor(self) -> None:
        """Move the rows that were kept into the factor."""
        if self._qr is None:
            self._qr = StreamingQR(self.n_columns, self._n_rhs)
        held, self._held = self._held, []
        for rows, rhs in held:
            self._qr.fold(rows, rhs if self._n_rhs else None)

    def rows(self) -> Iterator[FloatArray]:
        """Yield a matrix with the same Gram matrix: the rows themselves, or R."""
        if self._qr is not None:
            yield self._qr.r
        else:
            yield from (rows for rows, _ in self._held)

    def matrix(self) -> FloatArray:
        """Return the rows of `rows` as one array (k, N)."""
        if self._qr is not None:
            return self._qr.r
        if len(self._held) != 1:
            parts = [rows for rows, _ in self._held]
            whole = np.concatenate(parts) if parts else np.zeros((0, self.n_columns))
            self._held = [(whole, self._vector())]
        return self._held[0][0]

    def _vector(self) -> FloatArray:
        return np.concatenate([np.zeros(0), *(rhs for _, rhs in self._held)])

    def values(self) -> FloatArray:
        """Return the min(rows, N) singular values, in descending order."""
        if self.n_rows == 0:
            return np.zeros(0)
        return singular_values(self.matrix())[: min(self.shape)]

    def values_and_turned(self) -> tuple[FloatArray, FloatArray, float]:
        """Return the values, U^T times the vector, and the norm of what is outside of U."""
        if self._qr is not None:
            s, turned = values_and_turned(self._qr.r, self._qr.c[:, 0])
            return s[: min(self.shape)], turned, float(self._qr.rest[0])
        s, turned = values_and_turned(self.matrix(), self._vector())
        return s, turned, 0.0
