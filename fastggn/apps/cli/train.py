"""``fastggn train``: samples, network, training, summary, model file."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from rich.console import Console

from fastggn.apps.cli.options import GroupedCommand, Settings, train_options
from fastggn.apps.cli.outcome import STOPPED_EARLY, BadInput, SaveError, bad_input, exit_code
from fastggn.apps.cli.pages import Pages
from fastggn.apps.cli.progress import announce_stop, plain_warnings
from fastggn.apps.cli.ranks import ended_together
from fastggn.apps.cli.running import Runner, checkpoint_of
from fastggn.apps.cli.starts import Starts
from fastggn.apps.cli.summary import opening, print_summary
from fastggn.runtime.atomic_files import check_writable
from fastggn.runtime.signals import StopSignals

if TYPE_CHECKING:
    from fastggn.apps.cli.sample_set import Samples
    from fastggn.objective.problem import Problem
    from fastggn.training.result import TrainResult


OVERHEAD = 1 << 18  # bytes of a model file beside its weights

EXAMPLES = """\b
Examples:
  fastggn train                                      four regions, writes model.npz
  fastggn train houses.csv --target price            your own table, scaled
  fastggn train houses.csv --hidden 30 --activation softplus --max-time 60
  fastggn train houses.csv --validation-fraction 0.15 --patience 6
  fastggn train flowers.csv --target kind --loss softmax_cross_entropy
  fastggn train arrays.npz --solver lsqr --out big.npz
  fastggn train --config run.toml --seed 7           options from a file, one changed
  fastggn train --starts 32                          the best of 32 seeds
  fastggn train houses.csv --report houses.html      and a page on the run
  fastggn train --checkpoint run.ckpt --resume       a job that is requeued goes on
  mpiexec -n 4 fastggn train houses.csv --mpi        samples shared by 4 ranks

DATA is a .csv, .tsv or .txt table (a line of names, or none), an .npy array of rows, or an .npz or
.h5 file with arrays X and Y. Ctrl-C stops after the iteration under way and saves the model, and
the checkpoint where there is one."""


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
        samples, problem, validation = _prepare(settings)
        pages = Pages(ctx, settings, samples, problem, validation)
        if problem.comm.rank == 0:
            check_writable(settings.out, n_bytes=8 * problem.n_params + OVERHEAD)
            pages.check()
        runner = Runner(settings, problem, console, validation)
        run = _one_or_several(settings, problem, runner, console)
    if not settings.quiet:
        line = opening(settings, samples, problem)
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    with StopSignals(announce=announce_stop) as stop:
        with plain_warnings(console, settings.quiet):
            result, seed = run(stop)
        stop.hold()
        accuracy = samples.accuracy(problem.outputs(result.theta))
        held_out = None if validation is None else validation.outputs(result.theta)
        if problem.comm.rank == 0:
            _save(settings, samples, problem, result, accuracy, seed)
        # The model is safe: a signal only cuts the report and the rank short.
        with contextlib.suppress(KeyboardInterrupt):
            stop.release()
            pages.write(result)
            if not settings.quiet:
                beside = held_out, pages.written, pages.spectrum
                print_summary(settings, samples, problem, result, accuracy, *beside)
        stop.hold()
    pages.complain()
    code = exit_code(result.status)
    if code == STOPPED_EARLY and result.unsaved:
        raise SaveError(f"{result.unsaved}; the model is in {settings.out}")
    return code


def _one_or_several(
    settings: Settings, problem: Problem, runner: Runner, console: Console
) -> Callable[[StopSignals], tuple[TrainResult, int]]:
    """Check the checkpoint and return the function that runs one start or several."""
    from fastggn.training.checkpoint.saving import check_checkpoint

    if settings.starts > 1:
        return Starts(settings, problem, runner, console).run
    checkpoint = checkpoint_of(settings)
    check_checkpoint(problem, checkpoint)

    def run(stop: StopSignals) -> tuple[TrainResult, int]:
        seed = settings.seed
        return runner.run(stop, seed, checkpoint, settings.max_time), seed

    return run


def _settle(ctx: click.Context, settings: Settings) -> Settings:
    """Let the command line beat the config file in the choice of samples; refuse contradictions."""
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
    if settings.validation is not None and settings.validation_fraction is not None:
        raise BadInput("give --validation or --validation-fraction, not both")
    held_out = settings.validation is not None or settings.validation_fraction is not None
    if settings.patience is not None and not held_out:
        raise BadInput(
            "--patience goes with validation: give --validation-fraction 0.2, or --validation FILE"
        )
    if settings.data is None and settings.validation is not None:
        raise BadInput(
            "--validation goes with DATA; of built-in samples --validation-fraction holds some out"
        )
    if settings.data is None and "target" in typed:
        raise BadInput("--target goes with DATA; built-in samples have their own targets")
    if settings.data is not None:
        for name in ("samples", "one_hot"):
            if name in typed and getattr(settings, name):
                raise BadInput(f"--{name.replace('_', '-')} goes with --dataset, not with DATA")
    return settings


def _prepare(settings: Settings) -> tuple[Samples, Problem, Problem | None]:
    """Return the samples, the problem, and the problem of the held-out samples."""
    from fastggn.apps.cli.samples import load_samples
    from fastggn.network.mlp import MLP
    from fastggn.objective.problem import Problem

    samples = load_samples(settings)
    names = settings.activation
    net = MLP(
        (samples.X.shape[1], *settings.hidden, samples.n_outputs),
        activation=names[0] if len(names) == 1 else names,
        output_activation=settings.output_activation,
        bias=settings.bias,
    )

    def problem(part: Samples) -> Problem:
        return Problem(
            net,
            part.X,
            part.Y,
            loss=settings.loss,
            l2=settings.l2,
            curvature=settings.curvature,
            comm=part.comm,
        )

    net.init(scheme=settings.init)  # an unknown scheme is refused here
    held_out = samples.held_out
    return samples, problem(samples), None if held_out is None else problem(held_out)


def _save(
    settings: Settings,
    samples: Samples,
    problem: Problem,
    result: TrainResult,
    accuracy: float | None,
    start_seed: int,
) -> None:
    """Write the model, or write it to a temporary folder and say so."""
    from fastggn.model.files import save_model
    from fastggn.model.history import kept_history

    metadata: dict[str, Any] = {
        "samples": samples.to_dict(),
        "loss": problem.loss_function.to_config(),
        "l2": settings.l2 if result.evidence is None else result.evidence.l2,
        "evidence": None if result.evidence is None else result.evidence.to_dict(),
        "training": {
            "method": settings.method,
            "solver": result.solver,
            "solver_reason": result.solver_reason,
            "seed": settings.seed,
            "start_seed": start_seed,
            "init": settings.init,
            "status": result.status,
            "message": result.message,
            "loss": result.loss,
            "initial_loss": result.initial_loss,
            "gradient_norm": result.gradient_norm,
            "accuracy": accuracy,
            "n_iter": result.n_iter,
            "seconds": result.seconds,
            "validation_loss": result.best_validation_loss,
            "best_iter": result.best_iter,
            "history": kept_history(result.history),
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
