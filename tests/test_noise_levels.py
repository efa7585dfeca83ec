"""One level of noise for each output: in the evidence, the posterior and what is made of them."""

import json

import naive
import numpy as np
import pytest
from bayesian_cases import sine_problem
from dense_system import Prepared

import fastggn as fg
from fastggn.solvers.choice import get_solver
from fastggn.training.regularisation.evidence import likelihood_of
from fastggn.training.regularisation.shares import LEAST_ROWS, MIXTURES, OutputShares

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


def test_many_against_ridge_regressions():
    sweep(range(3, 23))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::fastggn.ScalingWarning")  # some targets are drawn far from 0
def test_more_against_ridge_regressions():
    sweep(range(100, 300))


@pytest.mark.filterwarnings("ignore::fastggn.ScalingWarning")  # which the short directions deserve
@pytest.mark.parametrize("solver", ["qr", "dual"])
@pytest.mark.parametrize("seed", [1, 6])
def test_the_solvers_agree(solver, seed):
    """Fewer observations than parameters, so that the dual form is taken too."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((24, 30)) / np.arange(1, 31) ** 2  # most directions are too short
    Y = X @ rng.standard_normal((30, 2)) + [0.3, 0.01] * rng.standard_normal((24, 2))
    problem = fg.Problem(fg.MLP((30, 2), bias="none"), X, Y)
    keywords = {"seed": 0, "regularize": fg.Evidence(), "max_iter": 40}
    keywords["stop"] = fg.Stop(gradient=0.0, step=0.0)
    found, expected = (
        fg.train(problem, method=fg.LevenbergMarquardt(solver=name), **keywords).evidence
        for name in (solver, "cholesky")
    )
    np.testing.assert_allclose(found.betas, expected.betas, rtol=1e-5)
    assert found.log_evidence == pytest.approx(expected.log_evidence, rel=1e-7)


def shared(T=150, deviations=(0.3, 0.01), hidden=12, seed=0, **options):
    """Return a problem whose outputs share hidden units, and new samples of it."""
    rng = np.random.default_rng(seed)
    X = rng.uniform(-2, 2, (2 * T, 1))
    Y = np.hstack([np.sin(2 * X), np.tanh(2 * X)])
    Y += deviations * rng.standard_normal(Y.shape)
    return fg.Problem(fg.MLP((1, hidden, 2)), X[:T], Y[:T], **options), X[T:], Y[T:]


@pytest.mark.parametrize("per", ["network", "unit"])
def test_shared_hidden_units(per):
    """The deviations of the issue, and the coverage of new samples: 49 and 100 % by one level."""
    problem, X, Y = shared()
    result = fg.train(problem, seed=0, regularize=fg.Evidence(per=per), max_iter=150)
    deviations = np.asarray(result.evidence.betas) ** -0.5
    np.testing.assert_allclose(deviations, [0.3, 0.01], rtol=0.2)
    posterior = fg.laplace(problem, result.theta, result.evidence)
    assert posterior.evidence.log_evidence == pytest.approx(result.evidence.log_evidence, rel=1e-8)
    mean, std = posterior.predict(X)
    inside = np.mean(np.abs(Y - mean) < 1.96 * std, axis=0)
    assert (inside > 0.9).all()
    assert (inside < 0.995).all()
    # By dense algebra: H = sum_o beta_o J_o^T J_o + A.
    J = problem.jacobian(result.theta).to_dense().reshape(150, 2, -1)
    found = result.evidence
    alphas = found.alpha * np.ones(problem.n_params)
    if per == "unit":
        from fastggn.training.regularisation.priors import prior_classes

        alphas = np.asarray(found.alphas)[prior_classes(problem.network, per)]
    H = np.einsum("o,toi,toj->ij", found.betas, J, J) + np.diag(alphas)
    residual = problem.outputs(result.theta) - problem.targets
    value = -0.5 * (found.betas @ np.sum(residual**2, axis=0) + alphas @ result.theta**2)
    value += 0.5 * (np.log(alphas).sum() - np.linalg.slogdet(H)[1])
    value += 75 * np.sum(np.log(np.asarray(found.betas) / (2 * np.pi)))
    assert found.log_evidence == pytest.approx(value, rel=1e-8)
    rows = fg.Problem(problem.network, X[:4], Y[:4]).jacobian(result.theta).to_dense()
    covariance = rows.reshape(4, 2, -1) @ np.linalg.inv(H) @ rows.reshape(4, 2, -1).swapaxes(1, 2)
    covariance += np.diag(1.0 / np.asarray(found.betas))
    np.testing.assert_allclose(posterior.predictive_covariance(X[:4]), covariance, rtol=1e-5)
    from scipy.stats import multivariate_normal

    logs = [multivariate_normal(mean[i], covariance[i]).logpdf(Y[i]) for i in range(4)]
    np.testing.assert_allclose(posterior.log_likelihoods(X[:4], Y[:4]), logs, rtol=1e-5)


def test_the_loss_is_that_of_weights_by_target():
    problem, _, _ = shared()
    result = fg.train(problem, seed=0, regularize=fg.Evidence(), max_iter=20)
    weights = np.broadcast_to(result.evidence.betas, problem.targets.shape)
    X = problem.read_samples(0, 150)[0]
    same = fg.Problem(
        problem.network, X, problem.targets, sample_weight=weights, l2=result.evidence.l2
    )
    assert result.loss == pytest.approx(same.loss(result.theta), rel=1e-12)
    np.testing.assert_allclose(
        np.linalg.norm(same.gradient(result.theta)), result.gradient_norm, rtol=1e-6
    )
    assert problem.loss(result.theta) > result.loss  # the given problem is not changed


def test_many_samples_divide_gamma_by_some_of_their_rows():
    """The count itself is by all rows; a part of 5 % of N in 3,000 samples is 0.04 % of beta."""
    problem, _, _ = shared(T=3000)
    result = fg.train(problem, seed=0, regularize=fg.Evidence(), max_iter=60)
    J = problem.jacobian(result.theta).to_dense().reshape(3000, 2, -1)
    found = result.evidence
    H = np.einsum("o,toi,toj->ij", found.betas, J, J) + found.alpha * np.eye(problem.n_params)
    gammas = np.einsum("o,toi,ij,toj->o", found.betas, J, np.linalg.inv(H), J, optimize=True)
    assert found.effective_parameters == pytest.approx(gammas.sum(), rel=1e-5)
    error = np.sum((problem.outputs(result.theta) - problem.targets) ** 2, axis=0)
    np.testing.assert_allclose(found.betas, (3000 - gammas) / error, rtol=2e-3)


@pytest.mark.parametrize("seed", range(3))
def test_few_samples_divide_gamma_by_sums_of_their_rows(seed):
    """More than 256 of them, of fewer than two for each parameter; every other count divides."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((120, 3))
    Y = np.stack([np.sin(X[:, 0]), X[:, 1] * X[:, 2], np.tanh(X[:, 0] - X[:, 1])], axis=1)
    Y += [0.3, 0.1, 0.03] * rng.standard_normal(Y.shape)
    problem = fg.Problem(fg.MLP((3, 40, 6, 3)), X, Y)
    assert problem.n_rows < 2 * problem.n_params
    assert OutputShares(problem, few=True)._sample.n_rows > LEAST_ROWS
    found = fg.train(problem, seed=seed, regularize=fg.Evidence(), max_iter=80)
    error = np.sum((problem.outputs(found.theta) - problem.targets) ** 2, axis=0)
    J = problem.jacobian(found.theta).to_dense().reshape(120, 3, -1)
    betas, alpha = np.asarray(found.evidence.betas), found.evidence.alpha
    H = np.einsum("o,toi,toj->ij", betas, J, J) + alpha * np.eye(problem.n_params)
    gammas = np.einsum("o,toi,ij,toj->o", betas, J, np.linalg.inv(H), J, optimize=True)
    assert found.evidence.effective_parameters == pytest.approx(gammas.sum(), rel=1e-6)
    np.testing.assert_allclose(120 - betas * error, gammas, atol=4.0)


