"""Solve a run's Newton systems, and retreat where one is singular or indefinite."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastggn.errors import SingularSystemWarning
from fastggn.solvers import choose_solver, get_solver
from fastggn.training.moves import Counts

if TYPE_CHECKING:
    from fastggn.linearisation import Linearisation
    from fastggn.problem import Problem
    from fastggn.solvers import Solution

__all__ = ["System", "Systems"]


class Systems:
    """The systems of one run: one solver, and QR of the Jacobian to fall back upon.

    Parameters
    ----------
    problem : Problem
        The problem to be solved, or for mini-batches one of their size.
    solver : str
        "auto", "cholesky", "dual", "lsqr" or "qr".
    needs_minimum_norm : bool
        Whether the undamped step of a singular system will be asked for.
    patience : int
        Failed solutions at one point before the retreat to QR; in between the caller raises
        the damping.
    counts : Counts
        Where the work is counted.
    """

    def __init__(
        self,
        problem: Problem,
        solver: str,
        *,
        needs_minimum_norm: bool,
        patience: int,
        counts: Counts,
    ) -> None:
        self.solver, self.reason = choose_solver(
            solver, problem, needs_minimum_norm=needs_minimum_norm
        )
        self.patience = patience
        self.counts = counts
        self._warned = False

    def prepare(self, point: Linearisation) -> System:
        """Assemble (and factor, where the solver does) the system at `point`."""
        self.counts.assemblies += 1
        return System(self, point)

    def warn(self, message: str) -> None:
        """Issue the run's one `SingularSystemWarning`."""
        if not self._warned:
            self._warned = True
            warnings.warn(message, SingularSystemWarning, stacklevel=2)


class System:
    """The system at one point, solved for as many dampings as asked."""

    def __init__(self, systems: Systems, point: Linearisation) -> None:
        self._systems = systems
        self._point = point
        self._failures = 0
        self._state = systems.solver.prepare(point)
        self.name = systems.solver.name

    def solve(self, damping: float) -> Solution:
        """Return the step for `damping`, by QR once the solver has failed too often."""
        self._systems.counts.factorisations += 1
        solution = self._state.solve(damping)
        if self.name == "qr":  # rank-revealing: singular systems are its business
            return solution
        # In an indefinite curvature, damping above its lowest eigenvalue is the method itself.
        if solution.message and self._point.signs is None:
            self._systems.warn(f"solver {self.name!r} at damping {damping:.3g}: {solution.message}")
        if solution.ok:
            return solution
        self._failures += 1
        if self._failures <= self._systems.patience or not self._retreat():
            return solution
        return self.solve(damping)

    def correct(self, damping: float, c: NDArray[np.float64]) -> Solution:
        """Return ``(A^T D A + mu I)^-1 A^T D c`` as a solution's step."""
        return self._state.correct(damping, c)

    def _retreat(self) -> bool:
        if self._point.signs is not None:  # an indefinite curvature has no least-squares form
            return False
        # Where damping did not help once it will not help at the next point either.
        self._systems.patience = 0
        qr = get_solver("qr")
        self._state = qr.prepare(self._point)
        self.name = qr.name
        return True
