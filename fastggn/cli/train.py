"""``fastggn train``: samples, network, training, summary, model file."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from click.core import ParameterSource
from rich.console import Console

from fastggn.cli.options import GroupedCommand, Settings, train_options
from fastggn.cli.outcome import BadInput, SaveError, bad_input, exit_code
from fastggn.cli.progress import ProgressLine, SignalStop, plain_warnings
from fastggn.cli.ranks import ended_together
from fastggn.cli.summary import opening, print_summary
from fastggn.data.storage import check_writable

if TYPE_CHECKING:
    from fastggn.cli.samples import Samples
    from fastggn.problem import Problem
    from fastggn.training import TrainResult

__all__ = ["train"]

# The arguments of `train` that are options of the same name.
TRAIN_ARGUMENTS = (
    "method",
    "solver",
    "max_iter",
    "alpha",
    "damping",
    "momentum",
    "geodesic",
    "precision",
    "batch_size",
    "escape",
    "grad_tol",
    "loss_tol",
    "step_tol",
    "loss_target",
    "max_time",
)

EXAMPLES = """\b
Examples:
  fastggn train                                      four regions, writes model.npz
  fastggn train houses.csv --target price            your own table, scaled
  fastggn train houses.csv --hidden 30 --activation softplus --max-time 60
  fastggn train flowers.csv --target kind --loss softmax_cross_entropy
  fastggn train arrays.npz --solver lsqr --out big.npz
  fastggn train --config run.toml --seed 7           options from a file, one changed
  mpiexec -n 4 fastggn train houses.csv --mpi        samples shared by 4 ranks

DATA is a .csv, .tsv or .txt table (a line of names, or none), an .npy array of rows, or an .npz or
.h5 file with arrays X and Y. Ctrl-C stops after the iteration under way and saves the model."""


@click.command(
    cls=GroupedCommand,
    epilog=EXAMPLES,
    short_help="Fit a network to DATA, or to the four-regions benchmark.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@train_options
@click.pass_context
@ended_together
def train(ctx: click.Context, /, **options: Any) -> int:
    """Fit a multilayer perceptron to DATA, or to built-in samples where DATA is left out.

    It prints the progress and a summary, and saves network, weights and scales to a model file.
    Without any option it fits the four-regions benchmark by Levenberg-Marquardt.
    """
    settings = _settle(ctx, Settings(**options))
    console = Console(stderr=True)
    with bad_input():
        samples, problem, theta = _prepare(settings)
        if problem.comm.rank == 0:
            check_writable(settings.out, n_bytes=8 * problem.n_params + 65536)
        _check_run(settings, problem)
    if not settings.quiet:
        line = opening(settings, samples, problem)
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    with SignalStop() as stop:
        with plain_warnings(console, settings.quiet):
            result = _run(settings, problem, theta, console, stop)
        stop.hold()
        if result.status == "interrupted" and stop.signal is not None:
            result = replace(result, message=f"stopped by {stop.signal}")
        accuracy = samples.accuracy(problem.outputs(result.theta))
        if problem.comm.rank == 0:
            _save(settings, samples, problem, result, accuracy)
    if not settings.quiet:
        # The model is safe: Ctrl-C only cuts the rank of the Jacobian short.
        with contextlib.suppress(KeyboardInterrupt):
            print_summary(settings, samples, problem, result, accuracy)
    return exit_code(result.status)


def _settle(ctx: click.Context, settings: Settings) -> Settings:
    """Let the command line beat the config file where both name samples, and refuse nonsense."""
    typed = {
        name
        for name in ("data", "dataset", "target", "samples", "one_hot")
        if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }
    if settings.data is not None and settings.dataset is not None:
        if ("data" in typed) == ("dataset" in typed):
            raise BadInput("give DATA or --dataset, not both")
        if "dataset" in typed:
            settings = replace(settings, data=None)
        else:
            settings = replace(settings, dataset=None)
    if settings.data is None and "target" in typed:
        raise BadInput("--target goes with DATA; built-in samples have their own targets")
    if settings.data is not None:
        for name in ("samples", "one_hot"):
            if name in typed and getattr(settings, name):
                raise BadInput(f"--{name.replace('_', '-')} goes with --dataset, not with DATA")
    return settings


def _prepare(settings: Settings) -> tuple[Samples, Problem, Any]:
    """Return the samples, the problem, and the first parameters."""
    from fastggn.cli.samples import load_samples
    from fastggn.network import MLP
    from fastggn.problem import Problem

    samples = load_samples(settings)
    names = settings.activation
    net = MLP(
        (samples.X.shape[1], *settings.hidden, samples.n_outputs),
        activation=names[0] if len(names) == 1 else names,
        output_activation=settings.output_activation,
        bias=settings.bias,
    )
    problem = Problem(
        net,
        samples.X,
        samples.Y,
        loss=settings.loss,
        l2=settings.l2,
        curvature=settings.curvature,
        comm=samples.comm,
    )
    return samples, problem, net.init(seed=settings.seed, scheme=settings.init)


def _arguments(settings: Settings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in TRAIN_ARGUMENTS}


def _check_run(settings: Settings, problem: Problem) -> None:
    """Let every argument of the run be refused before a word is printed."""
    from fastggn.parallel.threads import threads
    from fastggn.training.options import check_options

    check_options(problem, callbacks=(), **_arguments(settings))
    with threads(settings.threads):
        pass


def _run(
    settings: Settings, problem: Problem, theta: Any, console: Console, stop: SignalStop
) -> TrainResult:
    """Train under a progress line; the signals stop it between two iterations."""
    from fastggn.training import train as run_training

    with (
        ProgressLine(console, settings.max_iter, settings.verbose, settings.quiet) as line,
        _refused_at_first(line),
    ):
        return run_training(
            problem,
            theta,
            callbacks=(line, stop),
            n_threads=settings.threads,
            seed=settings.seed,
            **_arguments(settings),
        )


@contextlib.contextmanager
def _refused_at_first(line: ProgressLine) -> Iterator[None]:
    """Turn a refusal that comes before the first iteration (a solver's, for its memory).

    The types of the arguments are right by now: a TypeError is an error of the program.
    """
    try:
        yield
    except (ValueError, MemoryError) as error:
        if line.n_records or isinstance(error, np.linalg.LinAlgError):
            raise
        raise BadInput(str(error) or "not enough memory") from error


def _save(
    settings: Settings,
    samples: Samples,
    problem: Problem,
    result: TrainResult,
    accuracy: float | None,
) -> None:
    """Write the model; where that fails after all, write it to a temporary folder and say so."""
    from fastggn.model_io import save_model

    metadata: dict[str, Any] = {
        "samples": samples.to_dict(),
        "loss": problem.loss_function.to_config(),
        "l2": settings.l2,
        "training": {
            "method": settings.method,
            "solver": result.solver,
            "seed": settings.seed,
            "init": settings.init,
            "status": result.status,
            "message": result.message,
            "loss": result.loss,
            "gradient_norm": result.gradient_norm,
            "accuracy": accuracy,
            "n_iter": result.n_iter,
            "seconds": result.seconds,
        },
    }
    net = problem.network
    try:
        save_model(settings.out, net, result.theta, **metadata)
    except OSError as error:
        refuge = Path(tempfile.mkdtemp(prefix="fastggn-")) / Path(settings.out).name
        try:
            save_model(refuge, net, result.theta, **metadata)
        except OSError:
            raise SaveError(f"the model could not be saved: {error}") from error
        raise SaveError(f"the model is in {refuge}: {settings.out} failed ({error})") from error
