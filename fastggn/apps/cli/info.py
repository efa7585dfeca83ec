"""``fastggn info``: show the installation or the content of a model file."""

from __future__ import annotations

from typing import Any

import click

from fastggn.apps.cli.files import INPUT
from fastggn.apps.cli.outcome import bad_input
from fastggn.apps.cli.summary import network_name, print_rows

HELP = """Show versions, threads, BLAS and cache folder; or the network and training of MODEL.

\b
Examples:
  fastggn info
  fastggn info model.npz"""


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
    from fastggn.model.files import load_model

    with bad_input():
        net, theta, metadata = load_model(model)
    print_rows(_describe(net, metadata, theta))
    return 0


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
    rows = [
        ("network", f"{network_name(net)} ({net.n_params} parameters)"),
        ("output activation", net.activations[-1].name),
        ("bias", net.bias if isinstance(net.bias, str) else "fixed"),
        ("largest weight", f"{abs(theta).max():.4g}"),
    ]
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


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list):
        return ", ".join(_text(item) for item in value)
    return str(value)
