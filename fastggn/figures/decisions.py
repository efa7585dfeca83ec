"""Networks of one or two inputs: regions of decision, and the output itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastggn.figures.style import (
    DENSE,
    MARKERS,
    draw_density,
    finished,
    legend_outside,
    on_axes,
    plain,
)
from fastggn.runtime.errors import as_real, check_finite

FloatArray = NDArray[np.float64]
Function = Callable[[FloatArray], NDArray[Any]]

GRID = 301
MARGIN = 0.04  # of the range of the samples, around them
MOST_DOTS = 1200  # more samples hide the regions
MOST_CROSSES = 5000
# Crosses of the errors in training, held-out and test samples.
CROSSES = ("x", "+", "1", "2")


def plot_decisions(
    decide: Function,
    parts: Mapping[str, tuple[ArrayLike, ArrayLike]],
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
    parts : mapping of str to (X, labels)
        Samples, shape (T, 2), and their classes, shape (T,), by the name of the part: training,
        held-out, test.
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
        If there is no part, X does not have two columns of finite numbers, or labels do not fit.
    """
    samples = {name: _inputs(X, (2,)) for name, (X, _) in parts.items()}
    if not samples:
        raise ValueError("parts is empty: there is nothing to draw")
    points = np.concatenate(list(samples.values()))
    known = np.concatenate(
        [_labels(labels, len(samples[name])) for name, (_, labels) in parts.items()]
    )
    named = [plain(name) for name in classes] or [str(k) for k in range(int(known.max()) + 1)]
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
    _samples(pair, points, known, named)
    _errors(pair, samples, known != np.asarray(decide(points)))
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
    parts: Mapping[str, tuple[ArrayLike, ArrayLike]],
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
    parts : mapping of str to (X, Y)
        Samples, shape (T, n_0) with 1 or 2 inputs, and their targets, shape (T,), by the name of
        the part: training, held-out, test.
    names : sequence of str
        Names of the inputs.
    target : str
        Name of the output, with its unit.
    ax, path : optional
        As in `plot_decisions`.

    Raises
    ------
    TypeError, ValueError
        If there is no part, or samples are not finite numbers of one or two inputs.
    """
    samples = {plain(name): _output_samples(X, Y) for name, (X, Y) in parts.items()}
    if not samples:
        raise ValueError("parts is empty: there is nothing to draw")
    points = np.concatenate([X for X, _ in samples.values()])
    figure, pair = on_axes(ax)
    pair.set_xlabel(plain(names[0]))
    if points.shape[1] == 1:
        _output_line(figure, pair, predict, samples, points)
        pair.set_ylabel(plain(target))
    else:
        image, lines = _output_plane(pair, predict, samples, points)
        figure.colorbar(image, ax=pair, label=plain(target)).add_lines(lines)
        pair.set_ylabel(plain(names[1]))
    legend_outside(figure, ax)
    return finished(figure, path)


def _output_line(
    figure: Any,
    ax: Any,
    predict: Function,
    samples: Mapping[str, tuple[FloatArray, FloatArray]],
    points: FloatArray,
) -> None:
    x = np.linspace(*_range(points[:, 0]), GRID)
    for number, (part, (X, Y)) in enumerate(samples.items()):
        if len(X) > DENSE:
            draw_density(figure, ax, X[:, 0], Y, f"{part}: rows in a cell")
        else:
            ax.plot(X[:, 0], Y, MARKERS[number % 5], color="black" if number else "0.45",
                    markersize=4.0, markerfacecolor="white", label=part)  # fmt: skip
    ax.plot(x, predict(x[:, None]), color="black", linewidth=1.6, label="network",
            path_effects=_halo())  # fmt: skip


def _output_plane(
    ax: Any,
    predict: Function,
    samples: Mapping[str, tuple[FloatArray, FloatArray]],
    points: FloatArray,
) -> tuple[Any, Any]:
    """Return the shades and the level lines, for the scale beside them."""
    from matplotlib.colors import ListedColormap

    x, y, grid = _grid(points)
    z = np.asarray(predict(grid)).reshape(y.size, x.size)
    # From medium to light grey: black lines must show on all of them.
    shades = ListedColormap([str(shade) for shade in np.linspace(0.45, 1.0, 21)])
    image = ax.contourf(x, y, z, levels=20, cmap=shades)
    lines = ax.contour(x, y, z, levels=8, colors="black", linewidths=0.8)
    every = -(-len(points) // MOST_DOTS)
    for number, (part, (X, _)) in enumerate(samples.items()):
        ax.plot(X[::every, 0], X[::every, 1], MARKERS[number % 5], color="black", markersize=3.5,
                markerfacecolor="white" if number % 2 == 0 else "black", markeredgewidth=0.5,
                label=part)  # fmt: skip
    _thinned(ax, every)
    ax.grid(False)
    return image, lines


def _output_samples(X: ArrayLike, Y: ArrayLike) -> tuple[FloatArray, FloatArray]:
    points, values = _inputs(X, (1, 2)), as_real("Y", Y)
    if values.shape != (points.shape[0],):
        raise ValueError(f"Y must have shape ({points.shape[0]},), got {values.shape}")
    return points, values


def _samples(ax: Any, X: FloatArray, labels: NDArray[Any], named: list[str]) -> None:
    every = -(-X.shape[0] // MOST_DOTS)
    size = 5.0 if X.shape[0] <= 500 else 3.0
    chosen = np.arange(X.shape[0]) % every == 0
    for k, name in enumerate(named):
        own = chosen & (labels == k)
        if own.any():
            # Open and filled in turn: 5 is odd, so five markers tell ten classes apart.
            fill = "white" if k % 2 == 0 else "black"
            ax.plot(X[own, 0], X[own, 1], MARKERS[k % 5], color="black", markersize=size,
                    markerfacecolor=fill, markeredgewidth=0.6, label=f"class {name}")  # fmt: skip
    _thinned(ax, every)


def _errors(ax: Any, samples: Mapping[str, FloatArray], wrong: NDArray[np.bool_]) -> None:
    """Cross the samples of each part that the network gets wrong."""
    start = 0
    for number, (part, X) in enumerate(samples.items()):
        own = wrong[start : start + len(X)]
        start += len(X)
        shown = X[own][:: max(1, -(-np.count_nonzero(own) // MOST_CROSSES))]
        if shown.size:
            ax.plot(shown[:, 0], shown[:, 1], CROSSES[number % len(CROSSES)], color="tab:red",
                    markersize=10.0 if wrong.size <= 500 else 6.0, markeredgewidth=1.8,
                    path_effects=_halo(), zorder=5,
                    label=f"wrong: {np.count_nonzero(own)} of {len(X)} {plain(part)}")  # fmt: skip


def _thinned(ax: Any, every: int) -> None:
    if every > 1:
        ax.plot([], [], " ", label=f"dots: one sample of {every}")


def _labels(labels: ArrayLike, count: int) -> NDArray[Any]:
    known = np.asarray(labels)
    if known.shape != (count,) or known.dtype.kind not in "iu":
        raise ValueError(f"labels must be {count} integers, got {known.dtype} "
                         f"of shape {known.shape}")  # fmt: skip
    return known


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
