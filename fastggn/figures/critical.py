"""The spectrum of a Hessian at a critical point."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastggn.figures.style import legend_outside, new_figure


def plot_eigenvalues(report: Any) -> Any:
    """Draw the eigenvalues of a `CriticalPointReport` on a signed logarithmic scale.

    Raises
    ------
    ValueError
        If the report has no eigenvalues because its point is not critical.
    """
    if report.eigenvalues is None:
        raise ValueError("the report has no eigenvalues: the point is not critical")
    values = np.asarray(report.eigenvalues)
    bounds = np.asarray(report.eigenvalue_bounds)
    null = np.abs(values) <= bounds
    threshold = max(float(bounds[null].max(initial=0.0)), 1e-16)
    figure, axes = new_figure()
    pair = axes[0, 0]
    index = np.arange(1, values.size + 1)
    kinds = (
        (values > bounds, "^", "positive"),
        (null, "o", "within the error bound"),
        (values < -bounds, "v", "negative"),
    )
    for chosen, marker, name in kinds:
        if chosen.any():
            pair.plot(
                index[chosen], values[chosen], marker, color="black", markerfacecolor="none",
                label=f"{name} ({np.count_nonzero(chosen)})",
            )  # fmt: skip
    pair.set_yscale("symlog", linthresh=10.0 * threshold)
    largest = float(np.abs(values).max(initial=threshold))
    lowest = float(values.min())
    decades = np.arange(np.ceil(np.log10(10.0 * threshold)), np.ceil(np.log10(largest)) + 1)
    step = max(1, decades.size // 4)
    powers = 10.0 ** decades[step - 1 :: step]  # not beside the 0, where labels would overlap
    negative = -powers[powers <= -10.0 * lowest][::-1]
    pair.set_yticks([*negative, 0.0, *powers])
    pair.set_xlabel("index")
    pair.set_ylabel("eigenvalue of the Hessian")
    pair.set_title(f"{report.label.replace('_', ' ')}, loss {report.loss:.6g}")
    legend_outside(figure)
    return figure
