"""Readers of every kind of table; each returns raw columns."""

from __future__ import annotations

import csv
import io
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.data.columns import Raw, number_of
from fastggn.data.text import read_text
from fastggn.runtime.archive import read_archive, read_array, require_file

NO_PANDAS = '{}: reading it needs pandas: pip install "fastggn[table]"'
TEXT = (".csv", ".tsv", ".txt", ".dat", ".tab")
SEPARATORS = (",", ";", "\t", "|")


def read_raw(source: Any, reading: Mapping[str, Any]) -> Raw:
    """Return the raw columns of a file, a frame, a mapping, or arrays."""
    if isinstance(source, Raw):
        return source
    if isinstance(source, (str, os.PathLike)):
        return _from_path(source, reading)
    if isinstance(source, Mapping):
        names = tuple(str(name) for name in source)
        return Raw(names, tuple(_values(v) for v in source.values()), "the mapping")
    if hasattr(source, "columns") and hasattr(source, "__getitem__"):
        return _from_frame(source, "the frame")
    if isinstance(source, tuple) and len(source) == 2:
        return _from_pair(source[0], source[1], "the arrays")
    return from_array(np.asarray(source), "the array")


def from_array(array: NDArray[Any], name: str) -> Raw:
    """Return the columns of an array (T, n)."""
    if array.dtype.names:
        return Raw(array.dtype.names, tuple(_values(array[n]) for n in array.dtype.names), name)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"{name} must have shape (T, n) and not be empty, got {array.shape}")
    names = tuple(f"x{j}" for j in range(array.shape[1]))
    return Raw(names, tuple(_values(array[:, j]) for j in range(array.shape[1])), name, named=False,
               first_row=0)  # fmt: skip


def _from_pair(X: Any, Y: Any, name: str) -> Raw:
    """Return the columns of inputs and targets."""
    first = read_raw(X, {})
    second = _from_frame(Y.to_frame() if hasattr(Y, "to_frame") else Y, name) if hasattr(
        Y, "columns") or hasattr(Y, "to_frame") else from_array(np.asarray(Y), name)  # fmt: skip
    if first.n_rows != second.n_rows:
        raise ValueError(f"{name}: {first.n_rows} rows of inputs and {second.n_rows} of targets")
    names = second.names
    if not second.named:
        names = tuple(f"y{j}" for j in range(len(names)))
    names = tuple(str(n) if n not in (None, "None", "0") else "target" for n in names)
    return Raw(
        (*first.names, *names),
        (*first.columns, *second.columns),
        name,
        named=first.named,
        targets=names,
        first_row=0,
    )


def _from_frame(frame: Any, name: str) -> Raw:
    """Return the columns of a pandas or polars frame."""
    names = tuple(str(column) for column in frame.columns)
    columns = tuple(_values(_series(frame, j, key)) for j, key in enumerate(frame.columns))
    return Raw(names, columns, name, first_row=0)


def _series(frame: Any, position: int, key: Any) -> NDArray[Any]:
    series = frame.iloc[:, position] if hasattr(frame, "iloc") else frame[key]
    if str(getattr(series, "dtype", "")) == "category":
        series = series.astype(object)
    if hasattr(series, "to_numpy") and hasattr(series, "isna") and series.isna().any():
        if np.dtype(getattr(series.dtype, "numpy_dtype", object)).kind in "iufb":
            return np.asarray(series.to_numpy(dtype=np.float64, na_value=np.nan))
    return np.asarray(series.to_numpy())


def _values(values: Any) -> NDArray[Any]:
    """Return a column as float64, dates, or text with None for a missing cell."""
    array = np.asarray(values)
    if array.ndim != 1:
        raise ValueError(f"a column must have shape (T,), got {array.shape}")
    if array.dtype.kind in "fiub":
        return array if array.dtype.kind == "f" else array.astype(np.float64)
    if array.dtype.kind == "M":
        return array.astype("datetime64[ns]")
    if array.dtype.kind == "c":
        raise TypeError("a column must hold real numbers or text, got complex numbers")
    cells = np.empty(array.shape[0], dtype=object)
    numeric = True
    for j, cell in enumerate(array.tolist()):
        absent = cell is None or (isinstance(cell, float) and np.isnan(cell))
        cells[j] = None if absent or str(cell) in ("<NA>", "NaT") else cell
        numeric = numeric and (absent or isinstance(cell, (int, float)))
    if numeric and array.shape[0]:
        return np.array([np.nan if c is None else float(c) for c in cells])
    return cells


