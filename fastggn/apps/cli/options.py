"""The options of ``fastggn train``, in the groups of its help page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from fastggn.apps.cli.config import read_config
from fastggn.apps.cli.types import EVERY, NAMES, TARGET, WIDTHS

# Defaults of `fastggn train` without options.
DATASET = "four_regions"
HIDDEN = "20,20"
OUT = "model.npz"
MAX_ITER = 100

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Settings:
    """The options of one ``fastggn train``, under their names on the command line."""

    data: str | None
    dataset: str | None
    target: tuple[str | int, ...] | None
    samples: int | None
    one_hot: bool
    stream: bool | None
    standardise: bool | None
    validation: str | None
    validation_fraction: float | None
    hidden: tuple[int, ...]
    activation: tuple[str, ...]
    output_activation: str
    bias: str
    init: str
    loss: str
    l2: float
    curvature: str
    method: str
    solver: str
    alpha: float | None
    damping: float | None
    momentum: float
    geodesic: bool | None
    precision: str
    batch_size: int | None
    regularization: str | None
    escape: str | None
    seed: int
    max_iter: int
    max_time: float | None
    grad_tol: float
    loss_tol: float
    step_tol: float
    loss_target: float | None
    patience: int | None
    validation_tol: float
    threads: int | None
    mpi: bool
    starts: int
    out: str
    history: str | None
    report: str | None
    plot_dir: str | None
    checkpoint: str | None
    checkpoint_every: str | None
    resume: bool
    config: str | None
    quiet: bool
    verbose: bool


class GroupedOption(click.Option):
    """An option with a heading of the help page."""

    def __init__(self, *args: Any, group: str, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self.group = group


class GroupedCommand(click.Command):
    """A command with a help page that lists the options under headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options group by group, in the order of their definition."""
        groups: dict[str, list[tuple[str, str]]] = {}
        # The --help of click has no group.
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None and isinstance(param, click.Option):
                groups.setdefault(getattr(param, "group", "Running"), []).append(record)
        for group, records in groups.items():
            with formatter.section(group):
                formatter.write_dl(records)


def option(group: str, *names: str, **keywords: Any) -> Callable[[F], F]:
    """Return a decorator that adds an option of this group."""
    keywords.setdefault("show_default", keywords.get("default") is not None)
    return click.option(*names, cls=GroupedOption, group=group, **keywords)


COUNT = click.IntRange(min=1)

OPTIONS = (
    option("Data", "--target", type=TARGET, metavar="COLUMNS",
           help="Target columns of DATA, by name or number, separated by commas; for .npz and "
                ".h5 the name of an array.  [default: the last column; Y]"),
    option("Data", "--dataset", metavar="NAME",
           help="Built-in samples in place of DATA: four_regions, xor, sine, friedman1.  "
                f"[default: {DATASET}]"),
    option("Data", "--samples", type=COUNT, metavar="T", help="Number of built-in samples."),
    option("Data", "--one-hot/--scalar", default=False, show_default=False,
           help="Targets of four_regions as unit vectors, or as the numbers 1 to 4 (default)."),
    option("Data", "--stream/--no-stream", default=None,
           help="Leave the samples of an .npy or .h5 file there and read them in every pass, or "
                "read them once into memory.  [default: leave them where memory is short]"),
    option("Data", "--standardise/--no-standardise", default=None,
           help="Scale the inputs, and the targets of a regression, to mean 0 and deviation 1; "
                "the model file keeps the scales.  [default: for DATA only]"),
    option("Data", "--validation", metavar="FILE",
           help="Samples that are not trained on, of the same columns as DATA: their loss is "
                "shown, and ends the run with --patience."),
    option("Data", "--validation-fraction", type=float, metavar="X",
           help="Hold out this share of the samples instead, chosen by --seed."),
    option("Network", "--hidden", type=WIDTHS, default=HIDDEN, metavar="WIDTHS",
           help="Widths of the hidden layers, or none."),
    option("Network", "--activation", type=NAMES, default="tanh", metavar="NAME",
           help="identity, sigmoid, tanh, softsign, softplus, bent_identity, relu, leaky_relu, "
                "square: one for all, or one a hidden layer."),
    option("Network", "--output-activation", default="identity", metavar="NAME",
           help="Activation of the output layer."),
    option("Network", "--bias", default="free", metavar="KIND", help="free or none."),
    option("Network", "--init", default="glorot", metavar="SCHEME",
           help="First weights: glorot, he, lecun, nguyen_widrow, normal."),
    option("Loss", "--loss", default="squared", metavar="NAME",
           help="squared, softmax_cross_entropy, logistic, cauchy, blake_zisserman, smooth_lp, "
                "huber. With softmax_cross_entropy a target column holds class labels."),
    option("Loss", "--l2", type=float, default=0.0, metavar="X", help="Weight decay."),
    option("Loss", "--curvature", default="psd", metavar="KIND",
           help="psd, or exact: the loss's own Hessian, which may be indefinite."),
    option("Method", "--method", default="lm", metavar="NAME",
           help="lm (Levenberg-Marquardt), ggn (undamped), newton, lbfgs, bp (gradient descent), "
                "adam, auto."),
    option("Method", "--solver", default="auto", metavar="NAME",
           help="auto, cholesky, dual, lsqr, qr."),
    option("Method", "--alpha", type=float, metavar="X",
           help="Step length of ggn, bp and adam.  [default: 1; adam: 0.001]"),
    option("Method", "--damping", type=float, metavar="X", help="First damping of lm."),
    option("Method", "--momentum", type=float, default=0.0, metavar="X", help="Of bp."),
    option("Method", "--geodesic/--no-geodesic", default=None, show_default=False,
           help="Correct the steps of lm to second order.  [default: yes, save with lsqr]"),
    option("Method", "--precision", default="float64", metavar="HOW",
           help="float64, or mixed: lm assembles its matrix in float32."),
    option("Method", "--batch-size", type=COUNT, metavar="B", help="Mini-batches: lm, ggn, adam."),
    option("Method", "--regularization", metavar="HOW",
           help="bayesian: lm chooses the weight decay by the evidence, as trainbr does; "
           "bayesian-units: one for each hidden unit."),
    option("Method", "--escape", metavar="HOW",
           help="Leave strict saddles by negative_curvature or noise."),
    option("Method", "--seed", type=click.IntRange(min=0), default=0, metavar="N",
           help="Decides built-in samples, first weights, batches and noise."),
    option("Stopping", "--max-iter", type=click.IntRange(min=0), default=MAX_ITER, metavar="N",
           help="Iterations at most."),
    option("Stopping", "--max-time", type=float, metavar="SECONDS", help="Time limit."),
    option("Stopping", "--grad-tol", type=float, default=1e-10, metavar="X",
           help="Stop at this norm of the gradient."),
    option("Stopping", "--loss-tol", type=float, default=0.0, metavar="X",
           help="Stop at this relative change of the loss."),
    option("Stopping", "--step-tol", type=float, default=1e-14, metavar="X",
           help="Stop at this relative length of a step."),
    option("Stopping", "--loss-target", type=float, metavar="X", help="Stop at this loss."),
    option("Stopping", "--patience", type=COUNT, metavar="N",
           help="Stop after N iterations without a fall of the validation loss, and keep the "
                "weights of its lowest value."),
    option("Stopping", "--validation-tol", type=float, default=0.0, metavar="X",
           help="A fall by less than this share of it does not count."),
    option("Running", "--threads", type=COUNT, metavar="N",
           help="Threads of the kernels; with --mpi, of each rank.  [default: all cores]"),
    option("Running", "--mpi", is_flag=True, default=False, show_default=False,
           help="Share the samples among the ranks of mpiexec or srun (extra mpi)."),
    option("Running", "--out", "-o", default=OUT, metavar="FILE", help="The model file."),
    option("Running", "--starts", type=COUNT, default=1, metavar="N",
           help="Runs in one process, from --seed and the seeds after it; the best is kept."),
    option("Running", "--history", metavar="FILE", help="A JSON line an iteration goes here."),
    option("Running", "--report", metavar="HTML",
           help="Write the run as one self-contained page (extra plot)."),
    option("Running", "--plot-dir", metavar="FOLDER",
           help="Write the pictures of the report there, as PNG (extra plot)."),
    option("Running", "--checkpoint", metavar="FILE",
           help="The state of the run, from which --resume goes on."),
    option("Running", "--checkpoint-every", type=EVERY, metavar="N|TIME",
           help="Iterations (10), or a time (30s, 5min, 2h) between two checkpoints.  "
                "[default: 5min]"),
    option("Running", "--resume", is_flag=True, default=False, show_default=False,
           help="Go on from the checkpoint where there is one."),
    option("Running", "--config", metavar="TOML", is_eager=True, callback=read_config,
           help="Options from a file, hidden = [20, 20] a line; the command line beats it."),
    option("Running", "--quiet", "-q", is_flag=True, default=False, show_default=False,
           help="Print errors only."),
    option("Running", "--verbose", "-v", is_flag=True, default=False, show_default=False,
           help="Print every iteration in full, and where an error came from."),
)  # fmt: skip


def train_options(function: F) -> F:
    """Add the options of ``fastggn train`` to a command."""
    for decorate in reversed(OPTIONS):
        function = decorate(function)
    return click.argument("data", required=False, metavar="[DATA]")(function)
