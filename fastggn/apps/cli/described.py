"""A `Model` of the facts that a file of ``fastggn train`` keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.data.recipe import Column, Recipe
from fastggn.data.scaler import Scaler
from fastggn.model.model import Model
from fastggn.network.losses.base import Loss
from fastggn.network.mlp import MLP


def described_model(
    net: MLP,
    theta: NDArray[np.float64],
    loss: Loss,
    known: Mapping[str, Any],
    run: Mapping[str, Any],
) -> Model:
    """Return the model of weights, the facts `known` of their samples, and their run."""
    names = known.get("inputs") or [f"x{j}" for j in range(net.n_inputs)]
    targets = known.get("targets") or [f"y{j}" for j in range(net.n_outputs)]
    columns = tuple(Column(name, "number") for name in targets)
    decision = known.get("decision")
    if decision is None and loss.name == "softmax_cross_entropy":
        decision = "argmax"
    if decision is None and loss.name == "logistic" and net.n_outputs == 1:
        decision = "sign"
    if decision in ("argmax", "sign"):
        values = known.get("classes") or range(max(2, net.n_outputs))
        several = len(targets) == net.n_outputs > 1
        levels = tuple(targets) if several else tuple(f"{value:g}" for value in values)
        columns = (Column("class" if several else targets[0], "category", levels),)
    recipe = Recipe(tuple(Column(name, "number") for name in names), columns)
    run = {**run, "source": known.get("name")}
    scales = (_scaler(known.get("scale_inputs")), _scaler(known.get("scale_targets")))
    history = run.pop("history", {})
    return Model(net, theta, loss, recipe, *scales, training=run, history=history)


def _scaler(kept: Mapping[str, Any] | None) -> Scaler | None:
    return None if kept is None else Scaler.at(kept["mean"], kept["scale"])
