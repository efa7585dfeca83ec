"""``fastggn rank`` and ``fastggn check-design``: ranks of a model and of a design."""

from __future__ import annotations

from typing import Any

import click

from fastggn.apps.cli.files import INPUT, JSON, OutputFile, checked_outputs
from fastggn.apps.cli.models import (
    MODELS,
    inputs_problem,
    model_options,
    model_problem,
    read_model,
)
from fastggn.apps.cli.outcome import DONE, BadInput, bad_input, say
from fastggn.apps.cli.ranks import MPI_OPTION, ended_together, team_of
from fastggn.apps.cli.types import NAMES, WIDTHS
from fastggn.apps.cli.watch import Watch, watched
from fastggn.apps.outputs import STDOUT, write_report

RANK_HELP = f"""Analyse the ranks of the Jacobian of MODEL at the samples DATA.

Prints the rank of P(W) and of its parts, lower and upper bounds on them, the pointwise certificate
of a global minimum, Shen's design principles, and equal inputs with the loss floor they imply.

{MODELS} Of the table of the training, the rows that were trained on are taken; without DATA, the
built-in samples of the training are drawn again.

\b
Examples:
  fastggn rank model.npz
  fastggn rank houses.npz houses.csv --plot spectrum.png
  fastggn rank model.pt --data X.npy --activation tanh
  mpiexec -n 4 fastggn rank houses.npz houses.csv --mpi"""

DESIGN_HELP = """Judge a network's design by Shen's principles, before any training.

\b
Examples:
  fastggn check-design --widths 2,20,1 --samples 60
  fastggn check-design --widths 8,30,10,3 --samples 500 --activation relu --loss huber"""


@click.command(help=RANK_HELP, short_help="Ranks of a model's Jacobian at DATA.")
@click.argument("model", type=INPUT, metavar="MODEL")
@click.argument("data", type=INPUT, required=False, metavar="[DATA]")
@click.option(
    "--data", "data_file", type=INPUT, metavar="FILE",
    help="As DATA; or inputs alone, without targets, for the ranks alone.",
)  # fmt: skip
@click.option("--tol", type=float, metavar="X", help="Singular values at most X count as zero.")
@JSON
@click.option(
    "--plot", "plot_file", type=OutputFile("picture"), metavar="FILE",
    help="Draw the singular values.",
)  # fmt: skip
@MPI_OPTION
@model_options
@ended_together
@checked_outputs
@watched
def rank(
    model: str,
    data: str | None,
    data_file: str | None,
    tol: float | None,
    json_file: str | None,
    plot_file: str | None,
    mpi: bool,
    watch: Watch,
    **foreign: Any,
) -> int:
    """Print the rank analysis of a model."""
    from fastggn.analysis.rank.analysis import rank_analysis

    if data is not None and data_file is not None:
        raise BadInput("give DATA or --data, not both")
    with bad_input():
        comm = team_of(mpi)
        known, target = read_model(model, **foreign), foreign["target"]
        problem = None
        if data_file is not None and target is None:
            problem = inputs_problem(known, data_file, comm)
        alone = problem is not None
        if problem is None:
            problem = model_problem(known, data or data_file, comm, target=target)
        rows = problem.n_samples * problem.n_outputs
        watch.expect_singular_values(rows, problem.n_params, comm.size)
        report = rank_analysis(problem, known.theta, tol=tol, progress=watch)
    if json_file != STDOUT:
        if alone:
            say(f"{data_file} holds inputs alone: the ranks, which need no targets\n")
        click.echo(report.ranks_text() if alone else str(report))
    with bad_input():
        if json_file is not None and comm.rank == 0:
            write_report(json_file, report.ranks_dict() if alone else report.to_dict())
        if plot_file is not None and comm.rank == 0:
            from fastggn.figures.style import save

            save(report.plot(), plot_file)
    return DONE


@click.command("check-design", help=DESIGN_HELP, short_help="Judge a design before any training.")
@click.option("--widths", type=WIDTHS, required=True, metavar="WIDTHS", help="n_0 to n_L: 2,20,1.")
@click.option(
    "--samples", type=click.IntRange(min=1), required=True, metavar="T", help="Number of samples."
)
@click.option(
    "--activation", type=NAMES, default="tanh", show_default=True, metavar="NAME",
    help="Of the hidden layers: one for all, or one a layer.",
)  # fmt: skip
@click.option("--output-activation", default="identity", show_default=True, metavar="NAME")
@click.option("--loss", default="squared", show_default=True, metavar="NAME")
@click.option("--bias", default="free", show_default=True, metavar="KIND", help="free or none.")
@JSON
@checked_outputs
def check_design(
    widths: tuple[int, ...],
    samples: int,
    activation: tuple[str, ...],
    output_activation: str,
    loss: str,
    bias: str,
    json_file: str | None,
) -> int:
    """Print the judgement of a design by Shen's principles."""
    from fastggn.analysis.rank.design import check_design as judge

    with bad_input():
        report = judge(
            widths,
            samples,
            activation=activation[0] if len(activation) == 1 else activation,
            loss=loss,
            bias=bias,
            output_activation=output_activation,
        )
    if json_file != STDOUT:
        click.echo(str(report))
    if json_file is not None:
        with bad_input():
            write_report(json_file, report.to_dict())
    return DONE
