"""The training, held-out and test rows that an argument `held_out` asks for."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastggn.data.columns import find_kind
from fastggn.data.split import Split
from fastggn.data.table import Table

HELD_OUT = 0.15
LEAST_ROWS = 50  # a smaller table holds nothing out by default


def split_rows(
    samples: Table, held_out: Any, test: float, seed: int
) -> tuple[Split | None, tuple[NDArray[np.intp], ...]]:
    """Return the rule of the split, if it is one, and the training, held-out and test rows."""
    total, labels = samples.n_rows, samples.Y if samples.classes is not None else None
    kind: Literal["end", "random"] = "end" if samples.series else "random"
    if isinstance(held_out, str) and held_out == "auto":
        held_out = HELD_OUT if total >= LEAST_ROWS else 0.0
    if isinstance(held_out, (int, float)) and not isinstance(held_out, bool):
        split = Split(float(held_out), float(test), seed, kind)
        if split.held_out == split.test == 0.0:
            nothing = np.zeros(0, dtype=np.intp)
            return None, (np.arange(total), nothing, nothing)
        return split, split.rows(total, labels)
    held = _chosen_rows(samples, held_out)
    rest = np.setdiff1d(np.arange(total), held)
    if test:
        raise ValueError("test= is a share of a random split; give held_out as a share too")
    if not held.size or not rest.size:
        raise ValueError(f"held_out chooses {held.size} of {total} rows")
    return Split.of_rows(held), (rest, held, np.zeros(0, dtype=np.intp))


def _chosen_rows(samples: Table, held_out: Any) -> NDArray[np.intp]:
    """Return the rows that a mask, row numbers or a column choose."""
    total = samples.n_rows
    if isinstance(held_out, str):
        if samples.raw is None or held_out not in samples.raw.names:
            raise ValueError(f"held_out: there is no column {held_out!r}")
        mask = find_kind(samples.raw.column(held_out), samples.raw.decimal)
        if mask.kind != "number" or mask.missing.any() or mask.misfits.size:
            raise ValueError(f"held_out: column {held_out!r} must hold 0 or 1")
        return np.flatnonzero(mask.values[samples.rows] != 0.0)
    chosen = np.asarray(held_out)
    if chosen.dtype == bool and chosen.shape == (total,):
        return np.flatnonzero(chosen)
    if chosen.dtype.kind not in "iu" or chosen.ndim != 1:
        raise TypeError("held_out must be a share, row numbers, a mask of all rows, or a column")
    if chosen.size and not (0 <= chosen.min() and chosen.max() < total):
        raise ValueError(f"held_out: row {chosen.max()} of {total} rows")
    return np.unique(chosen).astype(np.intp)
