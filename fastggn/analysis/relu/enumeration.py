"""All subglobal minima of a one-hidden-layer ReLU network, up to the order of its units."""

from __future__ import annotations

import itertools
import math
import multiprocessing
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastggn.analysis.plain import plain
from fastggn.analysis.relu.arrangement import (
    BoolArray,
    FloatArray,
    as_samples,
    pattern_words,
    with_bias,
)
from fastggn.analysis.relu.regions import Solved, UnitChoices, solve_batch
from fastggn.analysis.relu.subglobal import as_targets, power_of
from fastggn.runtime.errors import check_count, unknown_name
from fastggn.runtime.signals import blocked_interrupts

Progress = Callable[[int, int], object]
Batch = list[tuple[int, tuple[int, ...]]]
Which = Literal["all", "realisable", "attained", "boundary"]

_BATCH = 256
_MOST_SAMPLES = 20


@dataclass(frozen=True, eq=False)
class RegionMinimum:
    """The subglobal minimum of one region, up to the order of the hidden units.

    Attributes
    ----------
    index : int
        Position in the enumeration, which ``start=index + 1`` continues.
    patterns : ndarray, shape (h, T), bool
    loss : float
        Half the sum of squares.
    attained : bool
        Whether some minimiser lies inside the region: a true local minimum of the network.
    boundary : bool
        Whether minimisers lie on the region's boundary but not inside. With ``which="boundary"``,
        whether a face attains its minimum: a candidate for a local minimum that is not
        differentiable.
    multiplicity : int
        Number of orderings of the patterns.
    theta : ndarray, shape (N,), or None
        A minimiser inside, as parameters of ``MLP((n, h, 1), "relu", bias="free" or "none")``;
        None where it is not attained.
    rank : int
        Of the design matrix without repeated and dead units.
    unique : bool
        Whether the p_j of its different patterns are determined.
    """

    index: int
    patterns: BoolArray
    loss: float
    attained: bool
    boundary: bool
    multiplicity: int
    theta: FloatArray | None
    rank: int
    unique: bool

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold; patterns as strings of 0 and 1."""
        return {**plain(self), "patterns": pattern_words(self.patterns)}

    def __str__(self) -> str:
        state = "attained" if self.attained else "boundary" if self.boundary else "outside"
        return f"{' '.join(pattern_words(self.patterns))}  {self.loss:.6g}  {state}"


class SubglobalMinima:
    """The records of all regions, computed during the iteration.

    Attributes
    ----------
    patterns : ndarray, shape (R, T), bool
        Of one unit.
    total : int
        Number of multisets of h of them: the enumeration's indices are below it.
    """

    def __init__(
        self,
        samples: FloatArray,
        y: FloatArray,
        h: int,
        bias: bool,
        which: Which,
        start: int,
        progress: Progress | None,
        n_jobs: int,
    ) -> None:
        make = {"all": UnitChoices.formal, "boundary": UnitChoices.faces}
        # Products of weights are quotients of targets and inputs, which could leave float64.
        n = samples.shape[1] - bias
        inputs, self._unit = power_of(samples[:, :n]), power_of(y)
        self._inner = np.array([-inputs] * n + [0] * bias)  # of the columns of W
        self._choices = make.get(which, UnitChoices.realisable)(np.ldexp(samples, self._inner))
        self._y, self._h, self._bias, self._which = np.ldexp(y, -self._unit), h, bias, which
        self._start, self._progress, self._n_jobs = start, progress, n_jobs
        self.patterns = self._choices.patterns
        self.total = math.comb(len(self._choices) + h - 1, h)

    def __iter__(self) -> Iterator[RegionMinimum]:
        for records in self._batches():
            for record in records:
                if self._which != "attained" or record.attained:
                    yield record
            if self._progress is not None and records:
                self._progress(records[-1].index + 1, self.total)
        if self._progress is not None:
            self._progress(self.total, self.total)

    def pace(self) -> float:
        """Return the seconds of one region, from a trial of the first few hundred."""
        batch = next(self._indices(), [])
        began = time.perf_counter()
        if batch:
            solve_batch(self._choices, _rows(batch), self._y, self._bias)
        return (time.perf_counter() - began) / max(len(batch), 1)

    def _batches(self) -> Iterator[list[RegionMinimum]]:
        """Solve batches in order, in processes that work ahead if there are several."""
        task = (self._choices, self._y, self._bias)
        if self._n_jobs == 1:
            for batch in self._indices():
                yield self._records(batch, solve_batch(task[0], _rows(batch), *task[1:]))
            return
        # Threads would wait for each other: most of the time builds linear programmes.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(self._n_jobs, context, _adopt, task) as pool:
            running: deque[tuple[Batch, Future[list[Solved]]]] = deque()
            try:
                for batch in self._indices():
                    with blocked_interrupts():  # the workers' too, which are started here
                        running.append((batch, pool.submit(_solve_adopted, _rows(batch))))
                    if len(running) > 3 * self._n_jobs:
                        yield self._records(running[0][0], running.popleft()[1].result())
                while running:
                    yield self._records(running[0][0], running.popleft()[1].result())
            finally:
                for _, future in running:
                    future.cancel()

    def _indices(self) -> Iterator[Batch]:
        """Yield batches of numbered multisets, as sorted tuples of choices."""
        multisets = enumerate(
            itertools.combinations_with_replacement(range(len(self._choices)), self._h)
        )
        wanted: Iterator[tuple[int, tuple[int, ...]]]
        wanted = itertools.islice(multisets, self._start, None)
        if self._which == "boundary":
            cell = self._choices.is_cell
            wanted = (pair for pair in wanted if not all(cell[k] for k in pair[1]))
        while batch := list(itertools.islice(wanted, _BATCH)):
            yield batch

    def _records(self, batch: Batch, solved: list[Solved]) -> list[RegionMinimum]:
        return [
            RegionMinimum(
                index=number,
                patterns=self.patterns[list(row)],
                loss=math.ldexp(found.loss, 2 * self._unit),
                attained=found.attained,
                boundary=found.boundary or (self._which == "boundary" and found.attained),
                multiplicity=_orderings(row),
                theta=self._weights(found.theta),
                rank=found.rank,
                unique=found.unique,
            )
            for (number, row), found in zip(batch, solved, strict=True)
        ]

    def _weights(self, theta: FloatArray | None) -> FloatArray | None:
        """Return the weights in the caller's units."""
        if theta is None:
            return None
        outer = (self._unit + int(self._inner[0])) // 2
        inner = np.tile(self._unit - outer + self._inner, self._h)
        return np.ldexp(theta, [*inner, *[outer] * self._h, *[self._unit] * self._bias])


