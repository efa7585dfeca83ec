"""Method "lm" with a weight decay that the evidence chooses (MacKay 1992; Foresee and Hagan 1997).

After each accepted step, one update of alpha and beta uses the effective number of parameters at
the new point (docs/decisions/0015-evidence-updates.md). The update shares the matrix of the next
step, so that a run assembles only one more matrix than plain Levenberg-Marquardt, at its end.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fastggn.objective.residual_problem import ResidualProblem
from fastggn.training.control.stopping import SETTLED
from fastggn.training.fallback import Fallback, System
from fastggn.training.methods.levenberg_marquardt import LevenbergMarquardtSteps
from fastggn.training.methods.named import AnyMethod, LevenbergMarquardt
from fastggn.training.regularisation.evidence import (
    LEAST_FREE,
    EvidenceEstimate,
    check_likelihood,
    check_residuals,
    likelihood_of,
)
from fastggn.training.regularisation.priors import Evidence, prior_classes, relative_precisions
from fastggn.training.regularisation.shares import OutputShares
from fastggn.training.resumable import State
from fastggn.training.step import Ending, Iteration, WrappedMethod

if TYPE_CHECKING:
    from fastggn.objective.point import Point
    from fastggn.objective.problem import Problem
    from fastggn.solvers.base import CurvatureSums
    from fastggn.training.regularisation.null_space import NullSpace


EPS = float(np.finfo(float).eps)
# alpha and beta have settled if an update changes l2 by less than this share.
SETTLED_SHARE = 1e-6
# Losses for two values of l2 with a larger relative difference are not compared: the fall by the
# step and the rise by l2 can cancel.
STEADY_SHARE = 1e-3
# Below so many effective parameters the samples determine nothing: theta tends to 0, and alpha
# would tend to infinity. Then alpha is fixed.
LEAST_EFFECTIVE = 1e-6
# The same limit for one of several classes; an unnecessary unit is switched off long before.
LEAST_OF_CLASS = 1e-3
# A count takes two factorisations. Where those of this size are much of an iteration, with fewer
# rows than so many times N or with a sample, gamma is counted in every third iteration only; in
# every fourth with several betas, which change there too; else with few rows in every sixth.
# Between two counts alpha changes by no more than a factor. With an alpha for each unit it is
# counted always: a gamma falls with its unit, and old ones switch off units that have a use.
LARGE, FEW_ROWS, MANY_ROWS, COASTING = 64, 2, 8, 1.5
# The evidence has settled if it stays within the tolerance for so many iterations.
SETTLING = 20


class KeptFallback(Fallback):
    """A fallback that keeps the last system for the evidence and for the next step."""

    _resumes = (*Fallback._resumes, "_assembled")

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        if self.solver.name == "lsqr":
            raise ValueError(
                "fastggn.Evidence counts parameters by a factor, and no matrix fits here "
                f"({self.solver.name}: {self.reason})"
            )
        self._kept: System | None = None
        self._kept_for: Point | None = None
        self._assembled = False  # whether the assembly at the current point is counted

    def prepare(self, point: Point) -> System:
        """Return the system at `point`: the kept system if it belongs to the same object."""
        refused = self._kept is not None and self._kept.sampled and not self.sampling
        if self._kept is None or self._kept_for is not point or refused:
            counted = self._assembled and self._kept is None  # before the resumption
            if counted and self.samples is not None:
                self.samples.again()
            self._kept = None  # free the matrix before the next assembly
            self._kept = super().prepare(point)
            self._kept_for = point
            self._assembled = True
            self.work.assemblies -= counted
        return self._kept

    def last(self, point: Point) -> System:
        """Return the system that counts the effective parameters of a result."""
        if not self.sampling:
            return self.prepare(point)
        self._kept = None
        return System(self, point, last=True)

    def arrive(self, point: Point) -> None:
        """Note that the run is at `point`, before its assembly if that is not the kept one."""
        self._assembled = self._assembled and self._kept_for is point


class EvidenceControl(WrappedMethod):
    """Levenberg-Marquardt on ``data_loss + l2/2 |theta|^2``, with l2 = alpha / (beta unit)."""

    _resumes = (
        *("_alpha", "_beta", "_least_error", "_alphas", "_betas", "_gammas"),
        *("_gamma", "_counted", "_slope", "_iterations", "_mark", "_marked"),
        *WrappedMethod._resumes,
    )

    def __init__(
        self,
        problem: Problem,
        method: LevenbergMarquardtSteps,
        systems: KeptFallback,
        options: Evidence,
    ) -> None:
        super().__init__(method)
        self._problem = problem
        self._per = options.per
        self._tolerance = options.tolerance
        self._classes = prior_classes(problem.network, options.per)
        self._alphas: np.ndarray | None = None  # the alpha of each of several classes
        if self._classes is not None:
            self._sizes = np.bincount(self._classes)
            self._alphas = np.zeros(self._sizes.size)
        self._gamma = self._counted = 0.0  # of the last count, and the l2 there
        self._slope = 0.0  # of the logarithm of gamma's odds, over the logarithm of l2
        self._class_gammas = None if self._classes is None else np.zeros(self._sizes.size)
        self._likelihood = likelihood_of(problem)
        n_rows, n = problem.n_rows, problem.n_params
        many = systems.samples is None and n_rows >= MANY_ROWS * n
        much = min(n_rows, n) >= LARGE and not many and self._classes is None
        few = n_rows < FEW_ROWS * n
        seldom = 4 if self._likelihood.n_levels > 1 else 6 if few else 3
        self._every = seldom if much else 1
        self._iterations = self._marked = 0
        self._mark = -np.inf  # the log evidence at the iteration `_marked`
        self._systems = systems
        self._alpha: float | None = None
        self._beta = 1.0
        self._least_error = 0.0
        self._betas: np.ndarray | None = None  # the beta and the gamma of each of several outputs
        self._gammas: np.ndarray | None = None
        if self._likelihood.n_levels > 1:
            self._betas = np.ones(problem.n_outputs)
            self._gammas = np.zeros(problem.n_outputs)
            self._shares = OutputShares(problem, few)

    def step(self, point: Point) -> Iteration:
        """Do one iteration of the inner method, and update alpha and beta after it."""
        if self._alpha is None:
            point = self._begin(point)
        iteration = self._method.step(point)
        arrived, stop, change = iteration.point, iteration.stop, 0.0
        if self._iterations % self._every == 0 or stop is not None:
            arrived, change = self._weigh(arrived)
            self._count(arrived)
            limit = np.inf
        else:
            limit = COASTING
        change = max(self._update(arrived, limit), change)
        self._systems.arrive(arrived)
        self._iterations += 1
        if stop is not None and stop.status in SETTLED and change > SETTLED_SHARE:
            stop = None  # converged for the old l2 only
        if stop is None and 0.0 < self._tolerance and self._iterations - self._marked >= SETTLING:
            message = f"the log evidence changed by less than {self._tolerance:g} in {SETTLING}"
            stop = Ending("converged_loss", f"{message} iterations")
        return replace(
            iteration,
            point=arrived,
            stop=stop,
            alpha=self._alpha,
            beta=self._beta,
            effective_parameters=self._gamma,
            settled=change <= STEADY_SHARE,
        )

    def evidence(self, point: Point) -> EvidenceEstimate | None:
        """Return the evidence at the end of a run, or None without an iteration."""
        if self._alpha is None:
            return None
        return self._estimate(point, self._systems.last(point).sums())

    def _estimate(self, point: Point, sums: CurvatureSums) -> EvidenceEstimate:
        """Return the evidence for the l2 of a point."""
        relative, beta = self._relative(), self._beta
        alpha = self._alpha
        if self._betas is not None:  # they may be newer than l2
            beta = float(self._betas.mean())
            alpha = point.l2 * beta * self._likelihood.unit
        assert alpha is not None
        found = self._likelihood.evidence(
            alpha,
            beta,
            sums,
            point.data_loss,
            point.theta if relative is None else np.sqrt(relative) * point.theta,
            self._betas,
        )
        if self._alphas is None:
            return found
        return replace(found, per=self._per, alphas=tuple(self._alphas.tolist()))

    def restore(self, state: State) -> None:
        """Restore the precisions, the inner method and the l2 of the problem."""
        super().restore(state)
        if self._alpha is not None:
            if self._betas is not None:
                self._problem.weigh_outputs(self._betas / self._beta)
            self._problem.reweigh(self._likelihood.l2(self._alpha, self._beta), self._relative())

    def _begin(self, point: Point) -> Point:
        """Set the first alpha from all parameters, and the first beta from all observations."""
        likelihood = self._likelihood
        error = likelihood.unit * float(point.data_loss)
        self._least_error = EPS**2 * error
        beta = 1.0
        if likelihood.gaussian and error > 0.0:
            beta = likelihood.n_observations / (2.0 * error)
        length = likelihood.square(point.theta)
        alpha = (point.n_params - likelihood.n_flat) / length if length > 0.0 else beta
        if self._alphas is not None:
            self._alphas[:] = alpha
        point, _ = self._weigh(point)
        self._set(point, alpha, beta if self._betas is None else float(self._betas.mean()))
        return point

    def _weigh(self, point: Point) -> tuple[Point, float]:
        """Update the betas of several outputs; return the point and the change of the weights."""
        # Their gammas are those of the last matrix, so that the next one has the new weights.
        if self._betas is None or self._gammas is None:
            return point, 0.0
        before = self._betas / self._betas.mean()
        errors = self._likelihood.unit * point.output_losses() / before
        errors = np.maximum(errors, self._least_error)
        if not errors.min() > 0.0:
            return point, 0.0
        gammas = self._likelihood.divided(self._gammas, self._followed(float(point.l2)))
        self._betas = self._likelihood.precisions(errors, gammas)
        weights = self._betas / self._betas.mean()
        self._problem.weigh_outputs(weights)
        return self._problem.at(point.theta), float(np.max(np.abs(weights / before - 1.0)))

    def _count(self, point: Point) -> None:
        """Count the effective parameters at a point, and note a change of the evidence."""
        sums = self._systems.prepare(point).sums()
        self._gamma, self._counted = sums.effective, float(point.l2)
        most = self._most()
        rest = sums.effective * (1.0 - sums.effective / most)
        self._slope = min(1.0, sums.sensitivity / rest) if rest > LEAST_FREE * most else 1.0
        if self._classes is not None:
            assert sums.held is not None
            self._class_gammas = self._sizes.astype(float) - np.bincount(self._classes, sums.held)
        if self._betas is not None and self._gammas is not None:
            # The parts change less than their sum: where gamma is counted seldom, every other
            # count divides it anew.
            if self._every == 1 or self._iterations // self._every % 2 == 0:
                self._gammas = self._shares.divide(point, sums, self._betas / self._betas.mean())
            self._gammas = self._likelihood.divided(self._gammas, sums.effective)
        value = self._estimate(point, sums).log_evidence
        if not abs(value - self._mark) <= self._tolerance:
            self._mark, self._marked = value, self._iterations

    def _most(self) -> int:
        return min(self._likelihood.n_observations, self._problem.n_params)

    def _followed(self, l2: float) -> float:
        """Return gamma at l2: its odds follow a power of l2 from the last count."""
        # Near an exact fit E_D goes like l2^2. With n - gamma held, the next l2 would too: each
        # step would double a change of its logarithm, until all weights are switched off. But
        # n - gamma goes like l2.
        if l2 == self._counted or not self._gamma > 0.0:
            return self._gamma
        most = self._most()
        odds = max(most / self._gamma - 1.0, LEAST_FREE) * (l2 / self._counted) ** self._slope
        return float(most / (1.0 + odds))

    def _update(self, point: Point, limit: float) -> float:
        """Update alpha, by a factor up to `limit`, and beta; return the relative change of l2."""
        likelihood, before = self._likelihood, float(point.l2)
        gamma, beta = self._followed(before), 1.0
        if self._betas is not None:
            beta = float(self._betas.mean())
        elif likelihood.gaussian:
            n = likelihood.n_observations
            error = max(likelihood.unit * float(point.data_loss), self._least_error)
            beta = max(n - gamma, LEAST_FREE * n) / (2.0 * error) if error > 0.0 else self._beta
        if self._alphas is not None:
            return self._update_classes(point, beta)
        length = likelihood.square(point.theta)
        gamma = min(gamma, self._gamma)  # the next count makes good an alpha that is too small
        if gamma - likelihood.n_flat > LEAST_EFFECTIVE and length > 0.0:
            alpha = (gamma - likelihood.n_flat) / length
        else:
            alpha = before * beta * likelihood.unit
        assert self._alpha is not None
        alpha = min(max(alpha, self._alpha / limit), self._alpha * limit)
        self._set(point, alpha, beta)
        return abs(point.l2 - before) / before

    def _update_classes(self, point: Point, beta: float) -> float:
        """Update the alpha of each class and beta, and return the largest change of an l2."""
        # The alpha of a class that is nearly switched off grows without limit and has no effect:
        # so its gamma, at most 1, weights its change.
        assert self._alphas is not None
        assert self._classes is not None
        assert self._class_gammas is not None
        gammas, lengths = self._class_gammas, np.bincount(self._classes, point.theta**2)
        alphas, before = self._alphas.copy(), self._alphas / self._beta
        counted = (gammas > LEAST_OF_CLASS) & (lengths > 0.0)
        alphas[counted] = gammas[counted] / lengths[counted]
        alphas[~counted] *= beta / self._beta  # their l2 stays fixed
        changes = np.abs(alphas / beta - before) / before
        self._alphas = alphas
        self._set(point, relative_precisions(self._classes, alphas)[0], beta)
        return float(np.max(changes * np.minimum(1.0, np.maximum(gammas, 0.0))))

    def _relative(self) -> np.ndarray | None:
        if self._classes is None or self._alphas is None:
            return None
        return relative_precisions(self._classes, self._alphas)[1]

    def _set(self, point: Point, alpha: float, beta: float) -> None:
        l2, relative = self._likelihood.l2(alpha, beta), self._relative()
        self._alpha, self._beta = alpha, beta
        self._problem.reweigh(l2, relative)
        point.reweigh(l2, relative)


def has_several_decays(problem: Problem | ResidualProblem, evidence: Evidence) -> bool:
    """Whether not all parameters have one decay; coefficients of equations have none."""
    return evidence.per != "network" or problem.n_params > problem.network.n_params


def check_evidence(
    problem: Problem | ResidualProblem, evidence: Evidence, method: AnyMethod
) -> None:
    """Check `regularize=Evidence()` against the problem and the method."""
    if not isinstance(method, LevenbergMarquardt):
        raise ValueError(f"{evidence} goes with method 'lm', not {method.name!r}")
    if method.solver == "lsqr":
        raise ValueError(
            f"{evidence} counts parameters by a factor, which solver 'lsqr' has not: use "
            "'cholesky', 'dual' or 'qr'"
        )
    if method.solver == "dual" and has_several_decays(problem, evidence):
        raise ValueError(
            f"{evidence} has several weight decays, with which solver 'dual' does not go: use "
            "'cholesky' or 'qr'"
        )
    # A matrix in float32 or of a batch gives no effective number of parameters.
    for name, given in (
        ("precision", method.precision != "float64"),
        ("batch_size", method.batch_size is not None),
    ):
        if given:
            raise ValueError(f"{name} does not go with {evidence}")
    if problem.l2 > 0.0:
        raise ValueError(
            f"{evidence} chooses l2, but the problem has l2 = {problem.l2}: make it with l2=0"
        )
    if evidence.per != "network" and problem.n_params > problem.network.n_params:
        raise ValueError(f"{evidence} does not go with coefficients, which have no prior")
    if isinstance(problem, ResidualProblem):
        check_residuals(problem)
    else:
        check_likelihood(problem)


def with_own_l2(problem: Problem, regularize: Evidence | NullSpace | None) -> Problem:
    """Return the problem, or a copy if the run will change its l2."""
    return problem.with_l2(0.0) if isinstance(regularize, Evidence) else problem
