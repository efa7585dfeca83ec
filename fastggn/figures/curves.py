"""Training curves: loss, gradient norm, damping and gain ratio against the iteration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.figures.style import LINES, MARKERS, finished, legend_outside, new_figure, plain

FloatArray = NDArray[np.float64]

MOST_NAMED = 6  # runs in a legend
MOST_MARKED = 60  # iterations with a marker each
GAIN_RANGE = (-1.0, 2.0)  # gain ratios outside stand at the edge


def plot_curves(
    history: Any,
    *,
    initial_loss: float | None = None,
    initial_validation_loss: float | None = None,
    best_iter: int | None = None,
    path: str | None = None,
) -> Any:
    """Draw the history of a training run against the iteration.

    The axes show loss (with ``validation_loss`` if it is recorded), gradient norm, and damping and
    gain ratio if the method has them. A cross marks an iteration without an accepted step.

    Parameters
    ----------
    history : sequence of Record or of mapping, or mapping of columns
        As in ``TrainResult.history``, the lines of a history file, or a data frame.
    initial_loss, initial_validation_loss : float, optional
        The losses before the first iteration.
    best_iter : int, optional
        The iteration of the lowest held-out loss, which is marked; by default that of the
        history.
    path : str, optional
        File of the figure.

    Raises
    ------
    ValueError
        If the history is empty and there is no initial loss.
    """
    run = _Run(history, initial_loss, initial_validation_loss)
    figure = _draw({"training": run})
    iteration, losses = run.validation
    if best_iter is None and np.isfinite(losses).any():
        best_iter = int(iteration[np.nanargmin(losses)])
    if best_iter is not None:
        figure.axes[0].axvline(best_iter, color="0.4", linestyle=":", linewidth=1.4,
                               label=f"lowest held-out loss (iteration {best_iter})")  # fmt: skip
    legend_outside(figure)
    return finished(figure, path)


def compare_curves(runs: Mapping[str, Any], *, path: str | None = None) -> Any:
    """Draw several runs into the same axes.

    Parameters
    ----------
    runs : mapping of str to history
        Labels, and histories as in `plot_curves`.
    path : str, optional
        File of the figure.

    Raises
    ------
    ValueError
        If there is no run, or the history of one is empty.
    """
    if not runs:
        raise ValueError("runs is empty: there is nothing to draw")
    figure = _draw({plain(label): _Run(history) for label, history in runs.items()})
    legend_outside(figure)
    return finished(figure, path)


class _Run:
    """The columns of a history as arrays; missing entries are NaN."""

    def __init__(
        self, history: Any, initial_loss: float | None = None, initial_validation: Any = None
    ) -> None:
        if hasattr(history, "to_dict") and hasattr(history, "columns"):  # a pandas frame
            named = "iteration" in history.columns
            history = (history if named else history.reset_index()).to_dict("list")
        if isinstance(history, Mapping):
            self._columns: Mapping[str, Iterable[Any]] | None = history
            self._records: list[Any] = []
            self.size = len(list(history.get("loss", ())))
        else:
            self._columns, self._records = None, list(history)
            self.size = len(self._records)
        if self.size == 0 and initial_loss is None:
            raise ValueError("the history is empty: there is nothing to draw")
        number = self.column("iteration")
        fallback = np.arange(1.0, self.size + 1.0)
        self.iteration = number if np.isfinite(number).all() else fallback
        self.loss = self._from_start("loss", initial_loss)
        self.validation = self._from_start("validation_loss", initial_validation)
        idle = self.column("accepted") == 0.0
        self.idle = self.iteration[idle], self.column("loss")[idle]

    def _from_start(self, name: str, first: float | None) -> tuple[FloatArray, FloatArray]:
        """Return iterations and values of a field, from theta0 on where its value is known."""
        if first is None:
            return self.iteration, self.column(name)
        before = self.iteration[0] - 1.0 if self.size else 0.0
        return np.append(before, self.iteration), np.append(first, self.column(name))

    def column(self, name: str) -> FloatArray:
        """Return a field of all records, shape (K,)."""
        if self._columns is not None:
            values = list(self._columns.get(name, [None] * self.size))
        else:
            values = [_field(record, name) for record in self._records]
        return np.array([np.nan if v is None else float(v) for v in values], dtype=np.float64)


def _field(record: Any, name: str) -> Any:
    try:
        return record[name]
    except KeyError:  # a record of another version, or a run without validation
        return None


def _draw(runs: Mapping[str, _Run]) -> Any:
    parts = [("gradient_norm", "norm of the gradient"), ("damping", "damping"),
             ("gain_ratio", "gain ratio")]  # fmt: skip
    shown = [
        (name, label)
        for name, label in parts
        if any(np.isfinite(run.column(name)).any() for run in runs.values())
    ]
    total = 1 + len(shown)
    columns = 1 if total == 1 else 2
    figure, axes = new_figure(-(-total // columns), columns, width=5.0, height=3.3)
    places = list(axes.flat)
    for spare in places[total:]:
        spare.remove()
    _losses(places[0], runs)
    for ax, (name, label) in zip(places[1:], shown, strict=False):
        for number, run in enumerate(runs.values()):
            values = run.column(name)
            if name == "gain_ratio":
                _gains(ax, run.iteration, values, number)
            else:
                _curve(ax, run.iteration, values, number)
        if name == "gain_ratio":
            ax.axhline(1.0, color="0.4", linestyle="--", linewidth=0.9, label="gain as predicted")
            ax.axhline(0.0, color="0.4", linestyle=":", linewidth=1.2, label="no decrease")
            ax.set_ylim(GAIN_RANGE[0] - 0.15, GAIN_RANGE[1] + 0.15)
        else:
            _logarithmic(ax, [run.column(name) for run in runs.values()])
        ax.set_ylabel(label)
    for ax in places[:total]:
        ax.set_xlabel("iteration")
        _whole_numbers(ax)
    return figure


def _losses(ax: Any, runs: Mapping[str, _Run]) -> None:
    everything = []
    for number, (label, run) in enumerate(runs.items()):
        named = label if number < MOST_NAMED and len(runs) <= MOST_NAMED else None
        _curve(ax, *run.loss, number, label=named)
        everything.append(run.loss[1])
        if np.isfinite(run.validation[1]).any():
            name = None if named is None else "held-out" + ("" if len(runs) == 1 else f", {label}")
            style: dict[str, Any] = {"linestyle": "--", "marker": "s", "markerfacecolor": "white"}
            _curve(ax, *run.validation, number, label=name, **style)
            everything.append(run.validation[1])
        if run.idle[0].size:
            text = "no step accepted" if number == 0 else None
            ax.plot(*run.idle, "x", color="black", markersize=7, linestyle="none", label=text)
    _logarithmic(ax, everything)
    ax.set_ylabel("loss")


def _curve(ax: Any, x: FloatArray, y: FloatArray, number: int, **style: Any) -> None:
    look: dict[str, Any] = {
        "color": str(min(0.7, 0.15 * number)),
        "linestyle": LINES[number % len(LINES)],
        "marker": MARKERS[number % len(MARKERS)],
        "markersize": 3.0,
        "linewidth": 1.1,
        "markevery": max(1, x.size // MOST_MARKED),
    }
    ax.plot(x, y, **{**look, **style})


def _gains(ax: Any, x: FloatArray, y: FloatArray, number: int) -> None:
    """Draw gain ratios as dots, and ratios out of the range as triangles at its ends."""
    low, high = GAIN_RANGE
    inside = (y >= low) & (y <= high)
    shade = str(min(0.7, 0.15 * number))
    ax.plot(x[inside], y[inside], MARKERS[number % len(MARKERS)], color=shade, markersize=3.0)
    for beyond, edge, marker in ((y > high, high, "^"), (y < low, low, "v")):
        if beyond.any():
            ax.plot(x[beyond], np.full(np.count_nonzero(beyond), edge), marker, color=shade,
                    markerfacecolor="white", markersize=5.0)  # fmt: skip


def _logarithmic(ax: Any, columns: Iterable[FloatArray]) -> None:
    """Use a logarithmic scale unless a value is negative; a zero stands at the foot."""
    values = np.concatenate([c[np.isfinite(c)] for c in columns])
    positive = values[values > 0.0]
    if not positive.size or (values < 0.0).any():
        return
    ax.set_yscale("log", nonpositive="mask")
    if (values == 0.0).any():
        floor = positive.min() / 10.0
        for line in ax.get_lines():
            y = np.asarray(line.get_ydata(), dtype=np.float64)
            line.set_ydata(np.where(y == 0.0, floor, y))
        ax.set_ylim(bottom=floor)
        ax.set_title("0 stands at the foot", fontsize=8, loc="left")


def _whole_numbers(ax: Any) -> None:
    from matplotlib.ticker import MaxNLocator

    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
