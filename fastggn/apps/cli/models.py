"""Models for commands: files of ``fastggn train``, and weights from elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from rich.console import Console

from fastggn.apps.cli.progress import plain_warnings
from fastggn.apps.cli.types import NAMES, TARGET, OneOf
from fastggn.runtime.comm import SERIAL, Comm

if TYPE_CHECKING:
    from fastggn.data.table import Table
    from fastggn.model.model import Model
    from fastggn.objective.problem import Problem


F = TypeVar("F", bound=Callable[..., Any])
Columns = tuple[str | int, ...]

MODELS = """MODEL is a file of fastggn train, an .onnx file of dense layers, or holds weights from
elsewhere, whose activation --activation names: a state dict of torch (.pt, .pth; read without
running code), or plain arrays W_1, b_1, ... (.npz). The columns of DATA are those of the model,
found by name; weights without names take them by position."""

TORCH = (".pt", ".pth")
TABLES = (".csv", ".tsv", ".txt", ".gz", ".parquet", ".xlsx", ".mat", ".npy", ".h5")
PICKLES = (".pkl", ".pickle", ".joblib", ".sav")

OPTIONS = (
    click.option(
        "--activation", type=NAMES, metavar="NAME",
        help="Of the hidden layers of weights from elsewhere: one for all, or one a layer; "
             "leaky_relu:0.2 for that slope.",
    ),
    click.option("--output-activation", metavar="NAME", help="Of their output layer.  [identity]"),
)  # fmt: skip
READING = (
    click.option("--encoding", metavar="NAME", help="Of DATA as text.  [default: as in training]"),
    click.option(
        "--decimal",
        type=OneOf((".", ",")),
        metavar="MARK",
        help="Of DATA as text.  [default: as in training]",
    ),
    click.option("--sheet", metavar="NAME", help="Of DATA in Excel.  [default: as in training]"),
)
L2 = click.option("--l2", type=float, metavar="X", help="The weight decay of their loss.  [0]")
TARGETS = click.option(
    "--target", type=TARGET, metavar="COLUMNS",
    help="Their target columns in DATA.  [default: the last ones]",
)  # fmt: skip
LOSS = click.option("--loss", metavar="NAME", help="Another loss than the model was trained with.")


def activation_options(function: F) -> F:
    """Add the options for the activations of weights from elsewhere."""
    for decorate in reversed(OPTIONS):
        function = decorate(function)
    return function


def reading_options(function: F) -> F:
    """Add the options for new rows in a file that is written in another way than the first one."""
    for decorate in reversed(READING):
        function = decorate(function)
    return function


def read_model_for(path: str, options: dict[str, Any]) -> Model:
    """Read a model that takes DATA as `reading_options` say; the rest goes to `read_model`."""
    given = {name: options.pop(name) for name in ("encoding", "decimal", "sheet")}
    model = read_model(path, **options)
    found = {name: value for name, value in given.items() if value is not None}
    reading = {**(model.recipe.reading or {}), **found}
    return replace(model, recipe=replace(model.recipe, reading=reading)) if found else model


def model_options(function: F) -> F:
    """Add all options of a model and its samples, which `read_model` takes."""
    return LOSS(activation_options(L2(TARGETS(function))))


def read_model(
    path: str,
    *,
    activation: tuple[str, ...] | None = None,
    output_activation: str | None = None,
    l2: float | None = None,
    loss: str | None = None,
    target: Columns | None = None,
) -> Model:
    """Read a model of ``fastggn train``, an ONNX file, a state dict of torch, or plain arrays.

    `target` is only checked here; `model_problem` takes it.
    """
    suffix = Path(path).suffix.lower()
    if suffix in PICKLES:
        raise ValueError(
            f"{path}: pickles run code when they are loaded and are never read; in Python: "
            "fg.interchange.from_sklearn(estimator).save(path)"
        )
    given = {"--activation": activation, "--output-activation": output_activation, "--l2": l2,
             "--target": target}  # fmt: skip
    with plain_warnings(Console(stderr=True), False):
        model = own_model(path) if suffix not in (*TORCH, ".onnx") else None
        if model is None:
            return _foreign(path, suffix, activation, output_activation, l2 or 0.0, loss)
    for name, value in given.items():
        if value is not None:
            raise ValueError(f"{name} is for weights from elsewhere; {path} holds its own")
    return _with_loss(model, loss)


def own_model(path: str) -> Model | None:
    """Return the model of a file of fastggn, None for plain arrays."""
    from fastggn.model.model import Model
    from fastggn.model.saving import ModelFileError

    try:
        return Model.load(path)
    except ModelFileError:
        if Path(path).suffix.lower() in TABLES:
            raise ValueError(f"{path}: a table, not a model; MODEL is first, then DATA") from None
        if not _holds_weights(path):
            raise
    return None


def _foreign(
    path: str,
    suffix: str,
    activation: tuple[str, ...] | None,
    output: str | None,
    l2: float,
    loss: str | None,
) -> Model:
    """Return the model of weights from elsewhere."""
    if suffix == ".onnx":
        from fastggn.model.interchange.onnx_reader import from_onnx

        if activation is not None or output is not None:
            raise ValueError(f"{path} holds its activations: leave out --activation")
        return replace(_with_loss(from_onnx(path), loss), l2=l2)
    from fastggn.model.interchange.npz import from_npz
    from fastggn.model.interchange.state_dict import read_state_dict

    names = activation[0] if activation is not None and len(activation) == 1 else activation
    read = read_state_dict if suffix in TORCH else from_npz
    try:
        model = read(path, names, output)
    except ValueError as error:
        if "tell the activation" in str(error) or "name the activation" in str(error):
            raise ValueError(f"{error}: --activation") from None
        raise
    return replace(_with_loss(model, loss), l2=l2)


def _with_loss(model: Model, name: str | None) -> Model:
    """Return the model with another loss; one for labels brings classes where there are none."""
    from fastggn.data.recipe import Recipe
    from fastggn.model.decision import LINKS
    from fastggn.network.losses import get_loss

    if name is None:
        return model
    loss, net = get_loss(name), model.network
    if loss.name in LINKS and model.classes is None and not model.training:
        recipe = Recipe.of_arrays(net.n_inputs, net.n_outputs, range(max(2, net.n_outputs)))
        return replace(model, loss=loss, recipe=recipe)
    return replace(model, loss=loss)


def adopted(model: Model, samples: Table, loss: str | None = None) -> Model:
    """Return weights without names of columns with those of a table, and with another loss."""
    from fastggn.network.losses import get_loss

    kept = model.loss if loss is None else get_loss(loss)
    return replace(model, recipe=samples.recipe, loss=kept)


def model_problem(
    model: Model,
    data: str | None,
    comm: Comm = SERIAL,
    *,
    target: Columns | None = None,
) -> Problem:
    """Return the problem of a model on DATA.

    Of the table of its training the model takes the rows that it was trained on; without DATA,
    the built-in samples of the training are drawn again.
    """
    from fastggn.apps.cli.tables import own_rows, training_rows

    model, samples = _samples(model, data, target, comm)
    trained = training_rows(model, samples, comm)
    if trained.n_rows < samples.n_rows and comm.rank == 0:
        total = f"the {trained.n_rows} of {samples.n_rows} rows that the model was trained on"
        click.echo(f"{total} are taken", err=True)
    return model.problem(own_rows(trained, comm), comm=comm)


def model_parts(
    model: Model, data: str | None, *, target: Columns | None = None
) -> dict[str, Problem]:
    """Return the problems of the training, held-out and test rows, or of all rows of other DATA."""
    model, samples = _samples(model, data, target)
    return {name: model.problem(part) for name, part in model.parts(samples).items()}


def _samples(
    model: Model, data: str | None, target: Columns | None, comm: Comm = SERIAL
) -> tuple[Model, Table]:
    """Return all samples, and the model with the columns that it takes."""
    from fastggn.apps.cli.tables import drawn_again, rows_of
    from fastggn.data.read_table import read_table

    if data is None:
        return model, drawn_again(model)
    if target is None:
        return model, rows_of(model, data, comm)
    labels = target if model.classes is not None else None
    samples = read_table(data, target, categorical=labels)
    return adopted(model, samples), samples


def inputs_problem(model: Model, data: str, comm: Comm = SERIAL) -> Problem | None:
    """Return a problem for ranks if the file holds inputs alone; None if it has targets."""
    from fastggn.apps.cli.tables import own_rows, rows_of
    from fastggn.objective.problem import Problem

    samples = rows_of(model, data, comm, stream=False, targets=None)
    if samples.Y is not None:
        return None
    X = model.scaled_inputs(own_rows(samples, comm).X)
    return Problem(model.network, X, model.network.predict(model.theta, X), comm=comm)


def _holds_weights(path: str) -> bool:
    """Whether a file is an archive of plain arrays with weights among them."""
    from fastggn.runtime.archive import ArchiveError, read_archive

    try:
        names = read_archive(path)
    except ArchiveError:
        return False
    return any(name.endswith(".weight") or name in ("W_1", "W1", "W_0", "W0") for name in names)
