"""Predictions, residuals, and confusion of classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastggn.figures.style import DENSE, draw_density, finished, legend_outside, new_figure, plain
from fastggn.runtime.errors import as_real, check_finite

FloatArray = NDArray[np.float64]

MOST_OUTPUTS = 6
# Shades and hatches of the bars of training, held-out and test samples.
BARS = (("0.85", ""), ("0.55", "//"), ("0.2", ""), ("white", "xx"))
WIDEST = 14.0  # inches of several matrices side by side
MOST_CELLS = 20  # of more classes the cells show no counts


def plot_residuals(
    parts: Mapping[str, tuple[ArrayLike, ArrayLike]],
    *,
    names: Sequence[str] = (),
    path: str | None = None,
) -> Any:
    """Draw predictions against targets, part by part with R2, and a histogram of the errors.

    Each output has its own axes; of more than six outputs, those with the largest errors relative
    to the deviation of the target are drawn. An error is target minus prediction. More than 3,000
    samples are drawn as density.

    Parameters
    ----------
    parts : mapping of str to (targets, outputs)
        Both of shape (T, n_L) or (T,), in the same units, by the name of the part: training,
        held-out, test. A target that is NaN is left out.
    names : sequence of str
        Names of the outputs, with their units.
    path : str, optional
        File of the figure.

    Raises
    ------
    TypeError, ValueError
        If there is no part, or arrays do not hold finite real numbers, are empty, or do not fit.
    """
    if not parts:
        raise ValueError("parts is empty: there is nothing to draw")
    pairs = {plain(name): _pair(*pair) for name, pair in parts.items()}
    Y, predicted = (np.concatenate(both) for both in zip(*pairs.values(), strict=True))
    labels = _names(names, Y.shape[1])
    chosen = _worst(Y, predicted)
    columns = len(pairs) + 1
    if columns == 4 and len(chosen) == 1:
        columns = 2
    rows = len(chosen) * (len(pairs) + 1) // columns
    figure, axes = new_figure(rows, columns, width=3.9, height=3.5)
    for places, output in zip(axes.reshape(len(chosen), -1), chosen, strict=True):
        one = {name: _known(y[:, output], f[:, output]) for name, (y, f) in pairs.items()}
        ends = _ends(*one.values())
        for ax, (part, (target, guess)) in zip(places, one.items(), strict=False):
            _predictions(figure, ax, target, guess, ends, part)
            ax.set_xlabel(labels[output])
        errors = {part: target - guess for part, (target, guess) in one.items()}
        _histogram(places[-1], errors, labels[output])
    if len(chosen) < Y.shape[1]:
        figure.suptitle(
            f"{len(chosen)} of {Y.shape[1]} outputs: those of the largest errors", fontsize=11
        )
    legend_outside(figure)
    return finished(figure, path)


def r_squared(targets: FloatArray, outputs: FloatArray) -> float:
    """Return the share of the variance of targets (T,) that outputs explain; NaN without any."""
    if not targets.size or targets.min() == targets.max():
        return float("nan")
    scale = float(np.abs(targets - targets.mean()).max())
    spread = np.square((targets - targets.mean()) / scale).sum()
    return float(1.0 - np.square((targets - outputs) / scale).sum() / spread)


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
    parts: Mapping[str, ArrayLike], classes: Sequence[str] = (), *, path: str | None = None
) -> Any:
    """Draw confusion matrices, shaded by the share of the samples of each class.

    Parameters
    ----------
    parts : mapping of str to array_like of int, shape (C, C)
        Results of `confusion_matrix`, whose rows are the true classes, by the name of the part:
        training, held-out, test.
    classes : sequence of str
        Names of the classes; 0, 1, ... by default.
    path : str, optional
        File of the figure.

    Raises
    ------
    ValueError
        If there is no part, a matrix is not square, or the number of names is wrong.
    """
    if not parts:
        raise ValueError("parts is empty: there is nothing to draw")
    matrices = {name: np.asarray(counts) for name, counts in parts.items()}
    n = len(next(iter(matrices.values())))
    for matrix in matrices.values():
        if matrix.shape != (n, n):
            raise ValueError(f"counts must be a square matrix, got shape {matrix.shape}")
    names = list(classes) or [str(k) for k in range(n)]
    if len(names) != n:
        raise ValueError(f"classes must name {n} classes, got {len(names)}")
    side = min(8.0, 3.4 + 0.28 * n)
    columns = min(len(matrices), max(1, int(WIDEST // side)))
    figure, axes = new_figure(-(-len(matrices) // columns), columns, width=side, height=side)
    figure.set_layout_engine("compressed")  # the cells are square
    for spare in axes.flat[len(matrices) :]:
        spare.remove()
    for ax, (part, matrix) in zip(axes.flat, matrices.items(), strict=False):
        image = _matrix(ax, matrix, [plain(name) for name in names])
        right, total = int(np.trace(matrix)), int(matrix.sum())
        share = f"{right} of {total} right ({100.0 * right / max(total, 1):.2f} %)"
        ax.set_title(f"{plain(part)}: {share}", fontsize=10)
    figure.colorbar(image, ax=figure.axes, aspect=30, label="share of the class's samples")
    return finished(figure, path)


def _matrix(ax: Any, matrix: NDArray[Any], names: list[str]) -> Any:
    n = len(names)
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    image = ax.imshow(share, cmap="gray_r", vmin=0.0, vmax=1.0)
    if n <= MOST_CELLS:
        size = 11 if n <= 8 else 7
        for i, j in np.ndindex(n, n):
            shade = "white" if share[i, j] > 0.5 else "black"
            ax.text(j, i, f"{matrix[i, j]}", ha="center", va="center", color=shade, fontsize=size)
    step = -(-n // MOST_CELLS)
    slant = {"rotation": 90} if max(map(len, names)) * n > 40 else {}
    ax.set_xticks(range(0, n, step), names[::step], **slant)
    ax.set_yticks(range(0, n, step), names[::step])
    ax.grid(False)
    ax.set_xlabel("class given by the network")
    ax.set_ylabel("class of the sample")
    return image


def _pair(targets: ArrayLike, outputs: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return targets and outputs of a part as two tables (T, n_L)."""
    Y, F = as_real("targets", targets), as_real("outputs", outputs)
    if Y.shape != F.shape:
        raise ValueError(f"targets and outputs must fit: {Y.shape} and {F.shape}")
    if Y.ndim not in (1, 2) or Y.size == 0:
        raise ValueError(f"targets must have shape (T, n_L), not empty, got {Y.shape}")
    Y, F = Y.reshape(Y.shape[0], -1), F.reshape(Y.shape[0], -1)
    check_finite("targets", np.where(np.isnan(Y), 0.0, Y))  # NaN: nobody knows this target
    check_finite("outputs", F)
    return Y, F


