"""Readers of every kind of table; each returns raw columns."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from fastggn.data.arrays import (
    foreign_file,
    from_array,
    from_frame,
    from_named,
    from_pair,
    raw_of,
)
from fastggn.data.columns import Raw, with_names
from fastggn.data.excel import read_excel
from fastggn.data.hdf5 import read_hdf5
from fastggn.data.matlab import read_mat
from fastggn.data.text_table import SUFFIXES, read_text_table
from fastggn.runtime.archive import read_archive, read_array, require_file
from fastggn.runtime.claims import ARRAY_TIMES, check_claim

NEEDS = '{}: reading it needs {}: pip install "fastggn[table]"'
Reading = Mapping[str, Any]


def read_raw(source: Any, reading: Reading) -> Raw:
    """Return the raw columns of a file, a frame, a mapping, or arrays."""
    if isinstance(source, Raw):
        return source
    if isinstance(source, (str, os.PathLike)):
        return with_names(_from_path(source, reading))
    if isinstance(source, tuple) and len(source) == 2:
        return with_names(from_pair(*source, "the arrays", _from_object))
    return with_names(_from_object(source, "x"))


def _from_object(source: Any, letter: str) -> Raw:
    """Return the columns of an object in memory; columns without a name get a letter."""
    if isinstance(source, Mapping):
        return raw_of([(str(k), partial(np.asarray, v)) for k, v in source.items()], "the mapping")
    if hasattr(source, "to_frame") and not hasattr(source, "columns"):  # a series
        source = source.to_frame()
    if hasattr(source, "to_pandas") and hasattr(source, "column_names"):  # a table of Arrow
        source = source.to_pandas()
    if hasattr(source, "columns") and hasattr(source, "__getitem__"):
        return from_frame(source, "the frame")
    if hasattr(source, "toarray") and hasattr(source, "nnz"):
        raise TypeError("the array is sparse: pass x.toarray()")
    return from_array(np.asarray(source), "the array", letter)


def kind_of(file: Path) -> str:
    """Return the suffix of a file, without .gz, in lower case."""
    suffixes = [suffix.lower() for suffix in file.suffixes]
    if suffixes[-1:] == [".gz"]:
        suffixes.pop()
        return suffixes[-1] if suffixes and suffixes[-1] in SUFFIXES else ".gz"
    return suffixes[-1] if suffixes else ""


def _from_path(source: str | os.PathLike[str], reading: Reading) -> Raw:
    """Read a file by its suffix."""
    if str(source) == "-":
        return read_text_table("-", reading)
    file = require_file(source)
    kind = kind_of(file)
    if kind in SUFFIXES:
        return read_text_table(file, reading)
    readers: dict[str, Callable[[Path, Reading], Raw]] = {
        ".npy": lambda f, r: from_array(read_array(f), str(f)),
        ".npz": _from_npz,
        ".h5": lambda f, r: read_hdf5(f),
        ".hdf5": lambda f, r: read_hdf5(f),
        ".parquet": _from_parquet,
        ".pq": _from_parquet,
        ".xlsx": read_excel,
        ".xlsm": read_excel,
        ".mat": lambda f, r: read_mat(f),
    }
    if kind not in readers:
        known = ", ".join((*SUFFIXES, *readers))
        hint = "; save it as .xlsx" if kind == ".xls" else ""
        raise ValueError(f"{file}: unknown kind of file {kind!r}{hint} (known: {known})")
    return readers[kind](file, reading)


def _from_npz(file: Path, reading: Reading) -> Raw:
    arrays = read_archive(file)
    if {"header", "theta"} <= set(arrays):
        raise ValueError(f"{file}: a model or a checkpoint of fastggn, not a table")
    return from_named(arrays, str(file))


def _from_parquet(file: Path, reading: Reading) -> Raw:
    with open_parquet(file) as parquet, foreign_file(file, "Parquet"):
        about = parquet.metadata
        check_claim(file, 8 * about.num_rows * about.num_columns, ARRAY_TIMES)
        return from_frame(parquet.read().to_pandas(), str(file))


def open_parquet(file: Path) -> Any:
    """Open a Parquet file, or raise the error that names the extra."""
    try:
        import pandas  # noqa: F401 (the columns become a frame)
        from pyarrow.parquet import ParquetFile
    except ImportError:
        raise ImportError(NEEDS.format(file, "pandas and pyarrow")) from None
    with foreign_file(file, "Parquet"):
        return ParquetFile(file)
