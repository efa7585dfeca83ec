"""One look for every figure: readable in black and white, drawn without a display."""

from __future__ import annotations

import importlib.util
import os
from typing import Any, BinaryIO

from fastggn.runtime.atomic_files import write_atomically
from fastggn.runtime.version import __version__

# Line styles and markers tell curves apart without colours.
LINES = ("-", "--", "-.", ":")
MARKERS = ("o", "s", "^", "D", "v", "x")
LONGEST = 40  # letters of a name
# The entry of a format that names the program: a later run may then replace the file.
PROGRAM = {"png": "Software", "pdf": "Creator", "svg": "Creator", "eps": "Creator"}
DENSE = 3000  # dots that can be told apart: more are drawn as density
ABSENT = "plots need matplotlib: install the extra with pip install 'fastggn[plot]'"


def new_figure(rows: int = 1, columns: int = 1, *, width: float = 6.4, height: float = 4.2) -> Any:
    """Return a figure and its axes, ``(rows, columns)``, without a display.

    Parameters
    ----------
    rows, columns : int
    width, height : float
        Size of one pair of axes in inches.

    Raises
    ------
    ImportError
        If matplotlib is absent; the message names the extra.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError(ABSENT) from error
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for pair in axes.flat:
        pair.grid(True, which="major", alpha=0.3)
        pair.spines[["top", "right"]].set_visible(False)
    return figure, axes


def require_matplotlib() -> None:
    """Check that matplotlib is installed, without its slow import."""
    if importlib.util.find_spec("matplotlib") is None:
        raise ImportError(ABSENT)


def on_axes(ax: Any, *, width: float = 6.4, height: float = 4.2) -> tuple[Any, Any]:
    """Return the figure and the axes to draw on: given or new ones."""
    if ax is not None:
        return ax.figure, ax
    figure, axes = new_figure(width=width, height=height)
    return figure, axes[0, 0]


def legend_outside(figure: Any, ax: Any = None, **style: Any) -> None:
    """Name all that is drawn below the figure, or on given axes where it hides least.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
    ax : matplotlib.axes.Axes, optional
        Axes of another figure, whose layout is not ours.
    **style
        Further arguments of matplotlib's ``legend``.
    """
    found: dict[str, Any] = {}
    for pair in figure.axes if ax is None else [ax]:
        for handle, label in zip(*pair.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    if not found:
        return
    names = list(found)
    place: dict[str, Any] = {"loc": "best"}
    if ax is None:
        letters = max(4, int(13 * figure.get_figwidth()))  # in a line of the legend
        columns = next(n for n in range(len(names), 0, -1) if n == 1 or _width(names, n) <= letters)
        place = {"loc": "outside lower center", "ncols": columns, "frameon": False}
    owner = figure if ax is None else ax
    owner.legend(found.values(), names, **{"fontsize": 9, **place, **style})


def _width(names: list[str], columns: int) -> int:
    """Return the letters of a line of a legend, which fills its columns from top to bottom."""
    rows = -(-len(names) // columns)
    parts = [names[k : k + rows] for k in range(0, len(names), rows)]
    return sum(7 + max(map(len, part)) for part in parts)


def finished(figure: Any, path: str | None) -> Any:
    """Return a figure after writing it to `path`, if there is one."""
    if path is not None:
        save(figure, path)
    return figure


def save(figure: Any, path: str | os.PathLike[str] | BinaryIO) -> None:
    """Write a figure in the format of the ending of the name, or as PNG to a binary stream.

    The picture has 150 dots an inch and no margins; a file is replaced in one step.

    Raises
    ------
    ValueError
        If the ending is unknown, or `path` is a folder or a device.
    OSError
        If the file cannot be written.
    """
    if not isinstance(path, (str, os.PathLike)):
        figure.savefig(path, dpi=150, format="png", bbox_inches="tight")
        return
    kind = picture_format(path)

    mark = {PROGRAM[kind]: f"fastggn {__version__}"} if kind in PROGRAM else None

    def write(stream: BinaryIO) -> None:
        figure.savefig(stream, dpi=150, format=kind, bbox_inches="tight", metadata=mark)

    write_atomically(path, write)


def picture_format(path: str | os.PathLike[str]) -> str:
    """Return the format of the ending of a name; PNG without an ending."""
    figure, _ = new_figure()
    known = sorted(figure.canvas.get_supported_filetypes())
    ending = os.path.splitext(os.fspath(path))[1].lstrip(".").lower() or "png"
    if ending not in known:
        raise ValueError(f"{path}: no picture is written as .{ending} (known: {', '.join(known)})")
    return ending


def draw_density(
    figure: Any, ax: Any, x: Any, y: Any, label: str = "rows in a cell", **style: Any
) -> None:
    """Shade hexagons by the number of points in them, on a logarithmic scale."""
    from matplotlib.colors import ListedColormap

    # The lightest cell, of one point, must still differ from the paper.
    shades = ListedColormap([str(0.85 - 0.85 * k / 31) for k in range(32)])
    image = ax.hexbin(x, y, gridsize=40, bins="log", mincnt=1, cmap=shades, linewidths=0.1, **style)
    figure.colorbar(image, ax=ax, label=label, pad=0.02)


def plain(text: str) -> str:
    """Return a name for matplotlib: one line, not too long, without mathematics."""
    visible = "".join(letter if letter.isprintable() else " " for letter in text)
    short = (
        visible if len(visible) <= LONGEST else visible[: LONGEST - 1] + "\N{HORIZONTAL ELLIPSIS}"
    )
    return short.replace("$", r"\$")
