"""Sealed archives for models and checkpoints, and a careful reader of foreign archives.

A sealed archive is a NumPy ``.npz`` file with the arrays of a tree, the rest of the tree as JSON,
and in the zip comment a SHA-256 over all bytes before it. So the reader finds any lost, changed or
added byte before it uses a header.
"""

from __future__ import annotations

import errno
import hashlib
import json
import math
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fastggn.runtime.atomic_files import PathLike, write_atomically
from fastggn.runtime.claims import ARRAY_TIMES, most_content
from fastggn.runtime.errors import suggest
from fastggn.runtime.signals import deferred_signals
from fastggn.runtime.version import __version__

VERSION = 2
HEADER = "header"
SEAL = b"fastggn-sha256:"
SEAL_LENGTH = len(SEAL) + 64
EXPORTED = b"written by fastggn"  # comment of an archive for other programs
READ_SIZE = 1 << 20
EPOCH = (1980, 1, 1, 0, 0, 0)  # a fixed date: the same content gives the same bytes
ARRAY_KINDS = "fiubcUSV"
# The header of an array is a Python literal: NumPy parses a damaged one with any of these errors.
HEADER_ERRORS = (
    ValueError, TypeError, SyntaxError, OverflowError, MemoryError, RecursionError, LookupError,
    AttributeError, tokenize.TokenError,
)  # fmt: skip
# Dicts with string keys; the leaves are arrays and JSON values.
Tree = dict[str, Any]


class ArchiveError(ValueError):
    """The file is not a valid archive: cut, altered, foreign, pickled or too large."""


class MissingFileError(FileNotFoundError, ValueError):
    """The requested file does not exist."""


def require_file(path: PathLike) -> Path:
    """Return `path` as a Path, or raise `MissingFileError`."""
    file = Path(path)
    if file.is_dir():
        raise ValueError(f"{file}: this is a folder, not a file")
    if not file.exists():
        names = sorted(os.listdir(file.parent)) if file.parent.is_dir() else []
        raise MissingFileError(f"{file}: there is no such file{suggest(file.name, names)}")
    return file


