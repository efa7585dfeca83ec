"""``fastggn landscape linear``: the critical values of a deep linear network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fastggn.apps.cli.files import INPUT, JSON, checked_outputs
from fastggn.apps.cli.models import TORCH, model_problem, read_model
from fastggn.apps.cli.outcome import DONE, BadInput, bad_input
from fastggn.apps.cli.types import TARGET, WIDTHS
from fastggn.apps.outputs import STDOUT, write_report

if TYPE_CHECKING:
    from fastggn.model.model import Model


MOST_SHOWN = 20

HELP = """Print all critical values of a deep linear network on DATA, and what a model is.

The network has no biases. Losses are half the sum of squares. With --model, a file of fastggn train
with --activation identity --bias none, or a state dict of torch (.pt) without biases, DATA is
scaled as the model was trained, and the model is classified: global minimum, strict saddle, bad
saddle, or not critical.

\b
Examples:
  fastggn landscape linear houses.csv --widths 2,2,1
  fastggn landscape linear arrays.npz --widths 2,3,3,1 --json values.json"""


@click.command(help=HELP, short_help="Critical values of deep linear networks on DATA.")
@click.argument("data", type=INPUT, metavar="DATA")
@click.option("--widths", type=WIDTHS, metavar="WIDTHS", help="d_x, d_1, ..., d_y: 4,3,3,2.")
@click.option(
    "--model", type=INPUT, metavar="FILE", help="Classify this model; its widths are taken."
)
@click.option("--target", type=TARGET, metavar="COLUMNS", help="As in fastggn train.")
@JSON
@checked_outputs
def linear(
    data: str,
    widths: tuple[int, ...] | None,
    model: str | None,
    target: tuple[str | int, ...] | None,
    json_file: str | None,
) -> int:
    """Print critical values, and a classification."""
    from fastggn.analysis import linear as tools

    if (widths is None) == (model is None):
        raise BadInput("give --widths or --model, one of them")
    with bad_input():
        if model is not None:
            known, X, Y = _of_model(model, data, target)
            point = tools.classify(known.network.unpack(known.theta), X, Y)
            widths = known.network.widths
        else:
            from fastggn.apps.cli.tables import numbers_of

            table = numbers_of(data, target)
            X, Y, point = table.X, table.Y, None
        assert widths is not None
        values = tools.critical_values(X, Y, widths)
        found = tools.hypotheses(X, Y)
    if json_file != STDOUT:
        _print_values(values, len(X))
        for name, hypothesis in found.items() if point is None else ():
            state = "holds" if hypothesis.holds else "FAILS"
            click.echo(f"  {name:20s} {state}: {hypothesis.text}")
        if point is not None:
            click.echo(str(point))
    if json_file is not None:
        content: dict[str, Any] = {
            "widths": list(widths),
            "critical_values": values.tolist(),
            "hypotheses": {name: vars(h) for name, h in found.items()},
            "classification": None if point is None else point.to_dict(),
        }
        with bad_input():
            write_report(json_file, content)
    return DONE


def _of_model(path: str, data: str, target: tuple[str | int, ...] | None) -> tuple[Model, Any, Any]:
    """Return the model, and the samples in its scaling."""
    model = read_model(path, activation=_of_torch(path), target=target)
    net = model.network
    if any(a.name != "identity" for a in net.activations) or net.bias != "none":
        raise ValueError(f"{path} is no linear network: train it with identity and without biases")
    problem = model_problem(model, data, target=target)
    return model, problem.layer_outputs(model.theta)[0].T, problem.targets


def _of_torch(model: str) -> tuple[str, ...] | None:
    """Return the activation that a torch file does not contain."""
    return ("identity",) if Path(model).suffix.lower() in TORCH else None


def _print_values(values: Any, T: int) -> None:
    count = f"{len(values)} critical values" if len(values) > 1 else "one critical value"
    click.echo(f"{count}, as half the sum of squares (and its mean over {T} samples):")
    for number, value in enumerate(values[:MOST_SHOWN]):
        name = "   global minimum" if number == 0 else ""
        click.echo(f"  {value:.8g}  ({value / T:.6g}){name}")
    if len(values) > MOST_SHOWN:
        click.echo(f"  ... up to {values[-1]:.8g} (--json writes all)")
