"""The contract of every solver of the Newton system: its arguments, its state, its answers.

The system is the one of the documentation's notation page, for a linearisation with rows ``A``,
signs ``D`` (absent in positive semi-definite curvature) and ``mu = damping + decay``::

    (A^T D A + mu I) x = A^T b + decay theta,        step = -x

and, at ``mu = 0``, its solution of minimum norm. A solver factors once in `prepare`; its state
then solves for each `Shift` that the step control asks for. The decay is l2, or a vector (N,)
with the l2 of each parameter; mu is then a vector too.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import dasum

from fastggn.runtime.cached import cached_property
from fastggn.runtime.comm import Comm
from fastggn.runtime.errors import check_positive

FloatArray = NDArray[np.float64]


class LinearSystem(Protocol):
    """A linearisation as a solver sees it: the rows ``A``, never a loss or a network.

    M is the number of rows, N the number of parameters. Where processes share the rows, vectors
    over the rows hold the entries of this process only, and sums over the rows are over all.

    Attributes
    ----------
    comm : Comm
        The processes that share the rows.
    n_rows, n_params : int
        M and N.
    own_rows : int
        The rows of this process.
    shared_rows : int
        The last of them, which every process holds; they count once, on rank 0.
    decay : float or ndarray, shape (N,)
        The weight of ``theta_j^2 / 2`` in the objective. Prepared states take it by argument.
    theta : ndarray, shape (N,)
        The point of linearisation.
    data_gradient : ndarray, shape (N,)
        ``A^T b``.
    b : ndarray, shape (M,), or None
        None where no finite ``b`` exists: solvers then start from `data_gradient`.
    signs : ndarray, shape (M,), or None
        The diagonal of ``D`` (-1, 0 or +1), or None for the identity.
    """

    @property
    def comm(self) -> Comm: ...  # noqa: D102
    @property
    def n_rows(self) -> int: ...  # noqa: D102
    @property
    def n_params(self) -> int: ...  # noqa: D102
    @property
    def own_rows(self) -> int: ...  # noqa: D102
    @property
    def shared_rows(self) -> int: ...  # noqa: D102
    @property
    def decay(self) -> FloatArray | float: ...  # noqa: D102
    @property
    def theta(self) -> FloatArray: ...  # noqa: D102
    @property
    def data_gradient(self) -> FloatArray: ...  # noqa: D102
    @property
    def b(self) -> FloatArray | None: ...  # noqa: D102
    @property
    def signs(self) -> FloatArray | None: ...  # noqa: D102

    def matvec(self, v: FloatArray) -> FloatArray:
        """Return ``A v``, shape (M,)."""

    def rmatvec(self, u: FloatArray) -> FloatArray:
        """Return ``A^T u``, shape (N,)."""

    def data_residual(self, x: FloatArray) -> FloatArray | None:
        """Return ``A^T (b - A x)``, shape (N,); None where there is no ``b``."""

    def gram(self, *, mixed: bool = False) -> FloatArray:
        """Return ``A^T D A`` as a new symmetric C-ordered (N, N) array.

        With `mixed` it may be assembled in float32.
        """

    def dual_gram(self) -> FloatArray:
        """Return ``A A^T`` as a new symmetric C-ordered (M, M) array."""

    def row_blocks(self) -> Iterator[tuple[FloatArray, FloatArray | None]]:
        """Yield blocks of rows of ``A``, shape (r, N), with their part of ``b``."""

    def column_errors(self) -> FloatArray:
        """Return the norms of the rounding errors in the columns of ``A``, shape (N,)."""

    def kronecker_factors(self) -> Sequence[tuple[FloatArray, FloatArray]]:
        """Return a pair (U, V) a layer, with ``A^T A`` close to ``kron(U, V)`` on its block."""

    def bias_columns(self) -> FloatArray:
        """Return the columns of A that belong to the free biases, shape (M, units)."""

    def gathered(self) -> LinearSystem:
        """Return the system with the rows of all ranks in this process; collective."""


@dataclass(frozen=True)
class Solution:
    """The answer of a solver for one damping.

    Attributes
    ----------
    step : ndarray, shape (N,)
        The solution x. Filled with NaN where `ok` is false.
    ok : bool
        Whether the step may be used. An iteration that ran out of its limit still gives a
        descent direction: it is ``ok`` with the status ``not_converged``.
    status : str
        ``ok``, ``not_positive_definite``, ``singular``, ``ill_conditioned`` (usable, but with
        rounding errors above 1e-6 of the step), ``not_converged``, ``refused`` or ``non_finite``.
    rcond : float or None
        An estimate of the reciprocal condition number of the damped matrix that was solved
        (``A^T D A + mu I``, or ``A A^T + mu I`` in the dual).
    rank : int or None
        The numerical rank of ``A``, where the solver knows it.
    iterations : int
        Iterations of an iterative method, or steps of refinement.
    message : str
        A sentence for a person; empty where the solution needs none.
    """

    step: FloatArray
    ok: bool
    status: str
    rcond: float | None = None
    rank: int | None = None
    iterations: int = 0
    message: str = ""


@dataclass(frozen=True)
class CurvatureSums:
    """Two sums over the N eigenvalues g of ``A^T A``, for one mu.

    Attributes
    ----------
    effective : float
        ``sum g / (g + mu)``: N less mu times the trace of ``(A^T A + mu I)^-1``.
    log_determinant : float
        ``sum log(g + mu)``.
    held : ndarray, shape (N,), or None
        Where mu differs between the parameters: ``mu_j`` times the diagonal of
        ``(A^T A + diag(mu))^-1``, between 0 and 1. The samples determine the rest of each
        parameter, and `effective` is the sum of these rests.
    leverages : callable or None
        Returns the part of each row of A in `effective`, ``a (A^T A + mu I)^-1 a^T``, shape (M,),
        until the state is used again; from the dual form.
    whiten : callable or None
        Returns Z with ``Z Z^T = rows (A^T A + mu I)^-1 rows^T`` for rows (r, N) in the row space
        of A, until the state is used again; `rows` may be overwritten. From the other solvers.
    sensitivity : float
        By how much `effective` falls as mu grows, ``sum g mu / (g + mu)^2``; estimated by a few
        random vectors where there is a factor only.
    """

    effective: float
    log_determinant: float
    held: FloatArray | None = field(default=None, compare=False)
    leverages: Callable[[], FloatArray] | None = field(default=None, compare=False)
    whiten: Callable[[FloatArray], FloatArray] | None = field(default=None, compare=False)
    sensitivity: float = 0.0

    def numbers(self) -> CurvatureSums:
        """Return the sums without functions: pickle knows none, and they hold a factor."""
        return replace(self, leverages=None, whiten=None)


@dataclass(frozen=True, eq=False)
class Shift:
    """The addition to the diagonal of the curvature: ``mu = damping + decay``.

    Attributes
    ----------
    damping : float
        Not negative.
    decay : float or ndarray, shape (N,)
        l2, or that of each parameter.
    """

    damping: float
    decay: FloatArray | float = 0.0

    def __post_init__(self) -> None:
        """Check the damping."""
        object.__setattr__(self, "damping", check_positive("damping", self.damping, zero=True))

    @property
    def mu(self) -> FloatArray | float:
        """The sum."""
        return self.decay + self.damping

    @property
    def uniform(self) -> float:
        """The sum, of a penalty that counts all parameters alike."""
        if isinstance(self.decay, np.ndarray):
            raise ValueError("l2 spares the biases, but this needs one that counts all parameters")
        return self.decay + self.damping


class RightSide:
    """A right-hand side ``A^T D c + decay theta``: c is b, or it is given and has no theta."""

    def __init__(self, lin: LinearSystem, shift: Shift, c: FloatArray | None) -> None:
        self._lin = lin
        self._shift = shift
        self._c = c

    @cached_property
    def rows(self) -> FloatArray | None:
        """The vector c, shape (M,)."""
        return self._lin.b if self._c is None else np.asarray(self._c)

    @cached_property
    def vector(self) -> FloatArray:
        """The right-hand side itself, shape (N,)."""
        lin, c = self._lin, self._c
        if c is None:
            return lin.data_gradient + self._shift.decay * lin.theta
        return lin.rmatvec(c if lin.signs is None else lin.signs * c)

    @cached_property
    def shrunk(self) -> FloatArray | None:
        """``(decay / mu) theta``, the part of x that does not pass through A; None where it is 0.

        With ``x = (decay / mu) theta + z``, ``z`` is the damped least-squares solution for
        `target`.
        """
        decay, theta = self._shift.decay, self._lin.theta
        if self._c is not None or not np.any(decay):
            return None
        mu = self._shift.mu
        if isinstance(mu, np.ndarray):
            share = np.divide(decay, mu, out=np.zeros_like(mu), where=mu > 0.0)
            return np.asarray(theta * share)
        return np.asarray(theta * (decay / mu), dtype=np.float64)

    def target(self, rows: FloatArray) -> FloatArray:
        """Return ``c - A (decay / mu) theta`` for c = `rows`."""
        return rows if self.shrunk is None else rows - self._lin.matvec(self.shrunk)

    def completed(self, found: Solution) -> Solution:
        """Return the solution x for that of the damped least-squares problem, z."""
        return found if self.shrunk is None else replace(found, step=self.shrunk + found.step)

    def residual(self, x: FloatArray) -> FloatArray | None:
        """Return ``A^T (c - A x) + decay theta - mu x``, D = I; None where there is no c."""
        lin, mu = self._lin, self._shift.mu
        if self._c is not None:
            return lin.rmatvec(self._c - lin.matvec(x)) - mu * x
        data = lin.data_residual(x)
        return None if data is None else data - mu * x + self._shift.decay * lin.theta


class State(ABC):
    """A linearisation factored for several shifts.

    Attributes
    ----------
    least_damping : float
        Below it the matrix is its own rounding errors.
    """

    least_damping = 0.0

    @abstractmethod
    def solve(self, shift: Shift, c: FloatArray | None = None) -> Solution:
        """Return x of ``(A^T D A + mu I) x = A^T D c``, of the system's right side without c."""

    def sums(self, decay: FloatArray | float) -> CurvatureSums | None:
        """Return the sums over the eigenvalues at ``mu = decay``; None without a good factor."""
        return None


