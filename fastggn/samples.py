"""What is read of the samples, block by block: inputs and gates, with targets of a file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.data.reading import read_ahead
from fastggn.data.sources import SampleSource, StreamedTargets
from fastggn.workspace import NO_GATES

__all__ = ["Samples"]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


class Samples:
    """Inputs and fixed gates, read together by ranges of samples.

    Targets that are read from a file are read ahead with them.
    """

    def __init__(self, inputs: SampleSource, gates: BoolArray | None, targets: Any = None) -> None:
        self._inputs = inputs
        self._gates = gates
        self._targets = targets if isinstance(targets, StreamedTargets) else None

    @property
    def gated(self) -> bool:
        """Whether 0/1 gates stand in place of the hidden activations."""
        return self._gates is not None

    def read(self, start: int, stop: int) -> tuple[FloatArray, BoolArray]:
        """Return the inputs (B, n_0) and the gates (B, hidden units) or (0, 0)."""
        gates = NO_GATES if self._gates is None else self._gates[start:stop]
        return self._inputs.rows(start, stop), gates

    def parts(self, step: int) -> Iterator[tuple[int, tuple[FloatArray, BoolArray]]]:
        """Yield (start, what `read` returns) for `step` samples at a time, files read ahead."""
        n_samples = self._inputs.shape[0]
        if self._inputs.streamed or self._targets is not None:
            yield from read_ahead(self._read_with_targets, n_samples, step)
            return
        for start in range(0, n_samples, step):
            yield start, self.read(start, min(n_samples, start + step))

    def _read_with_targets(self, start: int, stop: int) -> tuple[FloatArray, BoolArray]:
        if self._targets is not None:
            self._targets[start:stop]  # kept there for the loss
        return self.read(start, stop)
