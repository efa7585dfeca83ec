"""Tables in files of MATLAB: matrices, vectors and cell arrays."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from fastggn.data.arrays import foreign_file, from_named
from fastggn.data.columns import Raw, listed
from fastggn.data.hdf5 import WRITETABLE, read_hdf5
from fastggn.runtime.claims import check_claim

COMPRESSED = 15  # the type of a variable inside a zlib stream
MAT_TIMES = 500  # MATLAB writes whole numbers in a byte or two, and they become eight


def read_mat(file: Path) -> Raw:
    """Read the variables of a file of MATLAB, version 4 to 7.3."""
    from scipy.io import loadmat, matlab

    with foreign_file(file, "MATLAB"), open(file, "rb") as stream:
        if matlab.matfile_version(stream)[0] == 2:  # version 7.3 is HDF5
            return read_hdf5(file)
        check_claim(file, _claimed(stream), MAT_TIMES)
        found = loadmat(stream, squeeze_me=False, spmatrix=False)
    variables = {k: v for k, v in found.items() if k == "None" or not k.startswith("__")}
    if "None" in variables or any(_is_object(v) for v in variables.values()):
        raise ValueError(
            f"{file}: it holds objects of MATLAB (a table, strings or categories): {WRITETABLE}"
        )
    structures = [k for k, v in variables.items() if getattr(v, "dtype", None) is not None
                  and v.dtype.names]  # fmt: skip
    if structures:
        raise ValueError(
            f"{file}: {listed(structures)} is a structure: save its fields, "
            f"save('t.mat', '-struct', '{structures[0]}')"
        )
    return from_named(
        {key: _plain(value, key, file) for key, value in variables.items()}, str(file)
    )


def _claimed(stream: BinaryIO) -> int:
    """Return the bytes of all compressed variables of version 5, as their own heads tell."""
    claimed, place, size = 0, 128, stream.seek(0, os.SEEK_END)
    stream.seek(124)
    order = "<" if stream.read(4)[2:] == b"IM" else ">"
    while place + 8 <= size:
        stream.seek(place)
        kind, length = struct.unpack(f"{order}II", stream.read(8))
        if kind == COMPRESSED:
            head = zlib.decompressobj().decompress(stream.read(min(length, 1024)), 8)
            claimed += struct.unpack(f"{order}II", head)[1]
        place += 8 + length
    stream.seek(0)
    return claimed


def _is_object(value: Any) -> bool:
    names = getattr(getattr(value, "dtype", None), "names", None) or ()
    return type(value).__name__ in ("MatlabOpaque", "MatlabFunction") or "s0" in names


def _plain(value: Any, name: str, file: Path) -> Any:
    """Return a variable with texts and numbers in its cells."""
    if hasattr(value, "toarray"):
        raise ValueError(f"{file}: {name!r} is sparse: save full({name})")
    array = np.asarray(value)
    if array.dtype.kind != "O":
        return array
    cells = np.empty(array.shape, dtype=object)
    for place, cell in np.ndenumerate(array):
        inner = np.asarray(cell)
        cells[place] = None if inner.size == 0 else inner.item() if inner.size == 1 else inner
    return cells
