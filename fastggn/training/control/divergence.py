"""Tell a minimum at infinity: the gradient tends to zero, the weights do not settle."""

from __future__ import annotations

from collections import deque

import numpy as np

from fastggn.training.resumable import Resumable, State

# Loss, and the norms of gradient, theta and step.
Norms = tuple[float, float, float, float]

# The gradient falls by this factor in the window that is looked at ...
GRADIENT_FALL = 1e-3
# ... of at least so many accepted steps, each of which lengthened theta ...
SHORTEST_WINDOW = 3
LONGEST_WINDOW = 200
# ... while the steps did not shrink below this share of the window's first one,
STEADY = 0.5
# and theta grew by this factor.
GROWTH = 1.01
# Without a convergence test to confirm it, the gradient must also be this far below its peak,
# and from one iteration to the next no step may shrink to this share, nor the gradient grow by
# its inverse.
FAR_BELOW_PEAK = 1e-6
SMOOTH = 0.15
# With it, so many iterations at a small gradient also tell.
FLAT_WINDOW = 6
# Theta that has grown by this factor has run away, unless it fits exactly: the loss is below
# this share of the first one.
RUN_AWAY = 1e6
EXACT_FIT = 1e-12


class DivergenceTest(Resumable):
    """Watches the norms of gradient, theta and step from one accepted iteration to the next.

    At a finite minimum the steps shrink with the gradient: in proportion where the Hessian is
    regular, and like its (2k-1)-th root where the loss is flat of order 2k. Towards an infimum
    that is only approached (separable classes, saturated units) the gradient falls
    exponentially while every step lengthens theta by about as much as the one before. The test
    takes the shortest run of last iterations in which the gradient fell by a factor of 1000;
    the run diverges if it has at least 3 of them, theta grew and the loss did not rise in each
    of them, theta grew by a hundredth over all of them, and the last step is at least half as
    long as the first. As long as no convergence test says that the run is over, the gradient
    must also be far below its peak, and neither step nor gradient may have jumped, as they do
    in the zigzag along a valley.

    A run that a convergence test calls converged diverges, too, if the same holds of its last 6
    iterations and the gradient was below a thousandth of its peak in all of them: it zigzags
    towards infinity.

    An undamped method can also leap to where all units are saturated and find a tiny gradient
    there: a run that would count as converged diverges, too, if theta is a million times longer
    than at the start and the loss is no exact fit.
    """

    _resumes = ("_peak", "_first_loss", "_first_norm")

    def __init__(self) -> None:
        self._records: deque[Norms] = deque(maxlen=LONGEST_WINDOW)
        self._peak = 0.0
        self._first_loss: float | None = None
        self._first_norm = 0.0  # of theta

    def observe(
        self, loss: float, gradient_norm: float, theta_norm: float, step_norm: float
    ) -> None:
        """Take note of an accepted iteration (the starting point has a step of 0)."""
        self._records.append((loss, gradient_norm, theta_norm, step_norm))
        self._peak = max(self._peak, gradient_norm)
        if self._first_loss is None:
            self._first_loss, self._first_norm = loss, theta_norm

    def holds(self, *, converged: bool) -> bool:
        """Whether the run diverges; `converged` if a convergence test says that it is over."""
        if converged and self._has_run_away():
            return True
        if converged:
            return self._is_growing(self._window()) or self._is_growing(self._flat())
        if self._records[-1][1] > FAR_BELOW_PEAK * self._peak:
            return False
        window = self._window()
        return self._is_growing(window) and self._is_calm(window)

    def state(self) -> State:
        """Return the norms kept, the peak of the gradient, and loss and norm at the start."""
        records = np.array(self._records, dtype=np.float64).reshape(-1, 4)
        return {**super().state(), "records": records}

    def restore(self, state: State) -> None:
        """Restore the norms and the start."""
        super().restore(state)
        self._records.clear()
        for loss, gradient_norm, theta_norm, step_norm in np.asarray(state["records"]).tolist():
            self._records.append((loss, gradient_norm, theta_norm, step_norm))

    @staticmethod
    def _is_growing(window: list[Norms]) -> bool:
        if len(window) <= SHORTEST_WINDOW:
            return False
        pairs = zip(window, window[1:], strict=False)
        monotone = all(b[0] <= a[0] and b[2] > a[2] for a, b in pairs)
        grown = window[-1][2] >= GROWTH * window[0][2]
        return monotone and grown and window[-1][3] >= STEADY * window[1][3]

    @staticmethod
    def _is_calm(window: list[Norms]) -> bool:
        pairs = list(zip(window, window[1:], strict=False))
        gradients = all(b[1] <= a[1] / SMOOTH for a, b in pairs)
        return gradients and all(b[3] >= SMOOTH * a[3] for a, b in pairs[1:])

    def _flat(self) -> list[Norms]:
        # The last iterations, where the gradient was small throughout.
        window = list(self._records)[-FLAT_WINDOW - 1 :]
        small = all(record[1] <= GRADIENT_FALL * self._peak for record in window)
        return window if small and len(window) > FLAT_WINDOW else []

    def _has_run_away(self) -> bool:
        if self._first_loss is None:
            return False
        loss, _, theta_norm, _ = self._records[-1]
        away = theta_norm > RUN_AWAY * (1.0 + self._first_norm)
        return away and loss > EXACT_FIT * self._first_loss

    def _window(self) -> list[Norms]:
        records = list(self._records)
        last = records[-1][1]
        for start in range(len(records) - 2, -1, -1):
            if last <= GRADIENT_FALL * records[start][1]:
                return records[start:]
        return []
