"""The sections of a report, from top to bottom."""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fastggn.apps.info import configuration
from fastggn.apps.report.findings import Findings, Spectrum
from fastggn.apps.report.notes import SampleNotes, listed_errors
from fastggn.apps.report.page import code, figure, paragraph, section, table, text
from fastggn.apps.report.pictures import Picture
from fastggn.objective.problem import Problem
from fastggn.runtime.version import __version__
from fastggn.training.result import TrainResult

MOST_COLUMNS = 12  # of the data, listed with their scales
MOST_ITERATIONS = 15
UNFINISHED = ("interrupted", "max_time", "failed")
# Facts of this machine that do not help to repeat the run on another one.
LEFT_OUT = ("available memory (bytes)", "cache folder")


@dataclass(frozen=True, eq=False)
class Run:
    """The contents of a report."""

    problem: Problem
    result: TrainResult
    notes: SampleNotes
    found: Findings
    spectrum: Spectrum
    digests: Mapping[str, Any]
    options: Mapping[str, Any]
    command: str | None
    held_out: Findings | None = None


def sections(title: str, run: Run, pictures: Sequence[Picture]) -> Iterator[str]:
    """Yield the parts of the page from top to bottom."""
    yield f"<h1>{text(title)}</h1>"
    yield paragraph(_lead(run), "lead")
    if run.result.status in UNFINISHED:
        yield paragraph(f"The run is not finished: {run.result.message}. This is what there is.")
    yield section("Results", [table(_results(run)), *_by_output(run)])
    by_name = {picture.name: picture for picture in pictures}
    for name, more in (
        ("curve", _iterations(run)),
        ("residuals", []),
        ("regions", []),
        ("spectrum", []),
    ):
        yield section(by_name[name].title, [*_shown(by_name[name]), *more])
    yield section("Data", [table(_data(run)), *_columns(run)])
    yield section("Network", [table(_network(run)), _layers(run)])
    yield section("Options", _options(run))
    yield section("To repeat it", _repeat(run))
    yield section("Versions", [table(_versions())])
    now = datetime.datetime.now(datetime.timezone.utc)
    yield paragraph(f"Written {now:%Y-%m-%d %H:%M} UTC.", "faint")


def _lead(run: Run) -> str:
    net, result = run.problem.network, run.result
    widths = ",".join(map(str, net.widths))
    quality = "" if run.found.accuracy is None else f", {100 * run.found.accuracy:.2f} % right"
    return (
        f"F({widths}) on {run.problem.n_samples} samples of {run.notes.name}: loss "
        f"{result.loss:.4g}{quality} after {result.n_iter} iterations and {result.seconds:.2f} s."
    )


def _results(run: Run) -> list[tuple[str, str]]:
    result, found = run.result, run.found
    rows = [
        ("loss", f"{result.loss:.6e} (at first {result.initial_loss:.6e})"),
        ("gradient norm", f"{result.gradient_norm:.3e}"),
    ]
    rows += _quality(run, found, "", "training")
    if result.best_validation_loss is not None:
        words = f"{result.best_validation_loss:.6e}, after iteration {result.best_iter}"
        rows.append(("lowest validation loss", words))
    if run.held_out is not None:
        rows += _quality(run, run.held_out, "held out: ", "held-out")
    rank = run.spectrum.rank
    rows += [
        ("rank of the Jacobian", run.spectrum.reason if rank is None else
         f"{rank.rank} of at most {min(rank.shape)}"),
        ("iterations", str(result.n_iter)),
        ("time", f"{result.seconds:.2f} s"),
        ("solver", f"{result.solver}: {result.solver_reason}"),
        ("status", f"{result.status}: {result.message}"),
    ]  # fmt: skip
    return rows


def _quality(run: Run, found: Findings, prefix: str, which: str) -> list[tuple[str, str]]:
    if found.accuracy is not None:
        words = f"{100 * found.accuracy:.2f} % of the {which} samples"
        return [(f"{prefix}right classes", words)]
    if run.problem.loss_function.name == "logistic":  # logits have no error in units
        return []
    return [(f"{prefix}rms error", f"{listed_errors(run.notes.targets, found.rms)}{_units(run)}")]


def _units(run: Run) -> str:
    return "" if run.notes.scale_targets is None else ", in the units of the target"


def _by_output(run: Run) -> list[str]:
    """Return the table of the errors of each output of a regression with several."""
    regression = run.notes.decision is None and run.problem.loss_function.name != "logistic"
    if not regression or run.problem.n_outputs == 1:
        return []
    rows = [
        (name, f"{error:.6g}") for name, error in zip(run.notes.targets, run.found.rms, strict=True)
    ]
    shown = rows[:MOST_COLUMNS]
    caption = "Root mean squared error of each output" + _of(len(shown), len(rows))
    return [table(shown, head=("output", f"rms error{_units(run)}"), caption=caption)]


def _of(shown: int, total: int) -> str:
    return "" if shown == total else f" (the first {shown} of {total})"


