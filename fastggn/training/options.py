"""Check the arguments of `train` before any work, and name both arguments of a conflict."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fastggn.runtime.comm import comm_of
from fastggn.runtime.errors import check_count, check_positive, unknown_name
from fastggn.training.control.stopping import Stop
from fastggn.training.control.validation import HeldOut, Watching, as_held_out, check_held_out
from fastggn.training.methods.named import AnyMethod, LevenbergMarquardt, get_method
from fastggn.training.regularisation.bayesian import check_evidence
from fastggn.training.regularisation.null_space import NullSpace
from fastggn.training.regularisation.priors import Evidence
from fastggn.training.result import Record

if TYPE_CHECKING:
    from fastggn.objective.problem import Problem


Callback = Callable[[Record], object]

ESCAPES = ("negative_curvature", "noise")
# The largest N for which a requested basis of the null space is stored.
MOST_STORED = 20_000
# The methods of each mode of `NullSpace`.
REGULARISED = {"step": ("newton", "lm", "ggn"), "objective": ("newton", "lm", "ggn", "bp")}


@dataclass(frozen=True)
class Options:
    """The checked arguments of one run."""

    method: AnyMethod
    max_iter: int
    max_time: float | None
    stop: Stop
    held_out: Watching | None
    regularize: Evidence | NullSpace | None
    leave_saddles: str | None
    callbacks: tuple[Callback, ...]


def check_options(
    problem: Problem,
    *,
    method: Any,
    max_iter: int,
    max_time: float | None,
    stop: Any,
    held_out: Any,
    regularize: Any,
    leave_saddles: str | None,
    callbacks: Iterable[Callback],
    others: Callable[[], dict[str, object]] = dict,
) -> Options:
    """Return the checked arguments of `train`, on which all ranks agree.

    `others` checks further arguments, and returns what must be the same on all ranks. The samples
    of `held_out`, the seconds of `max_time` and the callbacks are a rank's own.
    """
    with comm_of(problem).raise_on_all() as said:
        found = Options(
            method=get_method(method),
            max_iter=check_count("max_iter", max_iter, 0),
            max_time=None if max_time is None else check_positive("max_time", max_time),
            stop=stop,
            held_out=None,
            regularize=regularize,
            leave_saddles=leave_saddles,
            callbacks=_check_callbacks(callbacks),
        )
        _check_together(problem, found)
        watched = as_held_out(held_out)
        said |= {"call": "train", **others(), **_shared(found, watched)}
    return replace(found, held_out=check_held_out(problem, watched))


def _shared(options: Options, watched: HeldOut | None) -> dict[str, object]:
    """Return the arguments that all ranks share, in words."""
    words = "None"
    if watched is not None:
        kind = "samples" if watched.Y is not None else "a Problem"
        words = f"{kind} with patience {watched.patience} and tol {watched.tol}"
    return {
        "method": options.method,
        "max_iter": options.max_iter,
        "max_time": "None" if options.max_time is None else "a limit",
        "stop": options.stop,
        "held_out": words,
        "regularize": options.regularize,
        "leave_saddles": options.leave_saddles,
    }


def _check_together(problem: Problem, options: Options) -> None:
    """Check the arguments against each other and the problem."""
    method, regularize, leave_saddles = options.method, options.regularize, options.leave_saddles
    if not isinstance(options.stop, Stop):
        kind = type(options.stop).__name__
        raise TypeError(f"stop must be a fastggn.Stop, such as fg.Stop(gradient=1e-8), not {kind}")
    if leave_saddles is not None and leave_saddles not in ESCAPES:
        raise unknown_name("leave_saddles", leave_saddles, ESCAPES)
    _check_solver(problem, method)
    _check_regularize(problem, regularize, method)
    if isinstance(regularize, Evidence) and leave_saddles is not None:
        raise ValueError(f"leave_saddles does not go with {regularize}, which moves the objective")
    batch_size = getattr(method, "batch_size", None)
    if batch_size is not None and batch_size > problem.n_samples:
        raise ValueError(
            f"batch_size is {batch_size}, but the problem has {problem.n_samples} samples"
        )


def _check_solver(problem: Problem, method: AnyMethod) -> None:
    exact = method.name in ("lm", "ggn") and problem.curvature == "exact"
    solver = getattr(method, "solver", "auto")
    if exact and solver in ("lsqr", "qr"):
        raise ValueError(
            f"solver {solver!r} does not go with a problem of curvature 'exact', which may be "
            "indefinite: use 'cholesky' or 'dual', or curvature 'psd'"
        )


def _check_regularize(problem: Problem, regularize: Any, method: AnyMethod) -> None:
    if regularize is None:
        return
    if isinstance(regularize, Evidence):
        check_evidence(problem, regularize, method)
    elif isinstance(regularize, NullSpace):
        _check_null_space(problem, regularize, method)
    else:
        kind = type(regularize).__name__
        raise TypeError(
            f"regularize must be a fastggn.Evidence, a fastggn.NullSpace or None, not {kind}"
        )


def _check_null_space(problem: Problem, regularize: NullSpace, method: AnyMethod) -> None:
    mode, solver = regularize.mode, getattr(method, "solver", "auto")
    if method.name not in REGULARISED[mode]:
        valid = ", ".join(repr(m) for m in REGULARISED[mode])
        raise ValueError(
            f"a NullSpace of mode {mode!r} does not go with method {method.name!r}: only with "
            f"{valid}"
        )
    if problem.l2 > 0.0:
        raise ValueError(
            f"a NullSpace does not go with a problem of l2 = {problem.l2}, whose curvature has no "
            "null space: make the problem with l2=0"
        )
    linear = method.name in ("lm", "ggn")
    if linear and problem.curvature == "exact":
        raise ValueError("a NullSpace does not go with curvature 'exact': use 'psd' or 'newton'")
    refused = "cholesky" if mode == "step" else "dual"
    if linear and solver == refused:
        raise ValueError(f"a NullSpace of mode {mode!r} does not go with solver {solver!r}")
    if linear and mode == "objective" and solver == "qr" and problem.n_params > MOST_STORED:
        raise ValueError(
            f"solver 'qr' stores the null space: N = {problem.n_params} exceeds {MOST_STORED}; "
            "use 'lsqr'"
        )
    mixed = isinstance(method, LevenbergMarquardt) and method.precision != "float64"
    if not isinstance(getattr(method, "curvature_samples", "all"), str):
        raise ValueError("a NullSpace does not go with a number of curvature_samples")
    if mixed or getattr(method, "batch_size", None) is not None:
        raise ValueError("a NullSpace does not go with precision='mixed' or batch_size")


def _check_callbacks(callbacks: Iterable[Callback]) -> tuple[Callback, ...]:
    if callable(callbacks):
        raise TypeError("callbacks must be a sequence of callables: write callbacks=[callback]")
    try:
        found = tuple(callbacks)
    except TypeError:
        kind = type(callbacks).__name__
        raise TypeError(f"callbacks must be a sequence of callables, not {kind}") from None
    for i, callback in enumerate(found):
        if not callable(callback):
            raise TypeError(f"callbacks[{i}] is not callable: {type(callback).__name__}")
    return found
