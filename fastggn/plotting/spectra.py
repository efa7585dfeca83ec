"""Singular values of the Jacobian, and ranks along a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from fastggn.plotting.style import new_figure

if TYPE_CHECKING:
    from fastggn.analysis.rank import RankReport, RankSweep

__all__ = ["plot_ranks", "plot_spectrum"]


def plot_spectrum(report: RankReport) -> Any:
    """Draw the singular values of P(W), the tolerance, and the gap between kept and dropped.

    Values of exactly 0 have no place on a logarithmic axis: they stand at its foot.

    Parameters
    ----------
    report : RankReport

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, axes = new_figure()
    ax = axes[0, 0]
    s, rank = report.singular_values, report.rank
    positive = s[s > 0.0]
    floor = 0.1 * min(report.tolerance, float(positive.min())) if positive.size else 1e-17
    floor = floor or 1e-17
    index = np.arange(1, s.size + 1)
    size = 5 if s.size <= 60 else 2
    ax.semilogy(index[:rank], s[:rank], "ko", markersize=size, label=f"counted: rank {rank}")
    dropped = index[rank:]
    if dropped.size:
        shown = np.maximum(s[rank:], floor)
        label = f"zero within rounding: {dropped.size}"
        ax.semilogy(dropped, shown, "ks", markersize=size, markerfacecolor="white", label=label)
    if report.tolerance > 0.0:
        ax.axhline(
            report.tolerance, color="black", linestyle="--", linewidth=1.0, label="tolerance"
        )
    if 0 < rank < s.size and np.isfinite(report.gap):
        ax.axvspan(rank, rank + 1, color="0.85", zorder=0, label=f"gap {report.gap:.2g}")
    ax.set_xlabel("number of the singular value")
    ax.set_ylabel("singular value of P(W)")
    columns = report.n_samples * report.n_outputs
    ax.set_title(f"{report.network}: N = {report.n_params}, T n_L = {columns}")
    ax.set_ylim(bottom=0.3 * min(floor, report.tolerance or floor))
    ax.legend(loc="best", frameon=True)
    return figure


def plot_ranks(sweep: RankSweep) -> Any:
    """Draw rank and loss at each point of a sweep.

    Parameters
    ----------
    sweep : RankSweep

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, axes = new_figure(2, 1, height=2.6)
    top, bottom = axes[0, 0], axes[1, 0]
    ranks = [r.rank for r in sweep.ranks]
    top.plot(sweep.points, ranks, "k.-", linewidth=0.8, label="rank of P(W)")
    top.axhline(
        sweep.largest_rank, color="black", linestyle="--", linewidth=1.0, label="min(N, T n_L)"
    )
    top.set_ylabel("rank")
    top.set_ylim(0, 1.1 * sweep.largest_rank)
    top.legend(loc="lower right")
    losses = np.array(sweep.losses)
    if (losses > 0.0).all():
        bottom.set_yscale("log")
    bottom.plot(sweep.points, losses, "k.-", linewidth=0.8)
    bottom.set_ylabel("loss")
    bottom.set_xlabel(sweep.label)
    return figure
