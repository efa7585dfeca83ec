"""Checks of a residual function when its problem is made: domain, points, derivatives."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from fastggn.data.sources import SampleSource, in_parts
from fastggn.objective.equations import Equation

FloatArray = NDArray[np.float64]

# Ranges of the channels: a residual may hold roots, logarithms and the like.
RANGES = ((0.1, 0.9), (-0.9, -0.1), (-2.0, 2.0))
TRIED = 32  # points of the checks of derivatives
STEPS = (1e-3, 1e-5, 1e-7)
AGREE = 1e-5
ROUNDING = 100 * np.finfo(np.float64).eps


def check_residual(
    equation: Equation, source: SampleSource, k: FloatArray, rng: np.random.Generator
) -> None:
    """Raise ``ValueError`` or ``TypeError`` for the first fault of a traced residual."""
    n_points = source.shape[0]
    if n_points == 0:
        return  # an empty rank
    rows = np.sort(rng.choice(n_points, min(TRIED, n_points), replace=False))
    x = np.resize(source.take(rows), (TRIED, source.shape[1]))
    draws = [drawn(equation, TRIED, bounds, rng) for bounds in RANGES]
    _check_width(equation, x, draws[0], k)
    _check_finite(equation, source, k, rng)
    finite = [np.isfinite(equation.evaluate(x, u, k)).all(axis=1) for u in draws]
    best = int(np.argmax([ok.sum() for ok in finite]))
    _check_points(equation, x, draws[best], k, rng)
    ok = finite[best]
    _check_derivatives(equation, x[ok], draws[best][ok], k, rng)


def drawn(
    equation: Equation, n_points: int, bounds: tuple[float, float], rng: np.random.Generator
) -> FloatArray:
    """Return random channels, shape (n_points, n_L, C)."""
    return rng.uniform(*bounds, (n_points, equation.names.n_outputs, len(equation.channels)))


def _check_width(equation: Equation, x: FloatArray, u: FloatArray, k: FloatArray) -> None:
    """Refuse a number of residuals that depends on the number of points."""
    widths = [equation.evaluate(x[:n], u[:n], k).shape[1] for n in (5, 7)]
    if widths == [5, 7]:
        raise ValueError(
            "the residual returns shape (B, B) for B points: somewhere a column (B, 1) met a "
            "vector (B,); take x[:, 0] instead of x[:, :1]"
        )
    if widths[0] != widths[1]:
        raise ValueError(f"the residual returns {widths[0]} components for 5 points, {widths[1]} "
                         "for 7: their number must be fixed")  # fmt: skip


def _check_finite(
    equation: Equation, source: SampleSource, k: FloatArray, rng: np.random.Generator
) -> None:
    """Refuse a point where no draw of the channels gives a finite residual."""
    for start, x in in_parts(source):
        bad = np.ones(len(x), dtype=bool)
        for bounds in RANGES:
            r = equation.evaluate(x, drawn(equation, len(x), bounds, rng), k)
            bad &= ~np.isfinite(r).all(axis=1)
            if not bad.any():
                break
        else:
            i = int(np.argmax(bad))
            value = r[i][~np.isfinite(r[i])][0]
            raise ValueError(
                f"the residual is {value} at point {start + i}, x = {x[i].tolist()}, for any value "
                f"of the channels ({bad.sum()} such points in this part): is a source term or a "
                "boundary value undefined there?"
            )


def _check_points(
    equation: Equation, x: FloatArray, u: FloatArray, k: FloatArray, rng: np.random.Generator
) -> None:
    """Refuse a residual of a point that depends on the other points, or on the call."""
    rows = rng.permutation(len(x))[: 2 * len(x) // 3]
    whole, part = equation.evaluate(x, u, k)[rows], equation.evaluate(x[rows], u[rows], k)
    size = 1e-9 * np.nanmax(np.abs(whole), initial=0.0, where=np.isfinite(whole))
    far = ~((np.abs(whole - part) <= size) | (whole == part) | (np.isnan(whole) & np.isnan(part)))
    if far.any():
        i = int(np.argmax(far.any(axis=1)))
        raise ValueError(
            f"the residual at x = {x[rows[i]].tolist()} is {whole[i][far[i]][0]:.6g} among "
            f"{len(x)} points and {part[i][far[i]][0]:.6g} among {len(rows)} of them: it mixes the "
            "points (a mean, a cumulative sum, a difference of neighbours), or changes from call "
            "to call"
        )


def _check_derivatives(
    equation: Equation, x: FloatArray, u: FloatArray, k: FloatArray, rng: np.random.Generator
) -> None:
    """Refuse derivatives that differ from differences with a random step for each point."""
    r, dr = equation.linearise(x, u, k)
    best = np.full(dr.shape, np.inf)
    shown = np.zeros(dr.shape)
    factors = rng.uniform(0.5, 1.0, u.shape)
    for step in STEPS:
        for slot in range(dr.shape[2]):
            h, (upper, lower) = _moved(equation, x, u, k, slot, step, factors)
            slope = (upper - lower) / h
            noise = ROUNDING * (np.abs(upper) + np.abs(lower)) / h
            size = np.maximum(np.abs(slope), np.abs(dr[:, :, slot]))
            with np.errstate(all="ignore"):
                error = (np.abs(slope - dr[:, :, slot]) - noise) / np.where(size > 0, size, 1.0)
            closer = error < best[:, :, slot]
            best[:, :, slot] = np.where(closer, error, best[:, :, slot])
            shown[:, :, slot] = np.where(closer, slope, shown[:, :, slot])
    # A difference across the edge of a domain is not finite.
    wrong = (best > AGREE) & np.isfinite(best)
    if not np.isfinite(dr).all():
        i, j, slot = (int(n[0]) for n in np.nonzero(~np.isfinite(dr)))
        raise ValueError(f"the derivative of the residual by {_said(equation, slot)} is "
                         f"{dr[i, j, slot]} at x = {x[i].tolist()}")  # fmt: skip
    if wrong.any():
        slot = int(np.argmax(wrong.sum(axis=(0, 1))))
        i, j = (int(n[0]) for n in np.nonzero(wrong[:, :, slot]))
        component = f"component {j} of " if dr.shape[1] > 1 else ""
        raise ValueError(
            f"the derivative of {component}the residual by {_said(equation, slot)} is "
            f"{dr[i, j, slot]:.6g} at x = {x[i].tolist()}, where differences of the residual give "
            f"{shown[i, j, slot]:.6g} ({wrong[:, :, slot].any(axis=1).sum()} of {len(x)} random "
            "points differ)"
        )


def _moved(
    equation: Equation,
    x: FloatArray,
    u: FloatArray,
    k: FloatArray,
    slot: int,
    step: float,
    factors: FloatArray,
) -> tuple[FloatArray, tuple[FloatArray, FloatArray]]:
    """Return the width (B, 1) of a central difference by a variable, and the residuals."""
    at = slot - u[0].size
    found: list[FloatArray] = []
    if at < 0:
        place = np.unravel_index(slot, u.shape[1:])
        h = step * factors[:, place[0], place[1]]
        for sign in (1.0, -1.0):
            moved = u.copy()
            moved[:, place[0], place[1]] += sign * h
            found.append(equation.evaluate(x, moved, k))
        return 2.0 * h[:, None], (found[0], found[1])
    by = step * (abs(float(k[at])) or 1.0)
    for sign in (1.0, -1.0):
        other = k.copy()
        other[at] += sign * by
        found.append(equation.evaluate(x, u, other))
    return np.full((len(x), 1), 2.0 * by), (found[0], found[1])


def _said(equation: Equation, slot: int) -> str:
    """Return a variable as a residual writes it."""
    n_channels, names = len(equation.channels), equation.names
    output, channel = divmod(slot, n_channels)
    if output >= names.n_outputs:
        return f"k[{names.coefficients[slot - names.n_outputs * n_channels]!r}]"
    return names.said(equation.channels[channel], output)
