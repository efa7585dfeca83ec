"""Common faults of a training run, from a few samples, and advice against them.

Every threshold is far beyond the first signs of trouble: a user soon switches off a warning that
fires on a healthy problem.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastggn.data.scaler import Moments
from fastggn.objective import column_moments
from fastggn.objective.problem import Problem
from fastggn.runtime.comm import SERIAL, Comm

if TYPE_CHECKING:
    from fastggn.training.result import TrainResult


FloatArray = NDArray[np.float64]

MOST_OUTPUTS = 1_000_000  # outputs held in memory at once
RUNS = 64  # pieces of a file that are read instead of single rows
# Fewer samples prove nothing: saturated units rightly fit the four samples of XOR.
FEWEST = 10
SPREAD = 1e3  # largest over smallest deviation of the columns, and that of inputs over 1
OFFSET = 100.0  # mean over deviation of a column
CONSTANT = 1e-13  # deviation over mean: rounding of one repeated value
ROUNDING = 1e-9  # share of the largest deviation: a smaller mean counts as zero
# A unit is not saturated while its output lies in this range.
RANGES = {"tanh": (-0.999, 0.999), "sigmoid": (0.0005, 0.9995), "softsign": (-0.999, 0.999)}
NEARLY_ALL = 0.99  # share of the samples at which a unit counts as saturated
MANY = 0.5  # share of the units of a layer
FITTED = 1e-3  # a run that reaches this share of the first loss needs no advice
LABELS = ("softmax_cross_entropy", "logistic")
STANDARDISE = "standardise them (fastggn.data.Standardised; --standardise on the command line)"


def scaling_advice(problem: Problem) -> list[str]:
    """Return a sentence of advice for each badly scaled column of a sample of rows."""
    if not isinstance(problem, Problem):  # another objective, without samples
        return []
    scales = column_scales(problem)
    if scales is None or scales[0].count < FEWEST:
        return []
    # A constant input repeats a free bias; a column of zeros (as in images) only wastes weights.
    repeats_the_bias = problem.network.to_config()["bias"] == "free"
    found = list(_complaints("inputs", "X", scales[0], constant=repeats_the_bias))
    if problem.network.n_layers > 1 and not found:
        found += _of_another_size(scales[0])
    if problem.loss_function.name not in LABELS:
        found += _complaints("targets", "Y", scales[1], constant=False)
    return found


def _complaints(what: str, name: str, scales: Scales, constant: bool) -> Iterator[str]:
    mean, deviation = np.abs(scales.mean), scales.deviation
    looked = f"at {scales.count} samples"
    flat = deviation <= CONSTANT * mean
    moving = np.flatnonzero(~flat & (deviation > 0.0))
    if moving.size:
        low, high = (moving[pick(deviation[moving])] for pick in (np.argmin, np.argmax))
        if deviation[high] > SPREAD * deviation[low]:
            yield (
                f"the {what} are badly scaled: column {high} of {name} has a standard deviation "
                f"of {deviation[high]:.3g}, column {low} one of {deviation[low]:.3g} ({looked}): "
                f"{STANDARDISE}"
            )
        far = moving[np.argmax(mean[moving] / deviation[moving])]
        if mean[far] > OFFSET * deviation[far]:
            yield (
                f"the {what} are badly scaled: column {far} of {name} has a mean of "
                f"{scales.mean[far]:.3g} and a standard deviation of only {deviation[far]:.3g} "
                f"({looked}): {STANDARDISE}"
            )
    # A standardised constant column holds only rounding errors.
    level = flat & (mean > ROUNDING * deviation.max(initial=0.0))
    if constant and level.any():
        column = int(np.argmax(level))
        yield (
            f"the {what} have a constant column: column {column} of {name} is "
            f"{scales.mean[column]:.6g} ({looked}) and repeats the bias, which makes the systems "
            f"singular: drop it, or {STANDARDISE}, which makes it zero"
        )


def _of_another_size(scales: Scales) -> Iterator[str]:
    size = float(scales.deviation.max(initial=0.0))
    if size > SPREAD or 0.0 < size < 1.0 / SPREAD:
        column = int(np.argmax(scales.deviation))
        yield (
            f"the inputs are far from 1: column {column} of X has a standard deviation of "
            f"{size:.3g} (at {scales.count} samples), and the first weights are drawn for inputs "
            f"of about 1: {STANDARDISE}"
        )


def unit_advice(problem: Problem, result: TrainResult) -> list[str]:
    """Return advice for each layer where half of the units are saturated or dead after a run."""
    if not isinstance(problem, Problem) or problem.gated or problem.n_samples < FEWEST:
        return []
    names = [activation.name for activation in problem.network.activations[:-1]]
    done = result.loss <= FITTED * result.initial_loss or result.status in ("diverging", "failed")
    if done or result.n_iter == 0 or not {*names} & {*RANGES, "relu"}:
        return []
    limits = [RANGES.get(name, (-np.inf, np.inf)) for name in names]
    found: list[str] = []
    for number, (name, units) in enumerate(
        zip(names, unit_outputs(problem, result.theta, limits), strict=True), start=1
    ):
        found += _about(number, name, units)
    return found


def _about(number: int, name: str, units: Units) -> Iterator[str]:
    saturated = units.above >= NEARLY_ALL
    dead = units.largest == 0.0
    if name in RANGES and _many(saturated):
        yield (
            f"layer {number}: {saturated.sum()} of {saturated.size} {name} units are saturated at "
            f"nearly all of {units.count} samples, where they hardly learn: standardise the inputs "
            "(fastggn.data.Standardised; --standardise), start from smaller weights or another "
            "seed, or add weight decay (l2)"
        )
    if name == "relu" and _many(dead):
        yield (
            f"layer {number}: {dead.sum()} of {dead.size} relu units are dead (zero at all of "
            f"{units.count} samples), and do not learn any more: standardise the inputs "
            "(fastggn.data.Standardised; --standardise), use another seed or the scheme 'he', or "
            "the activation 'leaky_relu' or 'softplus'"
        )


def _many(flags: NDArray[np.bool_]) -> bool:
    return bool(flags.any()) and float(flags.mean()) >= MANY


@dataclass(frozen=True)
class Scales:
    """Mean and standard deviation of columns, shapes (n,), from `count` samples of all ranks."""

    count: int
    mean: FloatArray
    deviation: FloatArray


def column_scales(problem: Problem) -> tuple[Scales, Scales] | None:
    """Return the scales of inputs and targets, or None before any pass over a file (collective)."""
    inputs, targets = (_united(problem.comm, part) for part in problem.columns.moments())
    return None if inputs is None or targets is None else (inputs, targets)


def _united(comm: Comm, own: Moments | None) -> Scales | None:
    """Return the scales of the columns over all ranks, or None if no rank has rows."""
    packed = None
    if own is not None and own.count:
        packed = int(own.count), own.mean, own.deviation
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
    """The hidden units of one layer at `count` samples of all ranks."""

    count: int
    above: FloatArray  # (n_l,), shares of samples with an output beyond one of the two limits
    largest: FloatArray  # (n_l,), absolute outputs


def unit_outputs(
    problem: Problem, theta: FloatArray, limits: list[tuple[float, float]]
) -> list[Units]:
    """Return the saturation of each hidden layer at a sample of rows (collective)."""
    widths = problem.network.widths[1:-1]
    own = problem.columns.n_rows
    counts = [np.zeros(1 + 2 * n) for n in widths]
    if own:
        part = problem
        if own > 2 * _most_rows(problem) or problem.comm.size > 1:
            part = problem.restricted(_some_rows(problem, own), SERIAL)
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
    return max(RUNS, min(column_moments.ENOUGH, MOST_OUTPUTS // sum(problem.network.widths)))


def _some_rows(problem: Problem, n_rows: int) -> NDArray[np.intp]:
    """Return the indices of all rows, or of evenly spread rows (runs of neighbours in files)."""
    most = _most_rows(problem)
    if n_rows <= 2 * most:
        return np.arange(n_rows)
    if not problem.columns.streamed:
        return np.arange(0, n_rows, n_rows // most)
    starts = np.linspace(0, n_rows - most // RUNS, RUNS).astype(np.intp)
    runs = starts[:, None] + np.arange(most // RUNS)
    return np.unique(runs)
