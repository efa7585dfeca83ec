"""Phase diagrams: the rank of the Jacobian over widths and numbers of samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fastggn.figures.style import new_figure

if TYPE_CHECKING:
    from papers.phase import RankPhase

__all__ = ["plot_phase"]


def plot_phase(phases: Sequence[RankPhase], titles: Sequence[str] = ()) -> Any:
    """Draw rank / (T n_L) over (width, T), one panel a phase, with N = T n_L drawn in.

    White is full column rank, which Shen's Proposition 1 (2018) asks for; it is impossible above
    the line.

    Parameters
    ----------
    phases : sequence of RankPhase
    titles : sequence of str
        Of the panels; none by default.

    Returns
    -------
    matplotlib.figure.Figure
    """
    columns = 2 if len(phases) == 4 else len(phases)
    rows = -(-len(phases) // columns)
    figure, axes = new_figure(rows, columns, width=4.6, height=3.7)
    image = None
    for number, (ax, phase) in enumerate(zip(axes.flat, phases, strict=True)):
        image = _panel(ax, phase)
        if number % columns == 0:
            ax.set_ylabel("samples T")
        if number >= len(phases) - columns:
            ax.set_xlabel("units in the hidden layer")
        if number == 0:
            ax.legend(loc="upper left")
        if titles:
            ax.set_title(titles[number])
    figure.colorbar(image, ax=axes, label="rank of P(W) / (T n_L)")
    return figure


def _panel(ax: Any, phase: RankPhase) -> Any:
    """Draw one phase and return its image."""
    sizes, samples = np.array(phase.sizes), np.array(phase.samples)
    ax.grid(False)
    image = ax.pcolormesh(
        sizes, samples, phase.column_share, cmap="gray", vmin=0.0, vmax=1.0, shading="nearest"
    )
    boundary = np.array(phase.n_params) / phase.n_outputs
    # A white line below the black one: it must show on dark and on light.
    ax.plot(sizes, boundary, color="white", linewidth=4.0)
    ax.plot(sizes, boundary, color="black", linestyle="--", linewidth=1.5, label="N = T n_L")
    ax.set_ylim(samples[0] - _half(samples, 0), samples[-1] + _half(samples, -1))
    ax.set_xlim(sizes[0] - _half(sizes, 0), sizes[-1] + _half(sizes, -1))
    return image


def _half(numbers: Any, end: int) -> float:
    """Return half the distance of the first or last two numbers."""
    if len(numbers) < 2:
        return 0.5
    return 0.5 * abs(float(numbers[1] - numbers[0] if end == 0 else numbers[-1] - numbers[-2]))
