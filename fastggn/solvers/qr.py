"""The rank-revealing solver: streaming QR of the rows, then one SVD of R for every damping."""

from __future__ import annotations

import numpy as np
from numpy.linalg import LinAlgError

from fastggn.runtime.comm import comm_of
from fastggn.solvers.base import (
    FloatArray,
    LinearSystem,
    RefusedState,
    Solution,
    State,
    decay_of,
    failure,
    least,
    shrinkage_shift,
    success,
    uniform_shift,
)
from fastggn.solvers.curvature_sums import CurvatureSums, sums_of_eigenvalues, sums_of_spectrum
from fastggn.solvers.stacked_rows import DecayRows, ScaledColumns, spares
from fastggn.solvers.svd import Spectrum, dense_spectrum, streamed_spectrum

# A correction with the residual of the rows pays once A^T c has lost digits to the squared
# condition number.
CORRECT_BELOW = 1e-8


class QRSolver:
    """Solve the least-squares problem itself: the condition number is never squared.

    Damped steps, and the minimum-norm step at mu = 0, with the numerical rank of A. Memory is
    O(N^2), or O(M N) where M < N. Positive semi-definite curvature only.
    """

    name = "qr"

    def prepare(self, lin: LinearSystem) -> State:
        """Fold the rows of `lin` and decompose R."""
        if lin.signs is not None:
            return RefusedState(
                lin.n_params,
                "refused",
                "qr needs a square root of the curvature, which indefinite ('exact') curvature "
                "has not: use cholesky or dual",
            )
        if not np.isfinite(lin.gradient).all():
            return RefusedState(lin.n_params, "non_finite", "the gradient is not finite")
        try:
            return SparingQRState(lin) if spares(lin) else QRState(lin)
        except LinAlgError as error:
            return RefusedState(lin.n_params, "non_finite", f"QR of the rows failed: {error}")


class QRState:
    """The spectrum of A and the rotated right-hand side."""

    def __init__(self, lin: LinearSystem) -> None:
        self._lin = lin
        self._rotated: FloatArray | None = None
        if lin.n_rows < lin.n_params and comm_of(lin).size == 1:
            # Fewer rows than columns: they take less room than R would.
            self.spectrum: Spectrum = dense_spectrum(lin)
            if lin.b is not None and self.spectrum.u is not None:
                self._rotated = self.spectrum.u.T @ lin.b
        else:
            self.spectrum, self._rotated = streamed_spectrum(lin)

    def solve(self, damping: float) -> Solution:
        """Return the damped step; see `State.solve`."""
        mu = uniform_shift(self._lin, damping)
        lin, spectrum = self._lin, self.spectrum
        if self._rotated is None:
            return self._solution(mu, -spectrum.from_gradient(mu, lin.gradient))
        shift = shrinkage_shift(lin, mu)
        if shift is None:
            return self._solution(mu, -spectrum.least_squares(mu, self._rotated))
        rotated = self._rotated - spectrum.s * (spectrum.vt @ shift)
        return self._solution(mu, -(shift + spectrum.least_squares(mu, rotated)))

    def correct(self, damping: float, c: FloatArray) -> Solution:
        """Return ``(A^T A + mu I)^-1 A^T c``; see `State.correct`."""
        mu = uniform_shift(self._lin, damping)
        lin, spectrum = self._lin, self.spectrum
        if comm_of(lin).any(not np.isfinite(c).all()):
            return failure(lin.n_params, "non_finite", "the right-hand side is not finite")
        if spectrum.u is not None:
            return self._solution(mu, spectrum.least_squares(mu, spectrum.u.T @ c))
        x = spectrum.from_row_space(mu, lin.rmatvec(c))
        if spectrum.rcond(mu) >= CORRECT_BELOW:
            return self._solution(mu, x)
        # Q was not kept: corrected semi-normal equations (Bjorck 1987) stand in for Q^T c.
        residual = lin.rmatvec(c - lin.matvec(x)) - mu * x
        return self._solution(mu, x + spectrum.from_row_space(mu, residual), iterations=1)

    def sums(self) -> CurvatureSums | None:
        """Return the sums over the eigenvalues at ``mu = l2``; see `SumsState`."""
        mu = uniform_shift(self._lin, 0.0)
        if mu == 0.0:
            return None
        return sums_of_eigenvalues(self.spectrum.s**2, self._lin.n_params, mu)

    def _solution(self, mu: float, step: FloatArray, iterations: int = 0) -> Solution:
        found = self.spectrum.found
        message = ""
        if found.rank < min(self._lin.n_rows, self._lin.n_params):
            message = (
                f"rank {found.rank} with tolerance {found.tolerance:.1e} "
                f"(next singular value smaller by {found.gap:.1e})"
            )
        return success(
            step,
            rcond=self.spectrum.rcond(mu),
            rank=found.rank,
            iterations=iterations,
            message=message,
        )


class SparingQRState:
    """Where l2 spares some parameters: its rows stand below those of A, and mu is the damping."""

    def __init__(self, lin: LinearSystem) -> None:
        self._lin = lin
        self._compose()

    def _compose(self) -> None:
        self._decay = np.asarray(decay_of(self._lin))
        self._rows = DecayRows(self._lin)
        self._state = QRState(self._rows)

    def solve(self, damping: float) -> Solution:
        """Return the damped step; the rank is that with the rows of l2."""
        if not np.array_equal(self._decay, np.asarray(decay_of(self._lin))):
            self._compose()  # a run that chooses l2 has changed it
        return self._state.solve(damping)

    def correct(self, damping: float, c: FloatArray) -> Solution:
        """Return ``(A^T A + diag(mu))^-1 A^T c``; see `State.correct`."""
        return self._state.correct(damping, self._rows.extended(c))

    def sums(self) -> CurvatureSums | None:
        """Return the sums at ``mu = l2`` of each parameter; see `SumsState`."""
        mu = np.asarray(decay_of(self._lin))
        if least(mu) == 0.0:
            return None
        # In units in which one mu counts them all: a second decomposition.
        rows = ScaledColumns(self._lin, np.sqrt(self._lin.l2 / mu))
        wide = self._lin.n_rows < self._lin.n_params and comm_of(self._lin).size == 1
        spectrum = dense_spectrum(rows) if wide else streamed_spectrum(rows)[0]
        return sums_of_spectrum(spectrum.s, spectrum.vt, mu, self._lin.l2)