def _known(target: FloatArray, output: FloatArray) -> tuple[FloatArray, FloatArray]:
    known = ~np.isnan(target)
    return target[known], output[known]


def _ends(*pairs: tuple[FloatArray, FloatArray]) -> tuple[float, float]:
    """Return the limits of both axes, with a margin."""
    values = np.concatenate([column for pair in pairs for column in pair])
    if not values.size:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    margin = 0.04 * (high - low) or 0.04 * abs(high) or 1.0
    return low - margin, high + margin


def _names(names: Sequence[str], count: int) -> list[str]:
    if names and len(names) != count:
        raise ValueError(f"names must be {count}, one an output, got {len(names)}")
    return [plain(n) for n in names] or (
        ["target"] if count == 1 else [f"target {k}" for k in range(count)]
    )


def _worst(Y: FloatArray, predicted: FloatArray) -> list[int]:
    """Return the outputs to draw, in their order."""
    share = []
    for target, output in zip(Y.T, predicted.T, strict=True):
        known, guess = _known(target, output)
        deviation = float(known.std()) if known.size else 0.0
        error = float(np.sqrt(np.square(known - guess).mean())) if known.size else 0.0
        share.append(error / (deviation or 1.0))
    return sorted(np.argsort(-np.array(share), kind="stable")[:MOST_OUTPUTS].tolist())


def _predictions(
    figure: Any,
    ax: Any,
    target: FloatArray,
    output: FloatArray,
    ends: tuple[float, float],
    part: str,
) -> None:
    ax.plot(ends, ends, color="0.5", linewidth=1.2, label="prediction = target")
    if target.size > DENSE:
        draw_density(figure, ax, target, output, extent=(*ends, *ends))
    else:
        size = 4.0 if target.size <= 500 else 2.0
        ax.plot(target, output, "o", color="black", markersize=size, markerfacecolor="none",
                markeredgewidth=0.6)  # fmt: skip
    rows = f"{part}: {target.size} row{'s' * (target.size != 1)}"
    if target.size:
        share = r_squared(target, output)
        fit = "undefined" if np.isnan(share) else f"{share:.4f}"
        rms = np.sqrt(np.square(target - output).mean())
        rows += f"\nR\N{SUPERSCRIPT TWO} {fit}, rms error {rms:.5g}"
    ax.set_title(rows, fontsize=9)
    ax.set_xlim(*ends)
    ax.set_ylim(*ends)
    ax.locator_params(axis="x", nbins=4)
    ax.set_ylabel("prediction")


def _histogram(ax: Any, errors: Mapping[str, FloatArray], name: str) -> None:
    everything = np.concatenate(list(errors.values()))
    if not everything.size:
        return
    low, high = float(everything.min()), float(everything.max())
    bins = int(np.clip(2.0 * everything.size ** (1.0 / 3.0), 5, 60))
    if high - low <= 1e-12 * max(1e-300, abs(low), abs(high)):  # numpy refuses narrower bins
        half = 0.05 * abs(low) or 0.5
        low, high, bins = low - half, low + half, 5
    looks = BARS[: len(errors)] if len(errors) <= len(BARS) else BARS * len(errors)
    edges, foot = np.linspace(low, high, bins + 1), np.zeros(bins)
    for (part, values), (shade, hatch) in zip(errors.items(), looks, strict=False):
        counts = np.histogram(values, edges)[0]
        ax.bar(edges[:-1], counts, np.diff(edges), bottom=foot, align="edge", color=shade,
               hatch=hatch, edgecolor="0.25", linewidth=0.5, label=part)  # fmt: skip
        foot = foot + counts
    ax.axvline(0.0, color="black", linestyle="--", linewidth=1.3, label="no error")
    ax.set_xlabel(f"error of {name}")
    ax.locator_params(axis="x", nbins=4)
    ax.set_ylabel("rows")
