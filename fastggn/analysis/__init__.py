"""Analysis of loss surfaces: ranks, critical points, null spaces, ReLU regions, linear networks."""

from __future__ import annotations

import importlib
from typing import Any

# Imported when they are used: a training run needs none of them.
_HOME: dict[str, str] = {
    "CriticalPointReport": "critical",
    "GatedPoint": "relu.gated",
    "Location": "relu.location",
    "LossLine": "slice_reports",
    "LossPlane": "slice_reports",
    "LossTable": "relu.table",
    "PolishResult": "critical",
    "RankTrace": "rank",
    "RegionMinimum": "relu.enumeration",
    "SubglobalMinima": "relu.enumeration",
    "SubglobalMinimum": "relu.subglobal",
    "check_design": "rank",
    "classify_gated": "relu.gated",
    "critical_point": "critical",
    "degenerate_activation": "degenerate",
    "degenerate_probability": "degenerate",
    "descent_direction": "relu.kinks",
    "enumerate_subglobal_minima": "relu.enumeration",
    "exact_fit": "rank",
    "filter_normalised": "slices",
    "gated_problem": "relu.gated",
    "linear_region_minimum": "relu.constructions",
    "loss_along": "slices",
    "loss_between": "slices",
    "loss_plane": "slices",
    "loss_table": "relu.table",
    "null_space": "null_spaces",
    "polish": "critical",
    "rank_analysis": "rank",
    "rank_over_training": "rank",
    "rank_over_weights": "rank",
    "rank_phase": "rank",
    "realisable_patterns": "relu.arrangement",
    "region_of": "relu.location",
    "smallest_xor_ranks": "rank",
    "stationarity_split": "stationarity",
    "subglobal_minimum": "relu.subglobal",
    "target_sensitivity": "sensitivity",
    "widen_with_dead_unit": "relu.constructions",
}
_MODULES: tuple[str, ...] = ("critical", "linear", "rank")

__all__ = [
    "CriticalPointReport",
    "GatedPoint",
    "Location",
    "LossLine",
    "LossPlane",
    "LossTable",
    "PolishResult",
    "RankTrace",
    "RegionMinimum",
    "SubglobalMinima",
    "SubglobalMinimum",
    "check_design",
    "classify_gated",
    "critical",
    "critical_point",
    "degenerate_activation",
    "degenerate_probability",
    "descent_direction",
    "enumerate_subglobal_minima",
    "exact_fit",
    "filter_normalised",
    "gated_problem",
    "linear",
    "linear_region_minimum",
    "loss_along",
    "loss_between",
    "loss_plane",
    "loss_table",
    "null_space",
    "polish",
    "rank",
    "rank_analysis",
    "rank_over_training",
    "rank_over_weights",
    "rank_phase",
    "realisable_patterns",
    "region_of",
    "smallest_xor_ranks",
    "stationarity_split",
    "subglobal_minimum",
    "target_sensitivity",
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
