"""What makes a problem another problem, in a few digests: a checkpoint compares them."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fastggn.data.sources import StreamedTargets
from fastggn.runtime.comm import Comm

if TYPE_CHECKING:
    from fastggn.objective.problem import Problem


FloatArray = NDArray[np.float64]

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
    known: their code is not compared. Where ranks share the samples, all of them must call; a
    digest is then that of the ranks' digests, in their order.
    """
    objective = problem._objective  # the parts themselves, which nothing else needs
    inputs, gates = hashlib.sha256(), hashlib.sha256()
    width = problem.network.n_inputs
    step = max(1, READ_BYTES // (8 * width))
    own = objective.plan.n_samples
    for start in range(0, own, step):
        rows, masks = objective.samples.read(start, min(own, start + step))
        inputs.update(np.ascontiguousarray(rows).data)
        gates.update(np.ascontiguousarray(masks).data)
    comm = problem.comm
    return {
        "number of ranks": comm.size,
        "number of samples": problem.n_samples,
        "inputs X": _of_all(comm, inputs.hexdigest()),
        "targets Y": _of_all(comm, _digest_of_targets(objective.targets)),
        "sample weights": _of_all(comm, digest(objective.weights)),
        "gates": _of_all(comm, gates.hexdigest()) if objective.samples.gated else None,
        "network": json.dumps(problem.network.to_config(), sort_keys=True),
        "loss": json.dumps(problem.loss_function.to_config(), sort_keys=True),
        "l2": problem.l2,
        # Checkpoints of before there was a choice know nothing of it.
        **({} if problem.penalize_biases else {"penalty": "spares the biases"}),
        "curvature": problem.curvature,
    }


def _digest_of_targets(targets: FloatArray | StreamedTargets) -> str:
    """Return the digest of the whole array, also where its rows are read from a file."""
    if isinstance(targets, np.ndarray):
        return digest(targets)
    sha = hashlib.sha256(f"{np.dtype(np.float64).str} {targets.shape} ".encode())
    for start in range(0, len(targets), targets.block_rows()):
        sha.update(np.ascontiguousarray(targets[start : start + targets.block_rows()]).data)
    return sha.hexdigest()


def _of_all(comm: Comm, own: str) -> str:
    """Return one digest for those of all ranks; that of one process is its own."""
    if comm.size == 1:
        return own
    return hashlib.sha256(" ".join(comm.gather(own)).encode()).hexdigest()
