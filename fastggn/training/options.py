"""Check the arguments of `train` before any work, and name both arguments of a conflict."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastggn.runtime.errors import check_count, check_positive, unknown_name
from fastggn.training.control.stopping import Tolerances
from fastggn.training.control.validation import HeldOut, check_validation
from fastggn.training.regularisation.bayesian import check_regularization
from fastggn.training.regularisation.null_space import NullSpace
from fastggn.training.result import Record

if TYPE_CHECKING:
    from fastggn.objective.problem import Problem


Callback = Callable[[Record], object]

METHODS = ("ggn", "lm", "newton", "auto", "bp", "adam")
SOLVERS = ("auto", "cholesky", "dual", "lsqr", "qr")
ESCAPES = ("negative_curvature", "noise")
PRECISIONS = ("float64", "mixed")
ADAM_RATE = 1e-3
# The largest N for which a requested basis of the null space is stored.
MOST_STORED = 20_000
# The methods that use an option; other methods refuse a value that is not the default.
LISTENERS = {
    "alpha": ("ggn", "bp", "adam"),
    "damping": ("lm",),
    "momentum": ("bp",),
    "geodesic": ("lm", "auto"),
    "precision": ("lm",),
    "batch_size": ("lm", "ggn", "adam"),
}
REGULARISED = {"step": ("newton", "lm", "ggn"), "objective": ("newton", "lm", "ggn", "bp")}
METHOD_SOLVERS = {
    "ggn": SOLVERS,
    "lm": SOLVERS,
    "newton": ("auto", "cholesky", "lsqr"),
    "auto": SOLVERS,
    "bp": ("auto",),
    "adam": ("auto",),
}


@dataclass(frozen=True)
class Options:
    """The checked arguments of one run."""

    method: str
    solver: str
    rate: float
    damping: float | None
    momentum: float
    geodesic: bool | None
    precision: str
    batch_size: int | None
    regularizer: NullSpace | None
    regularization: str | None
    escape: str | None
    tolerances: Tolerances
    max_time: float | None
    validation: HeldOut | None
    callbacks: tuple[Callback, ...]


def check_options(
    problem: Problem,
    *,
    method: str,
    solver: str,
    max_iter: int,
    alpha: float | None,
    damping: float | None,
    momentum: float,
    geodesic: bool | None,
    precision: str,
    batch_size: int | None,
    regularizer: NullSpace | None = None,
    regularization: str | None = None,
    escape: str | None,
    grad_tol: float,
    loss_tol: float,
    step_tol: float,
    loss_target: float | None,
    max_time: float | None,
    validation: Any = None,
    patience: int | None = None,
    validation_tol: float = 0.0,
    callbacks: Iterable[Callback],
) -> Options:
    """Return the checked arguments of `train`."""
    if method not in METHODS:
        raise unknown_name("method", method, METHODS)
    if solver not in SOLVERS:
        raise unknown_name("solver", solver, SOLVERS)
    if precision not in PRECISIONS:
        raise unknown_name("precision", precision, PRECISIONS)
    if escape is not None and escape not in ESCAPES:
        raise unknown_name("escape", escape, ESCAPES)
    given = {
        "alpha": alpha is not None and alpha != 1.0,
        "damping": damping is not None,
        "momentum": momentum != 0.0,
        "geodesic": bool(geodesic),
        "precision": precision != "float64",
        "batch_size": batch_size is not None,
    }
    _check_method(method, solver, [name for name, is_given in given.items() if is_given])
    _check_solver(problem, method, solver)
    _check_regularizer(problem, regularizer, method, solver, precision, batch_size)
    others = {**given, "regularizer": regularizer is not None, "escape": escape is not None}
    check_regularization(problem, regularization, method, solver, others)
    if geodesic and batch_size is not None:
        raise ValueError("geodesic=True does not go with batch_size: mini-batches are too noisy")
    if precision == "mixed" and batch_size is not None:
        raise ValueError("precision='mixed' does not go with batch_size")
    momentum = check_positive("momentum", momentum, zero=True)
    if momentum >= 1.0:
        raise ValueError(f"momentum must be in [0, 1), got {momentum}")
    if alpha is None:
        alpha = ADAM_RATE if method == "adam" else 1.0
    return Options(
        method=method,
        solver=solver,
        rate=check_positive("alpha", alpha),
        damping=None if damping is None else check_positive("damping", damping),
        momentum=momentum,
        precision=precision,
        geodesic=None if geodesic is None else bool(geodesic),
        batch_size=_check_batch(batch_size, problem.n_samples),
        regularizer=regularizer,
        regularization=regularization,
        escape=escape,
        tolerances=_check_tolerances(grad_tol, loss_tol, step_tol, loss_target, max_iter),
        max_time=None if max_time is None else check_positive("max_time", max_time),
        validation=check_validation(problem, validation, patience, validation_tol),
        callbacks=_check_callbacks(callbacks),
    )


def _check_tolerances(
    grad_tol: float, loss_tol: float, step_tol: float, loss_target: float | None, max_iter: int
) -> Tolerances:
    target = loss_target
    if target is not None:
        target = check_positive("loss_target", target, zero=True)
    return Tolerances(
        gradient=check_positive("grad_tol", grad_tol, zero=True),
        loss=check_positive("loss_tol", loss_tol, zero=True),
        step=check_positive("step_tol", step_tol, zero=True),
        target=target,
        max_iter=check_count("max_iter", max_iter, 0),
    )


def _check_method(method: str, solver: str, given: list[str]) -> None:
    for name in given:
        if method not in LISTENERS[name]:
            listeners = ", ".join(repr(m) for m in LISTENERS[name])
            raise ValueError(f"{name} does not go with method {method!r}: only with {listeners}")
    if solver not in METHOD_SOLVERS[method]:
        valid = ", ".join(repr(s) for s in METHOD_SOLVERS[method])
        raise ValueError(f"solver {solver!r} does not go with method {method!r}: only {valid}")


def _check_solver(problem: Problem, method: str, solver: str) -> None:
    exact = method in ("lm", "ggn", "auto") and problem.curvature == "exact"
    if exact and solver in ("lsqr", "qr"):
        raise ValueError(
            f"solver {solver!r} does not go with a problem of curvature 'exact', which may be "
            "indefinite: use 'cholesky' or 'dual', or curvature 'psd'"
        )


def _check_regularizer(
    problem: Problem,
    regularizer: Any,
    method: str,
    solver: str,
    precision: str,
    batch_size: int | None,
) -> None:
    if regularizer is None:
        return
    if not isinstance(regularizer, NullSpace):
        kind = type(regularizer).__name__
        raise TypeError(f"regularizer must be a fastggn.NullSpace or None, not {kind}")
    mode = regularizer.mode
    if method not in REGULARISED[mode]:
        valid = ", ".join(repr(m) for m in REGULARISED[mode])
        raise ValueError(
            f"regularizer of mode {mode!r} does not go with method {method!r}: only with {valid}"
        )
    if problem.l2 > 0.0:
        raise ValueError(
            f"regularizer does not go with a problem of l2 = {problem.l2}, whose curvature has no "
            "null space: make the problem with l2=0"
        )
    linear = method in ("lm", "ggn")
    if linear and problem.curvature == "exact":
        raise ValueError("regularizer does not go with curvature 'exact': use 'psd' or 'newton'")
    refused = "cholesky" if mode == "step" else "dual"
    if linear and solver == refused:
        raise ValueError(f"regularizer of mode {mode!r} does not go with solver {solver!r}")
    if linear and mode == "objective" and solver == "qr" and problem.n_params > MOST_STORED:
        raise ValueError(
            f"solver 'qr' stores the null space: N = {problem.n_params} exceeds {MOST_STORED}; "
            "use 'lsqr'"
        )
    if precision != "float64" or batch_size is not None:
        raise ValueError("regularizer does not go with precision='mixed' or batch_size")


def _check_batch(batch_size: int | None, n_samples: int) -> int | None:
    if batch_size is None:
        return None
    count = check_count("batch_size", batch_size, 1)
    if count > n_samples:
        raise ValueError(f"batch_size is {count}, but the problem has {n_samples} samples")
    return count


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
