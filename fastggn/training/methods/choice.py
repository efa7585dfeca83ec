"""Make the steps, the solvers and the escape that the options of a run name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fastggn.solvers.choice import choose_solver, spares_biases
from fastggn.training.control.convergence import StepTest
from fastggn.training.control.escape import Escape, NegativeCurvature, Noise
from fastggn.training.control.lowest import Lowest
from fastggn.training.control.sampling import curvature_samples
from fastggn.training.fallback import Fallback
from fastggn.training.methods.auto import Alternating, Handover, smaller_side
from fastggn.training.methods.first_order import AdamSteps, GradientSteps
from fastggn.training.methods.gauss_newton import GaussNewtonSteps
from fastggn.training.methods.lbfgs import QuasiNewton
from fastggn.training.methods.levenberg_marquardt import PATIENCE, LevenbergMarquardtSteps
from fastggn.training.methods.named import (
    LBFGS,
    Adam,
    Auto,
    GaussNewton,
    GradientDescent,
    LevenbergMarquardt,
    Newton,
)
from fastggn.training.methods.newton import NewtonSteps, is_dense
from fastggn.training.methods.stochastic import (
    Passes,
    StochasticGaussNewton,
    StochasticLevenbergMarquardt,
)
from fastggn.training.options import Options
from fastggn.training.regularisation.bayesian import (
    EvidenceControl,
    KeptFallback,
    has_several_decays,
)
from fastggn.training.regularisation.null_space import NullSpace, Renewed
from fastggn.training.regularisation.priors import Evidence
from fastggn.training.run import Clock
from fastggn.training.step import Method, Work

if TYPE_CHECKING:
    from fastggn.objective.problem import Problem


# Up to so many parameters or equations "auto" takes no first-order steps.
SMALL = 400
# Up to so many parameters "auto" ends with Newton's method, except for the losses on classes.
NEWTON_LIMIT = 300
CLASSES = ("softmax_cross_entropy", "logistic")


def make_steps(
    problem: Problem,
    options: Options,
    rng: np.random.Generator,
    clock: Clock,
    work: Work,
    seed: Any = None,
) -> Method:
    """Return the steps of the method in `options`, which keeps its lowest point."""
    steps = _steps(problem, options, rng, clock, work, seed)
    # Others take no step that raises the loss, or change the objective.
    free = isinstance(options.method, (GaussNewton, GradientDescent, Adam))
    own = options.regularize is None or getattr(options.regularize, "mode", "") == "step"
    return Lowest(steps, problem) if free and own else steps


def _steps(
    problem: Problem,
    options: Options,
    rng: np.random.Generator,
    clock: Clock,
    work: Work,
    seed: Any = None,
) -> Method:
    """Return the steps of the method in `options`."""
    method, regularize = options.method, options.regularize
    null_space = regularize if isinstance(regularize, NullSpace) else None
    if null_space is not None and null_space.mode == "objective":
        return _penalised(problem, options, null_space, rng, clock, work)
    step_test = StepTest(options.stop.step)
    if isinstance(method, GradientDescent):
        return GradientSteps(problem, method.rate, method.momentum, work)
    if isinstance(method, Adam):
        size = problem.n_samples if method.batch_size is None else method.batch_size
        return AdamSteps(problem, method.rate, size, rng, clock, work)
    if isinstance(method, LBFGS):
        return QuasiNewton(problem, work, memory=method.memory)
    if isinstance(method, Newton):
        return NewtonSteps(problem, method.solver, step_test, work, null_space)
    if isinstance(method, Auto):
        # The correction costs more than it saves on classes (docs/estimators.md).
        geodesic: Any = False if problem.loss_function.name in CLASSES else "auto"
        inner = replace(options, method=LevenbergMarquardt(geodesic=geodesic))
        damped = _steps(problem, inner, rng, clock, work, seed)
        if smaller_side(problem) > SMALL:
            return Alternating(problem, damped, work)
        if not _prefers_newton(problem):
            return damped
        return Handover(damped, NewtonSteps(problem, "auto", step_test, work))
    systems = _make_systems(problem, method, regularize, work)
    if isinstance(method, GaussNewton):
        if method.batch_size is None:
            return GaussNewtonSteps(problem, systems, method.step)
        passes = Passes(problem, systems, method.batch_size, rng, clock, method.step)
        return StochasticGaussNewton(passes)
    if method.batch_size is None:
        asked, solver = method.curvature_samples, systems.solver.name
        systems.samples = curvature_samples(problem, asked, solver, seed)
        geodesic = systems.solver.name != "lsqr" if method.geodesic == "auto" else method.geodesic
        steps = LevenbergMarquardtSteps(problem, systems, method.damping, geodesic, step_test)
        if isinstance(systems, KeptFallback) and isinstance(regularize, Evidence):
            return EvidenceControl(problem, steps, systems, regularize)
        return steps
    passes = Passes(problem, systems, method.batch_size, rng, clock)
    return StochasticLevenbergMarquardt(problem, systems, passes, method.damping, step_test)


def _penalised(
    problem: Problem,
    options: Options,
    null_space: NullSpace,
    rng: np.random.Generator,
    clock: Clock,
    work: Work,
) -> Method:
    """Return the steps on the objective with the penalty of `null_space`."""
    method = options.method
    dense = is_dense(problem.n_params, getattr(method, "solver", "auto"))
    if isinstance(method, (LevenbergMarquardt, GaussNewton)) and method.solver == "auto":
        method = replace(method, solver="cholesky" if dense else "lsqr")
    if isinstance(method, LevenbergMarquardt) and method.batch_size is None:
        method = replace(method, curvature_samples="all")  # the penalty is on every row
    inner = replace(options, method=method, regularize=None)

    def make(penalised: Any) -> Method:
        return _steps(penalised, inner, rng, clock, work)

    return Renewed(make, problem, null_space, dense)


def _prefers_newton(problem: Problem) -> bool:
    """Whether "auto" ends with Newton's method: the residuals stay, and its matrix is cheap."""
    # Noisy samples leave residuals, whose second derivatives the Gauss-Newton matrix omits; with
    # more parameters than equations the fit is exact.
    small = problem.n_params <= NEWTON_LIMIT
    determined = problem.n_rows > problem.n_params
    return small and determined and problem.loss_function.name not in CLASSES


