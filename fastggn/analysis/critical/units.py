"""Units of a problem, in which inputs, targets, weights and losses are of order 1."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastggn.network.losses.separable import SeparableLoss
from fastggn.objective.problem import Problem
from fastggn.runtime.comm import comm_of

Vector = NDArray[np.float64]
ROWS = 4096
# Sizes within these powers of two of 1 stay as they are, so that most problems have units of 1.
USUAL_DATA, USUAL_LOSS = 5, 10
TINY = 1e-300


def units_of(problem: Problem) -> tuple[Vector, float]:
    """Return the units of the parameters, shape (N,), and of the loss: powers of two."""
    comm, net, loss = comm_of(problem), problem.network, problem.loss_function
    inputs = np.zeros(net.n_inputs)
    for first in range(0, problem.targets.shape[0], ROWS):
        rows, _ = problem.read_samples(first, min(first + ROWS, problem.targets.shape[0]))
        inputs = np.maximum(inputs, np.abs(rows).max(axis=0, initial=0.0))
    targets = float(np.abs(problem.targets).max(initial=0.0))
    inputs = np.array([comm.largest(float(x)) for x in inputs])
    units = [np.ones(shape) for shape in net.layer_shapes]
    size = comm.largest(targets)
    scaled = isinstance(loss, SeparableLoss) and net.activations[-1].name == "identity"
    if problem.l2 > 0.0:  # which weighs all weights alike: one unit, that of balanced layers
        ratio = (size if scaled else 1.0) / max(float(inputs.max(initial=0.0)), TINY)
        unit = _power(ratio ** (1.0 / net.n_layers), USUAL_DATA)
        units = [unit * part for part in units]
    else:
        units[0][:, : inputs.size] = [1.0 / _power(x, USUAL_DATA) for x in inputs]
        units[-1] *= _power(size, USUAL_DATA) if scaled else 1.0
    at_zero = np.zeros_like(problem.targets)
    with np.errstate(all="ignore"):
        values = loss.value(at_zero, problem.loss_targets)
        slopes = np.abs(loss.gradient(at_zero, problem.loss_targets) * problem.targets).sum(axis=1)
        sizes = problem.relative_weights @ (values + slopes)
    mean = comm.total(float(sizes)) / problem.n_samples
    return np.concatenate([part.ravel() for part in units]), _power(mean, USUAL_LOSS)


def _power(size: float, usual: int) -> float:
    """Return the power of two next to a size, or 1 for a usual, zero or infinite one."""
    if not (0.0 < size < np.inf):
        return 1.0
    exponent = int(np.clip(np.round(np.log2(size)), -500, 500))
    return 1.0 if abs(exponent) <= usual else float(2.0**exponent)
