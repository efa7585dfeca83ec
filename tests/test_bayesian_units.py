"""A weight decay for each hidden unit, and several minima as one posterior."""

import json

import numpy as np
import pytest
from bayesian_cases import linear_problem, sine_problem
from dense_system import Prepared

import fastggn as fg
from fastggn.solvers.choice import get_solver
from fastggn.training.regularisation.priors import prior_classes, relative_precisions

UNITS = {"regularize": fg.Evidence(per="unit")}


def test_classes():
    # Two hidden units with (w1, w2, b) each; the output's weights belong to the units.
    assert prior_classes(fg.MLP((2, 2, 1)), "unit").tolist() == [0, 0, 0, 1, 1, 1, 0, 1, 2]
    # In a deep network a weight between hidden units belongs to the one that it enters.
    deep = prior_classes(fg.MLP((1, 2, 2, 1)), "unit")
    assert deep.tolist() == [0, 0, 1, 1, 2, 2, 2, 3, 3, 3, 2, 3, 4]
    # Without hidden layer: inputs. Without a free bias: none of it.
    assert prior_classes(fg.MLP((2, 1)), "unit").tolist() == [0, 1, 2]
    assert prior_classes(fg.MLP((2, 2, 1)), "network") is None
    middle, relative = relative_precisions(np.array([0, 0, 1]), [2.0, 16.0])
    assert middle == pytest.approx(4.0)
    np.testing.assert_allclose(relative, [0.5, 0.5, 4.0])


@pytest.mark.parametrize("T", [60, 8])
@pytest.mark.parametrize("l2", [1e-1, 1e-4])
def test_sums_with_several_decays_are_those_of_dense_algebra(T, l2):
    problem = sine_problem(T=T)
    point = problem.at(problem.network.init(seed=2))
    relative = relative_precisions(prior_classes(problem.network, "unit"), np.logspace(-2, 2, 7))[1]
    point.reweigh(l2, relative)
    H = point.gram() + np.diag(l2 * relative)
    held = l2 * relative * np.diag(np.linalg.inv(H))
    for name in ("cholesky", "qr"):
        state = Prepared(get_solver(name), point)
        before = state.solve(0.01).step
        np.testing.assert_allclose(
            before, -np.linalg.solve(H + 0.01 * np.eye(len(H)), point.gradient), rtol=1e-7
        )
        sums = state.sums()
        np.testing.assert_allclose(sums.held, held, rtol=1e-7)
        assert sums.effective == pytest.approx(len(H) - held.sum(), rel=1e-8)
        assert sums.log_determinant == pytest.approx(np.linalg.slogdet(H)[1], rel=1e-10)
        np.testing.assert_allclose(state.solve(0.01).step, before, rtol=1e-12)
        point.reweigh(2.0 * l2, relative)  # as a run does between two steps
        other = -np.linalg.solve(H + l2 * np.diag(relative), point.gradient)
        np.testing.assert_allclose(state.solve(0.0).step, other, rtol=1e-6)
        point.reweigh(l2, relative)


def dense(A, y, alphas, beta):
    """Return mean, covariance and log evidence with a precision for each weight."""
    H = beta * A.T @ A + np.diag(alphas)
    cov = np.linalg.inv(H)
    marginal = A @ np.diag(1.0 / alphas) @ A.T + np.eye(y.size) / beta
    _, log_det = np.linalg.slogdet(marginal)
    quadratic = y @ np.linalg.solve(marginal, y)
    return beta * cov @ A.T @ y, cov, -0.5 * (quadratic + log_det + y.size * np.log(2 * np.pi))


