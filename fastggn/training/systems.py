"""Solve a run's Newton systems, and retreat where one is singular or indefinite."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastggn.runtime.comm import comm_of
from fastggn.runtime.errors import SingularSystemWarning
from fastggn.solvers.choice import agreed, choose_solver, get_solver
from fastggn.solvers.cholesky import CholeskySolver
from fastggn.solvers.curvature_sums import SumsState
from fastggn.training.resumable import Resumable, State
from fastggn.training.step import Choice, Work

if TYPE_CHECKING:
    from fastggn.objective.point import Point
    from fastggn.objective.problem import Problem
    from fastggn.solvers.base import Solution, Solver
    from fastggn.solvers.curvature_sums import CurvatureSums


# A gain of less than this share of the loss begins the last phase, in float64.
SLOW = 2e-3


class Systems(Resumable):
    """The systems of one run: one solver, and QR of the Jacobian to fall back upon."""

    _resumes: ClassVar[tuple[str, ...]] = ("patience", "reason", "_last_loss", "_warned")

    def __init__(
        self,
        problem: Problem,
        solver: str,
        *,
        needs_minimum_norm: bool,
        patience: int,
        work: Work,
        mixed: bool = False,
    ) -> None:
        self.solver, why = choose_solver(solver, problem, needs_minimum_norm=needs_minimum_norm)
        self.reason = why.partition(": ")[2]
        self.mixed = CholeskySolver(mixed=True) if mixed else None
        self.comm = comm_of(problem)
        self._last_loss: float | None = None
        if mixed and self.solver.name != "cholesky":
            raise ValueError(
                "precision='mixed' assembles the matrix of solver 'cholesky', but the solver is "
                f"{why}"
            )
        self.patience = patience
        self.work = work
        self._warned = False

    @property
    def choice(self) -> Choice:
        """The solver, and why it was chosen."""
        return Choice(self.solver.name, self.reason)

    def prepare(self, point: Point) -> System:
        """Assemble (and factor, where the solver does) the system at `point`."""
        if self.mixed is not None:
            last, self._last_loss = self._last_loss, float(point.loss)
            if last is not None and not last - point.loss > SLOW * last:
                self.mixed = None
        return System(self, point)

    def state(self) -> State:
        """Return the solver chosen, and the retreats made."""
        retreats = {"solver": self.solver.name, "mixed": self.mixed is not None}
        return {**super().state(), **retreats}

    def restore(self, state: State) -> None:
        """Restore the retreats, and the solver that the memory allowed in the first part."""
        super().restore(state)
        self.solver = get_solver(state["solver"])
        if not state["mixed"]:
            self.mixed = None

    def warn(self, message: str) -> None:
        """Issue the run's one `SingularSystemWarning`."""
        if not self._warned:
            self._warned = True
            warnings.warn(message, SingularSystemWarning, stacklevel=2)


class System:
    """The system at one point, solved for as many dampings as asked."""

    def __init__(self, systems: Systems, point: Point) -> None:
        self._systems = systems
        self._point = point
        self._failures = 0
        self._prepare(systems.mixed or systems.solver)

    def _prepare(self, solver: Solver) -> None:
        self._systems.work.assemblies += 1
        self._mixed = solver is self._systems.mixed
        self._state = agreed(solver, self._systems.comm).prepare(self._point)
        self._least_damping = getattr(self._state, "least_damping", 0.0)
        self.name = solver.name

    def _solve_mixed(self, damping: float) -> Solution | None:
        """Return the step by the matrix in float32, or None where float64 must take over.

        For this point where Cholesky fails; for good where the damping has come down to the
        rounding of the matrix: the last phase.
        """
        if damping < self._least_damping:
            self._systems.mixed = None
            return None
        solution = self._state.solve(damping)
        return solution if solution.ok else None

    def solve(self, damping: float) -> Solution:
        """Return the step for `damping`, by QR once the solver has failed too often."""
        self._systems.work.factorisations += 1
        if self._mixed:
            mixed = self._solve_mixed(damping)
            if mixed is not None:
                return mixed
            self._prepare(self._systems.solver)
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

    def sums(self) -> CurvatureSums:
        """Return the sums over the eigenvalues at ``mu = l2``, by QR where the factor is poor."""
        self._systems.work.factorisations += 1
        found = self._state.sums() if isinstance(self._state, SumsState) else None
        if found is None and self.name != "qr":
            qr = get_solver("qr")
            self._state = agreed(qr, self._systems.comm).prepare(self._point)
            self.name = qr.name
            found = self._state.sums() if isinstance(self._state, SumsState) else None
        if found is None:
            raise np.linalg.LinAlgError("the curvature has no finite eigenvalues")
        return found

    def correct(self, damping: float, c: NDArray[np.float64]) -> Solution:
        """Return ``(A^T D A + mu I)^-1 A^T D c`` as a solution's step."""
        return self._state.correct(damping, c)

    def _retreat(self) -> bool:
        if self._point.signs is not None:  # an indefinite curvature has no least-squares form
            return False
        # Where damping did not help once it will not help at the next point either.
        self._systems.patience = 0
        qr = get_solver("qr")
        self._state = agreed(qr, self._systems.comm).prepare(self._point)
        self.name = qr.name
        return True
