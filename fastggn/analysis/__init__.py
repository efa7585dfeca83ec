"""Analysis of loss surfaces: ranks, critical points, null spaces, ReLU regions, linear networks."""

from __future__ import annotations

import importlib
from typing import Any

# Imported when they are used: a training run needs none of them.
_HOME: dict[str, str] = {
    "CriticalPointReport": "critical",
    "PolishResult": "critical",
    "critical_point": "critical",
    "polish": "critical",
}
_MODULES: tuple[str, ...] = ()

__all__: list[str] = [
    "CriticalPointReport",
    "PolishResult",
    "critical_point",
    "polish",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"fastggn.analysis.{name}")
    if name not in _HOME:
        raise AttributeError(f"module 'fastggn.analysis' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"fastggn.analysis.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
