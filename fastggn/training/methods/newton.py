"""Method "newton": the exact Hessian in a trust region, stored or matrix-free."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastggn.training.control.acceptance import Acceptance, Trial
from fastggn.training.control.convergence import StepTest, slope_errors
from fastggn.training.control.trust_region import DenseModel, KrylovModel, TrustRadius
from fastggn.training.methods.trials import Proposal, TrialSteps
from fastggn.training.regularisation.null_space import NullSpace, RegularisedHessian
from fastggn.training.resumable import Resumable
from fastggn.training.step import Choice, Ending, Work, norm

if TYPE_CHECKING:
    from fastggn.objective.point import Point
    from fastggn.objective.problem import Problem


# Above so many parameters "auto" is matrix-free: the tridiagonal form costs 4/3 N^3 operations,
# mostly bound by memory, and the eigenvectors of the hard case about 10 N^3.
DENSE_LIMIT = 1000

Model = DenseModel | KrylovModel


def is_dense(n_params: int, solver: str) -> bool:
    """Whether the method stores N x N matrices, as `solver` and the size decide."""
    return solver != "lsqr" and (solver != "auto" or n_params <= DENSE_LIMIT)


class ExactHessian(Resumable):
    """Builds the model of each iteration from the Hessian, as a matrix or by its products."""

    def __init__(self, problem: Problem, dense: bool) -> None:
        self._problem = problem
        self._dense = dense

    def __call__(self, point: Point) -> Model:
        """Return the model at `point`."""
        if self._dense:
            hessian = self._problem.hessian(point.theta)
            return DenseModel(point.loss, point.gradient, hessian, lambda: slope_errors(point))
        return KrylovModel(point.gradient, self._problem.hessian_operator(point.theta).matvec)


class NewtonSteps(TrialSteps):
    """Newton's method in a trust region."""

    _resumes = (*TrialSteps._resumes, "_radius", "_model")
    short = "no step longer than {:.3g} |theta| lowers the loss or its gradient"

    def __init__(
        self,
        problem: Problem,
        solver: str,
        step_test: StepTest,
        work: Work,
        regularizer: NullSpace | None = None,
    ) -> None:
        super().__init__(Acceptance(problem, work), step_test)
        dense = is_dense(problem.n_params, solver)
        self._work = work
        self._radius = TrustRadius()
        self._model: ExactHessian | RegularisedHessian
        if regularizer is None:
            self._model = ExactHessian(problem, dense)
        else:
            self._model = RegularisedHessian(problem, regularizer, dense)
        space = "" if regularizer is None else " regularised on the null space"
        kind = "dense Hessian" if dense else "matrix-free Hessian"
        name = "trust_region" if dense else "steihaug"
        self._choice = Choice(name, f"{kind}{space}, N = {problem.n_params}")

    @property
    def solver(self) -> Choice:
        """The model of the loss, and the reason for its choice."""
        return self._choice

    def _build(self, point: Point) -> Model:
        self._work.assemblies += 1
        self._radius.begin(norm(point.theta))
        return self._model(point)

    def _propose(self, point: Point, model: Model) -> Proposal:
        self._work.factorisations += 1
        found = model.step(self._radius.value)
        rank, bounded = model.rank, found.on_boundary
        return Proposal(found.step, found.predicted, model.name, rank=rank, on_boundary=bounded)

    def _adapt(self, point: Point, trial: Trial, length: float, on_boundary: bool) -> Ending | None:
        self._radius.adapt(trial.gain, length, on_boundary, norm(point.theta))
        return None if trial.accepted else self._too_short(point, length)
