"""The history of a run: its records, its callbacks, and its columns in a checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from fastggn.runtime.comm import SERIAL, Comm
from fastggn.training.options import Callback
from fastggn.training.result import History, Record
from fastggn.training.resumable import State
from fastggn.training.run import Clock
from fastggn.training.run_units import Units, Vector
from fastggn.training.step import Iteration, Work


class HistoryWriter:
    """Writes one record after each iteration."""

    def __init__(
        self,
        callbacks: tuple[Callback, ...],
        clock: Clock,
        work: Work,
        comm: Comm = SERIAL,
        units: Units | None = None,
    ) -> None:
        self._comm = comm
        self._units = Units() if units is None else units
        self._callbacks = callbacks
        self._clock = clock
        self._work = work
        self.records = History()

    def write(self, start: Vector, iteration: Iteration) -> bool:
        """Record an iteration from a theta, and return whether a callback asks to stop."""
        units, damping = self._units, iteration.damping
        record = Record(
            iteration=len(self.records) + 1,
            loss=iteration.point.loss * units.worth,
            gradient_norm=units.slope(iteration),
            step_norm=units.length(start, iteration),
            damping=None if damping is None else damping * units.worth,
            gain_ratio=iteration.gain_ratio,
            solver=iteration.solver,
            rank=iteration.rank,
            rcond=iteration.rcond,
            seconds=self._clock.seconds,
            accepted=iteration.accepted,
            rejections=iteration.rejections,
            assemblies=self._work.assemblies,
            factorisations=self._work.factorisations,
            evaluations=self._work.evaluations,
            alpha=iteration.alpha,
            beta=iteration.beta,
            effective_parameters=iteration.effective_parameters,
            validation_loss=iteration.validation_loss,
            curvature_samples=iteration.curvature_samples,
        )
        self.records.append(record)
        if not self._callbacks:
            return self._comm.any(False)
        with record.showing(units.outside(iteration.point.theta)):
            answers = [callback(record) for callback in self._callbacks]
        return self._comm.any(any(answer is True for answer in answers))

    def columns(self, count: int) -> State:
        """Return the first `count` records as columns."""
        return to_columns(self.records[:count])

    def restore(self, columns: State) -> None:
        """Restore the records of the earlier part of the run, without the callbacks."""
        self.records[:] = from_columns(columns)


def to_columns(records: Sequence[Record]) -> State:
    """Return one array for each field, with a mask of the entries that are not None."""
    columns: State = {}
    for field in fields(Record):
        values = [getattr(record, field.name) for record in records]
        given = [value for value in values if value is not None]
        if len(given) == len(values):
            columns[field.name] = _column(values)
        else:
            present = np.array([value is not None for value in values])
            columns[field.name] = {"present": present, "values": _column(given)}
    return columns


def from_columns(columns: State) -> list[Record]:
    """Return the records of `to_columns`."""
    lists = [_list(columns[field.name]) for field in fields(Record)]
    return [Record(*values) for values in zip(*lists, strict=True)]


def _array(values: list[Any]) -> np.ndarray:
    array = np.array(values) if values else np.zeros(0)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"a history cannot hold {array.dtype}")
    return array


def _column(values: list[Any]) -> Any:
    """Return numbers as an array, and texts as their distinct values and an index."""
    if not values or not isinstance(values[0], str):
        return _array(values)
    words = list(dict.fromkeys(values))
    places = {word: place for place, word in enumerate(words)}
    return {"words": words, "index": np.array([places[v] for v in values], dtype=np.int32)}


def _list(column: Any) -> list[Any]:
    if not isinstance(column, dict):
        return list(column.tolist())
    if "words" in column:
        return [column["words"][place] for place in column["index"].tolist()]
    values = iter(_list(column["values"]))
    return [next(values) if present else None for present in column["present"].tolist()]
