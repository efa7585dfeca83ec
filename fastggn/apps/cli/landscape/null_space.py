"""``fastggn landscape null-space``: directions without influence on the samples."""

from __future__ import annotations

from typing import Any

import click

from fastggn.apps.cli.files import INPUT, JSON, OutputFile, checked_outputs
from fastggn.apps.cli.models import MODELS, model_options, model_problem, read_model
from fastggn.apps.cli.outcome import DONE, bad_input
from fastggn.apps.cli.watch import Watch, watched
from fastggn.apps.outputs import STDOUT, write_report

HELP = f"""Print the null space of the Gauss-Newton Hessian of MODEL at the samples DATA.

Its dimension, the singular values of the Jacobian that decide it, the part of each layer, and
whether the point is stationary by zero misfit or by orthogonality.

{MODELS} Of the table of the training, the rows that were trained on are taken; without DATA, the
built-in samples of the training are drawn again.

\b
Examples:
  fastggn landscape null-space model.npz
  fastggn landscape null-space houses.npz houses.csv --plot values.png"""


@click.command("null-space", help=HELP, short_help="Directions of MODEL that DATA does not see.")
@click.argument("model", type=INPUT, metavar="MODEL")
@click.argument("data", type=INPUT, required=False, metavar="[DATA]")
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
    tol: float | None,
    json_file: str | None,
    plot_file: str | None,
    watch: Watch,
    **foreign: Any,
) -> int:
    """Print the null space of a model."""
    from fastggn import analysis

    with bad_input():
        known = read_model(model, **foreign)
        problem = model_problem(known, data, target=foreign["target"])
        rows = problem.n_samples * problem.n_outputs
        watch.expect_singular_values(rows, problem.n_params, vectors=True)
        report = analysis.null_space(problem, known.theta, tol=tol)
        split = analysis.stationarity_split(problem, known.theta)
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