@pytest.mark.parametrize(
    ("T", "widths", "mixed"), [(100, (3, 40, 6, 3), True), (15, (3, 24, 20), False)]
)
def test_parts_of_gamma_by_sums_of_rows(T, widths, mixed):
    """Within four standard deviations (Hutchinson 1990); exact where there would be more sums."""
    rng, n = np.random.default_rng(0), widths[-1]
    X, Y = rng.standard_normal((T, 3)), rng.standard_normal((T, n))
    problem = fg.Problem(fg.MLP(widths), X, Y)
    point = problem.with_l2(1e-3).at(problem.init(0))
    sums = Prepared(get_solver("cholesky"), point).sums()
    shares = OutputShares(problem, few=True)
    with fg.threads(1):
        found = shares.divide(point, sums, np.ones(n))
    with fg.threads(2):
        np.testing.assert_array_equal(shares.divide(point, sums, np.ones(n)), found)
    A = np.concatenate([rows for rows, _ in point.row_blocks()])
    K = A @ np.linalg.solve(A.T @ A + 1e-3 * np.eye(problem.n_params), A.T)
    own = K.reshape(T, n, T, n)
    blocks = [own[:, o, :, o] for o in range(n)]
    expected = np.array([np.trace(block) for block in blocks])
    squares = [np.sum(block**2) - np.sum(block.diagonal() ** 2) for block in blocks]
    wide = 4.0 * np.sqrt(2.0 / MIXTURES * np.array(squares))
    assert (np.abs(found - expected) < (wide if mixed else 1e-6)).all()
    assert (np.abs(found - expected) > 1e-3).any() == mixed


