"""Losses along a line and over a plane."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastggn.analysis.magnitudes import row_norms
from fastggn.analysis.plain import plain
from fastggn.runtime.errors import as_float_vector
from fastggn.training.step import norm

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LossLine:
    """The loss at theta + a d for steps a.

    Attributes
    ----------
    theta, direction : ndarray, shape (N,)
        The point and d.
    steps, losses : ndarray, shape (K,)
        a, and the objective there; inf or nan where the outputs overflow.
    label : str
        Name of the direction.
    loss : float
        The objective at theta.
    slope, curvature : float
        d^T gradient and d^T Hessian d at theta.
    """

    theta: FloatArray = field(repr=False)
    direction: FloatArray = field(repr=False)
    steps: FloatArray
    losses: FloatArray
    label: str
    loss: float
    slope: float
    curvature: float

    @property
    def quadratic(self) -> FloatArray:
        """The second-order Taylor polynomial of the loss at the steps, shape (K,)."""
        model = self.loss + self.slope * self.steps + 0.5 * self.curvature * self.steps**2
        return np.asarray(model)

    def plot(self, *, ax: Any = None, path: str | None = None) -> Any:
        """Return a matplotlib figure of the loss against the step, see `plot_line`."""
        from fastggn.figures.surface import plot_line

        return plot_line(self, ax=ax, path=path)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold (NaN and infinities in its common extension)."""
        found = plain(self, "label", "steps", "losses", "loss", "slope", "curvature")
        return {**found, "direction_norm": norm(self.direction)}

    def __str__(self) -> str:
        lowest = _lowest(self.losses)
        where = "nowhere finite" if lowest is None else f"{self.losses[lowest]:.6g} at step "
        where += "" if lowest is None else f"{self.steps[lowest]:.4g}"
        return "\n".join(
            [
                f"direction   {self.label}, norm {norm(self.direction):.4g}",
                f"steps       {self.steps.size} from {self.steps[0]:.4g} to {self.steps[-1]:.4g}",
                f"loss        {self.loss:.6g} at step 0; lowest on the line: {where}",
                f"slope       {self.slope:.4e}",
                f"curvature   {self.curvature:.4e}",
            ]
        )


@dataclass(frozen=True, eq=False)
class LossPlane:
    """The loss at theta + a d + b e over a grid of steps.

    Attributes
    ----------
    theta : ndarray, shape (N,)
    directions : ndarray, shape (2, N)
        d and e.
    steps : pair of ndarray, shapes (A,) and (B,)
        a and b.
    losses : ndarray, shape (B, A)
        The objective, a row for each b.
    labels : pair of str
        Names of the directions.
    cosine : float
        Of the angle between d and e.
    """

    theta: FloatArray = field(repr=False)
    directions: FloatArray = field(repr=False)
    steps: tuple[FloatArray, FloatArray]
    losses: FloatArray
    labels: tuple[str, str]
    cosine: float

    def coordinates(self, theta: ArrayLike) -> tuple[float, float, float]:
        """Return the steps (a, b) to the plane's point nearest to theta (N,), and its distance.

        Raises
        ------
        TypeError, ValueError
            If theta has another shape or an entry that is not a finite real number.
        """
        away = as_float_vector("theta", theta, self.theta.size) - self.theta
        steps, *_ = np.linalg.lstsq(self.directions.T, away, rcond=None)
        distance = float(np.linalg.norm(away - steps @ self.directions))
        return float(steps[0]), float(steps[1]), distance

    def plot(self, *, marks: Any = None, ax: Any = None, path: str | None = None) -> Any:
        """Return a matplotlib figure of the level lines, see `plot_plane`."""
        from fastggn.figures.surface import plot_plane

        return plot_plane(self, marks=marks, ax=ax, path=path)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold (NaN and infinities in its common extension)."""
        norms = row_norms(self.directions).tolist()
        return {**plain(self, "labels", "steps", "losses", "cosine"), "direction_norms": norms}

    def __str__(self) -> str:
        lowest = _lowest(self.losses)
        lines = [
            f"direction {name}  {label}, norm {norm(d):.4g}, "
            f"{s.size} steps from {s[0]:.4g} to {s[-1]:.4g}"
            for name, label, d, s in zip(
                "de", self.labels, self.directions, self.steps, strict=True
            )
        ]
        lines.append(f"cosine       {self.cosine:.4g}")
        if lowest is None:
            return "\n".join([*lines, "loss         nowhere finite"])
        row, column = np.unravel_index(lowest, self.losses.shape)
        a, b = self.steps[0][column], self.steps[1][row]
        value = self.losses[row, column]
        return "\n".join([*lines, f"lowest loss  {value:.6g} at ({a:.4g}, {b:.4g})"])


def _lowest(losses: FloatArray) -> int | None:
    finite = np.isfinite(losses)
    return int(np.argmin(np.where(finite, losses, np.inf))) if finite.any() else None
