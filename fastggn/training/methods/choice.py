"""Make the method, the solvers and the escape that the options of a run name."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fastggn.solvers.choice import choose_solver, spares_biases
from fastggn.training.control.escape import Escape, NegativeCurvature, Noise
from fastggn.training.control.stopping import StepTest
from fastggn.training.fallback import Fallback
from fastggn.training.methods.auto import Alternating, Handover, smaller_side
from fastggn.training.methods.first_order import Adam, GradientDescent
from fastggn.training.methods.gauss_newton import GaussNewton
from fastggn.training.methods.levenberg_marquardt import PATIENCE, LevenbergMarquardt
from fastggn.training.methods.newton import Newton, is_dense
from fastggn.training.methods.stochastic import (
    Passes,
    StochasticGaussNewton,
    StochasticLevenbergMarquardt,
)
from fastggn.training.options import Options
from fastggn.training.regularisation.bayesian import EvidenceControl, KeptFallback
from fastggn.training.regularisation.null_space import Renewed
from fastggn.training.run import Clock
from fastggn.training.step import Method, Work

if TYPE_CHECKING:
    from fastggn.objective.problem import Problem


# Up to so many parameters or equations "auto" takes no first-order steps.
SMALL = 400
# Up to so many parameters "auto" ends with Newton's method, except for the losses on classes.
NEWTON_LIMIT = 300
CLASSES = ("softmax_cross_entropy", "logistic")


def make_method(
    problem: Problem, options: Options, rng: np.random.Generator, clock: Clock, work: Work
) -> Method:
    """Return the method that `options` name."""
    regularizer = options.regularizer
    if regularizer is not None and regularizer.mode == "objective":
        dense = is_dense(problem.n_params, options.solver)
        inner = replace(options, regularizer=None)
        if options.method in ("lm", "ggn") and options.solver == "auto":
            inner = replace(inner, solver="cholesky" if dense else "lsqr")

        def make(penalised: Any) -> Method:
            return make_method(penalised, inner, rng, clock, work)

        return Renewed(make, problem, regularizer, dense)
    batch_size = options.batch_size
    if options.method == "bp":
        return GradientDescent(problem, options.rate, options.momentum, work)
    if options.method == "adam":
        size = problem.n_samples if batch_size is None else batch_size
        return Adam(problem, options.rate, size, rng, clock, work)
    if options.method == "auto":
        damped = make_method(problem, replace(options, method="lm"), rng, clock, work)
        if smaller_side(problem) > SMALL:
            return Alternating(problem, damped, work)
        if not _prefers_newton(problem, options.solver):
            return damped
        step_test = StepTest(options.tolerances.step)
        return Handover(damped, Newton(problem, options.solver, step_test, work))
    step_test = StepTest(options.tolerances.step)
    if options.method == "newton":
        return Newton(problem, options.solver, step_test, work, regularizer)
    systems = _make_systems(problem, options, work)
    if options.method == "ggn":
        if batch_size is None:
            return GaussNewton(problem, systems, options.rate)
        passes = Passes(problem, systems, batch_size, rng, clock, options.rate)
        return StochasticGaussNewton(passes)
    if batch_size is None:
        geodesic = options.geodesic
        if geodesic is None:
            geodesic = systems.solver.name != "lsqr"
        steps = LevenbergMarquardt(problem, systems, options.damping, geodesic, step_test)
        if isinstance(systems, KeptFallback):
            return EvidenceControl(problem, steps, systems, str(options.regularization))
        return steps
    passes = Passes(problem, systems, batch_size, rng, clock)
    return StochasticLevenbergMarquardt(problem, systems, passes, options.damping, step_test)


def _prefers_newton(problem: Problem, solver: str) -> bool:
    """Whether "auto" ends with Newton's method: the residuals stay, and its matrix is cheap."""
    # Noisy samples leave residuals, whose second derivatives the Gauss-Newton matrix omits; with
    # more parameters than equations the fit is exact.
    small = problem.n_params <= NEWTON_LIMIT and solver in ("auto", "cholesky")
    determined = problem.n_samples * problem.n_outputs > problem.n_params
    return small and determined and problem.loss_function.name not in CLASSES


def _make_systems(problem: Problem, options: Options, work: Work) -> Fallback:
    # The shape of the systems, of a batch or of all samples, decides the solver.
    batch_size = options.batch_size
    shape = problem if batch_size is None else problem.subset(np.arange(batch_size))
    undamped = options.method == "ggn"
    minimum_norm = undamped or options.regularizer is not None
    kind = Fallback if options.regularization is None else KeptFallback
    solver = options.solver
    if options.regularization == "bayesian-units" and solver == "auto":
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
        mixed=options.precision == "mixed",
    )


def make_escape(
    problem: Problem, name: str, first_loss: float, rng: np.random.Generator, work: Work
) -> Escape:
    """Return the escape called `name`."""
    kind = NegativeCurvature if name == "negative_curvature" else Noise
    return kind(problem, first_loss, rng, work)
