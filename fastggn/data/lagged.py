"""Time series as tables: the past as inputs, the present as the target."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.data.columns import Raw
from fastggn.data.read_table import read_table
from fastggn.data.readers import read_raw
from fastggn.data.recipe import TableError
from fastggn.data.table import Table
from fastggn.runtime.errors import check_count


def lagged(
    series: Any,
    inputs: Any = None,
    lags: int | Sequence[int] = 1,
    *,
    input_lags: int | Sequence[int] | None = None,
    missing: str = "error",
) -> Table:
    """Return a table whose inputs are earlier values of a series (open loop).

    Parameters
    ----------
    series : array_like, shape (T,) or (T, m), frame or mapping
        The series that is predicted, in steps of equal length. Columns without names are called
        ``y``, or ``y0``, ``y1``, ...
    inputs : array_like, shape (T,) or (T, k), frame or mapping, optional
        Other series with the same steps, called ``u``, or ``u0``, ``u1``, ...
    lags : int or sequence of int
        The earlier steps of the series that are inputs, from 1; a number n stands for 1 to n.
    input_lags : int or sequence of int, optional
        The steps of `inputs`, by default `lags`; 0 is the present step.
    missing : {"error", "drop", "impute"}
        As in `read_table`, for the rows of the table: a gap of the series is in several rows.

    Returns
    -------
    Table
        Columns ``y(t-1)``, ``u(t-1)``, ..., targets ``y``; the first rows, which have no full past,
        are left out. Its `series` is True: `fit` holds out the end.

    Raises
    ------
    TableError
        If a column is no number, or a value is missing with ``missing="error"``; one message
        for all columns.
    ValueError
        If lags are negative, 0 for the series itself, or longer than the series.

    Examples
    --------
    >>> import fastggn as fg
    >>> table = fg.data.lagged([1.0, 2.0, 4.0, 8.0], lags=2)
    >>> table.inputs, table.X.tolist(), table.Y.tolist()
    (('y(t-1)', 'y(t-2)'), [[2.0, 1.0], [4.0, 2.0]], [[4.0], [8.0]])
    """
    own = _columns(series, "y")
    past = _steps("lags", lags, 1)
    given = None if inputs is None else _columns(inputs, "u")
    steps = past if input_lags is None else _steps("input_lags", input_lags, 0)
    if given is not None and given.n_rows != own.n_rows:
        raise ValueError(f"series has {own.n_rows} steps, inputs {given.n_rows}")
    first = max([*past, *(steps if given is not None else [])])
    if first >= own.n_rows:
        raise ValueError(f"a lag of {first} steps in a series of {own.n_rows}")
    names: list[str] = []
    columns: list[NDArray[Any]] = []
    for raw, wanted in ((own, past), (given, steps)):
        for name, values in zip(raw.names, raw.columns, strict=True) if raw else ():
            for lag in wanted:
                names.append(f"{name}(t-{lag})" if lag else f"{name}(t)")
                columns.append(values[first - lag : values.shape[0] - lag])
    raw = Raw(
        (*names, *own.names), (*columns, *(values[first:] for values in own.columns)),
        "the series", targets=own.names, first_row=first,
    )  # fmt: skip
    return replace(read_table(raw, missing=missing), series=True)


def _columns(series: Any, letter: str) -> Raw:
    """Return the series as columns of numbers."""
    raw = read_raw(series, {})
    names = raw.names
    if not raw.named:
        names = (letter,) if len(names) == 1 else tuple(f"{letter}{j}" for j in range(len(names)))
    faults = [f"column {n!r} holds no numbers" for n, v in zip(names, raw.columns, strict=True)
              if v.dtype.kind not in "fiu"]  # fmt: skip
    if faults:
        raise TableError("the series", faults)
    return replace(raw, names=names)


def _steps(argument: str, lags: int | Iterable[int], least: int) -> list[int]:
    """Return lags as a list of distinct steps."""
    if isinstance(lags, (int, np.integer)):
        lags = range(1, check_count(argument, lags, 1) + 1)
    steps = [check_count(argument, lag, least) for lag in lags]
    if not steps or len(set(steps)) < len(steps):
        raise ValueError(f"{argument} must name steps, each once, got {steps}")
    return steps
