"""The null space of the rows of a Newton system: as a basis, or as a projector without one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from scipy.sparse.linalg import LinearOperator

from fastggn.kernels.lq import ReflectedRows
from fastggn.kernels.spectrum import numerical_rank, singular_values, thin_svd
from fastggn.kernels.tsqr import StreamingQR
from fastggn.objective.entry_errors import root_of_squares
from fastggn.runtime.threads import one_pool
from fastggn.solvers.base import FloatArray, LinearSystem
from fastggn.solvers.lsqr_iteration import lsqr
from fastggn.solvers.stacked_rows import PenaltyRows
from fastggn.solvers.svd import stored_rows

# Relative backward error at which LSQR stops, and the most iterations of one projection.
TOLERANCE = 1e-15
MOST_ITERATIONS = 2000


class NullSpaceOf(PenaltyRows, Protocol):
    """The null space of A, and rows C with ``C^T C`` the orthogonal projector on it."""

    def project(self, v: FloatArray) -> FloatArray:
        """Return the part of v (N,) in the null space, shape (N,)."""


class DenseNullSpace:
    """Orthonormal bases of the null space and of the row space, from a streaming QR of the rows.

    The rank is read off the singular values of A itself, never off ``A^T A``. Memory is O(N^2).

    Attributes
    ----------
    basis : ndarray, shape (N, d)
        Orthonormal, of the null space.
    row_basis : ndarray, shape (N, N - d)
        Orthonormal, of its complement.
    singular_values : ndarray, shape (min(M, N),)
        Descending.
    found : NumericalRank
        Rank, tolerance and gap.
    """

    def __init__(self, lin: LinearSystem, tol: float | None = None) -> None:
        shape = (lin.n_rows, lin.n_params)
        qr = StreamingQR(lin.n_params)
        for rows, _ in lin.row_blocks():
            qr.fold(rows)
        comm = lin.comm
        comm.unite(qr)
        with one_pool():
            _, s, vt = thin_svd(qr.r)
        if comm.size > 1:  # rank 0's, should another kind of processor have rounded otherwise
            s, vt = (comm.broadcast(np.ascontiguousarray(part)) for part in (s, vt))
        self.singular_values = s[: min(shape)]
        error = root_of_squares(lin.column_errors()) if tol is None else 0.0
        self.found = numerical_rank(self.singular_values, error, tol)
        self.row_basis = vt[: self.found.rank].T
        self.basis = vt[self.found.rank :].T

    @property
    def n_rows(self) -> int:
        """The dimension d."""
        return int(self.basis.shape[1])

    def project(self, v: FloatArray) -> FloatArray:
        """Return ``N N^T v``."""
        return np.asarray(self.basis @ (self.basis.T @ v))

    def coordinates(self, v: FloatArray) -> FloatArray:
        """Return ``N^T v``."""
        return np.asarray(self.basis.T @ v)

    def combine(self, u: FloatArray) -> FloatArray:
        """Return ``N u``."""
        return np.asarray(self.basis @ u)

    def blocks(self) -> Iterator[FloatArray]:
        """Yield ``N^T``."""
        yield np.ascontiguousarray(self.basis.T)


class ReflectedNullSpace:
    """The null space of M < N rows, by the reflectors of their LQ factorisation.

    ``A = [L 0] Q^T``; the last N - M columns of Q and, where the rows depend on each other, the
    images of the null space of L are an orthonormal basis. Only the reflectors are stored, in the
    M x N array of the rows.
    """

    def __init__(self, lin: LinearSystem, tol: float | None = None) -> None:
        self._factor = ReflectedRows(stored_rows(lin))
        self._factor.broadcast(lin.comm)  # rank 0's, as in `DenseNullSpace`
        lower = self._factor.lower
        error = root_of_squares(lin.column_errors()) if tol is None else 0.0
        self.singular_values: FloatArray = singular_values(lower)
        self.found = numerical_rank(self.singular_values, error, tol)
        # Rotates the row space of L to the front; of independent rows it is the whole space.
        self._vt: FloatArray | None = None
        if self.found.rank < len(lower):
            with one_pool():
                self._vt = lin.comm.broadcast(np.ascontiguousarray(thin_svd(lower)[2]))

    @property
    def n_rows(self) -> int:
        """The dimension d."""
        return self._factor.shape[1] - self.found.rank

    def _combined(self, columns: FloatArray, first: int) -> FloatArray:
        """Return Q [V 0; 0 I] times `columns` (k, .) below `first` rows of zeros, (N, .)."""
        m, n = self._factor.shape
        whole = np.zeros((n, columns.shape[1]))
        whole[first : first + len(columns)] = columns
        if self._vt is not None:
            whole[:m] = self._vt.T @ whole[:m]
        return self._factor.turn(whole)

    def coordinates(self, v: FloatArray) -> FloatArray:
        """Return ``N^T v``."""
        turned = self._factor.turn(np.array(v, dtype=np.float64).reshape(-1, 1), back=True)[:, 0]
        m = self._factor.shape[0]
        if self._vt is not None:
            turned[:m] = self._vt @ turned[:m]
        return np.ascontiguousarray(turned[self.found.rank :])

    def combine(self, u: FloatArray) -> FloatArray:
        """Return ``N u``."""
        return self._combined(np.reshape(u, (-1, 1)), self.found.rank)[:, 0]

    def project(self, v: FloatArray) -> FloatArray:
        """Return ``N N^T v``."""
        return self.combine(self.coordinates(v))

    def into_row_basis(self) -> FloatArray:
        """Return an orthonormal basis of the row space, (N, N - d), in place of all else."""
        rows = self._factor.formed()
        return np.asarray((rows if self._vt is None else self._vt[: self.found.rank] @ rows).T)

    @property
    def basis(self) -> FloatArray:
        """An orthonormal basis of the null space, shape (N, d), as a new array."""
        return self._combined(np.eye(self.n_rows), self.found.rank)

    def blocks(self) -> Iterator[FloatArray]:
        """Yield ``N^T`` in blocks of 8 MiB."""
        step = max(1, 2**20 // self._factor.shape[1])
        for first in range(0, self.n_rows, step):
            count = min(step, self.n_rows - first)
            yield np.ascontiguousarray(self._combined(np.eye(count), self.found.rank + first).T)


class IteratedNullSpace:
    """The projector ``I - A^+ A``, each product by LSQR (Paige and Saunders 1982).

    Nothing N x N is stored. Directions along which A is small but not zero are told from the
    null space as far as LSQR converges: to about ``1e-15 cond(A)``, or to where its limit of
    iterations stops it.
    """

    def __init__(self, lin: LinearSystem) -> None:
        self._lin = lin
        self._comm = lin.comm
        shape = (lin.own_rows, lin.n_params)
        self._operator = LinearOperator(
            shape, matvec=lin.matvec, rmatvec=lin.rmatvec, dtype=np.float64
        )
        self._limit = min(10 * min(lin.n_rows, lin.n_params) + 50, MOST_ITERATIONS)

    @property
    def n_rows(self) -> int:
        """N: C is the projector itself."""
        return self._lin.n_params

    def project(self, v: FloatArray) -> FloatArray:
        """Return ``v - A^+ A v``."""
        image = self._lin.matvec(np.asarray(v))
        seen, _, _ = lsqr(
            self._operator,
            image,
            lambda u: self._comm.norm(float(np.linalg.norm(u))),
            damp=0.0,
            tolerance=TOLERANCE,
            limit=self._limit,
        )
        return self._comm.broadcast(np.ascontiguousarray(v - seen))

    def coordinates(self, v: FloatArray) -> FloatArray:
        """Return the projection of v."""
        return self.project(v)

    def combine(self, u: FloatArray) -> FloatArray:
        """Return the projection of u."""
        return self.project(u)

    def blocks(self) -> Iterator[FloatArray]:
        """Refuse: nothing N x N is stored."""
        raise TypeError("the projector of this null space is not stored: use solver 'lsqr'")
