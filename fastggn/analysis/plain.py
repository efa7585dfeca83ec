"""Reports as plain values that JSON can hold."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np


def plain(report: Any, *names: str) -> dict[str, Any]:
    """Return attributes of a dataclass as plain values, all its fields where none is named."""
    chosen = names or [field.name for field in fields(report)]
    return {name: _plain(getattr(report, name)) for name in chosen}


def _plain(value: Any) -> Any:
    if hasattr(value, "to_dict"):
        return value.to_dict()
    if is_dataclass(value):
        return plain(value)
    if isinstance(value, dict):
        return {str(key): _plain(entry) for key, entry in value.items()}
    if isinstance(value, (tuple, list)):
        return [_plain(entry) for entry in value]
    return value.tolist() if isinstance(value, np.ndarray) else value
