"""Train a network: the loop that all methods share."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastggn.objective.kinds import AnyProblem, as_problem
from fastggn.runtime.comm import comm_of
from fastggn.runtime.errors import (
    DivergenceWarning,
    ScalingWarning,
    UnitsWarning,
    as_float_vector,
    hinted,
)
from fastggn.runtime.signals import heard_in_finalisers
from fastggn.runtime.threads import threads
from fastggn.training.advice import scaling_advice, unit_advice
from fastggn.training.checkpoint.saving import (
    Checkpoint,
    Checkpointing,
    Saver,
    Start,
    check_checkpoint,
    locked,
    make_saver,
    shared_part,
)
from fastggn.training.control.escape import Leaving
from fastggn.training.control.infinity import classes_are_separated
from fastggn.training.control.stopping import Stop, Stopping
from fastggn.training.control.validation import HeldOut, Validation, Watched
from fastggn.training.history import HistoryWriter
from fastggn.training.methods.choice import make_escape, make_steps
from fastggn.training.methods.named import AnyMethod, Name
from fastggn.training.options import Callback, Options, check_options
from fastggn.training.regularisation.bayesian import with_own_l2
from fastggn.training.regularisation.evidence import EvidenceEstimate
from fastggn.training.regularisation.null_space import NullSpace
from fastggn.training.regularisation.priors import Evidence
from fastggn.training.result import ASKED, Record, TrainResult
from fastggn.training.resumable import Random, Resumable
from fastggn.training.run import Clock, check_memory, shared_seed, shown, stop_signals, warn
from fastggn.training.run_units import Units, run_units
from fastggn.training.step import Ending, Iteration, Method, Work, norm

if TYPE_CHECKING:
    from fastggn.objective.point import Point
    from fastggn.objective.problem import Problem


DEFAULT_STOP = Stop()


@hinted
def train(
    problem: AnyProblem,
    theta0: ArrayLike | None = None,
    method: Name | AnyMethod = "lm",
    *,
    seed: int | None = None,
    max_iter: int = 100,
    max_time: float | None = None,
    stop: Stop = DEFAULT_STOP,
    held_out: HeldOut | Sequence[Any] | AnyProblem | None = None,
    regularize: Evidence | NullSpace | None = None,
    leave_saddles: Literal["negative_curvature", "noise"] | None = None,
    checkpoint: Checkpoint | str | os.PathLike[str] | None = None,
    callbacks: Iterable[Callback] = (),
    progress: bool = False,
) -> TrainResult:
    """Minimise the loss of a problem over the parameters of its network.

    Parameters
    ----------
    problem : Problem or ResidualProblem
        The network, the samples and the loss; or equations.
    theta0 : (N,) array_like, optional
        The start; None draws ``problem.init(seed)``. The array is not changed.
    method : str or object
        `LevenbergMarquardt` ("lm"), `GaussNewton` ("ggn"), `Newton` ("newton"), `LBFGS`
        ("lbfgs"), `GradientDescent` ("bp"), `Adam` ("adam") or `Auto` ("auto"). An object has the
        options of its method, and a name means the default options.
    seed : int, optional
        The seed of theta0, the mini-batches and the noise of `leave_saddles`.
    max_iter : int
        The largest number of iterations. With mini-batches, and for `Adam`, an iteration is one
        pass over the samples.
    max_time : float, optional
        Seconds; the current iteration is completed.
    stop : Stop
        The tests that end a run.
    held_out : HeldOut, (X, Y), Problem or ResidualProblem, optional
        Samples that the training does not use. Their loss is recorded, and the run stops early
        with a patience of 20 iterations or that of `HeldOut`.
    regularize : Evidence or NullSpace, optional
        `Evidence` chooses the weight decay; `NullSpace` makes a singular problem well-posed
        without moving its minimum.
    leave_saddles : {"negative_curvature", "noise"}, optional
        When the run has settled, try to leave a strict saddle: along the lowest eigenvector of the
        Hessian, or by Gaussian noise and descent. The run continues if the loss falls.
    checkpoint : Checkpoint or path-like, optional
        A file from which the run can be resumed. A path means `Checkpoint` with its defaults.
    callbacks : iterable of callable
        Each callback gets the `Record` of every iteration, in order; inside it ``record.theta`` is
        the read-only theta. A callback that returns True (not just a true value) stops the run with
        the status "interrupted"; an exception ends the run. Every rank calls its own callbacks,
        under the caller's ``numpy.errstate``.
    progress : bool
        Show iteration, loss, held-out loss, damping, gain ratio and a bound of the time left on
        the standard error stream: on one changing line on a terminal, on at most two plain lines
        a second elsewhere.

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
    problem = as_problem(problem)
    options = check_options(
        problem,
        method=method,
        max_iter=max_iter,
        max_time=max_time,
        stop=stop,
        held_out=held_out,
        regularize=regularize,
        leave_saddles=leave_saddles,
        callbacks=callbacks,
        others=partial(_others, problem, theta0, seed, checkpoint),
    )
    comm = comm_of(problem)
    given = None if theta0 is None else as_float_vector("theta0", theta0, problem.n_params)
    plan = check_checkpoint(problem, checkpoint)
    problem = with_own_l2(problem, options.regularize)
    display = shown(progress, options.max_iter, options.max_time, comm)
    stops = stop_signals(plan is not None)
    # BLAS has one thread during the run, so that the bits do not depend on their number.
    # Overflow becomes inf or NaN, which the methods check, and then a status.
    quiet, callers = np.errstate(all="ignore"), np.geterr()
    heard = heard_in_finalisers()
    with quiet, locked(plan, comm), threads(), stops as signals, heard, display as line:
        watching: list[Callback] = [] if line is None else [line]
        if plan is not None:
            watching.append(signals)
        given_ones = [partial(_called, callback, callers) for callback in options.callbacks]
        options = replace(options, callbacks=(*given_ones, *watching))
        warn(comm, ScalingWarning, scaling_advice(problem))
        chosen, regularized = options.method, options.regularize is not None
        own, chosen, units = run_units(problem, chosen, regularized, given)
        start = None if given is None else units.inside(given)
        found = _run(own, start, replace(options, method=chosen), seed, plan, units)
        result = units.result(problem, found)
        if result.status == "diverging" and not classes_are_separated(problem, result):
            warnings.warn(result.message, DivergenceWarning, stacklevel=3)
        warn(comm, UnitsWarning, unit_advice(problem, result))
    if result.status == "interrupted" and signals.signal is not None:
        return replace(result, message=f"stopped by {signals.signal}")
    return result


