"""Damped and minimum-norm solutions from the singular value decomposition of the rows."""

from __future__ import annotations

import numpy as np

from fastggn.kernels.spectrum import NumericalRank, numerical_rank, thin_svd
from fastggn.kernels.tsqr import StreamingQR
from fastggn.objective.entry_errors import root_of_squares
from fastggn.solvers.base import FloatArray, LinearSystem


class Spectrum:
    """``A = U diag(s) V^T``, cut off at the numerical rank.

    Singular values below the tolerance of `numerical_rank` cannot be told from zero; kept, they
    would multiply the residual by up to ``1 / (2 sqrt(mu))``.
    """

    def __init__(
        self, s: FloatArray, vt: FloatArray, entry_error: float, u: FloatArray | None = None
    ) -> None:
        self.found: NumericalRank = numerical_rank(s, entry_error)
        kept = self.found.rank
        self.s = s[:kept]
        self.vt = vt[:kept]
        self.u = None if u is None else u[:, :kept]
        self._whole = kept == vt.shape[1]

    def rcond(self, mu: float) -> float:
        """Return the reciprocal condition number of ``A^T A + mu I`` on the space solved in."""
        if not self.s.size:
            return 1.0 if mu > 0.0 else 0.0
        largest, smallest = float(self.s[0]), float(self.s[-1])
        if not self._whole and mu > 0.0:
            smallest = 0.0
        return (smallest / largest) ** 2 if mu == 0.0 else _ratio(smallest, largest, mu)

    def least_squares(self, mu: float, rotated: FloatArray) -> FloatArray:
        """Return the x that minimises ``|A x - f|^2 + mu |x|^2``, shape (N,), from ``U^T f``.

        At mu = 0 it is the one of minimum norm.
        """
        # Two divisions by the hypotenuse instead of one by s^2 + mu, which could overflow.
        width = np.hypot(self.s, np.sqrt(mu))
        return np.asarray(self.vt.T @ (rotated[: self.s.size] * (self.s / width) / width))

    def from_row_space(self, mu: float, gradient: FloatArray) -> FloatArray:
        """Return ``(A^T A + mu I)^-1 gradient``, shape (N,), for a gradient known to be A^T c.

        Its rounding errors outside the row space are dropped, not divided by mu.
        """
        width = np.hypot(self.s, np.sqrt(mu))
        return np.asarray(self.vt.T @ ((self.vt @ gradient) / width / width))

    def from_gradient(self, mu: float, gradient: FloatArray) -> FloatArray:
        """Return ``(A^T A + mu I)^-1 gradient`` (the pseudo-inverse at mu = 0), shape (N,)."""
        x = self.from_row_space(mu, gradient)
        if mu > 0.0 and not self._whole:
            x += (gradient - self.vt.T @ (self.vt @ gradient)) / mu
        return x


def spectrum_of(lin: LinearSystem) -> tuple[Spectrum, FloatArray | None]:
    """Decompose the rows in the least memory; return the spectrum, and ``U^T b`` if there is b."""
    if lin.n_rows >= lin.n_params or lin.comm.size > 1:
        return streamed_spectrum(lin)
    spectrum = dense_spectrum(lin)  # fewer rows than columns take less room than R would
    if lin.b is None or spectrum.u is None:
        return spectrum, None
    return spectrum, spectrum.u.T @ lin.b


def dense_spectrum(lin: LinearSystem) -> Spectrum:
    """Decompose the rows held as one (M, N) array; meant for M <= N."""
    u, s, vt = thin_svd(stored_rows(lin))
    return Spectrum(s, vt, root_of_squares(lin.column_errors()), u)


def stored_rows(lin: LinearSystem) -> FloatArray:
    """Return the rows of all ranks as a new array, shape (M, N)."""
    own = lin.own_rows - (lin.shared_rows if lin.comm.rank > 0 else 0)
    rows, done = np.empty((own, lin.n_params)), 0
    for block, _ in lin.row_blocks():
        rows[done : done + block.shape[0]] = block
        done += block.shape[0]
    return lin.comm.concatenate(rows)


def streamed_spectrum(lin: LinearSystem) -> tuple[Spectrum, FloatArray | None]:
    """Decompose the rows by a streaming QR and the SVD of its R, in O(N^2) memory."""
    qr = StreamingQR(lin.n_params, 0 if lin.b is None else 1)
    for block, b in lin.row_blocks():
        qr.fold(block, b)
    lin.comm.unite(qr)
    u, s, vt = thin_svd(qr.r)
    spectrum = Spectrum(s, vt, root_of_squares(lin.column_errors()))
    if lin.b is None:
        return spectrum, None
    return spectrum, u[:, : spectrum.found.rank].T @ qr.c[:, 0]


def _ratio(smallest: float, largest: float, mu: float) -> float:
    root = float(np.sqrt(mu))
    return float((np.hypot(smallest, root) / np.hypot(largest, root)) ** 2)
