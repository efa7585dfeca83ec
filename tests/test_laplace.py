"""The Laplace posterior: exact for linear regression, and its dense definition for networks."""

import numpy as np
import pytest
from bayesian_cases import linear_problem, regression, sine_problem

import fastggn as fg


def dense_variance(problem, theta, alpha, beta, X):
    """Return J(x) H^-1 J(x)^T by dense algebra, for an unweighted squared loss."""
    J = problem.jacobian(theta).to_dense()
    H = beta * J.T @ J + alpha * np.eye(problem.n_params)
    there = fg.Problem(problem.network, X, np.zeros((len(X), problem.n_outputs)))
    rows = there.jacobian(theta).to_dense()
    covariance = rows @ np.linalg.inv(H) @ rows.T
    return np.diag(covariance).reshape(len(X), -1), covariance


@pytest.mark.parametrize("T", [40, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_linear_regression(T, weighted):
    """More samples than parameters, and fewer; with weights and without."""
    rng = np.random.default_rng(4)
    weights = rng.uniform(0.5, 2.0, T) if weighted else None
    problem, design = linear_problem(T=T, outputs=2, sample_weight=weights)
    alpha, beta = 0.7, 3.0
    relative = None if weights is None else weights / weights.mean()
    mean, cov, log_evidence = regression(design, problem.targets, alpha, beta, relative)
    posterior = fg.laplace(problem, mean, alpha=alpha, beta=beta)
    assert posterior.evidence.log_evidence == pytest.approx(log_evidence, rel=1e-9)
    assert posterior.evidence.effective_parameters == pytest.approx(
        len(mean) - alpha * np.trace(cov), rel=1e-9
    )
    X = rng.standard_normal((7, 4))
    rows = np.hstack([X, np.ones((7, 1))])
    A = np.kron(np.eye(2), rows)
    variance = np.diag(A @ cov @ A.T).reshape(2, 7).T
    np.testing.assert_allclose(posterior.predictive_variance(X, noise=False), variance, rtol=1e-9)
    predicted, std = posterior.predict(X)
    np.testing.assert_allclose(predicted, (A @ mean).reshape(2, 7).T, rtol=1e-10)
    np.testing.assert_allclose(std, np.sqrt(variance + 1 / beta), rtol=1e-9)
    _, quiet = posterior.predict(X, noise=False)
    np.testing.assert_allclose(quiet, np.sqrt(variance), rtol=1e-9)


@pytest.mark.parametrize("T", [60, 10])
def test_a_network(T):
    problem = sine_problem(T=T)
    theta = problem.network.init(seed=3)
    X = np.linspace(-3, 3, 11)[:, None]
    for alpha in (10.0, 1e-2, 1e-7):
        posterior = fg.laplace(problem, theta, alpha=alpha, beta=20.0)
        variance, _ = dense_variance(problem, theta, alpha, 20.0, X)
        np.testing.assert_allclose(
            posterior.predictive_variance(X, noise=False),
            variance,
            rtol=1e-6 if alpha > 1e-3 else 1e-3,
        )


def test_a_small_prior_costs_no_digits():
    """The part outside the row space is formed before it is squared: no cancellation."""
    problem = sine_problem(T=10)
    theta = problem.network.init(seed=3)
    inputs = problem.read_samples(0, 10)[0]
    posterior = fg.laplace(problem, theta, alpha=1e-9, beta=1.0)
    variance = posterior.predictive_variance(inputs, noise=False)
    # At the samples the prior has no say: J H^-1 J^T tends to the projector on the range of J.
    J = problem.jacobian(theta).to_dense()
    u, s, _ = np.linalg.svd(J, full_matrices=False)
    expected = np.sum(u**2 * (s**2 / (s**2 + 1e-9)), axis=1)[:, None]
    np.testing.assert_allclose(variance, expected, rtol=1e-8)


def test_several_outputs_vary_together():
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((30, 2)), rng.standard_normal((30, 3))
    problem = fg.Problem(fg.MLP((2, 4, 3)), X, Y)
    theta = problem.network.init(seed=1)
    posterior = fg.laplace(problem, theta, alpha=1.0, beta=2.0)
    _, covariance = dense_variance(problem, theta, 1.0, 2.0, X[:5])
    blocks = np.stack([covariance[3 * i : 3 * i + 3, 3 * i : 3 * i + 3] for i in range(5)])
    found = posterior.predictive_covariance(X[:5], noise=False)
    np.testing.assert_allclose(found, blocks, rtol=1e-9)
    from scipy.stats import multivariate_normal

    mean, _ = posterior.predict(X[:5])
    expected = [
        multivariate_normal(mean[i], blocks[i] + np.eye(3) / 2.0).logpdf(Y[i]) for i in range(5)
    ]
    assert posterior.log_likelihood(X[:5], Y[:5]) == pytest.approx(np.mean(expected), rel=1e-9)


def test_in_blocks(monkeypatch):
    """Never the rows of all samples at once."""
    from fastggn.objective import jacobian

    problem = sine_problem()
    theta = problem.network.init(seed=0)
    X = np.linspace(-3, 3, 501)[:, None]
    posterior = fg.laplace(problem, theta, alpha=1.0, beta=1.0)
    whole = posterior.predictive_variance(X)
    monkeypatch.setattr(jacobian, "_ROW_BLOCK_BYTES", 8 * problem.n_params * 7)
    largest = []
    real = posterior._factor.whiten

    def whiten(rows):
        largest.append(rows.shape[0])
        return real(rows)

    monkeypatch.setattr(posterior._factor, "whiten", whiten)
    np.testing.assert_allclose(posterior.predictive_variance(X), whole, rtol=1e-12)
    assert max(largest) == 7


def test_noise_from_the_residuals():
    """Without evidence: the classical estimate with n - gamma degrees of freedom."""
    problem, design = linear_problem()
    theta = np.linalg.lstsq(design, problem.targets[:, 0], rcond=None)[0]
    posterior = fg.laplace(problem, theta)
    residual = problem.targets[:, 0] - design @ theta
    sigma2 = residual @ residual / (40 - 5)
    assert posterior.evidence.beta == pytest.approx(1 / sigma2, rel=1e-10)
    assert posterior.evidence.alpha == 0.0
    classical = sigma2 * np.sum(design @ np.linalg.inv(design.T @ design) * design, axis=1)
    np.testing.assert_allclose(
        posterior.predictive_variance(design[:, :4], noise=False)[:, 0], classical, rtol=1e-9
    )
    regularised = problem.with_l2(0.05)
    found = fg.laplace(regularised, theta).evidence
    assert found.l2 == pytest.approx(0.05)
    assert found.alpha == pytest.approx(0.05 * 40 * found.beta, rel=1e-12)


def test_of_a_result():
    problem = sine_problem(T=100, noise=0.2)
    result = fg.train(problem, seed=0, regularize=fg.Evidence(), max_iter=200)
    posterior = fg.laplace(problem, result.theta, result.evidence)
    assert posterior.evidence.log_evidence == pytest.approx(result.evidence.log_evidence, rel=1e-10)
    X = np.linspace(-2, 2, 400)[:, None]
    rng = np.random.default_rng(9)
    Y = np.sin(2 * X) + 0.2 * rng.standard_normal(X.shape)
    mean, std = posterior.predict(X)
    inside = np.mean(np.abs(Y - mean) <= 1.96 * std)
    assert 0.9 < inside < 0.99
    # Far from the samples it knows less.
    _, far = posterior.predict(np.array([[6.0]]), noise=False)
    assert far[0, 0] > 3 * posterior.predict(np.array([[0.0]]), noise=False)[1][0, 0]
    gaussian = -0.5 * np.log(2 * np.pi * std**2) - 0.5 * ((Y - mean) / std) ** 2
    assert posterior.log_likelihood(X, Y) == pytest.approx(gaussian.mean(), rel=1e-10)


def test_from_a_model_file(tmp_path):
    problem = sine_problem()
    result = fg.train(problem, seed=0, regularize=fg.Evidence(), max_iter=50)
    posterior = fg.laplace(problem, result.theta, result.evidence)
    fg.Model.of(problem.network, result.theta, posterior=posterior).save(tmp_path / "model.npz")
    again = fg.Model.load(tmp_path / "model.npz").posterior
    assert again.evidence == posterior.evidence
    rows = np.linspace(-2.0, 2.0, 7)[:, None]
    np.testing.assert_allclose(again.predict(rows)[1], posterior.predict(rows)[1], rtol=1e-9)


@pytest.mark.parametrize("loss", ["softmax_cross_entropy", "logistic"])
def test_classes(loss):
    """Probabilities are moderated: as the plain ones near the samples, nearer to even far off."""
    rng = np.random.default_rng(2)
    X = np.vstack([rng.normal(-1, 0.7, (40, 2)), rng.normal(1, 0.7, (40, 2))])
    labels = np.repeat([0, 1], 40)
    outputs = 2 if loss == "softmax_cross_entropy" else 1
    problem = fg.Problem(fg.MLP((2, 4, outputs)), X, labels, loss=loss)
    result = fg.train(problem, seed=0, regularize=fg.Evidence(), max_iter=300)
    assert result.evidence.beta == 1.0
    posterior = fg.laplace(problem, result.theta, result.evidence)
    p = posterior.predict_proba(X)
    assert p.shape == (80, outputs)
    positive = p[:, -1]
    assert np.mean((positive > 0.5) == labels) > 0.9
    if outputs == 2:
        np.testing.assert_allclose(p.sum(axis=1), 1.0, rtol=1e-12)
    F = problem.outputs(result.theta)
    plain = 1 / (1 + np.exp(-(F[:, -1] - F[:, 0] if outputs == 2 else F[:, 0])))
    assert (np.abs(positive - 0.5) <= np.abs(plain - 0.5) + 1e-12).all()
    assert posterior.log_likelihood(X, labels) == pytest.approx(
        np.mean(np.log(np.where(labels == 1, positive, 1 - positive))), rel=1e-9
    )


def test_moderated_probability_is_the_integral():
    """MacKay's formula approximates the mean of the sigmoid under the Gaussian to 2 per cent."""
    rng = np.random.default_rng(2)
    X = rng.standard_normal((40, 2))
    problem = fg.Problem(fg.MLP((2, 3, 1)), X, X[:, 0] > 0.3 * X[:, 1], loss="logistic")
    result = fg.train(problem, seed=0, regularize=fg.Evidence(), max_iter=300)
    posterior = fg.laplace(problem, result.theta, result.evidence)
    mean, std = posterior.predict(X)
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    integral = (1 / (1 + np.exp(-(mean + std * nodes)))) @ weights / np.sqrt(2 * np.pi)
    assert np.abs(posterior.predict_proba(X)[:, 0] - integral).max() < 0.02


def test_a_known_noise_without_a_prior_is_the_textbook_covariance():
    X = np.array([[0.0], [1.0], [2.0]])
    problem = fg.Problem(fg.MLP((1, 1)), X, X)
    theta = fg.train(problem, seed=0).theta
    _, deviation = fg.laplace(problem, theta, beta=1.0).predict(np.array([[0.0]]), noise=False)
    np.testing.assert_allclose(deviation, 0.912871, atol=1e-6)  # of the intercept
    rng = np.random.default_rng(0)
    for _ in range(100):
        T, n, beta = rng.integers(6, 30), rng.integers(1, 4), rng.uniform(0.1, 100.0)
        X, new = rng.standard_normal((T, n)), rng.standard_normal((5, n))
        problem = fg.Problem(fg.MLP((int(n), 1)), X, rng.standard_normal((T, 1)))
        design, rows = np.c_[X, np.ones(T)], np.c_[new, np.ones(5)]
        expected = np.einsum("ij,jk,ik->i", rows, np.linalg.inv(design.T @ design), rows) / beta
        posterior = fg.laplace(problem, np.zeros(n + 1), beta=beta)
        found = posterior.predictive_variance(new, noise=False)[:, 0]
        np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_refusals(monkeypatch):
    problem, _ = linear_problem()
    theta = np.zeros(5)
    with pytest.raises(TypeError, match="problem must be"):
        fg.laplace(np.eye(3), theta)
    with pytest.raises(ValueError, match="theta"):
        fg.laplace(problem, np.zeros(3))
    with pytest.raises(TypeError, match="evidence must be"):
        fg.laplace(problem, theta, {"alpha": 1.0})
    with pytest.raises(ValueError, match="alpha needs beta"):
        fg.laplace(problem, theta, alpha=1.0)
    with pytest.raises(ValueError, match="alpha"):
        fg.laplace(problem, theta, alpha=-1.0, beta=1.0)
    with pytest.raises(ValueError, match="no likelihood"):
        fg.laplace(linear_problem(loss="huber")[0], theta)
    singular = sine_problem(T=10)
    with pytest.raises(ValueError, match="not proper"):
        fg.laplace(singular, singular.network.init(seed=0))
    with pytest.raises(ValueError, match="predict_proba"):
        fg.laplace(problem, theta, alpha=1.0, beta=1.0).predict_proba(np.ones((1, 4)))
    gated = fg.Problem(
        fg.MLP((1, 2, 1), "relu"), np.ones((3, 1)), np.ones((3, 1)), gates=[np.ones((3, 2))]
    )
    with pytest.raises(ValueError, match="gates"):
        fg.laplace(gated, np.zeros(7))
    monkeypatch.setattr("fastggn.analysis.posterior.factors.available_memory", lambda: 100)
    with pytest.raises(MemoryError, match="posterior"):
        fg.laplace(problem, theta, alpha=1.0, beta=1.0)
