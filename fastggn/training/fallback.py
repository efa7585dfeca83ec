"""Solve a run's Newton systems, and retreat where one is singular or indefinite."""

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


# A gain of less than this share of the loss begins the last phase, in float64.
SLOW = 2e-3


class Fallback(Resumable):
    """The solvers of one run, in order: the matrix in float32, the solver asked for, QR."""

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
    """The system at one point, solved for as many dampings as asked.

    Three solvers are tried in this order: the matrix in float32 (if the run has it), the solver
    that was asked for, and QR.
    """

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
        """Return the step for `damping`, by QR once the solver has failed too often."""
        systems, shift = self._systems, Shift(damping, self._point.decay)
        systems.work.factorisations += 1
        if self._mixed:
            if damping < self._state.least_damping:
                systems.mixed = None  # the last phase: the damping is the rounding of the matrix
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
        # In an indefinite curvature, damping above its lowest eigenvalue is the method itself, and
        # there is no least-squares form.
        if self.name == "qr" or self._point.signs is not None:
            return False
        if solution.message:
            self._systems.warn(f"solver {self.name!r} at damping {damping:.3g}: {solution.message}")
        self._failures += not solution.ok
        if solution.ok or self._failures <= self._systems.patience:
            return False
        # Where damping did not help once it will not help at the next point either.
        self._systems.patience = 0
        return True

    def sums(self) -> CurvatureSums:
        """Return the sums over the eigenvalues at ``mu = l2``, by QR where the factor is poor."""
        self._systems.work.factorisations += 1
        found = self._state.sums(self._point.decay)
        if found is None and self.name != "qr":
            self._prepare(get_solver("qr"))
            found = self._state.sums(self._point.decay)
        if found is None:
            raise np.linalg.LinAlgError("the curvature has no finite eigenvalues")
        return found

    def correct(self, damping: float, c: NDArray[np.float64]) -> Solution:
        """Return ``(A^T D A + mu I)^-1 A^T D c`` as a solution's step."""
        return self._state.solve(Shift(damping, self._point.decay), c)


def _step(solution: Solution) -> Solution:
    """Return the step ``-x``, in place: the array was made for this solution."""
    np.negative(solution.step, out=solution.step)
    return solution
