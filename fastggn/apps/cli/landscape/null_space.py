"""``fastggn landscape null-space``: directions without influence on the samples."""

from __future__ import annotations

from typing import Any

import click

from fastggn.apps.cli.files import INPUT, JSON, OutputFile, checked_outputs
from fastggn.apps.cli.models import MODELS, model_options, read_model
from fastggn.apps.cli.outcome import DONE, bad_input
from fastggn.apps.cli.types import TARGET
from fastggn.apps.cli.watch import Watch, watched
from fastggn.apps.outputs import STDOUT, write_report

HELP = f"""Print the null space of the Gauss-Newton Hessian of MODEL at the samples DATA.

Its dimension, the singular values of the Jacobian that decide it, the part of each layer, and
whether the point is stationary by zero misfit or by orthogonality.

{MODELS} DATA is read as fastggn train reads it, and scaled as the model was trained; without it,
the built-in samples of the training are drawn again.

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
@click.argument("model", type=INPUT, metavar="MODEL")
@click.argument("data", type=INPUT, required=False, metavar="[DATA]")
@click.option("--target", type=TARGET, metavar="COLUMNS", help="As in fastggn train.")
@click.option("--loss", metavar="NAME", help="Another loss than the model was trained with.")
@click.option("--tol", type=float, metavar="X", help="Singular values at most X count as zero.")
@JSON
@click.option(
    "--plot", "plot_file", type=OutputFile("picture"), metavar="FILE",
    help="Draw the singular values.",
)  # fmt: skip
@model_options
@checked_outputs
@watched
def null_space(
    model: str,
    data: str | None,
    target: tuple[str | int, ...] | None,
    loss: str | None,
    tol: float | None,
    json_file: str | None,
    plot_file: str | None,
    watch: Watch,
    **foreign: Any,
) -> int:
    """Print the null space of a model."""
    from fastggn import analysis
    from fastggn.apps.cli.model_data import model_loss, model_problem

    with bad_input():
        net, theta, metadata = read_model(model, **foreign)
        problem = model_problem(net, metadata, data, target, model_loss(metadata, loss))
        rows = problem.n_samples * problem.n_outputs
        watch.expect_singular_values(rows, problem.n_params, vectors=True)
        report = analysis.null_space(problem, theta, tol=tol)
        split = analysis.stationarity_split(problem, theta)
    if json_file != STDOUT:
        click.echo(f"{report}\n{split}")
    with bad_input():
        if json_file is not None:
            both = {"null_space": report.to_dict(), "stationarity": split.to_dict()}
            write_report(json_file, both)
        if plot_file is not None:
            from fastggn.figures.style import save

            save(report.plot(), plot_file)
    return DONE
