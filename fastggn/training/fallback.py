"""Solve a run's Newton systems, and fall back where one is singular or indefinite."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastggn.runtime.errors import SingularSystemWarning
from fastggn.solvers.base import Shift
from fastggn.solvers.choice import choose_solver, get_solver
from fastggn.solvers.cholesky import CholeskySolver
from fastggn.solvers.over_ranks import over_ranks
from fastggn.training.resumable import Resumable, State
from fastggn.training.step import Choice, Work

if TYPE_CHECKING:
    from fastggn.objective.point import Point
    from fastggn.objective.problem import Problem
    from fastggn.solvers.base import CurvatureSums, Solution, Solver


# An iteration that lowers the loss by less than this share begins the last phase, in float64.
SLOW = 2e-3


class Fallback(Resumable):
    """The solvers of one run, in order: the matrix in float32, the requested solver, QR."""

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
        self.comm = problem.comm
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
        """The solver, and the reason for its choice."""
        return Choice(self.solver.name, self.reason)

    def prepare(self, point: Point) -> System:
        """Assemble the system at `point`, and factor it if the solver does so."""
        if self.mixed is not None:
            last, self._last_loss = self._last_loss, float(point.loss)
            if last is not None and not last - point.loss > SLOW * last:
                self.mixed = None
        return System(self, point)

    def state(self) -> State:
        """Return the chosen solver, and the fallbacks so far."""
        retreats = {"solver": self.solver.name, "mixed": self.mixed is not None}
        return {**super().state(), **retreats}

    def restore(self, state: State) -> None:
        """Restore the fallbacks, and the solver that the first part of the run chose."""
        super().restore(state)
        self.solver = get_solver(state["solver"])
        if not state["mixed"]:
            self.mixed = None

    def warn(self, message: str) -> None:
        """Issue a `SingularSystemWarning`, once in a run."""
        if not self._warned:
            self._warned = True
            warnings.warn(message, SingularSystemWarning, stacklevel=2)


class System:
    """The system at one point, solved for any number of dampings by the solvers of `Fallback`."""

    def __init__(self, systems: Fallback, point: Point) -> None:
        self._systems = systems
        self._point = point
        self._failures = 0
        self._mixed = systems.mixed is not None
        systems.work.assemblies += 1
        self._prepare(systems.mixed or systems.solver)

    def _prepare(self, solver: Solver) -> None:
        self._state = over_ranks(solver, self._systems.comm).prepare(self._point)
        self.name = solver.name

    def solve(self, damping: float) -> Solution:
        """Return the step for `damping`, by QR after too many failures of the solver."""
        systems, shift = self._systems, Shift(damping, self._point.decay)
        systems.work.factorisations += 1
        if self._mixed:
            if damping < self._state.least_damping:
                systems.mixed = None  # the last phase: the matrix rounds to the damping
            else:
                solution = self._state.solve(shift)
                if solution.ok:
                    return _step(solution)
            self._mixed = False
            systems.work.assemblies += 1
            self._prepare(systems.solver)
        solution = self._state.solve(shift)
        if self._needs_qr(solution, damping):
            self._prepare(get_solver("qr"))
            systems.work.factorisations += 1
            solution = self._state.solve(shift)
        return _step(solution)

    def _needs_qr(self, solution: Solution, damping: float) -> bool:
        # An indefinite curvature has no least-squares form, and needs damping beyond its lowest
        # eigenvalue in any case.
        if self.name == "qr" or self._point.signs is not None:
            return False
        if solution.message:
            self._systems.warn(f"solver {self.name!r} at damping {damping:.3g}: {solution.message}")
        self._failures += not solution.ok
        if solution.ok or self._failures <= self._systems.patience:
            return False
        # If damping did not help here, it will not help at the next point.
        self._systems.patience = 0
        return True

    def sums(self) -> CurvatureSums:
        """Return the sums over the eigenvalues at ``mu = l2``, by QR if the factor is poor."""
        self._systems.work.factorisations += 1
        found = self._state.sums(self._point.decay)
        if found is None and self.name != "qr":
            self._prepare(get_solver("qr"))
            found = self._state.sums(self._point.decay)
        if found is None:
            raise np.linalg.LinAlgError("the curvature has no finite eigenvalues")
        return found

    def correct(self, damping: float, c: NDArray[np.float64]) -> Solution:
        """Return the solution ``(A^T D A + mu I)^-1 A^T D c``."""
        return self._state.solve(Shift(damping, self._point.decay), c)


def _step(solution: Solution) -> Solution:
    """Return the step ``-x``, in place."""
    np.negative(solution.step, out=solution.step)
    return solution
