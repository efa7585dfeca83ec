"""The part of a run's history that a model file keeps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastggn.training.result import Record, TrainResult

MOST_KEPT = 500  # iterations in a model file
KEPT = ("iteration", "loss", "validation_loss", "gradient_norm", "damping", "gain_ratio",
        "accepted", "seconds")  # fmt: skip
FACTS = ("solver", "solver_reason", "status", "message", "loss", "initial_loss", "gradient_norm",
         "n_iter", "seconds", "best_iter", "initial_validation_loss")  # fmt: skip


def run_facts(result: TrainResult) -> dict[str, Any]:
    """Return the outcome of a run as plain values for a model file."""
    evidence = None if result.evidence is None else result.evidence.to_dict()
    facts = {name: getattr(result, name) for name in FACTS}
    return {**facts, "validation_loss": result.best_validation_loss, "evidence": evidence}


def kept_history(records: Sequence[Record]) -> dict[str, list[Any]]:
    """Return the columns of a history for a model file, of at most 500 evenly spaced iterations."""
    count = len(records)
    last = min(count, MOST_KEPT) - 1
    places = sorted({round(k * (count - 1) / max(last, 1)) for k in range(last + 1)})
    rows = [records[place].to_dict() for place in places]
    columns = {name: [row.get(name) for row in rows] for name in KEPT}
    return {name: column for name, column in columns.items() if any(v is not None for v in column)}