def _shown(picture: Picture) -> list[str]:
    if picture.figure is None:
        return [paragraph(f"{picture.note[:1].upper()}{picture.note[1:]}.", "faint")]
    wide = picture.figure.get_figwidth() > 9.0  # inches: panels side by side
    return [figure(picture.png(), picture.alternative, picture.note, wide=wide)]


def _iterations(run: Run) -> list[str]:
    """Return a table of evenly spaced iterations."""
    history = run.result.history
    if not history:
        return []
    count = min(len(history), MOST_ITERATIONS)
    places = np.unique(np.linspace(0, len(history) - 1, count).round().astype(int))
    extra = [name for name in ("validation_loss", "damping", "gain_ratio")
             if any(_entry(record, name) is not None for record in history)]  # fmt: skip
    names = ("iteration", "loss", "gradient_norm", *extra, "seconds")
    rows = [[_number(_entry(history[k], name)) for name in names] for k in places]
    head = [name.replace("_", " ") for name in names]
    return [table(rows, head=head, caption=f"{len(rows)} of {len(history)} iterations")]


def _entry(record: Any, name: str) -> Any:
    try:
        return record[name]
    except KeyError:  # a run without validation
        return None


def _number(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _data(run: Run) -> list[tuple[str, Any]]:
    problem, notes = run.problem, run.notes
    rows: list[tuple[str, Any]] = [
        ("samples", notes.name),
        ("number of samples T", problem.n_samples),
        *([] if run.held_out is None else [("held out", run.held_out.n_samples)]),
        ("inputs", f"{problem.network.n_inputs}: {_listed(notes.inputs)}"),
        ("targets", f"{len(notes.targets)}: {_listed(notes.targets)}"),
    ]
    if notes.decision is not None:
        rows.append(("classes", _listed(notes.class_names(problem.n_outputs))))
    for name, scale in (("inputs", notes.scale_inputs), ("targets", notes.scale_targets)):
        words = "as they are" if scale is None else "to mean 0 and deviation 1"
        rows.append((f"scaling of the {name}", words))
    return [*rows, *notes.facts.items(), *run.digests.items()]


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:MOST_COLUMNS])
    more = len(names) - MOST_COLUMNS
    return f"{shown} and {more} more" if more > 0 else shown


def _columns(run: Run) -> list[str]:
    """Return the table of the scales of the columns."""
    rows = []
    for names, scale in (
        (run.notes.inputs, run.notes.scale_inputs),
        (run.notes.targets, run.notes.scale_targets),
    ):
        if scale is not None:
            rows += [
                (name, f"{mean:.6g}", f"{deviation:.6g}")
                for name, mean, deviation in zip(names, scale["mean"], scale["scale"], strict=True)
            ]
    if not rows:
        return []
    shown = rows[: 2 * MOST_COLUMNS]
    caption = "Scales: the network sees (column - mean) / deviation"
    caption += _of(len(shown), len(rows))
    return [table(shown, head=("column", "mean", "deviation"), caption=caption)]


def _network(run: Run) -> list[tuple[str, Any]]:
    net, problem = run.problem.network, run.problem
    return [
        ("network", f"F({','.join(map(str, net.widths))})"),
        ("parameters N", net.n_params),
        ("bias", net.bias if isinstance(net.bias, str) else "fixed"),
        ("loss", ", ".join(f"{k} {v}" if k != "name" else str(v)
                           for k, v in problem.loss_function.to_config().items())),
        ("curvature", problem.curvature),
        ("l2", f"{problem.l2:g}"),
    ]  # fmt: skip


def _layers(run: Run) -> str:
    net = run.problem.network
    rows = [
        (number, units, activation.name, f"{weights.shape[0]} x {weights.shape[1]}",
         f"{np.linalg.norm(weights):.4g}", f"{np.abs(weights).max():.4g}")
        for number, (units, activation, weights) in enumerate(
            zip(net.widths[1:], net.activations, net.unpack(run.result.theta), strict=True), start=1
        )
    ]  # fmt: skip
    head = ("layer", "units", "activation", "weights", "norm", "largest")
    caption = (
        "Layers; the last column of the weights is the bias" if net.has_free_bias else "Layers"
    )
    return table(rows, head=head, caption=caption)


def _options(run: Run) -> list[str]:
    rows = [
        (name, ", ".join(map(str, value)) if isinstance(value, (tuple, list)) else value)
        for name, value in run.options.items()
        if value is not None
    ]
    return [table(rows)] if rows else [paragraph("None were handed to the report.", "faint")]


def _repeat(run: Run) -> list[str]:
    if run.command is None:
        words = "The report was made from Python, by fastggn.report; no command was handed to it."
        return [paragraph(words, "faint")]
    return [code(run.command)]


def _versions() -> list[tuple[str, str]]:
    import importlib.metadata

    known = {**configuration(), "matplotlib": importlib.metadata.version("matplotlib")}
    known["fastggn"] = __version__  # also where it was never installed
    return [
        (name, ", ".join(value) if isinstance(value, list) else str(value))
        for name, value in known.items()
        if name not in LEFT_OUT
    ]
