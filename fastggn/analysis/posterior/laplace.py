"""The Laplace approximation of the posterior of a network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastggn.analysis.posterior.factors import (
    CurvatureFactor,
    StoredCurvature,
    factor_curvature,
)
from fastggn.network.losses.base import Loss
from fastggn.network.losses.classification import SoftmaxCrossEntropy
from fastggn.network.mlp import MLP
from fastggn.objective.point import Point
from fastggn.objective.problem import Problem
from fastggn.runtime.comm import comm_of
from fastggn.runtime.errors import as_float_vector, check_positive, unknown_name
from fastggn.training.regularisation.evidence import (
    LOG_2PI,
    EvidenceEstimate,
    Likelihood,
    likelihood_of,
)
from fastggn.training.regularisation.priors import (
    PER,
    prior_classes,
    relative_precisions,
)

FloatArray = NDArray[np.float64]


def laplace(
    problem: Problem,
    theta: ArrayLike,
    evidence: EvidenceEstimate | None = None,
    *,
    alpha: float | None = None,
    beta: float | ArrayLike | None = None,
) -> LaplacePosterior:
    """Return the Gaussian approximation of the posterior around a minimum of a problem.

    Its precision is the Hessian of ``beta E_D + alpha E_W`` in the Gauss-Newton approximation
    (MacKay 1992): ``H = sum_o beta_o J_o^T J_o + alpha I`` for the squared loss, J_o the rows of
    output o.

    Parameters
    ----------
    problem : Problem
        Samples and loss: "squared", "softmax_cross_entropy" or "logistic".
    theta : array_like, shape (N,)
        A minimum of the loss with weight decay, without a test.
    evidence : EvidenceEstimate, optional
        ``result.evidence`` of a run with ``regularize=Evidence()``: gives alpha and beta.
    alpha : float, optional
        In place of `evidence`: the precision of the prior. Without alpha it follows from the
        problem's l2 (and the mean beta); with l2 = 0 there is no prior, and the curvature must
        have rank N.
    beta : float or array_like, shape (n_L,), optional
        In place of `evidence`: the precision of the noise in the units of the targets, of all
        outputs or of each (always 1 for classes). Without beta it follows for each output from
        its residuals with ``T - gamma_o`` degrees of freedom.

    Raises
    ------
    TypeError, ValueError
        If an argument is not valid, the loss has no likelihood, the problem has fixed gates, or
        the posterior is not proper.
    MemoryError
        If one N x N matrix (or the rows, where they are fewer) does not fit.

    Examples
    --------
    >>> import numpy as np
    >>> import fastggn as fg
    >>> X = np.linspace(-1, 1, 40)[:, None]
    >>> Y = np.sin(3 * X) + 0.1 * np.random.default_rng(0).standard_normal((40, 1))
    >>> problem = fg.Problem(fg.MLP((1, 8, 1)), X, Y)
    >>> result = fg.train(problem, seed=0, regularize=fg.Evidence())
    >>> posterior = fg.laplace(problem, result.theta, result.evidence)
    >>> mean, std = posterior.predict(X)
    >>> mean.shape, std.shape, bool(0.06 < std.mean() < 0.1)
    ((40, 1), (40, 1), True)
    """
    if not isinstance(problem, Problem):
        raise TypeError(f"problem must be a fastggn.Problem, not {type(problem).__name__}")
    if problem.gated:
        raise ValueError("problem has fixed gates, which other inputs would not have")
    with comm_of(problem).raise_on_all() as said:
        vector = as_float_vector("theta", theta, problem.n_params)
        said |= {"call": "laplace", "evidence": evidence, "alpha": alpha, "beta": beta}
    likelihood = likelihood_of(problem)
    alpha, betas = _precisions(problem, likelihood, evidence, alpha, beta)
    relative = None if evidence is None else _relative(problem, evidence)
    point, factor = problem.at(vector), None
    if betas is None:
        factor = factor_curvature(point)
        betas = _noise(likelihood, factor, point)
    mean = float(betas.mean())
    if betas.size > 1:
        weighed = problem.with_l2(problem.l2)  # a copy
        weighed.weigh_outputs(betas / mean)
        point, factor = weighed.at(vector), None
    if alpha is not None:
        point.reweigh(likelihood.l2(alpha, mean))
    factor = factor or factor_curvature(point, relative)
    own = vector if relative is None else np.sqrt(relative) * vector
    found = _evidence(likelihood, factor, point.l2, betas, float(point.data_loss), own)
    if evidence is not None:
        found = replace(found, per=evidence.per, alphas=evidence.alphas)
    return LaplacePosterior(problem, vector, found, likelihood, factor)


def _precisions(
    problem: Problem,
    likelihood: Likelihood,
    evidence: EvidenceEstimate | None,
    alpha: float | None,
    beta: float | ArrayLike | None,
) -> tuple[float | None, FloatArray | None]:
    """Return alpha and the betas of all levels of noise, each None where it is not given."""
    if evidence is not None:
        if alpha is not None or beta is not None:
            raise ValueError("give evidence, or alpha and beta, not both")
        if not isinstance(evidence, EvidenceEstimate):
            raise TypeError(f"evidence must be an EvidenceEstimate, not {type(evidence).__name__}")
        alpha = evidence.alpha
        beta = evidence.beta if evidence.betas is None else evidence.betas
    if not likelihood.gaussian:
        if not np.all(beta is None or np.equal(beta, 1.0)):
            raise ValueError(f"beta is 1 for the loss {problem.loss_function.name!r}, got {beta!r}")
        beta = 1.0
    betas, count = None, likelihood.n_levels
    if beta is not None:
        given = np.full(count, beta) if np.ndim(beta) == 0 else beta
        betas = as_float_vector("beta", given, count)
        for value in betas:
            check_positive("beta", float(value))
    if alpha is None:
        return None, betas
    if betas is None:
        raise ValueError("alpha needs beta: give both, or beta alone")
    return check_positive("alpha", alpha), betas


def _relative(problem: Problem, evidence: EvidenceEstimate) -> FloatArray | None:
    """Return the precision of each parameter over their geometric mean, None for one alpha."""
    if evidence.alphas is None:
        return None
    if evidence.per not in PER:
        raise unknown_name("evidence.per", evidence.per, PER)
    classes = prior_classes(problem.network, evidence.per)
    count = 1 if classes is None else int(classes.max()) + 1
    if classes is None or count != len(evidence.alphas):
        raise ValueError(
            f"evidence has {len(evidence.alphas)} alphas, but per={evidence.per!r} has {count} for "
            "this network"
        )
    return relative_precisions(classes, evidence.alphas)[1]


def _noise(likelihood: Likelihood, factor: CurvatureFactor, point: Point) -> FloatArray:
    """Return beta of each output from its residuals: ``(n - gamma) / (2 E_D)``."""
    count = likelihood.n_levels
    gammas = np.array([factor.sums.effective])
    losses = np.array([float(point.data_loss)])
    if count > 1:
        # With equal weights, as theta was found: the outputs divide gamma by their rows.
        gammas, losses = np.zeros(count), point.output_losses()
        for rows, _ in point.row_blocks():
            z = factor.whiten(rows)
            gammas += np.einsum("ij,ij->i", z, z).reshape(-1, count).sum(axis=0)
        gammas = point.comm.sum(gammas)
    free = likelihood.n_observations / count - gammas
    errors = 2.0 * likelihood.unit * losses
    if not ((free > 0.0).all() and (errors > 0.0).all()):
        raise ValueError(
            f"the noise cannot be estimated: {likelihood.n_observations // count} observations, "
            f"{gammas.max():.6g} effective parameters and a sum of squared residuals of "
            f"{errors.min():.3g}; give alpha and beta"
        )
    return np.asarray(free / errors)


def _evidence(
    likelihood: Likelihood,
    factor: CurvatureFactor,
    l2: float,
    betas: FloatArray,
    data_loss: float,
    theta: FloatArray,
) -> EvidenceEstimate:
    beta, several = float(betas.mean()), betas if betas.size > 1 else None
    alpha = l2 * beta * likelihood.unit
    if alpha > 0.0:
        return likelihood.evidence(alpha, beta, factor.sums, data_loss, theta, several)
    # A flat prior is not normalised: there is no evidence.
    return EvidenceEstimate(
        alpha=0.0,
        beta=beta,
        effective_parameters=factor.sums.effective,
        log_evidence=-np.inf,
        l2=0.0,
        n_params=theta.size,
        n_observations=likelihood.n_observations,
        betas=None if several is None else tuple(betas),
    )


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

        Outputs are divided by ``sqrt(1 + pi s^2 / 8)``, s their deviation, before sigmoid
        (MacKay 1992, "The evidence framework applied to classification networks") or softmax
        (its usual extension to several classes, output by output).

        Raises
        ------
        ValueError
            If the loss is the squared one.
        """
        if self._gaussian:
            raise ValueError("predict_proba is for classes; the loss is 'squared': use predict")
        mean, std = self.predict(X, noise=False)
        moderated = mean / np.sqrt(1.0 + np.pi * std**2 / 8.0)
        if isinstance(self._loss, SoftmaxCrossEntropy):
            weights = np.exp(moderated - moderated.max(axis=1, keepdims=True))
            return np.asarray(weights / weights.sum(axis=1, keepdims=True))
        return np.asarray(0.5 * (1.0 + np.tanh(0.5 * moderated)))

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
