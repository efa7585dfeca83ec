"""The rank-revealing solver: streaming QR of the rows, then one SVD of R for every damping."""

from __future__ import annotations

import numpy as np
from numpy.linalg import LinAlgError

from fastggn.solvers.base import (
    CurvatureSums,
    FloatArray,
    LinearSystem,
    RefusedState,
    RightSide,
    Shift,
    Solution,
    State,
    failure,
    least,
    success,
)
from fastggn.solvers.curvature_sums import (
    sums_of_singular_values,
    sums_of_spectrum,
    sums_of_stacked,
)
from fastggn.solvers.stacked_rows import DiagonalRows, ScaledColumns, StackedRows
from fastggn.solvers.svd import spectrum_of

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
        if not np.isfinite(lin.data_gradient).all():
            return RefusedState(lin.n_params, "non_finite", "the gradient is not finite")
        try:
            return SparingQRState(lin) if isinstance(lin.decay, np.ndarray) else QRState(lin)
        except LinAlgError as error:
            return RefusedState(lin.n_params, "non_finite", f"QR of the rows failed: {error}")


class QRState(State):
    """The spectrum of A and the rotated right-hand side."""

    def __init__(self, lin: LinearSystem) -> None:
        self._lin = lin
        self.spectrum, self._rotated = spectrum_of(lin)

    def solve(self, shift: Shift, c: FloatArray | None = None) -> Solution:
        """Return x; see `State.solve`."""
        lin, spectrum, mu = self._lin, self.spectrum, shift.uniform
        right = RightSide(lin, shift, c)
        if c is None:
            rotated = self._rotated
        elif lin.comm.any(not np.isfinite(c).all()):
            return failure(lin.n_params, "non_finite", "the right-hand side is not finite")
        elif spectrum.u is not None:
            rotated = spectrum.u.T @ c
        else:
            return self._from_rows(mu, right)
        if rotated is None:
            return self._solution(mu, spectrum.from_gradient(mu, right.vector))
        if right.shrunk is not None:
            rotated = rotated - spectrum.s * (spectrum.vt @ right.shrunk)
        return right.completed(self._solution(mu, spectrum.least_squares(mu, rotated)))

    def _from_rows(self, mu: float, right: RightSide) -> Solution:
        """Solve for a c whose ``Q^T c`` cannot be had: Q was not kept."""
        x = self.spectrum.from_row_space(mu, right.vector)
        if self.spectrum.rcond(mu) >= CORRECT_BELOW:
            return self._solution(mu, x)
        # Corrected semi-normal equations (Bjorck 1987).
        residual = right.residual(x)
        assert residual is not None
        return self._solution(mu, x + self.spectrum.from_row_space(mu, residual), iterations=1)

    def sums(self, decay: FloatArray | float) -> CurvatureSums | None:
        """Return the sums over the eigenvalues at ``mu = decay``; see `State.sums`."""
        mu = Shift(0.0, decay).uniform
        if mu == 0.0:
            return None
        return sums_of_singular_values(self.spectrum.s, self.spectrum.vt, mu)

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


class SparingQRState(State):
    """Where l2 spares some parameters: its rows stand below those of A, and mu is the damping."""

    def __init__(self, lin: LinearSystem) -> None:
        self._lin = lin
        self._compose(np.asarray(lin.decay))

    def _compose(self, decay: FloatArray) -> None:
        self._decay = decay
        self._below = DiagonalRows(np.sqrt(decay))
        self._state = QRState(StackedRows(self._lin, self._below, self._lin.theta))

    def solve(self, shift: Shift, c: FloatArray | None = None) -> Solution:
        """Return x; the rank is that with the rows of l2."""
        decay = np.asarray(shift.decay)
        if not np.array_equal(decay, self._decay):
            self._compose(decay)
        if c is not None:
            c = np.concatenate([c, np.zeros(self._below.n_rows)])
        return self._state.solve(Shift(shift.damping), c)

    def sums(self, decay: FloatArray | float) -> CurvatureSums | None:
        """Return the sums at ``mu = decay`` of each parameter; see `State.sums`."""
        mu = np.asarray(decay)
        if least(mu) == 0.0:  # it spares some parameters
            if not np.array_equal(mu, self._decay):
                self._compose(mu)
            found = self._state.spectrum
            whole = found.s.size == mu.size
            return sums_of_stacked(found.s, found.vt, mu) if whole else None
        # In units in which one mu counts them all: a second decomposition.
        unit = float(np.exp(np.mean(np.log(mu))))
        spectrum, _ = spectrum_of(ScaledColumns(self._lin, np.sqrt(unit / mu)))
        return sums_of_spectrum(spectrum.s, spectrum.vt, mu, unit)
