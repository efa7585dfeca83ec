"""The pictures of a run, each with a description in words."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.apps.report.findings import Findings, Spectrum
from fastggn.apps.report.notes import SampleNotes
from fastggn.data.builtin import RADII
from fastggn.figures.decisions import plot_decisions, plot_output
from fastggn.figures.residuals import confusion_matrix, plot_confusion, plot_residuals
from fastggn.figures.spectra import draw_spectrum
from fastggn.objective.problem import Problem
from fastggn.training.result import TrainResult

FloatArray = NDArray[np.float64]

DOTS_PER_INCH = 110


@dataclass(frozen=True, eq=False)
class Picture:
    """A figure with a description in words, or a note that says why there is no figure.

    `name` is the name of the file without its ending; `note` is the caption.
    """

    name: str
    title: str
    figure: Any
    alternative: str
    note: str

    def png(self) -> bytes:
        """Return the figure as PNG without the name of the program that drew it."""
        stream = io.BytesIO()
        self.figure.savefig(stream, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
        return stream.getvalue()


def curve(result: TrainResult) -> Picture:
    """Draw the training curves."""
    title = "Training curve"
    if not result.history:
        reason = "not drawn: the run recorded no iteration, or its history was not kept"
        return Picture("curve", title, None, "", reason)
    alternative = (
        f"Loss against the iteration: from {result.initial_loss:.4g} to {result.loss:.4g} in "
        f"{result.n_iter} iterations; beside it the norm of the gradient, and damping and gain "
        "ratio where the method has them."
    )
    note = ""
    if result.best_iter is not None:
        note = f"The lowest validation loss was found after iteration {result.best_iter}."
        alternative += f" {note}"
    return Picture("curve", title, result.plot(), alternative, note)


def spectrum(problem: Problem, found: Spectrum) -> Picture:
    """Draw the singular values of the Jacobian."""
    title = "Singular values of the Jacobian"
    if found.values is None or found.rank is None:
        return Picture("spectrum", title, None, "", found.reason)
    rows, most = problem.n_samples * problem.n_outputs, found.values.size
    kept = found.rank
    widths = ",".join(map(str, problem.network.widths))
    heading = f"F({widths}): N = {problem.n_params}, T n_L = {rows}"
    alternative = (
        f"The {most} singular values on a logarithmic axis, from {found.values[0]:.3g} to "
        f"{found.values[-1]:.3g}; {kept.rank} stand above the tolerance {kept.tolerance:.3g}."
    )
    verdict = "full rank" if kept.rank == most else f"{most - kept.rank} below full rank"
    note = f"Rank {kept.rank} of at most {most}: {verdict}."
    figure = draw_spectrum(found.values, kept, heading)
    return Picture("spectrum", title, figure, alternative, note)


def residuals(problem: Problem, notes: SampleNotes, found: Findings) -> Picture:
    """Draw the residuals of a regression or the confusion matrix of a classification."""
    if notes.decision is not None:
        return _confusion(problem, notes, found)
    title = "Residuals"
    if problem.loss_function.name == "logistic":
        reason = "not drawn: the outputs are logits, which have no residuals in units of the data"
        return Picture("residuals", title, None, "", reason)
    values, outputs = notes.in_units(found.targets), notes.in_units(found.outputs)
    if not np.isfinite(outputs).all():
        reason = "not drawn: the outputs overflow"
        return Picture("residuals", title, None, "", reason)
    quantiles = np.quantile(values - outputs, (0.05, 0.5, 0.95), axis=0)
    parts = [
        f"{name}: 5 % {low:.3g}, median {middle:.3g}, 95 % {high:.3g}"
        for name, low, middle, high in zip(notes.targets, *quantiles, strict=True)
    ]
    alternative = (
        "Predictions against targets, and histograms of the residuals, target less prediction. "
        f"Quantiles: {'; '.join(parts[:6])}."
    )
    figure = plot_residuals(values, outputs, names=notes.targets)
    return Picture("residuals", title, figure, alternative, _thinned(problem, found))


def _confusion(problem: Problem, notes: SampleNotes, found: Findings) -> Picture:
    names = notes.class_names(problem.n_outputs)
    labels, given = notes.labels(found.targets), notes.decide(found.outputs)
    counts = confusion_matrix(labels, given, len(names))
    shares = np.diag(counts) / np.maximum(counts.sum(axis=1), 1)
    parts = [f"{name} {100 * share:.1f} %" for name, share in zip(names, shares, strict=True)]
    alternative = (
        f"Confusion matrix of {len(names)} classes: {np.trace(counts)} of {counts.sum()} samples "
        f"are on the diagonal. Right by class: {', '.join(parts[:20])}."
    )
    figure = plot_confusion(counts, names)
    return Picture("residuals", "Classes", figure, alternative, _thinned(problem, found))


def regions(problem: Problem, theta: FloatArray, notes: SampleNotes, found: Findings) -> Picture:
    """Draw the regions of decision or the output of a network of one or two inputs."""
    net = problem.network
    title = "Regions of decision" if notes.decision is not None else "Output"
    if net.n_inputs > 2 or (net.n_inputs == 1 and notes.decision is not None):
        wanted = "two" if notes.decision is not None else "one or two"
        reason = f"not drawn: the network has {net.n_inputs} inputs, and a picture takes {wanted}"
        return Picture("regions", title, None, "", reason)
    if problem.gated:
        reason = "not drawn: a network with fixed gates has no output between the samples"
        return Picture("regions", title, None, "", reason)

    def outputs(points: FloatArray) -> FloatArray:
        return net.predict(theta, notes.scaled_inputs(points))

    X = notes.inputs_in_units(found.inputs)
    axes = " and ".join(notes.inputs)
    note = _thinned(problem, found)
    if notes.decision is not None:
        names = notes.class_names(problem.n_outputs)
        circles = RADII if notes.name == "four_regions" else ()
        figure = plot_decisions(
            lambda points: notes.decide(outputs(points)),
            X,
            notes.labels(found.targets),
            classes=names,
            circles=circles,
            names=notes.inputs,
        )
        true = " The true boundaries are drawn dashed: circles of radius 1, 2 and 3."
        alternative = f"The plane of {axes}, shaded by the class that the network gives, with the "
        alternative += f"samples of {len(names)} classes.{true if circles else ''}"
        return Picture("regions", title, figure, alternative, note)
    first = notes.targets[0]
    figure = plot_output(
        lambda points: notes.in_units(outputs(points))[:, 0],
        X,
        notes.in_units(found.targets)[:, 0],
        names=notes.inputs,
        target=first,
    )
    if len(notes.targets) > 1:
        note = f"The first of {len(notes.targets)} outputs. {note}"
    alternative = f"{first} as the network gives it over {axes}, with the samples."
    return Picture("regions", title, figure, alternative, note)


def _thinned(problem: Problem, found: Findings) -> str:
    if found.n_shown == problem.n_samples:
        return ""
    return f"Drawn from {found.n_shown} of {problem.n_samples} samples, evenly spaced."
