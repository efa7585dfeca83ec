"""What makes a problem another problem, in a few digests: a checkpoint compares them."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from fastggn.problem import Problem

__all__ = ["digest", "problem_fingerprint"]

READ_BYTES = 8 * 2**20


def digest(*arrays: NDArray[Any]) -> str:
    """Return the SHA-256 of the arrays' types, shapes and bytes."""
    sha = hashlib.sha256()
    for array in arrays:
        sha.update(f"{array.dtype.str} {array.shape} ".encode())
        sha.update(np.ascontiguousarray(array).data)
    return sha.hexdigest()


def problem_fingerprint(problem: Problem) -> dict[str, Any]:
    """Return digests of the samples, and network, loss and weights of the terms in words.

    The samples are read once, in blocks. Of custom activations and losses only the names are
    known: their code is not compared.

    Parameters
    ----------
    problem : Problem

    Returns
    -------
    dict
        JSON types, under names that a person understands.
    """
    objective = problem._objective  # the parts themselves, which nothing else needs
    inputs, gates, targets = hashlib.sha256(), hashlib.sha256(), hashlib.sha256()
    width = problem.network.n_inputs
    step = max(1, READ_BYTES // (8 * width))
    for start in range(0, problem.n_samples, step):
        stop = min(problem.n_samples, start + step)
        rows, masks = objective.samples.read(start, stop)
        inputs.update(np.ascontiguousarray(rows).data)
        gates.update(np.ascontiguousarray(masks).data)
        targets.update(np.ascontiguousarray(objective.targets[start:stop]).data)
    return {
        "number of samples": problem.n_samples,
        "inputs X": inputs.hexdigest(),
        "targets Y": f"{objective.targets.shape} {targets.hexdigest()}",
        "sample weights": digest(objective.weights),
        "gates": gates.hexdigest() if objective.samples.gated else None,
        "network": json.dumps(problem.network.to_config(), sort_keys=True),
        "loss": json.dumps(problem.loss_function.to_config(), sort_keys=True),
        "l2": problem.l2,
        "curvature": problem.curvature,
    }
