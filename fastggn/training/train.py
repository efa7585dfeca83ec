"""Train a network: the loop that all methods share."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastggn.runtime.comm import comm_of
from fastggn.runtime.errors import DivergenceWarning, ScalingWarning, UnitsWarning, as_float_vector
from fastggn.runtime.threads import threads
from fastggn.training.advice import scaling_advice, unit_advice
from fastggn.training.checkpoint.saving import (
    Checkpointing,
    Saver,
    Start,
    check_checkpoint,
    locked,
    make_saver,
)
from fastggn.training.control.escape import Leaving
from fastggn.training.control.stopping import Stopping
from fastggn.training.control.validation import Validation, Watched
from fastggn.training.history import HistoryWriter
from fastggn.training.methods.choice import make_escape, make_method
from fastggn.training.options import Callback, Options, check_options
from fastggn.training.regularisation.bayesian import with_own_l2
from fastggn.training.result import TrainResult
from fastggn.training.resumable import Random, Resumable
from fastggn.training.run import Clock, shared_seed, shown, stop_signals, warn
from fastggn.training.step import Method, Stop, Work, norm

if TYPE_CHECKING:
    from fastggn.objective.point import Point
    from fastggn.objective.problem import Problem
    from fastggn.training.regularisation.null_space import NullSpace


def train(
    problem: Problem,
    theta0: ArrayLike | None = None,
    method: Literal["ggn", "lm", "newton", "auto", "bp", "adam"] = "lm",
    solver: Literal["auto", "cholesky", "dual", "lsqr", "qr"] = "auto",
    *,
    seed: int | None = None,
    max_iter: int = 100,
    alpha: float | None = None,
    damping: float | None = None,
    momentum: float = 0.0,
    geodesic: bool | None = None,
    precision: Literal["float64", "mixed"] = "float64",
    batch_size: int | None = None,
    regularizer: NullSpace | None = None,
    regularization: Literal["bayesian", "bayesian-units"] | None = None,
    escape: Literal["negative_curvature", "noise"] | None = None,
    grad_tol: float = 1e-10,
    loss_tol: float = 0.0,
    step_tol: float = 1e-14,
    loss_target: float | None = None,
    max_time: float | None = None,
    validation: Problem | Sequence[Any] | None = None,
    patience: int | None = None,
    validation_tol: float = 0.0,
    callbacks: Iterable[Callback] = (),
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_every: int | str | None = None,
    resume: bool = False,
    progress: bool = False,
    n_threads: int | None = None,
) -> TrainResult:
    """Minimise the loss of a problem over the parameters of its network.

    Parameters
    ----------
    problem : Problem
        The network, the samples and the loss.
    theta0 : (N,) array_like, optional
        The start; None draws ``problem.network.init(seed)``. The array is not changed.
    method : {"lm", "ggn", "newton", "auto", "bp", "adam"}
        "lm": Levenberg-Marquardt with damping by the gain ratio (Nielsen 1999).
        "ggn": generalised Gauss-Newton with a fixed step length and no damping; a singular system
        has the minimum-norm step (Shen 2018, Eqs. 38-40). It accepts every finite step and warns
        when the loss rises.
        "newton": the exact Hessian in a trust region, dense up to 1000 parameters (More and
        Sorensen 1983), matrix-free above (Steihaug 1983).
        "auto": "lm" for up to 400 parameters or equations (T n_L). With up to 300 parameters and a
        loss that is not for classes, "newton" follows once "lm" gets slow. Larger
        problems use L-BFGS with five steps in an iteration (Liu and Nocedal 1989), and trials of
        "lm", which continues while it lowers the loss at less cost.
        "bp": gradient descent on all samples. "adam": Kingma and Ba 2015.
    solver : {"auto", "cholesky", "dual", "lsqr", "qr"}
        The solver of the systems of "lm" and "ggn"; for "newton", "cholesky" is dense and "lsqr"
        matrix-free. "auto" chooses by shape and memory; `TrainResult.solver` is the choice.
    seed : int, optional
        The seed of theta0, the mini-batches and the noise of `escape`.
    max_iter : int
        The largest number of iterations. With `batch_size`, and for "adam", an iteration is one
        pass over the samples.
    alpha : float, optional
        Step length of "ggn" and learning rate of "bp" (None: 1), step size of "adam"
        (None: 1e-3).
    damping : float, optional
        The first lambda of "lm"; None computes it from the curvature along the gradient.
    momentum : float
        The momentum of "bp", in [0, 1).
    geodesic : bool, optional
        For "lm": correct each step to second order (Transtrum and Sethna 2012). One more product
        and one more solve for each step save assemblies. None: yes (docs/decisions/0009), except
        with "lsqr", where each solve is a complete iteration, and with `batch_size`.
    precision : {"float64", "mixed"}
        For "lm" with "cholesky": "mixed" assembles the GGN in float32, and keeps loss, gradient
        and solution in float64. If Cholesky fails, and in the last phase, all is in float64.
    batch_size : int, optional
        The size of mini-batches, for "lm", "ggn" and "adam".
    regularizer : NullSpace, optional
        Makes a singular problem well-posed without moving its minimum: `fastggn.NullSpace`.
    regularization : {"bayesian", "bayesian-units"}, optional
        For "lm": choose the weight decay by the evidence after every step, as MATLAB's trainbr
        does (MacKay 1992; Foresee and Hagan 1997). The loss and the gradient of the run use the
        current l2; `TrainResult.evidence` is the final estimate. Losses "squared",
        "softmax_cross_entropy" and "logistic"; solvers "cholesky", "dual" and "qr".
        "bayesian-units" has a weight decay for each hidden unit (not with "dual").
    escape : {"negative_curvature", "noise"}, optional
        When the run has settled, try to leave a strict saddle: along the lowest eigenvector of the
        Hessian, or by Gaussian noise and descent. The run continues if the loss falls.
    grad_tol : float
        Stop if the 2-norm of the gradient is at most this value.
    loss_tol : float
        Stop if an iteration changes the loss by at most this share; 0 disables the test.
    step_tol : float
        Stop at ``|step| <= step_tol (|theta| + step_tol)``.
    loss_target : float, optional
        Stop if the loss is at most this value.
    max_time : float, optional
        Seconds; the current iteration is completed.
    validation : tuple or Problem, optional
        Samples that the training does not use: ``(X, Y)`` or ``(X, Y, sample_weight)``, with the
        loss of the problem and without l2, or a problem of the same network with its own loss. The
        mean loss is recorded after every iteration (with `batch_size`, after every pass). If ranks
        share the training samples, each rank gives its own rows here too. The result keeps the
        lowest loss and its theta: `TrainResult.best_theta`.
    patience : int, optional
        Early stopping: end the run with the status "early_stopped" after so many successive
        iterations without a lower validation loss. For every status, `TrainResult.theta` is then
        **the theta with the lowest validation loss**, with its loss and gradient. MATLAB's trainlm
        uses 6 (``max_fail``). None: the validation loss is only recorded; `theta` is the last one.
    validation_tol : float
        A fall of the validation loss by at most this share does not count for `patience`.
    callbacks : iterable of callable
        Each callback gets the `Record` of every iteration, in order; inside it ``record.theta`` is
        the read-only theta. A callback that returns True (not just a true value) stops the run with
        the status "interrupted"; an exception ends the run. Every rank calls its own callbacks.
    checkpoint : path-like, optional
        A file from which the run can be resumed. It is written atomically every
        `checkpoint_every`, at the end, and after an interrupt or an exception; the older file is
        ``NAME.previous``. SIGTERM and SIGUSR1, unless something else handles them, end the run
        after the current iteration with the status "interrupted", and a second signal ends it at
        once. A failed save is a `CheckpointWarning`; the run continues.
    checkpoint_every : int or str, optional
        Iterations (10), or a time ("30s", "5min", "2h"); None for "5min".
    resume : bool
        Resume from `checkpoint` if the file exists, else start a new run. The outcome has the bits
        of an uninterrupted run, for any number of threads. `max_iter` (for all parts together),
        `max_time` (for this part alone) and `callbacks` may differ; everything else must be the
        same, including the number of MPI ranks.
    progress : bool
        Show iteration, loss, validation loss, damping, gain ratio and a bound of the time left on
        the standard error stream: on one changing line on a terminal, on at most two plain lines
        a second elsewhere.
    n_threads : int, optional
        Threads of the kernels for this run; None keeps the setting.

    Returns
    -------
    TrainResult
        Theta, loss, status and history. A numerical problem is a status or a `FastGGNWarning`, not
        an exception (`ScalingWarning`: badly scaled samples, `UnitsWarning`: saturated or dead
        units, both with advice). Theta changes only by accepted finite steps, and Ctrl-C returns
        the last accepted theta with the status "interrupted".

    Raises
    ------
    TypeError, ValueError
        If an argument is not valid, or two arguments exclude each other; before any work.
    CheckpointError
        If both generations of the checkpoint are damaged, if it belongs to another run, or if a
        file that is not a checkpoint would be replaced (a ``ValueError``).
    OSError
        If the checkpoint cannot be written; before any work.

    Examples
    --------
    >>> import fastggn as fg
    >>> X, Y = fg.data.four_regions(200, seed=0)
    >>> problem = fg.Problem(fg.MLP((2, 10, 1)), X, Y)
    >>> result = fg.train(problem, seed=0, max_iter=20)
    >>> result.loss < result.initial_loss
    True
    """
    if not hasattr(problem, "at"):
        raise TypeError(f"problem must be a fastggn.Problem, not {type(problem).__name__}")
    options = check_options(
        problem,
        method=method,
        solver=solver,
        max_iter=max_iter,
        alpha=alpha,
        damping=damping,
        momentum=momentum,
        geodesic=geodesic,
        precision=precision,
        batch_size=batch_size,
        regularizer=regularizer,
        regularization=regularization,
        escape=escape,
        grad_tol=grad_tol,
        loss_tol=loss_tol,
        step_tol=step_tol,
        loss_target=loss_target,
        max_time=max_time,
        validation=validation,
        patience=patience,
        validation_tol=validation_tol,
        callbacks=callbacks,
    )
    comm = comm_of(problem)
    given = None if theta0 is None else as_float_vector("theta0", theta0, problem.n_params)
    plan = check_checkpoint(problem, checkpoint, checkpoint_every, resume)
    problem = with_own_l2(problem, options.regularization)
    display = shown(progress, options.tolerances.max_iter, options.max_time, comm)
    stops = stop_signals(plan is not None)
    with locked(plan, comm), threads(n_threads), stops as signals, display as line:
        watching: list[Callback] = [] if line is None else [line]
        if plan is not None:
            watching.append(signals)
        options = replace(options, callbacks=(*options.callbacks, *watching))
        warn(comm, ScalingWarning, scaling_advice(problem))
        result = _run(problem, given, options, seed, plan)
        if result.status == "diverging":
            warnings.warn(result.message, DivergenceWarning, stacklevel=2)
        warn(comm, UnitsWarning, unit_advice(problem, result))
    if result.status == "interrupted" and signals.signal is not None:
        return replace(result, message=f"stopped by {signals.signal}")
    return result


def _run(
    problem: Problem,
    theta0: NDArray[np.float64] | None,
    options: Options,
    seed: int | None,
    plan: Checkpointing | None,
) -> TrainResult:
    """Build the parts of a run, wrap the method, and return the result of the loop."""
    comm, work = comm_of(problem), Work()
    drawn = shared_seed(comm, seed)
    rng, clock = np.random.default_rng(drawn), Clock(options.max_time, comm)
    stopping = Stopping(options.tolerances, clock)
    history = HistoryWriter(options.callbacks, clock, work, comm)
    method = make_method(problem, options, rng, clock, work)
    parts: dict[str, Resumable] = {"method": method, "stopping": stopping, "work": work}
    parts |= {"clock": clock, "random": Random(rng)}
    validation = None if options.validation is None else Validation(options.validation)
    if validation is not None:
        parts["validation"] = validation
    saver = make_saver(problem, options, plan, seed, theta0, parts, history)
    start = saver.resume() or Start(problem.network.init(drawn) if theta0 is None else theta0)
    # The loop takes this point: a reference here would hold a workspace for the whole run.
    first = [problem.at(start.theta)]
    initial_loss = float(first[0].loss) if start.initial_loss is None else start.initial_loss
    saver.begin(first[0], initial_loss)
    if options.escape is not None:
        escape = make_escape(problem, options.escape, initial_loss, rng, work)
        method = Leaving(method, escape, stopping, start.settled)
    if validation is not None:
        method = Watched(method, validation)
        if not start.resumed:
            validation.begin(first[0])
    try:
        point, stop = _iterate(start, first.pop(), method, history, stopping, saver)
    except BaseException:
        saver.finish(None)
        raise
    saver.finish(stop)
    if validation is not None:
        point, stop = _restored(problem, point, stop, validation, len(history.records))
    return TrainResult(
        theta=np.array(point.theta),
        loss=float(point.loss),
        gradient_norm=norm(point.gradient),
        n_iter=len(history.records),
        status=stop.status,
        message=stop.message,
        history=history.records,
        initial_loss=initial_loss,
        solver=method.solver.name,
        solver_reason=method.solver.reason,
        seconds=clock.seconds,
        unsaved=saver.unsaved,
        evidence=method.evidence(point),
        **({} if validation is None else validation.results()),
    )


def _iterate(
    start: Start,
    point: Point,
    method: Method,
    history: HistoryWriter,
    stopping: Stopping,
    saver: Saver,
) -> tuple[Point, Stop]:
    """Iterate until a stop; `point` changes only by accepted steps."""
    try:
        stop = stopping.again(start.stop) if start.resumed else stopping.at_start(point)
        if not start.resumed:
            saver.note(point, stop)
        while stop is None or method.leaves(point, stop):
            iteration = method.step(point)
            before, point = point.loss, iteration.point
            asked = history.write(iteration)
            stop = stopping.after(before, iteration)
            if not iteration.cut:
                saver.note(point, stop)
            if asked and (stop is None or method.may_leave(stop)):
                return point, Stop("interrupted", "a callback asked to stop")
        if not stopping.exhausted:
            saver.settle()
        return point, stop
    except KeyboardInterrupt:
        if comm_of(point).size > 1:  # the other ranks wait inside an iteration
            raise
        return point, Stop("interrupted", "interrupted; theta is the last accepted one")


def _restored(
    problem: Problem, point: Point, stop: Stop, validation: Validation, n_iter: int
) -> tuple[Point, Stop]:
    """Return the point with the lowest validation loss if early stopping is on."""
    best = validation.restored()
    if best is None or best[1] == n_iter:
        return point, stop
    theta, iteration = best
    message = f"{stop.message}; theta is that of iteration {iteration}"
    return problem.at(theta), replace(stop, message=message)
