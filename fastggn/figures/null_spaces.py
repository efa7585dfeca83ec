"""Pictures of null spaces."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastggn.figures.style import legend_outside, new_figure


def plot_singular_values(report: Any) -> Any:
    """Draw the singular values of a `NullSpaceReport`, with the tolerance and the rank."""
    figure, axes = new_figure()
    pair = axes[0, 0]
    s = np.asarray(report.singular_values)
    index = np.arange(1, s.size + 1)
    floor = max(report.tolerance, 1e-300) * 1e-3
    pair.semilogy(index, np.maximum(s, floor), "ko", markersize=3, label="singular values of J")
    pair.axhline(report.tolerance, color="0.4", linestyle="--", label="tolerance")
    pair.axvline(report.rank + 0.5, color="0.4", linestyle=":", label=f"rank {report.rank}")
    pair.set_xlabel("index")
    pair.set_ylabel("singular value")
    pair.set_title(f"null space of dimension {report.dimension} of {report.basis.shape[0]}")
    legend_outside(figure)
    return figure
