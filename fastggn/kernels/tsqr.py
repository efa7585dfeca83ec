"""Streaming QR of a tall matrix that comes in blocks of rows.

The rank of a Jacobian is read off its own singular values, never off its Gram matrix, whose
condition number is squared.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import lapack

from fastggn.kernels.reflectors import reflect_both
from fastggn.runtime.threads import one_pool, workers_for

FloatArray = NDArray[np.float64]

# Columns a panel of the compact WY form: the fastest of 16, 32 and 64 for N from 500 to 1500.
PANEL = 32
# The tree: a triangle takes in so many blocks of rows, or triangles of the level below, one after
# the other. Its rounding errors then stay below 2 eps s_max at 400,000 rows, where one chain of
# all blocks came to 10.
CHAIN = 8
LEAST_BLOCK = 256  # rows
SMALL = 256  # columns that LAPACK alone factors; more are shared among the workers


class _Triangle:
    """A factor R, Q^T times the right-hand sides, and the number of blocks taken in."""

    def __init__(self, n_columns: int, n_rhs: int) -> None:
        # Fortran order: LAPACK then works in place. The part below the diagonal stays zero.
        order: Literal["F", "C"] = "F" if n_columns < SMALL else "C"
        self.r = np.zeros((n_columns, n_columns), order=order)
        self.c = np.zeros((n_columns, n_rhs), order=order)
        self.taken = 0

    def take(self, rows: FloatArray, rhs: FloatArray, triangle: bool = False) -> FloatArray:
        """Fold rows and right-hand sides, and return the norms that these leave, (n_rhs,).

        Of a `triangle` what is below its diagonal is known to be zero.
        """
        self.taken += 1
        if self.r.shape[0] >= SMALL:
            return self._take_many(rows, rhs, triangle)
        # The copy is needed: LAPACK stores the reflectors over the rows.
        below = np.array(rows, dtype=np.float64, order="F")
        panel = min(PANEL, self.r.shape[0])
        self.r, v, t, info = lapack.dtpqrt(0, panel, self.r, below, overwrite_a=1, overwrite_b=1)
        _check("dtpqrt", info)
        if not rhs.size:
            return np.zeros(rhs.shape[1])
        self.c, left, info = lapack.dtpmqrt(
            0, v, t, self.c, np.array(rhs, order="F"), side="L", trans="T",
            overwrite_a=1, overwrite_b=1,
        )  # fmt: skip
        _check("dtpmqrt", info)
        return _norms(left)

    def _take_many(self, rows: FloatArray, rhs: FloatArray, triangle: bool) -> FloatArray:
        """Fold panel by panel: LAPACK factors a panel, the workers turn the other columns."""
        n, below = self.r.shape[0], np.array(rows, dtype=np.float64, order="C")
        left = np.array(rhs, dtype=np.float64, order="C")
        with one_pool(), workers_for(2.0 * below.size * n):
            for j in range(0, n, PANEL):
                part = slice(j, min(n, j + PANEL))
                height = part.stop if triangle else below.shape[0]
                top = np.array(self.r[part, part], order="F")
                panel = np.array(below[:height, part], order="F")
                top, v, t, info = lapack.dtpqrt(
                    0, part.stop - j, top, panel, overwrite_a=1, overwrite_b=1
                )
                _check("dtpqrt", info)
                self.r[part, part] = np.triu(top)
                v, t = np.ascontiguousarray(v), np.ascontiguousarray(np.triu(t))
                reflect_both(v, t, self.r[part, part.stop :], below[:height, part.stop :])
                if rhs.shape[1]:
                    reflect_both(v, t, self.c[part], left[:height])
        return _norms(left)


class StreamingQR:
    """The factor R of all rows folded so far, and Q^T applied to their right-hand sides.

    Rows are folded in a balanced tree whose shape follows from their number and N alone, whatever
    blocks they come in. Memory is a block of rows and one N x N array a level.
    """

    def __init__(self, n_columns: int, n_rhs: int = 0) -> None:
        if n_columns < 1:
            raise ValueError(f"n_columns must be at least 1, got {n_columns}")
        self.n_columns = n_columns
        self.n_rows = 0
        self._rest = np.zeros(n_rhs)
        self._n_rhs = n_rhs
        self._block = max(LEAST_BLOCK, n_columns // 4)
        self._waiting: list[tuple[FloatArray, FloatArray]] = []
        self._n_waiting = 0
        self._levels: list[_Triangle | None] = []

    def fold(self, block: FloatArray, rhs: FloatArray | None = None) -> None:
        """Take in the rows `block` (r, N), with `rhs` (r,) or (r, n_rhs)."""
        rows = block.shape[0]
        if block.ndim != 2 or block.shape[1] != self.n_columns:
            raise ValueError(f"block must have shape (r, {self.n_columns}), got {block.shape}")
        if (rhs is None) != (self._n_rhs == 0):
            raise ValueError(f"expected {self._n_rhs} right-hand sides with every block")
        right = np.zeros((rows, 0)) if rhs is None else np.reshape(rhs, (rows, self._n_rhs))
        self.n_rows += rows
        first = 0
        while first < rows:
            last = min(rows, first + self._block - self._n_waiting)
            self._wait(block[first:last], right[first:last])
            first = last

    def _wait(self, rows: FloatArray, rhs: FloatArray) -> None:
        """Keep rows until a block is full, then fold it."""
        full = self._n_waiting + rows.shape[0] == self._block
        # The caller may use the array again.
        self._waiting.append((rows, rhs) if full else (rows.copy(), rhs.copy()))
        self._n_waiting += rows.shape[0]
        if full:
            self._fold_waiting()

    def _fold_waiting(self) -> None:
        waiting, self._waiting, self._n_waiting = self._waiting, [], 0
        rows, rhs = waiting[0] if len(waiting) == 1 else _joined(waiting)
        if not self._levels:
            self._levels.append(None)
        triangle = self._levels[0] or _Triangle(self.n_columns, self._n_rhs)
        self._levels[0] = triangle
        self._leave(triangle.take(rows, rhs))
        self._carry(0)

    def _carry(self, level: int) -> None:
        """Hand a triangle that is full to the level above."""
        full = self._levels[level]
        if full is None or full.taken < CHAIN:
            return
        self._levels[level] = None
        if level + 1 == len(self._levels):
            self._levels.append(None)
        above = self._levels[level + 1]
        if above is None:
            full.taken = 1
            self._levels[level + 1] = full
            return
        self._leave(above.take(full.r, full.c, triangle=True))
        self._carry(level + 1)

    def _leave(self, norms: FloatArray) -> None:
        """Add what a fold leaves; squares could leave the range of float64."""
        self._rest = np.hypot(self._rest, norms)

    def _whole(self) -> _Triangle:
        """Return one triangle of all rows: the levels are folded into the highest one."""
        if self._waiting:
            self._fold_waiting()
        found = [triangle for triangle in self._levels if triangle is not None]
        if not found:
            found = [_Triangle(self.n_columns, self._n_rhs)]
        whole = found[0]
        for above in found[1:]:
            self._leave(above.take(whole.r, whole.c, triangle=True))
            whole = above
        self._levels = [*[None] * max(0, len(self._levels) - 1), whole]
        return whole

    def merged(self, mine: FloatArray, other: FloatArray) -> FloatArray:
        """Return what was packed of the rows of both, `mine` above `other`."""
        upper, lower = (StreamingQR(self.n_columns, self._n_rhs) for _ in range(2))
        upper.load(mine)
        lower.load(other)
        upper._leave(upper._whole().take(lower.r, lower.c, triangle=True))
        upper._leave(lower._rest)
        upper.n_rows += lower.n_rows
        return upper.packed()

    def packed(self) -> FloatArray:
        """Return the triangle of R, row by row, and all else as one vector."""
        triangle = [self.r[i, i:] for i in range(self.n_columns)]
        return np.concatenate([*triangle, self.c.ravel(), self.rest, [float(self.n_rows)]])

    def load(self, packed: FloatArray) -> None:
        """Take the place of what was packed."""
        whole, done = _Triangle(self.n_columns, self._n_rhs), 0
        for i in range(self.n_columns):
            whole.r[i, i:] = packed[done : done + self.n_columns - i]
            done += self.n_columns - i
        whole.c[...] = packed[done : done + whole.c.size].reshape(whole.c.shape)
        done += whole.c.size
        self._rest[...] = packed[done : done + self._rest.size]
        self.n_rows = int(packed[-1])
        self._waiting, self._n_waiting, self._levels = [], 0, [whole]

    @property
    def r(self) -> FloatArray:
        """The upper-triangular factor, shape (N, N): a view.

        All its rows count, also while fewer rows than N have come: where leading columns are
        dependent, as in a Jacobian, the content of those columns' rows moves further down.
        """
        return self._whole().r

    @property
    def c(self) -> FloatArray:
        """Q^T times the right-hand sides, shape (N, n_rhs): a view."""
        return self._whole().c

    @property
    def rest(self) -> FloatArray:
        """The norms of the right-hand sides below `c`, shape (n_rhs,)."""
        self._whole()
        return self._rest


def _joined(parts: list[tuple[FloatArray, FloatArray]]) -> tuple[FloatArray, FloatArray]:
    return np.concatenate([rows for rows, _ in parts]), np.concatenate([rhs for _, rhs in parts])


def _norms(columns: FloatArray) -> FloatArray:
    """Return the norms of columns, (n,), without overflow."""
    largest = np.abs(columns).max(axis=0, initial=0.0)
    usable = (largest > 0.0) & np.isfinite(largest)
    scaled = columns / np.where(usable, largest, 1.0)
    return np.asarray(largest * np.sqrt(np.einsum("ij,ij->j", scaled, scaled)))


def _check(routine: str, info: int) -> None:
    if info != 0:
        raise ValueError(f"LAPACK's {routine} refused its argument {-info}")
