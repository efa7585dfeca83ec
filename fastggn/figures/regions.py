"""Pictures of the loss surface decomposition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastggn.figures.style import LINES, MARKERS, new_figure

# Shades and hatches of bars: all patterns, realisable ones, attained minima.
_BARS = (("all", "0.85", "//"), ("realisable", "0.55", ""), ("attained", "0.1", ""))


def plot_loss_tables(tables: Sequence[dict[str, Any]]) -> Any:
    """Draw how often each subglobal value occurs, one pair of axes a number of hidden units."""
    columns = min(2, len(tables))
    rows = -(-len(tables) // columns)
    figure, axes = new_figure(rows, columns, width=5.6, height=3.4)
    for pair, table in zip(axes.flat, tables, strict=False):
        shown = [bar for bar in _BARS if table[bar[0]] is not None]
        place = np.arange(len(table["values"]))
        width = 0.8 / len(shown)
        for k, (name, shade, hatch) in enumerate(shown):
            offset = (k - 0.5 * (len(shown) - 1)) * width
            pair.bar(place + offset, table[name], width, label=name, color=shade, hatch=hatch,
                     edgecolor="0.2", linewidth=0.5)  # fmt: skip
        pair.set_yscale("symlog", linthresh=1.0)
        pair.set_ylim(bottom=0.0)
        step = max(1, len(place) // 12)
        pair.set_xticks(place[::step], [f"{v:.3g}" for v in table["values"][::step]])
        pair.set_title(f"h = {table['n_hidden']}")
        pair.set_xlabel("subglobal loss")
        pair.set_ylabel("regions")
        pair.grid(False, axis="x")
    for pair in axes.flat[len(tables) :]:
        pair.set_visible(False)
    figure.legend(*axes.flat[0].get_legend_handles_labels(), loc="outside lower center", ncols=3,
                  frameon=False)  # fmt: skip
    return figure


def plot_region_map(result: dict[str, Any]) -> Any:
    """Draw the plane of a unit's two weights, cut by the samples into regions."""
    figure, axes = new_figure(width=5.2, height=5.0)
    pair = axes[0, 0]
    from matplotlib.patches import Wedge

    shades = np.linspace(0.95, 0.65, len(result["regions"]))
    for region, shade in zip(result["regions"], shades, strict=True):
        low, high = region["from"], region["to"]
        degrees = np.degrees([low, high])
        pair.add_patch(Wedge((0.0, 0.0), 3.0, *degrees, color=str(shade), linewidth=0.0))
        middle = 0.5 * (low + high)
        pair.text(0.78 * np.cos(middle), 0.78 * np.sin(middle), region["pattern"], ha="center",
                  va="center", family="monospace", fontsize=11)  # fmt: skip
    for number, x in enumerate(result["samples"], start=1):
        along = np.array([-x[1], x[0]]) / np.hypot(*x)
        pair.plot([-2 * along[0], 2 * along[0]], [-2 * along[1], 2 * along[1]], color="black",
                  linestyle=LINES[(number - 1) % len(LINES)], linewidth=1.4,
                  label=f"$w^T x_{number} = 0$, $x_{number}$ = ({x[0]:g}, {x[1]:g})")  # fmt: skip
    pair.set(xlim=(-1.2, 1.2), ylim=(-1.2, 1.2), xlabel="$w_1$", ylabel="$w_2$", aspect="equal")
    pair.set_title("Regions of one unit, by active samples")
    pair.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2, fontsize=8,
                frameon=False)  # fmt: skip
    return figure


def plot_boundary_minimum(result: dict[str, Any]) -> Any:
    """Draw the loss over two weights, and along w_1 through the boundary w_1 = 0."""
    figure, axes = new_figure(1, 2, width=5.2, height=4.2)
    left, right = axes[0]
    w1, w2 = np.array(result["w1"]), np.array(result["w2"])
    loss = np.array(result["loss"])
    levels = np.array([0.55, 1.0, 2.0, 3.0, 4.0, 4.5, 4.9, 5.5, 7.0, 10.0, 15.0, 25.0, 40.0])
    lines = left.contour(w1, w2, loss, levels, colors="0.35", linewidths=0.8)
    left.clabel(lines, fontsize=7, fmt="%g")
    left.plot([0, 0], [0, w2[-1]], color="black", linewidth=3.5, label="local minima, loss 5")
    left.plot([0, 0], [w2[0], 0], color="black", linestyle=":", linewidth=2.0,
              label="boundary, not minima")  # fmt: skip
    left.set(xlabel="$w_1$", ylabel="$w_2$", title="$L(w_1, w_2)$ and the boundary $w_1 = 0$")
    left.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, fontsize=9,
                frameon=False)  # fmt: skip
    for k, cut in enumerate(result["cuts"]):
        right.plot(w1, cut["loss"], color="black", linestyle=LINES[k % len(LINES)],
                   marker=MARKERS[k % len(MARKERS)], markevery=(3 * k, 16), markersize=4,
                   markerfacecolor="white", label=f"$w_2 = {cut['w2']:g}$")  # fmt: skip
    right.axvline(0.0, color="0.6", linewidth=0.8)
    right.set(xlabel="$w_1$", ylabel="loss", ylim=(3.0, 8.0), title="Loss along $w_1$")
    right.legend(frameon=False)
    return figure


def plot_accuracies(result: dict[str, Any]) -> Any:
    """Draw training accuracy against time, one pair of axes a width and kind of network."""
    cells = result["cells"]
    kinds = ["random", "rich"]
    widths = list(dict.fromkeys(cell["k"] for cell in cells))
    figure, axes = new_figure(len(kinds), len(widths), width=3.6, height=3.0)
    for cell in cells:
        pair = axes[kinds.index(cell["kind"]), widths.index(cell["k"])]
        pair.errorbar(cell["seconds"], cell["mean"], cell["deviation"], color="black",
                      linestyle=LINES[0], marker=MARKERS[0], markersize=4, capsize=2,
                      label="Adam, mean and deviation")  # fmt: skip
        for entry in result["second_order"]:
            if (entry["kind"], entry["k"]) == (cell["kind"], cell["k"]):
                points = entry["points"]
                pair.plot([p["seconds"] for p in points], [p["accuracy"] for p in points],
                          color="0.35", linestyle=LINES[1], marker=MARKERS[1], markersize=4,
                          label="Levenberg-Marquardt, batches")  # fmt: skip
        if cell["paper"]:
            pair.axhline(cell["paper"][0], color="black", linestyle=LINES[3], label="paper")
            high = max(cell["paper"][0], max(cell["mean"]))
            low = min(cell["mean"])
            pair.set_ylim(low - 0.4 * (high - low) - 0.5, high + 0.15 * (high - low) + 0.1)
        pair.set_title(f"{cell['kind']}, k = {cell['k']}")
        pair.set_xlabel("seconds")
        pair.set_xlim(left=0.0)
    for row in axes:
        row[0].set_ylabel("accuracy (%)")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3,
                  frameon=False)  # fmt: skip
    return figure
