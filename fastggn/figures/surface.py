"""The loss along a line and over a plane."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.figures.style import MARKERS, finished, legend_outside, on_axes, plain

FloatArray = NDArray[np.float64]

# Losses over a wider range than this factor take a logarithmic scale.
WIDE = 30.0
BOTTOM = 0.005  # share of the points of a plane below the lowest level line


def plot_line(line: Any, *, ax: Any = None, path: str | None = None) -> Any:
    """Draw the loss along a line with its second-order Taylor polynomial.

    Parameters
    ----------
    line : LossLine
    ax : matplotlib.axes.Axes, optional
        Axes to draw on; new axes by default.
    path : str, optional
        File of the figure.
    """
    figure, pair = on_axes(ax)
    finite = np.isfinite(line.losses)
    losses = np.where(finite, line.losses, np.nan)
    mark = {"marker": "o", "markersize": 3, "markevery": max(1, losses.size // 25)}
    pair.plot(line.steps, losses, color="black", linewidth=1.5, label="loss", **mark)
    low, high = _ends(losses[finite])
    wide = low > 0.0 and high > WIDE * low
    quadratic = line.quadratic
    if wide:
        pair.set_yscale("log")
        quadratic = np.where(quadratic > 0.0, quadratic, np.nan)
    pair.plot(line.steps, quadratic, color="0.4", linestyle="--", linewidth=1.2,
              label="second-order model at step 0")  # fmt: skip
    if line.steps[0] <= 0.0 <= line.steps[-1]:
        pair.plot([0.0], [line.loss], "D", color="black", markerfacecolor="white", markersize=8,
                  zorder=5, label=f"step 0: loss {line.loss:.4g}")  # fmt: skip
    if finite.any():  # the model may leave every scale
        margin = (high / low) ** 0.06 if wide else 0.06 * (high - low) or 1.0
        pair.set_ylim(*((low / margin, high * margin) if wide else (low - margin, high + margin)))
    pair.set_xlabel(f"step along d ({line.label})")
    pair.set_ylabel("loss")
    pair.set_title(f"slope {line.slope:.3g}, curvature {line.curvature:.3g} at step 0", fontsize=10)
    legend_outside(figure, ax)
    return finished(figure, path)


def plot_plane(
    plane: Any, *, marks: Mapping[str, Any] | None = None, ax: Any = None, path: str | None = None
) -> Any:
    """Draw the level lines of the loss over a plane.

    Parameters
    ----------
    plane : LossPlane
    marks : mapping of str to array_like, shape (N,) or (K, N), optional
        Further points or paths of points by label, each drawn at the nearest point of the plane.
    ax, path : optional
        As in `plot_line`.

    Raises
    ------
    ValueError
        If no loss is finite, or a point of `marks` has another shape than theta.
    """
    places = {label: _projected(plane, points) for label, points in (marks or {}).items()}
    if not np.isfinite(plane.losses).any():
        raise ValueError("no loss on the plane is finite: there is nothing to draw")
    figure, pair = on_axes(ax, width=6.4, height=5.0)
    _levels(figure, pair, plane)
    a, b = plane.steps
    if a[0] <= 0.0 <= a[-1] and b[0] <= 0.0 <= b[-1]:
        pair.plot([0.0], [0.0], "*", color="white", markeredgecolor="black", markersize=15,
                  zorder=6, linestyle="none", label="theta")  # fmt: skip
    for number, (label, path_) in enumerate(places.items()):
        pair.plot(path_[:, 0], path_[:, 1], color="white", marker=MARKERS[number % 5],
                  markersize=6, linewidth=1.4, markeredgecolor="black", zorder=5,
                  label=plain(label))  # fmt: skip
    pair.set_xlim(a[0], a[-1])
    pair.set_ylim(b[0], b[-1])
    pair.grid(False)
    pair.set_xlabel(f"step along d ({plane.labels[0]})")
    pair.set_ylabel(f"step along e ({plane.labels[1]})")
    # White markers need a grey ground in the legend as well.
    legend_outside(figure, ax, facecolor="0.75", framealpha=1.0, frameon=True)
    return finished(figure, path)


def _projected(plane: Any, points: Any) -> FloatArray:
    rows = np.atleast_2d(np.asarray(points, dtype=np.float64))
    return np.array([plane.coordinates(row)[:2] for row in rows])


def _levels(figure: Any, ax: Any, plane: Any) -> None:
    from matplotlib.colors import LogNorm

    losses = np.ma.masked_invalid(plane.losses)
    finite = losses.compressed()
    low, high = _ends(finite)
    # The few points at the bottom of a deep bowl would take most of a logarithmic scale.
    bottom = float(np.quantile(finite, BOTTOM))
    if bottom > 0.0 and high > WIDE * bottom:
        levels, norm = np.geomspace(bottom, high, 25), LogNorm(bottom, high)
    elif high > low:
        levels, norm = np.linspace(low, high, 25), None
    else:  # a flat piece of the surface has no level lines
        levels, norm = np.array([low, low + (abs(low) or 1.0) * 1e-12]), None
    extend = "both" if high == low else "min" if levels[0] > low else "neither"
    image = ax.contourf(*plane.steps, losses, levels=levels, norm=norm, cmap="viridis",
                        extend=extend)  # fmt: skip
    ticks = levels[::4]
    bar = figure.colorbar(image, ax=ax, label="loss")
    if high > low:
        bar.add_lines(ax.contour(*plane.steps, losses, levels=ticks, colors="black",
                                 linewidths=0.7))  # fmt: skip
    bar.set_ticks(ticks, labels=[f"{tick:.3g}" for tick in ticks])
    bar.minorticks_off()


def _ends(values: FloatArray) -> tuple[float, float]:
    return (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
