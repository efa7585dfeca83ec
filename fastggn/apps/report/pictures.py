"""The pictures of a model, each with a description in words."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.apps.report.findings import Findings, Spectrum, class_names, labels_of, target_names
from fastggn.data.builtin import RADII
from fastggn.figures.curves import plot_curves
from fastggn.figures.decisions import plot_decisions, plot_output
from fastggn.figures.residuals import confusion_matrix, plot_confusion, plot_residuals
from fastggn.figures.spectra import draw_spectrum
from fastggn.model.model import Model
from fastggn.objective.problem import Problem

FloatArray = NDArray[np.float64]
Parts = Mapping[str, Findings]

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

    def png(self) -> str:
        """Return the figure as PNG in base 64, without the name of the program that drew it."""
        stream = io.BytesIO()
        self.figure.savefig(stream, format="png", dpi=DOTS_PER_INCH, metadata={"Software": None})
        return base64.b64encode(stream.getvalue()).decode("ascii")


def curve(model: Model) -> Picture:
    """Draw the training curves."""
    title, run = "Training curve", model.training
    if not model.history.get("loss"):
        reason = "not drawn: the run recorded no iteration, or its history was not kept"
        return Picture("curve", title, None, "", reason)
    alternative = (
        f"Loss against the iteration: from {run['initial_loss']:.4g} to {run['loss']:.4g} in "
        f"{run['n_iter']} iterations; beside it the norm of the gradient, and damping and gain "
        "ratio where the method has them."
    )
    note = ""
    if run.get("best_iter") is not None:
        note = f"The lowest held-out loss was found after iteration {run['best_iter']}."
        alternative += f" {note}"
    names = ("initial_loss", "initial_validation_loss", "best_iter")
    figure = plot_curves(model.history, **{name: run.get(name) for name in names})
    return Picture("curve", title, figure, alternative, note)


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


def residuals(model: Model, parts: Parts) -> Picture:
    """Draw predictions and errors of a regression, or the confusion of classes."""
    names = class_names(model)
    if names is not None:
        return _confusion(model, parts, names)
    title = "Residuals"
    if model.loss.name == "logistic":
        reason = "not drawn: the outputs are logits, which have no residuals in units of the data"
        return Picture("residuals", title, None, "", reason)
    if not all(np.isfinite(part.outputs).all() for part in parts.values()):
        return Picture("residuals", title, None, "", "not drawn: the outputs overflow")
    words = [
        f"{name}, {target}: root mean squared error {rms:.4g}, R2 {r2:.4f}"
        for name, part in parts.items()
        for target, rms, r2 in zip(target_names(model), part.rms, part.r2, strict=True)
    ]
    alternative = (
        "Predictions against targets, and a histogram of the errors, target less prediction. "
        f"{'; '.join(words[:6])}."
    )
    pairs = {name: (part.targets, part.outputs) for name, part in parts.items()}
    figure = plot_residuals(pairs, names=target_names(model))
    return Picture("residuals", title, figure, alternative, _thinned(parts))


def _confusion(model: Model, parts: Parts, names: list[str]) -> Picture:
    counts, words = {}, []
    for name, part in parts.items():
        true = labels_of(model, part.targets, given=False)
        given = labels_of(model, part.outputs, given=True)
        counts[name] = confusion_matrix(true, given, len(names))
        shares = np.diag(counts[name]) / np.maximum(counts[name].sum(axis=1), 1)
        shown = [f"{own} {100 * share:.1f} %" for own, share in zip(names, shares, strict=True)]
        words.append(
            f"{name}: {np.trace(counts[name])} of {counts[name].sum()} samples on the diagonal, "
            f"right by class: {', '.join(shown[:20])}."
        )
    alternative = f"Confusion matrix of {len(names)} classes. {' '.join(words)}"
    figure = plot_confusion(counts, names)
    return Picture("residuals", "Classes", figure, alternative, _thinned(parts))


def regions(model: Model, parts: Parts, gated: bool = False) -> Picture:
    """Draw the regions of decision or the output of a network of one or two inputs."""
    classes, inputs, targets = class_names(model), model.recipe.input_names, target_names(model)
    title = "Output" if classes is None else "Regions of decision"
    if len(inputs) > 2 or (len(inputs) == 1 and classes is not None):
        wanted = "one or two" if classes is None else "two"
        reason = f"not drawn: the network has {len(inputs)} inputs, and a picture takes {wanted}"
        return Picture("regions", title, None, "", reason)
    if gated:
        reason = "not drawn: a network with fixed gates has no output between the samples"
        return Picture("regions", title, None, "", reason)
    axes, note = " and ".join(inputs), _thinned(parts)

    def outputs(points: FloatArray) -> FloatArray:
        scaled = points if model.input_scaler is None else model.input_scaler.apply(points)
        F = model.network.predict(model.theta, scaled)
        return F if model.target_scaler is None else model.target_scaler.undo(F)

    if classes is not None:
        circles = RADII if model.training.get("source") == "four_regions" else ()
        figure = plot_decisions(
            lambda points: labels_of(model, outputs(points), given=True),
            {k: (p.inputs, labels_of(model, p.targets, given=False)) for k, p in parts.items()},
            classes=classes,
            circles=circles,
            names=inputs,
        )
        true = " The true boundaries are drawn dashed: circles of radius 1, 2 and 3."
        alternative = f"The plane of {axes}, shaded by the class that the network gives, with the "
        alternative += f"samples of {len(classes)} classes.{true if circles else ''}"
        return Picture("regions", title, figure, alternative, note)
    figure = plot_output(
        lambda points: outputs(points)[:, 0],
        {name: _first_known(part) for name, part in parts.items()},
        names=inputs,
        target=targets[0],
    )
    if len(targets) > 1:
        note = f"The first of {len(targets)} outputs. {note}"
    alternative = f"{targets[0]} as the network gives it over {axes}, with the samples."
    return Picture("regions", title, figure, alternative, note)


def _first_known(part: Findings) -> tuple[FloatArray, FloatArray]:
    """Return the inputs, and the first target, of the samples where it is known."""
    known = ~np.isnan(part.targets[:, 0])
    return part.inputs[known], part.targets[known, 0]


def _thinned(parts: Parts) -> str:
    words = [
        f"Drawn from {part.n_shown} of {part.n_samples} samples of {name}, evenly spaced."
        for name, part in parts.items()
        if part.n_shown < part.n_samples
    ]
    return " ".join(words)
