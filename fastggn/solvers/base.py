"""What every solver of the Newton system takes, keeps and returns.

The system is the one of the documentation's notation page, for a linearisation with rows ``A``,
signs ``D`` (absent in positive semi-definite curvature) and ``mu = l2 + damping``::

    (A^T D A + mu I) s = A^T b + l2 theta,        step = -s

and, at ``mu = 0``, its solution of minimum norm. A solver factors once in `prepare`; its state
then solves for as many dampings as the step control asks for. A system may have a vector `decay`,
shape (N,), in place of l2 for all parameters: mu is then a vector too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from fastggn.runtime.errors import check_positive

FloatArray = NDArray[np.float64]


class LinearSystem(Protocol):
    """What a solver needs of a linearisation: the rows ``A``, never a loss or a network.

    M is the number of rows, N the number of parameters. A system may also have `own_rows` and a
    communicator `comm`: its vectors over the rows then hold those of this process only, and
    what is summed over the rows is summed over all. Its last `shared_rows` may be on all of them.

    Attributes
    ----------
    n_rows, n_params : int
        M and N.
    l2 : float
        The weight of ``l2 / 2 |theta|^2`` in the objective.
    theta : ndarray, shape (N,)
        The point of linearisation.
    gradient : ndarray, shape (N,)
        ``A^T b + l2 theta``.
    b : ndarray, shape (M,), or None
        None where no finite ``b`` exists: solvers then start from `gradient`.
    signs : ndarray, shape (M,), or None
        The diagonal of ``D`` (-1, 0 or +1), or None for the identity.
    """

    @property
    def n_rows(self) -> int: ...  # noqa: D102
    @property
    def n_params(self) -> int: ...  # noqa: D102
    @property
    def l2(self) -> float: ...  # noqa: D102
    @property
    def theta(self) -> FloatArray: ...  # noqa: D102
    @property
    def gradient(self) -> FloatArray: ...  # noqa: D102
    @property
    def b(self) -> FloatArray | None: ...  # noqa: D102
    @property
    def signs(self) -> FloatArray | None: ...  # noqa: D102

    def matvec(self, v: FloatArray) -> FloatArray:
        """Return ``A v``, shape (M,)."""

    def rmatvec(self, u: FloatArray) -> FloatArray:
        """Return ``A^T u``, shape (N,)."""

    def gram(self, *, mixed: bool = False) -> FloatArray:
        """Return ``A^T D A`` as a new symmetric C-ordered (N, N) array.

        With `mixed` it may be assembled in float32.
        """

    def dual_gram(self) -> FloatArray:
        """Return ``A A^T`` as a new symmetric C-ordered (M, M) array."""

    def row_blocks(self) -> Iterator[tuple[FloatArray, FloatArray | None]]:
        """Yield blocks of rows of ``A``, shape (r, N), with their part of ``b``."""

    def kronecker_factors(self) -> Sequence[tuple[FloatArray, FloatArray]]:
        """Return a pair (U, V) a layer, with ``A^T A`` close to ``kron(U, V)`` on its block."""


@dataclass(frozen=True)
class Solution:
    """The answer of a solver for one damping.

    Attributes
    ----------
    step : ndarray, shape (N,)
        The step ``-s`` to be added to theta (from `State.solve`), or the vector asked for (from
        `State.correct`). Filled with NaN where `ok` is false.
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
        What happened, for a person; empty where nothing is to be said.
    """

    step: FloatArray
    ok: bool
    status: str
    rcond: float | None = None
    rank: int | None = None
    iterations: int = 0
    message: str = ""


class State(Protocol):
    """A linearisation factored for several dampings."""

    def solve(self, damping: float) -> Solution:
        """Return the damped step."""

    def correct(self, damping: float, c: FloatArray) -> Solution:
        """Return the solution x of ``(A^T D A + mu I) x = A^T D c``."""


class Solver(Protocol):
    """A way of solving the Newton system."""

    @property
    def name(self) -> str:
        """The name in the interface and in the history of a run."""

    def prepare(self, lin: Any) -> State:
        """Return the state that solves the system of `lin` for several dampings."""


class RefusedState:
    """The state of a solver that cannot answer this system: every answer says why."""

    def __init__(self, n_params: int, status: str, message: str) -> None:
        self._answer = failure(n_params, status, message)

    def solve(self, damping: float) -> Solution:
        """Return the refusal."""
        return self._answer

    def correct(self, damping: float, c: FloatArray) -> Solution:
        """Return the refusal."""
        return self._answer


def failure(
    n_params: int, status: str, message: str, *, rcond: float | None = None, rank: int | None = None
) -> Solution:
    """Return a solution without a step, poisoned with NaN so that its use cannot go unseen."""
    poison = np.full(n_params, np.nan)
    return Solution(poison, False, status, rcond, rank, 0, message)


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
    if not np.isfinite(step).all():
        return failure(step.size, "non_finite", "the step is not finite", rcond=rcond, rank=rank)
    return Solution(step, True, status, rcond, rank, iterations, message)


def decay_of(lin: LinearSystem) -> FloatArray | float:
    """Return l2: of each parameter, shape (N,), where the penalty spares some."""
    found: FloatArray | float = getattr(lin, "decay", lin.l2)
    return found


def total_shift(lin: LinearSystem, damping: float) -> FloatArray | float:
    """Return ``mu = l2 + damping`` after a check of `damping`; see `decay_of`."""
    return decay_of(lin) + check_positive("damping", damping, zero=True)


def least(mu: FloatArray | float) -> float:
    """Return the smallest entry of mu."""
    return float(mu.min()) if isinstance(mu, np.ndarray) else mu


def uniform_shift(lin: LinearSystem, damping: float) -> float:
    """Return mu of a system whose penalty counts all parameters alike."""
    mu = total_shift(lin, damping)
    if isinstance(mu, np.ndarray):
        raise ValueError("l2 spares the biases, but this needs one that counts all parameters")
    return mu


def data_residual(lin: LinearSystem, x: FloatArray) -> FloatArray | None:
    """Return ``A^T (b - A x)``, or None where there is no ``b``.

    A system with a method of this name answers itself: in one pass over its rows, without
    vectors as long as these.
    """
    own = getattr(lin, "data_residual", None)
    if own is not None:
        found: FloatArray | None = own(x)
        return found
    b = lin.b
    return None if b is None else lin.rmatvec(b - lin.matvec(x))


def own_rows(lin: LinearSystem) -> int:
    """Return the length of vectors over the rows: fewer than M where processes share the rows."""
    return int(getattr(lin, "own_rows", lin.n_rows))


def counted_rows(lin: LinearSystem) -> int:
    """Return how many of `own_rows` no other process holds: all, but those that all of them share.

    The shared ones, `lin.shared_rows`, come last, and count once: on rank 0.
    """
    return own_rows(lin) - int(getattr(lin, "shared_rows", 0))


def shrinkage_shift(lin: LinearSystem, mu: FloatArray | float) -> FloatArray | None:
    """Return ``(l2 / mu) theta``, the part of s that does not pass through A; None where it is 0.

    With ``s = (l2 / mu) theta + z``, ``z`` is the damped least-squares solution for
    ``b - A (l2 / mu) theta``.
    """
    if lin.l2 == 0.0:
        return None
    if isinstance(mu, np.ndarray):
        share = np.divide(decay_of(lin), mu, out=np.zeros_like(mu), where=mu > 0.0)
        return np.asarray(lin.theta * share)
    return np.asarray(lin.theta * (lin.l2 / mu), dtype=np.float64)
