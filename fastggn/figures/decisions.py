"""Networks of one or two inputs: regions of decision, and the output itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastggn.figures.style import MARKERS, finished, on_axes, plain
from fastggn.runtime.errors import as_real, check_finite

FloatArray = NDArray[np.float64]
Function = Callable[[FloatArray], NDArray[Any]]

GRID = 301
MARGIN = 0.04  # of the range of the samples, around them
MOST_DOTS = 5000
MOST_IN_REGIONS = 1200  # more samples hide the regions


def plot_decisions(
    decide: Function,
    X: ArrayLike,
    labels: ArrayLike,
    *,
    classes: Sequence[str] = (),
    circles: Sequence[float] = (),
    names: Sequence[str] = ("x_0", "x_1"),
    ax: Any = None,
    path: str | None = None,
) -> Any:
    """Draw the regions of decision of a network of two inputs.

    Parameters
    ----------
    decide : callable
        Maps points (K, 2) to classes (K,), counted from 0.
    X : array_like, shape (T, 2)
        The samples.
    labels : array_like of int, shape (T,)
        Their classes.
    classes : sequence of str
        Names of the classes; 0, 1, ... by default.
    circles : sequence of float
        Radii of true boundaries around the origin, drawn dashed: 1, 2, 3 for the four regions.
    names : sequence of str
        Names of the inputs.
    ax : matplotlib.axes.Axes, optional
        Axes to draw on; new axes by default.
    path : str, optional
        File of the figure.

    Raises
    ------
    TypeError, ValueError
        If X does not have two columns of finite numbers, or the labels do not fit.
    """
    points = _inputs(X, (2,))
    known = np.asarray(labels)
    if known.shape != (points.shape[0],) or known.dtype.kind not in "iu":
        raise ValueError(f"labels must be {points.shape[0]} integers, got {known.dtype} "
                         f"of shape {known.shape}")  # fmt: skip
    named = list(classes) or [str(k) for k in range(int(known.max()) + 1)]
    if known.min() < 0 or known.max() >= len(named):
        raise ValueError(f"labels must be in 0..{len(named) - 1}")
    figure, pair = on_axes(ax, width=6.6, height=5.2)
    x, y, grid = _grid(points)
    region = np.asarray(decide(grid)).reshape(y.size, x.size)
    # From light to medium grey: markers in black and white show on all of them.
    shades = np.linspace(0.97, 0.6, max(2, len(named)))
    colours = [str(shade) for shade in shades[: len(named)]]
    levels = np.arange(len(named) + 1) - 0.5
    pair.contourf(x, y, region, levels=levels, colors=colours, zorder=0)
    for k in range(len(named)):  # each region by itself: classes are names, not heights
        inside = (region == k).astype(np.float64)
        if 0.0 < inside.mean() < 1.0:
            pair.contour(x, y, inside, levels=[0.5], colors="black", linewidths=0.9)
    _samples(pair, points, known, np.asarray(decide(points)), named)
    angles = np.linspace(0.0, 2.0 * np.pi, 361)
    for number, radius in enumerate(circles):
        pair.plot(radius * np.cos(angles), radius * np.sin(angles), color="tab:red",
                  linestyle=(0, (5, 3)), linewidth=1.6, path_effects=_halo(),
                  label=None if number else "true boundary")  # fmt: skip
    pair.grid(False)
    if circles:
        pair.set_aspect("equal")
    pair.set_xlabel(plain(names[0]))
    pair.set_ylabel(plain(names[1]))
    pair.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), frameon=False, fontsize=9)
    return finished(figure, path)


def plot_output(
    predict: Function,
    X: ArrayLike,
    Y: ArrayLike,
    *,
    names: Sequence[str] = ("x_0", "x_1"),
    target: str = "output",
    ax: Any = None,
    path: str | None = None,
) -> Any:
    """Draw the output of a network of one or two inputs, with the samples.

    Parameters
    ----------
    predict : callable
        Maps points (K, n_0) to values (K,).
    X : array_like, shape (T, n_0)
        The samples; n_0 is 1 or 2.
    Y : array_like, shape (T,)
        Their targets.
    names : sequence of str
        Names of the inputs.
    target : str
        Name of the output, with its unit.
    ax, path : optional
        As in `plot_decisions`.

    Raises
    ------
    TypeError, ValueError
        If the samples are not finite numbers of one or two inputs.
    """
    points = _inputs(X, (1, 2))
    values = as_real("Y", Y)
    if values.shape != (points.shape[0],):
        raise ValueError(f"Y must have shape ({points.shape[0]},), got {values.shape}")
    figure, pair = on_axes(ax)
    from matplotlib.colors import ListedColormap

    pair.set_xlabel(plain(names[0]))
    every = -(-points.shape[0] // MOST_DOTS)
    if points.shape[1] == 1:
        x = np.linspace(*_range(points[:, 0]), GRID)
        pair.plot(points[::every, 0], values[::every], "o", color="0.45", markersize=3.5,
                  markerfacecolor="none", label="samples")  # fmt: skip
        pair.plot(x, predict(x[:, None]), color="black", linewidth=1.6, label="network")
        pair.set_ylabel(plain(target))
        pair.legend()
        return finished(figure, path)
    x, y, grid = _grid(points)
    z = np.asarray(predict(grid)).reshape(y.size, x.size)
    # From medium to light grey: black lines must show on all of them.
    shades = ListedColormap([str(shade) for shade in np.linspace(0.45, 1.0, 21)])
    image = pair.contourf(x, y, z, levels=20, cmap=shades)
    lines = pair.contour(x, y, z, levels=8, colors="black", linewidths=0.8)
    pair.clabel(lines, fontsize=7, fmt="%g")
    pair.plot(points[::every, 0], points[::every, 1], "o", color="black", markersize=3.0,
              markerfacecolor="white", markeredgewidth=0.5, zorder=4)  # fmt: skip
    pair.grid(False)
    pair.set_ylabel(plain(names[1]))
    figure.colorbar(image, ax=pair, label=plain(target))
    return finished(figure, path)


def _samples(
    ax: Any, X: FloatArray, labels: NDArray[Any], given: NDArray[Any], named: list[str]
) -> None:
    every = -(-X.shape[0] // MOST_IN_REGIONS)
    size = 5.0 if X.shape[0] <= 500 else 3.0
    chosen = np.arange(X.shape[0]) % every == 0
    for k, name in enumerate(named):
        own = chosen & (labels == k)
        if own.any():
            # Open and filled in turn: 5 is odd, so five markers tell ten classes apart.
            fill = "white" if k % 2 == 0 else "black"
            ax.plot(X[own, 0], X[own, 1], MARKERS[k % 5], color="black", markersize=size,
                    markerfacecolor=fill, markeredgewidth=0.6,
                    label=f"class {plain(name)}")  # fmt: skip
    wrong = labels != given
    if wrong.any():
        shown = X[wrong][:: -(-np.count_nonzero(wrong) // MOST_DOTS)]
        ax.plot(shown[:, 0], shown[:, 1], "x", color="tab:red", markersize=2.0 * size,
                markeredgewidth=1.8, path_effects=_halo(), zorder=5,
                label=f"wrong ({np.count_nonzero(wrong)})")  # fmt: skip
    if every > 1:
        ax.plot([], [], " ", label=f"dots: 1 sample of {every}")


def _halo() -> list[Any]:
    """Return a white border that sets red apart from grey without colours."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=3.4, foreground="white")]


def _inputs(X: ArrayLike, widths: tuple[int, ...]) -> FloatArray:
    points = as_real("X", X)
    if points.ndim != 2 or points.shape[1] not in widths or points.shape[0] == 0:
        wanted = " or ".join(map(str, widths))
        raise ValueError(f"X must have shape (T, {wanted}), not empty, got {points.shape}")
    check_finite("X", points)
    return points


def _range(column: FloatArray) -> tuple[float, float]:
    low, high = float(column.min()), float(column.max())
    margin = MARGIN * (high - low) or 1.0
    return low - margin, high + margin


def _grid(points: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    x, y = (np.linspace(*_range(column), GRID) for column in points.T)
    grid = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
    return x, y, grid
