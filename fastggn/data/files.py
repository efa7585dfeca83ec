"""Tables of samples read from .npz, .npy, .csv and .h5 files into float64 arrays."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from fastggn.data.npy import open_npy
from fastggn.data.scaling import split_columns
from fastggn.data.text import TEXT_SUFFIXES, read_text
from fastggn.runtime.archive import read_archive, read_array, require_file
from fastggn.runtime.errors import check_finite, suggest

Target: TypeAlias = str | int | Sequence[str | int] | None

SUFFIXES = (".npz", ".npy", *TEXT_SUFFIXES, ".h5", ".hdf5")


@dataclass(frozen=True)
class Table:
    """Samples read from a file.

    Attributes
    ----------
    X : ndarray, shape (T, n_0), float64
        The inputs.
    Y : ndarray, shape (T, n_L), float64
        The targets.
    inputs : tuple of str
        The column names of `X`.
    targets : tuple of str
        The column names of `Y`.
    """

    X: NDArray[np.float64]
    Y: NDArray[np.float64]
    inputs: tuple[str, ...]
    targets: tuple[str, ...]


def load_table(path: str | os.PathLike[str], target: Target = None) -> Table:
    """Read inputs and targets from a file.

    Parameters
    ----------
    path : path-like
        ``.npz`` or ``.h5`` with arrays X and Y; ``.npy`` with one two-dimensional array; ``.csv``,
        ``.tsv`` or ``.txt`` with rows of numbers, with or without a line of column names.
        ``.h5`` needs the extra ``io``.
    target : str, int or sequence of them, optional
        In tables: the target columns, by name or by number (0 is the first, -1 the last); by
        default the last column. In ``.npz`` and ``.h5``: the name of the target array, by
        default Y.

    Returns
    -------
    Table
        The inputs (T, n_0) and the targets (T, n_L).

    Raises
    ------
    ValueError
        If the file is missing, empty, of an unknown kind or not readable; if it holds text,
        missing values, NaN, infinities or Python objects; if rows differ in length; or if a
        target is missing. The message names the place.
    OSError
        If the file cannot be opened.
    ImportError
        If the file is ``.h5`` and h5py is not installed.
    """
    file = require_file(path)
    suffix = file.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(f"{file}: unknown kind of file {suffix!r} (known: {', '.join(SUFFIXES)})")
    if suffix in TEXT_SUFFIXES:
        text = read_text(file)
        return _from_columns(file, text.values, text.names, target)
    if suffix == ".npy":
        return _from_columns(file, read_array(file), (), target)
    if suffix == ".npz":
        return _from_arrays(file, read_archive(file), target)
    return _from_hdf5(file, target)


def load_inputs(path: str | os.PathLike[str], n_inputs: int) -> NDArray[np.float64] | None:
    """Return the inputs of a file without targets, or None for any other file."""
    file = require_file(path)
    suffix = file.suffix.lower()
    if suffix == ".npz":
        arrays = read_archive(file)
        if {"Y", "y"} & set(arrays):
            return None
        X = _as_samples(file, "X", _named(file, "X", arrays, "inputs"))
        if X.shape[1] != n_inputs:
            raise ValueError(f"{file}: X has {X.shape[1]} inputs, not {n_inputs}")
        return X
    if suffix == ".npy":
        values = read_array(file)
    elif suffix in TEXT_SUFFIXES:
        values = read_text(file).values
    else:
        return None
    if values.ndim != 2 or values.shape[1] != n_inputs:
        return None
    return _as_numbers(file, "the array", values)


@dataclass(frozen=True)
class StreamedTable:
    """Inputs (T, n_0) and targets (T, n_L) that stay in their file, with the column names."""

    X: Any
    Y: Any
    inputs: tuple[str, ...]
    targets: tuple[str, ...]


def stream_table(path: str | os.PathLike[str], target: Target = None) -> StreamedTable | None:
    """Open the samples of a file without reading them, or return None if this is impossible."""
    file = require_file(path)
    if file.suffix.lower() == ".npy":
        rows = open_npy(file)
        if len(rows.shape) != 2:
            return None
        chosen = target_columns(file, target, (), rows.shape[1])
        X, Y = split_columns(rows, chosen)
        names = [f"column {j}" for j in range(rows.shape[1])]
        rest = tuple(names[j] for j in range(len(names)) if j not in chosen)
        return StreamedTable(X, Y, rest, tuple(names[j] for j in chosen))
    if file.suffix.lower() in (".h5", ".hdf5"):
        return _stream_hdf5(file, target)
    return None


def _stream_hdf5(file: Path, target: Target) -> StreamedTable | None:
    """Open the data sets of an HDF5 file, or return None unless they are two fitting matrices."""
    try:
        import h5py
    except ImportError:
        return None  # `load_table` names the fault
    wanted = _as_list(target, default="Y")
    try:
        archive = h5py.File(file, "r")
        X, Y = archive.get("X"), archive.get(str(wanted[0]))
    except OSError:
        return None
    if len(wanted) != 1 or not all(isinstance(d, h5py.Dataset) and d.ndim == 2 for d in (X, Y)):
        return None
    if X.shape[0] != Y.shape[0]:
        return None
    return StreamedTable(X, Y, _numbered("x", X.shape[1]), _numbered("y", Y.shape[1]))


def _from_columns(
    file: Path, values: NDArray[Any], names: tuple[str, ...], target: Target
) -> Table:
    """Split a two-dimensional array into input and target columns."""
    if values.ndim != 2:
        raise ValueError(f"{file}: the array must be two-dimensional, got shape {values.shape}")
    n_columns = values.shape[1]
    array = _as_numbers(file, "the array", values)
    chosen = target_columns(file, target, names, n_columns)
    rest = [j for j in range(n_columns) if j not in chosen]
    labels = names or tuple(f"column {j}" for j in range(n_columns))
    return Table(
        np.ascontiguousarray(array[:, rest]),
        np.ascontiguousarray(array[:, chosen]),
        tuple(labels[j] for j in rest),
        tuple(labels[j] for j in chosen),
    )


def target_columns(file: Path, target: Target, names: tuple[str, ...], n_columns: int) -> list[int]:
    """Return the numbers of the target columns of a table, by default the last column."""
    if n_columns < 2:
        raise ValueError(f"{file}: {n_columns} column; inputs and a target need at least 2")
    chosen = [_column(file, item, names, n_columns) for item in _as_list(target, default=-1)]
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"{file}: a target column is named twice")
    if len(chosen) == n_columns:
        raise ValueError(f"{file}: every column is a target; no inputs are left")
    return chosen


def _column(file: Path, item: str | int, names: tuple[str, ...], n_columns: int) -> int:
    """Return the number of the column with this name or number."""
    if item in names:
        if names.count(str(item)) > 1:
            raise ValueError(f"{file}: several columns are named {item!r}; give the number")
        return names.index(str(item))
    try:
        index = int(item)
    except ValueError:
        known = f"columns: {', '.join(names)}" if names else "the file has no column names"
        raise ValueError(
            f"{file}: there is no target column {item!r}{suggest(str(item), names)} ({known})"
        ) from None
    if not -n_columns <= index < n_columns:
        raise ValueError(
            f"{file}: there is no target column {index}; "
            f"the file has columns 0 to {n_columns - 1} (-1 is the last)"
        )
    return index % n_columns


def _from_arrays(file: Path, arrays: Mapping[str, Any], target: Target) -> Table:
    """Return the inputs and the targets of a file of named arrays."""
    wanted = _as_list(target, default="Y")
    if len(wanted) != 1:
        raise ValueError(f"{file}: give one array of targets, not {len(wanted)}")
    X = _as_samples(file, "X", _named(file, "X", arrays, "inputs"))
    name = str(wanted[0])
    Y = _as_samples(file, name, _named(file, name, arrays, "targets"))
    if X.shape[0] != Y.shape[0]:
        raise ValueError(f"{file}: X has {X.shape[0]} samples and {name} has {Y.shape[0]}")
    return Table(X, Y, _numbered("x", X.shape[1]), _numbered(name.lower(), Y.shape[1]))


def _named(file: Path, name: str, arrays: Mapping[str, Any], role: str) -> NDArray[Any]:
    for candidate in (name, name.swapcase()):
        if candidate in arrays:
            return np.asarray(arrays[candidate])
    known = ", ".join(arrays) or "none"
    raise ValueError(
        f"{file}: there is no array {name!r} of {role}{suggest(name, arrays)} (arrays: {known})"
    )


def _as_samples(file: Path, name: str, array: NDArray[Any]) -> NDArray[np.float64]:
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2:
        raise ValueError(f"{file}: {name} must have shape (T, n), got {array.shape}")
    return _as_numbers(file, name, array)


def _as_numbers(file: Path, name: str, array: NDArray[Any]) -> NDArray[np.float64]:
    """Return a non-empty array of finite numbers as C-ordered float64."""
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{file}: {name} must hold real numbers, got dtype {array.dtype}")
    if array.size == 0:
        raise ValueError(f"{file}: {name} is empty, shape {array.shape}")
    numbers = np.ascontiguousarray(array, dtype=np.float64)
    check_finite(f"{file}: {name}", numbers)
    return numbers


def _as_list(target: Target, default: str | int) -> list[str | int]:
    if target is None:
        return [default]
    if isinstance(target, (str, int)):
        return [target]
    return list(target) or [default]


def _numbered(letter: str, count: int) -> tuple[str, ...]:
    return tuple(f"{letter}{j}" for j in range(count))


def _from_hdf5(file: Path, target: Target) -> Table:
    """Read the inputs and the targets from the data sets at the root of an HDF5 file."""
    try:
        import h5py
    except ImportError:
        raise ImportError(f'{file}: reading HDF5 needs h5py: pip install "fastggn[io]"') from None
    try:
        with h5py.File(file, "r") as stream:
            found = {key: item for key, item in stream.items() if isinstance(item, h5py.Dataset)}
            return _from_arrays(file, found, target)
    except (OSError, RuntimeError, KeyError) as error:
        raise ValueError(f"{file}: not a readable HDF5 file ({error})") from None
