"""The history of a run as columns of numbers, and back: exact, and without pickles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from fastggn.training.result import Record
from fastggn.training.resumable import State


def to_columns(records: Sequence[Record]) -> State:
    """Return one array a field; a second one, where entries are None, says which are not."""
    columns: State = {}
    for field in fields(Record):
        values = [getattr(record, field.name) for record in records]
        given = [value for value in values if value is not None]
        if len(given) == len(values):
            columns[field.name] = _column(values)
        else:
            present = np.array([value is not None for value in values])
            columns[field.name] = {"present": present, "values": _column(given)}
    return columns


def from_columns(columns: State) -> list[Record]:
    """Return the records of `to_columns`."""
    lists = [_list(columns[field.name]) for field in fields(Record)]
    return [Record(*values) for values in zip(*lists, strict=True)]


def _array(values: list[Any]) -> np.ndarray:
    array = np.array(values) if values else np.zeros(0)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"a history cannot hold {array.dtype}")
    return array


def _column(values: list[Any]) -> Any:
    """Return numbers as an array, and texts, which repeat, as the different ones and an index."""
    if not values or not isinstance(values[0], str):
        return _array(values)
    words = list(dict.fromkeys(values))
    places = {word: place for place, word in enumerate(words)}
    return {"words": words, "index": np.array([places[v] for v in values], dtype=np.int32)}


def _list(column: Any) -> list[Any]:
    if not isinstance(column, dict):
        return list(column.tolist())
    if "words" in column:
        return [column["words"][place] for place in column["index"].tolist()]
    values = iter(_list(column["values"]))
    return [next(values) if present else None for present in column["present"].tolist()]
