"""The weight decay with the best validation loss, along a path of decreasing values."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastggn.objective.kinds import AnyProblem, as_problem
from fastggn.objective.residual_problem import ResidualProblem
from fastggn.runtime.comm import require_serial
from fastggn.runtime.errors import as_float_vector, check_count, check_positive, refuse_unknown
from fastggn.training.control.validation import check_held_out
from fastggn.training.result import TrainResult, unless_interrupted
from fastggn.training.train import train

FloatArray = NDArray[np.float64]

# Weights of |theta|^2 / 2 in the mean objective, two for each decade, for standardised samples.
GRID = np.logspace(0.0, -8.0, 17)
# Arguments of `train` that exclude several runs, or that choose the decay themselves.
REFUSED = ("regularize", "checkpoint")


@dataclass(frozen=True, eq=False)
class WeightDecayPath:
    """The result of `select_weight_decay`.

    Attributes
    ----------
    l2 : float
        The chosen weight of ``|theta|^2 / 2``.
    grid : ndarray, shape (K,)
        The weights, decreasing.
    training_losses, validation_losses : ndarray, shape (K,)
        Mean losses without the decay, averaged over the folds; inf after a failed run.
    validation_errors : ndarray, shape (K,)
        Standard errors of the mean over the folds; nan for a single split.
    result : TrainResult
        The run at the chosen weight; with folds, on all samples of the problem.
    problem : Problem or ResidualProblem
        The problem with the chosen weight, which `result` minimises.
    """

    l2: float
    grid: FloatArray
    training_losses: FloatArray
    validation_losses: FloatArray
    validation_errors: FloatArray
    result: TrainResult = field(repr=False)
    problem: AnyProblem = field(repr=False)

    @property
    def at_edge(self) -> bool:
        """Whether the chosen weight is the first or the last one of a too narrow grid."""
        return self.grid.size > 1 and self.l2 in (self.grid[0], self.grid[-1])

    def to_dict(self) -> dict[str, Any]:
        """Return the table and the choice as plain values, with None for a non-finite loss."""
        return {
            "l2": self.l2,
            "at_edge": self.at_edge,
            "grid": self.grid.tolist(),
            "training_losses": _plain(self.training_losses),
            "validation_losses": _plain(self.validation_losses),
            "validation_errors": _plain(self.validation_errors),
            "loss": self.result.loss,
            "status": self.result.status,
        }

    def __str__(self) -> str:
        """Return a table."""
        lines = [f"{'l2':>10}  {'training':>12}  {'validation':>12}  {'std. error':>10}"]
        columns = (self.grid, self.training_losses, self.validation_losses, self.validation_errors)
        for l2, inside, outside, error in zip(*columns, strict=True):
            deviation = f"{error:10.3g}" if np.isfinite(error) else " " * 10
            mark = "  <- chosen" if l2 == self.l2 else ""
            lines.append(f"{l2:10.3g}  {inside:12.6g}  {outside:12.6g}  {deviation}{mark}")
        if self.at_edge:
            lines.append("the choice is at the edge of the grid: try a wider one")
        return "\n".join(lines)

    def plot(self) -> Any:
        """Return a matplotlib figure: both losses against the weight decay."""
        from fastggn.figures.weight_decay import plot_weight_decay

        return plot_weight_decay(self)


def _plain(values: FloatArray) -> list[float | None]:
    return [float(v) if np.isfinite(v) else None for v in values]


def select_weight_decay(
    problem: AnyProblem,
    held_out: Any = 5,
    *,
    grid: ArrayLike | None = None,
    theta0: ArrayLike | None = None,
    seed: int | None = None,
    **options: Any,
) -> WeightDecayPath:
    """Choose l2 by the loss on held-out samples.

    From the largest weight to the smallest, one run starts at the end of the previous run, and a
    second run starts at theta0: a large weight can end at theta = 0, which no smaller weight
    leaves. The run with the lower objective counts.

    Parameters
    ----------
    problem : Problem or ResidualProblem
        Training samples; its l2 must be 0.
    held_out : int, (X, Y), HeldOut, Problem or ResidualProblem
        The number of random folds of the problem's own samples, or separate samples. With folds,
        the mean over the folds decides, and the result is a run on all samples along the path down
        to the chosen weight. Equations need separate points or data: a fold would lack some of
        their conditions.
    grid : array_like, shape (K,), optional
        Positive weights; None means two for each decade from 1 to 1e-8, for standardised samples.
    theta0 : array_like, shape (N,), optional
        The start; None draws ``problem.init(seed)``.
    seed : int, optional
        Draws theta0 and the folds.
    **options
        Arguments of `train` for all runs: `method`, `max_iter`, `stop` and so on.

    Returns
    -------
    WeightDecayPath

    Raises
    ------
    TypeError, ValueError
        If an argument is not valid, or two arguments exclude each other; before any work.
    KeyboardInterrupt
        After Ctrl-C in one of the runs.

    Examples
    --------
    >>> import numpy as np
    >>> import fastggn as fg
    >>> rng = np.random.default_rng(0)
    >>> X = rng.uniform(-2, 2, (60, 1))
    >>> Y = np.sin(2 * X) + 0.3 * rng.standard_normal((60, 1))
    >>> problem = fg.Problem(fg.MLP((1, 8, 1)), X, Y)
    >>> path = fg.select_weight_decay(problem, 3, grid=[1e-1, 1e-3, 1e-5], seed=0, max_iter=50)
    >>> path.l2
    0.001
    """
    as_problem(problem)
    known = [
        *inspect.signature(select_weight_decay).parameters,
        *inspect.signature(train).parameters,
    ]
    refuse_unknown("select_weight_decay", options, dict.fromkeys(known))
    for name in REFUSED:
        if options.get(name) not in (None, False):
            raise ValueError(f"{name} does not go with select_weight_decay")
    if problem.l2 > 0.0:
        raise ValueError(f"select_weight_decay chooses l2, but the problem has l2 = {problem.l2}")
    weights = _checked_grid(grid)
    splits = _splits(problem, held_out, seed)
    start = (
        problem.init(seed)
        if theta0 is None
        else as_float_vector("theta0", theta0, problem.n_params)
    )
    options = {**options, "seed": seed}
    inside = np.full((len(splits), weights.size), np.inf)
    outside = np.full_like(inside, np.inf)
    results: list[TrainResult] = []
    for row, (own, held) in enumerate(splits):
        results = []
        for column, result in enumerate(_path(own, weights, start, options)):
            results.append(result)
            inside[row, column] = own.at(result.theta).data_loss
            outside[row, column] = held.at(result.theta).data_loss
    outside[~np.isfinite(outside)] = np.inf
    means = outside.mean(axis=0)
    best = int(np.argmin(means))
    if not np.isfinite(means[best]):
        raise ValueError("no weight of the grid leads to a finite loss on the held-out samples")
    if len(splits) > 1:
        results = list(_path(problem, weights[: best + 1], start, options))
    return WeightDecayPath(
        l2=float(weights[best]),
        grid=weights,
        training_losses=inside.mean(axis=0),
        validation_losses=means,
        validation_errors=_standard_errors(outside),
        result=results[best],
        problem=problem.with_l2(float(weights[best])),
    )


def _checked_grid(grid: ArrayLike | None) -> FloatArray:
    """Return the weights in decreasing order."""
    if grid is None:
        return GRID
    values = as_float_vector("grid", grid, np.size(grid))
    if values.size == 0:
        raise ValueError("grid must hold at least one weight")
    for value in values:
        check_positive("grid", float(value))
    return np.unique(values)[::-1]


def _splits(
    problem: AnyProblem, held_out: Any, seed: int | None
) -> Sequence[tuple[AnyProblem, AnyProblem]]:
    """Return pairs of a training problem and a validation problem."""
    if not isinstance(held_out, (int, np.integer)) or isinstance(held_out, bool):
        checked = check_held_out(as_problem(problem), held_out)
        if checked is None:
            raise ValueError("held_out must be a number of folds, (X, Y) or a Problem, not None")
        return [(problem, checked.problem)]
    if isinstance(problem, ResidualProblem):
        raise ValueError(
            "a fold of equations would lack some of their conditions: pass held_out=, a Problem of "
            "values of the solution or a ResidualProblem of other points"
        )
    require_serial(problem.comm, "select_weight_decay with folds")
    folds = check_count("held_out", held_out, 2)
    if folds > problem.n_samples:
        raise ValueError(f"held_out is {folds} folds, but there are {problem.n_samples} samples")
    order = np.random.default_rng(seed).permutation(problem.n_samples)
    parts = [np.sort(part) for part in np.array_split(order, folds)]
    rest = [np.sort(np.concatenate([*parts[:k], *parts[k + 1 :]])) for k in range(folds)]
    return [
        (problem.subset(own), problem.subset(held)) for own, held in zip(rest, parts, strict=True)
    ]


def _path(
    problem: AnyProblem, weights: FloatArray, start: FloatArray, options: dict[str, Any]
) -> Iterable[TrainResult]:
    """Yield for each weight the better of the warm and the fresh run."""
    last: FloatArray | None = None
    for l2 in weights:
        regularised = problem.with_l2(float(l2))
        result = unless_interrupted(train(regularised, start, **options))
        if last is not None:
            warm = unless_interrupted(train(regularised, last, **options))
            if not result.loss <= warm.loss:  # a NaN included
                result = warm
        last = result.theta
        yield result


def _standard_errors(values: FloatArray) -> FloatArray:
    count = values.shape[0]
    if count == 1:
        return np.full(values.shape[1], np.nan)
    with np.errstate(invalid="ignore"):
        return np.asarray(values.std(axis=0, ddof=1) / np.sqrt(count))
