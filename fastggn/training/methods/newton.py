"""Method "newton": the exact Hessian in a trust region, dense or matrix-free."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from fastggn.training.control.acceptance import Judge
from fastggn.training.control.stopping import StepTest
from fastggn.training.control.trust_region import BallStep, DenseModel, KrylovModel
from fastggn.training.regularisation.null_space import NullSpace, RegularisedHessian
from fastggn.training.resumable import State, put, take
from fastggn.training.step import Counts, Move, Verdict, norm

if TYPE_CHECKING:
    from fastggn.objective.point import Linearisation
    from fastggn.objective.problem import Problem


# Above this many parameters "auto" is matrix-free: the tridiagonal form costs 4/3 N^3 operations,
# most of them bound by memory, and the eigenvectors of the hard case some 10 N^3.
DENSE_LIMIT = 1000
FIRST_RADIUS = 1.0
# Times (1 + |theta|): beyond it every bounded step has been tried.
LARGEST_RADIUS = 1e8

Model = DenseModel | KrylovModel


def is_dense(n_params: int, solver: str) -> bool:
    """Whether N x N matrices are stored: not with "lsqr", nor with "auto" for many parameters."""
    return solver != "lsqr" and (solver != "auto" or n_params <= DENSE_LIMIT)


def choose_model(
    problem: Problem, solver: str, regularizer: NullSpace | None = None
) -> tuple[Callable[[Linearisation], Model], str]:
    """Return what builds the model of an iteration, and why it was chosen."""
    if regularizer is not None:
        stored = is_dense(problem.n_params, solver)
        name = "trust_region: dense" if stored else "steihaug: matrix-free"
        reason = f"{name}, Hessian regularised on the null space, N = {problem.n_params}"
        return RegularisedHessian(problem, regularizer, stored), reason
    if not is_dense(problem.n_params, solver):
        reason = f"steihaug: matrix-free trust region, N = {problem.n_params}"

        def krylov(point: Linearisation) -> Model:
            operator = problem.hessian_operator(point.theta)
            return KrylovModel(point.gradient, operator.matvec)

        return krylov, reason

    def dense(point: Linearisation) -> Model:
        return DenseModel(point.loss, point.gradient, problem.hessian(point.theta))

    return dense, f"trust_region: dense Hessian, N = {problem.n_params}"


class Newton:
    """Newton's method in a trust region."""

    def __init__(
        self,
        problem: Problem,
        solver: str,
        step_test: StepTest,
        counts: Counts,
        regularizer: NullSpace | None = None,
    ) -> None:
        self._build, self.solver = choose_model(problem, solver, regularizer)
        self._judge = Judge(problem, counts)
        self._step_test = step_test
        self._counts = counts
        self._radius = FIRST_RADIUS

    def advance(self, point: Linearisation) -> Move:
        """Build the model once, then shrink its ball until a step is accepted."""
        self._counts.assemblies += 1
        model = self._build(point)
        rejections = 0
        while True:
            self._counts.factorisations += 1
            proposal = model.step(self._radius)
            trial = self._judge(point, proposal.step, proposal.predicted)
            length = norm(proposal.step)
            verdict = None
            if not trial.accepted:
                rejections += 1
                if self._step_test(point.theta, length):
                    verdict = Verdict(
                        "converged_step",
                        f"no step longer than {length:.3g} lowers the loss or its gradient",
                    )
            self._resize(proposal, length, trial.gain, point)
            if trial.accepted or verdict is not None:
                return Move(
                    trial.point or point,
                    length,
                    model.name,
                    accepted=trial.accepted,
                    gain_ratio=trial.gain,
                    rank=model.rank,
                    rejections=rejections,
                    verdict=verdict,
                )

    def state(self) -> State:
        """Return the radius, and what judge and model remember."""
        build = self._build.state() if isinstance(self._build, RegularisedHessian) else None
        return {**take(self, "_radius"), "judge": self._judge.state(), "model": build}

    def restore(self, state: State) -> None:
        """Take the state over."""
        put(self, state, "_radius")
        self._judge.restore(state["judge"])
        if isinstance(self._build, RegularisedHessian):
            self._build.restore(state["model"])

    def _resize(self, proposal: BallStep, length: float, gain: float, point: Linearisation) -> None:
        if not gain >= 0.25:
            self._radius = 0.25 * length
        elif gain > 0.75 and proposal.on_boundary:
            self._radius = min(2.0 * self._radius, LARGEST_RADIUS * (1.0 + norm(point.theta)))
