"""The posterior of a network and of coefficients that residuals of equations and data give."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.analysis.posterior.factors import CurvatureFactor
from fastggn.analysis.posterior.gaussian import LaplacePosterior
from fastggn.network.losses.base import Loss
from fastggn.network.mlp import MLP
from fastggn.objective.problem import Problem
from fastggn.objective.residual_problem import ResidualProblem
from fastggn.training.regularisation.evidence import EvidenceEstimate, Likelihood

FloatArray = NDArray[np.float64]


class ResidualPosterior(LaplacePosterior):
    """A Gaussian posterior around theta, weights and coefficients; make one with `laplace`.

    An equation has no noise of its own: what its residuals leave is the misfit of the network. So
    predictions are those of the network, without noise.

    Attributes
    ----------
    theta : ndarray, shape (N,)
    evidence : EvidenceEstimate
        With coefficients, whose prior is flat, log evidences only differ between runs of one
        problem.
    """

    _problem: ResidualProblem

    @classmethod
    def of(
        cls,
        problem: ResidualProblem,
        theta: FloatArray,
        evidence: EvidenceEstimate,
        likelihood: Likelihood,
        factor: CurvatureFactor,
    ) -> ResidualPosterior:
        """Return the posterior of a factored curvature."""
        found = cls.__new__(cls)
        found.theta, found.evidence = theta, evidence
        found._problem, found._network = problem, problem.network
        found._gaussian, found._factor = True, factor
        found._share = 1.0 / (evidence.beta * likelihood.unit)
        return found

    def coefficients(self) -> dict[str, tuple[float, float]]:
        """Return the value and the standard deviation of each coefficient by name.

        With bounds, the deviation is that of the linearised transformation.
        """
        values = self._problem.coefficients(self.theta)
        z = self._factor.whiten(np.eye(self.theta.size)[self._network.n_params :])
        slopes = np.abs(self._problem.coefficient_slopes(self.theta))
        spread = slopes * np.sqrt(self._share * np.einsum("kj,kj->k", z, z))
        pairs = zip(values.items(), spread, strict=True)
        return {name: (value, float(error)) for (name, value), error in pairs}

    def predict(self, X: Any, *, noise: bool = False) -> tuple[FloatArray, FloatArray]:
        """Return the mean and the standard deviation of the outputs, shapes (T, n_L).

        Parameters
        ----------
        X : array_like, shape (T, n_0)
            Points in raw units.
        noise : bool
            Only False: residuals have no noise of outputs.
        """
        mean = self._problem.predict(self.theta, X)
        return mean, np.sqrt(self.predictive_variance(X, noise=noise))

    def predictive_variance(self, X: Any, *, noise: bool = False) -> FloatArray:
        """Return the variances of the outputs, shape (T, n_L); see `predict`."""
        _refuse(noise)
        return super().predictive_variance(X, noise=False)

    def predictive_covariance(self, X: Any, *, noise: bool = False) -> FloatArray:
        """Return the covariance of the outputs of each point, shape (T, n_L, n_L)."""
        _refuse(noise)
        return super().predictive_covariance(X, noise=False)

    def log_likelihoods(self, X: Any, Y: Any) -> FloatArray:
        """Refuse: without noise of outputs targets have no density."""
        raise ValueError("residuals have no noise of outputs, so targets have no likelihood")

    @classmethod
    def from_dict(
        cls, kept: Mapping[str, Any], network: MLP, loss: Loss, theta: FloatArray
    ) -> LaplacePosterior:
        """Refuse: functions of equations are in no file."""
        raise TypeError("the posterior of residuals comes from laplace, not from a file")

    def _whitened(self, X: Any) -> Iterator[tuple[int, FloatArray]]:
        net, scaler = self._network, self._problem.input_scaler
        points = X if scaler is None else scaler.apply(X)
        other = Problem(net, points, np.zeros((len(points), net.n_outputs)))
        done, n_flat = 0, self.theta.size - net.n_params
        for rows in other.jacobian(self.theta[: net.n_params]).row_blocks():
            z = self._factor.whiten(np.hstack([rows, np.zeros((len(rows), n_flat))]))
            count = rows.shape[0] // net.n_outputs
            yield done, z.reshape(count, net.n_outputs, -1)
            done += count


def _refuse(noise: bool) -> None:
    if noise:
        raise ValueError("noise is that of targets, and residuals have no targets of outputs")
