"""Sizes that others are compared with, and values that float64 cannot hold."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastggn.objective.point import Point
from fastggn.objective.problem import Problem
from fastggn.objective.residual_problem import ResidualProblem
from fastggn.training.step import is_usable

FloatArray = NDArray[np.float64]


def usual_errors(problem: Problem) -> FloatArray:
    """Return the loss's gradients by outputs that are all 0, (T, n_L); 0 at samples of weight 0."""
    with np.errstate(all="ignore"):  # squares of targets may leave the range of float64
        zeros = np.zeros_like(problem.targets)
        slopes = problem.loss_function.gradient(zeros, problem.loss_targets)
    return np.where(problem.relative_weights[:, None] > 0.0, slopes, 0.0)


def usable_point(problem: Problem | ResidualProblem, theta: FloatArray) -> Point:
    """Return the point at theta; raise ValueError where its loss or gradient is not finite."""
    point = problem.at(theta)
    with np.errstate(all="ignore"):
        usable = is_usable(point)
    if not usable:
        raise ValueError(
            "theta: the loss there or its gradient is not finite: the inputs, the targets or the "
            "weights are too large"
        )
    return point


def finite(matrix: FloatArray, name: str) -> FloatArray:
    """Return a matrix, or raise LinAlgError where an entry is not finite."""
    if not np.isfinite(matrix).all():
        raise np.linalg.LinAlgError(
            f"{name} is not finite: the inputs, the targets or the weights are too large"
        )
    return matrix


def row_norms(rows: FloatArray) -> FloatArray:
    """Return the norms of rows, without over- and underflow of squares."""
    largest = np.abs(rows).max(axis=1, initial=0.0)
    unit = rows / np.where(largest > 0.0, largest, 1.0)[:, None]
    return np.asarray(largest * np.linalg.norm(unit, axis=1))
