"""The Newton system of a point with the curvature of some of its samples."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fastggn.network.workspace import WorkspacePool
from fastggn.objective.point import Point
from fastggn.runtime.threads import pooled

if TYPE_CHECKING:
    from fastggn.objective.functions import Functions


FloatArray = NDArray[np.float64]

# The standard error of an estimated decrease, at most this share of it.
PRECISE = 0.05


class SampledPoint(Point):
    """The system of a point, with A from some samples and the gradient from all of them.

    A^T A is the weighted mean over the sample. There is no b: A^T b would be the sample's gradient.
    """

    b = None

    def __init__(
        self, part: Functions, whole: Point, spaces: WorkspacePool | None = None, width: int = 1
    ) -> None:
        super().__init__(part._objective, whole.theta, spaces or whole._spaces)
        self._whole = whole
        self._width = width  # of the neighbourhoods that were drawn

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

    def predicted_decrease(self, step: FloatArray) -> float:
        """Return the decrease that the model of all samples promises for a step (N,).

        The curvature along the step is that of this sample if that is precise enough, and then the
        step must not come from this sample.
        """
        whole = self._whole
        curvature, error = self._curvature_and_error(step)
        decrease = -float(whole.gradient @ step) - 0.5 * (curvature + whole._decayed(step))
        if not 0.5 * error <= PRECISE * decrease:
            return whole.predicted_decrease(step)
        return decrease

    @pooled
    def _curvature_and_error(self, v: FloatArray) -> tuple[float, float]:
        """Return v^T A^T D A v, and its standard error for all samples (collective)."""
        direction = np.ascontiguousarray(v).reshape(1, -1)
        sums = np.zeros(2)
        for block in self.rows.blocks():  # each belongs to one term, a stratum
            image = self.rows.by_factor("bos,pbo->pbs", block, block.tangents(direction))[0]
            signs = self._factors.of(block)[2] if self._terms.signed else None
            squares = image * (image if signs is None else signs * image)
            each = self._root**2 * squares.sum(axis=1)
            parts = np.add.reduceat(each, np.arange(0, each.size, self._width))
            own = parts.sum()
            sums += own, np.sum((parts - own / max(parts.size, 1)) ** 2)
        curvature, variance = self.comm.sum(sums).tolist()
        return curvature, math.sqrt(variance)


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