class Solver(Protocol):
    """A way of solving the Newton system."""

    @property
    def name(self) -> str:
        """The name in the interface and in the history of a run."""

    def prepare(self, lin: LinearSystem) -> State:
        """Return the state that solves the system of `lin` for several shifts."""


class RefusedState(State):
    """The state of a solver that cannot answer this system: every answer says why."""

    def __init__(self, n_params: int, status: str, message: str) -> None:
        self._answer = failure(n_params, status, message)

    def solve(self, shift: Shift, c: FloatArray | None = None) -> Solution:
        """Return the refusal."""
        return self._answer


def failure(
    n_params: int, status: str, message: str, *, rcond: float | None = None, rank: int | None = None
) -> Solution:
    """Return a solution without a step, poisoned with NaN so that its use cannot go unseen."""
    poison = np.full(n_params, np.nan)
    return Solution(poison, False, status, rcond, rank, 0, message)


def all_finite(vector: FloatArray) -> bool:
    """Whether all entries are finite, in a tenth of the time of ``isfinite`` for a short vector."""
    # A sum of absolute values is not finite where an entry is not, or at an overflow.
    return math.isfinite(dasum(vector)) or bool(np.isfinite(vector).all())


def success(
    step: FloatArray,
    *,
    status: str = "ok",
    rcond: float | None = None,
    rank: int | None = None,
    iterations: int = 0,
    message: str = "",
) -> Solution:
    """Return a solution with `step`, or a ``non_finite`` failure if an entry is NaN or infinite."""
    if not all_finite(step):
        return failure(step.size, "non_finite", "the step is not finite", rcond=rcond, rank=rank)
    return Solution(step, True, status, rcond, rank, iterations, message)


def least(mu: FloatArray | float) -> float:
    """Return the smallest entry of mu."""
    return float(mu.min()) if isinstance(mu, np.ndarray) else mu