@pytest.mark.parametrize("solver", ["cholesky", "qr"])
def test_linear_regression_with_a_decay_for_each_input(solver):
    problem, A = linear_problem()
    result = fg.train(
        problem,
        seed=0,
        method=fg.LevenbergMarquardt(solver=solver),
        stop=fg.Stop(gradient=1e-13, step=0.0),
        max_iter=500,
        **UNITS,
    )
    y = problem.targets[:, 0]
    alphas, beta = np.ones(5), 1.0
    for _ in range(5000):  # MacKay's updates
        mean, cov, log_evidence = dense(A, y, alphas, beta)
        gammas = 1.0 - alphas * np.diag(cov)
        alphas = gammas / mean**2
        beta = (y.size - gammas.sum()) / np.sum((y - A @ mean) ** 2)
    mean, cov, log_evidence = dense(A, y, alphas, beta)
    found = result.evidence
    np.testing.assert_allclose(found.alphas, alphas, rtol=1e-7)
    assert found.beta == pytest.approx(beta, rel=1e-8)
    assert found.effective_parameters == pytest.approx(gammas.sum(), rel=1e-8)
    assert found.log_evidence == pytest.approx(log_evidence, rel=1e-8)
    np.testing.assert_allclose(result.theta, mean, rtol=1e-7)
    posterior = fg.laplace(problem, result.theta, result.evidence)
    assert posterior.evidence.log_evidence == pytest.approx(log_evidence, rel=1e-8)
    assert posterior.evidence.alphas == found.alphas
    X = A[:3, :-1] + 1.0
    rows = np.hstack([X, np.ones((3, 1))])
    variance = np.einsum("ij,jk,ik->i", rows, cov, rows) + 1.0 / beta
    np.testing.assert_allclose(posterior.predict(X)[1][:, 0] ** 2, variance, rtol=1e-7)


def test_the_evidence_is_stationary_in_the_alpha_of_each_unit():
    """Central differences of the dense log evidence, curvature held; see also its value."""
    problem = sine_problem(hidden=4)
    result = fg.train(
        problem, seed=0, max_iter=3000, stop=fg.Stop(gradient=1e-10, step=0.0), **UNITS
    )
    assert result.converged
    found, theta = result.evidence, result.theta
    classes = prior_classes(problem.network, "unit")
    J = np.asarray(problem.jacobian(theta) @ np.eye(theta.size))
    residual = problem.outputs(theta) - problem.targets

    def log_evidence(alphas):
        each = np.asarray(alphas)[classes]
        H = found.beta * J.T @ J + np.diag(each)
        value = -0.5 * (found.beta * np.sum(residual**2) + each @ theta**2)
        value += 0.5 * (np.log(each).sum() - np.linalg.slogdet(H)[1])
        return value + 0.5 * residual.size * np.log(found.beta / (2 * np.pi))

    assert found.log_evidence == pytest.approx(log_evidence(found.alphas), rel=1e-8)
    held = np.asarray(found.alphas)[classes] * np.diag(
        np.linalg.inv(found.beta * J.T @ J + np.diag(np.asarray(found.alphas)[classes]))
    )
    gammas = np.bincount(classes) - np.bincount(classes, held)
    assert ((gammas > -1e-9) & (gammas < np.bincount(classes))).all()
    assert found.effective_parameters == pytest.approx(gammas.sum(), rel=1e-6)
    for k in np.flatnonzero(gammas > 0.01):
        up, down = (
            log_evidence(np.where(np.arange(5) == k, np.exp(s), 1.0) * found.alphas)
            for s in (1e-4, -1e-4)
        )
        assert abs(up - down) / 2e-4 < 1e-3


def test_effective_parameters_fall_with_fewer_samples():
    found = []
    for T in (200, 50, 15):
        problem = sine_problem(T=T, hidden=8)
        evidence = fg.train(problem, seed=0, max_iter=100, **UNITS).evidence
        assert 0.0 < evidence.effective_parameters < problem.n_params
        found.append(evidence.effective_parameters)
    assert found[0] > found[1] > found[2]


def test_units_without_use_are_switched_off_and_the_evidence_is_higher():
    problem = sine_problem(T=60, hidden=10)
    one, units = (
        max(
            (fg.train(problem, seed=seed, max_iter=150, regularize=how) for seed in range(2)),
            key=lambda run: run.evidence.log_evidence,
        )
        for how in (fg.Evidence(), fg.Evidence(per="unit"))
    )
    assert units.evidence.log_evidence > one.evidence.log_evidence
    assert max(units.evidence.alphas) > 100.0 * min(units.evidence.alphas)
    assert "in 11 classes" in str(units.evidence)


def test_resumed_to_the_bit_and_kept(tmp_path):
    problem = sine_problem()
    whole = fg.train(problem, seed=0, max_iter=8, **UNITS)
    fg.train(problem, seed=0, max_iter=3, checkpoint=tmp_path / "run", **UNITS)
    result = fg.train(
        problem,
        seed=0,
        max_iter=8,
        checkpoint=fg.Checkpoint(tmp_path / "run", resume=True),
        **UNITS,
    )
    np.testing.assert_array_equal(result.theta, whole.theta)
    assert result.evidence == whole.evidence
    assert fg.EvidenceEstimate(**json.loads(json.dumps(whole.evidence.to_dict()))) == whole.evidence
    checkpoint = fg.Checkpoint(tmp_path / "starts", resume=True)
    keywords = {**UNITS, "max_iter": 5, "checkpoint": checkpoint}
    found = fg.train_restarts(problem, 2, **keywords)
    again = fg.train_restarts(problem, 3, **keywords)
    assert again.results[1].evidence == found.results[1].evidence


