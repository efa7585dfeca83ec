"""Analysis of loss surfaces: ranks, critical points, null spaces, ReLU regions, linear networks."""

from __future__ import annotations

import importlib
from typing import Any

# Imported when they are used: a training run needs none of them.
_HOME: dict[str, str] = {
    "CriticalPointReport": "critical",
    "PolishResult": "critical",
    "RankTrace": "rank",
    "check_design": "rank",
    "critical_point": "critical",
    "degenerate_activation": "degenerate",
    "degenerate_probability": "degenerate",
    "exact_fit": "rank",
    "null_space": "null_spaces",
    "polish": "critical",
    "rank_analysis": "rank",
    "rank_over_training": "rank",
    "rank_over_weights": "rank",
    "rank_phase": "rank",
    "smallest_xor_ranks": "rank",
    "stationarity_split": "stationarity",
    "target_sensitivity": "sensitivity",
}
_MODULES: tuple[str, ...] = ("critical", "linear", "rank")

__all__ = [
    "CriticalPointReport",
    "PolishResult",
    "RankTrace",
    "check_design",
    "critical",
    "critical_point",
    "degenerate_activation",
    "degenerate_probability",
    "exact_fit",
    "linear",
    "null_space",
    "polish",
    "rank",
    "rank_analysis",
    "rank_over_training",
    "rank_over_weights",
    "rank_phase",
    "smallest_xor_ranks",
    "stationarity_split",
    "target_sensitivity",
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
