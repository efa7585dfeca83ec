"""The parts of the outputs in the effective number of parameters."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from fastggn.runtime.comm import comm_of
from fastggn.runtime.threads import pooled

if TYPE_CHECKING:
    from fastggn.objective.point import Point
    from fastggn.objective.problem import Problem
    from fastggn.solvers.base import CurvatureSums


# Rows of the Jacobian that divide gamma among the outputs: at least, and for each parameter, more
# where gamma is much of few rows. Above the least they are summed with random signs, so many times
# for each output (Hutchinson 1990): a division by N rows costs more than a factor.
LEAST_ROWS, ROWS_PER_PARAMETER, MIXTURES = 256, 0.25, 16


class OutputShares:
    """Divide gamma among outputs by rows of the Jacobian; `few` if there are few for N."""

    def __init__(self, problem: Problem, few: bool) -> None:
        self._problem = self._sample = problem
        count = max(LEAST_ROWS, int((1 + 2 * few) * ROWS_PER_PARAMETER * problem.n_params))
        count = max(1, count // problem.n_outputs)
        if count < problem.n_samples:
            rows = np.linspace(0, problem.n_samples - 1, count).astype(np.intp)
            self._sample = problem.subset(rows)

    @pooled
    def divide(self, point: Point, sums: CurvatureSums, weights: np.ndarray) -> np.ndarray:
        """Return about the part of each output in gamma, shape (n_L,)."""
        if sums.leverages is not None:
            # The dual form has the rows of all ranks on each.
            shares = sums.leverages().reshape(-1, self._problem.n_outputs)
            return comm_of(self._problem).broadcast(shares.sum(axis=0))
        assert sums.whiten is not None
        if self._sample is not self._problem:
            self._sample.weigh_outputs(weights)
            point = self._sample.at(point.theta)
        parts = np.zeros(self._problem.n_outputs)
        blocks: Iterable[np.ndarray] = (rows for rows, _ in point.row_blocks())
        mixed = point.n_rows > max(LEAST_ROWS, MIXTURES * parts.size)
        if mixed:
            blocks = [_mixed(point, parts.size)]
        for rows in blocks:
            z = sums.whiten(rows)
            parts += np.einsum("ij,ij->i", z, z).reshape(-1, parts.size).sum(axis=0)
        return comm_of(self._problem).sum(parts) / (MIXTURES if mixed else 1)


def _mixed(point: Point, n_outputs: int) -> np.ndarray:
    """Return this rank's part of sums of the rows of each output with random signs, (r n_L, N)."""
    # The signs number the samples over all ranks, so that the parts do not depend on these.
    comm, width = point.comm, n_outputs * point.n_params
    own = comm.span(point.own_rows // n_outputs)
    signs = np.random.default_rng(0).choice([-1.0, 1.0], (MIXTURES, point.n_rows // n_outputs))
    total, start = np.zeros((MIXTURES, width)), own.start
    for rows, _ in point.row_blocks():
        samples = rows.reshape(-1, width)
        stop = start + len(samples)
        total += signs[:, start:stop] @ samples
        start = stop
    return comm.sum(total)[comm.share(MIXTURES)].reshape(-1, point.n_params)
