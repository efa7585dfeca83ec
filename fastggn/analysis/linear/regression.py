"""The regression behind a linear network, and the hypotheses of the theorems."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastggn.network.mlp import MLP
from fastggn.runtime.errors import as_real, check_finite

FloatArray = NDArray[np.float64]
EPS = float(np.finfo(np.float64).eps)
LEAST, MOST = 1e-70, 1e70  # of the largest entries of X and Y
CLEAR = 1e-10  # least margin of a quantity that is not degenerate


@dataclass(frozen=True)
class Hypothesis:
    """One hypothesis of Theorem 2.3, described in `text` with its numbers.

    `margin` is a ratio of singular values, a relative gap of eigenvalues, or a difference of
    dimensions.
    """

    holds: bool
    margin: float
    text: str


class Regression:
    """Least squares from X to Y, with the spectrum of Sigma.

    In the paper's orientation, samples as columns: ``Sigma = Y X^T (X X^T)^- X Y^T``, a
    generalised inverse where X X^T is singular.

    Parameters
    ----------
    X : array_like, shape (T, d_x)
    Y : array_like, shape (T, d_y), or (T,)

    Attributes
    ----------
    d_x, d_y, n_samples : int
    map : ndarray, shape (d_y, d_x)
        ``Y X^T (X X^T)^-``, the least-squares map of minimum norm.
    eigenvalues : ndarray, shape (d_y,)
        Of Sigma, descending.
    U : ndarray, shape (d_y, d_y)
        Its eigenvectors, as columns.
    energy, rest : float
        Half the sum of squares of Y, and of the part of Y that no linear map of X reaches.
    inputs, targets : ndarray, shapes (d_x, r), (d_y, r)
        The data rotated and cut to r = rank X coordinates: the loss of a linear network on them
        plus `rest` is its loss on (X, Y), with the same derivatives.

    Raises
    ------
    TypeError
        If an array does not hold real numbers.
    ValueError
        If shapes do not fit, an entry is NaN or infinite, or all are too small or too large for
        float64 to hold their products.
    """

    def __init__(self, X: ArrayLike, Y: ArrayLike) -> None:
        samples, targets = as_real("X", X), as_real("Y", Y)
        if targets.ndim == 1:
            targets = targets[:, None]
        if samples.ndim != 2 or targets.ndim != 2 or samples.shape[0] != targets.shape[0]:
            raise ValueError(
                f"X must have shape (T, d_x) and Y (T, d_y), got {samples.shape}, {targets.shape}"
            )
        if samples.size == 0 or targets.size == 0:
            raise ValueError(f"X and Y must not be empty, got {samples.shape}, {targets.shape}")
        for name, array in (("X", samples), ("Y", targets)):
            check_finite(name, array)
            largest = float(np.abs(array).max())
            if array.any() and not LEAST < largest < MOST:
                raise ValueError(
                    f"{name}: its largest entry is {largest:.1e}, and products of layers, inputs "
                    "and targets would leave the range of float64; multiply it by a power of two"
                )
        self.n_samples, self.d_x = samples.shape
        self.d_y = int(targets.shape[1])
        q, s, vt = np.linalg.svd(samples, full_matrices=False)
        self._singular = s
        rank = int(np.count_nonzero(s > max(samples.shape) * EPS * s[0]))
        self.inputs = vt[:rank].T * s[:rank]
        self.targets = targets.T @ q[:, :rank]
        self.map = (self.targets / s[:rank]) @ vt[:rank]
        self.U, spread, _ = np.linalg.svd(self.targets, full_matrices=True)
        self.eigenvalues = np.zeros(self.d_y)
        self.eigenvalues[: spread.size] = spread**2
        self.energy = 0.5 * float(np.sum(targets**2))
        self.rest = max(self.energy - 0.5 * float(self.eigenvalues.sum()), 0.0)
        self._cross = np.linalg.svd(self.targets @ self.inputs.T, compute_uv=False)

    def is_null(self, mode: int) -> bool:
        """Return whether an eigenvalue of Sigma is zero within the rounding of Y."""
        size = float(np.sqrt(2.0 * self.energy))
        rounding = 10.0 * max(self.n_samples, self.d_x, self.d_y) * EPS * size
        return bool(np.sqrt(self.eigenvalues[mode]) <= rounding)

    def loss(self, weights: Sequence[FloatArray]) -> float:
        """Return half the sum of squares of the residual."""
        return 0.5 * float(np.sum(self.residual(weights) ** 2)) + self.rest

    def residual(self, weights: Sequence[FloatArray]) -> FloatArray:
        """Return prediction minus target in the rotated samples, shape (d_y, r)."""
        product = self.inputs
        for w in weights:
            product = w @ product
        return np.asarray(product - self.targets)

    def minimum(self, p: int) -> float:
        """Return the global minimum of a network whose narrowest layer has p units."""
        return self.rest + 0.5 * float(self.eigenvalues[min(p, self.d_y) :].sum())

    def natural_size(self, n_layers: int) -> float:
        """Return ``|Y X^T (X X^T)^-|^(1/(H+1))``: the size of layers that share the map evenly."""
        return float(max(float(np.linalg.norm(self.map, 2)), 1e-300) ** (1.0 / n_layers))

    def natural_curvature(self, n_layers: int) -> float:
        """Return the size of the Hessian of half the sum of squares at layers of natural size."""
        size = self.natural_size(n_layers)
        return float(size ** (2 * (n_layers - 1)) * np.linalg.norm(self.inputs, 2) ** 2)

    def hypotheses(self) -> dict[str, Hypothesis]:
        """Return the hypotheses of Theorem 2.3 with their margins."""
        s, cross, values = self._singular, self._cross, self.eigenvalues
        full = s.size == self.d_x
        x_margin = float(s[-1] / s[0]) if full and s[0] > 0 else 0.0
        most = min(self.d_x, self.d_y)
        clear = cross.size >= most and cross[0] > 0
        xy_margin = float(cross[most - 1] / cross[0]) if clear else 0.0
        gaps = -np.diff(values) / values[0] if values[0] > 0 else np.zeros(self.d_y - 1)
        gap = float(gaps.min(initial=1.0)) if values[0] > 0 else 0.0
        spare = self.d_x - self.d_y
        x_text = f"s_min / s_max of X is {x_margin:.2e}"
        xy_text = f"s_min / s_max of X Y^T is {xy_margin:.2e}"
        sizes = f"d_y = {self.d_y}, d_x = {self.d_x}"
        gap_text = f"least gap over the largest eigenvalue of Sigma is {gap:.2e}"
        return {
            "XX^T full rank": Hypothesis(x_margin > CLEAR, x_margin, x_text),
            "XY^T full rank": Hypothesis(xy_margin > CLEAR, xy_margin, xy_text),
            "d_y <= d_x": Hypothesis(spare >= 0, float(spare), sizes),
            "distinct eigenvalues": Hypothesis(gap > CLEAR, gap, gap_text),
        }


def hypotheses(X: ArrayLike, Y: ArrayLike) -> dict[str, Hypothesis]:
    """Return the hypotheses of Theorem 2.3 (Kawaguchi 2016) for some data, with margins.

    Parameters
    ----------
    X : array_like, shape (T, d_x)
    Y : array_like, shape (T, d_y), or (T,)

    Returns
    -------
    dict of str to Hypothesis
        "XX^T full rank", "XY^T full rank", "d_y <= d_x", "distinct eigenvalues".
    """
    return Regression(X, Y).hypotheses()


def check_widths(widths: Sequence[int], regression: Regression) -> tuple[int, ...]:
    """Return (d_x, d_1, ..., d_y) checked against the data; at least one hidden layer."""
    checked = MLP(widths).widths
    ends = (regression.d_x, regression.d_y)
    if len(checked) < 3 or (checked[0], checked[-1]) != ends:
        raise ValueError(
            f"widths must be (d_x, d_1, ..., d_H, d_y) with d_x = {ends[0]}, d_y = {ends[1]} and "
            f"H >= 1, got {checked}"
        )
    return checked


def check_weights(weights: Sequence[Any], regression: Regression) -> list[FloatArray]:
    """Return the weights as float64 matrices whose shapes fit each other and the data."""
    matrices = [as_real(f"weights[{i}]", w) for i, w in enumerate(weights)]
    if len(matrices) < 2:
        raise ValueError(f"weights must hold at least two matrices (H >= 1), got {len(matrices)}")
    before = regression.d_x
    for i, w in enumerate(matrices):
        rows = regression.d_y if i == len(matrices) - 1 else None
        if w.ndim != 2 or w.shape[1] != before or (rows is not None and w.shape[0] != rows):
            wanted = "d" if rows is None else str(rows)
            raise ValueError(f"weights[{i}] must have shape ({wanted}, {before}), got {w.shape}")
        check_finite(f"weights[{i}]", w)
        before = int(w.shape[0])
    return matrices
