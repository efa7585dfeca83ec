"""Box plots of final losses over many starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fastggn.figures.style import new_figure

__all__ = ["loss_boxes"]

# A loss of exactly zero, and losses of runs that left every scale, are drawn at these ends.
LOWEST, HIGHEST = 1e-33, 1e6


def loss_boxes(
    panels: Mapping[str, Mapping[str, tuple[Sequence[float], str]]],
    *,
    threshold: float,
    note: str,
) -> Any:
    """Return box plots on one logarithmic scale, a panel for each group.

    Boxes hold the middle half of the values, whiskers the middle nine tenths; every value is a dot.
    Up to three panels stand in one row, more in rows of two.

    Parameters
    ----------
    panels : mapping
        Title of a panel to its boxes: label to the values and a text above the box.
    threshold : float
        A dashed line.
    note : str
        What the texts above the boxes mean, in a word.

    Returns
    -------
    matplotlib.figure.Figure
    """
    columns = len(panels) if len(panels) <= 3 else 2
    figure, axes = new_figure(-(-len(panels) // columns), columns, width=5.0, height=3.7)
    for spare in axes.flat[len(panels) :]:
        spare.remove()
    rng = np.random.default_rng(0)  # scatters the dots sideways
    for pair, (title, boxes) in zip(axes.flat, panels.items(), strict=False):
        samples = [np.clip(values, LOWEST, HIGHEST) for values, _ in boxes.values()]
        # The scale is made of logarithms here: matplotlib's own draws no box of equal values well.
        pair.boxplot(
            [np.log10(s) for s in samples],
            whis=(5, 95),
            showfliers=False,
            widths=0.45,
            medianprops={"color": "tab:red", "linewidth": 2.0},
        )
        for place, sample in enumerate(samples, start=1):
            x = place + rng.uniform(-0.18, 0.18, sample.size)
            pair.plot(x, np.log10(sample), ".", color="0.45", markersize=3, alpha=0.6, zorder=0)
        for place, (_, text) in enumerate(boxes.values(), start=1):
            pair.text(place, np.log10(HIGHEST) + 3.2, text, ha="center", fontsize=9)
        pair.text(0.45, np.log10(HIGHEST) + 3.2, f"{note}:", ha="right", fontsize=9)
        pair.axhline(np.log10(threshold), color="0.3", linestyle="--", linewidth=1.0)
        pair.set_xticks(range(1, len(boxes) + 1), list(boxes), fontsize=9)
        pair.set_ylim(np.log10(LOWEST) - 1.0, np.log10(HIGHEST) + 6.0)
        ticks = np.arange(-30, np.log10(HIGHEST) + 1, 6)
        pair.set_yticks(ticks, [rf"$10^{{{tick:.0f}}}$" for tick in ticks])
        pair.set_title(title, fontsize=10)
    for pair in axes[:, 0]:
        pair.set_ylabel("final loss")
    return figure
