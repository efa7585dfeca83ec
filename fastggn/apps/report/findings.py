"""The numbers of a report at theta; all ranks that share the samples must take part."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.analysis.rank.spectrum import Rank, rank_of
from fastggn.apps.report.notes import SampleNotes
from fastggn.objective.problem import Problem
from fastggn.training.checkpoint.identity import problem_fingerprint

FloatArray = NDArray[np.float64]

# The singular values need a QR of all rows of J, about 2 T n_L N min(T n_L, N) operations.
MOST_OPERATIONS = 5e10
MOST_SAMPLES = 20_000  # in the pictures
MOST_HASHED = 2 * 2**30  # bytes of samples: the digest needs one more pass


@dataclass(frozen=True, eq=False)
class Spectrum:
    """Singular values of the Jacobian and its rank, or the reason why they were not computed."""

    values: FloatArray | None
    rank: Rank | None
    reason: str


@dataclass(frozen=True, eq=False)
class Findings:
    """Samples and outputs at one theta, in the units of the network.

    Inputs, targets and outputs are evenly spaced samples; `rms` (n_L,), in the units of the data,
    and `accuracy` (None for a regression) are taken over all `n_samples`.
    """

    inputs: FloatArray
    targets: FloatArray
    outputs: FloatArray
    rms: FloatArray
    n_samples: int
    accuracy: float | None

    @property
    def n_shown(self) -> int:
        """Number of samples in the pictures."""
        return int(self.inputs.shape[0])


def findings(problem: Problem, theta: FloatArray, notes: SampleNotes) -> Findings:
    """Compute the outputs and errors that the pictures and the tables show."""
    comm = problem.comm
    outputs, targets = problem.outputs(theta), problem.targets
    squares = np.square(notes.in_units(outputs) - notes.in_units(targets)).sum(axis=0)
    rms = np.sqrt(comm.sum(np.ascontiguousarray(squares)) / problem.n_samples)
    accuracy = None
    if notes.decision is not None:
        right = float(np.count_nonzero(notes.decide(outputs) == notes.labels(targets)))
        accuracy = comm.total(right) / problem.n_samples
    every = -(-problem.n_samples // MOST_SAMPLES)
    own = [_inputs(problem, targets.shape[0], every), targets[::every], outputs[::every]]
    parts = [np.concatenate(comm.gather(np.array(part))) for part in own]
    return Findings(parts[0], parts[1], parts[2], rms, problem.n_samples, accuracy)


def _inputs(problem: Problem, own: int, every: int) -> FloatArray:
    """Read every `every`-th input of this rank, in blocks."""
    width = problem.network.n_inputs
    block = every * max(1, 2**20 // (every * width))
    parts = [
        problem.read_samples(start, min(own, start + block))[0][::every]
        for start in range(0, own, block)
    ]
    return np.concatenate([np.zeros((0, width)), *parts])


def spectrum_of(problem: Problem, theta: FloatArray) -> Spectrum:
    """Compute the singular values of the Jacobian, unless they would take more than seconds."""
    n_rows, n_params = problem.n_samples * problem.n_outputs, problem.n_params
    operations = 2.0 * n_rows * n_params * min(n_rows, n_params)
    if operations > MOST_OPERATIONS:
        reason = (
            f"not computed: the QR factorisation of {n_rows} x {n_params} numbers would take "
            f"about {operations:.0e} operations (the limit here is {MOST_OPERATIONS:.0e}); "
            "fastggn rank MODEL computes it at any size"
        )
        return Spectrum(None, None, reason)
    values = problem.jacobian(theta).singular_values()
    return Spectrum(values, rank_of(values, (n_params, n_rows)), "")


def digests_of(problem: Problem) -> dict[str, Any]:
    """Return the SHA-256 digests of the samples, or the reason why there are none."""
    net = problem.network
    size = 8 * problem.n_samples * (net.n_inputs + net.n_outputs)
    if size > MOST_HASHED:
        gib = size / 2**30
        return {"SHA-256": f"not computed: the samples hold {gib:.1f} GiB, and it needs a pass"}
    found = problem_fingerprint(problem)
    return {
        "SHA-256 of the inputs": found["inputs X"],
        "SHA-256 of the targets": found["targets Y"],
    }
