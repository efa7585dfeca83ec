"""``fastggn landscape null-space``: directions that the samples do not see."""

from __future__ import annotations

import json
from pathlib import Path

import click

from fastggn.cli.outcome import DONE, bad_input
from fastggn.cli.types import TARGET

__all__ = ["null_space"]

HELP = """Print the null space of the Gauss-Newton Hessian of MODEL at the samples DATA.

Its dimension, the singular values of the Jacobian that decide it, the part of each layer, and
whether the point is stationary by zero misfit or by orthogonality.

MODEL is a file of fastggn train. DATA is read as fastggn train reads it, and scaled as the model
was trained; without it, the built-in samples of the training are drawn again.

\b
Examples:
  fastggn landscape null-space model.npz
  fastggn landscape null-space houses.npz houses.csv --target price --plot values.png"""


@click.command(
    "null-space",
    help=HELP,
    short_help="Directions of MODEL that DATA does not see.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.argument("model")
@click.argument("data", required=False, metavar="[DATA]")
@click.option("--target", type=TARGET, metavar="COLUMNS", help="As in fastggn train.")
@click.option("--tol", type=float, metavar="X", help="Singular values at most X count as zero.")
@click.option("--json", "json_file", metavar="FILE", help="Write the report as JSON.")
@click.option("--plot", "plot_file", metavar="FILE", help="Draw the singular values.")
def null_space(
    model: str,
    data: str | None,
    target: tuple[str | int, ...] | None,
    tol: float | None,
    json_file: str | None,
    plot_file: str | None,
) -> int:
    """Print the null space of a model."""
    from fastggn import analysis
    from fastggn.cli.model_data import model_loss, model_problem
    from fastggn.model_io import load_model

    with bad_input():
        net, theta, metadata = load_model(model)
        problem = model_problem(net, metadata, data, target, model_loss(metadata, None))
        report = analysis.null_space(problem, theta, tol=tol)
        split = analysis.stationarity_split(problem, theta)
    click.echo(str(report))
    click.echo(str(split))
    with bad_input():
        if json_file is not None:
            both = {"null_space": report.to_dict(), "stationarity": split.to_dict()}
            Path(json_file).write_text(json.dumps(both, indent=1) + "\n", encoding="utf-8")
        if plot_file is not None:
            from fastggn.plotting.style import save

            save(report.plot(), plot_file)
    return DONE
