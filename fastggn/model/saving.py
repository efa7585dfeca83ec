"""Models as sealed files."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from fastggn.analysis.posterior.gaussian import LaplacePosterior
from fastggn.data.recipe import Recipe
from fastggn.data.scaler import Scaler
from fastggn.data.split import Split
from fastggn.network.losses import loss_from_config
from fastggn.network.mlp import MLP
from fastggn.runtime.archive import ArchiveError, plain, read_sealed, write_sealed
from fastggn.runtime.atomic_files import PathLike

M = TypeVar("M")
MOST_POSTERIOR = 5000  # parameters whose posterior is kept in the file


class ModelFileError(ArchiveError):
    """A file that is not a valid model: cut, altered, foreign, pickled, or of another version."""


def write_model(path: PathLike, model: Any) -> None:
    """Replace a file by a model, in one step."""
    posterior = model.posterior if model.network.n_params <= MOST_POSTERIOR else None
    parts = {
        "input_scaler": model.input_scaler,
        "target_scaler": model.target_scaler,
        "split": model.split,
        "posterior": posterior,
    }
    content: dict[str, Any] = {
        "theta": model.theta,
        "network": model.network.to_config(),
        "loss": model.loss.to_config(),
        "recipe": model.recipe.to_dict(),
        "l2": model.l2,
        "penalize_biases": model.penalize_biases,
        "training": json.loads(json.dumps(dict(model.training), default=plain)),
        "history": dict(model.history),
        "digest": model.digest,
        "versions": dict(model.versions),
    }
    content |= {name: None if part is None else part.to_dict() for name, part in parts.items()}
    write_sealed(path, "model", content)


def read_model(
    path: PathLike,
    make: Callable[..., M],
    activations: Mapping[str, Any] | None,
    losses: Mapping[str, Any] | None,
) -> M:
    """Return the model in a file; `make` is `Model`."""
    try:
        kept = read_sealed(path, "model")
    except ArchiveError as error:
        raise ModelFileError(str(error)) from None
    try:
        network = MLP.from_config(kept["network"], activations)
        loss = loss_from_config(kept["loss"], losses)
        scalers = {
            name: None if kept[name] is None else Scaler.from_dict(kept[name])
            for name in ("input_scaler", "target_scaler")
        }
        split, posterior = kept["split"], kept["posterior"]
        if posterior is not None:
            posterior = LaplacePosterior.from_dict(posterior, network, loss, kept["theta"])
        return make(
            network=network,
            theta=kept["theta"],
            loss=loss,
            recipe=Recipe.from_dict(kept["recipe"]),
            **scalers,
            l2=float(kept["l2"]),
            penalize_biases=bool(kept["penalize_biases"]),
            training=dict(kept["training"]),
            history=dict(kept["history"]),
            split=None if split is None else Split.from_dict(split),
            digest=str(kept["digest"]),
            posterior=posterior,
            versions=dict(kept["versions"]),
        )
    except KeyError as error:
        raise ModelFileError(f"{path}: the file lacks {error}") from error
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise ModelFileError(f"{path}: {error}") from error
