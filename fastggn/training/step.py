"""The vocabulary of the loop: a method makes moves, and a verdict ends the run."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from fastggn.training.result import Status
from fastggn.training.resumable import State, Stateful, put

if TYPE_CHECKING:
    from fastggn.objective.point import Linearisation
    from fastggn.objective.problem import Problem


@dataclass(frozen=True)
class Verdict:
    """Why the run ends."""

    status: Status
    message: str


@dataclass(frozen=True)
class Move:
    """One iteration's outcome: the point it ends at, and how it came there.

    `point` is the very object the iteration started from where nothing was accepted. `cut` tells
    a pass over the samples that the time limit ended early: a resumed run does it again. Where the
    objective itself still moves it is not `settled`: a change of the loss then says nothing.
    """

    point: Linearisation
    step_norm: float
    solver: str
    accepted: bool = True
    damping: float | None = None
    gain_ratio: float | None = None
    rank: int | None = None
    rcond: float | None = None
    rejections: int = 0
    verdict: Verdict | None = None
    cut: bool = False
    alpha: float | None = None
    beta: float | None = None
    effective_parameters: float | None = None
    settled: bool = True

    @cached_property
    def gradient_norm(self) -> float:
        """The 2-norm of the gradient at `point`."""
        return norm(self.point.gradient)


@dataclass
class Counts:
    """Work done since the start of a run."""

    assemblies: int = 0
    factorisations: int = 0
    evaluations: int = 0

    def state(self) -> State:
        """Return the counts."""
        return asdict(self)

    def restore(self, state: State) -> None:
        """Go on counting from those of a state."""
        put(self, state, *(field.name for field in fields(self)))


class Method(Stateful, Protocol):
    """A training method: from one point to the next."""

    @property
    def solver(self) -> str:
        """What solves the method's systems, and why it was chosen."""

    def advance(self, point: Linearisation) -> Move:
        """Do one iteration from `point`."""


def norm(vector: NDArray[np.float64]) -> float:
    """Return the 2-norm, without the overflow of a plain sum of squares."""
    largest = float(np.abs(vector).max(initial=0.0))
    if 1e-140 < largest < 1e140:
        return math.sqrt(vector @ vector)
    if largest == 0.0 or not math.isfinite(largest):
        return largest
    return largest * float(np.linalg.norm(vector / largest))


def is_usable(point: Linearisation) -> bool:
    """Whether the loss and the gradient at `point` are finite."""
    return math.isfinite(point.loss) and bool(np.isfinite(point.gradient).all())


def arrive(problem: Problem, theta: NDArray[np.float64]) -> Linearisation | None:
    """Return the point at `theta`, None where theta, loss or gradient is not finite."""
    if not np.isfinite(theta).all():
        return None
    point = problem.linearise(theta)
    return point if is_usable(point) else None
