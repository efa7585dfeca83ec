"""Keep the history of a run, and show it to the callbacks."""

from __future__ import annotations

from fastggn.runtime.comm import SERIAL, Comm
from fastggn.training.clock import Clock
from fastggn.training.control.validation import Unwatched
from fastggn.training.history_columns import from_columns, to_columns
from fastggn.training.options import Callback
from fastggn.training.result import History, Record
from fastggn.training.resumable import State
from fastggn.training.step import Counts, Move


class Journal:
    """Writes one record an iteration."""

    def __init__(
        self,
        callbacks: tuple[Callback, ...],
        clock: Clock,
        counts: Counts,
        validation: Unwatched,
        comm: Comm = SERIAL,
    ) -> None:
        self._comm = comm
        self._callbacks = callbacks
        self._clock = clock
        self._counts = counts
        self._validation = validation
        self.records = History()

    def write(self, move: Move) -> bool:
        """Record a move; return whether a callback asks to stop."""
        validation_loss = self._validation.watch(move)
        record = Record(
            iteration=len(self.records) + 1,
            loss=move.point.loss,
            gradient_norm=move.gradient_norm,
            step_norm=move.step_norm,
            damping=move.damping,
            gain_ratio=move.gain_ratio,
            solver=move.solver,
            rank=move.rank,
            rcond=move.rcond,
            seconds=self._clock.seconds,
            accepted=move.accepted,
            rejections=move.rejections,
            assemblies=self._counts.assemblies,
            factorisations=self._counts.factorisations,
            evaluations=self._counts.evaluations,
            alpha=move.alpha,
            beta=move.beta,
            effective_parameters=move.effective_parameters,
            validation_loss=validation_loss,
        )
        self.records.append(record)
        if not self._callbacks:
            return self._comm.any(False)
        with record.showing(move.point.theta):
            answers = [callback(record) for callback in self._callbacks]
        return self._comm.any(any(answer is True for answer in answers))

    def columns(self, count: int) -> State:
        """Return the first `count` records, as columns."""
        return to_columns(self.records[:count])

    def restore(self, columns: State) -> None:
        """Begin with the records of an earlier part of the run; no callback sees them again."""
        self.records[:] = from_columns(columns)
