"""Singular values of the Jacobian, and ranks along a run."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.figures.style import legend_outside, new_figure

_LOWEST = 1e-4  # of the tolerance: smaller values are drawn there


def plot_spectrum(report: Any) -> Any:
    """Draw the singular values of P(W) of a `RankReport`, the tolerance, and the gap at the rank.

    Values far below the tolerance, and zeros, stand at the foot of the logarithmic axis.
    """
    title = f"{report.network}: N = {report.n_params}, {report.rows_said}"
    return draw_spectrum(report.singular_values, report.jacobian, title)


def draw_spectrum(s: NDArray[np.float64], found: Any, title: str) -> Any:
    """Draw singular values `s` as `plot_spectrum` does.

    Parameters
    ----------
    s : ndarray, shape (K,)
        In descending order.
    found : object with rank, tolerance and gap
    title : str
    """
    from matplotlib.ticker import MaxNLocator

    figure, axes = new_figure()
    ax = axes[0, 0]
    rank, tolerance = found.rank, found.tolerance
    floor = _LOWEST * tolerance if tolerance > 0.0 else np.finfo(float).tiny
    shown = np.maximum(s, floor)
    index = np.arange(1, s.size + 1)
    size = 5 if s.size <= 60 else 2.5
    ax.set_yscale("log")
    ax.plot(index[:rank], shown[:rank], "ko", markersize=size, label=f"counted: rank {rank}")
    if rank < s.size:
        ax.plot(
            index[rank:], shown[rank:], "ks", markersize=size, markerfacecolor="white",
            label=f"zero within rounding: {s.size - rank}",
        )  # fmt: skip
    if 0 < rank < s.size and np.isfinite(found.gap):
        label = f"gap {found.gap:.2g}"
        ax.axhspan(shown[rank], shown[rank - 1], color="0.88", zorder=0, label=label)
    if tolerance > 0.0:
        ax.axhline(tolerance, color="black", linestyle="--", linewidth=1.0, label="tolerance")
    ax.set_xlabel("number of the singular value")
    ax.set_ylabel("singular value of the Jacobian")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_title(title)
    legend_outside(figure)
    return figure


def plot_ranks(sweep: Any) -> Any:
    """Draw rank and loss at each point of a `RankSweep`."""
    from matplotlib.ticker import MaxNLocator

    figure, axes = new_figure(2, 1, height=2.6)
    top, bottom = axes[0, 0], axes[1, 0]
    ranks = [r.rank for r in sweep.ranks]
    top.plot(sweep.points, ranks, "k.-", linewidth=0.8, label="rank of P(W)")
    top.axhline(
        sweep.largest_rank, color="black", linestyle="--", linewidth=1.0, label="min(N, T n_L)"
    )
    top.set_ylabel("rank")
    top.set_ylim(0, 1.1 * sweep.largest_rank)
    losses = np.array(sweep.losses)
    if (losses > 0.0).all():
        bottom.set_yscale("log")
    bottom.plot(sweep.points, losses, "k.-", linewidth=0.8)
    bottom.set_ylabel("loss")
    bottom.set_xlabel(sweep.label)
    for ax in (top, bottom):
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend_outside(figure)
    return figure


def plot_curvature(iterations: Any, values: Any, rate: float | None = None) -> Any:
    """Draw the largest eigenvalues of the parts of the curvature over the iterations.

    With the rate of gradient descent, 2 / rate is drawn: beyond it descent is not stable.
    """
    figure, axes = new_figure()
    ax = axes[0, 0]
    styles = {
        "H": ("-", "Hessian H"),
        "G": ("--", "Gauss-Newton matrix G"),
        "S": (":", "S = H - G"),
    }
    for part, found in values.items():
        line, label = styles[part]
        ax.plot(iterations, found, line, color="black", label=label)
    if rate is not None:
        ax.axhline(2.0 / rate, color="0.6", linewidth=1.0, label=f"2 / rate = {2.0 / rate:.4g}")
    ax.set_xlabel("iteration")
    ax.set_ylabel("largest eigenvalue")
    legend_outside(figure)
    return figure


def plot_density(density: Any) -> Any:
    """Draw the cumulative distribution of a `SpectralDensity` over a signed logarithmic axis."""
    figure, axes = new_figure()
    ax = axes[0, 0]
    nodes = np.asarray(density.nodes)
    shares = np.cumsum(density.weights)
    largest = float(np.abs(nodes).max()) or 1.0
    ax.step(nodes, shares, where="post", color="black")
    powers = 10.0 ** (np.floor(np.log10(largest)) + np.arange(-6, 1, 2))
    ax.set_xscale("symlog", linthresh=powers[0])
    low, high = nodes.min() < -powers[0], nodes.max() > powers[0]
    ticks = [*(-powers[::-1] if low else ()), 0.0, *(powers if high else ())]
    ax.set_xticks(ticks, [f"{t:g}" for t in ticks], fontsize=8)
    ax.minorticks_off()
    ax.set_xlabel("eigenvalue")
    ax.set_ylabel("share of the eigenvalues up to it")
    ax.set_ylim(0.0, 1.02)
    ax.set_title(f"{density.name}, N = {density.n_params}")
    return figure
