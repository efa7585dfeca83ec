"""``fastggn plot``: draw one picture of a trained model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from fastggn.apps.cli.critical_point import tell_cost
from fastggn.apps.cli.files import INPUT, OutputFile, checked_outputs
from fastggn.apps.cli.models import MODELS, model_options, model_parts, model_problem, read_model
from fastggn.apps.cli.outcome import DONE, BadInput, bad_input, say
from fastggn.apps.cli.types import NAMES, OneOf
from fastggn.apps.cli.watch import Watch, seconds_of_call, watched

if TYPE_CHECKING:
    from fastggn.apps.report.pictures import Picture
    from fastggn.model.model import Model
    from fastggn.objective.problem import Problem


KINDS = ("curve", "residuals", "regions", "line", "plane", "spectrum", "eigenvalues")
# The kinds of pictures that take an option.
TAKERS: dict[str, tuple[str, ...]] = {"history": ("curve",)}
TAKERS |= dict.fromkeys(("direction", "extent", "points", "seed"), ("line", "plane"))

HELP = f"""Draw a picture of MODEL.

\b
Kinds:
  curve        loss, gradient norm, damping and gain ratio by iteration
  residuals    predictions with R2 and a histogram of the errors, or the confusion of classes;
               training, held-out and test rows apart
  regions      regions of decision, or the output: one or two inputs
  line, plane  the loss along one or two directions through the weights
  spectrum     singular values of the Jacobian, with the rank
  eigenvalues  of the Hessian, where the model stands at a critical point

{MODELS} Of the table of the training, training, held-out and test rows are told apart; without
DATA, the built-in samples of the training are drawn again. The picture is of the kind that the name
says: .png, .pdf, .svg.

\b
Examples:
  fastggn plot model.npz --kind regions --out regions.png
  fastggn plot houses.npz houses.csv --kind residuals --out residuals.png
  fastggn plot houses.npz --kind curve --history run.jsonl --out curve.png
  fastggn plot model.npz --kind plane --direction lowest,highest --out plane.png
  fastggn plot model.pt houses.csv --activation tanh --kind line --out line.png"""


@click.command(help=HELP, short_help="Draw a picture of MODEL.")
@click.argument("model", type=INPUT, metavar="MODEL")
@click.argument("data", type=INPUT, required=False, metavar="[DATA]")
@click.option("--kind", type=OneOf(KINDS), required=True, metavar="KIND", help=" ".join(KINDS))
@click.option(
    "--out", "-o", type=OutputFile("picture"), required=True, metavar="FILE", help="The picture."
)
@click.option(
    "--history", type=INPUT, metavar="FILE",
    help="For curve: a file of fastggn train --history, in place of what the model keeps.",
)  # fmt: skip
@click.option(
    "--direction", type=NAMES, default="random", show_default=True, metavar="NAMES",
    help="For line and plane: random (scaled unit by unit), gradient, lowest, highest "
         "(eigenvectors of the Hessian); two for a plane, separated by a comma.",
)  # fmt: skip
@click.option(
    "--extent", type=float, default=1.0, show_default=True, metavar="X",
    help="For line and plane: steps from -X to X.",
)  # fmt: skip
@click.option(
    "--points", type=click.IntRange(min=2), metavar="N",
    help="For line and plane: steps.  [default: 101 and 41]",
)  # fmt: skip
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, metavar="N",
    help="Of random directions.",
)  # fmt: skip
@model_options
@checked_outputs
@watched
def plot(model: str, data: str | None, kind: str, out: str, watch: Watch, **options: Any) -> int:
    """Draw a picture of a model file."""
    with bad_input():
        from fastggn.figures.style import picture_format, save

        _refuse_unused(kind)
        picture_format(out)
        names = ("activation", "output_activation", "l2", "loss", "target")
        known = read_model(model, **{name: options[name] for name in names})
        if kind == "curve":
            figure = _curve(known, options["history"])
        elif kind in ("residuals", "regions"):
            figure = _picture(known, model_parts(known, data, target=options["target"]), kind)
        else:
            problem = model_problem(known, data, target=options["target"])
            figure = _surface(problem, known, kind, options, watch)
        save(figure, out)
    say(f"{out}: {kind}")
    return DONE


def _refuse_unused(kind: str) -> None:
    """Refuse the options that a picture of this kind would ignore."""
    ctx = click.get_current_context()
    for name, kinds in TAKERS.items():
        given = ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if given and kind not in kinds:
            raise BadInput(f"--{name} goes with --kind {' or '.join(kinds)}, not with {kind}")


def _curve(model: Model, history: str | None) -> Any:
    from fastggn.apps.cli.history import read_history
    from fastggn.figures.curves import compare_curves, plot_curves

    run = model.training
    begin = {name: run.get(name) for name in ("initial_loss", "initial_validation_loss")}
    if history is None:
        if not model.history.get("loss"):
            raise BadInput("the model file keeps no history: give --history FILE")
        return plot_curves(model.history, **begin, best_iter=run.get("best_iter"))
    runs = read_history(history)
    if len(runs) == 1:
        return plot_curves(next(iter(runs.values())), **begin)
    return compare_curves({f"seed {seed}": records for seed, records in runs.items()})


def _surface(
    problem: Problem, model: Model, kind: str, options: dict[str, Any], watch: Watch
) -> Any:
    from fastggn.analysis.critical.classify import critical_point
    from fastggn.analysis.slices import loss_along, loss_plane

    theta = model.theta
    if kind == "spectrum":
        from fastggn.apps.report import pictures
        from fastggn.apps.report.findings import spectrum_of

        return _drawn(pictures.spectrum(problem, spectrum_of(problem, theta)))
    if kind == "eigenvalues":
        tell_cost(watch, problem, theta, "auto")
        report = critical_point(problem, theta)
        if report.label == "not_critical":
            raise BadInput(
                f"eigenvalues: the model does not stand at a critical point (gradient norm "
                f"{report.gradient_norm:.2g}): train it longer, or see fastggn critical-point"
            )
        return report.plot()
    names = options["direction"]
    points = options["points"] or (101 if kind == "line" else 41)
    keywords = {"extent": options["extent"], "seed": options["seed"], "points": points}
    keywords["progress"] = watch
    count = points if kind == "line" else points**2
    seconds = count * seconds_of_call(lambda: problem.loss(theta))
    watch.expect(seconds, f"{count:,} losses", "take fewer --points or samples, ")
    if kind == "line":
        if len(names) != 1:
            raise BadInput(f"--direction must be one name for a line, got {len(names)}")
        return loss_along(problem, theta, names[0], **keywords).plot()
    if len(names) > 2:
        raise BadInput(f"--direction must be one or two names for a plane, got {len(names)}")
    pair = (names[0], names[-1])
    return loss_plane(problem, theta, pair, **keywords).plot()


def _picture(model: Model, problems: Mapping[str, Problem], kind: str) -> Any:
    from fastggn.apps.report import pictures
    from fastggn.apps.report.findings import findings

    parts = {name: findings(problem, model) for name, problem in problems.items()}
    draw = pictures.residuals if kind == "residuals" else pictures.regions
    return _drawn(draw(model, parts))


def _drawn(picture: Picture) -> Any:
    if picture.figure is None:
        raise BadInput(f"{picture.name}: {picture.note}")
    return picture.figure
