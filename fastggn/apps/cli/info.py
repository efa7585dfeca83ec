"""``fastggn info``: show the installation or the content of a model file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

from fastggn.apps.cli.files import INPUT
from fastggn.apps.cli.models import TORCH, holds_weights
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


@click.command(
    help=HELP,
    short_help="Show the installation, or what MODEL holds.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
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
    from fastggn.model.interchange.npz import from_npz
    from fastggn.model.interchange.state_dict import read_state_dict
    from fastggn.model.model import Model
    from fastggn.model.saving import ModelFileError

    suffix = Path(path).suffix.lower()
    if suffix == ".onnx":
        return _of_onnx(path)
    if suffix in TORCH:
        return [("file", "a state dict of torch"), *_of_weights(read_state_dict, path)]
    try:
        return _of_model(Model.load(path))
    except ModelFileError:
        if not holds_weights(path):
            raise
    return [("file", "plain arrays"), *_of_weights(from_npz, path)]


def _of_weights(read: Callable[..., Model], path: str) -> list[tuple[str, str]]:
    """Return the rows about weights whose file may not name the activation."""
    try:
        return _of_model(read(path))
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


def _of_model(model: Model) -> list[tuple[str, str]]:
    """Return the rows about a model; weights from elsewhere lack most of them."""
    net, recipe = model.network, model.recipe
    facts: dict[str, Any] = {
        "network": f"{network_name(net)} ({net.n_params} parameters)",
        "output activation": net.activations[-1].name,
        "bias": net.bias if isinstance(net.bias, str) else "fixed",
        "largest weight": abs(model.theta).max(),
        "inputs": [column.name for column in recipe.inputs],
        "left out": [f"{name} ({why})" for name, why in recipe.left_out],
        "targets": list(recipe.target_names),
        "classes": None if model.classes is None else model.classes.tolist(),
        "loss function": model.loss.name,
        "l2": model.l2,
        "scales": "of inputs and targets, in the file" if model.target_scaler else None,
        **{name.replace("_", " "): value for name, value in model.training.items()},
        "held out": None if model.split is None else f"{model.split.held_out:.0%}",
        "posterior": None if model.posterior is None else "in the file: predict gives deviations",
        "SHA-256 of the table": model.digest,
        "versions": [f"{name} {version}" for name, version in model.versions.items()],
    }
    rows = [(name, _text(value)) for name, value in facts.items() if value is not None]
    return [row for row in rows if row[1]]


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, (list, tuple)):
        return ", ".join(_text(item) for item in value)
    return str(value)
