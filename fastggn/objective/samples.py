"""The samples of a problem by ranges: inputs and gates, together with the targets of a file."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.data.reading import read_ahead
from fastggn.data.sources import SampleSource, StreamedTargets
from fastggn.network.workspace import NO_GATES

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
Part = tuple[FloatArray, BoolArray]


class Samples:
    """Inputs and fixed gates by ranges of samples, together with the targets of a file."""

    def __init__(self, inputs: SampleSource, gates: BoolArray | None, targets: Any = None) -> None:
        self._inputs = inputs
        self._gates = gates
        self._targets = targets if isinstance(targets, StreamedTargets) else None

    @property
    def streamed(self) -> bool:
        """Whether inputs or targets stay in a file."""
        return self._inputs.streamed or self._targets is not None

    @property
    def gated(self) -> bool:
        """Whether 0/1 gates replace the hidden activations."""
        return self._gates is not None

    def read(self, start: int, stop: int) -> Part:
        """Return the inputs (B, n_0) and the gates (B, hidden units), or (0, 0)."""
        gates = NO_GATES if self._gates is None else self._gates[start:stop]
        return self._inputs.rows(start, stop), gates

    def parts(self, step: int) -> Iterator[tuple[int, Part]]:
        """Yield (start, (inputs, gates)) of `step` samples each, with files read ahead."""
        n_samples = self._inputs.shape[0]
        if self.streamed:
            yield from read_ahead(self.part, n_samples, step)
            return
        for start in range(0, n_samples, step):
            yield start, self.read(start, min(n_samples, start + step))

    def part(self, start: int, stop: int) -> Part:
        """Read the targets of a file, so that the loss finds them, and return inputs and gates."""
        if self._targets is not None:
            self._targets[start:stop]
        return self.read(start, stop)
