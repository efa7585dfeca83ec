"""Callbacks of an estimator's training run: when the loss has settled, and validation scores."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fastggn.training.result import Record


class Plateau:
    """Asks to stop where the loss has not fallen enough for several iterations in a row.

    An iteration is idle where its loss is above ``(1 - tol)`` times the lowest one before it.
    """

    def __init__(self, tol: float, patience: float) -> None:
        self._tol = tol
        self._patience = patience
        self._best = np.inf
        self._idle = 0
        self.reached = False

    def __call__(self, record: Record) -> bool:
        """Take note of an iteration; whether to stop."""
        if self._tol == 0.0:
            return False
        enough = record.loss <= (1.0 - self._tol) * self._best
        self._idle = 0 if enough else self._idle + 1
        self._best = min(self._best, record.loss)
        self.reached = self._idle >= self._patience
        return self.reached

    @property
    def message(self) -> str:
        """Why the run ended, in words."""
        return f"no iteration of the last {self._idle} lowered the loss by {self._tol:g} of itself"


class Scores:
    """Keeps the score of every iteration on data set aside."""

    def __init__(self, score: Callable[[NDArray[np.float64]], float]) -> None:
        self._score = score
        self.values: list[float] = []

    def __call__(self, record: Record) -> None:
        """Score the parameters after an iteration."""
        self.values.append(self._score(record.theta))
