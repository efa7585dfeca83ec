"""Weight matrices of full rank as a constraint (Shen 2018, Principle 3 and Remark 2).

The first sentence of the remark is true: the matrices of full rank are an open set, so a local
minimum under the constraint is one without it. `radius` says how far it holds. The second calls it
an open problem whether the constraint can exclude all global minima. It can: `excluded` makes an
instance where each exact fit has a matrix of deficient rank, and a path of full rank to the fit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastggn.network.mlp import MLP

FloatArray = NDArray[np.float64]


def radius(net: MLP, theta: ArrayLike) -> float:
    """Return the distance of a point to the nearest one with a matrix of deficient rank.

    It is the least singular value of the matrices, without their bias columns (Eckart and Young):
    within it the constraint excludes nothing. 0 where the point itself breaks the constraint.

    Parameters
    ----------
    net : MLP
    theta : array_like, shape (N,)
    """
    return min(float(np.linalg.svd(W, compute_uv=False)[-1]) for W in cores(net, theta))


def cores(net: MLP, theta: ArrayLike) -> list[FloatArray]:
    """Return the weight matrices without their bias columns.

    Parameters
    ----------
    net : MLP
    theta : array_like, shape (N,)
    """
    weights = net.unpack(np.asarray(theta, dtype=np.float64))
    return [W[:, :n] for W, n in zip(weights, net.widths[:-1], strict=True)]


@dataclass(frozen=True, eq=False)
class Excluded:
    """A regression whose exact fits all break the constraint.

    Attributes
    ----------
    net : MLP
        Square layers, identity activations (which Principle 4 allows), no biases.
    X, Y : ndarray, shapes (T, n), (T, n)
        ``Y = X M^T`` with M of rank r below n, and X of rank n: an exact fit has
        ``W_L ... W_1 = M``, and a product of square matrices of full rank has full rank.
    least : float
        The infimum of the loss, 0, which no point of full rank attains.
    """

    net: MLP
    X: FloatArray
    Y: FloatArray
    least: float = 0.0

    def approach(self, t: float) -> FloatArray:
        """Return a point of full rank, for t > 0, with a loss proportional to t^2.

        Parameters
        ----------
        t : float
            At 0 the point is an exact fit, and its first matrix has the rank of M.
        """
        M = np.linalg.lstsq(self.X, self.Y, rcond=None)[0].T
        left, values, right = np.linalg.svd(M)
        first = left @ np.diag(np.where(values > 1e-10 * values[0], values, t)) @ right
        return self.net.pack([first, *[np.eye(len(M))] * (self.net.n_layers - 1)])


def excluded(n: int, rank: int, n_layers: int, *, n_samples: int, seed: int | None = 0) -> Excluded:
    """Return a random instance.

    Parameters
    ----------
    n : int
        Units of each layer, inputs and outputs.
    rank : int
        Of the map that the targets follow, 1 to n - 1.
    n_layers : int
        At least 1.
    n_samples : int
        At least n.
    seed : int, optional

    Raises
    ------
    ValueError
        If a number is out of its range.
    """
    if not 1 <= rank < n or n_layers < 1 or n_samples < n:
        raise ValueError(
            f"1 <= rank < n, n_layers >= 1 and n_samples >= n are needed, got rank {rank}, n {n}, "
            f"n_layers {n_layers}, n_samples {n_samples}"
        )
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n_samples, n))
    M = rng.standard_normal((n, rank)) @ rng.standard_normal((rank, n))
    return Excluded(MLP((n,) * (n_layers + 1), "identity", bias="none"), X, X @ M.T)
