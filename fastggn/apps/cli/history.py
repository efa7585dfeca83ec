"""The history of a run as JSON lines, in a file that a program can follow."""

from __future__ import annotations

import contextlib
import json
import math
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

from fastggn.runtime.archive import require_file
from fastggn.runtime.atomic_files import write_atomically
from fastggn.runtime.errors import FastGGNWarning

if TYPE_CHECKING:
    from fastggn.training.result import Record


class HistoryFile:
    """A callback of `train` that writes a line of JSON with the seed and the fields of `Record`.

    A number that is not finite is null. A resumed run drops the lines of the iterations that it
    repeats; if the disk is full, the run continues without its history, with a warning.
    """

    def __init__(self, path: str | None, *, resume: bool) -> None:
        self._path = path
        self._resume = resume
        self._seed: int | None = None
        self._stream: TextIO | None = None
        if path is not None:
            with open(path, "a", encoding="utf-8"):
                pass
        self._fresh = not resume

    @contextlib.contextmanager
    def of(self, seed: int) -> Iterator[HistoryFile]:
        """Write the lines of the run of this seed inside the block."""
        self._seed = seed
        try:
            yield self
        finally:
            if self._stream is not None:
                self._stream.close()
                self._stream = None

    def __call__(self, record: Record) -> None:
        """Write a line."""
        if self._path is None:
            return
        try:
            if self._stream is None:
                self._stream = self._open(self._path, record.iteration)
            self._stream.write(json.dumps(self._fields(record), allow_nan=False) + "\n")
            self._stream.flush()
        except OSError as error:
            if self._stream is not None:
                with contextlib.suppress(OSError):  # its buffer cannot be written
                    self._stream.close()
                self._stream = None
            message = f"the history {self._path} ends here: it could not be written ({error})"
            warnings.warn(message, FastGGNWarning, stacklevel=2)
            self._path = None

    def _fields(self, record: Record) -> dict[str, Any]:
        fields: dict[str, Any] = {"seed": self._seed}
        for name, value in record.to_dict().items():
            finite = not isinstance(value, float) or math.isfinite(value)
            fields[name] = value if finite else None
        return fields

    def _open(self, path: str, iteration: int) -> TextIO:
        if self._fresh:
            self._fresh = False
            return open(path, "w", encoding="utf-8")
        if self._resume:
            lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
            kept = [line for line in lines if self._stays(line, iteration)]
            if kept != lines:
                text = "".join(f"{line}\n" for line in kept).encode()

                def write(stream: BinaryIO) -> None:
                    stream.write(text)

                write_atomically(path, write)
        return open(path, "a", encoding="utf-8")

    def _stays(self, line: str, iteration: int) -> bool:
        """Whether a line is whole and its iteration is not repeated."""
        try:
            fields = json.loads(line)
            again = fields["seed"] == self._seed and fields["iteration"] >= iteration
        except (ValueError, LookupError, TypeError):
            return False
        return not again


def read_history(path: str) -> dict[int, list[dict[str, Any]]]:
    """Return the records of a history file by the seed of their run."""
    lines = require_file(path).read_text(encoding="utf-8", errors="replace").splitlines()
    runs: dict[int, list[dict[str, Any]]] = {}
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
            runs.setdefault(int(record["seed"]), []).append(record)
            float(record["loss"] or 0.0)
        except (ValueError, LookupError, TypeError):
            if number == len(lines) and runs:  # the run goes on, or was killed during the write
                break
            raise ValueError(f"{path}: line {number} is no record of a history") from None
    if not runs:
        raise ValueError(f"{path}: the history is empty")
    return runs
