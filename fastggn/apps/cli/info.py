"""``fastggn info``: show the installation or the content of a model file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fastggn.apps.cli.files import INPUT
from fastggn.apps.cli.models import TORCH, own_model
from fastggn.apps.cli.outcome import bad_input
from fastggn.apps.cli.summary import network_name, print_rows
from fastggn.runtime.archive import ArchiveError

if TYPE_CHECKING:
    from fastggn.model.model import Model


HELP = """Show versions, threads, BLAS and cache folder; or the network and training of MODEL.

\b
Examples:
  fastggn info
  fastggn info model.npz

MODEL may also be what fastggn export writes: .onnx, .pt, plain arrays in .npz."""


@click.command(help=HELP, short_help="Show the installation, or what MODEL holds.")
@click.argument("model", type=INPUT, required=False, metavar="[MODEL]")
def info(model: str | None) -> int:
    """Print the configuration, or the content of a model file."""
    if model is None:
        from fastggn.apps.info import show_config

        show_config()
        return 0
    with bad_input():
        rows = _rows(model)
    print_rows(rows)
    return 0


def _rows(path: str) -> list[tuple[str, str]]:
    """Return the rows of the table about a model file of any kind."""
    suffix = Path(path).suffix.lower()
    if suffix == ".onnx":
        return _of_onnx(path)
    if suffix in TORCH:
        from fastggn.model.interchange.state_dict import read_state_dict

        return [("file", "a state dict of torch"), *_of_weights(read_state_dict, path)]
    if (model := own_model(path)) is not None:
        return _describe(model)
    from fastggn.model.interchange.npz import from_npz

    return [("file", "plain arrays"), *_of_weights(from_npz, path)]


def _of_weights(read: Callable[..., Model], path: str) -> list[tuple[str, str]]:
    """Return the rows about weights whose file may not name the activation."""
    try:
        return _describe(read(path))
    except ArchiveError as error:
        if "the activation: give it" not in str(error):
            raise
    net = read(path, "identity").network
    return [
        ("network", f"F({','.join(map(str, net.widths))}) ({net.n_params} parameters)"),
        ("activation", "not in the file: --activation names it where the model is used"),
    ]


def _of_onnx(path: str) -> list[tuple[str, str]]:
    from fastggn.model.interchange.onnx import read_onnx

    model = read_onnx(path)
    writer = f"{model.producer_name} {model.producer_version}".strip() or "an unknown program"
    rows = [("file", f"an ONNX model, written by {writer}")]
    for label, values in (("inputs", model.graph.input), ("outputs", model.graph.output)):
        rows.append((label, ", ".join(_tensor(value) for value in values)))
    rows += [(entry.key, entry.value) for entry in model.metadata_props]
    return rows


def _tensor(value: Any) -> str:
    sizes = [axis.dim_param or str(axis.dim_value) for axis in value.type.tensor_type.shape.dim]
    return f"{value.name} ({', '.join(sizes)})"


# Facts of the run, in the order of the table.
RUN = {
    "source": "samples",
    "n_rows": "number of rows",
    "n_training": "rows of the training",
    "method": "method",
    "solver": "solver",
    "solver_reason": "reason for the solver",
    "seed": "seed",
    "start_seed": "best start, seed",
    "loss": "loss",
    "validation_loss": "held-out loss",
    "gradient_norm": "gradient norm",
    "n_iter": "iterations",
    "seconds": "seconds",
    "status": "status",
    "message": "message",
}


def _describe(model: Model) -> list[tuple[str, str]]:
    """Return the rows of the table about a model."""
    net, recipe, run = model.network, model.recipe, model.training
    rows = [
        ("network", f"{network_name(net)} ({net.n_params} parameters)"),
        ("output activation", net.activations[-1].name),
        ("bias", net.bias if isinstance(net.bias, str) else "fixed"),
        ("largest weight", f"{abs(model.theta).max():.4g}"),
        ("inputs", ", ".join(recipe.input_names)),
        ("targets", ", ".join(recipe.target_names)),
        ("classes", ", ".join(recipe.classes or ())),
        ("left out", "; ".join(f"{name}: {reason}" for name, reason in recipe.left_out)),
        ("loss function", model.loss.name),
        ("l2", f"{model.l2:.6g}"),
    ]
    scaled = {"inputs": model.input_scaler, "targets": model.target_scaler}
    rows.append(("scaled", " and ".join(name for name, own in scaled.items() if own is not None)))
    if model.posterior is not None:
        rows.append(("posterior", "kept: fastggn predict --std"))
    rows += [(label, _text(run[key])) for key, label in RUN.items() if run.get(key) is not None]
    notes = [("note", str(note)) for note in run.get("notes", ())]
    known = {*RUN, "notes", "initial_loss", "initial_validation_loss", "best_iter", "evidence"}
    rest = [(key, _text(value)) for key, value in run.items() if key not in known]
    rows += notes + [row for row in rest if row[1] != "None"]
    rows += [(name, version) for name, version in model.versions.items()]
    return [row for row in rows if row[1]]


def _text(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)
