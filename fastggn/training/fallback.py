"""Solve a run's Newton systems, and fall back where one is singular or indefinite."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray

from fastggn.runtime.errors import SingularSystemWarning
from fastggn.solvers.base import Shift
from fastggn.solvers.choice import choose_solver, get_solver
from fastggn.solvers.cholesky import CORRECT_BELOW, CholeskySolver
from fastggn.solvers.over_ranks import over_ranks
from fastggn.training.resumable import Resumable, State
from fastggn.training.step import Choice, Work

if TYPE_CHECKING:
    from fastggn.objective.point import Point
    from fastggn.objective.problem import Problem
    from fastggn.solvers.base import CurvatureSums, Solution, Solver
    from fastggn.training.control.sampling import CurvatureSamples


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
        self.samples: CurvatureSamples | None = None
        self._warned = False

    @property
    def sampling(self) -> bool:
        """Whether the next curvature is that of some samples."""
        return self.samples is not None and not self.samples.whole

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
        if self.samples is not None:
            retreats["samples"] = self.samples.state()
        return {**super().state(), **retreats}

    def restore(self, state: State) -> None:
        """Restore the fallbacks, and the solver that the first part of the run chose."""
        super().restore(state)
        self.solver = get_solver(state["solver"])
        if self.samples is not None:
            self.samples.restore(state["samples"])
        if not state["mixed"]:
            self.mixed = None

    def warn(self, message: str) -> None:
        """Issue a `SingularSystemWarning`, once in a run."""
        if not self._warned:
            self._warned = True
            warnings.warn(message, SingularSystemWarning, stacklevel=2)


class System:
    """The system at one point, solved for any number of dampings by the solvers of `Fallback`."""

    def __init__(self, systems: Fallback, point: Point, *, last: bool = False) -> None:
        self._systems = systems
        self._point = point
        self._failures = 0
        self._mixed = systems.mixed is not None
        self._linear, samples = point, systems.samples
        if samples is not None:
            self._linear = samples.last_of(point) if last else samples.of(point)
        systems.work.assemblies += 1
        self._prepare(systems.mixed or systems.solver)

    @property
    def sampled(self) -> bool:
        """Whether the curvature is that of some samples."""
        return self._linear is not self._point

    @property
    def n_samples(self) -> int | None:
        """The samples of the curvature; None where it is always that of all."""
        samples = self._systems.samples
        return None if samples is None else self._linear.curvature_samples

    def _prepare(self, solver: Solver) -> None:
        self._state = over_ranks(solver, self._systems.comm).prepare(self._linear)
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
        while self._gives_up(solution, damping):
            self._retreat()
            systems.work.factorisations += 1
            solution = self._state.solve(shift)
        return _step(solution)

    def _gives_up(self, solution: Solution, damping: float) -> bool:
        # An indefinite curvature has no least-squares form, and needs damping beyond its lowest
        # eigenvalue in any case.
        if self.name == "qr" or self._linear.signs is not None:
            return False
        if solution.message and not self.sampled:
            self._systems.warn(f"solver {self.name!r} at damping {damping:.3g}: {solution.message}")
        self._failures += not solution.ok
        if solution.ok or self._failures <= self._systems.patience:
            return False
        if not self.sampled:  # if damping did not help here, it will not help at the next point
            self._systems.patience = 0
        return True

    def _retreat(self) -> None:
        """Take the curvature from all samples, here and later; if it is, take QR of the rows."""
        if not self.sampled:
            self._prepare(get_solver("qr"))
            return
        assert self._systems.samples is not None
        self._systems.samples.take_all()
        self._systems.work.assemblies += 1
        self._linear, self._failures = self._point, 0
        self._prepare(self._systems.solver)

    def predicted_decrease(self, solution: Solution, damping: float) -> float:
        """Return the decrease that the model of all samples promises for the answer of `solve`."""
        step, samples, judge = solution.step, self._systems.samples, self._point
        if samples is not None and self.sampled:
            judge = samples.judge_of(self._point)
        elif self.name == "cholesky" and (solution.rcond or 0.0) >= CORRECT_BELOW:
            # (A^T D A + mu I) s = -g to many digits, which tells s^T A^T D A s without a product.
            return 0.5 * (damping * float(step @ step) - float(self._point.gradient @ step))
        return judge.predicted_decrease(step)

    def sums(self) -> CurvatureSums:
        """Return the sums over the eigenvalues at ``mu = l2``, by QR if the factor is poor.

        Where the curvature is that of some samples, they are estimates for all.
        """
        self._systems.work.factorisations += 1
        while (found := self._sums()) is None:
            if self.name == "qr":
                raise np.linalg.LinAlgError("the curvature has no finite eigenvalues")
            self._retreat()
        return found

    def _sums(self) -> CurvatureSums | None:
        if not self.sampled:
            return self._state.sums(self._point.decay)
        assert self._systems.samples is not None
        return self._systems.samples.sums(self._state, self._linear, self._point)

    def bend(self, damping: float, velocity: NDArray[np.float64]) -> Solution:
        """Return ``(A^T D A + mu I)^-1 A^T D c``, c the second derivative along the velocity."""
        c = self._linear.curvature_along(velocity)
        return self._state.solve(Shift(damping, self._point.decay), c)


def _step(solution: Solution) -> Solution:
    """Return the step ``-x``, in place."""
    np.negative(solution.step, out=solution.step)
    return solution
