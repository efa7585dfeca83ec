"""Method "ggn": Shen's generalised Gauss-Newton iteration, fixed step length, no damping."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

import numpy as np

from fastggn.runtime.errors import AscentWarning
from fastggn.training.resumable import State, put, take
from fastggn.training.step import Move, Verdict, arrive, norm
from fastggn.training.systems import Systems

if TYPE_CHECKING:
    from fastggn.objective.point import Linearisation
    from fastggn.objective.problem import Problem


# An increase of the loss below these is rounding: relative to the loss, and to the first loss
# (the squared rounding of outputs, where a fit is exact).
ROUNDING_RELATIVE = 1e-12
ROUNDING_ABSOLUTE = 1e-27


class GaussNewton:
    """``theta <- theta - alpha G^+ g`` (Shen 2018, Eqs. 38-40).

    The step is the minimum-norm one where the system is singular, as it always is for
    N > T n_L. Every finite step is taken; a step that raises the loss is warned of once.
    """

    def __init__(self, problem: Problem, systems: Systems, alpha: float) -> None:
        self._problem = problem
        self._systems = systems
        self._alpha = alpha
        self._first_loss: float | None = None
        self._warned = False

    @property
    def solver(self) -> str:
        """The solver of the systems, and why it was chosen."""
        return self._systems.reason

    def advance(self, point: Linearisation) -> Move:
        """Take the step of one system."""
        system = self._systems.prepare(point)
        solution = system.solve(0.0)
        step = self._alpha * solution.step
        new, verdict = point, None
        if not solution.ok:
            verdict = Verdict("failed", f"no step: {solution.message or solution.status}")
        else:
            self._systems.counts.evaluations += 1
            arrival = arrive(self._problem, point.theta + step)
            if arrival is not None:
                new = arrival
            else:
                verdict = Verdict(
                    "failed",
                    f"the undamped step of length {norm(step):.3g} leads to a loss or gradient "
                    "that is not finite; theta was not moved (method 'lm' would shorten it)",
                )
        self._warn_of_ascent(point, new)
        return Move(
            new,
            norm(step) if np.isfinite(step).all() else np.nan,
            system.name,
            accepted=verdict is None,
            gain_ratio=self._gain(point, new, step) if verdict is None else None,
            rank=solution.rank,
            rcond=solution.rcond,
            verdict=verdict,
        )

    def state(self) -> State:
        """Return the solver, the first loss, and whether an ascent was warned of."""
        return {**take(self, "_first_loss", "_warned"), "systems": self._systems.state()}

    def restore(self, state: State) -> None:
        """Take the state over."""
        put(self, state, "_first_loss", "_warned")
        self._systems.restore(state["systems"])

    @staticmethod
    def _gain(point: Linearisation, new: Linearisation, step: np.ndarray) -> float:
        predicted = point.predicted_decrease(step)
        return (point.loss - new.loss) / predicted if predicted > 0.0 else 0.0

    def _warn_of_ascent(self, old: Linearisation, new: Linearisation) -> None:
        if self._first_loss is None:
            self._first_loss = old.loss
        increase = new.loss - old.loss
        floor = max(ROUNDING_RELATIVE * old.loss, ROUNDING_ABSOLUTE * self._first_loss)
        if increase > floor and not self._warned:
            self._warned = True
            warnings.warn(
                f"an undamped step raised the loss from {old.loss:.6g} to {new.loss:.6g}; "
                "method 'ggn' takes it all the same (method 'lm' would not)",
                AscentWarning,
                stacklevel=2,
            )
