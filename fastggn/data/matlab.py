"""Tables in files of MATLAB: matrices, vectors and cell arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from fastggn.data.arrays import foreign_file, from_named
from fastggn.data.columns import Raw, listed
from fastggn.data.hdf5 import WRITETABLE, read_hdf5


def read_mat(file: Path) -> Raw:
    """Read the variables of a file of MATLAB, version 4 to 7.3."""
    from scipy.io import loadmat, matlab

    with foreign_file(file, "MATLAB"), open(file, "rb") as stream:
        if matlab.matfile_version(stream)[0] == 2:  # version 7.3 is HDF5
            return read_hdf5(file)
        found = loadmat(stream, squeeze_me=False)
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
