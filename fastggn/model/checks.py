"""Checks of samples before a fit, and the facts about them that a user should know."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.data.recipe import TableError
from fastggn.data.scaler import Scaler
from fastggn.data.table import Table
from fastggn.model.decision import LINKS
from fastggn.network.losses.base import Loss
from fastggn.network.losses.output_weights import weighted_targets
from fastggn.network.losses.separable import SeparableLoss
from fastggn.runtime.ranks import as_comm

FloatArray = NDArray[np.float64]

FEW = 10  # different whole numbers of a target that may be classes,
ADVISED = 5  # in a table of so many rows for each
RANGES = {
    "sigmoid": (0.0, 1.0),
    "tanh": (-1.0, 1.0),
    "softsign": (-1.0, 1.0),
    "relu": (0.0, np.inf),
    "softplus": (0.0, np.inf),
    "square": (0.0, np.inf),
    "sin": (-1.0, 1.0),
}


def check_samples(samples: Table, loss: Loss) -> None:
    """Raise unless the samples can be fitted with this loss."""
    classes = samples.classes
    if samples.n_rows < 2:
        raise TableError(samples.source, [f"{samples.n_rows} row; a fit needs at least 2"])
    if loss.name in LINKS and classes is None:
        raise ValueError(
            f"the loss {loss.name} needs classes: read the table with "
            f"categorical={list(samples.targets)!r}"
        )
    if loss.name == "logistic" and len(classes or ()) != 2:
        raise ValueError(f"the loss logistic needs two classes, got {len(classes or ())}")


def check_range(samples: Table, output: str) -> None:
    """Raise if a target lies outside the range of the output activation."""
    if output not in RANGES:
        return
    low, high = RANGES[output]
    found = Scaler.of_known(samples.Y)
    faults = [
        f"target {name!r} runs from {least:.6g} to {largest:.6g}, and the output activation "
        f"{output!r} from {low:g} to {high:g}; 'identity' has no bounds"
        for name, least, largest in zip(samples.targets, found.least, found.largest, strict=True)
        if least < low or largest > high
    ]
    if faults:
        raise TableError(samples.source, faults)


def check_known(samples: Table, training: NDArray[np.intp]) -> None:
    """Raise if all training rows lack a target."""
    known = known_of(samples.Y)
    if known is None:
        return
    none = [name for name, own in zip(samples.targets, known[training].T, strict=True)
            if not own.any()]  # fmt: skip
    if none:
        words = f"has no known value in the {training.size} training rows"
        raise TableError(samples.source, [f"target {name!r} {words}" for name in none])


def known_of(Y: Any) -> NDArray[np.bool_] | None:
    """Return which targets (T, n) are known; None if all are, or if they stay in a file."""
    if not isinstance(Y, np.ndarray) or Y.dtype.kind != "f":
        return None
    known = ~np.isnan(Y)
    return None if known.all() else known


def target_weights(Y: Any, given: Any, loss: Loss, comm: Any) -> Any:
    """Return the sample weights `given`, spread over the targets with 0 for NaN if there are any.

    All ranks of `comm` spread them if one has such a target.
    """
    known = known_of(Y)
    if not as_comm(comm).any(known is not None):
        return given
    if not isinstance(loss, SeparableLoss):
        raise ValueError(
            f"targets that are missing need a loss that sums over the outputs, not {loss.name}: "
            "read the table with missing_targets='drop'"
        )
    weights = np.ones(Y.shape) if known is None else known.astype(np.float64)
    if given is None:
        return weights
    shares = np.asarray(given, dtype=np.float64)
    if shares.shape not in (Y.shape, Y.shape[:1]):
        raise ValueError(
            f"sample_weight must have shape {Y.shape[:1]} or {Y.shape}, got {shares.shape}"
        )
    return weights * (shares if shares.ndim == 2 else shares[:, None])


def losses_of(loss: Loss, F: FloatArray, targets: Any) -> tuple[FloatArray, FloatArray]:
    """Return the loss of each row, and the share of its targets that are known, shapes (T,)."""
    known = known_of(targets)
    if known is None:
        return loss.value(F, loss.prepare_targets(targets, *F.shape)), np.ones(len(F))
    weighted, both = weighted_targets(loss, targets, known, *F.shape)
    return weighted.value(F, both), known.mean(axis=1)


def notes_of(model: Any, samples: Table) -> list[str]:
    """Return the facts about the samples that a user should know, one sentence each."""
    notes = list(samples.notes)
    scalers = ((model.input_scaler, "input", samples.inputs),
               (model.target_scaler, "target", samples.targets))  # fmt: skip
    for scaler, kind, names in scalers:
        for name, constant in zip(names, () if scaler is None else scaler.constant, strict=False):
            if constant:
                notes.append(f"{kind} {name!r} is constant in the training rows")
    if (
        isinstance(samples.Y, np.ndarray)
        and model.target_scaler is not None
        and samples.n_rows >= ADVISED * FEW
    ):
        for j, name in enumerate(samples.targets):
            values = np.unique(samples.Y[~np.isnan(samples.Y[:, j]), j])
            if 1 < values.size <= FEW and (values == np.round(values)).all():
                notes.append(
                    f"target {name!r} holds {values.size} different whole numbers: if they are "
                    f"classes, read the table with categorical=[{name!r}]"
                )
    return notes
