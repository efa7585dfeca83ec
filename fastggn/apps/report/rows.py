"""The tables of a report, as rows of numbers and words."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastggn.apps.report.findings import Findings, class_names, target_names
from fastggn.model.model import Model
from fastggn.objective.problem import Problem

MOST_LISTED = 12  # columns or outputs
MOST_ITERATIONS = 15
Rows = list[tuple[Any, ...]]


def contents_of(
    model: Model, problem: Problem, parts: Mapping[str, Findings], facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what the page shows of a model, its training rows and the errors of all parts."""
    config = problem.loss_function.to_config()
    return {
        "model": model,
        "problem": problem,
        "parts": parts,
        "classes": class_names(model),
        "errors": _errors(model, parts),
        "targets": len(model.recipe.targets),
        "iterations": _iterations(model),
        "data": _data(model, parts),
        "facts": list(facts.items()),
        "columns": _scales(model),
        "layers": _layers(model),
        "loss": ", ".join(str(v) if k == "name" else f"{k} {v}" for k, v in config.items()),
        "now": datetime.datetime.now(datetime.timezone.utc),
    }


def _errors(model: Model, parts: Mapping[str, Findings]) -> Rows:
    """Return the head and the rows of the errors of each part."""
    if class_names(model) is not None:
        head: Rows = [("samples", "number", "right", "share")]
        for name, part in parts.items():
            right, total = part.n_right or 0, part.n_samples
            head.append((name, total, right, f"{100 * right / total:.2f} %"))
        return head
    if model.loss.name == "logistic":  # logits have no error in units
        return []
    names = target_names(model)
    head = [("target", "samples", "number", "rms error", "R2")]
    return head + [
        (target, name, part.n_known[k], f"{part.rms[k]:.6g}", f"{part.r2[k]:.6f}")
        for k, target in enumerate(names[:MOST_LISTED])
        for name, part in parts.items()
    ]


def _iterations(model: Model) -> Rows:
    """Return the head and the rows of evenly spaced iterations of the history."""
    columns = {name: values for name, values in model.history.items() if name != "accepted"}
    count = len(columns.get("loss", ()))
    if not count:
        return []
    places = np.unique(np.linspace(0, count - 1, min(count, MOST_ITERATIONS)).round().astype(int))
    words = (name.replace("validation", "held-out").replace("_", " ") for name in columns)
    head: Rows = [tuple(words)]
    return head + [tuple(_number(values[k]) for values in columns.values()) for k in places]


def _number(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _data(model: Model, parts: Mapping[str, Findings]) -> Rows:
    names = {"inputs": model.recipe.input_names, "targets": target_names(model)}
    names["classes"] = class_names(model) or []
    rows: Rows = [(f"{name} samples", part.n_samples) for name, part in parts.items()]
    rows += [(name, f"{len(own)}: {_listed(own)}") for name, own in names.items() if own]
    for name, scaler in (("inputs", model.input_scaler), ("targets", model.target_scaler)):
        words = "as they are" if scaler is None else "to mean 0 and deviation 1"
        rows.append((f"scaling of the {name}", words))
    return rows + [("note", note) for note in model.training.get("notes", ())]


def _listed(names: Sequence[str]) -> str:
    more = len(names) - MOST_LISTED
    return ", ".join(names[:MOST_LISTED]) + (f" and {more} more" if more > 0 else "")


def _scales(model: Model) -> Rows:
    rows: Rows = []
    for names, scaler in (
        (model.recipe.input_names, model.input_scaler),
        (target_names(model), model.target_scaler),
    ):
        if scaler is not None:
            values = zip(names, scaler.mean, scaler.scale, strict=True)
            rows += [(name, f"{m:.6g}", f"{s:.6g}") for name, m, s in values][:MOST_LISTED]
    return rows


def _layers(model: Model) -> Rows:
    net = model.network
    layers = zip(net.widths[1:], net.activations, net.unpack(model.theta), strict=True)
    return [
        (k, units, activation.name, f"{W.shape[0]} x {W.shape[1]}", f"{np.linalg.norm(W):.4g}",
         f"{np.abs(W).max():.4g}")
        for k, (units, activation, W) in enumerate(layers, start=1)
    ]  # fmt: skip
