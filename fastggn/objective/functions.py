"""The functions of theta that all problems share."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastggn.network.mlp import MLP
from fastggn.network.workspace import WorkspacePool
from fastggn.objective.curvature import GGNOperator, HessianOperator
from fastggn.objective.penalty import Penalty
from fastggn.objective.point import Point
from fastggn.runtime.comm import Comm
from fastggn.runtime.errors import as_float_vector, check_positive

FloatArray = NDArray[np.float64]
Same = TypeVar("Same", bound="Functions")


class Functions:
    """Loss, gradient, curvature and Newton system of an objective at theta."""

    network: MLP
    comm: Comm
    l2: float
    n_params: int
    _objective: Any
    _spaces: WorkspacePool

    def _theta(self, theta: ArrayLike) -> FloatArray:
        return self.comm.broadcast(as_float_vector("theta", theta, self.n_params))

    def init(
        self, seed: int | np.random.Generator | None = None, scheme: str = "glorot"
    ) -> FloatArray:
        """Return initial parameters, shape (N,): those of `MLP.init`."""
        return self.network.init(seed, scheme)

    @property
    def n_rows(self) -> int:
        """The number of equations: the rows of the Jacobian on all ranks."""
        return int(self._objective.n_rows)

    @property
    def penalize_biases(self) -> bool:
        """Whether l2 counts all parameters; False if it excludes some."""
        return self._objective.penalty.counted is None

    def with_l2(self: Same, l2: float) -> Same:
        """Return the same problem with another weight of |theta|^2 / 2 and the same sample arrays.

        Parameters
        ----------
        l2 : float
            At least 0.
        """
        twin = copy.copy(self)
        twin.reweigh(l2)
        return twin

    def reweigh(self, l2: float, relative: FloatArray | None = None) -> None:
        """Change the weight of |theta|^2 / 2 in place, for later points.

        For runs that choose the weight. `relative`, shape (N,), multiplies that of each parameter.
        """
        self.l2 = check_positive("l2", l2, zero=True)
        counted = self._objective.penalty.counted if relative is None else relative
        self._objective = replace(self._objective, penalty=Penalty(self.l2, counted))

    def at(self, theta: ArrayLike) -> Point:
        """Return the objective at theta: loss, gradient and Newton system, each computed on demand.

        Parameters
        ----------
        theta : array_like, shape (N,)

        Raises
        ------
        ValueError
            If theta has a wrong length, or an entry is NaN or infinite.
        """
        return Point(self._objective, self._theta(theta), self._spaces)

    def workspaces(self) -> WorkspacePool:
        """Return a pool of workspaces for samples of this problem (internal)."""
        return WorkspacePool()

    def loss(self, theta: ArrayLike) -> float:
        """Return the weighted mean of the losses plus l2/2 |theta|^2; inf or nan at an overflow."""
        return self.at(theta).loss

    def gradient(self, theta: ArrayLike) -> FloatArray:
        """Return the gradient of the objective, shape (N,) (Shen 2018, Eq. 19, with 1/T)."""
        return self.at(theta).gradient

    def ggn(self, theta: ArrayLike) -> FloatArray:
        """Return the generalised Gauss-Newton matrix (1/T) J^T H_E J + l2 I, shape (N, N).

        It has the weights of the objective; H_E is the curvature of the problem (Shen 2018,
        Eq. 37). The assembly does not form J.
        """
        out = self.at(theta).gram()
        out.flat[:: self.n_params + 1] += self._objective.penalty.each
        return out

    def ggn_operator(self, theta: ArrayLike) -> GGNOperator:
        """Return the GGN as a scipy ``LinearOperator``, without an N x N matrix."""
        return GGNOperator(self.at(theta))

    def hessian_operator(self, theta: ArrayLike) -> HessianOperator:
        """Return the exact Hessian as a scipy ``LinearOperator``, without an N x N matrix."""
        return HessianOperator(self._objective, self.at(theta))