def _rows(batch: Batch) -> NDArray[np.intp]:
    return np.array([row for _, row in batch], dtype=np.intp)


# The task of a process of the pool, sent once instead of with every batch.
_adopted: list[tuple[UnitChoices, FloatArray, bool]] = []


def _adopt(choices: UnitChoices, y: FloatArray, constant: bool) -> None:
    _adopted[:] = [(choices, y, constant)]


def _solve_adopted(index: NDArray[np.intp]) -> list[Solved]:
    choices, y, constant = _adopted[0]
    return solve_batch(choices, index, y, constant)


def _orderings(row: tuple[int, ...]) -> int:
    count = math.factorial(len(row))
    for repeats in Counter(row).values():
        count //= math.factorial(repeats)
    return count


def enumerate_subglobal_minima(
    X: ArrayLike,
    y: ArrayLike,
    h: int,
    bias: bool = False,
    which: Which = "realisable",
    *,
    start: int = 0,
    progress: Progress | None = None,
    n_jobs: int = 1,
) -> SubglobalMinima:
    """Enumerate the regions of a one-hidden-layer ReLU network with their subglobal minima.

    There is one `RegionMinimum` for each unordered choice of h patterns. Each iteration computes
    them anew, so that memory does not grow with their number.

    Source: Section 4.1 of "Understanding local minima in neural networks by loss surface
    decomposition", which goes through all 2^(T h) patterns.

    Parameters
    ----------
    X : array_like, shape (T, n)
        Samples by rows.
    y : array_like, shape (T,) or (T, 1)
    h : int
        Hidden units.
    bias : bool
        Whether the hidden units and the output have biases.
    which : {"realisable", "all", "attained", "boundary"}
        "realisable": the open regions that exist. "all": the 2^(T h) formal patterns, up
        to order, of at most 20 samples. "attained": the realisable regions whose subglobal
        minimum lies inside them, the differentiable local minima of the network.
        "boundary": the faces between regions, where at least one unit has w . x_i = 0 for some
        sample; the least loss on the face, `attained` where it lies inside the face. Every
        local minimum that is not differentiable has one of these values.
    start : int
        First index; ``record.index + 1`` continues an enumeration.
    progress : callable, optional
        Called as ``progress(done, total)`` after every few hundred regions.
    n_jobs : int
        Processes that solve regions. More than one pays from about 10,000 regions on, and a script
        then needs the usual ``if __name__ == "__main__":``.

    Raises
    ------
    TypeError
        If an array does not hold real numbers, or `h`, `start` or `n_jobs` is not an integer.
    ValueError
        If a shape is wrong, an entry is not finite, or an argument is out of range.

    Examples
    --------
    >>> from fastggn import analysis
    >>> X, y = [[-1.0, 1.0], [2.0, 1.0], [1.0, 3.0]], [1.0, 2.0, 3.0]
    >>> for record in analysis.enumerate_subglobal_minima(X, y, h=1, which="attained"):
    ...     print(record)
    000  7  attained
    010  5  attained
    100  6.5  attained
    111  0.16  attained
    """
    samples = as_samples(X)
    targets = as_targets(y, len(samples))
    if which not in get_args(Which):
        raise unknown_name("which", which, get_args(Which))
    if which == "all" and len(samples) > _MOST_SAMPLES:
        raise ValueError(
            f"which='all' goes through 2^T patterns of a unit: at most {_MOST_SAMPLES} samples, "
            f"got {len(samples)} (which='realisable' has no such limit)"
        )
    return SubglobalMinima(
        with_bias(samples, bias),
        targets,
        check_count("h", h, 1),
        bool(bias),
        which,
        check_count("start", start, 0),
        progress,
        check_count("n_jobs", n_jobs, 1),
    )
