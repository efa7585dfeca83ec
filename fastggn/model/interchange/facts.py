"""The facts beside the weights that files of other programs keep: names, classes, the loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from fastggn.data.recipe import Recipe
from fastggn.network.losses import LOSSES, get_loss

FACTS = ("inputs", "targets", "classes", "loss")


def facts_of(model: Any) -> dict[str, list[str]]:
    """Return the names of inputs and targets, the labels of the classes, and the loss."""
    recipe = model.recipe
    found: dict[str, list[str]] = {}
    if recipe.named:
        found = {"inputs": list(recipe.input_names), "targets": list(recipe.target_names)}
    if recipe.classes is not None:
        found["classes"] = list(recipe.classes)
    if model.loss.name in LOSSES:
        found["loss"] = [model.loss.name]
    return {name: values for name, values in found.items() if values}


def described(
    n_inputs: int, n_outputs: int, facts: Mapping[str, Sequence[Any]]
) -> tuple[Any, Recipe]:
    """Return the loss and the recipe of a network with these facts."""
    for name, values in facts.items():
        if name not in FACTS or not all(isinstance(value, str) for value in values):
            raise ValueError(f"{name!r} must be one of {', '.join(FACTS)}, and hold names")
    loss = get_loss(facts["loss"][0] if facts.get("loss") else "squared")
    classes = facts.get("classes")
    recipe = Recipe.of_arrays(n_inputs, n_outputs, classes)
    for name in ("inputs", "targets"):
        names = facts.get(name)
        if not names:
            continue
        columns = getattr(recipe, name)
        if len(names) != len(columns):
            raise ValueError(f"there are {len(columns)} {name}, but {len(names)} names")
        columns = tuple(replace(c, name=n) for c, n in zip(columns, names, strict=True))
        chosen: dict[str, Any] = {name: columns, "named": True}
        recipe = replace(recipe, **chosen)
    return loss, recipe
