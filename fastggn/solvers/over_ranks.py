"""One answer for all ranks: where each factors the same matrix, that of rank 0 counts."""

from __future__ import annotations

from dataclasses import astuple
from typing import Any

import numpy as np

from fastggn.runtime.comm import Comm
from fastggn.solvers.base import FloatArray, Solution, Solver, State
from fastggn.solvers.curvature_sums import CurvatureSums, SumsState


class AgreedSolver:
    """A solver whose solutions are rank 0's on every rank.

    The ranks factor the same bits redundantly, which costs no more time than waiting for one of
    them would. On processors of different kinds BLAS rounds differently; the ranks then still
    take the same step and the same decisions.

    The dual's system is over the rows: it is solved for those of all ranks, whose samples (no more
    than N / n_L) are gathered on each.
    """

    def __init__(self, solver: Solver, comm: Comm) -> None:
        self._solver = solver
        self._comm = comm
        self.name = solver.name

    def prepare(self, lin: Any) -> AgreedState:
        """Return the solver's own state, its answers agreed upon."""
        if self.name != "dual":
            return AgreedState(self._solver.prepare(lin), self._comm)
        whole = lin.gathered()
        return GatheredState(self._solver.prepare(whole), self._comm, lin, whole)


class AgreedState:
    """A state whose answers are rank 0's."""

    def __init__(self, state: State, comm: Comm) -> None:
        self._state = state
        self._comm = comm
        self.least_damping: float = comm.agree(getattr(state, "least_damping", 0.0))

    def solve(self, damping: float) -> Solution:
        """Return the damped step; see `State.solve`."""
        return self._agreed(self._state.solve(damping))

    def correct(self, damping: float, c: FloatArray) -> Solution:
        """Return the solution for a vector over the rows; see `State.correct`."""
        return self._agreed(self._state.correct(damping, c))

    def sums(self) -> CurvatureSums | None:
        """Return the sums over the eigenvalues; see `SumsState`."""
        own = self._state.sums() if isinstance(self._state, SumsState) else None
        return self._comm.agree(own)

    def _agreed(self, own: Solution) -> Solution:
        step = self._comm.broadcast(np.ascontiguousarray(own.step))
        _, *rest = astuple(own)
        return Solution(step, *self._comm.agree(rest))


class GatheredState(AgreedState):
    """The state of a system with the rows of all ranks, asked about one with this rank's."""

    def __init__(self, state: State, comm: Comm, own: Any, whole: Any) -> None:
        super().__init__(state, comm)
        self._own = own
        self._whole = whole

    def solve(self, damping: float) -> Solution:
        """Return the damped step; see `State.solve`."""
        self._whole.reweigh(self._own.l2)
        return super().solve(damping)

    def correct(self, damping: float, c: FloatArray) -> Solution:
        """Return the solution for a vector over this rank's rows; see `State.correct`."""
        self._whole.reweigh(self._own.l2)
        return super().correct(damping, self._comm.concatenate(c))

    def sums(self) -> CurvatureSums | None:
        """Return the sums over the eigenvalues; see `SumsState`."""
        self._whole.reweigh(self._own.l2)
        return super().sums()
