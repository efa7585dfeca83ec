"""LSQR on vectors whose rows may be spread over several processes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.sparse.linalg import LinearOperator

from fastggn.solvers.base import FloatArray

EPS = float(np.finfo(np.float64).eps)


def lsqr(
    operator: LinearOperator,
    f: FloatArray,
    row_norm: Callable[[FloatArray], float],
    *,
    damp: float,
    tolerance: float,
    limit: int,
) -> tuple[FloatArray, int, int]:
    """Minimise ``|A x - f|^2 + damp^2 |x|^2`` (Paige and Saunders 1982).

    The recurrences and the stopping rules are those of ``scipy.sparse.linalg.lsqr`` with
    ``conlim=0``, and so are the bits on one process. Vectors over the columns are whole on every
    rank; those over the rows meet in their norm only, so that `row_norm` is all that a
    distribution of the rows changes.
    """
    x = np.zeros(operator.shape[1])
    size = beta = np.float64(row_norm(f))
    if beta == 0.0:
        return x, 0, 0
    u = (1 / beta) * f
    v = operator.rmatvec(u)
    alpha = np.linalg.norm(v)
    if alpha == 0.0:
        return x, 0, 0
    v = (1 / alpha) * v
    w = v.copy()
    state = _Recurrence(np.float64(alpha), size, np.float64(damp), tolerance)
    for iteration in range(1, limit + 1):
        u = operator.matvec(v) - alpha * u
        beta = np.float64(row_norm(u))
        if beta > 0:
            u = (1 / beta) * u
            state.grow(np.float64(alpha), beta)
            v = operator.rmatvec(u) - beta * v
            alpha = np.linalg.norm(v)
            if alpha > 0:
                v = (1 / alpha) * v
        rho, phi, theta = state.rotate(np.float64(alpha), beta)
        direction = (1 / rho) * w
        x = x + (phi / rho) * w
        w = v + (-theta / rho) * w
        state.lengthen(float(np.linalg.norm(direction)), rho, phi, theta)
        reason = state.reason_to_stop(np.float64(alpha), iteration >= limit)
        if reason:
            return x, reason, iteration
    return x, 7, limit


class _Recurrence:
    """The scalars of LSQR: the QR factors of the bidiagonal matrix, and estimates of norms."""

    def __init__(
        self, alpha: np.float64, size: np.float64, damp: np.float64, tolerance: float
    ) -> None:
        self._damp = damp
        self._size = size
        self._tolerance = tolerance
        self._rho_bar = alpha
        self._phi_bar = size
        self._tau = np.float64(0.0)
        self._matrix_norm = np.float64(0.0)
        self._dropped = np.float64(0.0)  # the residual that damping leaves, squared
        self._inverse_norm = np.float64(0.0)
        self._cosine, self._sine = np.float64(-1.0), np.float64(0.0)
        self._z = np.float64(0.0)
        self._length_squared = np.float64(0.0)
        self._length = np.float64(0.0)

    def grow(self, alpha: np.float64, beta: np.float64) -> None:
        """Add a row of the bidiagonal matrix to the estimate of |A|."""
        squares = self._matrix_norm**2 + alpha**2 + beta**2 + self._damp**2
        self._matrix_norm = np.sqrt(squares)

    def rotate(
        self, alpha: np.float64, beta: np.float64
    ) -> tuple[np.float64, np.float64, np.float64]:
        """Eliminate the damping and the subdiagonal; return (rho, phi, theta)."""
        rho_bar, psi = self._rho_bar, np.float64(0.0)
        if self._damp > 0:
            rho_bar = np.sqrt(self._rho_bar**2 + self._damp**2)
            psi = (self._damp / rho_bar) * self._phi_bar
            self._phi_bar = (self._rho_bar / rho_bar) * self._phi_bar
        c, s, rho = _rotation(rho_bar, beta)
        theta = s * alpha
        self._rho_bar = -c * alpha
        phi = c * self._phi_bar
        self._phi_bar = s * self._phi_bar
        self._tau = s * phi
        self._dropped = self._dropped + psi**2
        return rho, phi, theta

    def lengthen(
        self, direction: float, rho: np.float64, phi: np.float64, theta: np.float64
    ) -> None:
        """Update the estimates of |x| and of the inverse."""
        self._inverse_norm = self._inverse_norm + direction**2
        rho_bar = -self._cosine * rho
        rhs = phi - self._sine * rho * self._z
        self._length = np.sqrt(self._length_squared + (rhs / rho_bar) ** 2)
        gamma = np.sqrt(rho_bar**2 + theta**2)
        self._cosine, self._sine = rho_bar / gamma, theta / gamma
        self._z = rhs / gamma
        self._length_squared = self._length_squared + self._z**2

    def reason_to_stop(self, alpha: np.float64, last: bool) -> int:
        """Return 0 to go on; see `lsqr`."""
        condition = self._matrix_norm * np.sqrt(self._inverse_norm)
        residual = np.sqrt(self._phi_bar**2 + self._dropped)
        tests = (
            residual / self._size,
            alpha * abs(self._tau) / (self._matrix_norm * residual + EPS),
            1 / (condition + EPS),
        )
        growth = self._matrix_norm * self._length / self._size
        allowed = self._tolerance * self._matrix_norm * self._length / self._size
        reason = 7 if last else 0
        if 1 + tests[2] <= 1:
            reason = 6
        if 1 + tests[1] <= 1:
            reason = 5
        if 1 + tests[0] / (1 + growth) <= 1:
            reason = 4
        if tests[2] <= 0:
            reason = 3
        if tests[1] <= self._tolerance:
            reason = 2
        if tests[0] <= self._tolerance + allowed:
            reason = 1
        return reason


def _rotation(a: np.float64, b: np.float64) -> tuple[np.float64, np.float64, np.float64]:
    """Return (c, s, r) with [c s; s -c] [a; b] = [r; 0], without overflow."""
    if b == 0:
        return np.sign(a), np.float64(0.0), np.abs(a)
    if a == 0:
        return np.float64(0.0), np.sign(b), np.abs(b)
    if abs(b) > abs(a):
        tau = a / b
        s = np.sign(b) / np.sqrt(1 + tau * tau)
        return s * tau, s, b / s
    tau = b / a
    c = np.sign(a) / np.sqrt(1 + tau * tau)
    return c, c * tau, a / c
