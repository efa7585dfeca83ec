"""The loss along a direction, between two points, and over a plane through a point."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse.linalg
from numpy.typing import ArrayLike, NDArray

from fastggn.analysis.magnitudes import finite, row_norms, usable_point
from fastggn.analysis.slice_reports import LossLine, LossPlane
from fastggn.network.mlp import MLP
from fastggn.objective.kinds import AnyProblem, as_problem
from fastggn.objective.problem import Problem
from fastggn.runtime.errors import as_float_vector, check_count, unknown_name
from fastggn.training.step import norm

FloatArray = NDArray[np.float64]
Direction = str | ArrayLike
Extent = float | tuple[float, float]
Progress = Callable[[int, int], object]

NAMES = ("random", "gradient", "lowest", "highest")
LABELS = {
    "random": "random direction",
    "gradient": "steepest descent",
    "lowest": "lowest eigenvector of the Hessian",
    "highest": "highest eigenvector of the Hessian",
}
MOST_DENSE = 1000  # parameters of an assembled Hessian; above, Lanczos by its products


def filter_normalised(net: MLP, theta: ArrayLike, direction: ArrayLike) -> FloatArray:
    """Return a direction (N,) in which each unit moves in proportion to its own weights.

    The entries of `direction` for each unit (its incoming weights and its free bias) get the
    2-norm of the same entries of `theta`. This is the filter normalisation of Li et al. (2018,
    Section 4), whose filters are the units here: without it, large weights make a network look
    flat.

    Parameters
    ----------
    net : MLP
    theta, direction : array_like, shape (N,)

    Raises
    ------
    TypeError, ValueError
        If a vector has the wrong shape or an entry that is not a finite real number.
    """
    point = as_float_vector("theta", theta, net.n_params)
    out = as_float_vector("direction", direction, net.n_params)
    for weights, moves in zip(net.unpack(point), net.unpack(out), strict=True):
        length = row_norms(moves)
        ratio = row_norms(weights) / np.where(length > 0.0, length, 1.0)
        moves *= ratio[:, None]
    return out


def loss_along(
    problem: AnyProblem,
    theta: ArrayLike,
    direction: Direction = "random",
    *,
    extent: Extent = 1.0,
    points: int = 101,
    normalise: bool | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> LossLine:
    """Return the loss at theta + a d for a range of steps a along one direction d.

    Parameters
    ----------
    problem : Problem or ResidualProblem
    theta : array_like, shape (N,)
    direction : str or array_like, shape (N,)
        "random" (independent normal entries), "gradient" (the steepest descent), "lowest" or
        "highest" (eigenvectors of the exact Hessian), all but the first of length 1; or d itself.
    extent : float or pair of float
        a runs from -extent to extent, or from the first to the second.
    points : int
        Number of steps, at least 2.
    normalise : bool, optional
        Whether to scale d unit by unit, see `filter_normalised`; None: only if d is random.
    seed : int
        Of the random direction.
    progress : callable, optional
        Called as ``progress(done, total)`` after each step.

    Raises
    ------
    TypeError, ValueError
        If an argument is not valid, or the direction is zero.

    Examples
    --------
    >>> import fastggn as fg
    >>> X, Y = fg.data.xor()
    >>> problem = fg.Problem(fg.MLP((2, 3, 1)), X, Y)
    >>> line = fg.analysis.loss_along(problem, problem.network.init(seed=0), points=5)
    >>> line.steps
    array([-1. , -0.5,  0. ,  0.5,  1. ])
    """
    problem = as_problem(problem)
    point, steps = _checked(problem, theta, extent, points)
    rng = _generator(seed)
    d, label = _resolve("direction", problem, point, direction, normalise, rng)
    return _line(problem, point, d, steps, label, progress)


def loss_between(
    problem: AnyProblem,
    start: ArrayLike,
    end: ArrayLike,
    *,
    extent: tuple[float, float] = (-0.25, 1.25),
    points: int = 121,
) -> LossLine:
    """Return the loss on the straight line through two points, at step 0 and at step 1.

    Parameters
    ----------
    problem : Problem or ResidualProblem
    start, end : array_like, shape (N,)
        For instance the first and the last point of a run (Goodfellow et al. 2015).
    extent : pair of float
        The first and the last step.
    points : int
        Number of steps, at least 2.

    Raises
    ------
    TypeError, ValueError
        If an argument is not valid, or the points are the same.
    """
    problem = as_problem(problem)
    first, steps = _checked(problem, start, extent, points, "start")
    second = as_float_vector("end", end, problem.n_params)
    if np.array_equal(first, second):
        raise ValueError("start and end are the same point: there is no line through them")
    return _line(problem, first, second - first, steps, "start to end")


def loss_plane(
    problem: AnyProblem,
    theta: ArrayLike,
    directions: tuple[Direction, Direction] = ("random", "random"),
    *,
    extent: Extent | tuple[tuple[float, float], tuple[float, float]] = 1.0,
    points: int | tuple[int, int] = 41,
    normalise: bool | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> LossPlane:
    """Return the loss at theta + a d + b e over a grid of steps.

    Source: Li et al. (2018), "Visualizing the loss landscape of neural nets".

    Parameters
    ----------
    problem : Problem or ResidualProblem
    theta : array_like, shape (N,)
    directions : pair of str or array_like
        d and e, each as in `loss_along`. ``(theta_1 - theta, theta_2 - theta)`` is the plane
        through three points.
    extent : float, pair of float, or pair of pairs
        Of both steps as in `loss_along`, or of each.
    points : int or pair of int
        Steps along each direction.
    normalise : bool, optional
        As in `loss_along`, for both.
    seed : int
        Of the random directions.
    progress : callable, optional
        As in `loss_along`.

    Raises
    ------
    TypeError, ValueError
        If an argument is not valid, or the directions are zero or parallel.

    Examples
    --------
    >>> import fastggn as fg
    >>> X, Y = fg.data.xor()
    >>> problem = fg.Problem(fg.MLP((2, 3, 1)), X, Y)
    >>> plane = fg.analysis.loss_plane(problem, problem.network.init(seed=0), points=(5, 3))
    >>> plane.losses.shape
    (3, 5)
    """
    problem = as_problem(problem)
    if isinstance(directions, str) or len(directions) != 2:
        raise ValueError(f"directions must be a pair, got {directions!r:.60}")
    counts = points if isinstance(points, tuple) else (points, points)
    if len(counts) != 2:
        raise ValueError(f"points must be a number or a pair, got {points!r}")
    extents = extent if isinstance(extent, tuple) and _is_pair(extent[0]) else (extent, extent)
    point, a = _checked(problem, theta, extents[0], counts[0])
    _, b = _checked(problem, theta, extents[1], counts[1])
    rng = _generator(seed)
    pairs = [
        _resolve(f"directions[{k}]", problem, point, d, normalise, rng)
        for k, d in enumerate(directions)
    ]
    basis = np.stack([pairs[0][0], pairs[1][0]])
    units = basis / row_norms(basis)[:, None]
    cosine = float(units[0] @ units[1])
    if 1.0 - abs(cosine) < 1e-12:
        raise ValueError("directions must not be parallel: they span no plane")
    grid = (point + s * basis[0] + t * basis[1] for t in b for s in a)
    losses = _losses(problem, grid, a.size * b.size, progress).reshape(b.size, a.size)
    labels = _distinct(pairs[0][1], pairs[1][1])
    return LossPlane(point, basis, (a, b), losses, labels, cosine)


def _distinct(first: str, second: str) -> tuple[str, str]:
    if first != second:
        return first, second
    what, comma, how = first.partition(",")
    return f"{what} 1{comma}{how}", f"{what} 2{comma}{how}"


def _is_pair(value: Any) -> bool:
    return isinstance(value, (tuple, list)) and len(value) == 2


def _checked(
    problem: Problem, theta: ArrayLike, extent: Any, points: Any, name: str = "theta"
) -> tuple[FloatArray, FloatArray]:
    point = as_float_vector(name, theta, problem.n_params)
    try:
        low, high = extent if _is_pair(extent) else (-extent, extent)
        low, high = float(low), float(high)
    except TypeError:
        raise TypeError(f"extent must be a number or a pair of them, got {extent!r:.60}") from None
    if not (np.isfinite([low, high]).all() and low < high):
        raise ValueError(f"extent must be positive, or an increasing pair; got {extent!r:.60}")
    return point, _grid(low, high, check_count("points", points, 2))


def _generator(seed: Any) -> np.random.Generator:
    if isinstance(seed, bool) or not hasattr(seed, "__index__") or seed < 0:
        raise ValueError(f"seed must be an integer of at least 0, got {seed!r}")
    return np.random.default_rng(operator.index(seed))


def _grid(low: float, high: float, count: int) -> FloatArray:
    """Return the steps, with an exact 0 where rounding would miss it."""
    steps = np.linspace(low, high, count)
    steps[np.abs(steps) < 1e-12 * (high - low)] = 0.0
    return steps


def _losses(
    problem: Problem, thetas: Iterable[FloatArray], count: int, progress: Progress | None
) -> FloatArray:
    losses = np.empty(count)
    for number, theta in enumerate(thetas):
        losses[number] = problem.loss(theta)
        if progress is not None:
            progress(number + 1, count)
    return losses


def _line(
    problem: Problem,
    theta: FloatArray,
    d: FloatArray,
    steps: FloatArray,
    label: str,
    progress: Progress | None = None,
) -> LossLine:
    with np.errstate(over="ignore", invalid="ignore"):
        slope = float(problem.gradient(theta) @ d)
        bend = float(d @ (problem.hessian_operator(theta) @ d))
    return LossLine(
        theta=theta,
        direction=d,
        steps=steps,
        losses=_losses(problem, (theta + step * d for step in steps), steps.size, progress),
        label=label,
        loss=problem.loss(theta),
        slope=slope,
        curvature=bend,
    )


def _resolve(
    name: str,
    problem: Problem,
    theta: FloatArray,
    direction: Direction,
    normalise: bool | None,
    rng: np.random.Generator,
) -> tuple[FloatArray, str]:
    drawn = isinstance(direction, str) and direction == "random"
    if isinstance(direction, str):
        if direction not in NAMES:
            raise unknown_name(name, direction, NAMES)
        d, label = _named(problem, theta, direction, rng), LABELS[direction]
    else:
        d, label = as_float_vector(name, direction, problem.n_params), "given direction"
    if drawn if normalise is None else normalise:
        n = problem.network.n_params
        # A coefficient of an equation moves in proportion to itself.
        own = filter_normalised(problem.network, theta[:n], d[:n])
        d = np.concatenate([own, np.sign(d[n:]) * np.abs(theta[n:])])
        label += ", scaled unit by unit"
    if not d.any():
        raise ValueError(f"{name} is zero: there is nowhere to go")
    return d, label


def _named(problem: Problem, theta: FloatArray, name: str, rng: np.random.Generator) -> FloatArray:
    if name == "random":
        return rng.standard_normal(problem.n_params)
    if name == "gradient":
        gradient = usable_point(problem, theta).gradient
        length = norm(gradient)
        return np.asarray(-gradient / (length or 1.0))
    return _eigenvector(problem, theta, highest=name == "highest")


def _eigenvector(problem: Problem, theta: FloatArray, *, highest: bool) -> FloatArray:
    """Return the eigenvector of the exact Hessian with its largest entry positive."""
    n = problem.n_params
    if n <= MOST_DENSE:
        place = n - 1 if highest else 0
        hessian = finite(problem.hessian(theta), "the Hessian")
        _, vectors = scipy.linalg.eigh(hessian, subset_by_index=[place, place])
    else:
        start = np.random.default_rng(0).standard_normal(n)
        which = "LA" if highest else "SA"
        operator_ = problem.hessian_operator(theta)
        _, vectors = scipy.sparse.linalg.eigsh(operator_, k=1, which=which, v0=start)
    # Where ranks share the samples, all of them must go the same way.
    vector = problem.comm.broadcast(np.ascontiguousarray(vectors[:, 0]))
    return np.asarray(vector * np.sign(vector[np.argmax(np.abs(vector))]))
