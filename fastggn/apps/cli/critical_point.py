"""``fastggn critical-point``: classify the critical point of a model."""

from __future__ import annotations

from typing import Any

import click

from fastggn.apps.cli.files import INPUT, JSON, checked_outputs
from fastggn.apps.cli.models import MODELS, model_options, model_problem, read_model
from fastggn.apps.cli.outcome import bad_input
from fastggn.apps.cli.ranks import MPI_OPTION, ended_together, team_of
from fastggn.apps.cli.summary import network_name, print_rows
from fastggn.apps.cli.watch import Watch, seconds_of, seconds_of_call, watched
from fastggn.apps.outputs import STDOUT, write_report

HELP = f"""Say what kind of a critical point MODEL stands at, and how that is known.

{MODELS} DATA are the samples it was trained on; without it, the built-in ones that the model names.

\b
Examples:
  fastggn critical-point model.npz
  fastggn critical-point houses.npz houses.csv --polish
  fastggn critical-point houses.npz houses.csv --json report.json
  fastggn critical-point model.pt houses.csv --activation tanh --l2 0.001
  mpiexec -n 4 fastggn critical-point houses.npz houses.csv --mpi"""


# Typical numbers of gradients: of the search for descent, and of all with Lanczos iterations.
DECIDING, LANCZOS = 200.0, 2000.0


@click.command(
    "critical-point", help=HELP, short_help="Say what kind of a critical point MODEL stands at."
)
@click.argument("model", type=INPUT, metavar="MODEL")
@click.argument("data", type=INPUT, required=False, metavar="[DATA]")
@click.option("--polish", is_flag=True, help="Solve gradient = 0 from there first.")
@click.option(
    "--grad-tol", type=float, default=1e-8, show_default=True, metavar="X",
    help="A slope of at most this share of its terms counts as zero.",
)  # fmt: skip
@click.option(
    "--method", default="auto", show_default=True, metavar="NAME",
    help="auto, dense (all eigenvalues), lanczos (a few, by Hessian products).",
)  # fmt: skip
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, metavar="N",
    help="Of the search for descent.",
)  # fmt: skip
@JSON
@MPI_OPTION
@model_options
@ended_together
@checked_outputs
@watched
def critical_point(
    model: str,
    data: str | None,
    polish: bool,
    grad_tol: float,
    method: str,
    seed: int,
    json_file: str | None,
    mpi: bool,
    watch: Watch,
    **foreign: Any,
) -> int:
    """Classify the weights of a model file."""
    from fastggn.analysis.critical.classify import critical_point as classify

    with bad_input():
        comm = team_of(mpi)
        known = read_model(model, **foreign)
        problem = model_problem(known, data, comm, target=foreign["target"])
        tell_cost(watch, problem, known.theta, method, "or --method lanczos, ")
        report = classify(
            problem,
            known.theta,
            polish=polish,
            grad_tol=grad_tol,
            method=method,  # type: ignore[arg-type]
            seed=seed,
        )
    if json_file is not None and comm.rank == 0:
        with bad_input():
            write_report(json_file, report.to_dict())
    if json_file != STDOUT:
        print_rows([("network", network_name(problem.network)), *report.rows()])
    return 0


def tell_cost(watch: Watch, problem: Any, theta: Any, method: str, remedy: str = "") -> None:
    """Tell the cost from the time of one gradient."""
    from fastggn.training.methods.newton import DENSE_LIMIT

    gradient = seconds_of_call(lambda: problem.gradient(theta))
    n = problem.n_params
    if method == "dense" or (method == "auto" and n <= DENSE_LIMIT):
        evaluations, work = float(n) + DECIDING, f"all eigenvalues of {n:,} parameters"
        operations = 10.0 * float(n) ** 3
    else:
        evaluations, operations = LANCZOS, 0.0
        work = f"the lowest eigenvalues of {n:,} parameters"
    seconds = evaluations * gradient + seconds_of(operations)
    watch.expect(seconds, work, f"take fewer samples, {remedy}")
