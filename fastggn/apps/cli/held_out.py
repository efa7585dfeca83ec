"""Held-out samples of ``fastggn train``: a share of DATA, or a file of their own."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastggn.apps.cli.sample_set import Samples
from fastggn.data.files import StreamedTable, Table
from fastggn.data.sources import is_streamed

Array = NDArray[np.float64]

# Names of the columns of a file without names.
GENERIC = re.compile(r"(column |x|y)\d+")


def hold_out(samples: Samples, fraction: float, seed: int) -> Samples:
    """Hold out a random share of the samples."""
    total = samples.n_samples
    if not 0.0 < fraction < 1.0:
        raise ValueError(f"--validation-fraction must be above 0 and below 1, got {fraction}")
    count = round(fraction * total)
    if not 0 < count < total:
        raise ValueError(
            f"--validation-fraction {fraction} holds out {count} of {total} samples: at least one "
            "must be held out, and one left"
        )
    if is_streamed(samples.X) or is_streamed(samples.Y):
        raise ValueError(
            "--validation-fraction chooses samples at random, and DATA is too large to be read "
            "into memory: put some into a file of their own, and give --validation FILE"
        )
    held_out, rest = split_rows(total, count, seed)
    return replace(_rows(samples, rest), held_out=_rows(samples, held_out))


def split_rows(total: int, count: int, seed: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return the sorted rows of the held-out samples and of the others."""
    # Another random stream than the one of the built-in samples.
    order = np.random.default_rng((seed, 1)).permutation(total)
    return np.sort(order[:count]), np.sort(order[count:])


def _rows(samples: Samples, index: NDArray[np.intp]) -> Samples:
    labels = None if samples.labels is None else samples.labels[index]
    return replace(samples, X=samples.X[index], Y=samples.Y[index], labels=labels)


def held_out_table(samples: Samples, name: str, table: Table | StreamedTable) -> Samples:
    """Return the samples of ``--validation FILE``, not yet scaled, with the classes of DATA."""
    for what, here, there in (
        ("inputs", table.inputs, samples.inputs),
        ("targets", table.targets, samples.targets),
    ):
        numbered = any(GENERIC.fullmatch(column) for column in (*here, *there))
        if len(here) != len(there) or (here != there and not numbered):
            raise ValueError(
                f"--validation {name} has the {what} {', '.join(here)}; DATA has {', '.join(there)}"
            )
    part = replace(samples, name=name, X=table.X, Y=table.Y)
    if samples.classes is not None:
        try:
            labels = known_labels(table.Y[:, 0], samples.classes)
        except ValueError as error:
            raise ValueError(f"--validation {name}: {error}") from error
        targets = labels[:, None].astype(np.float64) if samples.decision == "sign" else labels
        return replace(part, Y=targets, labels=labels)
    if samples.decision == "argmax":
        return replace(part, labels=np.asarray(table.Y[:]).argmax(axis=1))
    return part


def known_labels(values: Array, classes: ArrayLike) -> NDArray[np.int64]:
    """Return the labels, counted from 0, of the values of a target column."""
    ordered = np.asarray(classes)
    labels = np.searchsorted(ordered, values).clip(0, ordered.size - 1)
    if not (ordered[labels] == values).all():
        i = int(np.argmax(ordered[labels] != values))
        raise ValueError(f"target {values[i]} of sample {i} is no class that the model knows")
    return labels.astype(np.int64)
