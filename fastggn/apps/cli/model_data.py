"""The samples for a saved model, in the scaling of its training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.apps.cli.held_out import known_labels, split_rows
from fastggn.apps.cli.sample_set import Scaling
from fastggn.apps.cli.samples import LABEL_LOSSES, own_rows
from fastggn.data.builtin import DATASETS
from fastggn.data.files import load_inputs, load_table, stream_table
from fastggn.network.losses.base import Loss
from fastggn.network.mlp import MLP
from fastggn.objective.problem import Problem
from fastggn.runtime.comm import SERIAL, Comm
from fastggn.runtime.errors import check_finite

Array = NDArray[np.float64]


def model_problem(
    net: MLP,
    metadata: Mapping[str, Any],
    data: str | None,
    target: tuple[str | int, ...] | None,
    loss: Loss,
    comm: Comm = SERIAL,
) -> Problem:
    """Return the problem of a model on the samples of a file."""
    known: Mapping[str, Any] = metadata.get("samples") or {}
    if data is None:
        X, Y = (part[own_rows(len(part), comm)] for part in _builtin(known, metadata, net))
    else:
        X, Y = _table(data, target, comm)
    if X.shape[1] != net.n_inputs:
        raise ValueError(f"DATA has {X.shape[1]} inputs, the network takes {net.n_inputs}")
    if known.get("scale_inputs"):
        X = _scaling(known["scale_inputs"]).apply(X)
    targets: Any = Y
    if loss.name in LABEL_LOSSES and Y.shape[1] == 1 and known.get("classes"):
        labels = known_labels(Y[:, 0], known["classes"])
        targets = labels[:, None].astype(np.float64) if loss.name == "logistic" else labels
    elif Y.shape[1] != net.n_outputs:
        raise ValueError(f"DATA has {Y.shape[1]} target columns, the network {net.n_outputs}")
    elif known.get("scale_targets"):
        targets = _scaling(known["scale_targets"]).apply(Y)
    return Problem(net, X, targets, loss, l2=float(metadata.get("l2") or 0.0), comm=comm)


def inputs_problem(
    net: MLP, theta: Array, metadata: Mapping[str, Any], data: str, comm: Comm = SERIAL
) -> Problem | None:
    """Return a problem for ranks if the file holds inputs alone; None if it has targets."""
    X = load_inputs(data, net.n_inputs)
    if X is None:
        return None
    known: Mapping[str, Any] = metadata.get("samples") or {}
    if known.get("scale_inputs"):
        X = _scaling(known["scale_inputs"]).apply(X)
    X = X[own_rows(len(X), comm)]
    return Problem(net, X, net.predict(theta, X), comm=comm)


def model_loss(metadata: Mapping[str, Any], name: str | None) -> Loss:
    """Return the loss of this name, by default the loss of the training."""
    from fastggn.network.losses import get_loss, loss_from_config

    if name is not None:
        return get_loss(name)
    config = metadata.get("loss")
    return get_loss("squared") if config is None else loss_from_config(config)


def _table(data: str, target: tuple[str | int, ...] | None, comm: Comm) -> tuple[Array, Array]:
    """Return this rank's rows of a table; formats that allow it read no other rows."""
    table = (stream_table(data, target) if comm.size > 1 else None) or load_table(data, target)
    own = own_rows(table.X.shape[0], comm)
    X, Y = (np.asarray(part[own], dtype=np.float64) for part in (table.X, table.Y))
    check_finite(f"{data}: X", X, own.start)
    check_finite(f"{data}: Y", Y, own.start)
    return X, Y


def _builtin(
    known: Mapping[str, Any], metadata: Mapping[str, Any], net: MLP
) -> tuple[Array, Array]:
    """Draw the built-in samples of the training again, without the held-out ones."""
    name = known.get("name")
    if name not in DATASETS:
        raise ValueError(f"the model was trained on {name or 'unknown samples'}: give DATA")
    dataset = DATASETS[name]
    seed = (metadata.get("training") or {}).get("seed", 0)
    count, held_out = known.get("n_samples"), known.get("n_held_out") or 0
    total = None if count is None else count + held_out
    keywords = {"seed": seed, "one_hot": net.n_outputs > 1, "T": total}
    X, Y = dataset.make(**{key: keywords[key] for key in keywords if key in dataset.options})
    if not held_out:
        return X, Y
    _, rest = split_rows(X.shape[0], held_out, seed)
    return X[rest], Y[rest]


def _scaling(kept: Mapping[str, Any]) -> Scaling:
    return Scaling(np.array(kept["mean"]), np.array(kept["scale"]))
