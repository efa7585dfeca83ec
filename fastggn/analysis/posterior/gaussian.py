"""A Gaussian posterior around the parameters of a network, and its predictions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.analysis.posterior.factors import CurvatureFactor, StoredCurvature
from fastggn.network.losses.base import Loss
from fastggn.network.losses.classification import SoftmaxCrossEntropy
from fastggn.network.mlp import MLP
from fastggn.objective.problem import Problem
from fastggn.training.regularisation.evidence import LOG_2PI, EvidenceEstimate, Likelihood

FloatArray = NDArray[np.float64]


class LaplacePosterior:
    """A Gaussian posterior around theta; make one with `laplace`.

    The network is linear in theta here, ``F(x) + J(x) (theta' - theta)``, so that outputs are
    Gaussian with the covariance ``J(x) H^-1 J(x)^T``.

    Attributes
    ----------
    theta : ndarray, shape (N,)
        The mean.
    evidence : EvidenceEstimate
        alpha, beta, the effective number of parameters and the log evidence, for this theta.
    """

    def __init__(
        self,
        problem: Problem,
        theta: FloatArray,
        evidence: EvidenceEstimate,
        likelihood: Likelihood,
        factor: CurvatureFactor,
    ) -> None:
        self.theta = theta
        self.evidence = evidence
        self._network = problem.network
        self._loss = problem.loss_function
        self._gaussian = likelihood.gaussian
        self._factor = factor
        self._share = 1.0 / (evidence.beta * likelihood.unit)

    def to_dict(self) -> dict[str, Any]:
        """Return a square root of the posterior covariance, N x N, and the evidence, for a file."""
        root = self._factor.whiten(np.eye(self.theta.size))
        if root.shape[1] > root.shape[0]:
            root = np.ascontiguousarray(np.asarray(np.linalg.qr(root.T, mode="r")).T)
        kept = {"root": root, "share": self._share, "gaussian": self._gaussian}
        return {**kept, "evidence": self.evidence.to_dict()}

    @classmethod
    def from_dict(
        cls, kept: Mapping[str, Any], network: MLP, loss: Loss, theta: FloatArray
    ) -> LaplacePosterior:
        """Return the posterior of `to_dict` around theta."""
        root = np.asarray(kept["root"], dtype=np.float64)
        if root.shape != (network.n_params, network.n_params):
            raise ValueError(f"the posterior has shape {root.shape}, N is {network.n_params}")
        found = cls.__new__(cls)
        found.theta, found.evidence = theta, EvidenceEstimate(**kept["evidence"])
        found._network, found._loss = network, loss
        found._gaussian, found._share = bool(kept["gaussian"]), float(kept["share"])
        found._factor = StoredCurvature(root)
        return found

    def predict(self, X: Any, *, noise: bool = True) -> tuple[FloatArray, FloatArray]:
        """Return the mean and the standard deviation of the predictions, shapes (T, n_L).

        Parameters
        ----------
        X : array_like, shape (T, n_0)
            Inputs as for `Problem`.
        noise : bool
            Whether the deviation includes the noise of each target, as in scikit-learn's
            ``return_std``, or only the uncertainty of the output. Outputs for classes are the ones
            before softmax or sigmoid, and have no noise.
        """
        mean = self._network.predict(self.theta, X)
        return mean, np.sqrt(self.predictive_variance(X, noise=noise))

    def predictive_variance(self, X: Any, *, noise: bool = True) -> FloatArray:
        """Return the variances of the predictions, shape (T, n_L); see `predict`.

        Memory is one block of rows of the Jacobian for any number of samples.
        """
        out = np.empty((X.shape[0] if hasattr(X, "shape") else len(X), self._network.n_outputs))
        for first, z in self._whitened(X):
            out[first : first + z.shape[0]] = np.einsum("tok,tok->to", z, z)
        out *= self._share
        if noise and self._gaussian:
            out += self._noise_variances()
        return out

    def _noise_variances(self) -> FloatArray:
        """Return the variance of the noise of each output, shape (n_L,)."""
        betas = self.evidence.betas or (self.evidence.beta,) * self._network.n_outputs
        return np.asarray(1.0 / np.asarray(betas))

    def predictive_covariance(self, X: Any, *, noise: bool = True) -> FloatArray:
        """Return the covariance of the outputs of each sample, shape (T, n_L, n_L)."""
        parts = [z @ z.transpose(0, 2, 1) for _, z in self._whitened(X)]
        out = self._share * np.concatenate(parts)
        if noise and self._gaussian:
            out += np.diag(self._noise_variances())
        return np.asarray(out)

    def predict_proba(self, X: Any) -> FloatArray:
        """Return moderated probabilities, shape (T, n_L): nearer to even where theta is uncertain.

        They are the sigmoid or the softmax of `moderated_outputs`.

        Raises
        ------
        ValueError
            If the loss is the squared one.
        """
        moderated = self.moderated_outputs(X)
        if isinstance(self._loss, SoftmaxCrossEntropy):
            weights = np.exp(moderated - moderated.max(axis=1, keepdims=True))
            return np.asarray(weights / weights.sum(axis=1, keepdims=True))
        return np.asarray(0.5 * (1.0 + np.tanh(0.5 * moderated)))

    def moderated_outputs(self, X: Any) -> FloatArray:
        """Return the outputs, shape (T, n_L), divided by ``sqrt(1 + pi s^2 / 8)``.

        Here s is the deviation of an output (MacKay 1992, "The evidence framework applied to
        classification networks"; output by output for several classes, its usual extension).

        Raises
        ------
        ValueError
            If the loss is the squared one.
        """
        if self._gaussian:
            raise ValueError("predict_proba is for classes; the loss is 'squared': use predict")
        mean, std = self.predict(X, noise=False)
        return np.asarray(mean / np.sqrt(1.0 + np.pi * std**2 / 8.0))

    def log_likelihood(self, X: Any, Y: Any) -> float:
        """Return the mean over samples of ``log p(y | x)`` under the predictions.

        For the squared loss p is the density, in the targets' units, of the Gaussian with the mean
        of `predict` and the `predictive_covariance`.

        Parameters
        ----------
        X : array_like, shape (T, n_0)
        Y : array_like
            Targets as for `Problem`.
        """
        return float(np.mean(self.log_likelihoods(X, Y)))

    def log_likelihoods(self, X: Any, Y: Any) -> FloatArray:
        """Return ``log p(y | x)`` of each sample, shape (T,); see `log_likelihood`."""
        mean = self._network.predict(self.theta, X)
        targets = self._loss.prepare_targets(Y, *mean.shape)
        if not self._gaussian:
            return self._log_probability(X, targets)
        covariance = self.predictive_covariance(X)
        residual = (targets - mean)[:, :, None]
        distance = np.sum(residual * np.linalg.solve(covariance, residual), axis=(1, 2))
        _, log_det = np.linalg.slogdet(covariance)
        return np.asarray(-0.5 * (distance + log_det + mean.shape[1] * LOG_2PI))

    def _log_probability(self, X: Any, targets: FloatArray) -> FloatArray:
        tiny = np.finfo(float).tiny
        p = self.predict_proba(X)
        value = targets * np.log(np.maximum(p, tiny))
        if not isinstance(self._loss, SoftmaxCrossEntropy):
            value += (1.0 - targets) * np.log(np.maximum(1.0 - p, tiny))
        return np.asarray(value.sum(axis=1))

    def _whitened(self, X: Any) -> Iterator[tuple[int, FloatArray]]:
        """Yield each block's first sample and Z (B, n_L, k); ``Z Z^T`` are unscaled covariances."""
        count, outputs = X.shape[0] if hasattr(X, "shape") else len(X), self._network.n_outputs
        # This problem only gives the Jacobian at X; it needs no targets.
        other = Problem(self._network, X, np.zeros((count, outputs)))
        done = 0
        for rows in other.jacobian(self.theta).row_blocks():
            z = self._factor.whiten(rows)
            samples = rows.shape[0] // outputs
            yield done, z.reshape(samples, outputs, -1)
            done += samples
