"""Tables in HDF5 files, those of MATLAB (v7.3) included."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.data.arrays import from_named
from fastggn.data.columns import Raw, listed
from fastggn.runtime.claims import ARRAY_TIMES, check_claim

WRITETABLE = "save it from MATLAB as text: writetable(T, 'table.csv')"
MOST_VIRTUAL = 8  # virtual data sets, one inside the other
OBJECTS = ("table", "timetable", "string", "categorical", "datetime", "duration")


def read_hdf5(file: Path) -> Raw:
    """Read the arrays at the root of a file."""
    with open_hdf5(file) as archive:
        data = data_sets(archive, file)
        return from_named({name: values_of(item, file) for name, item in data.items()}, str(file))


@contextmanager
def open_hdf5(file: Path) -> Iterator[Any]:
    """Open a file for reading; errors name it."""
    try:
        import h5py
    except ImportError:
        raise ImportError(f'{file}: reading HDF5 needs h5py: pip install "fastggn[io]"') from None
    try:
        with h5py.File(file, "r") as archive:
            yield archive
    except (OSError, RuntimeError, KeyError) as error:
        raise ValueError(f"{file}: not a readable HDF5 file ({error})") from None


def data_sets(archive: Any, file: Path) -> dict[str, Any]:
    """Return the data sets at the root, or raise for layouts without plain ones."""
    import h5py

    for name in archive:
        # A file from elsewhere must not choose other files of this machine.
        if isinstance(archive.get(name, getlink=True), h5py.ExternalLink):
            raise ValueError(f"{file}: {name!r} is a link to another file, which is not followed")
    found = {name: item for name, item in archive.items() if hasattr(item, "dtype")}
    found.pop("#refs#", None)
    groups = [name for name, item in archive.items()
              if not hasattr(item, "dtype") and name not in ("#refs#", "#subsystem#")]  # fmt: skip
    for name in groups:
        if "pandas_type" in archive[name].attrs or "axis0" in archive[name]:
            raise ValueError(
                f"{file}: {name!r} is a frame that pandas wrote; write it with "
                "frame.to_parquet('table.parquet')"
            )
    if not found and groups:
        inside: list[str] = []
        archive.visititems(
            lambda path, item: inside.append(path) if hasattr(item, "dtype") else None
        )
        raise ValueError(
            f"{file}: the data sets are in groups ({listed(inside, 8)}): write the arrays X and Y "
            "at the root of a file; fields of a MATLAB structure S: save('t.mat', '-struct', 'S')"
        )
    for name, item in found.items():
        if item.file.filename != archive.filename:  # by a link to a group with an external link
            raise ValueError(f"{file}: {name!r} is a link to another file, which is not followed")
        check_sources(item, name, file)
    # Chunks that were never written read as a fill value: the shape alone may claim terabytes.
    plain = [item for item in found.values() if not item.is_virtual]
    check_claim(file, sum(item.size * max(8, item.dtype.itemsize) for item in plain), ARRAY_TIMES)
    return found


def check_sources(item: Any, name: str, file: Path, depth: int = 0) -> None:
    """Raise for numbers in other files, and for absent parts, which HDF5 reads as zeros."""
    import h5py

    if depth > MOST_VIRTUAL:
        raise ValueError(f"{file}: {name!r} is virtual, and so are its sources, again and again")
    if item.external:
        names = listed([n.decode() if isinstance(n, bytes) else n for n, *_ in item.external])
        raise ValueError(
            f"{file}: the numbers of {name!r} stand in other files ({names}), which are not read: "
            "copy them into one file"
        )
    if not item.is_virtual:
        return
    mapped = 0
    for source in item.virtual_sources():
        part = file if source.file_name == "." else _beside(file, source.file_name)
        if not part.exists():
            raise ValueError(f"{file}: {name!r} is virtual and its source {part} is absent")
        mapped += source.vspace.get_select_npoints()
        with h5py.File(part, "r") as other:
            if source.dset_name not in other:
                raise ValueError(
                    f"{file}: {name!r} is virtual and {part} has no {source.dset_name!r}"
                )
            check_sources(other[source.dset_name], name, part, depth + 1)
    if mapped < math.prod(item.shape):
        raise ValueError(
            f"{file}: {name!r} is virtual and its sources give {mapped} of its "
            f"{math.prod(item.shape)} entries"
        )


def _beside(file: Path, name: Any) -> Path:
    return file.parent / (name.decode() if isinstance(name, bytes) else str(name))


def values_of(item: Any, file: Path) -> NDArray[Any]:
    """Return a data set as an array; MATLAB stores the transpose of its matrices."""
    kind = item.attrs.get("MATLAB_class")
    if kind is None:
        return np.asarray(item[()])
    kind = kind.decode()
    if kind in OBJECTS or "MATLAB_object_decode" in item.attrs:
        raise ValueError(f"{file}: {item.name[1:]!r} is a {kind} of MATLAB: {WRITETABLE}")
    if "MATLAB_sparse" in item.attrs:
        raise ValueError(f"{file}: {item.name[1:]!r} is sparse: save full({item.name[1:]})")
    if item.attrs.get("MATLAB_empty", 0):
        return np.zeros((0, 0))
    values = item[()].T
    if kind == "char":
        return np.array(["".join(map(chr, row)) for row in np.atleast_2d(values)])
    if kind == "cell":
        cells = np.empty(values.shape, dtype=object)
        for place, reference in np.ndenumerate(values):
            cells[place] = _cell(values_of(item.file[reference], file))
        return cells
    return np.asarray(values)


def _cell(value: NDArray[Any]) -> Any:
    """Return the text or the number in a cell, None for an empty one."""
    if value.size == 1:
        return value.ravel()[0].item()
    return None if value.size == 0 else value
