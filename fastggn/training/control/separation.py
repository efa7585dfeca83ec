"""Whether a loss on classes has a finite minimum over the weights of one layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import scipy
from numpy.typing import NDArray

from fastggn.runtime.comm import comm_of

if TYPE_CHECKING:
    from fastggn.objective.problem import Problem

Matrix = NDArray[np.float64]
CLASSES = ("softmax_cross_entropy", "logistic")
LARGEST = 300_000  # entries of a linear programme, beyond which none is solved
# Margins of rows of size 1 by weights of size 1: rounding below the first, proof above the second.
ROUNDING, PROOF = 1e-9, 1e-6


def lacks_minimum(problem: Problem) -> bool | None:
    """Return whether no finite weights minimise a loss on classes; None where that is not known.

    So it is for one layer if some weights make no margin negative and one of them positive (Albert
    and Anderson 1984), which a linear programme decides.
    """
    net, name = problem.network, problem.loss_function.name
    if name not in CLASSES or net.n_layers > 1 or net.activations[-1].name != "identity":
        return None
    spared = problem.l2 > 0.0 and net.has_free_bias and not problem.penalize_biases
    if problem.l2 > 0.0 and not spared:
        return False
    if problem.n_samples * net.n_params * net.n_outputs > LARGEST:
        return None
    inputs, targets = _samples(problem)
    columns = np.ones((len(inputs), 1)) if net.has_free_bias else np.empty((len(inputs), 0))
    rows = columns if spared else np.hstack([inputs, columns])
    rows = rows / np.where(rows.any(axis=0), np.abs(rows).max(axis=0), 1.0)
    size = np.abs(rows).max(axis=1, initial=0.0, keepdims=True)
    rows = rows / np.where(size > 0.0, size, 1.0)
    if name == "logistic":
        parts = [_of_labels(rows, y) for y in targets.T]
    else:
        parts = [_of_classes(rows, targets)]
    found = [_improves(*part) for part in parts]
    return True if True in found else None if None in found else False


def _samples(problem: Problem) -> tuple[Matrix, Matrix]:
    """Return inputs and targets of the samples of all ranks that have a weight."""
    together, own = comm_of(problem).concatenate, problem.targets.shape[0]
    used = together(problem.relative_weights) > 0.0
    return together(problem.read_samples(0, own)[0])[used], together(problem.targets)[used]


def _of_labels(rows: Matrix, y: Matrix) -> tuple[Matrix, Matrix]:
    """Return the margins of hard labels 0 and 1, and the outputs at soft ones, as linear maps."""
    hard = (y == 0.0) | (y == 1.0)
    return (2.0 * y[hard, None] - 1.0) * rows[hard], rows[~hard]


def _of_classes(rows: Matrix, y: Matrix) -> tuple[Matrix, Matrix]:
    """Return the margins of classes over those of target 0, and between those above 0."""
    over: list[Matrix] = []
    between: list[Matrix] = []
    for x, target in zip(rows, y, strict=True):
        first = int(np.argmax(target))
        for other in np.flatnonzero(np.arange(target.size) != first):
            margin = np.zeros((target.size, x.size))
            margin[first], margin[other] = x, -x
            (over if target[other] == 0.0 else between).append(margin.ravel())
    width = y.shape[1] * rows.shape[1]
    return np.array(over).reshape(-1, width), np.array(between).reshape(-1, width)


def _improves(margins: Matrix, fixed: Matrix) -> bool | None:
    """Return whether weights exist with margins >= 0, one of them > 0, and 0 for `fixed`."""
    if not margins.size:
        return False
    found = scipy.optimize.linprog(
        -margins.sum(axis=0),
        A_ub=-margins,
        b_ub=np.zeros(len(margins)),
        A_eq=fixed if fixed.size else None,
        b_eq=np.zeros(len(fixed)) if fixed.size else None,
        bounds=(-1.0, 1.0),
        options={"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10},
    )
    if found.status != 0:
        return None
    reached = margins @ found.x
    if reached.max() > PROOF:
        level = np.abs(fixed @ found.x).max(initial=0.0)
        return True if min(reached.min(), -level) >= -ROUNDING else None
    return False if -found.fun <= ROUNDING * len(margins) else None
