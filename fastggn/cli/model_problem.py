"""From a model file and DATA to the problem that the model was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from fastggn.data.files import Table
    from fastggn.problem import Problem

__all__ = ["load_problem"]

Array = NDArray[np.float64]


def load_problem(
    model: str, data: str | None, target: tuple[str | int, ...] | None = None
) -> tuple[Problem, Array]:
    """Return the problem and theta of a model file that ``fastggn train`` wrote.

    Parameters
    ----------
    model : str
        The model file.
    data : str or None
        The samples, scaled and labelled as the file says; None takes the built-in samples that
        the model was trained on.
    target : tuple, optional
        Target columns; None those that the file names.

    Raises
    ------
    ValueError
        If the model file says nothing of its loss, the samples do not suit the network, or
        `data` is None and the model was not trained on built-in samples.
    OSError
        If a file cannot be opened.
    ImportError
        If reading DATA needs an extra.
    """
    from fastggn.losses import loss_from_config
    from fastggn.model_io import load_model
    from fastggn.problem import Problem

    net, theta, metadata = load_model(model)
    if "loss" not in metadata or "samples" not in metadata:
        raise ValueError(f"{model} says nothing of its loss and samples: fastggn train writes them")
    about = metadata["samples"]
    table = _builtin(about, metadata) if data is None else _file(data, target, about)
    if table.X.shape[1] != net.n_inputs:
        raise ValueError(
            f"DATA has {table.X.shape[1]} input columns, the model takes {net.n_inputs} inputs"
        )
    X = _scaled(table.X, about.get("scale_inputs"))
    Y = _targets(table.Y, about, net.n_outputs)
    loss = loss_from_config(metadata["loss"])
    return Problem(net, X, Y, loss=loss, l2=float(metadata.get("l2", 0.0))), theta


def _file(data: str, target: tuple[str | int, ...] | None, about: Mapping[str, Any]) -> Table:
    from fastggn.data.files import load_table

    named = tuple(about.get("targets") or ())
    tables = data.endswith((".csv", ".tsv", ".txt"))
    return load_table(data, target if target is not None or not tables else named or None)


def _builtin(about: Mapping[str, Any], metadata: Mapping[str, Any]) -> Table:
    """Return the built-in samples of a model, by the name, number and seed that it keeps."""
    from fastggn.data.builtin import DATASETS
    from fastggn.data.files import Table

    name = about.get("name")
    if name not in DATASETS:
        raise ValueError(f"give DATA: the model was trained on {name}, no built-in samples")
    known = {
        "T": about["n_samples"],
        "seed": metadata.get("training", {}).get("seed", 0),
        "one_hot": about.get("decision") == "argmax" and about.get("classes") is None,
    }
    options = DATASETS[name].options
    X, Y = DATASETS[name].make(**{key: known[key] for key in known if key in options})
    return Table(X, Y, tuple(about["inputs"]), tuple(about["targets"]))


def _scaled(columns: Array, scale: Mapping[str, Any] | None) -> Array:
    if scale is None:
        return columns
    return np.asarray((columns - np.array(scale["mean"])) / np.array(scale["scale"]))


def _targets(Y: Array, about: Mapping[str, Any], n_outputs: int) -> NDArray[Any]:
    """Return the targets as the problem takes them: scaled, or labels counted from 0."""
    decision = about.get("decision")
    labelled = decision == "sign" or (decision == "argmax" and Y.shape[1] == 1 < n_outputs)
    if not labelled:
        return _scaled(Y, about.get("scale_targets"))
    classes = np.array(about["classes"])
    known = np.isin(Y[:, 0], classes)
    if not known.all():
        first = int(np.argmin(known))
        raise ValueError(
            f"the target of sample {first} is {Y[first, 0]:g}, a class that the model does not know"
        )
    labels = np.searchsorted(classes, Y[:, 0]).astype(np.int64)
    return labels[:, None].astype(np.float64) if decision == "sign" else labels