def write_sealed(
    path: PathLike, kind: str, content: Mapping[str, Any], keep: PathLike | None = None
) -> None:
    """Replace a file by a sealed archive of a tree; `keep` names the older generation."""
    arrays: dict[str, NDArray[Any]] = {}
    header = {
        "format": f"fastggn-{kind}",
        "version": VERSION,
        "written_by": __version__,
        "content": _without_arrays(content, "", arrays),
    }
    text = json.dumps(header, default=plain, sort_keys=True).encode()
    arrays[HEADER] = np.frombuffer(text, dtype=np.uint8)

    def write(stream: BinaryIO) -> None:
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            archive.comment = SEAL + b"0" * 64
            for name, array in arrays.items():
                info = zipfile.ZipInfo(f"{name}.npy", EPOCH)
                # zipfile answers an interrupt inside a member by an error of its own.
                with deferred_signals(), archive.open(info, "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)
        place = stream.seek(-64, os.SEEK_END)
        digest = _digest(stream, place)
        stream.seek(place)
        stream.write(digest)

    write_atomically(path, write, keep)


def read_sealed(path: PathLike, kind: str) -> Tree:
    """Read the tree of a sealed archive, after checks of its seal and of every header."""
    file = require_file(path)
    with open(file, "rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        if size < SEAL_LENGTH:
            raise ArchiveError(f"{file}: too short to be a fastggn file ({size} bytes)")
        stream.seek(-SEAL_LENGTH, os.SEEK_END)
        seal = stream.read()
        if not seal.startswith(SEAL):
            raise ArchiveError(
                f"{file}: not a fastggn file, or its end was cut or altered: no seal there"
            )
        if _digest(stream, size - 64) != seal[len(SEAL) :]:
            raise ArchiveError(f"{file}: damaged: the checksum does not match the content")
        # Sealed archives are not compressed, so the arrays cannot be larger than the file.
        arrays = _read_members(stream, file, 8 * size)
    try:
        header = json.loads(arrays.pop(HEADER).tobytes())
        found, version = header["format"], header["version"]
        if found == f"fastggn-{kind}" and version == VERSION:
            return _with_arrays(header["content"], arrays)
    except (LookupError, TypeError, ValueError, RecursionError) as error:
        raise ArchiveError(f"{file}: not a fastggn {kind} ({error!r:.100})") from None
    if found != f"fastggn-{kind}":
        raise ArchiveError(f"{file}: not a fastggn {kind}, but {found!r:.100}")
    raise ArchiveError(
        f"{file}: a {kind} of format version {version!r:.20}; this fastggn reads version {VERSION}"
    )


def plain(value: object) -> object:
    """Return NumPy values and paths as JSON types."""
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "fiubU":
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"metadata cannot hold a {type(value).__name__}: {value!r:.60}")


def read_archive(path: PathLike) -> dict[str, NDArray[Any]]:
    """Read the arrays of an ``.npz`` file, each after a check of its header."""
    with open(path, "rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        return _read_members(stream, path, most_content(size, ARRAY_TIMES))


def read_array(path: PathLike) -> NDArray[Any]:
    """Read the array of an ``.npy`` file, after a check of its header."""
    with open(path, "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        try:
            _check_header(stream, str(path), size, 8 * size)
            stream.seek(0)
            array: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
        except ArchiveError:
            raise
        except (ValueError, OverflowError) as error:
            raise ArchiveError(f"{path}: not a readable .npy file ({error})") from None
    return array


def _without_arrays(tree: Mapping[str, Any], folder: str, arrays: dict[str, NDArray[Any]]) -> Tree:
    """Return the tree without its arrays, and collect the arrays by their places."""
    rest: Tree = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            rest[key] = _without_arrays(value, f"{folder}{key}/", arrays)
        elif isinstance(value, np.ndarray) and value.ndim > 0:
            arrays[f"{folder}{key}"] = value
        else:
            rest[key] = value
    return rest


def _with_arrays(tree: Tree, arrays: Mapping[str, NDArray[Any]]) -> Tree:
    """Return the tree with the arrays at their places."""
    if not isinstance(tree, dict):
        raise TypeError("its content is no tree")
    for place, array in arrays.items():
        *folders, key = place.split("/")
        branch = tree
        for folder in folders:
            branch = branch[folder]
        branch[key] = array
    return tree


def _read_members(stream: BinaryIO, path: PathLike, limit: int) -> dict[str, NDArray[Any]]:
    """Read all arrays of an open zip file, with at most `limit` bytes together as float64."""
    arrays: dict[str, NDArray[Any]] = {}
    try:
        with zipfile.ZipFile(stream) as archive:
            for info in archive.infolist():
                array = _read_member(archive, info, limit)
                limit -= max(array.nbytes, 8 * array.size)
                arrays[info.filename.removesuffix(".npy")] = array
    except ArchiveError as error:
        raise ArchiveError(f"{path}: {error}") from None
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, RuntimeError) as error:
        raise ArchiveError(f"{path}: not a readable .npz file ({error})") from None
    except (ValueError, OverflowError, LookupError) as error:
        raise ArchiveError(f"{path}: not a .npz file of plain arrays ({error})") from None
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        # A damaged offset points before the start of the file.
        raise ArchiveError(f"{path}: not a readable .npz file (an offset is wrong)") from None
    return arrays


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, limit: int) -> NDArray[Any]:
    name = info.filename
    if not name.endswith(".npy"):
        raise ArchiveError(f"member {name!r} is not an array")
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ArchiveError(f"array {name!r} is compressed by an unknown method")
    with archive.open(info) as stream:
        _check_header(stream, f"array {name!r}", info.file_size, limit)
    # The checked sizes are true, so that NumPy can allocate and read.
    with archive.open(info) as stream:
        array: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
    return array


def _check_header(stream: Any, what: str, size: int, limit: int) -> None:
    """Compare the header of an array with the `size` of its file and with the `limit`."""
    shape, _, dtype = read_array_header(stream, what)
    if dtype.hasobject:
        raise ArchiveError(f"{what} holds pickled objects, which are never loaded")
    count = math.prod(shape)
    n_bytes = count * dtype.itemsize
    if min(shape, default=0) < 0 or n_bytes > size:
        raise ArchiveError(
            f"{what} claims {n_bytes} bytes (shape {shape}), more than the file holds"
        )
    if dtype.itemsize == 0 or dtype.kind not in ARRAY_KINDS:
        raise ArchiveError(f"{what} has the type {dtype}, which no file of samples or weights has")
    if max(n_bytes, 8 * count) > limit:
        raise ArchiveError(
            f"{what} claims the shape {shape}: no data shrink so far in a file of this size; if "
            "you trust it, save it without compression"
        )
    if stream.tell() + n_bytes != size:
        raise ArchiveError(f"{what} has the wrong length for its shape {shape}")


def read_array_header(stream: Any, what: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, order and type from the header of an ``.npy`` array."""
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    try:
        version = np.lib.format.read_magic(stream)
        if version not in readers:
            raise ArchiveError(f"{what}: unknown version {version} of the array format")
        return readers[version](stream)
    except ArchiveError:
        raise
    except HEADER_ERRORS as error:
        reason = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
        raise ArchiveError(f"{what}: not a readable array header ({reason})") from None


def is_archive(path: PathLike) -> bool:
    """Whether a file begins as a zip archive does, whole or damaged."""
    with open(path, "rb") as stream:
        return stream.read(2) == b"PK"


def _digest(stream: BinaryIO, size: int) -> bytes:
    """Return the hex digest of the first `size` bytes."""
    stream.seek(0)
    digest = hashlib.sha256()
    for start in range(0, size, READ_SIZE):
        digest.update(stream.read(min(READ_SIZE, size - start)))
    return digest.hexdigest().encode()
