"""Sealed archives that carry a JSON header: what models and checkpoints are made of."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.runtime.archives import ArchiveError, read_sealed, require_file, write_sealed

PathLike = str | os.PathLike[str]
HEADER = "header"


def write_document(
    path: PathLike,
    header: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
    *,
    keep: PathLike | None = None,
    default: Callable[[Any], Any] | None = None,
) -> None:
    """Write a header and named arrays as a sealed archive, replacing the file in one step."""
    text = json.dumps(header, default=default, sort_keys=True).encode()
    members = {HEADER: np.frombuffer(text, dtype=np.uint8), **arrays}
    write_sealed(path, members, keep=keep)


def read_document(
    path: PathLike, kind: str, version: int
) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read a file of `write_document`: its header and its arrays."""
    file = require_file(path)
    arrays = read_sealed(file)
    if HEADER not in arrays:
        names = ", ".join(arrays) or "none"
        raise ArchiveError(f"{file}: not a fastggn {kind} (arrays: {names})")
    text = arrays.pop(HEADER)
    if text.dtype != np.uint8 or text.ndim != 1:
        raise ArchiveError(f"{file}: not a fastggn {kind} (its header is no text)")
    try:
        header = json.loads(text.tobytes().decode())
    except (ValueError, RecursionError) as error:
        raise ArchiveError(f"{file}: the header is not JSON ({error})") from None
    if not isinstance(header, dict) or header.get("format") != f"fastggn-{kind}":
        raise ArchiveError(f"{file}: not a fastggn {kind}")
    if header.get("version") != version:
        raise ArchiveError(
            f"{file}: {kind} format {header.get('version')}; this fastggn reads {version}"
        )
    return header, arrays


def plain(value: object) -> object:
    """Return NumPy values and paths as JSON types."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "fiubU":
        return value.tolist()
    if isinstance(value, np.generic) and value.dtype.kind in "fiubU":
        return value.item()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"metadata cannot hold a {type(value).__name__}: {value!r:.60}")
