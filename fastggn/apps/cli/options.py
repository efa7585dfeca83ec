"""The options of ``fastggn train``, in the groups of its help page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import click

from fastggn.apps.cli.config import read_config
from fastggn.apps.cli.files import INPUT, OutputFile
from fastggn.apps.cli.outcome import BadInput
from fastggn.apps.cli.types import EVERY, NAMES, SHARE, TARGET, WIDTHS

# Defaults of `fastggn train` without options.
DATASET = "four_regions"
HIDDEN = "20,20"
OUT = "model.npz"
MAX_ITER = 100

# Options of version 1, and their present names.
FORMER = {
    "--validation": "--held-out-file",
    "--validation-fraction": "--held-out",
    "--validation-tol": "--held-out-tol",
}

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Settings:
    """The options of one ``fastggn train``, under their names on the command line."""

    data: str | None
    dataset: str | None
    target: tuple[str | int, ...] | None
    inputs: tuple[str | int, ...] | None
    drop: tuple[str | int, ...]
    gradient_columns: tuple[str | int, ...] | None
    categorical: tuple[str | int, ...] | None
    missing: str
    missing_targets: str | None
    header: bool | None
    decimal: str
    encoding: str
    sheet: str | None
    samples: int | None
    one_hot: bool
    stream: bool | None
    standardise: bool | None
    held_out: float | str | None
    no_held_out: bool
    held_out_file: str | None
    test: str | None
    test_fraction: float
    start: str | None
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
    curvature_samples: str
    batch_size: int | None
    regularization: str | None
    posterior: bool
    escape: str | None
    seed: int
    max_iter: int
    max_time: float | None
    grad_tol: float
    loss_tol: float
    step_tol: float
    loss_target: float | None
    patience: int | None
    held_out_tol: float
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

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the command line; a name of version 1 gets the present one."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            if error.option_name not in FORMER:
                raise
            now = FORMER[error.option_name]
            raise BadInput(f"{error.option_name} of version 1 is now {now}") from None

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
           help="Target columns of DATA, by name or number, separated by commas (a name with a "
                "comma in quotes: '\"price, EUR\"'); for .npz and .h5 the name of an array.  "
                "[default: the last column; Y]"),
    option("Data", "--inputs", type=TARGET, metavar="COLUMNS",
           help="Input columns.  [default: all others]"),
    option("Data", "--drop", type=TARGET, metavar="COLUMNS", default=(), show_default=False,
           help="Columns that are left out."),
    option("Data", "--gradient-columns", type=TARGET, metavar="COLUMNS",
           help="Derivatives of the target by each input, in the order of the inputs: the training "
                "fits values and gradients."),
    option("Data", "--categorical", type=TARGET, metavar="COLUMNS",
           help="Columns of numbers that are labels; text always is."),
    option("Data", "--missing", default="error", metavar="HOW",
           help="Rows with missing values: error, drop (leave them out), impute (fill them in)."),
    option("Data", "--missing-targets", metavar="HOW",
           help="Rows with missing targets: error, drop, ignore (train on the targets that are "
                "known).  [default: as --missing; targets are never filled in]"),
    option("Data", "--header/--no-header", default=None, show_default=False,
           help="Whether a text file begins with names.  [default: unless a cell is a number]"),
    option("Data", "--decimal", default=".", metavar="MARK", help="Decimal mark of text: . or ,"),
    option("Data", "--encoding", default="utf-8-sig", metavar="NAME", help="Of text: latin-1."),
    option("Data", "--sheet", metavar="NAME", help="Of an Excel file.  [default: the first]"),
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
                "the model keeps the scales.  [default: for DATA only]"),
    option("Data", "--held-out", type=SHARE, metavar="X",
           help="Rows that are not trained on: a share, chosen by --seed, or a column that is not "
                "0 for them. The run stops by their loss (--patience).  [default: 0.15 of DATA "
                "from 50 rows on; none of built-in samples, or with --regularization]"),
    option("Data", "--no-held-out", is_flag=True, default=False, show_default=False,
           help="Train on all rows."),
    option("Data", "--held-out-file", type=INPUT, metavar="FILE",
           help="Held-out rows in a file of their own, with the columns of DATA."),
    option("Data", "--test", type=INPUT, metavar="FILE",
           help="Rows that nothing sees before the end; the errors on them are printed."),
    option("Data", "--test-fraction", type=float, default=0.0, show_default=False, metavar="X",
           help="This share of DATA as test rows."),
    option("Network", "--from", "start", type=INPUT, metavar="MODEL",
           help="Go on from the weights of a model file, or of a state dict of torch (.pt, with "
                "--activation) or plain arrays (.npz)."),
    option("Network", "--hidden", type=WIDTHS, default=HIDDEN, metavar="WIDTHS",
           help="Widths of the hidden layers, or none."),
    option("Network", "--activation", type=NAMES, default="tanh", metavar="NAME",
           help="identity, sigmoid, tanh, softsign, softplus, bent_identity, relu, leaky_relu, "
                "square, sin, swish, gelu: one for all, or one a hidden layer."),
    option("Network", "--output-activation", default="identity", metavar="NAME",
           help="Activation of the output layer."),
    option("Network", "--bias", default="free", metavar="KIND", help="free or none."),
    option("Network", "--init", default="glorot", metavar="SCHEME",
           help="First weights: glorot, he, lecun, nguyen_widrow, normal."),
    option("Loss", "--loss", default="auto", metavar="NAME",
           help="auto (softmax_cross_entropy for classes, else squared), squared, "
                "softmax_cross_entropy, logistic, cauchy, blake_zisserman, smooth_lp, huber. With "
                "softmax_cross_entropy and logistic a target column holds class labels."),
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
    option("Method", "--curvature-samples", default="auto", metavar="M",
           help="Samples of the matrix of lm: auto (some, of many samples), all, or how many at "
                "first."),
    option("Method", "--batch-size", type=COUNT, metavar="B", help="Mini-batches: lm, ggn, adam."),
    option("Method", "--regularization", metavar="HOW",
           help="bayesian: lm chooses the weight decay by the evidence, as trainbr does; "
           "bayesian-units: one for each hidden unit."),
    option("Method", "--posterior", is_flag=True, default=False, show_default=False,
           help="Keep what fastggn predict --std needs, for up to 5,000 parameters; implies "
                "--regularization bayesian unless --l2 is given."),
    option("Method", "--escape", metavar="HOW",
           help="Leave strict saddles by negative_curvature or noise."),
    option("Method", "--seed", type=click.IntRange(min=0), default=0, metavar="N",
           help="Decides built-in samples, first weights, batches and noise."),
    option("Stopping", "--max-iter", type=click.IntRange(min=0), default=MAX_ITER, metavar="N",
           help="Iterations at most."),
    option("Stopping", "--max-time", type=float, metavar="SECONDS", help="Time limit."),
    option("Stopping", "--grad-tol", type=float, default=1e-10, metavar="X",
           help="Stop where each slope of the loss is this share of its terms, or at an "
                "exact fit."),
    option("Stopping", "--loss-tol", type=float, default=0.0, metavar="X",
           help="Stop at this relative change of the loss."),
    option("Stopping", "--step-tol", type=float, default=1e-14, metavar="X",
           help="Stop at a step of this share of the weights."),
    option("Stopping", "--loss-target", type=float, metavar="X", help="Stop at this loss."),
    option("Stopping", "--patience", type=COUNT, metavar="N",
           help="Stop after N iterations without a fall of the held-out loss, and keep the "
                "weights of its lowest value.  [default: 20]"),
    option("Stopping", "--held-out-tol", type=float, default=0.0, metavar="X",
           help="A fall by less than this share of it does not count."),
    option("Running", "--threads", type=COUNT, metavar="N",
           help="Threads of the kernels; with --mpi, of each rank.  [default: all cores]"),
    option("Running", "--mpi", is_flag=True, default=False, show_default=False,
           help="Share the samples among the ranks of mpiexec or srun (extra mpi)."),
    option("Running", "--out", "-o", type=OutputFile("model"), default=OUT, metavar="FILE",
           help="The model file."),
    option("Running", "--starts", type=COUNT, default=1, metavar="N",
           help="Runs in one process, from --seed and the seeds after it; the best is kept."),
    option("Running", "--history", type=OutputFile("history"), metavar="FILE",
           help="A JSON line an iteration goes here."),
    option("Running", "--report", type=OutputFile("page"), metavar="HTML",
           help="Write the run as one self-contained page (extra plot)."),
    option("Running", "--plot-dir", type=OutputFile("folder"), metavar="FOLDER",
           help="Write the pictures of the report there, as PNG (extra plot)."),
    option("Running", "--checkpoint", type=OutputFile("checkpoint"), metavar="FILE",
           help="The state of the run, from which --resume goes on."),
    option("Running", "--checkpoint-every", type=EVERY, metavar="N|TIME",
           help="Iterations (10), or a time (30s, 5min, 2h) between two checkpoints.  "
                "[default: 5min]"),
    option("Running", "--resume", is_flag=True, default=False, show_default=False,
           help="Go on from the checkpoint where there is one."),
    option("Running", "--config", type=INPUT, metavar="TOML", is_eager=True, callback=read_config,
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
    return click.argument("data", type=INPUT, required=False, metavar="[DATA]")(function)
