"""What is read of the samples, block by block: inputs and gates, with targets of a file."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.data.raw import MOST_ROW_BYTES, RawColumns, RawRows, raw_columns
from fastggn.data.reading import read_ahead
from fastggn.data.sources import SampleSource, StreamedTargets
from fastggn.network.workspace import NO_GATES

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
Part = tuple[FloatArray | RawRows, BoolArray]


class Samples:
    """Inputs and fixed gates, read together by ranges of samples.

    Targets that are read from a file are read ahead with them. Rows of float64 in a file that the
    system holds in memory are not read here: the workers fetch them, with the targets where these
    stand in the same rows.
    """

    def __init__(self, inputs: SampleSource, gates: BoolArray | None, targets: Any = None) -> None:
        self._inputs = inputs
        self._gates = gates
        self._targets = targets if isinstance(targets, StreamedTargets) else None
        self._raw_targets = None if self._targets is None else raw_columns(self._targets)
        self._raw = _raw_samples(raw_columns(inputs), self._raw_targets)

    @property
    def gated(self) -> bool:
        """Whether 0/1 gates stand in place of the hidden activations."""
        return self._gates is not None

    def read(self, start: int, stop: int) -> tuple[FloatArray, BoolArray]:
        """Return the inputs (B, n_0) and the gates (B, hidden units) or (0, 0)."""
        return self._inputs.rows(start, stop), self._gates_of(start, stop)

    def _gates_of(self, start: int, stop: int) -> BoolArray:
        return NO_GATES if self._gates is None else self._gates[start:stop]

    def parts(self, step: int) -> Iterator[tuple[int, Part]]:
        """Yield (start, (inputs, gates)) for `step` samples at a time, files read ahead.

        The inputs are an array, or what the workers need to fetch them.
        """
        n_samples = self._inputs.shape[0]
        if self._inputs.streamed or self._targets is not None:
            yield from read_ahead(self.part, n_samples, step, self._at_once)
            return
        for start in range(0, n_samples, step):
            yield start, self.read(start, min(n_samples, start + step))

    def part(self, start: int, stop: int) -> Part:
        """Return the inputs as an array, or what the workers need to fetch them; and the gates."""
        raw = None if self._raw is None else self._raw_rows(*self._raw, start, stop)
        if self._targets is not None and (raw is None or raw.columns.size == raw.shape[1]):
            self._targets[start:stop]  # kept there for the loss
        if raw is None:
            return self.read(start, stop)
        return raw, self._gates_of(start, stop)

    def _at_once(self, start: int, stop: int) -> Part | None:
        """Return what `part` does where nothing has to be read, or a few targets at most."""
        if self._raw is None or not self._raw[0].source.tells_at_once:
            return None
        inputs, targets = self._raw
        if self._targets is not None and targets is None:
            elsewhere = self._raw_targets
            if elsewhere is None or not elsewhere.source.tells_at_once:
                return None
            if not elsewhere.source.ready(*elsewhere.extent(start, stop)):
                return None
        raw = self._raw_rows(inputs, targets, start, stop)
        return None if raw is None else (raw, self._gates_of(start, stop))

    def _raw_rows(
        self, inputs: RawColumns, targets: RawColumns | None, start: int, stop: int
    ) -> RawRows | None:
        """Return the rows as the workers fetch them; None where they would have to wait."""
        columns = inputs.columns
        if targets is not None:
            columns = np.concatenate([columns, targets.columns])
        rows = RawRows(
            (stop - start, inputs.columns.size),
            inputs.source,
            inputs.position + start * inputs.pitch,
            inputs.pitch,
            columns,
            inputs.scaling,
            lambda: self._inputs.rows(start, stop),
            self._keeper(targets, start, stop),
        )
        return rows if rows.ready() else None

    def _keeper(
        self, targets: RawColumns | None, start: int, stop: int
    ) -> Callable[[FloatArray], None]:
        """Return what is done with targets that were fetched with the inputs."""
        kept = self._targets

        def keep(rows: FloatArray) -> None:
            if targets is not None and kept is not None:
                kept.keep(start, stop, targets.scaled_rows(rows))

        return keep


def _raw_samples(
    inputs: RawColumns | None, targets: RawColumns | None
) -> tuple[RawColumns, RawColumns | None] | None:
    """Return where inputs and targets stand in the same rows, or the inputs alone, or neither."""
    if inputs is None or inputs.pitch > MOST_ROW_BYTES:
        return None
    return (inputs, None) if targets is None else inputs.beside(targets) or (inputs, None)
