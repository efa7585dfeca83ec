"""Rows on ranks of Jacobians: few rows, many rows and columns, and the null space of few rows."""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

import fastggn as fg
from bench import peers
from bench.cases import random_case
from bench.core import Outcome, Pair, Row, Side, Timing, relative_difference
from fastggn import analysis

__all__ = ["ROWS"]

FloatArray = NDArray[np.float64]


def rank_of_few_rows(size: str) -> Pair:
    """J.rank(), with the rows of J, against the singular values of a stored J^T."""
    case = random_case("few-rows", size)
    problem = case.problem()
    stored = np.array(problem.jacobian(case.theta).to_dense().T, order="F")

    def difference() -> float:
        ours = problem.jacobian(case.theta).singular_values()
        return relative_difference(ours, scipy.linalg.svdvals(stored))

    return Pair(
        Side("fastggn", lambda: problem.jacobian(case.theta).rank(), threads=peers.THREADS),
        Side("svdvals", lambda: scipy.linalg.svdvals(stored)),
        difference,
        1e-12,
        note=case.name,
    )


def rank_analysis_of_many(size: str) -> Pair:
    """The whole analysis, layers included, against the singular values of a stored J."""
    case = random_case("large-rank", size)
    problem = case.problem()
    stored = problem.jacobian(case.theta).to_dense()

    def ours() -> FloatArray:
        return fg.rank_analysis(problem, case.theta).singular_values

    def peer() -> FloatArray:
        return np.asarray(scipy.linalg.svdvals(stored))

    return Pair(
        Side("fastggn", ours, threads=peers.THREADS, max_calls=1, warm=False),
        Side("svdvals", peer, max_calls=1, warm=False),
        lambda: relative_difference(ours(), peer()),
        1e-12,
        rounds=1,
        note=case.name,
    )


def null_space_of_few_rows(size: str) -> Outcome:
    """The peak of the memory that Python and NumPy allocate, over that of the rows of J."""
    case = random_case("null-space", size)
    problem, n = case.problem(), case.theta.size
    analysis.null_space(problem, case.theta)  # loads the kernels
    start = time.perf_counter()
    analysis.null_space(problem, case.theta)
    seconds = time.perf_counter() - start
    tracemalloc.start()
    try:
        found = analysis.null_space(problem, case.theta)
        found.project(case.theta)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    note = f"{case.name}, dimension {found.dimension} of {n}; in units of the rows' memory"
    timing = Timing("null_space", seconds, seconds, 1)
    return Outcome(peak / (8.0 * problem.n_samples * n), timing, note=note)


ROWS = (
    Row(
        "rank-few-rows", "J.rank(), N = 5,601, T = 100, against svdvals of J^T", ">=", 0.5,
        build=rank_of_few_rows,
    ),
    Row(
        "rank-large", "rank_analysis, N = 8,961, T = 5,000, against svdvals of J", ">=", 0.77,
        build=rank_analysis_of_many,
    ),
    Row(
        "null-space", "null_space, N = 8,961, T = 500: memory over that of J", "<=", 2.0,
        measure=null_space_of_few_rows,
    ),
)  # fmt: skip
