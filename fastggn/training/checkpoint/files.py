"""Checkpoints as files: two generations of a sealed archive, each complete or absent.

This module needs only NumPy, so that a writer can import it alone.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fastggn.runtime.archive import (
    ArchiveError,
    MissingFileError,
    Tree,
    is_archive,
    read_sealed,
    write_sealed,
)
from fastggn.runtime.atomic_files import PathLike, check_writable, remove_leftovers
from fastggn.runtime.errors import CheckpointWarning
from fastggn.runtime.locks import FileLock, LockedError


class CheckpointError(ArchiveError):
    """The file is not a complete checkpoint, or it belongs to another run."""


class CheckpointFile:
    """The checkpoint of a run: a file, and the older generation ``NAME.previous``.

    Each save writes and syncs a file beside the checkpoint, and then renames both generations.
    A crash at any moment leaves at least one complete file.
    """

    def __init__(self, path: PathLike) -> None:
        self.path = Path(os.path.realpath(path))
        self.previous = self.path.with_name(f"{self.path.name}.previous")
        self._whole: bool | None = None  # whether the file is a complete checkpoint, if known

    def prepare(self, n_bytes: int, *, replace: bool) -> None:
        """Check that `n_bytes` can be written, and remove the leftovers of killed writers."""
        check_writable(self.path, n_bytes)
        if replace:
            try:
                self._read(self.path)
            except CheckpointError as error:
                raise CheckpointError(
                    f"{error}; it is not replaced: remove it or choose another name"
                ) from None
        if self.previous.exists() and not is_archive(self.previous):
            raise CheckpointError(
                f"{self.previous} is no checkpoint, and would be replaced by the older generation "
                "of this one: remove it or choose another name"
            )
        remove_leftovers(self.path)
        remove_leftovers(self.previous)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Lock these files against other runs until the block or the process ends."""
        check_writable(self.path)
        lock = FileLock(self.path)
        try:
            try:
                lock.acquire()
            except LockedError as error:
                raise CheckpointError(str(error)) from None
            yield
        finally:
            # An interrupt may come at any call of a function: then the call is repeated.
            try:
                lock.release()
            except BaseException:
                lock.release()
                raise

    def save(self, content: Mapping[str, Any]) -> None:
        """Write a checkpoint; a complete present file becomes the older generation."""
        if self._whole is None:
            with contextlib.suppress(CheckpointError):
                self._whole = self._read(self.path) is not None
        keep = self.previous if self._whole else None
        write_sealed(self.path, "checkpoint", content, keep)
        self._whole = True

    def load(self) -> Tree | None:
        """Return the newest complete content, or None if there is no file."""
        faults: list[str] = []
        for file in (self.path, self.previous):
            try:
                content = self._read(file)
            except CheckpointError as error:
                faults.append(str(error))
                continue
            if content is None:
                continue
            self._whole = file is self.path
            if not self._whole:
                fault = faults[0] if faults else f"{self.path} is missing"
                message = f"{fault}; going on from the older generation {file.name}"
                warnings.warn(message, CheckpointWarning, stacklevel=2)
            return content
        if faults:
            raise CheckpointError("; ".join(faults))
        return None

    def remove(self) -> None:
        """Remove both generations."""
        for file in (self.path, self.previous):
            file.unlink(missing_ok=True)
        self._whole = False

    def _read(self, file: Path) -> Tree | None:
        """Return the content of a generation, or None if its file is missing."""
        try:
            return read_sealed(file, "checkpoint")
        except MissingFileError:
            return None
        except ArchiveError as error:
            raise CheckpointError(str(error)) from None
