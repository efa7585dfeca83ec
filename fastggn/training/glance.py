"""A look at some of a problem's samples: the scales of their columns, the outputs of the units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastggn.data.scaling import Moments
from fastggn.runtime.comm import SERIAL, Comm

if TYPE_CHECKING:
    from fastggn.objective.problem import Problem


FloatArray = NDArray[np.float64]

# Samples that are looked at, evenly spread; all of them where there are no more than twice as many.
ENOUGH = 10_000
MOST_OUTPUTS = 1_000_000  # numbers held at once
RUNS = 64  # pieces of a file that are read instead of single rows


@dataclass(frozen=True)
class Scales:
    """Mean and standard deviation of columns, shapes (n,), from `count` samples of all ranks."""

    count: int
    mean: FloatArray
    deviation: FloatArray


class Glance:
    """Takes every k-th row of columns that are read in parts."""

    def __init__(self, n_rows: int) -> None:
        self._stride = max(1, n_rows // ENOUGH)
        self.moments: Moments | None = None

    def see(self, start: int, rows: NDArray[np.generic]) -> None:
        """Take some of the rows that begin with row `start`."""
        some = rows[-start % self._stride :: self._stride]
        if not some.shape[0]:
            return
        columns = np.asarray(some, dtype=np.float64).reshape(some.shape[0], -1)
        if self.moments is None:
            self.moments = Moments(columns.shape[1])
        self.moments.add(columns)


def column_scales(problem: Problem) -> tuple[Scales, Scales] | None:
    """Return the scales of the inputs and of the targets, None where they are not known.

    Arrays in memory are looked at by the first call; of rows in files those are taken that the
    first pass over them, which checks them, has seen. All ranks must call it.
    """
    inputs, targets = problem._seen
    source, own_targets = problem._source, problem._objective.targets
    if inputs.moments is None and not source.streamed:
        inputs = _glance(source.rows(0, source.shape[0]))
    if targets.moments is None and isinstance(own_targets, np.ndarray):
        targets = _glance(own_targets)
    problem._seen = inputs, targets
    scales = [_united(problem.comm, part.moments) for part in (inputs, targets)]
    if scales[0] is None or scales[1] is None:
        return None
    return scales[0], scales[1]


def _glance(rows: FloatArray) -> Glance:
    glance = Glance(rows.shape[0])
    glance.see(0, rows)
    return glance


def _united(comm: Comm, own: Moments | None) -> Scales | None:
    """Return the scales of the columns of all ranks; of none, if no rank has any."""
    packed = None
    if own is not None and own.count:
        packed = own.count, own.mean, own.deviation
    every = [part for part in comm.gather(packed) if part is not None]
    if not every:
        return None
    count = sum(n for n, _, _ in every)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = sum(n * m for n, m, _ in every) / count
        squares = sum(n * (s**2 + (m - mean) ** 2) for n, m, s in every) / count
    return Scales(count, np.asarray(mean), np.sqrt(squares))


@dataclass(frozen=True)
class Units:
    """The hidden units of one layer at `count` samples of all ranks.

    Attributes
    ----------
    count : int
    above : ndarray, shape (n_l,)
        The share of samples at which the unit's output is beyond one of the two limits.
    largest : ndarray, shape (n_l,)
        Its largest absolute output.
    """

    count: int
    above: FloatArray
    largest: FloatArray


def unit_outputs(
    problem: Problem, theta: FloatArray, limits: list[tuple[float, float]]
) -> list[Units]:
    """Return what the hidden units put out at some of the samples: one forward pass over these.

    All ranks must call it.
    """
    widths = problem.network.widths[1:-1]
    own = problem._objective.plan.n_samples
    counts = [np.zeros(1 + 2 * n) for n in widths]
    if own:
        part = problem
        if own > 2 * _most_rows(problem) or problem.comm.size > 1:
            part = problem._restricted(_some_rows(problem, own), SERIAL)
        outputs = part.layer_outputs(theta)[1:-1]
        for sums, phi, n, (low, high) in zip(counts, outputs, widths, limits, strict=True):
            units = phi[:n]
            sums[0] = phi.shape[1]
            sums[1 : n + 1] = ((units < low) | (units > high)).sum(axis=1)
            sums[n + 1 :] = np.abs(units).max(axis=1)
    found = []
    for sums, n in zip(counts, widths, strict=True):
        every = problem.comm.gather(sums)
        total = sum(part[0] for part in every)
        above = sum(part[1 : n + 1] for part in every) / max(total, 1.0)
        largest = np.max([part[n + 1 :] for part in every], axis=0)
        found.append(Units(int(total), np.asarray(above), largest))
    return found


def _most_rows(problem: Problem) -> int:
    return max(RUNS, min(ENOUGH, MOST_OUTPUTS // sum(problem.network.widths)))


def _some_rows(problem: Problem, n_rows: int) -> NDArray[np.intp]:
    """Return all rows, or some of them, evenly spread; of files in a few runs of neighbours."""
    most = _most_rows(problem)
    if n_rows <= 2 * most:
        return np.arange(n_rows)
    if not problem._source.streamed:
        return np.arange(0, n_rows, n_rows // most)
    starts = np.linspace(0, n_rows - most // RUNS, RUNS).astype(np.intp)
    runs = starts[:, None] + np.arange(most // RUNS)
    return np.unique(runs)
