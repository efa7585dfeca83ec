"""One look for every figure: readable in black and white, drawn without a display."""

from __future__ import annotations

from typing import Any, BinaryIO

__all__ = ["LINES", "MARKERS", "new_figure", "save"]

# Line styles and markers tell curves apart where colours cannot.
LINES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "x")


def new_figure(rows: int = 1, columns: int = 1, *, width: float = 6.4, height: float = 4.2) -> Any:
    """Return a figure and its axes, ``(rows, columns)``, on no display.

    Parameters
    ----------
    rows, columns : int
    width, height : float
        Of one pair of axes, in inches.

    Raises
    ------
    ImportError
        If matplotlib is absent; the message names the extra.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(
            "plots need matplotlib: install the extra with pip install 'fastggn[plot]'"
        ) from error
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for pair in axes.flat:
        pair.grid(True, which="major", alpha=0.3)
        pair.spines[["top", "right"]].set_visible(False)
    return figure, axes


def save(figure: Any, path: str | BinaryIO) -> None:
    """Write a figure as the picture that the name's ending says, or as PNG to a binary stream.

    At 150 dots an inch.
    """
    figure.savefig(path, dpi=150, format=None if isinstance(path, str) else "png")
