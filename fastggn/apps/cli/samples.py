"""From DATA or a built-in set to the arrays of a problem: scaling, class labels, ranks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.apps.cli.held_out import held_out_table, hold_out
from fastggn.apps.cli.options import DATASET, Settings
from fastggn.apps.cli.sample_set import Samples, Scaling
from fastggn.data.builtin import DATASETS
from fastggn.data.files import StreamedTable, Table, load_table, stream_table
from fastggn.data.scaler import Moments
from fastggn.data.scaling import Standardised
from fastggn.data.sources import as_source, in_parts, is_streamed, row_range
from fastggn.runtime.comm import SERIAL, Comm
from fastggn.runtime.errors import check_finite, unknown_name
from fastggn.runtime.memory import available_memory
from fastggn.runtime.mpi import world
from fastggn.runtime.ranks import as_comm

Array = NDArray[np.float64]

LABEL_LOSSES = ("softmax_cross_entropy", "logistic")
MOST_CLASSES = 1000
# A table that takes more than this share of the free memory stays in its file: in memory it is
# held up to three times, as stored, converted and scaled.
MOST_OF_MEMORY = 0.25


def load_samples(settings: Settings) -> Samples:
    """Return the samples of the settings; with ``--mpi``, the share of this rank."""
    comm = as_comm(world()) if settings.mpi else SERIAL
    table: Table | StreamedTable
    shared = None
    if settings.data is not None:
        name, classes = Path(settings.data).name, None
        table, shared = _from_file(settings.data, settings, comm)
    else:
        name = settings.dataset or DATASET
        if settings.stream:
            raise ValueError(f"--stream reads a file in every pass; --dataset {name} has none")
        table, classes = _builtin(name, settings)
    one_hot = classes is not None and table.Y.shape[1] > 1
    if settings.loss in LABEL_LOSSES and table.Y.shape[1] == 1:
        samples = _with_labels(name, table, settings.loss, SERIAL if shared is None else comm)
    elif one_hot or (settings.loss in LABEL_LOSSES and settings.loss != "logistic"):
        samples = _plain(name, table, decision="argmax", labels=table.Y.argmax(axis=1))
    elif classes is not None:
        labels = np.abs(table.Y - classes).argmin(axis=1)
        samples = _plain(name, table, decision="nearest", classes=classes, labels=labels)
    else:
        samples = _plain(name, table)
    samples = replace(samples, comm=comm, shared=shared)
    # Held-out samples have no part in the scales.
    if settings.validation_fraction is not None:
        samples = hold_out(samples, settings.validation_fraction, settings.seed)
    elif settings.validation is not None:
        found, count = _from_file(settings.validation, settings, comm)
        part = held_out_table(samples, settings.validation, found)
        samples = replace(samples, held_out=replace(part, shared=count))
    wanted = settings.standardise
    if wanted or (wanted is None and settings.data is not None):
        samples = _standardised(samples, settings, comm)
    return _share(samples, comm) if settings.mpi else samples


def _share(samples: Samples, comm: Comm) -> Samples:
    """Return the rows of this rank, in their order."""
    held_out = None if samples.held_out is None else _share(samples.held_out, comm)
    if samples.shared is not None:
        return replace(samples, held_out=held_out)
    total = samples.X.shape[0]
    own = own_rows(total, comm)
    labels = None if samples.labels is None else samples.labels[own]
    X, Y = row_range(samples.X, own.start, own.stop), row_range(samples.Y, own.start, own.stop)
    return replace(samples, X=X, Y=Y, labels=labels, comm=comm, shared=total, held_out=held_out)


def own_rows(total: int, comm: Comm) -> slice:
    """Return the rows of a table that belong to this rank."""
    return slice(comm.rank * total // comm.size, (comm.rank + 1) * total // comm.size)


def _from_file(
    path: str, settings: Settings, comm: Comm
) -> tuple[Table | StreamedTable, int | None]:
    """Return a table, and T of all ranks if this rank has only its rows of a streamed file."""
    streamed = stream_table(path, settings.target)
    if settings.stream and streamed is None:
        raise ValueError(
            f"--stream: {path} cannot be read by rows; .npy in C order and .h5 with matrices X and "
            "Y can (see fastggn convert)"
        )
    if streamed is None or not _stays(streamed, settings, comm):
        return load_table(path, settings.target), None
    total = streamed.X.shape[0]
    own = own_rows(total, comm)
    if comm.size > 1:
        X, Y = (row_range(part, own.start, own.stop) for part in (streamed.X, streamed.Y))
        streamed = replace(streamed, X=X, Y=Y)
    if settings.loss in LABEL_LOSSES:
        # The labels are held in memory to count the classes; the inputs stay in the file.
        labels = np.empty(streamed.Y.shape)
        for start, rows in in_parts(as_source("Y", streamed.Y, least=0)):
            check_finite(f"{path}: Y", rows, own.start + start)
            labels[start : start + rows.shape[0]] = rows
        streamed = replace(streamed, Y=labels)
    return streamed, total if comm.size > 1 else None


def _stays(table: StreamedTable, settings: Settings, comm: Comm) -> bool:
    """Whether a table stays in its file: by the option or for lack of memory."""
    if settings.stream is not None:
        return settings.stream
    T, n = table.X.shape
    free = comm.memory_share(available_memory())
    return bool(8 * T * (n + table.Y.shape[1]) > MOST_OF_MEMORY * free)


def _builtin(name: str, settings: Settings) -> tuple[Table, Array | None]:
    """Return a built-in table, and the values of its target if these are classes."""
    if name not in DATASETS:
        raise unknown_name("--dataset", name, DATASETS)
    dataset = DATASETS[name]
    keywords: dict[str, Any] = {"seed": settings.seed, "one_hot": settings.one_hot}
    if settings.samples is not None:
        keywords["T"] = settings.samples
    if settings.samples is not None and "T" not in dataset.options:
        raise ValueError(f"--samples does not go with --dataset {name}")
    if settings.one_hot and "one_hot" not in dataset.options:
        raise ValueError(f"--one-hot does not go with --dataset {name}")
    X, Y = dataset.make(**{key: keywords[key] for key in keywords if key in dataset.options})
    inputs = tuple(f"x{j}" for j in range(X.shape[1]))
    targets = tuple(f"y{j}" for j in range(Y.shape[1]))
    classes = np.array(dataset.classes) if dataset.classes else None
    return Table(X, Y, inputs, targets), classes


def _plain(name: str, table: Table | StreamedTable, **keywords: Any) -> Samples:
    return Samples(
        name, table.X, table.Y, table.Y.shape[1], table.inputs, table.targets, **keywords
    )


def _with_labels(name: str, table: Table | StreamedTable, loss: str, comm: Comm) -> Samples:
    """Return samples with labels from 0; the ranks of `comm` agree on the classes."""
    # One value too many is enough to refuse the target.
    own = np.unique(table.Y[:, 0])[: MOST_CLASSES + 1 if comm.size > 1 else None]
    classes = np.unique(np.concatenate(comm.gather(own)))
    target = table.targets[0]
    if loss == "logistic" and set(classes) <= {0.0, 1.0}:
        classes = np.array([0.0, 1.0])
    if loss == "logistic" and len(classes) != 2:
        raise ValueError(
            f"--loss logistic needs two classes; target {target!r} has {len(classes)} values"
        )
    if not 2 <= len(classes) <= MOST_CLASSES:
        raise ValueError(
            f"--loss {loss} needs class labels; target {target!r} has {len(classes)} values"
        )
    labels = np.searchsorted(classes, table.Y[:, 0]).astype(np.int64)
    samples = _plain(name, table, classes=classes, labels=labels)
    if loss == "logistic":
        return replace(samples, Y=labels[:, None].astype(np.float64), decision="sign")
    return replace(samples, Y=labels, n_outputs=len(classes), decision="argmax")


def _standardised(samples: Samples, settings: Settings, comm: Comm) -> Samples:
    """Scale the inputs and, in a regression, the targets."""
    X, scale_X = _scaled(samples.X, comm)
    scaled = replace(samples, X=X, scale_X=scale_X)
    part = samples.held_out
    if part is not None:
        part = replace(part, X=_scaled_like(part.X, scale_X), scale_X=scale_X)
        scaled = replace(scaled, held_out=part)
    # Labels, probabilities and the range of an output activation do not survive scaling.
    if (
        settings.loss in LABEL_LOSSES
        or samples.decision == "argmax"
        or settings.output_activation != "identity"
    ):
        return scaled
    Y, scale_Y = _scaled(samples.Y, comm)
    if part is not None:
        part = replace(part, Y=_scaled_like(part.Y, scale_Y), scale_Y=scale_Y)
    return replace(scaled, Y=Y, scale_Y=scale_Y, held_out=part)


def _scaled(columns: Any, comm: Comm) -> tuple[Any, Scaling]:
    """Scale columns; columns in a file are scaled when they are read."""
    if is_streamed(columns):
        moments = _moments(columns, comm)
        rows = Standardised(columns, moments.mean, moments.scaler().scale)
        return rows, Scaling(rows.mean, rows.scale)
    scaling = Scaling.of(columns)
    return scaling.apply(columns), scaling


def _moments(columns: Any, comm: Comm) -> Moments:
    """Return mean and deviation of columns in a file, over the rows of all ranks."""
    first = comm.span(columns.shape[0]).start
    found = Moments(columns.shape[1])
    with comm.raise_on_all():
        for start, rows in in_parts(as_source("samples", columns, least=0)):
            check_finite("samples", rows, first + start)
            found.add(rows)
    merged, *others = comm.gather(found)
    for other in others:
        merged.merge(other)
    return merged


def _scaled_like(columns: Any, scaling: Scaling) -> Any:
    if is_streamed(columns):
        return Standardised(columns, scaling.mean, scaling.scale)
    return scaling.apply(columns)
