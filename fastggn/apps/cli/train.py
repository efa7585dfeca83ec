"""``fastggn train``: samples, network, training, summary, model file."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource
from rich.console import Console

from fastggn.apps.cli.files import checked_outputs
from fastggn.apps.cli.options import GroupedCommand, Settings, train_options
from fastggn.apps.cli.outcome import STOPPED_EARLY, BadInput, SaveError, bad_input, exit_code
from fastggn.apps.cli.pages import Pages
from fastggn.apps.cli.progress import announce_stop, plain_warnings
from fastggn.apps.cli.ranks import ended_together
from fastggn.apps.cli.running import Runner, checkpoint_of
from fastggn.apps.cli.starts import Starts
from fastggn.apps.cli.summary import opening, print_summary
from fastggn.runtime.atomic_files import check_writable
from fastggn.runtime.errors import printable
from fastggn.runtime.signals import StopSignals, deferred_signals

if TYPE_CHECKING:
    from fastggn.apps.cli.samples import Prepared
    from fastggn.model.model import Model
    from fastggn.objective.problem import Problem
    from fastggn.training.result import TrainResult


OVERHEAD = 1 << 18  # bytes of a model file beside its weights

EXAMPLES = """\b
Examples:
  fastggn train                                      four regions, writes model.npz
  fastggn train houses.csv --target price            your own table, scaled
  fastggn train houses.csv --hidden 30 --activation softplus --max-time 60
  fastggn train houses.csv --held-out 0.2 --test-fraction 0.1
  fastggn train houses.csv --from model.npz --out more.npz
  fastggn train flowers.csv --target kind            text in the target: classes
  fastggn train arrays.npz --solver lsqr --out big.npz
  fastggn train --config run.toml --seed 7           options from a file, one changed
  fastggn train --starts 32                          the best of 32 seeds
  fastggn train houses.csv --report houses.html      and a page on the run
  fastggn train --checkpoint run.ckpt --resume       a job that is requeued goes on
  mpiexec -n 4 fastggn train houses.csv --mpi        samples shared by 4 ranks

