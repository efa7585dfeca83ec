"""``fastggn export``: a model for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.console import Console

from fastggn.apps.cli.files import INPUT, OutputFile, checked_outputs
from fastggn.apps.cli.models import activation_options, read_model
from fastggn.apps.cli.outcome import DONE, bad_input, say
from fastggn.apps.cli.progress import plain_warnings

HELP = """Write MODEL so that other programs can use it: raw inputs in, raw outputs out.

The scaling that MODEL was trained with becomes part of what is written. OUT is, by its suffix,

\b
  .onnx        an ONNX model, input X, output Y, any number of samples (extra onnx)
  .pt, .pth    a state dict of torch.nn.Sequential(Linear, activation, ...) (extra torch)
  .npz         plain arrays W_1, b_1, ... and the names of the activations
  .csv         a weight a line: layer, unit, input, value

\b
Examples:
  fastggn export model.npz model.onnx
  fastggn export model.npz model.pt --float32

MODEL is a file of fastggn train, or weights from elsewhere with --activation (see fastggn rank)."""


@click.command(help=HELP, short_help="Write MODEL as .onnx, .pt, .npz or .csv.")
@click.argument("model", type=INPUT, metavar="MODEL")
@click.argument("out", type=OutputFile("export"), metavar="OUT")
@click.option("--float32", is_flag=True, help="Weights in single precision.  [float64]")
@click.option(
    "--probabilities", is_flag=True,
    help="Let an .onnx classifier end in its softmax or sigmoids.",
)  # fmt: skip
@activation_options
@checked_outputs
def export(model: str, out: str, float32: bool, probabilities: bool, **foreign: Any) -> int:
    """Convert a model file."""
    from fastggn.model.interchange.names import text_of
    from fastggn.model.interchange.onnx import compare_onnx

    dtype = "float32" if float32 else "float64"
    checked = ""
    with bad_input():
        known = read_model(model, **foreign)
        with plain_warnings(Console(stderr=True), False):
            known.export(out, dtype, probabilities=probabilities)
        if Path(out).suffix.lower() == ".onnx":
            difference = compare_onnx(out, known, probabilities=probabilities)
            checked = f"; onnxruntime differs by {difference:.1e} of the largest output"
    net = known.network
    widths = ",".join(map(str, net.widths))
    names = ", ".join(text_of(a) for a in net.activations)
    say(f"{out}: F({widths}), activations {names}, {dtype}{checked}")
    return DONE
