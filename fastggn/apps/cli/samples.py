"""From DATA or a built-in set to the table, the untrained model and the problems of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.apps.cli.models import adopted, read_model
from fastggn.apps.cli.options import DATASET, Settings
from fastggn.apps.cli.tables import (
    builtin_table,
    drawn_again,
    labelled,
    own_rows,
    rows_of,
    samples_seed,
    slopes_of,
    stays,
)
from fastggn.data.builtin import DATASETS
from fastggn.data.read_table import read_table
from fastggn.data.split import Split
from fastggn.data.stream import stream_table
from fastggn.data.table import Table
from fastggn.model.decision import LINKS
from fastggn.model.fit import part_notes, prepare
from fastggn.model.model import Model
from fastggn.model.splitting import split_rows
from fastggn.objective.problem import Problem
from fastggn.objective.residual_problem import ResidualProblem
from fastggn.objective.terms import with_gradients
from fastggn.runtime.comm import SERIAL, Comm
from fastggn.runtime.mpi import world
from fastggn.runtime.ranks import as_comm

# Options that say how a table is read, with their defaults; all but the first three need it in
# memory.
READING = {"target": None, "inputs": None, "drop": (), "categorical": None, "missing": "error",
           "missing_targets": None, "header": None, "decimal": ".", "encoding": "utf-8-sig",
           "sheet": None}  # fmt: skip
OF_NETWORK = ("hidden", "bias", "init", "starts")
PARTS = ("training", "held-out", "test")
Rows = tuple[NDArray[np.intp], ...]


@dataclass(frozen=True)
class Prepared:
    """The samples of a run and the model before it.

    `problems` are those of the training, held-out and test rows, on each rank with its share of the
    rows; `samples` and `test` have all rows. `theta0` is None for drawn weights. `objective` is
    what the training minimises: the problem of the training rows, or that with their gradients.
    """

    model: Model
    samples: Table
    split: Split | None
    problems: Mapping[str, Problem]
    objective: Any
    test: Table | None
    digest: str
    theta0: NDArray[np.float64] | None


def prepare_run(settings: Settings, given: frozenset[str]) -> Prepared:
    """Return the samples and the model; `given` are the options that the user gave."""
    comm = as_comm(world()) if settings.mpi else SERIAL
    if settings.start is None:
        theta0 = None
        samples = _table(settings, comm)
        digest = samples.digest_over(comm)
        model, split, rows = _new(settings, samples, comm)
    else:
        model, samples, theta0 = _begun(settings, given, comm)
        digest = samples.digest_over(comm)
        split, rows = _split_again(settings, samples, model, digest)
    tables = {k: samples.take(own) for k, own in zip(PARTS, rows, strict=True) if own.size}
    del rows  # as large as a column of the table
    for name, path in (("held-out", settings.held_out_file), ("test", settings.test)):
        if path is not None:
            tables[name] = rows_of(model, path, comm, stream=settings.stream)
    counts = [tables[name].n_rows if name in tables else 0 for name in PARTS]
    told = [*model.training.get("notes", ()), *part_notes(model, *counts)]
    if settings.gradient_columns:
        told.append(f"the training fits values and {model.network.n_inputs} derivatives of each")
    model = replace(model, training={**drawn_by(model), "notes": told})
    problems = {}
    for name, table in tables.items():
        terms = {} if name == "training" else {"l2": 0.0}
        own = own_rows(table, comm)
        problems[name] = model.problem(own, curvature=settings.curvature, comm=comm, **terms)
    objective: Any = problems["training"]
    if settings.gradient_columns:
        training = tables["training"]
        slopes = slopes_of(training, settings.gradient_columns)
        objective = _with_gradients(model, training, slopes)
    parts = (model, samples, split, problems, objective, tables.get("test"), digest, theta0)
    return Prepared(*parts)


def drawn_by(model: Model) -> dict[str, int]:
    """Return what is kept of built-in samples that another run has drawn: their seed."""
    return {name: v for name, v in model.training.items() if name == "samples_seed"}


def _with_gradients(model: Model, table: Table, slopes: NDArray[np.float64]) -> ResidualProblem:
    """Return the problem of values and of derivatives (T, 1, n_0) in raw units."""
    width, height = (
        1.0 if scaler is None else scaler.scale
        for scaler in (model.input_scaler, model.target_scaler)
    )
    X, Y = model.scaled_inputs(table.X), model.targets_of(table.Y)
    term = with_gradients(X, Y, slopes * width / height, model.loss, None)
    return ResidualProblem(
        model.network, [term], l2=model.l2, penalize_biases=model.penalize_biases
    )


def _new(settings: Settings, samples: Table, comm: Comm) -> tuple[Model, Split | None, Rows]:
    """Return a model of the network of the options, the split, and the rows of its parts."""
    names, scale = settings.activation, settings.standardise
    return prepare(
        samples,
        settings.hidden,
        activation=names[0] if len(names) == 1 else names,
        output_activation=settings.output_activation,
        loss=settings.loss,
        l2=settings.l2,
        held_out=_held_out(settings),
        test=settings.test_fraction,
        seed=settings.seed,
        bias=settings.bias,
        scale=settings.data is not None if scale is None else scale,
        comm=comm,
    )


def _held_out(settings: Settings) -> Any:
    """Return the argument `held_out` of `split_rows`."""
    if settings.held_out is not None:
        return settings.held_out
    # The evidence needs no held-out rows; the benchmarks train on all of theirs.
    nothing = (settings.no_held_out, settings.held_out_file, settings.regularization,
               settings.posterior, settings.data is None)  # fmt: skip
    return 0.0 if any(nothing) else "auto"


def _begun(
    settings: Settings, given: frozenset[str], comm: Comm
) -> tuple[Model, Table, NDArray[np.float64]]:
    """Return the model of ``--from``, the samples as it takes them, and its weights."""
    start = str(settings.start)
    names = ("activation", "output_activation", "loss", "l2")
    model = read_model(start, **{n: getattr(settings, n) if n in given else None for n in names})
    own = bool(model.recipe.named or model.training)
    run = {name: value for name, value in model.training.items() if name != "samples_seed"}
    of_samples = (*READING, "standardise", "samples", "one_hot")
    refused = [*OF_NETWORK, *(of_samples if own else ())]
    for name in refused:
        if name in given:
            option = name.replace("_", "-")
            raise ValueError(f"--{option} does not go with --from {start}, which has its own")
    if settings.standardise:
        raise ValueError("--standardise does not go with weights from elsewhere: their network "
                         "takes the numbers as they are")  # fmt: skip
    if not own:
        samples, loss = _table(settings, comm), None
        if samples.classes is not None and model.loss.name not in LINKS and "loss" not in given:
            loss = "logistic" if model.network.n_outputs == 1 else "softmax_cross_entropy"
        model = adopted(model, samples, loss)
    elif settings.data is None:
        samples, run["samples_seed"] = drawn_again(model), samples_seed(model)
    else:
        samples = rows_of(model, settings.data, comm, stream=settings.stream)
    notes = [*samples.notes, f"the weights are those of {start}"]
    model = replace(model, training={**run, "notes": notes}, posterior=None)
    return model, samples, model.theta


def _split_again(
    settings: Settings, samples: Table, model: Model, digest: str
) -> tuple[Split | None, Rows]:
    """Return the split of the options; by default that of the model, if it is of this table."""
    asked = _held_out(settings)
    if asked == "auto" and not settings.test_fraction and model.split is not None:
        if digest == model.digest:
            labels = samples.Y if samples.classes is not None else None
            return model.split, model.split.rows(samples.n_rows, labels)
    return split_rows(samples, asked, settings.test_fraction, settings.seed)


def _table(settings: Settings, comm: Comm) -> Table:
    """Return all samples."""
    path, label_loss = settings.data, settings.loss in LINKS
    if path is None:
        return _builtin(settings, settings.one_hot or label_loss)
    target = settings.target
    if stays(path, settings.stream, comm):
        table = _streamed(path, settings)
        return labelled(table, comm) if label_loss and len(table.targets) == 1 else table
    reading = {name: getattr(settings, name) for name in READING if name != "target"}
    reading["header"] = "auto" if settings.header is None else settings.header
    held = [settings.held_out] if isinstance(settings.held_out, str) else []
    reading["drop"] = (*settings.drop, *held, *(settings.gradient_columns or ()))
    table = read_table(path, target, **reading)
    if label_loss and table.classes is None and len(table.targets) == 1:
        reading["categorical"] = (*(settings.categorical or ()), table.targets[0])
        table = read_table(table, target, **reading)
    return table


def _streamed(path: str, settings: Settings) -> Table:
    """Open a table of numbers that stays in its file."""
    if settings.gradient_columns:
        raise ValueError(
            f"--gradient-columns needs the table in memory, and {path} stays in its file"
        )
    for name in list(READING)[3:]:
        if getattr(settings, name) != READING[name]:
            option = name.replace("_", "-")
            raise ValueError(f"--{option} needs the table in memory, and {path} stays in its file")
    if isinstance(settings.held_out, str):
        raise ValueError(f"--held-out {settings.held_out}: {path} stays in its file; give a share")
    return stream_table(path, settings.target, inputs=settings.inputs, drop=settings.drop)


def _builtin(settings: Settings, labels: bool) -> Table:
    """Return built-in samples."""
    name = settings.dataset or DATASET
    if settings.stream:
        raise ValueError(f"--stream reads a file in every pass; --dataset {name} has none")
    known = DATASETS[name].options if name in DATASETS else ("T", "one_hot")
    for key, option, value in (("T", "samples", settings.samples),
                               ("one_hot", "one-hot", settings.one_hot)):  # fmt: skip
        if value and key not in known:
            raise ValueError(f"--{option} does not go with --dataset {name}")
    options = {"seed": settings.seed, "T": settings.samples}
    return builtin_table(name, labels, **{k: v for k, v in options.items() if v is not None})
