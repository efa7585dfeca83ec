"""Training with regularization="bayesian": against linear regression, and by its own conditions."""

import warnings

import numpy as np
import pytest
from bayesian_cases import fixed_point, linear_problem, regression, sine_problem

import fastggn as fg
from fastggn.solvers import get_solver
from fastggn.training.evidence import likelihood_of

TOLERANCES = {"grad_tol": 1e-13, "step_tol": 0.0, "max_iter": 500}


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("solver", ["cholesky", "qr"])
def test_linear_regression(outputs, solver):
    problem, design = linear_problem(outputs=outputs)
    result = fg.train(
        problem, seed=0, solver=solver, regularization="bayesian", **TOLERANCES
    )
    alpha, beta, gamma = fixed_point(design, problem.targets)
    found = result.evidence
    assert found.alpha == pytest.approx(alpha, rel=1e-8)
    assert found.beta == pytest.approx(beta, rel=1e-8)
    assert found.effective_parameters == pytest.approx(gamma, rel=1e-8)
    mean, _, log_evidence = regression(design, problem.targets, alpha, beta)
    np.testing.assert_allclose(result.theta, mean, rtol=1e-8)
    assert found.log_evidence == pytest.approx(log_evidence, rel=1e-8)
    assert found.l2 == pytest.approx(alpha / (beta * problem.n_samples), rel=1e-8)


def test_more_parameters_than_observations():
    problem, design = linear_problem(T=12, n=30)
    result = fg.train(problem, seed=0, regularization="bayesian", **TOLERANCES)
    assert result.solver.startswith("dual")
    alpha, beta, gamma = fixed_point(design, problem.targets)
    found = result.evidence
    assert found.alpha == pytest.approx(alpha, rel=1e-6)
    assert found.beta == pytest.approx(beta, rel=1e-6)
    assert found.effective_parameters == pytest.approx(gamma, rel=1e-6)