def _make_systems(
    problem: Problem,
    method: LevenbergMarquardt | GaussNewton,
    regularize: Evidence | NullSpace | None,
    work: Work,
) -> Fallback:
    # The shape of the systems, of a batch or of all samples, decides the solver.
    batch_size, solver = method.batch_size, str(method.solver)
    shape = problem if batch_size is None else problem.subset(np.arange(batch_size))
    undamped = isinstance(method, GaussNewton)
    minimum_norm = undamped or isinstance(regularize, NullSpace)
    evidence = regularize if isinstance(regularize, Evidence) else None
    kind = Fallback if evidence is None else KeptFallback
    if evidence is not None and solver == "auto" and has_several_decays(problem, evidence):
        # Several weight decays have no dual form.
        chosen = choose_solver(solver, shape, needs_minimum_norm=False)[0].name
        solver = "cholesky" if chosen == "dual" else solver
    return kind(
        shape,
        solver,
        needs_minimum_norm=minimum_norm and (problem.l2 == 0.0 or spares_biases(problem)),
        # Methods that can raise the damping within an iteration do so before QR.
        patience=0 if undamped or batch_size is not None else PATIENCE,
        work=work,
        mixed=isinstance(method, LevenbergMarquardt) and method.precision == "mixed",
    )


def make_escape(
    problem: Problem, name: str, first_loss: float, rng: np.random.Generator, work: Work
) -> Escape:
    """Return the escape called `name`."""
    kind = NegativeCurvature if name == "negative_curvature" else Noise
    return kind(problem, first_loss, rng, work)
