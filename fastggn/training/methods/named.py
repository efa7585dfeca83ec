"""The methods of `train` as objects with their own options, and their names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, TypeAlias

from fastggn.runtime.errors import (
    check_count,
    check_positive,
    checked_flag,
    hinted_fields,
    unknown_name,
)

Solver: TypeAlias = Literal["auto", "cholesky", "dual", "lsqr", "qr"]
Name: TypeAlias = Literal["lm", "ggn", "newton", "lbfgs", "bp", "adam", "auto"]

SOLVERS = ("auto", "cholesky", "dual", "lsqr", "qr")
NEWTON_SOLVERS = ("auto", "cholesky", "lsqr")
PRECISIONS = ("float64", "mixed")


@dataclass(frozen=True)
class NamedMethod:
    """A method of `train` with its options."""

    name: ClassVar[str]

    def __post_init__(self) -> None:
        for option in fields(self):
            value = _CHECKS[option.name](option.name, getattr(self, option.name))
            object.__setattr__(self, option.name, value)


@hinted_fields
@dataclass(frozen=True, kw_only=True)
class LevenbergMarquardt(NamedMethod):
    """Levenberg-Marquardt with damping by the gain ratio; the name is "lm".

    Source: Marquardt (1963), "An algorithm for least-squares estimation of nonlinear parameters",
    after Levenberg (1944); the damping is that of Nielsen (1999), "Damping parameter in Marquardt's
    method".

    Parameters
    ----------
    damping : float, optional
        The first lambda; None computes it from the curvature along the gradient.
    geodesic : bool or "auto"
        Correct each step to second order (Transtrum and Sethna 2012). One more product and one
        more solve for each step save assemblies. "auto": yes (docs/decisions/0009), except with
        "lsqr", where each solve is a complete iteration, and with `batch_size`.
    solver : {"auto", "cholesky", "dual", "lsqr", "qr"}
        The solver of the linear systems. "auto" chooses by shape and memory; `TrainResult.solver`
        is the choice.
    precision : {"float64", "mixed"}
        With "cholesky": "mixed" assembles the GGN in float32, and keeps loss, gradient and
        solution in float64. If Cholesky fails, and in the last phase, all is in float64.
    curvature_samples : int or "auto" or "all"
        The samples of the Gauss-Newton matrix, drawn afresh in each iteration; loss, gradient and
        acceptance use all samples (Byrd, Chin, Neveitt and Nocedal 2011). A number is that of the
        first iterations: it grows where the curvature along a step or the progress asks for it.
        "auto": 4 N rows, at most a quarter, with "cholesky", more than 10 N rows and 1e8
        multiplications (8 N, a half and 20 N with several outputs or equations), else all.
    batch_size : int, optional
        The size of mini-batches; an iteration is then one pass over the samples.

    Raises
    ------
    TypeError, ValueError
        If an option is not valid, or two options exclude each other.

    Examples
    --------
    >>> import fastggn as fg
    >>> fg.LevenbergMarquardt(solver="qr").solver
    'qr'
    """

    name: ClassVar[str] = "lm"

    damping: float | None = None
    geodesic: bool | Literal["auto"] = "auto"
    solver: Solver = "auto"
    precision: Literal["float64", "mixed"] = "float64"
    curvature_samples: int | Literal["auto", "all"] = "auto"
    batch_size: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.batch_size is None:
            return
        if self.geodesic is True:
            raise ValueError(
                "geodesic=True does not go with batch_size: mini-batches are too noisy"
            )
        if self.precision == "mixed":
            raise ValueError("precision='mixed' does not go with batch_size")
        if self.curvature_samples not in ("auto", "all"):
            raise ValueError("curvature_samples does not go with batch_size")


@hinted_fields
@dataclass(frozen=True, kw_only=True)
class GaussNewton(NamedMethod):
    """The generalised Gauss-Newton method without damping; the name is "ggn".

    A singular system has the minimum-norm step (Shen 2018, Eqs. 38-40). Every finite step is
    accepted; a step that raises the loss issues a warning.

    Source: Schraudolph (2002), "Fast curvature matrix-vector products for second-order gradient
    descent".

    Parameters
    ----------
    step : float
        The step length.
    solver : {"auto", "cholesky", "dual", "lsqr", "qr"}
        The solver of the linear systems.
    batch_size : int, optional
        The size of mini-batches; an iteration is then one pass over the samples.

    Raises
    ------
    TypeError, ValueError
        If an option is not valid.
    """

    name: ClassVar[str] = "ggn"

    step: float = 1.0
    solver: Solver = "auto"
    batch_size: int | None = None


@hinted_fields
@dataclass(frozen=True, kw_only=True)
class Newton(NamedMethod):
    """Newton's method, with the exact Hessian in a trust region; the name is "newton".

    Source: More and Sorensen (1983), "Computing a trust region step"; without a stored Hessian
    Steihaug (1983), "The conjugate gradient method and trust regions in large scale optimization".

    Parameters
    ----------
    solver : {"auto", "cholesky", "lsqr"}
        "cholesky" stores the Hessian, "lsqr" is matrix-free. "auto" stores up to 1000 parameters.

    Raises
    ------
    TypeError, ValueError
        If an option is not valid.
    """

    name: ClassVar[str] = "newton"

    solver: Literal["auto", "cholesky", "lsqr"] = "auto"

    def __post_init__(self) -> None:
        if self.solver not in SOLVERS:
            raise unknown_name("solver", self.solver, NEWTON_SOLVERS)
        if self.solver not in NEWTON_SOLVERS:
            valid = ", ".join(repr(name) for name in NEWTON_SOLVERS)
            raise ValueError(
                f"solver {self.solver!r} does not go with method 'newton': only {valid}"
            )


@hinted_fields
@dataclass(frozen=True, kw_only=True)
class LBFGS(NamedMethod):
    """Limited-memory BFGS on all samples; the name is "lbfgs".

    Source: Liu and Nocedal (1989), "On the limited memory BFGS method for large scale
    optimization".

    Parameters
    ----------
    memory : int
        The number of last steps that shape the next one.

    Raises
    ------
    TypeError, ValueError
        If an option is not valid.
    """

    name: ClassVar[str] = "lbfgs"

    memory: int = 10


@hinted_fields
@dataclass(frozen=True, kw_only=True)
class GradientDescent(NamedMethod):
    """Gradient descent on all samples, or backpropagation; the name is "bp".

    Source: Rumelhart, Hinton and Williams (1986), "Learning representations by back-propagating
    errors".

    Parameters
    ----------
    rate : float
        The learning rate.
    momentum : float
        The share of the last step in the next one, in [0, 1).

    Raises
    ------
    TypeError, ValueError
        If an option is not valid.
    """

    name: ClassVar[str] = "bp"

    rate: float = 1.0
    momentum: float = 0.0


@hinted_fields
@dataclass(frozen=True, kw_only=True)
class Adam(NamedMethod):
    """Adam; the name is "adam", and an iteration is one pass.

    Source: Kingma and Ba (2015), "Adam: a method for stochastic optimization".

    Parameters
    ----------
    rate : float
        The step size.
    batch_size : int, optional
        The size of mini-batches; None takes all samples at once.

    Raises
    ------
    TypeError, ValueError
        If an option is not valid.
    """

    name: ClassVar[str] = "adam"

    rate: float = 1e-3
    batch_size: int | None = None


@hinted_fields
@dataclass(frozen=True, kw_only=True)
class Auto(NamedMethod):
    """The choice by the size of the problem and the speed of the run; the name is "auto".

    Up to 400 parameters or equations (T n_L) it is "lm". With up to 300 parameters and a loss that
    is not for classes, "newton" follows once "lm" gets slow. Larger problems use L-BFGS with five
    steps in an iteration, and trials of "lm", which continues while it lowers the loss at less
    cost.
    """

    name: ClassVar[str] = "auto"


AnyMethod: TypeAlias = (
    LevenbergMarquardt | GaussNewton | Newton | LBFGS | GradientDescent | Adam | Auto
)
METHODS: dict[str, type[AnyMethod]] = {
    kind.name: kind
    for kind in (LevenbergMarquardt, GaussNewton, Newton, LBFGS, GradientDescent, Adam, Auto)
}


def get_method(method: Any) -> AnyMethod:
    """Return the method of this name with its default options, or the object itself."""
    if isinstance(method, str):
        if method not in METHODS:
            raise unknown_name("method", method, METHODS)
        return METHODS[method]()
    if isinstance(method, AnyMethod):
        return method
    if isinstance(method, type) and method in METHODS.values():
        raise TypeError(f"method is the class {method.__name__}: write {method.__name__}()")
    raise TypeError(
        "method must be a name or an object such as fg.LevenbergMarquardt(), not "
        f"{type(method).__name__}"
    )


def make_method(name: str, given: Mapping[str, Any]) -> AnyMethod:
    """Return the method of this name with the options given, or raise for one it does not have."""
    default = get_method(name)
    for option in given:
        if not hasattr(default, option):
            takers = [repr(n) for n, kind in METHODS.items() if option in _names(kind)]
            raise ValueError(
                f"{option} does not go with method {name!r}: only with {', '.join(takers)}"
            )
    return type(default)(**given)


def _names(kind: type[AnyMethod]) -> list[str]:
    return [option.name for option in fields(kind)]


def _one_of(valid: tuple[str, ...]) -> Any:
    def check(name: str, value: Any) -> Any:
        if value not in valid:
            raise unknown_name(name, value, valid)
        return value

    return check


def _count(name: str, value: Any) -> int:
    return check_count(name, value, 1)


def _curvature_samples(name: str, value: Any) -> int | str:
    if isinstance(value, str):
        if value not in ("auto", "all"):
            raise ValueError(f'{name} must be "auto", "all" or a number of samples, got {value!r}')
        return value
    return check_count(name, value, 1)


def _optional(check: Any) -> Any:
    return lambda name, value: None if value is None else check(name, value)


def _momentum(name: str, value: Any) -> float:
    momentum = check_positive(name, value, zero=True)
    if momentum >= 1.0:
        raise ValueError(f"{name} must be in [0, 1), got {momentum}")
    return momentum


# The check of each option; the same name has the same check in all methods.
_CHECKS: dict[str, Any] = {
    "damping": _optional(check_positive),
    "geodesic": lambda name, value: value if value == "auto" else checked_flag(name, value),
    "solver": _one_of(SOLVERS),
    "precision": _one_of(PRECISIONS),
    "curvature_samples": _curvature_samples,
    "batch_size": _optional(_count),
    "step": check_positive,
    "rate": check_positive,
    "momentum": _momentum,
    "memory": _count,
}
