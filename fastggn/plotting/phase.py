"""Phase diagrams: the rank of the Jacobian over widths and numbers of samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastggn.plotting.style import new_figure

if TYPE_CHECKING:
    from fastggn.analysis.rank import RankPhase

__all__ = ["plot_phase"]


def plot_phase(phases: Sequence[RankPhase], titles: Sequence[str] = ()) -> Any:
    """Draw rank / min(N, T n_L) over (width, T), one panel a phase, with N = T n_L drawn in.

    Parameters
    ----------
    phases : sequence of RankPhase
    titles : sequence of str
        Of the panels; none by default.

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure, axes = new_figure(1, len(phases), width=4.4, height=4.2)
    image = None
    for number, (ax, phase) in enumerate(zip(axes[0], phases, strict=True)):
        sizes, samples = np.array(phase.sizes), np.array(phase.samples)
        ax.grid(False)
        image = ax.pcolormesh(
            sizes, samples, phase.share, cmap="gray", vmin=0.0, vmax=1.0, shading="nearest",
            edgecolors="0.8", linewidth=0.1,
        )  # fmt: skip
        ax.plot(
            sizes, np.array(phase.n_params) / phase.n_outputs,
            color="red", linestyle="--", marker="o", markersize=3, label="$N = T n_L$",
        )  # fmt: skip
        ax.set_ylim(samples[0] - _half(samples, 0), samples[-1] + _half(samples, -1))
        ax.set_xlim(sizes[0] - _half(sizes, 0), sizes[-1] + _half(sizes, -1))
        ax.set_xlabel("units in the hidden layer")
        if number == 0:
            ax.set_ylabel("samples T")
            ax.legend(loc="upper left")
        if titles:
            ax.set_title(titles[number])
    figure.colorbar(image, ax=list(axes[0]), label="rank of P(W) / min(N, T n_L)")
    return figure


def _half(numbers: Any, end: int) -> float:
    """Return half the distance of the first or last two numbers."""
    if len(numbers) < 2:
        return 0.5
    return 0.5 * abs(float(numbers[1] - numbers[0] if end == 0 else numbers[-1] - numbers[-2]))
