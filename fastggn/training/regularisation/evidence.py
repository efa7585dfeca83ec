"""The evidence of a regularised network by MacKay's Gaussian approximation.

A `Problem` minimises a mean, ``data_loss + l2/2 |theta|^2``; the Bayesian objective is a sum,
``beta E_D + alpha E_W``. `Likelihood` converts between the two.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastggn.network.losses.classification import Logistic, SoftmaxCrossEntropy
from fastggn.network.losses.output_weights import OutputWeighted
from fastggn.network.losses.separable import Squared
from fastggn.objective.residual_problem import ResidualProblem
from fastggn.runtime.comm import comm_of
from fastggn.solvers.base import CurvatureSums

if TYPE_CHECKING:
    from fastggn.objective.problem import Problem


# The least share of observations for the noise: gamma has six digits.
LEAST_FREE = 1e-7
# No output counts more than so many times as much as another. The exact fit of one output would
# leave steps of no length to the others: at 1e12 runs of 150 iterations stop halfway.
MOST_RATIO = 1e9
LOG_2PI = float(np.log(2.0 * np.pi))


@dataclass(frozen=True)
class EvidenceEstimate:
    """The hyperparameters of a Bayesian network, and the estimates behind them.

    The posterior is proportional to ``exp(-beta E_D - alpha E_W)`` with ``E_W = |theta|^2 / 2``.
    E_D is the sum over the samples of half the squared errors, or of the loss for classes.

    Attributes
    ----------
    alpha : float
        Precision (one over the variance) of the prior of each parameter.
    beta : float
        Precision of the noise of each target, in the targets' units; 1 for classes. With several
        outputs the mean of `betas`.
    effective_parameters : float
        gamma, between 0 and N: the number of directions that the samples determine.
    log_evidence : float
        The logarithm of the probability of the targets under the model (natural logarithm).
    l2 : float
        The weight of ``|theta|^2 / 2`` in the mean objective, from alpha and beta.
    n_params, n_observations : int
        N, and T n_L (without samples of weight zero).
    per : str
        "network", one alpha for all parameters, or "unit".
    alphas : tuple of float, or None
        The alpha of each of several classes (`priors.prior_classes`). Then `alpha` is their
        geometric mean over the parameters, and `l2` belongs to that mean.
    betas : tuple of float, or None
        The precision of the noise of each of several outputs. The loss of the run weighs output o
        by ``betas[o] / beta``, and `l2` belongs to that loss.
    """

    alpha: float
    beta: float
    effective_parameters: float
    log_evidence: float
    l2: float
    n_params: int
    n_observations: int
    per: str = "network"
    alphas: tuple[float, ...] | None = None
    betas: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        """Convert lists, as read from a file, to tuples."""
        for name in ("alphas", "betas"):
            values = getattr(self, name)
            if values is not None:
                object.__setattr__(self, name, tuple(float(value) for value in values))

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values."""
        lists = {"alphas": self.alphas, "betas": self.betas}
        return {**asdict(self), **{k: None if v is None else list(v) for k, v in lists.items()}}

    def __str__(self) -> str:
        """Return a table."""
        return "\n".join(
            [
                f"effective parameters   {self.effective_parameters:.6g} of {self.n_params}",
                f"alpha (prior)          {self.alpha:.6g}" + _spread(self.alphas, "classes"),
                f"beta (noise)           {self.beta:.6g}" + _spread(self.betas, "outputs"),
                f"l2                     {self.l2:.6g}",
                f"log evidence           {self.log_evidence:.6g}",
            ]
        )


def _spread(values: tuple[float, ...] | None, of: str) -> str:
    if values is None:
        return ""
    return f" ({min(values):.3g} to {max(values):.3g} in {len(values)} {of})"


@dataclass(frozen=True)
class Likelihood:
    """The mean loss of a problem as a log-likelihood."""

    gaussian: bool  # whether the loss is squared, with an estimated beta; else beta is 1
    unit: float  # E_D = unit * data_loss: samples times the squared scale of the loss
    n_observations: int  # T n_L
    n_levels: int  # of the noise: n_L for the squared loss, else 1
    log_weights: float  # sum over the observations of the logarithms of the relative weights
    n_flat: int = 0  # the last entries of theta, coefficients of equations, have a flat prior

    def square(self, theta: np.ndarray) -> float:
        """Return |W|^2 of the parameters that have a prior."""
        own = theta[: theta.size - self.n_flat]
        return float(own @ own)

    def l2(self, alpha: float, beta: float) -> float:
        """Return l2 of the mean objective ``(beta E_D + alpha E_W) / (beta unit)``."""
        return alpha / (beta * self.unit)

    def precisions(self, errors: np.ndarray, gammas: np.ndarray) -> np.ndarray:
        """Return beta of each output, from E_D > 0 and gamma of each, shapes (n_L,)."""
        n = self.n_observations / self.n_levels
        betas = np.maximum(n - gammas, LEAST_FREE * n) / (2.0 * errors)
        return np.asarray(np.minimum(betas, MOST_RATIO * betas.min()))

    def divided(self, gammas: np.ndarray, whole: float) -> np.ndarray:
        """Return the gammas of the outputs once their sum is `whole`, shapes (n_L,)."""
        # All n - gamma change by one factor. If the gammas did, one near n would exceed n, and an
        # output that is fitted nearly exactly would lose its weight.
        n = self.n_observations / self.n_levels
        free = np.maximum(n - gammas, LEAST_FREE * n)
        free *= (self.n_observations - whole) / float(free.sum())
        return np.asarray(n - np.minimum(free, n))

    def evidence(
        self,
        alpha: float,
        beta: float,
        sums: CurvatureSums,
        data_loss: float,
        theta: np.ndarray,
        betas: np.ndarray | None = None,
    ) -> EvidenceEstimate:
        """Return the evidence of alpha and beta at a minimum theta (MacKay 1992)."""
        # log p(D) = -beta E_D - alpha E_W - (1/2) log|H| + (N/2) log alpha with
        # H = beta unit (G + l2 I), and for Gaussian noise also (n/2) log(beta / 2 pi). With
        # several betas the loss has the weights betas / beta, and their logarithms have a mean.
        n = theta.size
        log_det = n * float(np.log(beta * self.unit)) + sums.log_determinant
        value = -beta * self.unit * data_loss - 0.5 * alpha * self.square(theta)
        value += 0.5 * ((n - self.n_flat) * float(np.log(alpha)) - log_det + self.n_flat * LOG_2PI)
        if self.gaussian:
            log_beta = float(np.log(beta) if betas is None else np.mean(np.log(betas)))
            value += 0.5 * self.n_observations * (log_beta - LOG_2PI)
            value += 0.5 * self.log_weights
        return EvidenceEstimate(
            alpha=alpha,
            beta=beta,
            effective_parameters=sums.effective,
            log_evidence=value,
            l2=self.l2(alpha, beta),
            n_params=n,
            n_observations=self.n_observations,
            betas=None if betas is None else tuple(betas),
        )


