"""Checkpoints as files: two generations, each whole or not there, read with suspicion.

This module needs NumPy only, so that a writer can import it alone.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.runtime.archives import ArchiveError, MissingFileError
from fastggn.runtime.atomic_files import PathLike, check_writable, remove_leftovers
from fastggn.runtime.documents import plain, read_document, write_document
from fastggn.runtime.errors import CheckpointWarning
from fastggn.runtime.locks import FileLock, LockedError
from fastggn.runtime.version import __version__

VERSION = 1
ARRAY = "$array"  # stands in the header for an array of its own
Content = dict[str, Any]


class CheckpointError(ArchiveError):
    """A file that is no whole checkpoint, or one of another run."""


class CheckpointFile:
    """The checkpoint of a run: a file, and the one before it under ``NAME.previous``.

    The content is a tree of dicts with string keys whose leaves are arrays and JSON values. Each
    save is written beside the file, synced, and renamed; the file that was there before goes on
    as the older generation. So a crash at any moment leaves at least one whole file, and damage
    to one of them costs one save.
    """

    def __init__(self, path: PathLike, kind: str = "checkpoint") -> None:
        self.path = Path(os.path.realpath(path))
        self.previous = self.path.with_name(f"{self.path.name}.previous")
        self._kind = kind
        self._sound: bool | None = None  # whether the file is a whole checkpoint, if known

    def prepare(self, n_bytes: int, *, replace: bool) -> None:
        """Check that a file of `n_bytes` could be written, and remove what killed writers left."""
        check_writable(self.path, n_bytes)
        if replace:
            try:
                self._read(self.path)
            except MissingFileError:
                pass
            except ArchiveError as error:
                raise CheckpointError(
                    f"{error}; it is not replaced: remove it or choose another name"
                ) from None
        remove_leftovers(self.path)
        remove_leftovers(self.previous)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other runs from these files for as long as the block or the process lasts."""
        check_writable(self.path)
        lock = FileLock(self.path)
        try:
            lock.acquire()
        except LockedError as error:
            raise CheckpointError(str(error)) from None
        try:
            yield
        finally:
            lock.release()

    def save(self, content: Mapping[str, Any]) -> None:
        """Write a checkpoint; the present one becomes the older generation, if it is whole."""
        arrays: dict[str, NDArray[Any]] = {}
        header = {
            "format": f"fastggn-{self._kind}",
            "version": VERSION,
            "written_by": __version__,
            "content": _split(content, "", arrays),
        }
        keep = self.previous if self._is_sound() else None
        write_document(self.path, header, arrays, keep=keep, default=plain)
        self._sound = True

    def load(self) -> Content | None:
        """Return the newest whole content, or None where there is no file.

        Where the newer generation is damaged or missing the older one is taken, with a
        `CheckpointWarning`.
        """
        faults: list[str] = []
        for file in (self.path, self.previous):
            try:
                content = self._read(file)
            except MissingFileError:
                self._sound = False if file is self.path else self._sound
                continue
            except ArchiveError as error:
                self._sound = False if file is self.path else self._sound
                faults.append(str(error))
                continue
            if file is self.path:
                self._sound = True
            else:
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
        self._sound = False

    def _is_sound(self) -> bool:
        """Whether the present file is a whole checkpoint: a damaged one must not be kept."""
        if self._sound is None:
            try:
                self._read(self.path)
            except (ArchiveError, MissingFileError):
                self._sound = False
            else:
                self._sound = True
        return self._sound

    def _read(self, file: Path) -> Content:
        try:
            header, arrays = read_document(file, self._kind, VERSION)
            content = _join(header.get("content"), arrays)
        except MissingFileError:
            raise
        except ArchiveError as error:
            raise CheckpointError(str(error)) from None
        except (LookupError, RecursionError) as error:
            raise CheckpointError(f"{file}: an array is missing ({error})") from None
        if not isinstance(content, dict):
            raise CheckpointError(f"{file}: the checkpoint has no content")
        return content


def _split(value: Any, name: str, arrays: dict[str, NDArray[Any]]) -> Any:
    """Return the tree with each array replaced by its name, and collect the arrays."""
    if isinstance(value, Mapping):
        return {key: _split(part, f"{name}.{key}", arrays) for key, part in value.items()}
    if isinstance(value, np.ndarray) and value.ndim > 0:
        arrays[name[1:]] = value
        return {ARRAY: name[1:]}
    return value


def _join(value: Any, arrays: Mapping[str, NDArray[Any]]) -> Any:
    """Return the tree that `_split` took apart."""
    if not isinstance(value, dict):
        return value
    if set(value) == {ARRAY}:
        return arrays[str(value[ARRAY])]
    return {key: _join(part, arrays) for key, part in value.items()}
