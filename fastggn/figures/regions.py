"""Bars of the subglobal losses of a ReLU network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from fastggn.figures.style import new_figure

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
