"""The Newton system of a point with the curvature of some of its samples."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastggn.network.workspace import WorkspacePool
from fastggn.objective.point import Point

if TYPE_CHECKING:
    from fastggn.objective.functions import Functions


FloatArray = NDArray[np.float64]


class SampledPoint(Point):
    """The system of a point, with A from some samples and the gradient from all of them.

    A^T A is the weighted mean over the sample. There is no b: A^T b would be the sample's gradient.
    """

    b = None

    def __init__(self, part: Functions, whole: Point, spaces: WorkspacePool) -> None:
        super().__init__(part._objective, whole.theta, spaces)
        self._whole = whole

    @property
    def data_gradient(self) -> FloatArray:
        """The gradient of the loss of all samples, shape (N,)."""
        return self._whole.data_gradient

    @property
    def decay(self) -> FloatArray | float:
        """l2, or the l2 of each parameter, of the whole objective."""
        return self._whole.decay

    def data_residual(self, x: FloatArray) -> FloatArray | None:
        """Return the gradient of all samples less A^T A x, shape (N,)."""
        return self.data_gradient - self.rmatvec(self.matvec(x))


def draw_rows(n_samples: int, count: int, width: int, rng: np.random.Generator) -> NDArray[np.intp]:
    """Return `count` sorted rows of T, or a few less, in neighbourhoods of `width` rows.

    The rows of all samples are a circle, cut into equal arcs at a random place; each arc gives one
    neighbourhood. So every row is equally likely, and a sorted table is sampled evenly.
    """
    n_arcs = max(1, count // width)
    cuts = np.arange(n_arcs + 1) * n_samples // n_arcs
    room = np.diff(cuts) - width + 1
    starts = cuts[:-1] + (rng.random(n_arcs) * room).astype(np.intp) + rng.integers(n_samples)
    rows = (starts[:, None] + np.arange(width)).ravel() % n_samples
    return np.sort(rows)
