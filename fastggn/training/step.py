"""The types of the training loop: methods, iterations, and the reason for its end."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fastggn.runtime.cached import cached_property
from fastggn.solvers.base import all_finite
from fastggn.training.result import Status
from fastggn.training.resumable import Resumable

if TYPE_CHECKING:
    from fastggn.objective.point import Point
    from fastggn.objective.problem import Problem
    from fastggn.training.regularisation.evidence import EvidenceEstimate


@dataclass(frozen=True)
class Ending:
    """The reason for the end of a run."""

    status: Status
    message: str


@dataclass(frozen=True)
class Iteration:
    """The outcome of one iteration; without an accepted step `point` is the point it started from.

    `cut` marks a pass over the samples that the time limit ended early: a resumed run repeats it.
    While the objective itself changes, the iteration is not `settled`, and losses do not compare.
    `sampled` says that the curvature was that of some samples.
    """

    point: Point
    step_norm: float
    solver: str
    accepted: bool = True
    damping: float | None = None
    gain_ratio: float | None = None
    rank: int | None = None
    rcond: float | None = None
    rejections: int = 0
    stop: Ending | None = None
    cut: bool = False
    alpha: float | None = None
    beta: float | None = None
    effective_parameters: float | None = None
    curvature_samples: int | None = None
    sampled: bool = False
    settled: bool = True
    validation_loss: float | None = None
    early_stop: Ending | None = None

    @cached_property
    def gradient_norm(self) -> float:
        """The 2-norm of the gradient at `point`."""
        return norm(self.point.gradient)


@dataclass
class Work(Resumable):
    """Work done since the start of a run."""

    _resumes = ("assemblies", "factorisations", "evaluations")

    assemblies: int = 0
    factorisations: int = 0
    evaluations: int = 0


class Choice(NamedTuple):
    """The name of a solver, and the reason for its choice."""

    name: str
    reason: str


class Method(Resumable, ABC):
    """A training method: its `step` leads from one point to the next."""

    @property
    @abstractmethod
    def solver(self) -> Choice:
        """The solver of the method's systems, or its kind of step."""

    @abstractmethod
    def step(self, point: Point) -> Iteration:
        """Do one iteration from `point`."""

    def may_leave(self, stop: Ending) -> bool:
        """Whether the method may continue at this stop."""
        return False

    def leaves(self, point: Point, stop: Ending) -> bool:
        """Whether the method continues from `point`, by its next `step`."""
        return False

    def kept(self, point: Point, stop: Ending) -> tuple[Point, Ending]:
        """Return the point that a run ends with, and why: the last one, or a lower one."""
        return point, stop

    def evidence(self, point: Point) -> EvidenceEstimate | None:
        """Return the evidence at the end of a run, or None for other methods."""
        return None


class WrappedMethod(Method):
    """A method around an inner method, which does everything that a subclass does not change."""

    _resumes: ClassVar[tuple[str, ...]] = ("_method",)

    def __init__(self, method: Method) -> None:
        self._method = method

    @property
    def solver(self) -> Choice:
        """The solver of the inner method."""
        return self._method.solver

    def may_leave(self, stop: Ending) -> bool:
        """Whether the inner method may continue at this stop."""
        return self._method.may_leave(stop)

    def leaves(self, point: Point, stop: Ending) -> bool:
        """Whether the inner method continues from `point`."""
        return self._method.leaves(point, stop)

    def kept(self, point: Point, stop: Ending) -> tuple[Point, Ending]:
        """Return what the inner method ends with."""
        return self._method.kept(point, stop)

    def evidence(self, point: Point) -> EvidenceEstimate | None:
        """Return the evidence of the inner method."""
        return self._method.evidence(point)


def norm(vector: NDArray[np.float64]) -> float:
    """Return the 2-norm, without the overflow of a plain sum of squares."""
    with np.errstate(all="ignore"):
        square = float(vector.dot(vector))
    if 1e-280 < square < 1e280:
        return math.sqrt(square)
    largest = float(np.abs(vector).max(initial=0.0))
    if largest == 0.0 or not math.isfinite(largest):
        return largest
    return largest * float(np.linalg.norm(vector / largest))


def is_usable(point: Point) -> bool:
    """Whether the loss and the gradient at `point` are finite."""
    return math.isfinite(point.loss) and all_finite(point.gradient)


def arrive(problem: Problem, theta: NDArray[np.float64]) -> Point | None:
    """Return the point at `theta`, or None if theta, loss or gradient is not finite."""
    if not all_finite(theta):
        return None
    point = problem.at(theta)
    return point if is_usable(point) else None
