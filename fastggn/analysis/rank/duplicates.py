"""Samples with equal inputs, and the least loss that they allow any network."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy
from numpy.typing import NDArray

from fastggn.analysis.plain import plain
from fastggn.analysis.rank.spectrum import FloatArray
from fastggn.network.losses.base import Loss
from fastggn.network.losses.classification import Logistic, SoftmaxCrossEntropy
from fastggn.network.losses.separable import SeparableLoss, Squared
from fastggn.runtime.comm import SERIAL, Comm

IntArray = NDArray[np.intp]
Rows = Callable[[int, int], FloatArray]

_BLOCK_BYTES = 8 * 2**20
_BISECTIONS = 80  # after so many the ends of the interval agree to rounding
_EXAMPLES = 5
_SEEDS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F)  # of the two fingerprints


@dataclass(frozen=True)
class Duplicates:
    """Equal inputs among the samples.

    Attributes
    ----------
    groups : int
        Sets of two or more samples with one input.
    samples : int
        Samples in these sets.
    conflicting : int
        Sets with more than one target among samples of non-zero weight.
    floor : float or None
        Least data term of the objective for any weights, as conflicting targets share one output.
        None where it is not available.
    reason : str
        How the floor was found, or why there is none.
    examples : tuple of tuple of int
        The first conflicting sets, five at most.
    """

    groups: int
    samples: int
    conflicting: int
    floor: float | None
    reason: str
    examples: tuple[tuple[int, ...], ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return plain(self)


def find_duplicates(
    inputs: Rows,
    n_samples: int,
    width: int,
    targets: FloatArray,
    weights: FloatArray,
    loss: Loss,
    comm: Comm = SERIAL,
) -> Duplicates:
    """Find equal inputs, one block at a time, and the loss floor that conflicting targets imply."""
    order, starts = _equal_runs(inputs, n_samples, width, comm)
    if starts.size == 0:
        return Duplicates(0, 0, 0, 0.0, "no two inputs are equal", ())
    ends = np.append(starts[1:], order.size)
    group = np.repeat(np.arange(starts.size), ends - starts)
    targets, weights = (_of_all(rows, order, comm) for rows in (targets, weights))
    on = weights > 0.0
    group_on = group[on]
    conflict = _conflicts(targets[on], group_on, starts.size)
    chosen = conflict[group_on]
    number = np.cumsum(conflict)[group_on[chosen]] - 1
    count, total = int(conflict.sum()), int(comm.total(n_samples))
    with np.errstate(all="ignore"):  # squares of targets may leave the range of float64
        floor, reason = _floor(loss, targets[on][chosen], weights[on][chosen], number, count, total)
    shown = _examples(order[on][chosen], number, count)
    return Duplicates(starts.size, order.size, count, floor, reason, shown)


def _of_all(rows: FloatArray, wanted: IntArray, comm: Comm) -> FloatArray:
    """Return the wanted rows, each from the rank that holds it."""
    mine = comm.span(rows.shape[0])
    ascending = np.sort(wanted)
    own = ascending[(ascending >= mine.start) & (ascending < mine.stop)] - mine.start
    return comm.concatenate(rows[own])[np.searchsorted(ascending, wanted)]


def _examples(members: IntArray, number: IntArray, count: int) -> tuple[tuple[int, ...], ...]:
    """Return the groups with the smallest first samples; members ascend within each group."""
    firsts = members[np.searchsorted(number, np.arange(count))]
    return tuple(tuple(members[number == k].tolist()) for k in np.argsort(firsts)[:_EXAMPLES])


def _equal_runs(inputs: Rows, n_samples: int, width: int, comm: Comm) -> tuple[IntArray, IntArray]:
    """Return the samples with an equal partner, group by group, and where each group starts."""
    # Inputs with equal fingerprints of 128 bits count as equal: among a million different inputs
    # two agree by chance once in 10^26 cases. Ranks share all first halves, and candidates' rest.
    step = max(1, _BLOCK_BYTES // (8 * width))
    marks = np.empty((2, n_samples), dtype=np.uint64)
    for start in range(0, n_samples, step):
        stop = min(n_samples, start + step)
        bits = (inputs(start, stop) + 0.0).view(np.uint64)  # + 0 makes -0 and 0 one number
        for mark, seed in zip(marks, _SEEDS, strict=True):
            mark[start:stop] = _fingerprints(bits, seed)
    ordered = np.sort(comm.concatenate(marks[0]))
    repeated = ordered[1:][ordered[1:] == ordered[:-1]]
    if repeated.size == 0:
        none = np.zeros(0, dtype=np.intp)
        return none, none
    own = np.flatnonzero(np.isin(marks[0], repeated))
    candidates = comm.concatenate(own + comm.span(n_samples).start)
    marks = np.stack([comm.concatenate(mark[own]) for mark in marks])
    by_mark = np.lexsort(marks[::-1])
    order, marks = candidates[by_mark], marks[:, by_mark]
    same = np.zeros(order.size + 1, dtype=bool)
    same[1:-1] = (marks[:, 1:] == marks[:, :-1]).all(axis=0)
    kept = same[:-1] | same[1:]
    return order[kept], np.flatnonzero(~same[:-1][kept])


def _fingerprints(bits: NDArray[np.uint64], seed: int) -> NDArray[np.uint64]:
    """Return 64 bits a row, the same for equal rows, by the mixing steps of SplitMix64."""
    mark = np.full(bits.shape[0], seed, dtype=np.uint64)
    for column in bits.T:
        mark ^= column
        mark ^= mark >> np.uint64(30)
        mark *= np.uint64(0xBF58476D1CE4E5B9)
        mark ^= mark >> np.uint64(27)
        mark *= np.uint64(0x94D049BB133111EB)
        mark ^= mark >> np.uint64(31)
    return mark


def _conflicts(targets: FloatArray, group: IntArray, count: int) -> NDArray[np.bool_]:
    out = np.zeros(count, dtype=bool)
    for column in targets.T:
        low, high = np.full(count, np.inf), np.full(count, -np.inf)
        np.minimum.at(low, group, column)
        np.maximum.at(high, group, column)
        out |= high > low
    return out


def _floor(
    loss: Loss,
    targets: FloatArray,
    weights: FloatArray,
    group: IntArray,
    count: int,
    n_samples: int,
) -> tuple[float | None, str]:
    """Return the least data term with one output a group, and how it was found."""
    if count == 0:
        return 0.0, "equal inputs have equal targets"
    total = np.bincount(group, weights, count)
    mean = np.stack(
        [np.bincount(group, weights * column, count) / total for column in targets.T], axis=1
    )
    if isinstance(loss, (SoftmaxCrossEntropy, Logistic)):
        value = _cross_entropy_floor(loss, targets, weights, group, mean)
        return value / n_samples, "the outputs give each group the mean of its targets"
    if isinstance(loss, Squared):
        best, how = mean, "the outputs are the mean target of each group"
    elif isinstance(loss, SeparableLoss) and loss.convex:
        best, how = _bisected(loss, targets, weights, group, count), "one convex minimum a group"
    else:
        return None, f"the least loss over one output is not available for {loss.name}"
    return float(weights @ loss.value(best[group], targets)) / n_samples, how


def _cross_entropy_floor(
    loss: Loss, targets: FloatArray, weights: FloatArray, group: IntArray, mean: FloatArray
) -> float:
    """Return the sum of w KL(y, mean y), in the limit where a mean is 0 or 1."""
    divergence = scipy.special.rel_entr(targets, mean[group]).sum(axis=1)
    if isinstance(loss, Logistic):
        divergence += scipy.special.rel_entr(1.0 - targets, 1.0 - mean[group]).sum(axis=1)
    return float(weights @ divergence)


def _bisected(
    loss: Loss, targets: FloatArray, weights: FloatArray, group: IntArray, count: int
) -> FloatArray:
    """Return the outputs (count, n_L) at which the weighted slopes of each group sum to 0."""
    low = np.full((count, targets.shape[1]), np.inf)
    high = -low
    np.minimum.at(low, group, targets)
    np.maximum.at(high, group, targets)
    for _ in range(_BISECTIONS):
        middle = low + 0.5 * (high - low)
        slopes = weights[:, None] * loss.gradient(middle[group], targets)
        summed = np.zeros_like(middle)
        np.add.at(summed, group, slopes)
        high = np.where(summed >= 0.0, middle, high)
        low = np.where(summed >= 0.0, low, middle)
    return np.asarray(low + 0.5 * (high - low))
