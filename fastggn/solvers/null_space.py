"""The null space of the rows of a Newton system: as a basis, or as a projector without one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from scipy.sparse.linalg import LinearOperator

from fastggn.kernels.spectrum import numerical_rank, thin_svd
from fastggn.kernels.tsqr import StreamingQR
from fastggn.objective.entry_errors import root_of_squares
from fastggn.runtime.threads import one_pool
from fastggn.solvers.base import FloatArray, LinearSystem
from fastggn.solvers.lsqr_iteration import lsqr
from fastggn.solvers.stacked_rows import PenaltyRows

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