def _from_path(source: str | os.PathLike[str], reading: Mapping[str, Any]) -> Raw:
    """Read a file by its suffix."""
    if str(source) == "-":
        return _from_text("standard input", sys.stdin.buffer.read(), reading, None)
    file = require_file(source)
    suffixes = [s.lower() for s in file.suffixes]
    suffix = suffixes[-1] if suffixes else ""
    kind = suffixes[-2] if suffix == ".gz" and len(suffixes) > 1 else suffix
    if kind in TEXT:
        if suffix != ".gz" and reading.get("decimal", ".") == "." and _plain(reading):
            try:
                text = read_text(file)
            except ValueError:
                pass  # not only numbers: pandas reads what there is
            else:
                names = text.names or tuple(f"column {j}" for j in range(text.values.shape[1]))
                columns = tuple(text.values[:, j] for j in range(len(names)))
                if len(set(names)) == len(names):
                    return Raw(names, columns, str(file), named=bool(text.names),
                               first_row=1 + bool(text.names))  # fmt: skip
        return _from_text(str(file), file, reading, {".tsv": "\t", ".tab": "\t"}.get(kind))
    readers: dict[str, Callable[[Path, Mapping[str, Any]], Raw]] = {
        ".npy": lambda f, r: from_array(read_array(f), str(f)),
        ".npz": lambda f, r: _from_archive(f, read_archive(f)),
        ".h5": _from_hdf5,
        ".hdf5": _from_hdf5,
        ".parquet": _from_parquet,
        ".pq": _from_parquet,
        ".xlsx": _from_excel,
        ".xls": _from_excel,
        ".mat": _from_mat,
    }
    if kind not in readers:
        known = ", ".join((*TEXT, *readers))
        raise ValueError(f"{file}: unknown kind of file {kind!r} (known: {known})")
    return readers[kind](file, reading)


def _plain(reading: Mapping[str, Any]) -> bool:
    return (reading.get("header", "auto"), reading.get("encoding", "utf-8-sig")) == (
        "auto",
        "utf-8-sig",
    )


def _pandas(name: str) -> Any:
    try:
        import pandas
    except ImportError:
        raise ImportError(NO_PANDAS.format(name)) from None
    return pandas


def _from_text(
    name: str, source: Path | bytes, reading: Mapping[str, Any], separator: str | None
) -> Raw:
    """Read text with cells of any kind."""
    pandas = _pandas(name)
    encoding, header = reading.get("encoding", "utf-8-sig"), reading.get("header", "auto")
    content = source if isinstance(source, bytes) else _content(source)
    if not content.strip():
        raise ValueError(f"{name}: the file is empty")
    try:
        text = content.decode(_encoding(content, encoding))
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{name}: not a text file in {encoding} ({error.reason} at byte {error.start}); "
            "encoding='latin-1' reads older files"
        ) from None
    separator = separator or find_separator(text)
    first = next(csv.reader([text.lstrip().splitlines()[0]], delimiter=separator or ","), [])
    decimal = str(reading.get("decimal", "."))
    if header == "auto":
        has_header = not any(number_of(cell, decimal) is not None for cell in first)
    else:
        has_header = bool(header)
    options: dict[str, Any] = {"sep": separator} if separator else {"sep": r"\s+"}
    try:
        frame = pandas.read_csv(
            io.StringIO(text), dtype=str, keep_default_na=False, skipinitialspace=True,
            header=0 if has_header else None, index_col=False, **options,
        )  # fmt: skip
    except (pandas.errors.ParserError, pandas.errors.EmptyDataError, ValueError) as error:
        raise ValueError(f"{name}: not a readable table ({error})") from None
    if has_header:
        names = tuple("" if str(c).startswith("Unnamed: ") else str(c).strip()
                      for c in frame.columns)  # fmt: skip
    else:
        names = tuple(f"column {j}" for j in range(frame.shape[1]))
    if len(frame) == 0:
        raise ValueError(f"{name}: the file has a header but no rows")
    columns = tuple(_text_values(frame.iloc[:, j].to_numpy(), decimal) for j in range(len(names)))
    return Raw(names, columns, name, named=has_header, first_row=1 + has_header)


def _content(file: Path) -> bytes:
    if file.suffix.lower() == ".gz":
        import gzip

        try:
            with gzip.open(file) as stream:
                return stream.read()
        except (OSError, EOFError) as error:
            raise ValueError(f"{file}: not a readable gzip file ({error})") from None
    return file.read_bytes()


