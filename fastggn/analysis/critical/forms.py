"""Third and fourth derivatives over the null space: a proof of descent, or of a minimum.

Along a null vector n the reduced loss changes by T3(n) / 6 + q(n) / 24 + ..., of third and fourth
order. Where q(n) < 0 it falls along n or -n, whatever the sign of T3(n). Where T3 is zero
everywhere and q positive, theta is a strict minimum.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations_with_replacement

import numpy as np

from fastggn.analysis.critical.reduction import Directional, Reduction
from fastggn.analysis.critical.surface import Matrix, Vector

DIRECTIONS = 6  # random ones, where the dimension is too large for whole forms
WHOLE = 3  # largest dimension of a null space whose forms are determined
CLEAR = 4.0  # times an error
GRID = 400  # points of a circle, and of each angle of a sphere


@dataclass(frozen=True)
class Forms:
    """What the forms show: a null vector of clear descent, or a positive quartic form."""

    direction: Vector | None
    order: int
    derivatives: Directional
    positive: bool


def forms_at(reduction: Reduction, bound: float, rng: np.random.Generator) -> Forms | None:
    """Return what third and fourth derivatives show, or None where they are not clear.

    `bound` is the error bound of the zero eigenvalues.
    """
    d = reduction.dimension
    if d == 0:
        return None
    units = _directions(d, rng)
    found = [reduction.derivatives(reduction.basis @ unit) for unit in units]
    for unit, seen in zip(units, found, strict=True):
        # Off a minimum by s, third derivative q s, the eigenvalue is q s^2 / 2 <= bound.
        off = float(np.sqrt(2.0 * abs(seen.fourth) * bound))
        order = 0
        if abs(seen.third) > CLEAR * (seen.third_error + off):
            order, unit = 3, -np.sign(seen.third) * unit
        elif seen.fourth < -CLEAR * seen.fourth_error:
            order, unit = 4, (-unit if seen.third > 0.0 else unit)
        if order:
            return Forms(reduction.basis @ unit, order, seen, False)
    zero = all(abs(seen.third) <= seen.third_error for seen in found)
    if d <= WHOLE and zero and _positive(units, found):
        return Forms(None, 4, found[0], True)
    return None


def _directions(d: int, rng: np.random.Generator) -> Matrix:
    """Return unit vectors that determine quartic forms, or random ones, by rows."""
    if d == 1:
        return np.ones((1, 1))
    count = 2 * len(_powers(np.ones((1, d)))[0]) if d <= WHOLE else DIRECTIONS
    units = rng.standard_normal((count, d))
    return np.asarray(units / np.linalg.norm(units, axis=1, keepdims=True))


def _powers(units: Matrix) -> Matrix:
    """Return the monomials of degree four of unit vectors, by rows."""
    d = units.shape[1]
    return np.stack(
        [np.prod(units[:, list(k)], axis=1) for k in combinations_with_replacement(range(d), 4)],
        axis=1,
    )


def _positive(units: Matrix, found: list[Directional]) -> bool:
    """Return whether the quartic form through these values is positive on the whole sphere."""
    values = np.array([seen.fourth for seen in found])
    error = max(seen.fourth_error for seen in found)
    matrix = _powers(units)
    form, _, rank, s = np.linalg.lstsq(matrix, values, rcond=1e-10)
    if rank < matrix.shape[1]:
        return False
    error = (
        CLEAR * (error + float(np.abs(matrix @ form - values).max())) * np.sqrt(len(values)) / s[-1]
    )
    points, gap = _sphere(units.shape[1])
    seen = _powers(points) @ form
    # On the sphere the slope of a quartic form is at most 4 times its largest value.
    steepest = 4.0 * float(np.abs(seen).max()) * 1.1
    return bool(seen.min() > steepest * gap + error)


def _sphere(d: int) -> tuple[Matrix, float]:
    """Return points of the half sphere, and the largest distance of a point to the nearest one."""
    if d == 1:
        return np.ones((1, 1)), 0.0
    angles = np.linspace(0.0, np.pi, GRID)
    step = np.pi / (GRID - 1)
    if d == 2:
        return np.stack([np.cos(angles), np.sin(angles)], axis=1), 0.5 * step
    a, b = (part.ravel() for part in np.meshgrid(angles, angles))
    points = np.stack([np.sin(a) * np.cos(b), np.sin(a) * np.sin(b), np.cos(a)], axis=1)
    return points, np.sqrt(0.5) * step
