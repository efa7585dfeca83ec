"""The history of a run as columns of numbers, and back: exact, and without pickles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from fastggn.training.result import Record
from fastggn.training.state import State

__all__ = ["from_columns", "to_columns"]


def to_columns(records: Sequence[Record]) -> State:
    """Return one array a field; a second one, where entries are None, says which are not."""
    columns: State = {}
    for field in fields(Record):
        values = [getattr(record, field.name) for record in records]
        given = [value for value in values if value is not None]
        if len(given) == len(values):
            columns[field.name] = _array(values)
        else:
            present = np.array([value is not None for value in values])
            columns[field.name] = {"present": present, "values": _array(given)}
    return columns


def from_columns(columns: State) -> list[Record]:
    """Return the records of `to_columns`.

    Raises
    ------
    LookupError, TypeError, ValueError
        If a field is missing, or the columns do not fit each other.
    """
    lists = [_list(columns[field.name]) for field in fields(Record)]
    return [Record(*values) for values in zip(*lists, strict=True)]


def _array(values: list[Any]) -> np.ndarray:
    array = np.array(values) if values else np.zeros(0)
    if array.dtype.kind not in "fiubU":
        raise TypeError(f"a history cannot hold {array.dtype}")
    return array


def _list(column: Any) -> list[Any]:
    if not isinstance(column, dict):
        return list(column.tolist())
    values = iter(column["values"].tolist())
    return [next(values) if present else None for present in column["present"].tolist()]