def _encoding(content: bytes, asked: str) -> str:
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    return asked


def find_separator(text: str) -> str | None:
    """Return the separator that gives most lines the same number of columns, or None."""
    lines = [line for line in text.splitlines()[:50] if line.strip()]
    best: tuple[int, int] = (0, 0)
    found = None
    for separator in SEPARATORS:
        counts = [len(row) for row in csv.reader(lines, delimiter=separator)]
        columns = counts[0] if counts else 0
        if columns < 2:
            continue
        agree = sum(count == columns for count in counts)
        if (agree, columns) > best:
            best, found = (agree, columns), separator
    return found


def _text_values(cells: NDArray[Any], decimal: str) -> NDArray[Any]:
    """Return a column of texts as numbers if each of them is a plain one."""
    if decimal == ".":
        try:
            numbers = cells.astype(np.float64)
        except ValueError:
            pass
        else:
            if not any("_" in cell for cell in cells):
                return np.asarray(numbers, dtype=np.float64)
    return cells


def _from_archive(file: Path, arrays: Mapping[str, Any]) -> Raw:
    """Return the arrays X and Y of a file."""
    found = {key.lower(): np.asarray(value) for key, value in arrays.items()}
    if "x" not in found:
        raise ValueError(f"{file}: there is no array 'X' of inputs (arrays: {', '.join(arrays)})")
    X = from_array(found["x"], str(file))
    if "y" not in found:
        return X
    return _from_pair(found["x"], found["y"], str(file))


def _from_hdf5(file: Path, reading: Mapping[str, Any]) -> Raw:
    try:
        import h5py
    except ImportError:
        raise ImportError(f'{file}: reading HDF5 needs h5py: pip install "fastggn[io]"') from None
    try:
        with h5py.File(file, "r") as stream:
            arrays = {k: v[()] for k, v in stream.items() if isinstance(v, h5py.Dataset)}
    except (OSError, RuntimeError, KeyError) as error:
        raise ValueError(f"{file}: not a readable HDF5 file ({error})") from None
    return _from_archive(file, arrays)


def _from_parquet(file: Path, reading: Mapping[str, Any]) -> Raw:
    pandas = _pandas(str(file))
    try:
        return _from_frame(pandas.read_parquet(file), str(file))
    except ImportError:
        raise ImportError(
            f'{file}: reading it needs pyarrow: pip install "fastggn[table]"'
        ) from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{file}: not a readable Parquet file ({error})") from None


def _from_excel(file: Path, reading: Mapping[str, Any]) -> Raw:
    pandas = _pandas(str(file))
    sheet = reading.get("sheet")
    try:
        frame = pandas.read_excel(file, sheet_name=0 if sheet is None else sheet)
    except ImportError:
        raise ImportError(
            f'{file}: reading it needs openpyxl: pip install "fastggn[table]"'
        ) from None
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"{file}: not a readable Excel file ({error})") from None
    return _from_frame(frame, str(file))


def _from_mat(file: Path, reading: Mapping[str, Any]) -> Raw:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        found = loadmat(file, squeeze_me=False)
    except (MatReadError, NotImplementedError, ValueError, OSError) as error:
        raise ValueError(f"{file}: not a readable MATLAB file ({error})") from None
    arrays = {k: v for k, v in found.items() if not k.startswith("__")}
    lowered = {k.lower(): v for k, v in arrays.items()}
    if "x" in lowered:
        return _from_archive(file, arrays)
    vectors = {k: _cells(v) for k, v in arrays.items() if np.ndim(v) == 2 and 1 in v.shape}
    if len(vectors) == len(arrays) and len({len(v) for v in vectors.values()}) == 1 and vectors:
        return Raw(tuple(vectors), tuple(_values(v) for v in vectors.values()), str(file))
    if len(arrays) == 1:
        return from_array(np.asarray(next(iter(arrays.values()))), str(file))
    raise ValueError(
        f"{file}: arrays {', '.join(arrays)}: expected X and Y, one matrix, or one vector a column "
        "(a table object of MATLAB cannot be read: writetable(T, 'table.csv'))"
    )


def _cells(array: Any) -> Any:
    flat = np.asarray(array).ravel()
    if flat.dtype.kind == "O":
        return [c.item() if isinstance(c, np.ndarray) and c.size == 1 else str(c) for c in flat]
    return flat
