"""Predictions, residuals, and confusion of classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastggn.figures.style import finished, new_figure, on_axes, plain
from fastggn.runtime.errors import as_real, check_finite

FloatArray = NDArray[np.float64]

QUANTILES = (0.05, 0.5, 0.95)
MOST_OUTPUTS = 6
MOST_DOTS = 5000
MOST_CELLS = 20  # of more classes the cells show no counts


def plot_residuals(
    targets: ArrayLike,
    outputs: ArrayLike,
    *,
    names: Sequence[str] = (),
    path: str | None = None,
) -> Any:
    """Draw predictions against targets, and the distribution of the residuals.

    Each output has one row of axes; of more than six outputs, those with the largest residuals
    relative to the deviation of the target are drawn. A residual is target minus prediction.

    Parameters
    ----------
    targets, outputs : array_like, shape (T, n_L) or (T,)
        In the same units.
    names : sequence of str
        Names of the outputs, with their units.
    path : str, optional
        File of the figure.

    Raises
    ------
    TypeError, ValueError
        If the arrays do not hold finite real numbers, are empty, or do not fit each other.
    """
    Y, predicted = _table("targets", targets), _table("outputs", outputs)
    if Y.shape != predicted.shape:
        raise ValueError(f"targets and outputs must fit: {Y.shape} and {predicted.shape}")
    labels = _names(names, Y.shape[1])
    chosen = _worst(Y, predicted)
    figure, axes = new_figure(len(chosen), 2, width=4.6, height=3.4)
    for row, output in zip(axes, chosen, strict=True):
        _predictions(row[0], Y[:, output], predicted[:, output], labels[output])
        _histogram(row[1], Y[:, output] - predicted[:, output], labels[output])
    if len(chosen) < Y.shape[1]:
        figure.suptitle(
            f"{len(chosen)} of {Y.shape[1]} outputs: those of the largest residuals", fontsize=11
        )
    return finished(figure, path)


def confusion_matrix(labels: ArrayLike, predicted: ArrayLike, n_classes: int) -> NDArray[np.int64]:
    """Count the samples of each class (rows) by their predicted class (columns).

    Parameters
    ----------
    labels, predicted : array_like of int, shape (T,)
        From 0 to n_classes - 1.
    n_classes : int

    Returns
    -------
    ndarray, shape (n_classes, n_classes)

    Raises
    ------
    ValueError
        If the labels are no integers in the range, or the lengths differ.
    """
    columns = []
    for name, values in (("labels", labels), ("predicted", predicted)):
        array = np.asarray(values)
        if array.ndim != 1 or array.dtype.kind not in "iu":
            raise ValueError(f"{name} must be a vector of integers, got {array.dtype} "
                             f"of shape {array.shape}")  # fmt: skip
        if array.size and not (0 <= array.min() and array.max() < n_classes):
            raise ValueError(f"{name} must be in 0..{n_classes - 1}")
        columns.append(array.astype(np.int64))
    if columns[0].shape != columns[1].shape:
        raise ValueError(f"labels and predicted must fit: {len(columns[0])}, {len(columns[1])}")
    counts = np.bincount(columns[0] * n_classes + columns[1], minlength=n_classes**2)
    return np.asarray(counts.reshape(n_classes, n_classes), dtype=np.int64)


def plot_confusion(
    counts: ArrayLike,
    classes: Sequence[str] = (),
    *,
    ax: Any = None,
    path: str | None = None,
) -> Any:
    """Draw a confusion matrix, shaded by the share of the samples of each class.

    Parameters
    ----------
    counts : array_like of int, shape (C, C)
        Result of `confusion_matrix`: rows are the true classes.
    classes : sequence of str
        Names of the classes; 0, 1, ... by default.
    ax : matplotlib.axes.Axes, optional
        Axes to draw on; new axes by default.
    path : str, optional
        File of the figure.

    Raises
    ------
    ValueError
        If the matrix is not square, or the number of names is wrong.
    """
    matrix = np.asarray(counts)
    if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
        raise ValueError(f"counts must be a square matrix, got shape {matrix.shape}")
    n = matrix.shape[0]
    names = list(classes) or [str(k) for k in range(n)]
    if len(names) != n:
        raise ValueError(f"classes must name {n} classes, got {len(names)}")
    side = min(8.0, 3.6 + 0.28 * n)
    figure, pair = on_axes(ax, width=side + 0.8, height=side)
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    image = pair.imshow(share, cmap="gray_r", vmin=0.0, vmax=1.0)
    if n <= MOST_CELLS:
        size = 11 if n <= 8 else 7
        for i, j in np.ndindex(n, n):
            shade = "white" if share[i, j] > 0.5 else "black"
            pair.text(j, i, f"{matrix[i, j]}", ha="center", va="center", color=shade, fontsize=size)
    step = max(1, n // MOST_CELLS)
    slant = {"rotation": 90} if max(map(len, names)) > 4 and n > 4 else {}
    pair.set_xticks(range(0, n, step), [plain(name) for name in names[::step]], **slant)
    pair.set_yticks(range(0, n, step), [plain(name) for name in names[::step]])
    pair.grid(False)
    pair.set_xlabel("class given by the network")
    pair.set_ylabel("class of the sample")
    right, total = int(np.trace(matrix)), int(matrix.sum())
    pair.set_title(f"{right} of {total} right ({100.0 * right / max(total, 1):.2f} %)")
    figure.colorbar(image, ax=pair, label="share of the class's samples")
    return finished(figure, path)


def _table(name: str, values: ArrayLike) -> FloatArray:
    array = as_real(name, values)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or array.size == 0:
        raise ValueError(f"{name} must have shape (T, n_L), not empty, got {array.shape}")
    check_finite(name, array)
    return array


def _names(names: Sequence[str], count: int) -> list[str]:
    if names and len(names) != count:
        raise ValueError(f"names must be {count}, one an output, got {len(names)}")
    return [plain(n) for n in names] or (
        ["target"] if count == 1 else [f"target {k}" for k in range(count)]
    )


def _worst(Y: FloatArray, predicted: FloatArray) -> list[int]:
    """Return the outputs to draw, in their order."""
    deviation = Y.std(axis=0)
    error = np.sqrt(np.square(Y - predicted).mean(axis=0))
    share = error / np.where(deviation > 0.0, deviation, 1.0)
    return sorted(np.argsort(-share, kind="stable")[:MOST_OUTPUTS].tolist())


def _predictions(ax: Any, target: FloatArray, output: FloatArray, name: str) -> None:
    every = -(-target.size // MOST_DOTS)
    size = 4.0 if target.size <= 500 else 2.0
    ax.plot(target[::every], output[::every], "o", color="black", markersize=size,
            markerfacecolor="none", markeredgewidth=0.6)  # fmt: skip
    ends = min(target.min(), output.min()), max(target.max(), output.max())
    ax.plot(ends, ends, color="0.45", linewidth=1.2, label="prediction = target")
    ax.set_xlabel(name)
    ax.set_ylabel("prediction")
    if every > 1:
        ax.set_title(f"every {every}th sample", fontsize=9)
    ax.legend(fontsize=8, loc="upper left")


def _histogram(ax: Any, residual: FloatArray, name: str) -> None:
    bins = int(np.clip(2.0 * residual.size ** (1.0 / 3.0), 5, 60))
    spread = residual.max() - residual.min()
    if spread <= 1e-12 * max(1e-300, np.abs(residual).max()):  # numpy refuses narrower bins
        middle = residual[0]
        half = 0.05 * abs(middle) or 0.5
        bins_or_edges: Any = np.linspace(middle - half, middle + half, 6)
    else:
        bins_or_edges = bins
    ax.hist(residual, bins_or_edges, color="0.8", edgecolor="0.3", linewidth=0.6)
    for quantile, line in zip(QUANTILES, ("--", "-", ":"), strict=True):
        value = float(np.quantile(residual, quantile))
        ax.axvline(value, color="black", linestyle=line, linewidth=1.2,
                   label=f"{100 * quantile:.0f} %: {value:.3g}")  # fmt: skip
    rms = float(np.sqrt(np.square(residual).mean()))
    ax.set_xlabel(f"residual of {name}")
    ax.locator_params(axis="x", nbins=6)
    ax.set_ylabel("samples")
    ax.set_title(f"root mean square {rms:.3g}", fontsize=9)
    ax.set_ylim(top=1.35 * ax.get_ylim()[1])
    ax.legend(fontsize=8, loc="upper right", title="quantiles", title_fontsize=8, ncols=3,
              columnspacing=0.9, handlelength=1.6, framealpha=1.0)  # fmt: skip
