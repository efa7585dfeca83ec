"""Streaming QR of a tall matrix that comes in blocks of rows.

The rank of a Jacobian is read off its own singular values, never off its Gram matrix, whose
condition number is squared.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numba import prange
from numpy.typing import NDArray
from scipy.linalg import lapack

from fastggn.kernels.blas import tpmqrt, tpqrt
from fastggn.kernels.jit import pnjit
from fastggn.kernels.reflectors import reflect_both
from fastggn.runtime.threads import one_pool, workers, workers_for

FloatArray = NDArray[np.float64]

# Columns a panel of the compact WY form: the fastest of 16, 32 and 64 for N from 500 to 1500.
PANEL = 32
# The tree: a triangle takes in so many blocks of rows, or triangles of the level below, one after
# the other. Its rounding errors then stay below 2 eps s_max at 400,000 rows, where one chain of
# all blocks came to 10.
CHAIN = 8
LEAST_BLOCK = 256  # rows
SMALL = 256  # columns: of fewer, workers fold a chain each; of more, they share each block


@pnjit
def fold_chains(rows, rhs, block, panel, r, c, info):
    """Fold CHAIN blocks of `rows` (m, N) into each triangle; `rhs` (m, n_rhs) is turned along.

    R^T is `r` (K, N, N) and C^T `c` (K, n_rhs, N). What LAPACK says of each chain is `info` (K,).
    """
    n, n_rhs = rows.shape[1], rhs.shape[1]
    for k in prange(r.shape[0]):
        t, work = np.zeros((n, panel)), np.empty((panel, max(n, n_rhs)))
        for first in range(k * CHAIN * block, min((k + 1) * CHAIN * block, rows.shape[0]), block):
            last = min(first + block, rows.shape[0])
            below = rows[first:last].T.copy()
            info[k] += abs(tpqrt(r[k], below, t, work))
            if n_rhs > 0:
                right = rhs[first:last].T.copy()
                info[k] += abs(tpmqrt(below, t, c[k], right, work))
                rhs[first:last] = right.T


class _Triangle:
    """A factor R, Q^T times the right-hand sides, and the number of blocks taken in."""

    def __init__(self, r: FloatArray, c: FloatArray, taken: int) -> None:
        self.r, self.c, self.taken = r, c, taken

    @classmethod
    def empty(cls, n_columns: int, n_rhs: int) -> _Triangle:
        # Fortran order: LAPACK then works in place. The part below the diagonal stays zero.
        order: Literal["F", "C"] = "F" if n_columns < SMALL else "C"
        r = np.zeros((n_columns, n_columns), order=order)
        return cls(r, np.zeros((n_columns, n_rhs), order=order), 0)

    def take(self, rows: FloatArray, rhs: FloatArray, triangle: bool = False) -> FloatArray:
        """Fold rows and right-hand sides, and return the norms that these leave, (n_rhs,).

        Of a `triangle` what is below its diagonal is known to be zero. Both arrays are used up.
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
        n, below, left = self.r.shape[0], np.ascontiguousarray(rows), np.ascontiguousarray(rhs)
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
    blocks they come in. Memory is one N x N array a level and a block of rows; below 256 columns,
    eight blocks and one N x N array for each worker, which folds a chain.
    """

    def __init__(self, n_columns: int, n_rhs: int = 0) -> None:
        if n_columns < 1:
            raise ValueError(f"n_columns must be at least 1, got {n_columns}")
        self.n_columns = n_columns
        self.n_rows = 0
        self._rest = np.zeros(n_rhs)
        self._n_rhs = n_rhs
        self._block = max(LEAST_BLOCK, n_columns // 4)
        self._rows = np.empty((0, n_columns))  # those that wait
        self._rhs = np.empty((0, n_rhs))
        self._n_waiting = 0
        self._levels: list[_Triangle | None] = [None]

    def fold(self, block: FloatArray, rhs: FloatArray | None = None) -> None:
        """Take in the rows `block` (r, N), with `rhs` (r,) or (r, n_rhs)."""
        rows = block.shape[0]
        if block.ndim != 2 or block.shape[1] != self.n_columns:
            raise ValueError(f"block must have shape (r, {self.n_columns}), got {block.shape}")
        if (rhs is None) != (self._n_rhs == 0):
            raise ValueError(f"expected {self._n_rhs} right-hand sides with every block")
        right = np.zeros((rows, 0)) if rhs is None else np.reshape(rhs, (rows, self._n_rhs))
        self.n_rows += rows
        if not self._rows.size:  # pages that no row reaches stay untouched
            blocks = 1 if self.n_columns >= SMALL else CHAIN * workers()
            self._rows = np.empty((blocks * self._block, self.n_columns))
            self._rhs = np.empty((blocks * self._block, self._n_rhs))
        first = 0
        while first < rows:
            last = min(rows, first + self._rows.shape[0] - self._n_waiting)
            place = slice(self._n_waiting, self._n_waiting + last - first)
            self._rows[place], self._rhs[place] = block[first:last], right[first:last]
            self._n_waiting, first = place.stop, last
            if self._n_waiting == self._rows.shape[0]:
                self._fold_waiting()

    def _fold_waiting(self) -> None:
        rows, rhs = self._rows[: self._n_waiting], self._rhs[: self._n_waiting]
        self._n_waiting = 0
        if self.n_columns >= SMALL:
            triangle = self._levels[0] or _Triangle.empty(self.n_columns, self._n_rhs)
            self._levels[0] = triangle
            self._leave(triangle.take(rows, rhs))
            self._carry(0)
            return
        n, length = self.n_columns, CHAIN * self._block
        count = -(-rows.shape[0] // length)
        r, c = np.zeros((count, n, n)), np.zeros((count, self._n_rhs, n))
        info = np.zeros(count, np.int64)
        with one_pool(), workers_for(2.0 * rows.size * n):
            fold_chains(rows, rhs, self._block, min(PANEL, n), r, c, info)
        for k in range(count):
            _check("dtpqrt or dtpmqrt", int(info[k]))
            self._leave(_norms(rhs[k * length : (k + 1) * length]))
            self._add(_Triangle(r[k].T, c[k].T, CHAIN))

    def _add(self, chain: _Triangle) -> None:
        """Take in the triangle of a chain; after a read the lowest level may hold one."""
        lowest = self._levels[0]
        if lowest is not None:
            self._leave(lowest.take(chain.r, chain.c, triangle=True))
            return
        self._levels[0] = chain
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
        if self._n_waiting:
            self._fold_waiting()
        self._rows = self._rows[:0].copy()  # its memory is for what reads the factor
        found = [triangle for triangle in self._levels if triangle is not None]
        if not found:
            found = [_Triangle.empty(self.n_columns, self._n_rhs)]
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
        whole, done = _Triangle.empty(self.n_columns, self._n_rhs), 0
        for i in range(self.n_columns):
            whole.r[i, i:] = packed[done : done + self.n_columns - i]
            done += self.n_columns - i
        whole.c[...] = packed[done : done + whole.c.size].reshape(whole.c.shape)
        done += whole.c.size
        self._rest[...] = packed[done : done + self._rest.size]
        self.n_rows = int(packed[-1])
        self._n_waiting, self._levels = 0, [whole]

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


def _norms(columns: FloatArray) -> FloatArray:
    """Return the norms of columns, (n,), without overflow."""
    largest = np.abs(columns).max(axis=0, initial=0.0)
    usable = (largest > 0.0) & np.isfinite(largest)
    scaled = columns / np.where(usable, largest, 1.0)
    return np.asarray(largest * np.sqrt(np.einsum("ij,ij->j", scaled, scaled)))


def _check(routine: str, info: int) -> None:
    if info != 0:
        raise ValueError(f"LAPACK's {routine} refused its argument {-info}")
