"""Figures of convergence: errors against the iteration, and each error against the one before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastggn.figures.style import LINES, MARKERS, new_figure

__all__ = ["convergence", "race"]


def convergence(
    errors: Sequence[Sequence[float]],
    floors: Sequence[float],
    *,
    least: Sequence[float],
    title: str,
    order: float | None = None,
) -> Any:
    """Return a figure of errors that fall to a limit.

    Parameters
    ----------
    errors : sequence of sequences of float
        Distances to the limit, one sequence a run.
    floors : sequence of float
        Below this an error is rounding; each run is drawn to its first error there.
    least : sequence of float
        The right axes show the errors above this: those that an order is fitted to.
    title : str
        Of the left axes.
    order : float, optional
        The fitted order, named in the title of the right axes.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, axes = new_figure(1, 2, width=5.4, height=4.2)
    left, right = axes[0]
    for number, (run, floor, bound) in enumerate(zip(errors, floors, least, strict=True)):
        e = np.asarray(run, dtype=np.float64)
        e = e[: int(np.argmax(e <= floor)) + 1]
        style = {
            "linestyle": LINES[number % len(LINES)],
            "marker": MARKERS[number % len(MARKERS)],
            "color": str(0.1 + 0.5 * number / max(1, len(errors))),
            "markersize": 3.5,
            "linewidth": 1.0,
        }
        left.semilogy(np.arange(e.size), e, **style)
        above = e[1:] > bound
        right.loglog(e[:-1][above], e[1:][above], **{**style, "linestyle": "none"})
    left.set_xlabel("iteration k")
    left.set_ylabel(r"distance to the limit $|\theta_k - \theta_*|$")
    left.set_title(title, fontsize=10)
    if errors:
        _reference(right, 2, "slope 2 (quadratic)", LINES[0])
        _reference(right, 1, "slope 1 (linear)", LINES[1])
        right.legend(fontsize=8)
    right.set_xlabel(r"$|\theta_k - \theta_*|$")
    right.set_ylabel(r"$|\theta_{k+1} - \theta_*|$")
    right.set_title("" if order is None else f"Fitted order {order:.2f}", fontsize=10)
    return figure


def _reference(axes: Any, slope: int, label: str, line: str) -> None:
    """Draw y = x^slope within the present limits of the axes."""
    (low, high), limits = axes.get_xlim(), axes.get_ylim()
    x = np.array([low, high])
    axes.loglog(x, x**slope, line, color="tab:red", linewidth=1.4, label=label)
    axes.set_xlim(low, high)
    axes.set_ylim(limits)


def race(curves: Mapping[str, Mapping[str, Any]], *, title: str) -> Any:
    """Return a figure of losses by iteration, and by time.

    Parameters
    ----------
    curves : mapping
        Label to a mapping with ``beginning`` (the losses of the first iterations), ``seconds``,
        ``lowest`` and ``highest`` (the range of the losses in bins of time) and
        ``seconds_per_iteration``.
    title : str
        Of the left axes.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, axes = new_figure(1, 2, width=5.4, height=4.2)
    left, right = axes[0]
    colours = ("black", "tab:red", "tab:blue")
    for number, (label, curve) in enumerate(curves.items()):
        style = {"color": colours[number % 3], "linestyle": LINES[number % len(LINES)]}
        beginning = np.asarray(curve["beginning"], dtype=np.float64)
        mark = {"marker": MARKERS[number % len(MARKERS)], "markevery": 0.1, "markersize": 4}
        left.semilogy(np.arange(beginning.size), beginning, label=label, **style, **mark)
        seconds = np.asarray(curve["seconds"])
        low, high = np.asarray(curve["lowest"]), np.asarray(curve["highest"])
        right.semilogy(seconds, np.sqrt(low * high), **style, **mark)
        right.fill_between(seconds, low, high, color=style["color"], alpha=0.3, linewidth=0.0)
    left.set_xlabel("iteration")
    left.set_ylabel("loss")
    left.set_title(title, fontsize=10)
    left.legend(fontsize=8)
    right.set_xlabel("seconds")
    right.set_title("By time; bands: range of the losses of neighbouring iterations", fontsize=10)
    return figure