def test_more_outputs_than_rows_divide_gamma():
    problem = fg.Problem(fg.MLP((3, 1, 300)), np.eye(4, 3), np.ones((4, 300)))
    assert OutputShares(problem, few=False)._sample.n_samples == 1


def test_an_output_that_is_fitted_nearly_exactly_keeps_its_weight():
    """Its gamma is nearly T; scaled like the others between two divisions it came to exceed T."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((120, 3))
    teacher = fg.MLP((3, 5, 3))
    Y = teacher.predict(2.0 * teacher.init(seed=9), X)
    Y = (Y - Y.mean(axis=0)) / Y.std(axis=0) + [0.3, 0.1, 0.0] * rng.standard_normal(Y.shape)
    problem = fg.Problem(fg.MLP((3, 40, 6, 3)), X, Y)
    run = fg.train(problem, seed=0, regularize=fg.Evidence(), max_iter=60)
    betas = np.array([record.beta for record in run.history if record.beta])
    assert betas.max() > 1e7
    assert (betas[1:] > 0.1 * betas[:-1]).all()


@pytest.mark.parametrize("whole", [20.0, 195.0, 200.5, 230.0, 599.0])
def test_parts_of_gamma_stay_between_zero_and_the_samples(whole):
    problem, _, _ = shared(T=300)
    likelihood = likelihood_of(problem)
    for gammas in ([0.5, 200.0], [299.999, 10.0], [0.0, 0.0]):
        parts = likelihood.divided(np.array(gammas), whole)
        assert (parts >= 0.0).all() and (parts < 300.0).all()
        if whole >= sum(gammas):  # else one part may stay at 0
            assert parts.sum() == pytest.approx(whole, rel=1e-12)


def test_sample_weights_and_the_scale_of_the_loss():
    weights = np.random.default_rng(5).uniform(0.2, 3.0, 150)
    problem, X, _ = shared(sample_weight=weights)
    a = fg.train(problem, seed=0, regularize=fg.Evidence(), max_iter=25)
    scaled, _, _ = shared(sample_weight=weights, loss=fg.losses.Squared(scale=0.25))
    b = fg.train(scaled, seed=0, regularize=fg.Evidence(), max_iter=25)
    np.testing.assert_allclose(a.evidence.betas, b.evidence.betas, rtol=1e-5)
    pairs = ((problem, a), (scaled, b))
    stds = [fg.laplace(p, run.theta, run.evidence).predict(X)[1] for p, run in pairs]
    np.testing.assert_allclose(*stds, rtol=1e-4)


def test_an_output_without_noise_leaves_the_others():
    """A constant target is fitted exactly; its weight has a limit, and nothing overflows."""
    problem, _, _ = shared(deviations=(0.3, 0.0))
    X, Y = problem.read_samples(0, 150)[0], problem.targets.copy()
    Y[:, 1] = 0.25
    flat = fg.Problem(problem.network, X, Y)
    result = fg.train(flat, seed=0, regularize=fg.Evidence(), max_iter=150)
    betas = result.evidence.betas
    assert betas[0] ** -0.5 == pytest.approx(0.3, rel=0.2)
    assert 1e8 < betas[1] / betas[0] <= 1e9 * (1 + 1e-9)
    assert np.isfinite(result.evidence.log_evidence)
    # Targets that the start fits exactly.
    zero = fg.Problem(problem.network, X, np.zeros_like(Y))
    assert fg.train(zero, np.zeros(zero.n_params), regularize=fg.Evidence()).loss == 0.0


def test_in_chunks_from_files_and_resumed_to_the_bit(tmp_path):
    problem, _, _ = shared()
    X, Y = problem.read_samples(0, 150)[0], problem.targets
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "Y.npy", Y)
    files = [np.load(tmp_path / name, mmap_mode="r") for name in ("X.npy", "Y.npy")]
    streamed = fg.Problem(problem.network, *files, _chunk=32)
    keywords = {"seed": 0, "regularize": fg.Evidence()}
    whole = fg.train(problem, **keywords, max_iter=9)
    other = fg.train(streamed, **keywords, max_iter=9)
    np.testing.assert_allclose(whole.evidence.betas, other.evidence.betas, rtol=1e-6)
    fg.train(problem, **keywords, max_iter=4, checkpoint=tmp_path / "run")
    resume = fg.Checkpoint(tmp_path / "run", resume=True)
    again = fg.train(problem, **keywords, max_iter=9, checkpoint=resume)
    np.testing.assert_array_equal(again.theta, whole.theta)
    assert again.evidence == whole.evidence
    assert again.history[-1].assemblies == whole.history[-1].assemblies == 10
    kept = fg.EvidenceEstimate(**json.loads(json.dumps(whole.evidence.to_dict())))
    assert kept == whole.evidence
    assert "in 2 outputs" in str(kept)


def test_known_noise_of_each_output():
    """The textbook covariances: without a prior, and with one."""
    problem, design, _, deviations = linear_instance(3)
    outputs, betas = problem.n_outputs, deviations**-2.0
    theta = np.linalg.lstsq(design, problem.targets, rcond=None)[0].T.ravel()
    rows = np.random.default_rng(0).standard_normal((5, design.shape[1]))
    rows[:, -1] = 1.0
    for alpha in (None, 0.7):
        posterior = fg.laplace(problem, theta, alpha=alpha, beta=betas)
        _, std = posterior.predict(rows[:, :-1])
        for o in range(outputs):
            H = betas[o] * design.T @ design + (alpha or 0.0) * np.eye(design.shape[1])
            variance = np.einsum("ij,jk,ik->i", rows, np.linalg.inv(H), rows) + 1.0 / betas[o]
            np.testing.assert_allclose(std[:, o] ** 2, variance, rtol=1e-8)
    one = fg.laplace(problem, theta, beta=4.0).predict(rows[:, :-1])[1]
    same = fg.laplace(problem, theta, beta=[4.0] * outputs).predict(rows[:, :-1])[1]
    np.testing.assert_array_equal(one, same)
    # Without a known one: the classical estimate of each regression.
    residual = problem.targets - design @ theta.reshape(outputs, -1).T
    free = design.shape[0] - design.shape[1]
    found = fg.laplace(problem, theta).evidence
    np.testing.assert_allclose(found.betas, free / np.sum(residual**2, axis=0), rtol=1e-8)
    for wrong in ([1.0] * (outputs + 1), [-1.0] * outputs, [0.0] * outputs):
        with pytest.raises(ValueError, match="beta"):
            fg.laplace(problem, theta, beta=wrong)


def test_one_output_has_one_level():
    result = fg.train(sine_problem(), seed=0, regularize=fg.Evidence(), max_iter=5)
    assert result.evidence.betas is None


def test_mixture_and_model_file(tmp_path):
    problem, X, Y = shared()
    runs = fg.train_restarts(problem, 2, regularize=fg.Evidence(), max_iter=40)
    mixture = fg.PosteriorMixture.of_runs(problem, runs)
    _, std = mixture.predict(X)
    assert (std[:, 0] > 5 * std[:, 1]).all()
    posterior = mixture.members[0]
    fg.Model.of(problem.network, posterior.theta, posterior=posterior).save(tmp_path / "m.npz")
    again = fg.Model.load(tmp_path / "m.npz").posterior
    assert again.evidence == posterior.evidence
    np.testing.assert_allclose(again.predict(X)[1], posterior.predict(X)[1], rtol=1e-8)
    np.testing.assert_allclose(
        again.log_likelihoods(X, Y), posterior.log_likelihoods(X, Y), rtol=1e-8
    )


def table(T=240):
    """Return inputs and two targets in units that differ by 1e5, with deviations of each."""
    rng = np.random.default_rng(2)
    X = rng.uniform(-1, 1, (2 * T, 2))
    Y = np.stack([np.sin(2 * X[:, 0]), 1e5 * np.tanh(2 * X[:, 1])], axis=1)
    Y += [0.3, 1e3] * rng.standard_normal(Y.shape)
    return X[:T], Y[:T], X[T:], Y[T:]


def test_fit_and_estimator():
    X, Y, new, there = table()
    pytest.importorskip("sklearn", reason="extra 'sklearn'")
    columns = {"a": X[:, 0], "b": X[:, 1], "near": Y[:, 0], "far": Y[:, 1]}
    target = ["near", "far"]
    model, _ = fg.fit(columns, 6, target=target, posterior=True, seed=0, max_iter=60)
    estimator = fg.GGNRegressor(6, regularization="bayesian", random_state=0, max_iter=60)
    estimator.fit(X, Y)
    for mean, std in (model.predict(new, std=True), estimator.predict(new, return_std=True)):
        inside = np.mean(np.abs(there - mean) < 1.96 * std, axis=0)
        assert (inside > 0.9).all()
        assert (inside < 0.995).all()
        np.testing.assert_allclose(std.mean(axis=0), [0.3, 1e3], rtol=0.25)
