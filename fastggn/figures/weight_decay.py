"""Losses along a path of weight decays."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastggn.figures.style import legend_outside, new_figure


def plot_weight_decay(path: Any) -> Any:
    """Draw the training and validation losses of a `WeightDecayPath` against the weight decay."""
    figure, axes = new_figure()
    ax = axes[0, 0]
    ax.set_xscale("log")
    ax.set_yscale("log")
    ax.plot(path.grid, path.training_losses, "k--s", markersize=4, mfc="white", label="training")
    errors = np.nan_to_num(path.validation_errors)
    ax.errorbar(
        path.grid, path.validation_losses, yerr=errors, fmt="k-o", markersize=4, capsize=2,
        linewidth=1.4, label="validation" + (", standard error" if errors.any() else ""),
    )  # fmt: skip
    ax.axvline(path.l2, color="black", linestyle=":", label=f"chosen: {path.l2:.2g}")
    ax.set_xlabel("weight decay l2")
    ax.set_ylabel("mean loss, without l2")
    ax.set_title("Weight decay by validation")
    legend_outside(figure)
    return figure
