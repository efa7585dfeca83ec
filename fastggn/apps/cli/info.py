"""``fastggn info``: show the installation or the content of a model file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from fastggn.apps.cli.files import INPUT
from fastggn.apps.cli.models import TORCH, read_model
from fastggn.apps.cli.outcome import bad_input
from fastggn.apps.cli.summary import network_name, print_rows

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
    suffix = Path(path).suffix.lower()
    if suffix == ".onnx":
        return _of_onnx(path)
    if suffix in TORCH:
        from fastggn.model.interchange.state_dict import read_state_dict

        net, theta = read_state_dict(path, "identity")
        bare = f"F({','.join(map(str, net.widths))}) ({net.n_params} parameters)"
        unnamed = "not in the file: --activation names it where the model is used"
        rows = [("file", "a state dict of torch"), ("network", bare), ("activations", unnamed)]
        return rows + _of_network(net, theta)[1:3]
    net, theta, metadata = read_model(path)
    return _describe(net, metadata, theta)


def _of_onnx(path: str) -> list[tuple[str, str]]:
    from fastggn.model.interchange.extras import require
    from fastggn.runtime.archive import require_file

    onnx = require("onnx", "onnx", f"{path}: reading it")
    content = require_file(path).read_bytes()
    try:
        model = onnx.load_model_from_string(content)
    except require("google.protobuf.message", "onnx", path).DecodeError as error:
        raise ValueError(f"{path}: not an ONNX model ({error})") from None
    writer = f"{model.producer_name} {model.producer_version}".strip() or "an unknown program"
    rows = [("file", f"an ONNX model, written by {writer}")]
    for label, values in (("inputs", model.graph.input), ("outputs", model.graph.output)):
        rows.append((label, ", ".join(_tensor(value) for value in values)))
    rows += [(entry.key, entry.value) for entry in model.metadata_props]
    return rows


def _tensor(value: Any) -> str:
    sizes = [axis.dim_param or str(axis.dim_value) for axis in value.type.tensor_type.shape.dim]
    return f"{value.name} ({', '.join(sizes)})"


# Metadata of `fastggn train`, in the order of the table.
KNOWN = {
    "samples": ("samples", "name"),
    "number of samples": ("samples", "n_samples"),
    "inputs": ("samples", "inputs"),
    "targets": ("samples", "targets"),
    "classes": ("samples", "classes"),
    "loss function": ("loss", "name"),
    "l2": ("l2",),
    "method": ("training", "method"),
    "solver": ("training", "solver"),
    "reason for the solver": ("training", "solver_reason"),
    "seed": ("training", "seed"),
    "best start, seed": ("training", "start_seed"),
    "loss": ("training", "loss"),
    "validation loss": ("training", "validation_loss"),
    "gradient norm": ("training", "gradient_norm"),
    "accuracy": ("training", "accuracy"),
    "iterations": ("training", "n_iter"),
    "seconds": ("training", "seconds"),
    "status": ("training", "status"),
    "message": ("training", "message"),
}


def _describe(net: Any, metadata: dict[str, Any], theta: Any) -> list[tuple[str, str]]:
    """Return the rows of the table; a file written by hand may lack any of the metadata."""
    rows = _of_network(net, theta)
    for label, path in KNOWN.items():
        value: Any = metadata
        for key in path:
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None:
            rows.append((label, _text(value)))
    scaled = isinstance(metadata.get("samples"), dict) and metadata["samples"].get("scale_inputs")
    if scaled:
        rows.append(("scales", "kept in the file: the network takes scaled inputs"))
    sections = {path[0] for path in KNOWN.values()}
    rows += [
        (key, _text(value))
        for key, value in metadata.items()
        if key not in sections and value is not None
    ]
    return rows


def _of_network(net: Any, theta: Any) -> list[tuple[str, str]]:
    return [
        ("network", f"{network_name(net)} ({net.n_params} parameters)"),
        ("bias", net.bias if isinstance(net.bias, str) else "fixed"),
        ("largest weight", f"{abs(theta).max():.4g}"),
        ("output activation", net.activations[-1].name),
    ]


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(_text(item) for item in value)
    return str(value)