def _called(callback: Callback, errors: Any, record: Record) -> object:
    """Call a callback under the caller's handling of floating-point errors."""
    with np.errstate(**errors):
        return callback(record)


def _others(
    problem: Problem, theta0: ArrayLike | None, seed: int | None, checkpoint: Any
) -> dict[str, object]:
    """Check the arguments that are no options, and return what all ranks share."""
    if theta0 is not None:
        as_float_vector("theta0", theta0, problem.n_params)
    start = "None" if theta0 is None else "given"
    return {"theta0": start, "seed": seed, "checkpoint": shared_part(checkpoint)}


def _run(
    problem: Problem,
    theta0: NDArray[np.float64] | None,
    options: Options,
    seed: int | None,
    plan: Checkpointing | None,
    units: Units,
) -> TrainResult:
    """Build the parts of a run, wrap the method, and return the result of the loop."""
    comm, work = comm_of(problem), Work()
    check_memory(problem.n_params, comm)
    drawn = shared_seed(comm, seed)
    rng, clock = np.random.default_rng(drawn), Clock(options.max_time, comm)
    stopping = Stopping(options.stop, options.max_iter, clock, problem, units)
    history = HistoryWriter(options.callbacks, clock, work, comm, units)
    method = make_steps(problem, options, rng, clock, work, comm.agree(seed))
    parts: dict[str, Resumable] = {"method": method, "stopping": stopping, "work": work}
    parts |= {"clock": clock, "random": Random(rng)}
    validation = None if options.held_out is None else Validation(options.held_out, units)
    if validation is not None:
        parts["validation"] = validation
    saver = make_saver(problem, options, plan, seed, theta0, parts, history)
    start = saver.resume() or Start(units.first(problem, drawn) if theta0 is None else theta0)
    # The loop takes this point: a reference here would hold a workspace for the whole run.
    first = [problem.at(start.theta)]
    initial_loss = float(first[0].loss) if start.initial_loss is None else start.initial_loss
    saver.begin(first[0], initial_loss)
    if options.leave_saddles is not None:
        escape = make_escape(problem, options.leave_saddles, initial_loss, rng, work)
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
    point, stop = method.kept(point, stop)
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
        evidence=_evidence(method, point),
        **({} if validation is None else validation.results()),
    )


def _iterate(
    start: Start,
    point: Point,
    method: Method,
    history: HistoryWriter,
    stopping: Stopping,
    saver: Saver,
) -> tuple[Point, Ending]:
    """Iterate until a stop; `point` changes only by accepted steps."""
    try:
        stop = stopping.again(start.stop) if start.resumed else stopping.at_start(point)
        if not start.resumed:
            saver.note(point, stop)
        while stop is None or method.leaves(point, stop):
            theta = point.theta
            iteration = _stepped(method, point)
            before, point = point.loss, iteration.point
            asked = history.write(theta, iteration)
            stop = stopping.after(before, iteration)
            if not iteration.cut:
                saver.note(point, stop)
            if asked and (stop is None or method.may_leave(stop)):
                return point, Ending("interrupted", ASKED)
        if not stopping.exhausted:
            saver.settle()
        return point, stop
    except KeyboardInterrupt:
        if comm_of(point).size > 1:  # the other ranks wait inside an iteration
            raise
        return point, Ending("interrupted", "interrupted; theta is the last accepted one")


def _stepped(method: Method, point: Point) -> Iteration:
    """Do one iteration; one whose matrices are not finite ends the run."""
    try:
        return method.step(point)
    except np.linalg.LinAlgError as error:  # entries near the limits of the numbers
        stop = Ending("failed", f"no step could be computed: {error}")
        return Iteration(point, 0.0, method.solver.name, accepted=False, stop=stop)


def _evidence(method: Method, point: Point) -> EvidenceEstimate | None:
    """Return the evidence at the end of a run, None where its curvature is not finite."""
    try:
        return method.evidence(point)
    except np.linalg.LinAlgError:
        return None


def _restored(
    problem: Problem, point: Point, stop: Ending, validation: Validation, n_iter: int
) -> tuple[Point, Ending]:
    """Return the point with the lowest validation loss if early stopping is on."""
    best = validation.restored()
    if best is None or best[1] == n_iter:
        return point, stop
    theta, iteration = best
    message = f"{stop.message}; theta is that of iteration {iteration}"
    return problem.at(theta), replace(stop, message=message)
