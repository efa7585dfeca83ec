"""The spectrum of a Hessian at a critical point."""

from __future__ import annotations

from typing import Any

import numpy as np

from fastggn.figures.style import legend_outside, new_figure

SEEN = 1e-10  # of a loss: smaller differences are rounding


def plot_eigenvalues(report: Any) -> Any:
    """Draw the eigenvalues of a `CriticalPointReport` on a signed logarithmic scale.

    Raises
    ------
    ValueError
        If the report has no eigenvalues: of a point that is not critical, or at a kink.
    """
    if report.eigenvalues is None:
        raise ValueError(f"the report has no eigenvalues: {report.label}, {report.reason}")
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


def plot_split_index(table: Any) -> Any:
    """Draw the lowest eigenvalue of a `SplitIndex` over gamma, with the negative ones counted.

    What is within its error bound stands at 0.
    """
    figure, axes = new_figure()
    pair = axes[0, 0]
    lowest = table.eigenvalues[:, 0]
    lowest = np.where(np.abs(lowest) <= table.bounds, 0.0, lowest)
    negative = table.inertias[:, 2]
    pair.axhline(0.0, color="0.7", linewidth=0.8)
    for edge in (0.0, 1.0):
        pair.axvline(edge, color="0.7", linewidth=0.8, linestyle=":")
    pair.plot(table.gammas, lowest, "o-", color="black", markerfacecolor="none")
    for gamma, value, count in zip(table.gammas, lowest, negative, strict=True):
        pair.annotate(
            str(count), (gamma, value), textcoords="offset points", xytext=(0, 6), ha="center",
            fontsize=8,
        )  # fmt: skip
    pair.margins(y=0.15)
    pair.set_xlabel("share gamma of the outgoing weights")
    pair.set_ylabel("lowest eigenvalue of the Hessian")
    pair.set_title("a split unit; numbers count the negative eigenvalues")
    return figure


def plot_way_to_infinity(found: Any) -> Any:
    """Draw the losses above the limit of a `MinimumAtInfinity`, and |theta|, on the way there.

    Raises
    ------
    ValueError
        If the verdict is another one.
    """
    if found.label != "minimum_at_infinity":
        raise ValueError(f"the verdict is {found.label!r}: there is no way to infinity to draw")
    scaled = found.kind in ("saturation", "separation")
    way = 1.0 / found.separations if scaled else found.separations
    above = found.losses - found.loss
    seen = above > SEEN * found.loss
    outwards = way if scaled else -way
    first = int(np.argmax(np.where(seen, outwards, -np.inf)))
    line = np.linspace(way.min(), way.max(), 50)
    if scaled:
        law = np.exp(found.predicted * (way[first] - line))
    else:
        law = (line / way[first]) ** found.predicted
    figure, axes = new_figure(1, 2, width=4.6, height=3.8)
    left, right = axes[0]
    left.plot(line, above[first] * law, "--", color="black", label="foreseen by the limit")
    left.plot(way[seen], above[seen], "o", color="black", markerfacecolor="none", label="measured")
    right.plot(way, found.norms, "o-", color="black", markerfacecolor="none")
    for pair in (left, right):
        pair.set_xlabel("scale of the weights" if scaled else "separation of the units")
        if pair is left or not scaled:
            pair.set_yscale("log")
        if not scaled:
            pair.set_xscale("log")
            pair.set_xticks(way, [f"{entry:.3g}" for entry in way])
            pair.set_xticks([], minor=True)
            pair.invert_xaxis()  # infinity on the right
    left.set_ylabel("loss above the limit")
    right.set_ylabel("size of theta")
    figure.suptitle(f"{found.kind}, loss {found.loss:.6g} at infinity", fontsize=10)
    legend_outside(figure)
    return figure
