"""The Laplace approximation of the posterior of a network."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastggn.analysis.magnitudes import usable_point
from fastggn.analysis.posterior.factors import CurvatureFactor, factor_curvature
from fastggn.analysis.posterior.gaussian import LaplacePosterior
from fastggn.analysis.posterior.residuals import ResidualPosterior
from fastggn.objective.point import Point
from fastggn.objective.problem import Problem
from fastggn.objective.residual_problem import ResidualProblem
from fastggn.runtime.comm import comm_of
from fastggn.runtime.errors import as_float_vector, check_positive, unknown_name
from fastggn.training.regularisation.evidence import EvidenceEstimate, Likelihood, likelihood_of
from fastggn.training.regularisation.priors import PER, prior_classes, relative_precisions

FloatArray = NDArray[np.float64]


def laplace(
    problem: Problem | ResidualProblem,
    theta: ArrayLike,
    evidence: EvidenceEstimate | None = None,
    *,
    alpha: float | None = None,
    beta: float | ArrayLike | None = None,
) -> LaplacePosterior:
    """Return the Gaussian approximation of the posterior around a minimum of a problem.

    Its precision is the Hessian of ``beta E_D + alpha E_W`` in the Gauss-Newton approximation:
    ``H = sum_o beta_o J_o^T J_o + alpha I`` for the squared loss, J_o the rows of output o.

    Source: MacKay (1992), "A practical Bayesian framework for backpropagation networks".

    Parameters
    ----------
    problem : Problem or ResidualProblem
        Samples and loss: "squared", "softmax_cross_entropy" or "logistic". Residuals, all with the
        loss "squared", give a `ResidualPosterior`: the network and the coefficients, which have a
        flat prior. A residual has the precision beta w_t / T_t, w_t the weight of its term.
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
    if not isinstance(problem, (Problem, ResidualProblem)):
        raise TypeError(f"problem must be a fastggn.Problem, not {type(problem).__name__}")
    if problem.gated:
        raise ValueError("problem has fixed gates, which other inputs would not have")
    with comm_of(problem).raise_on_all() as said:
        vector = as_float_vector("theta", theta, problem.n_params)
        said |= {"call": "laplace", "evidence": evidence, "alpha": alpha, "beta": beta}
    likelihood = likelihood_of(problem)
    alpha, betas = _precisions(problem, likelihood, evidence, alpha, beta)
    relative = None if evidence is None else _relative(problem, evidence)
    point, factor = usable_point(problem, vector), None
    with np.errstate(all="ignore"):
        if betas is None:
            factor = factor_curvature(point)
            betas = _noise(likelihood, factor, point)
        mean = float(betas.mean())
        if betas.size > 1 and isinstance(problem, Problem):
            weighed = problem.with_l2(problem.l2)  # a copy
            weighed.weigh_outputs(betas / mean)
            point, factor = weighed.at(vector), None
        if alpha is not None:
            point.reweigh(likelihood.l2(alpha, mean))
        factor = factor or factor_curvature(point, relative)
        scaled = vector if relative is None else np.sqrt(relative) * vector
        found = _evidence(likelihood, factor, point.l2, betas, float(point.data_loss), scaled)
    if evidence is not None:
        found = replace(found, per=evidence.per, alphas=evidence.alphas)
    if isinstance(problem, ResidualProblem):
        return ResidualPosterior.of(problem, vector, found, likelihood, factor)
    return LaplacePosterior(problem, vector, found, likelihood, factor)


def _precisions(
    problem: Problem | ResidualProblem,
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


def _relative(problem: Problem | ResidualProblem, evidence: EvidenceEstimate) -> FloatArray | None:
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
