"""LQ factorisation of a matrix with fewer rows than columns, Q as block reflectors in its place."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastggn.kernels.reflectors import reflect_columns, reflect_rows, reflectors_of
from fastggn.runtime.comm import Comm
from fastggn.runtime.threads import one_pool, workers_for

FloatArray = NDArray[np.float64]

PANEL = 32  # rows


class ReflectedRows:
    """``A = L Q^T`` for A (M, N), C-ordered, M <= N; its array then holds the reflectors of Q.

    Attributes
    ----------
    lower : ndarray, shape (M, M)
        L.
    """

    def __init__(self, rows: FloatArray) -> None:
        self._rows = rows
        self._t: list[FloatArray] = []
        m, n = rows.shape
        self.lower = np.zeros((m, m))
        with one_pool(), workers_for(2.0 * m * m * n):
            for j in range(0, m, PANEL):
                part = slice(j, min(m, j + PANEL))
                v, t, r = reflectors_of(rows[part, j:].T)
                self._t.append(t)
                self.lower[part, part] = r.T
                rows[part, j:] = v.T
                below = rows[part.stop :]
                reflect_rows(below[:, j:], v, t)
                self.lower[part.stop :, part] = below[:, part]

    @property
    def shape(self) -> tuple[int, int]:
        """M and N."""
        return self._rows.shape[0], self._rows.shape[1]

    def turn(self, c: FloatArray, back: bool = False) -> FloatArray:
        """Replace c (N, k), C-ordered, by Q c, or by Q^T c if `back`, and return it."""
        starts = range(0, len(self._rows), PANEL)
        panels = list(zip(starts, self._t, strict=True))
        with one_pool(), workers_for(4.0 * self._rows.size * c.shape[1]):
            for j, t in panels if back else reversed(panels):
                v = np.ascontiguousarray(self._rows[j : j + PANEL, j:].T)
                reflect_columns(v, t if back else np.ascontiguousarray(t.T), c[j:])
        return c

    def formed(self) -> FloatArray:
        """Return the first M rows of Q^T in the place of the reflectors, which are gone then."""
        rows, (m, n) = self._rows, self.shape
        with one_pool(), workers_for(2.0 * m * m * n):
            for j, t in reversed(list(zip(range(0, m, PANEL), self._t, strict=True))):
                panel, below = rows[j : j + PANEL, j:], rows[j + PANEL :, j:]
                v, back = np.array(panel.T, order="C"), np.ascontiguousarray(t.T)
                below[:, :PANEL] = 0.0
                reflect_rows(below, v, back)
                panel[...] = np.eye(*panel.shape)
                reflect_rows(panel, v, back)
                rows[j : j + PANEL, :j] = 0.0
        return rows

    def broadcast(self, comm: Comm) -> None:
        """Take rank 0's factors; collective."""
        self._rows = comm.broadcast(self._rows)
        self._t = [comm.broadcast(t) for t in self._t]
        self.lower = comm.broadcast(self.lower)
