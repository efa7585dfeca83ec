"""What must be the same where a run is resumed: samples, network, options, seed."""

from __future__ import annotations

import os
from dataclasses import asdict, fields, is_dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastggn.training.checkpoint.files import CheckpointError
from fastggn.training.checkpoint.fingerprint import digest, problem_fingerprint
from fastggn.training.control.validation import HeldOut
from fastggn.training.options import Options
from fastggn.training.resumable import State

if TYPE_CHECKING:
    from fastggn.objective.problem import Problem


# What a call may change without making the run another run.
FREE = ("callbacks", "max_time")
# What is described by more than its text.
DESCRIBED = ("validation",)


def run_identity(
    problem: Problem, options: Options, seed: Any, theta0: NDArray[np.float64] | None
) -> dict[str, Any]:
    """Return what must be the same where a run is resumed, as JSON types.

    The options but the limits `max_iter` and `max_time` and the callbacks, the samples and the
    network, the seed, and theta0 where it was given.
    """
    identity: dict[str, Any] = problem_fingerprint(problem)
    identity["seed"] = int(seed) if hasattr(seed, "__index__") else _plain(seed)
    identity["theta0"] = None if theta0 is None else digest(theta0)
    for field in fields(options):
        if field.name not in FREE + DESCRIBED:
            identity[field.name] = _plain(getattr(options, field.name))
    identity["tolerances"].pop("max_iter")
    identity["validation"] = _of_validation(options.validation)
    return identity


def _of_validation(held_out: HeldOut | None) -> dict[str, Any] | None:
    if held_out is None:
        return None
    parts = problem_fingerprint(held_out.problem)
    identity = {f"validation {name}": value for name, value in parts.items()}
    return {**identity, "patience": held_out.patience, "validation_tol": held_out.tolerance}


def compare_identities(path: str | os.PathLike[str], there: State, here: State) -> None:
    """Compare the identity in a checkpoint with that of the run."""
    differing = _differences(there, here)
    if differing:
        raise CheckpointError(
            f"{path} is the checkpoint of another run: {'; '.join(differing)} (choose another "
            "file, or do not resume)"
        )


def _differences(there: State, here: State) -> list[str]:
    found = []
    for name in {**here, **there}:
        old, new = there.get(name), here.get(name)
        if old == new:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            found += _differences(old, new)
        elif len(f"{old}{new}") > 60:  # digests, and descriptions of networks
            found.append(f"{name} differs")
        else:
            found.append(f"{name} was {old!r} and is {new!r}")
    return found


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return {name: _plain(part) for name, part in asdict(value).items()}
    return value if isinstance(value, (bool, int, float, str, type(None))) else repr(value)
