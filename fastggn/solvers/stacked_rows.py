"""Systems made of another one: with rows of a penalty below its own, or with scaled columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from fastggn.runtime.cached import cached_property
from fastggn.solvers.base import FloatArray, LinearSystem


class PenaltyRows(Protocol):
    """The rows C of a penalty, the same on every rank."""

    @property
    def n_rows(self) -> int: ...  # noqa: D102

    def coordinates(self, v: FloatArray) -> FloatArray:
        """Return C v, shape (n_rows,)."""

    def combine(self, u: FloatArray) -> FloatArray:
        """Return C^T u, shape (N,)."""

    def blocks(self) -> Iterator[FloatArray]:
        """Yield C in blocks of rows, shape (r, N)."""


class DiagonalRows:
    """The rows of ``diag(root)`` that are not zero."""

    def __init__(self, root: FloatArray) -> None:
        self._index = np.flatnonzero(root)
        self._root = root[self._index]
        self._n_params = root.size

    @property
    def n_rows(self) -> int:
        """The entries of root that are not zero."""
        return int(self._index.size)

    def coordinates(self, v: FloatArray) -> FloatArray:
        """Return the scaled entries of v."""
        return np.asarray(self._root * v[self._index])

    def combine(self, u: FloatArray) -> FloatArray:
        """Return the scaled entries of u at their places among zeros."""
        out = np.zeros(self._n_params)
        out[self._index] = self._root * u
        return out

    def blocks(self) -> Iterator[FloatArray]:
        """Yield the rows in blocks of 8 MiB."""
        step = max(1, 2**20 // self._n_params)
        for first in range(0, self.n_rows, step):
            index = self._index[first : first + step]
            rows = np.zeros((index.size, self._n_params))
            rows[np.arange(index.size), index] = self._root[first : first + step]
            yield rows


class _Derived:
    """The parts that a system takes over from the one that it is made of."""

    def __init__(self, lin: LinearSystem, below: int = 0) -> None:
        self._lin = lin
        self.comm = lin.comm
        self.theta = lin.theta
        self.decay = lin.decay
        self.n_params = lin.n_params
        self.n_rows = lin.n_rows + below
        self.own_rows = lin.own_rows + below
        self.shared_rows = lin.shared_rows + below

    def column_errors(self) -> FloatArray:
        """Return the errors of the original rows: those of a penalty are exact."""
        return self._lin.column_errors()

    def kronecker_factors(self) -> Sequence[tuple[FloatArray, FloatArray]]:
        """Return the factors of the original rows."""
        return self._lin.kronecker_factors()

    def dual_gram(self) -> FloatArray:
        """Refuse: solver dual takes the original system."""
        raise NotImplementedError("a system with changed rows has no dual form of its own")

    def bias_columns(self) -> FloatArray:
        """Refuse: only the dual asks for them."""
        raise NotImplementedError("a system with changed rows has no dual form of its own")

    def gathered(self) -> LinearSystem:
        """Refuse: only the dual asks for it."""
        raise NotImplementedError("a system with changed rows has no dual form of its own")


class StackedRows(_Derived):
    """``[A; factor C]``: the rows of a penalty ``factor^2 / 2 |C distance|^2`` stand below A.

    `distance`, shape (N,), is that of theta from the minimum of the penalty. Every rank holds the
    rows of C; they count once.
    """

    def __init__(
        self, lin: LinearSystem, below: PenaltyRows, distance: FloatArray, factor: float = 1.0
    ) -> None:
        super().__init__(lin, below.n_rows)
        self._below = below
        self._factor = factor
        self._distance = distance

    def _image(self, v: FloatArray) -> FloatArray:
        return self._factor * self._below.coordinates(v)

    @cached_property
    def _excess(self) -> FloatArray:
        return self._image(self._distance)

    @cached_property
    def data_gradient(self) -> FloatArray:
        """``A^T b`` and the gradient of the penalty."""
        return self._lin.data_gradient + self._factor * self._below.combine(self._excess)

    @cached_property
    def b(self) -> FloatArray | None:
        """The vector of the original system, and that of the penalty."""
        b = self._lin.b
        return None if b is None else np.concatenate([b, self._excess])

    @property
    def signs(self) -> FloatArray | None:
        """The diagonal of D; None for a positive semi-definite curvature."""
        signs = self._lin.signs
        return None if signs is None else np.concatenate([signs, np.ones(self._below.n_rows)])

    def matvec(self, v: FloatArray) -> FloatArray:
        """Return the products with the rows, the penalty's last."""
        return np.concatenate([self._lin.matvec(v), self._image(v)])

    def rmatvec(self, u: FloatArray) -> FloatArray:
        """Return the sum of both transposed products."""
        rows = self._lin.own_rows
        penalty = self._factor * self._below.combine(u[rows:])
        return np.asarray(self._lin.rmatvec(u[:rows]) + penalty)

    def data_residual(self, x: FloatArray) -> FloatArray | None:
        """Return the residual of all rows, transposed."""
        return None if self.b is None else self.rmatvec(self.b - self.matvec(x))

    def gram(self, *, mixed: bool = False) -> FloatArray:
        """Return ``A^T D A + factor^2 C^T C``."""
        out = self._lin.gram(mixed=mixed)
        for rows in self._below.blocks():
            out += self._factor**2 * (rows.T @ rows)
        return out

    def row_blocks(self) -> Iterator[tuple[FloatArray, FloatArray | None]]:
        """Yield the rows with their entries of b, the penalty's on rank 0 only."""
        yield from self._lin.row_blocks()
        if self.comm.rank > 0:
            return
        first = 0
        for rows in self._below.blocks():
            excess = self._excess[first : first + rows.shape[0]]
            yield self._factor * rows, None if self.b is None else excess
            first += rows.shape[0]


class ScaledColumns(_Derived):
    """The rows ``A diag(scale)``: parameters in units in which one mu damps them all."""

    signs = None

    def __init__(self, lin: LinearSystem, scale: FloatArray) -> None:
        super().__init__(lin)
        self._scale = scale

    @property
    def data_gradient(self) -> FloatArray:
        """The gradient in the scaled parameters."""
        return self._scale * self._lin.data_gradient

    @property
    def b(self) -> FloatArray | None:
        """As in the original system."""
        return self._lin.b

    def matvec(self, v: FloatArray) -> FloatArray:
        """Return ``A diag(scale) v``."""
        return self._lin.matvec(self._scale * v)

    def rmatvec(self, u: FloatArray) -> FloatArray:
        """Return ``diag(scale) A^T u``."""
        return np.asarray(self._scale * self._lin.rmatvec(u))

    def data_residual(self, x: FloatArray) -> FloatArray | None:
        """Return ``diag(scale) A^T (b - A diag(scale) x)``."""
        found = self._lin.data_residual(self._scale * x)
        return None if found is None else self._scale * found

    def gram(self, *, mixed: bool = False) -> FloatArray:
        """Return ``diag(scale) A^T A diag(scale)``."""
        return np.asarray(self._scale[:, None] * self._lin.gram(mixed=mixed) * self._scale)

    def row_blocks(self) -> Iterator[tuple[FloatArray, FloatArray | None]]:
        """Yield the scaled rows with their entries of b."""
        for rows, b in self._lin.row_blocks():
            yield rows * self._scale, b

    def column_errors(self) -> FloatArray:
        """Return the errors of the scaled columns."""
        return np.asarray(self._scale * self._lin.column_errors())
