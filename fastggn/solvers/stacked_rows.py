"""Systems whose l2 spares some parameters, turned into ones that have a single mu."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol, TypeGuard

import numpy as np

from fastggn.runtime.comm import comm_of
from fastggn.solvers.base import FloatArray, LinearSystem, decay_of, own_rows


class SparingSystem(LinearSystem, Protocol):
    """A system whose penalty does not count all parameters."""

    def bias_columns(self) -> FloatArray:
        """Return the columns of A that belong to the free biases, shape (M, units)."""


def spares(lin: LinearSystem) -> TypeGuard[SparingSystem]:
    """Whether the penalty of `lin` does not count all parameters."""
    return isinstance(decay_of(lin), np.ndarray)


class DecayRows:
    """The same system with the penalty as rows ``sqrt(l2) I`` of its parameters, and no l2.

    Where ranks share the rows, those of the penalty are with the first.
    """

    l2 = 0.0
    signs = None

    def __init__(self, lin: LinearSystem) -> None:
        self._lin = lin
        self.comm = comm_of(lin)
        root = np.sqrt(decay_of(lin))
        self._root = root[root > 0.0]
        self._index = np.flatnonzero(root)
        self.theta = lin.theta
        self.gradient = lin.gradient
        self.n_params = lin.n_params
        self.n_rows = lin.n_rows + self._root.size
        self._own = self.comm.rank == 0
        self.own_rows = own_rows(lin) + (self._root.size if self._own else 0)

    def _below(self, v: FloatArray) -> FloatArray:
        return self._root * v[self._index] if self._own else np.zeros(0)

    def extended(self, c: FloatArray) -> FloatArray:
        """Return a vector over the rows of A with zeros for those of the penalty."""
        return np.concatenate([c, np.zeros(self.own_rows - c.size)])

    @property
    def b(self) -> FloatArray | None:
        """A vector with ``A^T b`` the gradient, penalty included."""
        b = self._lin.b
        return None if b is None else np.concatenate([b, self._below(self.theta)])

    def matvec(self, v: FloatArray) -> FloatArray:
        """Return ``A v``, the rows of the penalty last."""
        return np.concatenate([self._lin.matvec(v), self._below(v)])

    def rmatvec(self, u: FloatArray) -> FloatArray:
        """Return ``A^T u``."""
        rows = own_rows(self._lin)
        penalty = np.zeros(self.n_params)
        if self._own:
            penalty[self._index] = self._root * u[rows:]
        return np.asarray(self._lin.rmatvec(u[:rows]) + self.comm.sum(penalty))

    def gram(self, *, mixed: bool = False) -> FloatArray:
        """Return ``A^T A``."""
        out = self._lin.gram(mixed=mixed) if mixed else self._lin.gram()
        out.flat[:: self.n_params + 1] += decay_of(self._lin)
        return out

    def dual_gram(self) -> FloatArray:
        """Refuse: there are more rows than the system had."""
        raise NotImplementedError("the rows of a penalty have no dual form")

    def row_blocks(self) -> Iterator[tuple[FloatArray, FloatArray | None]]:
        """Yield the rows of A with their entries of b."""
        yield from self._lin.row_blocks()
        if not self._own:
            return
        step = max(1, 2**20 // self.n_params)
        for first in range(0, self._root.size, step):
            index, root = self._index[first : first + step], self._root[first : first + step]
            rows = np.zeros((index.size, self.n_params))
            rows[np.arange(index.size), index] = root
            yield rows, None if self._lin.b is None else root * self.theta[index]

    def kronecker_factors(self) -> Sequence[tuple[FloatArray, FloatArray]]:
        """Return the factors of the system's own rows."""
        return self._lin.kronecker_factors()


class ScaledColumns:
    """The rows ``A diag(scale)``: parameters in units in which one mu damps them all."""

    l2 = 0.0
    signs = None

    def __init__(self, lin: LinearSystem, scale: FloatArray) -> None:
        self._lin = lin
        self._scale = scale
        self.theta = lin.theta
        self.n_params = lin.n_params
        self.n_rows = lin.n_rows
        self.comm = comm_of(lin)
        self.own_rows = own_rows(lin)

    @property
    def gradient(self) -> FloatArray:
        """The gradient in the scaled parameters."""
        return self._scale * self._lin.gradient

    @property
    def b(self) -> FloatArray | None:
        """As in the system."""
        return self._lin.b

    def matvec(self, v: FloatArray) -> FloatArray:
        """Return ``A diag(scale) v``."""
        return self._lin.matvec(self._scale * v)

    def rmatvec(self, u: FloatArray) -> FloatArray:
        """Return ``diag(scale) A^T u``."""
        return np.asarray(self._scale * self._lin.rmatvec(u))

    def gram(self, *, mixed: bool = False) -> FloatArray:
        """Return ``diag(scale) A^T A diag(scale)``."""
        out = self._lin.gram(mixed=mixed) if mixed else self._lin.gram()
        return np.asarray(self._scale[:, None] * out * self._scale)

    def dual_gram(self) -> FloatArray:
        """Refuse: `DualSolver` adds what the scale changes to the system's own."""
        raise NotImplementedError("scaled columns have no dual Gram matrix of their own")

    def row_blocks(self) -> Iterator[tuple[FloatArray, FloatArray | None]]:
        """Yield the scaled rows with their entries of b."""
        for rows, b in self._lin.row_blocks():
            yield rows * self._scale, b

    def kronecker_factors(self) -> Sequence[tuple[FloatArray, FloatArray]]:
        """Return the factors of the system's own rows."""
        return self._lin.kronecker_factors()
