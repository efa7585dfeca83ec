"""The MNIST digits, from the IDX files in which they are published."""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte")
# The third byte of the header: big-endian types.
_TYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP = b"\x1f\x8b"
_BLOCK = 1 << 24  # bytes


def find_folder(folder: str | None = None) -> Path:
    """Return the folder of the training files.

    Parameters
    ----------
    folder : str, optional
        None looks for ``mnist/`` in the folder that FASTGGN_DATA names, else in ``shared/data``
        beside the working folder or beside the checkout.

    Raises
    ------
    FileNotFoundError
        If the files are not there; the message names them.
    """
    if folder is not None:
        places = [Path(folder)]
    elif os.environ.get("FASTGGN_DATA"):
        places = [Path(os.environ["FASTGGN_DATA"]) / "mnist"]
    else:
        checkout = Path(__file__).resolve().parents[1]
        parents = (Path.cwd(), Path.cwd().parent, checkout.parent)
        places = [parent / "shared" / "data" / "mnist" for parent in parents]
    for place in places:
        if all(_path(place, name) for name in FILES):
            return place
    raise FileNotFoundError(
        f"the MNIST training files {' and '.join(FILES)} (each plain or .gz) are not in "
        f"{', '.join(dict.fromkeys(map(str, places)))}: set the experiment's 'folder', or "
        "FASTGGN_DATA to the folder that holds mnist/"
    )


def load_digits(
    folder: Path, samples: int | None = None
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return training images (T, 784), scaled to [0, 1], and their labels (T,).

    Parameters
    ----------
    folder : Path
        As `find_folder` returned it.
    samples : int, optional
        Take the first ones only.

    Raises
    ------
    ValueError
        If a file is damaged, or the two do not belong together.
    """
    images, labels = (read_idx(_path(folder, name) or folder / name) for name in FILES)
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise ValueError(
            f"{folder}: images of shape {images.shape} do not go with labels of shape "
            f"{labels.shape}"
        )
    count = len(images) if samples is None else samples
    X = images[:count].reshape(len(images[:count]), -1) / 255.0
    return X, labels[:count].astype(np.int64)


def _path(folder: Path, name: str) -> Path | None:
    """Return the path of a file, plain or compressed, or None."""
    for candidate in (folder / name, folder / f"{name}.gz"):
        if candidate.is_file():
            return candidate
    return None


def read_idx(path: str | os.PathLike[str]) -> NDArray[Any]:
    """Read an array from an IDX file, plain or compressed by gzip.

    The header holds two zero bytes, the type, the number of dimensions and each dimension as a
    big-endian 32-bit integer; the entries follow, the last index fastest (LeCun 1998).

    Parameters
    ----------
    path : path
        Compression is told from the content, not from the name.

    Returns
    -------
    ndarray
        In the machine's byte order, of the shape and type that the header states.

    Raises
    ------
    OSError
        If the file cannot be opened.
    ValueError
        If the header is not that of an IDX file, the compressed stream is damaged, or the file
        holds fewer or more entries than the header states.

    Examples
    --------
    >>> import os, struct, tempfile
    >>> from papers.mnist import read_idx
    >>> path = os.path.join(tempfile.mkdtemp(), "labels-idx1-ubyte")
    >>> with open(path, "wb") as file:
    ...     _ = file.write(struct.pack(">HBBI", 0, 8, 1, 3) + bytes([5, 0, 4]))
    >>> read_idx(path)
    array([5, 0, 4], dtype=uint8)
    """
    name = Path(path)
    with open(name, "rb") as raw:
        packed = raw.read(2) == _GZIP
        raw.seek(0)
        if not packed:
            return _parse(name, raw)
        with gzip.open(raw) as file:
            try:
                return _parse(name, file)  # type: ignore[arg-type]
            except (EOFError, zlib.error, gzip.BadGzipFile) as error:
                raise ValueError(f"{name}: the gzip stream is damaged: {error}") from error


def _parse(name: Path, file: BinaryIO) -> NDArray[Any]:
    """Return the array, or say what is wrong with the file."""
    magic = file.read(4)
    if len(magic) < 4:
        raise ValueError(f"{name}: not an IDX file: it holds {len(magic)} bytes only")
    zeros, kind, n_dimensions = struct.unpack(">HBB", magic)
    if zeros != 0 or kind not in _TYPES or n_dimensions == 0:
        raise ValueError(
            f"{name}: not an IDX file: it starts with {magic.hex(' ')}; two zero bytes, a type "
            f"({', '.join(f'{code:02x}' for code in _TYPES)}) and at least one dimension are due"
        )
    header = file.read(4 * n_dimensions)
    if len(header) < 4 * n_dimensions:
        raise ValueError(f"{name}: the file ends inside its header of {n_dimensions} dimensions")
    shape = struct.unpack(f">{n_dimensions}I", header)
    dtype = np.dtype(_TYPES[kind])
    due = math.prod(shape) * dtype.itemsize
    # In blocks: a damaged header may announce more than the memory holds.
    data = bytearray()
    while len(data) <= due and (block := file.read(min(_BLOCK, due + 1 - len(data)))):
        data += block
    if len(data) != due:
        more = "more than the" if len(data) > due else f"{len(data)} of the"
        size = " x ".join(map(str, shape))
        raise ValueError(
            f"{name}: holds {more} {due} bytes that its header announces ({size} of "
            f"{dtype.newbyteorder('=').name})"
        )
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="))