def check_likelihood(problem: Problem) -> Squared | Logistic | SoftmaxCrossEntropy:
    """Return the loss of a problem, or raise if no likelihood belongs to it."""
    if not problem.penalize_biases:
        raise ValueError(
            "problem has penalize_biases=False, but fastggn.Evidence and the Laplace posterior "
            "have one prior for all parameters: make the problem without it"
        )
    loss = problem.loss_function
    if isinstance(loss, OutputWeighted):
        raise ValueError(
            "fastggn.Evidence and the Laplace posterior take no weights for each target, and no "
            "missing targets: give one weight a row, or leave rows with a missing target out "
            "(missing_targets='drop')"
        )
    if not isinstance(loss, (Squared, Logistic, SoftmaxCrossEntropy)):
        raise ValueError(
            f"the loss {loss.name!r} has no likelihood here: fastggn.Evidence and the Laplace "
            "posterior take 'squared', 'softmax_cross_entropy' and 'logistic' (for other "
            "losses there is fastggn.select_weight_decay)"
        )
    return loss


def check_residuals(problem: ResidualProblem) -> None:
    """Raise if no likelihood belongs to the residuals of a problem."""
    names = sorted({part.loss.name for part in problem.terms} - {"squared"})
    if names or any(getattr(part.loss, "scale", 1.0) != 1.0 for part in problem.terms):
        raise ValueError(
            f"a term has the loss {names[0] if names else 'squared with a scale'!r}: "
            "fastggn.Evidence and the Laplace posterior take the loss 'squared' of residuals"
        )
    counted = problem._objective.penalty.counted
    if counted is not None and not counted[: problem.network.n_params].all():
        raise ValueError(
            "problem has penalize_biases=False, but fastggn.Evidence and the Laplace posterior "
            "have one prior for all weights: make the problem without it"
        )


def _of_residuals(problem: ResidualProblem) -> Likelihood:
    """Return the likelihood of residuals: beta times the data term of the objective."""
    # A residual of the weight w (of its point, in the objective) has the precision beta w. So beta
    # is 1 where weights are T_t over the variance of the noise.
    check_residuals(problem)
    n_flat = problem.n_params - problem.network.n_params
    logs = count = 0.0
    for part, weights in zip(problem.terms, problem.point_weights(), strict=True):
        on = weights[weights > 0.0] / problem.n_samples
        count += on.size * part.n_residuals
        logs += part.n_residuals * float(np.sum(np.log(on)))
    return Likelihood(
        gaussian=True,
        unit=1.0,
        n_observations=int(problem.comm.total(count)),
        n_levels=1,
        log_weights=problem.comm.total(logs),
        n_flat=n_flat,
    )


def likelihood_of(problem: Problem | ResidualProblem) -> Likelihood:
    """Return the likelihood that belongs to a problem's loss."""
    if isinstance(problem, ResidualProblem):
        return _of_residuals(problem)
    # Sample weights are relative precisions of the noise, with mean one over the samples of
    # non-zero weight; samples of weight zero do not count.
    loss = check_likelihood(problem)
    gaussian = isinstance(loss, Squared)
    comm = comm_of(problem)
    relative = problem.relative_weights
    positive = relative[relative > 0.0]
    count = comm.total(float(positive.size))
    logs = float(np.sum(np.log(positive))) if positive.size else 0.0
    # The mean weight is one over all T samples, and T / count over those of non-zero weight.
    logs = comm.total(logs) - count * float(np.log(problem.n_samples / count))
    scale = loss.scale if isinstance(loss, Squared) else 1.0
    return Likelihood(
        gaussian=gaussian,
        unit=count * scale**2,
        n_observations=int(count) * problem.n_outputs,
        n_levels=problem.n_outputs if gaussian else 1,
        log_weights=problem.n_outputs * logs if gaussian else 0.0,
    )