DATA is a table: .csv, .tsv, .txt (also .gz), .parquet, .xlsx, .mat, .npy, .npz, .h5, or - for the
standard input. Text, dates and percent are read; what cannot be used is refused at once, column by
column. Ctrl-C stops after the iteration under way and saves the model, and
the checkpoint where there is one."""


@click.command(
    cls=GroupedCommand,
    epilog=EXAMPLES,
    short_help="Fit a network to DATA, or to the four-regions benchmark.",
)
@train_options
@click.pass_context
@ended_together
@checked_outputs
def train(ctx: click.Context, /, **options: Any) -> int:
    """Fit a multilayer perceptron to DATA, or to built-in samples where DATA is left out.

    It prints the progress and a summary, and saves network, weights and scales to a model file.
    Without any option it fits the four-regions benchmark by Levenberg-Marquardt.
    """
    settings, given = _settle(ctx, Settings(**options))
    console = Console(stderr=True)
    with bad_input():
        # C code of an import would put an error of its own in the place of an interrupt.
        with deferred_signals():
            import fastggn.training.train  # noqa: F401
            from fastggn.apps.cli.samples import prepare_run

        prepared = prepare_run(settings, given)
        problem = prepared.objective
        _check_posterior(settings, problem)
        problem.network.init(scheme=settings.init)  # an unknown scheme is refused here
        pages = Pages(ctx, settings, prepared)
        if problem.comm.rank == 0:
            check_writable(settings.out, n_bytes=8 * problem.n_params + OVERHEAD)
            pages.check()
        runner = Runner(
            settings, problem, console, prepared.problems.get("held-out"), prepared.theta0
        )
        run = _one_or_several(settings, problem, runner, console)
    if not settings.quiet:
        for line in opening(settings, prepared):
            console.print(printable(line), markup=False, highlight=False, soft_wrap=True)
    with StopSignals(announce=announce_stop) as stop:
        with plain_warnings(console, settings.quiet):
            result, seed = run(stop)
        stop.hold()
        model = _model(settings, prepared, result, seed)
        if problem.comm.rank == 0:
            _save(settings, model)
        # The model is safe: a signal only cuts the report and the rank short.
        with contextlib.suppress(KeyboardInterrupt):
            stop.release()
            pages.write(model)
            if not settings.quiet:
                with _printing(settings.out):
                    print_summary(settings, prepared, model, result, pages.written, pages.spectrum)
        stop.hold()
    pages.complain()
    code = exit_code(result.status)
    if code == STOPPED_EARLY and result.unsaved:
        raise SaveError(f"{result.unsaved}; the model is in {settings.out}")
    return code


@contextlib.contextmanager
def _printing(out: str) -> Iterator[None]:
    """Say of a summary that cannot be printed that the model is safe."""
    try:
        yield
    except BrokenPipeError:  # whoever read it has had enough
        raise
    except OSError as error:
        raise SaveError(f"the summary was not printed ({error}); the model is in {out}") from error


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


def _settle(ctx: click.Context, settings: Settings) -> tuple[Settings, frozenset[str]]:
    """Let the command line beat the config file in the choice of samples; refuse contradictions.

    The second value holds the names of the options that the user gave.
    """
    source = {name: ctx.get_parameter_source(name) for name in asdict(settings)}
    given = {k for k, v in source.items()
             if v in (ParameterSource.COMMANDLINE, ParameterSource.DEFAULT_MAP)}  # fmt: skip
    typed = {name for name, from_ in source.items() if from_ is ParameterSource.COMMANDLINE}
    if settings.data is not None and settings.dataset is not None:
        if ("data" in typed) == ("dataset" in typed):
            raise BadInput("give DATA or --dataset, not both")
        if "dataset" in typed:
            settings = replace(settings, data=None)
        else:
            settings = replace(settings, dataset=None)
    several = [option for option, value in {
        "--held-out": settings.held_out, "--no-held-out": settings.no_held_out or None,
        "--held-out-file": settings.held_out_file}.items() if value is not None]  # fmt: skip
    if len(several) > 1:
        raise BadInput(f"give one of {' and '.join(several)}")
    if settings.test is not None and settings.test_fraction:
        raise BadInput("give --test or --test-fraction, not both")
    for name in (*OF_DATA, *OF_DATASET):
        of_data = name in OF_DATA
        told = given if of_data or "data" not in typed else typed
        if name in told and (settings.data is None) == of_data:
            if getattr(settings, name) not in (None, False, ()):
                other = "DATA" if of_data else "--dataset, not with DATA"
                raise BadInput(f"--{name.replace('_', '-')} goes with {other}")
    if settings.gradient_columns:
        for name, value in {"mpi": settings.mpi, "posterior": settings.posterior,
                            "regularization": settings.regularization,
                            "curvature": settings.curvature != "psd"}.items():  # fmt: skip
            if value:
                raise BadInput(f"--gradient-columns does not go with --{name}")
    if settings.start is not None and "dataset" in given:
        raise BadInput("--dataset goes with new weights; --from goes on with the samples it had")
    return settings, frozenset(given)


# Options of tables, and of built-in samples.
OF_DATA = ("target", "inputs", "drop", "gradient_columns", "categorical", "missing",
           "missing_targets", "header", "decimal", "encoding", "sheet", "held_out_file",
           "test")  # fmt: skip
OF_DATASET = ("samples", "one_hot")


def _check_posterior(settings: Settings, problem: Problem) -> None:
    """Raise if the posterior of ``--posterior`` could not be kept."""
    from fastggn.model.saving import MOST_POSTERIOR
    from fastggn.training.regularisation.evidence import check_likelihood

    if not settings.posterior:
        return
    check_likelihood(problem)  # raises for a loss without one
    if problem.n_params > MOST_POSTERIOR:
        raise ValueError(
            f"--posterior is kept for up to {MOST_POSTERIOR} parameters, the network has "
            f"{problem.n_params}"
        )
    if problem.comm.size > 1:
        raise ValueError("--posterior needs all samples in one process: leave --mpi out")


def _model(settings: Settings, prepared: Prepared, result: TrainResult, seed: int) -> Model:
    """Return the model with the outcome of the run, and the errors on the test rows."""
    from fastggn.apps.cli.samples import drawn_by
    from fastggn.model.fit import finished

    model = finished(
        prepared.model,
        prepared.objective,
        result,
        prepared.split,
        prepared.samples,
        seed=settings.seed,
        method=settings.method,
        posterior=settings.posterior and result.status not in ("interrupted", "failed"),
        digest=prepared.digest,
    )
    facts: dict[str, Any] = {"start_seed": seed, "init": settings.init, **drawn_by(prepared.model)}
    if prepared.test is not None and prepared.problems["training"].comm.rank == 0:
        facts["test"] = model.evaluate(prepared.test).to_dict()
    return replace(model, training={**model.training, **facts})


def _save(settings: Settings, model: Model) -> None:
    """Write the model, or write it to a temporary folder and say so."""
    try:
        model.save(settings.out)
    except OSError as error:
        refuge = Path(tempfile.mkdtemp(prefix="fastggn-")) / Path(settings.out).name
        try:
            model.save(refuge)
        except OSError:
            raise SaveError(f"the model could not be saved: {error}") from error
        raise SaveError(f"the model is in {refuge}: {settings.out} failed ({error})") from error
