"""Sub-sampled curvature: the samples of the Gauss-Newton matrix (docs/decisions/0025)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fastggn.objective.ggn_tiles import panel_costs
from fastggn.objective.problem import Problem
from fastggn.objective.sampled import SampledPoint
from fastggn.runtime.comm import comm_of
from fastggn.training.resumable import Resumable

if TYPE_CHECKING:
    from fastggn.objective.functions import Functions
    from fastggn.objective.point import Point
    from fastggn.objective.residual_problem import ResidualProblem
    from fastggn.solvers.base import CurvatureSums, FloatArray, State


# Rows of the first sample, for each parameter, and the largest share of all rows that they are.
# "auto" samples from so many rows for each parameter, and from so many multiplications: below, an
# assembly takes no longer than the draws. For equations, which are solved to many digits, and for
# several outputs, whose rows of a sample are alike, the first three are `CAREFUL` times as large.
FIRST_ROWS, FIRST_SHARE, MANY_ROWS, MUCH_WORK = 4, 0.25, 10, 1e8
CAREFUL = 2
# Rows, for each parameter, of the sample that counts the effective parameters of a result.
LAST_ROWS = 16
# Rows whose leverages tell how far off a sample is, and the least scale of l2 that makes it good.
WEIGHED, LEAST_SCALE = 256, 0.1
# A larger share of the samples is all of them.
MOST = 0.5
# The sample doubles where the curvature along the steps is off by more than this share of the
# promised decrease, in a mean to which each step adds its part.
TOLERANCE, PART = 0.3, 0.25
# A trial of twice the samples follows so many iterations in turn that lower the loss by less than
# this share; it ends after TRIAL iterations, and stays if these were so many times better. Each
# trial that fails doubles the wait.
SLOW, PATIENCE, TRIAL, BETTER = 0.02, 5, 3, 1.5
# It doubles where the model is good and the loss falls by more than this share: near an exact fit.
FAST, GOOD_GAIN = 0.9, 0.9
# The decrease along a step is estimated on another sample, so many times as large, and not small.
PROBED, FEWEST = 2, 4096
# From a file: so many neighbouring rows together, in so many places at least.
NEIGHBOURS, PROBED_NEIGHBOURS, PLACES = 4, 16, 64


class CurvatureSamples(Resumable):
    """The samples of which a run takes its curvature, drawn afresh for each system.

    The draws follow from the seed and their number alone, over any number of threads and ranks.
    Each term of a `ResidualProblem` gives its share.
    """

    _resumes = (
        *("size", "_draws", "_excess", "_rate", "_slow"),
        *("_patience", "_trial", "_smaller", "_trial_falls", "_determined"),
    )

    def __init__(self, problem: Problem | ResidualProblem, size: int, seed: int) -> None:
        self._problem = problem
        self._seed = seed
        self._spaces = problem.workspaces()
        in_file = isinstance(problem, Problem) and problem._objective.samples.streamed
        self._streamed = comm_of(problem).any(in_file)
        self.size = size
        self._draws = 0
        self._excess = 0.0
        self._rate = 0.0  # a mean of the last falls of the loss
        self._slow = 0  # slow iterations in turn
        self._patience = PATIENCE
        self._trial = 0  # iterations left in the trial of more samples
        self._trial_falls = 0.0
        self._smaller = 0  # the samples before it
        self._determined = 0.0  # equal rows of so many parameters would be as far off as a sample
        self._resize(size)

    @property
    def whole(self) -> bool:
        """Whether the sample is all samples."""
        return self.size == self._problem.n_samples

    def of(self, point: Point) -> Point:
        """Return the system of a point with the curvature of a new sample."""
        self._draws += 1
        return self._sampled(point, self.size, self._draws)

    def last_of(self, point: Point) -> Point:
        """Return the system that counts the effective parameters of a result: by more samples."""
        count = int(self._spread() * _samples(self._problem, LAST_ROWS))
        return self._sampled(point, max(self.size, count), 0)

    def _spread(self) -> float:
        """Return how many weighted rows tell as much as one row of equal weights."""
        if not isinstance(self._problem, Problem):
            return 1.0
        weights = self._problem.relative_weights
        whole = comm_of(self._problem).total(float(weights @ weights))
        return max(1.0, whole / self._problem.n_samples)

    def _sampled(self, point: Point, size: int, draw: int) -> Point:
        if size > MOST * self._problem.n_samples:
            return point
        part, width = self._drawn(size, NEIGHBOURS, draw)
        return SampledPoint(part, point, self._spaces, width)

    def judge_of(self, point: Point) -> Point:
        """Return the system that tells what a step of the last one promises.

        It has other samples: a sample underestimates the curvature along its own step.
        """
        count = max(PROBED * self.size, FEWEST)
        if self.whole or count > MOST * self._problem.n_samples:
            return point
        part, width = self._drawn(count, PROBED_NEIGHBOURS, self._draws, 1)
        # The workspace is that of the trial point to come, and its blocks are no larger.
        if isinstance(part, Problem):
            part._objective.plan.kept_blocks = 0
        return SampledPoint(part, point, width=width)

    def sums(self, state: State, part: Point, point: Point) -> CurvatureSums | None:
        """Return the sums over the eigenvalues at l2 of all samples, from the state of a sample.

        The sample knows the leverages of its own rows too well (docs/decisions/0025).
        """
        share = part.n_rows / point.n_rows
        scale = max(1.0 - self._determined / part.n_rows, LEAST_SCALE)
        scale /= 1.0 - self._determined / point.n_rows
        found = state.sums(scale * point.decay)
        if found is None:
            return None
        assert found.whiten is not None
        q = self._leverages(found.whiten, part)
        h, of_all = q / (1.0 + q), scale * share * q
        if not h.sum() > 0.0:  # no row tells how far off the sample is
            return state.sums(point.decay)
        after = h.sum() / np.sum(q / (1.0 + of_all))
        self._determined = float((1.0 - after) / (1.0 - share * after)) * part.n_rows
        change = (np.log1p(of_all) - of_all / (1.0 + of_all)) / share - np.log1p(q) + h
        change = found.effective * change.sum() / h.sum() - point.n_params * np.log(scale)
        return replace(found, log_determinant=found.log_determinant + float(change))

    def _leverages(self, whiten: Callable[[FloatArray], FloatArray], part: Point) -> FloatArray:
        """Return those of other rows for a sample, by the eigenvalues of the rows of each point."""
        problem = self._problem
        columns = problem.n_rows // problem.n_samples if isinstance(problem, Problem) else 1
        count = min(WEIGHED // columns, problem.n_samples)
        few, _ = self._drawn(max(count, 1), NEIGHBOURS, self._draws, 2)
        found, there = [np.zeros((0, columns))], few.at(part.theta)
        for rows, _ in there.row_blocks():
            z = whiten(rows)
            z = z.reshape(-1, columns, z.shape[1])
            found.append(np.linalg.eigvalsh(np.einsum("ian,ibn->iab", z, z)))
        q = comm_of(problem).concatenate(np.concatenate(found).ravel())
        return np.asarray(np.maximum(there.curvature_samples / part.curvature_samples * q, 0.0))

    def _drawn(self, count: int, most: int, *draw: int) -> tuple[Functions, int]:
        """Return the problem of drawn samples, and how many neighbours are together."""
        width = min(most, max(1, count // PLACES)) if self._streamed else 1
        rng = np.random.default_rng((self._seed, *draw))
        return self._problem.drawn(count, width, rng), width

    def again(self) -> None:
        """Draw the last sample once more, in a resumed run."""
        self._draws -= 1

    def compare(self, promised: float, predicted: float, damped: float) -> None:
        """Note how far the curvature along a step is off.

        `promised` is -g^T s, `damped` lambda |s|^2, `predicted` the decrease that all samples
        predict.
        """
        # (G_m + mu) s = -g, so s^T G_m s is known, and predicted = promised - s^T G s / 2.
        if promised > 0.0:
            excess = (promised - 2.0 * predicted + damped) / promised
            self._excess += PART * (excess - self._excess)

    def accepted(self, fall: float, gain: float) -> None:
        """Choose the number of samples of the next system, after a relative fall of the loss."""
        if abs(self._excess) > TOLERANCE or (fall > FAST and gain > GOOD_GAIN):
            self._trial = 0
            self._resize(2 * self.size)
        elif self._trial:
            self._go_on(fall)
        else:
            self._slow = self._slow + 1 if fall < SLOW else 0
            self._rate = 0.5 * (self._rate + fall)
            if self._slow >= self._patience and not self.whole:
                self._trial, self._smaller = TRIAL, self.size
                self._trial_falls = 0.0
                self._resize(2 * self.size)

    def _go_on(self, fall: float) -> None:
        """Add an iteration to the trial, whose end decides on the number of samples."""
        self._trial -= 1
        self._trial_falls += fall
        if self._trial == 0 and not self._trial_falls > BETTER * TRIAL * self._rate:
            self._patience *= 2
            self._resize(self._smaller)

    def take_all(self) -> None:
        """Take all samples from now on."""
        self._trial = 0
        self.size = self._problem.n_samples

    def _resize(self, size: int) -> None:
        self._slow, self._excess = 0, 0.0
        n_samples = self._problem.n_samples
        self.size = size if size <= MOST * n_samples else n_samples


def curvature_samples(
    problem: Problem | ResidualProblem, asked: Any, solver: str, seed: Any
) -> CurvatureSamples | None:
    """Return the sampling that was asked for ("auto", "all" or a number), None for all samples."""
    several = problem.n_rows > problem.n_samples
    factor = CAREFUL if several or not isinstance(problem, Problem) else 1
    much = solver == "cholesky" and _is_much(problem, factor * MANY_ROWS)
    if asked == "all" or (asked == "auto" and not much):
        return None
    if solver != "cholesky":
        raise ValueError(
            f"curvature_samples={asked} goes with solver 'cholesky', but the solver is {solver!r}"
        )
    most = int(factor * FIRST_SHARE * problem.n_samples)
    size = min(_samples(problem, factor * FIRST_ROWS), most) if asked == "auto" else asked
    return CurvatureSamples(problem, size, int(seed) if hasattr(seed, "__index__") else 0)


def _samples(problem: Any, rows: int) -> int:
    """Return the samples with so many rows for each parameter."""
    return int(-(-rows * problem.n_params * problem.n_samples // problem.n_rows))


def _is_much(problem: Any, many: int) -> bool:
    """Whether the assembly of the curvature is most of an iteration."""
    rows, n = problem.n_rows, problem.n_params
    if not rows > many * n:
        return False
    work = rows * float(n) ** 2
    if isinstance(problem, Problem):  # several outputs cost about as much as one
        objective = problem._objective
        columns = rows // problem.n_samples
        plain = objective.loss.output_weights is not None and columns > 1
        plain = plain and objective.plan.plain_output
        work = problem.n_samples * min(panel_costs(problem.network, columns, plain_output=plain))
    return bool(work > MUCH_WORK)
