"""Callbacks of the training run of an estimator."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from fastggn.training.result import Record


class Plateau:
    """Stops a run after `patience` iterations without a fall of the loss by the share `tol`."""

    def __init__(self, tol: float, patience: float) -> None:
        self._tol = tol
        self._patience = patience
        self._best = np.inf
        self._idle = 0
        self.reached = False

    def __call__(self, record: Record) -> bool:
        """Count an iteration; return whether to stop."""
        if self._tol == 0.0:
            return False
        enough = record.loss <= (1.0 - self._tol) * self._best
        self._idle = 0 if enough else self._idle + 1
        self._best = min(self._best, record.loss)
        self.reached = self._idle >= self._patience
        return self.reached

    @property
    def message(self) -> str:
        """The reason of the stop in words."""
        return f"no iteration of the last {self._idle} lowered the loss by {self._tol:g} of itself"


class Scores:
    """Keeps the score on held-out data after each iteration."""

    def __init__(self, score: Callable[[NDArray[np.float64]], float]) -> None:
        self._score = score
        self.values: list[float] = []

    def __call__(self, record: Record) -> None:
        """Score the parameters after an iteration."""
        self.values.append(self._score(record.theta))
