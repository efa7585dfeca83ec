"""The identity of a run, which a resumed run must share: samples, network, options, seed."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastggn.training.checkpoint.files import CheckpointError
from fastggn.training.options import Options
from fastggn.training.resumable import State

if TYPE_CHECKING:
    from fastggn.objective.problem import Problem
    from fastggn.objective.residual_problem import ResidualProblem


FloatArray = NDArray[np.float64]


def problem_fingerprint(problem: Problem | ResidualProblem) -> dict[str, Any]:
    """Return digests of the samples of all ranks, and the network, loss and penalty in words."""
    # Custom activations and losses have only their names here: their code is not compared.
    return {
        "number of ranks": problem.comm.size,
        "number of samples": problem.n_samples,
        **problem.fingerprint(),
        "network": json.dumps(problem.network.to_config(), sort_keys=True),
        "loss": json.dumps(problem.loss_function.to_config(), sort_keys=True),
        "l2": problem.l2,
        "penalize_biases": problem.penalize_biases,
        "curvature": problem.curvature,
    }


def run_identity(
    problem: Problem, options: Options, seed: Any, theta0: FloatArray | None
) -> dict[str, Any]:
    """Return the identity of a run as JSON types: all but callbacks, `max_iter` and `max_time`."""
    method, regularize, held_out = options.method, options.regularize, options.held_out
    given: State = {
        "method": method.name,
        "options": asdict(method),
        "stop": asdict(options.stop),
        "regularize": None if regularize is None else repr(regularize),
        "leave_saddles": options.leave_saddles,
        "seed": int(seed) if hasattr(seed, "__index__") else seed,
        "theta0": None if theta0 is None else hashlib.sha256(theta0.tobytes()).hexdigest(),
    }
    if held_out is not None:
        parts = problem_fingerprint(held_out.problem)
        given["held_out"] = {f"held_out {name}": value for name, value in parts.items()}
        given["held_out"] |= {"patience": held_out.patience, "tol": held_out.tol}
    identity: State = json.loads(json.dumps(given, default=repr))
    return problem_fingerprint(problem) | identity


def compare_identities(path: str | os.PathLike[str], there: State, here: State) -> None:
    """Raise `CheckpointError` if the identity in a checkpoint is not that of the run."""
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
        if isinstance(old, dict) and isinstance(new, dict):
            found += _differences(old, new)
        elif old != new and len(f"{old}{new}") > 60:  # digests, and descriptions of networks
            found.append(f"{name} differs")
        elif old != new:
            found.append(f"{name} was {old!r} and is {new!r}")
    return found
