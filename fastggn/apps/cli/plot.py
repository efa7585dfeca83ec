"""``fastggn plot``: draw one picture of a trained model."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from fastggn.apps.cli.files import INPUT, OutputFile, checked_outputs
from fastggn.apps.cli.models import MODELS, model_options, read_model
from fastggn.apps.cli.outcome import DONE, BadInput, bad_input
from fastggn.apps.cli.types import NAMES, TARGET, OneOf
from fastggn.apps.cli.watch import Watch, watched

if TYPE_CHECKING:
    from fastggn.apps.report.pictures import Picture
    from fastggn.model.model import Model
    from fastggn.objective.problem import Problem


KINDS = ("curve", "residuals", "regions", "line", "plane", "spectrum", "eigenvalues")

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

{MODELS} DATA are the samples it was trained on; without it, the built-in ones that it names. The
picture is of the kind that the name says: .png, .pdf, .svg.

\b
Examples:
  fastggn plot model.npz --kind regions --out regions.png
  fastggn plot houses.npz houses.csv --kind residuals --out residuals.png
  fastggn plot houses.npz --kind curve --history run.jsonl --out curve.png
  fastggn plot model.npz --kind plane --direction lowest,highest --out plane.png
  fastggn plot model.pt houses.csv --activation tanh --kind line --out line.png"""


@click.command(
    help=HELP,
    short_help="Draw a picture of MODEL.",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.argument("model", type=INPUT, metavar="MODEL")
@click.argument("data", type=INPUT, required=False, metavar="[DATA]")
@click.option("--kind", type=OneOf(KINDS), required=True, metavar="KIND", help=" ".join(KINDS))
@click.option(
    "--out", "-o", type=OutputFile("picture"), required=True, metavar="FILE", help="The picture."
)
@click.option("--target", type=TARGET, metavar="COLUMNS", help="As in fastggn train.")
@click.option("--loss", metavar="NAME", help="Another loss than the model was trained with.")
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

        picture_format(out)
        foreign = {name: options[name] for name in ("activation", "output_activation", "l2")}
        found, parts = _opened(model, data, foreign, options)
        if kind == "curve":
            figure = _curve(found, options["history"])
        elif kind in ("line", "plane", "eigenvalues"):
            figure = _surface(next(iter(parts().values())), found.theta, kind, options, watch)
        else:
            figure = _picture(found, parts(), kind)
        save(figure, out)
    click.echo(f"{out}: {kind}")
    return DONE


def _opened(
    path: str, data: str | None, foreign: dict[str, Any], options: dict[str, Any]
) -> tuple[Model, Callable[[], dict[str, Problem]]]:
    """Return a model, and the function that reads its training, held-out and test rows."""
    from fastggn.apps.cli.described import described_model
    from fastggn.apps.cli.model_data import model_loss, model_problem
    from fastggn.apps.report.findings import parts_of
    from fastggn.model.saving import ModelFileError
    from fastggn.model.model import Model

    try:
        model = Model.load(path)
    except ModelFileError:
        net, theta, metadata = read_model(path, **foreign)
        loss = model_loss(metadata, options["loss"])
        known, run = metadata.get("samples") or {}, metadata.get("training") or {}

        def one() -> dict[str, Problem]:
            problem = model_problem(net, metadata, data, options["target"], loss)
            return {"training": problem}

        return described_model(net, theta, loss, known, run), one

    def parts() -> dict[str, Problem]:
        if data is None:
            raise BadInput(f"give DATA: the rows of {model.training.get('source') or 'the model'}")
        return parts_of(model, data)

    return model, parts


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


def _surface(problem: Problem, theta: Any, kind: str, options: dict[str, Any], watch: Watch) -> Any:
    from fastggn.analysis.critical.classify import critical_point
    from fastggn.analysis.slices import loss_along, loss_plane

    if kind == "eigenvalues":
        report = critical_point(problem, theta)
        if report.label == "not_critical":
            raise BadInput(
                f"eigenvalues: the model does not stand at a critical point (gradient norm "
                f"{report.gradient_norm:.2g}): train it longer, or see fastggn critical-point"
            )
        return report.plot()
    names = options["direction"]
    keywords = {"extent": options["extent"], "seed": options["seed"], "progress": watch}
    if options["points"] is not None:
        keywords["points"] = options["points"]
    if kind == "line":
        if len(names) != 1:
            raise BadInput(f"--direction must be one name for a line, got {len(names)}")
        return loss_along(problem, theta, names[0], **keywords).plot()
    if len(names) > 2:
        raise BadInput(f"--direction must be one or two names for a plane, got {len(names)}")
    pair = (names[0], names[-1])
    return loss_plane(problem, theta, pair, **keywords).plot()


def _picture(model: Model, parts: dict[str, Problem], kind: str) -> Any:
    from fastggn.apps.report import pictures
    from fastggn.apps.report.findings import findings, spectrum_of

    first = next(iter(parts.values()))
    drawn: Picture
    if kind == "spectrum":
        drawn = pictures.spectrum(first, spectrum_of(first, model.theta))
    else:
        found = {name: findings(part, model) for name, part in parts.items()}
        if kind == "residuals":
            drawn = pictures.residuals(model, found)
        else:
            drawn = pictures.regions(model, found, first.gated)
    if drawn.figure is None:
        raise BadInput(f"{kind}: {drawn.note}")
    return drawn.figure
