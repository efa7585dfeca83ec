"""One answer for all ranks: where each factors the same matrix, that of rank 0 counts."""

from __future__ import annotations

from dataclasses import astuple, replace

import numpy as np

from fastggn.runtime.comm import Comm
from fastggn.solvers.base import (
    CurvatureSums,
    FloatArray,
    LinearSystem,
    Shift,
    Solution,
    Solver,
    State,
)


def over_ranks(solver: Solver, comm: Comm) -> Solver:
    """Return a solver that gives the same solution on all ranks; itself, in one process."""
    return solver if comm.size == 1 else AgreedSolver(solver, comm)


class AgreedSolver:
    """A solver whose solutions are rank 0's on every rank.

    The ranks factor the same bits redundantly, which costs no more time than waiting for one of
    them would. On processors of different kinds BLAS rounds differently; the ranks then still
    take the same step and the same decisions.

    The dual's system is over the rows of all ranks: their samples (no more
    than N / n_L) are gathered on each of them.
    """

    def __init__(self, solver: Solver, comm: Comm) -> None:
        self._solver = solver
        self._comm = comm
        self.name = solver.name

    def prepare(self, lin: LinearSystem) -> AgreedState:
        """Return the solver's own state, its answers agreed upon."""
        if self.name != "dual":
            return AgreedState(self._solver.prepare(lin), self._comm)
        return GatheredState(self._solver.prepare(lin.gathered()), self._comm)


class AgreedState(State):
    """A state whose answers are rank 0's."""

    def __init__(self, state: State, comm: Comm) -> None:
        self._state = state
        self._comm = comm
        self.least_damping = comm.agree(state.least_damping)

    def solve(self, shift: Shift, c: FloatArray | None = None) -> Solution:
        """Return x; see `State.solve`."""
        own = self._state.solve(shift, c)
        step = self._comm.broadcast(np.ascontiguousarray(own.step))
        _, *rest = astuple(own)
        return Solution(step, *self._comm.agree(rest))

    def sums(self, decay: FloatArray | float) -> CurvatureSums | None:
        """Return the sums over the eigenvalues; see `State.sums`."""
        own = self._state.sums(decay)
        # The numbers are rank 0's; the functions belong to this rank's own factor.
        numbers = None if own is None else own.numbers()
        agreed = self._comm.agree(numbers)
        if own is None or agreed is None:
            return agreed
        return replace(agreed, leverages=own.leverages, whiten=own.whiten)


class GatheredState(AgreedState):
    """The state of a system with the rows of all ranks, asked about vectors over this rank's."""

    def solve(self, shift: Shift, c: FloatArray | None = None) -> Solution:
        """Return x; see `State.solve`."""
        return super().solve(shift, None if c is None else self._comm.concatenate(c))