def test_more_parameters_than_observations():
    problem = sine_problem(T=12, hidden=8)
    result = fg.train(problem, seed=0, max_iter=50, **UNITS)
    assert result.solver == "cholesky"
    X = np.linspace(-2, 2, 5)[:, None]
    J = np.asarray(problem.jacobian(result.theta) @ np.eye(problem.n_params))
    other = fg.Problem(problem.network, X, np.zeros((5, 1)))
    rows = np.asarray(other.jacobian(result.theta) @ np.eye(problem.n_params))
    each = np.asarray(result.evidence.alphas)[prior_classes(problem.network, "unit")]
    # By the rows: the inverse of H itself would lose digits.
    S = rows / each
    K = np.eye(12) / result.evidence.beta + (J / each) @ J.T
    variance = np.einsum("ij,ij->i", S, rows) - np.einsum(
        "ij,ji->i", S @ J.T, np.linalg.solve(K, J @ S.T)
    )
    _, std = fg.laplace(problem, result.theta, result.evidence).predict(X, noise=False)
    np.testing.assert_allclose(std[:, 0] ** 2, variance, rtol=1e-5)


def test_refusals():
    problem = sine_problem(T=10)
    with pytest.raises(ValueError, match="solver 'dual' does not go"):
        fg.train(problem, method=fg.LevenbergMarquardt(solver="dual"), **UNITS)
    with pytest.raises(ValueError, match="goes with method 'lm'"):
        fg.train(problem, method="newton", **UNITS)
    evidence = fg.train(problem, seed=0, max_iter=3, **UNITS).evidence
    other = sine_problem(hidden=3)
    with pytest.raises(ValueError, match="7 alphas"):
        fg.laplace(other, other.network.init(seed=0), evidence)
    with pytest.raises(ValueError, match="at least one"):
        fg.PosteriorMixture([])
    with pytest.raises(TypeError, match="LaplacePosterior objects, got int"):
        fg.PosteriorMixture([3])


# --- several minima -----------------------------------------------------------------------------


def test_mixture_of_gaussians():
    problem = sine_problem(T=30)
    runs = fg.train_restarts(problem, 3, max_iter=30, **UNITS)
    mixture = fg.PosteriorMixture.of_runs(problem, runs)
    X = np.linspace(-3, 3, 7)[:, None]
    y = np.sin(2 * X)
    posteriors = [fg.laplace(problem, r.theta, r.evidence) for r in runs.results.values()]
    parts = [posterior.predict(X) for posterior in posteriors]
    mean, std = mixture.predict(X)
    np.testing.assert_allclose(mean, np.mean([m for m, _ in parts], axis=0))
    second = np.mean([s**2 + m**2 for m, s in parts], axis=0)
    np.testing.assert_allclose(std**2, second - mean**2, rtol=1e-9)
    density = np.mean(
        [np.exp(-0.5 * ((y - m) / s) ** 2) / (s * np.sqrt(2 * np.pi)) for m, s in parts], axis=0
    )
    assert mixture.log_likelihood(X, y) == pytest.approx(np.log(density).mean())
    alone = fg.PosteriorMixture(mixture.members[:1])
    np.testing.assert_allclose(alone.predict(X)[1], parts[0][1])


def test_mixture_of_classes():
    rng = np.random.default_rng(0)
    X = rng.uniform(-2, 2, (40, 2))
    labels = (X[:, 0] * X[:, 1] > 0).astype(int)
    problem = fg.Problem(fg.MLP((2, 3, 2)), X, labels, "softmax_cross_entropy")
    runs = fg.train_restarts(problem, 2, max_iter=20, **UNITS)
    mixture = fg.PosteriorMixture.of_runs(problem, runs)
    p = mixture.predict_proba(X)
    np.testing.assert_allclose(p, np.mean([m.predict_proba(X) for m in mixture.members], axis=0))
    np.testing.assert_allclose(p.sum(axis=1), 1.0)
    expected = np.mean(np.log(p[np.arange(40), labels]))
    assert mixture.log_likelihood(X, labels) == pytest.approx(expected)
