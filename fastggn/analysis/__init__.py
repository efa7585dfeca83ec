"""Analysis of loss surfaces: ranks, critical points, null spaces, ReLU regions, linear networks."""

from __future__ import annotations

import importlib
from typing import Any

# Imported when they are used: a training run needs none of them.
_HOME: dict[str, str] = {
    "GatedPoint": "relu.gated",
    "Location": "relu.location",
    "LossTable": "relu.table",
    "RegionMinimum": "relu.enumeration",
    "SubglobalMinima": "relu.enumeration",
    "SubglobalMinimum": "relu.subglobal",
    "classify_gated": "relu.gated",
    "descent_direction": "relu.kinks",
    "enumerate_subglobal_minima": "relu.enumeration",
    "gated_problem": "relu.gated",
    "linear_region_minimum": "relu.constructions",
    "loss_table": "relu.table",
    "realisable_patterns": "relu.arrangement",
    "region_of": "relu.location",
    "subglobal_minimum": "relu.subglobal",
    "widen_with_dead_unit": "relu.constructions",
}
_MODULES: tuple[str, ...] = ()

__all__: list[str] = [
    "GatedPoint",
    "Location",
    "LossTable",
    "RegionMinimum",
    "SubglobalMinima",
    "SubglobalMinimum",
    "classify_gated",
    "descent_direction",
    "enumerate_subglobal_minima",
    "gated_problem",
    "linear_region_minimum",
    "loss_table",
    "realisable_patterns",
    "region_of",
    "subglobal_minimum",
    "widen_with_dead_unit",
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
