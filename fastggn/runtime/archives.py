"""Sealed archives, and archives and arrays of others read with suspicion.

A sealed archive is a NumPy ``.npz`` file with a SHA-256 over all its bytes in the zip comment: any
byte that is cut, flipped or added is found before a single header is believed.
"""

from __future__ import annotations

import errno
import hashlib
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from fastggn.runtime.atomic_files import PathLike, write_atomically
from fastggn.runtime.errors import suggest

SEAL = b"fastggn-sha256:"
SEAL_LENGTH = len(SEAL) + 64
READ_SIZE = 1 << 20
DEFLATE_LIMIT = 1040  # deflate cannot shrink by more than a factor of about 1,030
EPOCH = (1980, 1, 1, 0, 0, 0)  # a fixed date: the same content gives the same bytes


class ArchiveError(ValueError):
    """A file that is not what it should be: cut, altered, foreign, pickled or oversized."""


class MissingFileError(FileNotFoundError, ValueError):
    """The file that was asked for does not exist."""


def require_file(path: PathLike) -> Path:
    """Return `path` as a Path, or say that there is no such file."""
    file = Path(path)
    if file.is_dir():
        raise ValueError(f"{file}: this is a folder, not a file")
    if not file.exists():
        names = sorted(os.listdir(file.parent)) if file.parent.is_dir() else []
        raise MissingFileError(f"{file}: there is no such file{suggest(file.name, names)}")
    return file


def write_sealed(
    path: PathLike, arrays: Mapping[str, NDArray[Any]], keep: PathLike | None = None
) -> None:
    """Write named arrays as an ``.npz`` file that carries a SHA-256 over all its bytes."""

    def write(stream: BinaryIO) -> None:
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
            archive.comment = SEAL + b"0" * 64
            for name, array in arrays.items():
                info = zipfile.ZipInfo(f"{name}.npy", EPOCH)
                with archive.open(info, "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asarray(array), allow_pickle=False)
        digest = _digest(stream)
        stream.seek(-64, os.SEEK_END)
        stream.write(digest)

    write_atomically(path, write, keep)


def read_sealed(path: PathLike) -> dict[str, NDArray[Any]]:
    """Read an archive of `write_sealed`, after a check of its seal and of every header."""
    with open(path, "rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        if size < SEAL_LENGTH:
            raise ArchiveError(f"{path}: too short to be a fastggn file ({size} bytes)")
        stream.seek(-SEAL_LENGTH, os.SEEK_END)
        seal = stream.read()
        if not seal.startswith(SEAL):
            raise ArchiveError(
                f"{path}: not a fastggn file, or its end was cut or altered: no seal there"
            )
        if _digest(stream) != seal[len(SEAL) :]:
            raise ArchiveError(f"{path}: damaged: the checksum does not match the content")
        # Sealed archives are not compressed: together the arrays cannot exceed the file.
        return _read_members(stream, path, size)


def read_archive(path: PathLike) -> dict[str, NDArray[Any]]:
    """Read the arrays of an ``.npz`` file; every header is checked before its data are read."""
    with open(path, "rb") as stream:
        size = stream.seek(0, os.SEEK_END)
        return _read_members(stream, path, DEFLATE_LIMIT * size)


def read_array(path: PathLike) -> NDArray[Any]:
    """Read the array of an ``.npy`` file, after a check of its header."""
    with open(path, "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        try:
            _check_header(stream, str(path), size, size)
            stream.seek(0)
            array: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
        except ArchiveError:
            raise
        except (ValueError, OverflowError) as error:
            raise ArchiveError(f"{path}: not a readable .npy file ({error})") from None
    return array


def _read_members(stream: BinaryIO, path: PathLike, limit: int) -> dict[str, NDArray[Any]]:
    """Read all arrays of an open zip file; together they may have `limit` bytes."""
    arrays: dict[str, NDArray[Any]] = {}
    try:
        with zipfile.ZipFile(stream) as archive:
            for info in archive.infolist():
                array = _read_member(archive, info, limit)
                limit -= array.nbytes
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
        # A damaged offset sends the reader to a place before the file's start.
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
    # The sizes are now known to be honest: NumPy may allocate and read.
    with archive.open(info) as stream:
        array: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
    return array


def _check_header(stream: Any, what: str, size: int, limit: int) -> None:
    """Read an array's header and check it against the `size` of its file and the `limit`."""
    version = np.lib.format.read_magic(stream)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise ArchiveError(f"{what}: unknown version {version} of the array format")
    shape, _, dtype = readers[version](stream)
    if dtype.hasobject:
        raise ArchiveError(f"{what} holds pickled objects, which are never loaded")
    n_bytes = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or n_bytes > min(size, limit):
        raise ArchiveError(
            f"{what} claims {n_bytes} bytes (shape {shape}), more than the file holds"
        )
    if stream.tell() + n_bytes != size:
        raise ArchiveError(f"{what} has the wrong length for its shape {shape}")


def _digest(stream: BinaryIO) -> bytes:
    """Return the hex digest of all bytes but the last 64, which are the place of the digest."""
    remaining = stream.seek(0, os.SEEK_END) - 64
    stream.seek(0)
    digest = hashlib.sha256()
    while remaining > 0:
        block = stream.read(min(READ_SIZE, remaining))
        if not block:
            break
        digest.update(block)
        remaining -= len(block)
    return digest.hexdigest().encode()
