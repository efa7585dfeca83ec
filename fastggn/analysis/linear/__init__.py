"""Deep linear networks in closed form (Kawaguchi 2016, with corrections).

Samples are rows: X (T, d_x), Y (T, d_y). Weights are ``[W_1, ..., W_{H+1}]``, W_k of shape
(d_k, d_{k-1}); the loss is half the sum of squares of ``X W_1^T ... W_{H+1}^T - Y``.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOME = {
    "Classification": "classification",
    "Conditions": "necessary",
    "Escape": "leave",
    "GatedReduction": "gates",
    "Regression": "regression",
    "best_map": "values",
    "classify": "classification",
    "conditions": "necessary",
    "construct": "saddles",
    "critical_values": "values",
    "escape": "leave",
    "gated_reduction": "gates",
    "gradient_blocks": "derivatives",
    "hessian": "derivatives",
    "hypotheses": "regression",
    "layer_curvatures": "derivatives",
}

__all__ = sorted(_HOME)


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'fastggn.analysis.linear' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"fastggn.analysis.linear.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
