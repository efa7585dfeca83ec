"""One level of noise for each output: in the evidence, the posterior and what is made of them."""

import json

import naive
import numpy as np
import pytest
from bayesian_cases import sine_problem

import fastggn as fg

TOLERANCES = {"stop": fg.Stop(gradient=0.0, step=1e-13), "max_iter": 200}


def linear_instance(seed):
    """Return a linear problem with noise over up to four orders of magnitude, and its parts."""
    rng = np.random.default_rng(seed)
    outputs, n = int(rng.integers(2, 5)), int(rng.integers(1, 5))
    T = int(rng.integers(8, 60)) + n
    deviations = 10.0 ** rng.uniform(-4.0, 0.0, outputs)
    X, W = rng.standard_normal((T, n)), rng.standard_normal((n + 1, outputs))
    design = np.hstack([X, np.ones((T, 1))])
    Y = design @ W + deviations * rng.standard_normal((T, outputs))
    return fg.Problem(fg.MLP((n, outputs)), X, Y), design, W, deviations


def compare(seed):
    """Compare a run and its posterior with the closed form; return the hits at 90 % and draws."""
    problem, design, W, deviations = linear_instance(seed)
    expected = naive.noisy_outputs(design, problem.targets)
    result = fg.train(problem, seed=0, regularize=fg.Evidence(), **TOLERANCES)
    found = result.evidence
    np.testing.assert_allclose(found.betas, expected.betas, rtol=1e-6)
    assert found.beta == pytest.approx(np.mean(found.betas), rel=1e-14)
    assert found.alpha == pytest.approx(expected.alpha, rel=1e-6)
    assert found.effective_parameters == pytest.approx(expected.gammas.sum(), rel=1e-6)
    assert found.log_evidence == pytest.approx(expected.log_evidence, rel=1e-7, abs=1e-6)
    np.testing.assert_allclose(result.theta, expected.mean.T.ravel(), rtol=1e-5, atol=1e-7)
    posterior = fg.laplace(problem, result.theta, found)
    assert posterior.evidence.log_evidence == pytest.approx(found.log_evidence, rel=1e-9)
    rng = np.random.default_rng(seed + 10**6)
    X = rng.standard_normal((200, design.shape[1] - 1))
    rows = np.hstack([X, np.ones((200, 1))])
    mean, std = posterior.predict(X)
    for o, cov in enumerate(expected.covariances):
        variance = np.einsum("ij,jk,ik->i", rows, cov, rows) + 1.0 / expected.betas[o]
        np.testing.assert_allclose(std[:, o] ** 2, variance, rtol=1e-5)
    Y = rows @ W + deviations * rng.standard_normal(mean.shape)
    return np.sum(np.abs(Y - mean) < 1.6449 * std, axis=0), design.shape[0] - design.shape[1]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_against_ridge_regressions(seed):
    compare(seed)


def sweep(seeds):
    hits = np.concatenate([compare(seed)[0] for seed in seeds]) / 200.0
    assert abs(hits.mean() - 0.9) < 0.03, hits.mean()


@pytest.mark.slow
def test_many_against_ridge_regressions():
    sweep(range(100, 200))
