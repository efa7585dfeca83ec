"""Training with regularize=Evidence(): against linear regression, and by its own conditions."""

import warnings

import numpy as np
import pytest
from bayesian_cases import fixed_point, linear_problem, regression, sine_problem
from dense_system import Prepared

import fastggn as fg
from fastggn.solvers.choice import get_solver
from fastggn.training.regularisation.evidence import likelihood_of

TOLERANCES = {"stop": fg.Stop(gradient=1e-13, step=0.0), "max_iter": 500}


@pytest.mark.parametrize("solver", ["cholesky", "qr"])
def test_linear_regression(solver):
    """One output; `test_noise_levels` has several."""
    problem, design = linear_problem()
    result = fg.train(
        problem,
        seed=0,
        method=fg.LevenbergMarquardt(solver=solver),
        regularize=fg.Evidence(),
        **TOLERANCES,
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
    """Through the dual matrix; most directions are too short for the samples to see."""
    problem, design = linear_problem(T=24, n=30, scales=np.arange(1.0, 31.0) ** -2.0)
    with pytest.warns(fg.ScalingWarning, match="column 0 of X"):
        result = fg.train(problem, seed=0, regularize=fg.Evidence(), **TOLERANCES)
    assert result.solver == "dual"
    alpha, beta, gamma = fixed_point(design, problem.targets)
    found = result.evidence
    assert 0.0 < gamma < 24.0
    assert found.alpha == pytest.approx(alpha, rel=1e-8)
    assert found.beta == pytest.approx(beta, rel=1e-8)
    assert found.effective_parameters == pytest.approx(gamma, rel=1e-8)
    _, _, log_evidence = regression(design, problem.targets, alpha, beta)
    assert found.log_evidence == pytest.approx(log_evidence, rel=1e-8)


def test_without_noise_the_fit_is_exact():
    """The evidence of interpolation grows without bound in beta; nothing overflows."""
    problem, _ = linear_problem(T=12, n=30)
    result = fg.train(problem, seed=0, regularize=fg.Evidence(tolerance=0.0), max_iter=200)
    assert result.converged
    assert result.evidence.effective_parameters == pytest.approx(12.0)
    assert np.isfinite(result.evidence.log_evidence)
    assert result.loss < 1e-13


@pytest.mark.parametrize("size", [0.0, 1.0])
def test_targets_without_a_signal(size):
    rng = np.random.default_rng(1)
    X, Y = rng.standard_normal((200, 3)), size * rng.standard_normal((200, 1))
    problem = fg.Problem(fg.MLP((3, 5, 1)), X, Y)
    result = fg.train(problem, seed=0, regularize=fg.Evidence(), max_iter=500)
    assert result.converged, result.message
    if size == 0.0:  # an exact fit: the noise is nil, and the parameters are free
        assert result.loss < 1e-12
    else:
        assert result.evidence.effective_parameters < 1.0
    assert np.abs(problem.outputs(result.theta)).max() < 0.2


def test_agrees_with_scikit_learn():
    linear_model = pytest.importorskip("sklearn.linear_model", reason="extra 'sklearn'")
    rng = np.random.default_rng(3)
    X = rng.standard_normal((50, 5))
    y = X @ rng.standard_normal(5) + 0.4 * rng.standard_normal(50)
    net = fg.MLP((5, 1), bias="none")
    result = fg.train(fg.Problem(net, X, y), seed=0, regularize=fg.Evidence(), **TOLERANCES)
    # With priors of no weight its updates are MacKay's.
    peer = linear_model.BayesianRidge(
        alpha_1=0, alpha_2=0, lambda_1=0, lambda_2=0, fit_intercept=False, tol=1e-14, max_iter=10000
    ).fit(X, y)
    found = result.evidence
    assert found.beta == pytest.approx(peer.alpha_, rel=1e-8)
    assert found.alpha == pytest.approx(peer.lambda_, rel=1e-8)
    np.testing.assert_allclose(result.theta, peer.coef_, rtol=1e-8)
    posterior = fg.laplace(fg.Problem(net, X, y), result.theta, result.evidence)
    mean, std = posterior.predict(X)
    peer_mean, peer_std = peer.predict(X, return_std=True)
    np.testing.assert_allclose(mean[:, 0], peer_mean, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(std[:, 0], peer_std, rtol=1e-8)


def test_sample_weights_are_relative_precisions():
    rng = np.random.default_rng(5)
    weights = rng.uniform(0.2, 3.0, 40)
    problem, design = linear_problem(sample_weight=weights)
    result = fg.train(problem, seed=0, regularize=fg.Evidence(), **TOLERANCES)
    found, relative = result.evidence, weights / weights.mean()
    mean, _, log_evidence = regression(design, problem.targets, found.alpha, found.beta, relative)
    np.testing.assert_allclose(result.theta, mean, rtol=1e-8)
    assert found.log_evidence == pytest.approx(log_evidence, rel=1e-9)
    # One of weight zero is as good as absent.
    weights[7] = 0.0
    kept = np.arange(40) != 7
    X = design[:, :4]
    with_zero = fg.Problem(problem.network, X, problem.targets, sample_weight=weights)
    without = fg.Problem(
        problem.network, X[kept], problem.targets[kept], sample_weight=weights[kept]
    )
    a, b = (
        fg.train(p, seed=0, regularize=fg.Evidence(), **TOLERANCES) for p in (with_zero, without)
    )
    np.testing.assert_allclose(a.theta, b.theta, rtol=1e-8)
    assert a.evidence.log_evidence == pytest.approx(b.evidence.log_evidence, rel=1e-9)
    assert a.evidence.n_observations == b.evidence.n_observations == 39


def test_the_scale_of_the_loss_changes_nothing():
    plain, _ = linear_problem()
    scaled, _ = linear_problem(loss=fg.losses.Squared(scale=0.1))
    a, b = (fg.train(p, seed=0, regularize=fg.Evidence(), **TOLERANCES) for p in (plain, scaled))
    np.testing.assert_allclose(a.theta, b.theta, rtol=1e-8)
    assert a.evidence.beta == pytest.approx(b.evidence.beta, rel=1e-8)
    assert a.evidence.log_evidence == pytest.approx(b.evidence.log_evidence, rel=1e-9)


def log_evidence(problem, theta, alpha, beta):
    """Return the log evidence at fixed theta by dense algebra."""
    likelihood = likelihood_of(problem)
    G = problem.ggn(theta)
    H = beta * likelihood.unit * G + alpha * np.eye(len(theta))
    value = -beta * likelihood.unit * problem.loss(theta) - 0.5 * alpha * theta @ theta
    value += 0.5 * (len(theta) * np.log(alpha) - np.linalg.slogdet(H)[1])
    if likelihood.gaussian:
        value += 0.5 * likelihood.n_observations * np.log(beta / (2 * np.pi))
    return value


CLASSES = np.random.default_rng(8).integers(0, 3, 60)
PROBLEMS = {
    "squared": lambda: sine_problem(),
    "logistic": lambda: fg.Problem(
        fg.MLP((2, 4, 1)), fg.data.four_regions(60, seed=1)[0], CLASSES > 1, loss="logistic"
    ),
    "softmax": lambda: fg.Problem(
        fg.MLP((2, 4, 3)),
        fg.data.four_regions(60, seed=1)[0],
        CLASSES,
        loss="softmax_cross_entropy",
    ),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_end_is_stationary_for_the_evidence(name):
    """Finite differences of the log evidence in log alpha and log beta, curvature held."""
    problem = PROBLEMS[name]()
    result = fg.train(
        problem,
        seed=0,
        regularize=fg.Evidence(tolerance=0.0),
        max_iter=3000,
        stop=fg.Stop(gradient=1e-10, step=0.0),
    )
    # Noise as classes: all weights tend to 0, and slopes with their terms, until the loss rests.
    assert result.status == ("converged_loss" if name == "softmax" else "converged_gradient")
    found, theta = result.evidence, result.theta
    value = log_evidence(problem, theta, found.alpha, found.beta)
    assert found.log_evidence == pytest.approx(value, rel=1e-9)
    h = 1e-4
    for a, b in ((h, 0.0), (0.0, h)):
        if b and name != "squared":
            assert found.beta == 1.0
            continue
        up, down = (
            log_evidence(problem, theta, found.alpha * np.exp(s * a), found.beta * np.exp(s * b))
            for s in (1.0, -1.0)
        )
        assert abs(up - down) / (2 * h) < 2e-5 * max(1.0, abs(value))
        assert up + down - 2 * value < 0.0  # a maximum


@pytest.mark.parametrize("T", [60, 8])
@pytest.mark.parametrize("l2", [1e-1, 1e-4, 1e-7])
def test_sums_from_each_factor_are_those_of_the_eigenvalues(T, l2):
    problem = sine_problem(T=T, l2=l2)
    point = problem.at(problem.network.init(seed=2))
    values = np.linalg.eigvalsh(point.gram())
    expected = np.sum(values / (values + l2)), np.sum(np.log(values + l2))
    for name in ("cholesky", "qr", *(["dual"] if T < problem.n_params else [])):
        state = Prepared(get_solver(name), point)
        before = state.solve(0.01).step
        sums = state.sums()
        np.testing.assert_allclose((sums.effective, sums.log_determinant), expected, rtol=1e-8)
        # The array that the sums overwrote is made again.
        np.testing.assert_array_equal(state.solve(0.01).step, before)
        assert state.sums() == sums


@pytest.mark.parametrize(("T", "names"), [(300, ["cholesky", "qr"]), (70, ["dual", "qr"])])
@pytest.mark.parametrize("l2", [1.0, 1e-2, 1e-4])
def test_effective_parameters_and_their_fall(T, names, l2):
    """More rows than a block of the sum; the fall with l2 is estimated where there is a factor."""
    problem = sine_problem(T=T, hidden=30, l2=l2)
    point = problem.at(problem.network.init(seed=2))
    values = np.linalg.eigvalsh(point.gram())[::-1][:T]
    shares = values / (values + l2)
    for name in names:
        sums = Prepared(get_solver(name), point).sums()
        assert sums.effective == pytest.approx(shares.sum(), rel=1e-10)
        ratio = sums.sensitivity / (shares @ (1.0 - shares))
        if name == "qr":
            assert ratio == pytest.approx(1.0, rel=1e-8)
        else:  # of one direction eight vectors have a deviation of a half
            assert 0.5 < ratio < 2.0, name


def test_a_factor_that_cannot_count_says_so():
    problem = sine_problem(T=60, l2=1e-16)
    point = problem.at(problem.network.init(seed=2))
    assert Prepared(get_solver("cholesky"), point).sums() is None
    assert Prepared(get_solver("qr"), point).sums() is not None


def test_effective_parameters_fall_with_fewer_samples():
    found = []
    for T in (200, 50, 15):
        problem = sine_problem(T=T, hidden=8)
        evidence = fg.train(problem, seed=0, regularize=fg.Evidence(), max_iter=300).evidence
        assert 0.0 < evidence.effective_parameters < problem.n_params
        found.append(evidence.effective_parameters)
    assert found[0] > found[1] > found[2]


def test_one_assembly_an_iteration():
    result = fg.train(
        sine_problem(),
        seed=0,
        method=fg.LevenbergMarquardt(solver="cholesky"),
        regularize=fg.Evidence(),
        max_iter=20,
    )
    assert result.history[-1].assemblies == result.n_iter + 1


@pytest.mark.parametrize("T", [80, 300])
def test_seldom_updates_resume_to_the_bit(T, tmp_path):
    """With many parameters gamma is counted in every sixth or third iteration only."""
    problem = sine_problem(T=T, hidden=30)
    keywords = {"seed": 0, "regularize": fg.Evidence()}
    whole = fg.train(problem, **keywords, max_iter=11)
    gammas = {record.effective_parameters for record in whole.history}
    assert len(gammas) == (4 if T == 300 else 2)
    assert len({record.alpha for record in whole.history}) == 11
    assert whole.history[-1].assemblies == 11  # one for each step: the last one has no count
    for stop in (2, 5, 8):
        path = tmp_path / str(stop)
        fg.train(problem, **keywords, max_iter=stop, checkpoint=path)
        result = fg.train(
            problem, **keywords, max_iter=11, checkpoint=fg.Checkpoint(path, resume=True)
        )
        np.testing.assert_array_equal(result.theta, whole.theta)
        assert result.evidence == whole.evidence
        assert result.history[-1].assemblies == whole.history[-1].assemblies


def test_the_run_stops_when_the_evidence_has_settled():
    problem = sine_problem(hidden=8)
    whole = fg.train(problem, seed=0, regularize=fg.Evidence(tolerance=0.0), max_iter=400)
    found = fg.train(problem, seed=0, regularize=fg.Evidence(tolerance=0.3), max_iter=400)
    assert (found.status, found.converged) == ("converged_loss", True)
    assert "log evidence changed by less than 0.3 in 20 iterations" in found.message
    assert found.n_iter < whole.n_iter
    assert found.evidence.log_evidence == pytest.approx(whole.evidence.log_evidence, abs=0.6)
    n = found.n_iter  # up to its end it is the same run
    assert [r.loss for r in found.history] == [r.loss for r in whole.history[:n]]
    with pytest.raises(ValueError, match="tolerance"):
        fg.Evidence(tolerance=-1.0)


def test_resumed_from_before_the_first_iteration(tmp_path, monkeypatch):
    problem = sine_problem()
    keywords = {"seed": 0, "regularize": fg.Evidence(), "max_iter": 6}
    whole = fg.train(problem, **keywords)
    real, calls = fg.Problem.at, [0]

    def at(self, theta):
        calls[0] += 1
        if calls[0] == 2:
            raise KeyboardInterrupt
        return real(self, theta)

    monkeypatch.setattr(fg.Problem, "at", at)
    keywords["checkpoint"] = fg.Checkpoint(tmp_path / "run", resume=True)
    first = fg.train(problem, **keywords)
    assert (first.status, first.n_iter) == ("interrupted", 0)
    result = fg.train(problem, **keywords)
    np.testing.assert_array_equal(result.theta, whole.theta)
    assert result.history[-1].assemblies == whole.history[-1].assemblies
    assert result.evidence == whole.evidence


def test_history_and_result():
    problem = sine_problem()
    result = fg.train(problem, seed=0, regularize=fg.Evidence(), max_iter=10)
    for record in result.history:
        assert record.alpha > 0.0
        assert record.beta > 0.0
        assert 0.0 < record.effective_parameters < problem.n_params
    last, found = result.history[-1], result.evidence
    assert (last.alpha, last.beta) == (found.alpha, found.beta)
    regularised = problem.with_l2(found.l2)
    assert result.loss == pytest.approx(regularised.loss(result.theta), rel=1e-12)
    np.testing.assert_allclose(
        np.linalg.norm(regularised.gradient(result.theta)), result.gradient_norm, rtol=1e-6
    )
    assert problem.l2 == 0.0
    assert "effective parameters" in str(found)
    assert set(found.to_dict()) >= {"alpha", "beta", "effective_parameters", "log_evidence"}
    plain = fg.train(problem, seed=0, max_iter=3)
    assert plain.evidence is None
    assert plain.history[0].alpha is None
    assert fg.train(problem, seed=0, regularize=fg.Evidence(), max_iter=0).evidence is None


def test_restarts_are_compared_by_their_evidence(tmp_path):
    problem = sine_problem()
    keywords = {"regularize": fg.Evidence(), "max_iter": 100}
    found = fg.train_restarts(problem, 4, **keywords, checkpoint=tmp_path / "runs")
    evidences = [result.evidence.log_evidence for result in found.results.values()]
    assert found.best.evidence.log_evidence == max(evidences)
    again = fg.train_restarts(
        problem, 5, checkpoint=fg.Checkpoint(tmp_path / "runs", resume=True), **keywords
    )
    assert again.results[2].evidence == found.results[2].evidence


def test_with_validation_samples():
    problem = sine_problem(T=80)
    other = sine_problem(T=40, seed=1)
    held = other.read_samples(0, 40)[0], other.targets
    result = fg.train(
        problem,
        seed=0,
        regularize=fg.Evidence(),
        held_out=fg.HeldOut(*held, patience=5),
        max_iter=200,
    )
    np.testing.assert_array_equal(result.theta, result.best_theta)
    assert result.evidence.l2 == pytest.approx(
        result.evidence.alpha / (80 * result.evidence.beta), rel=1e-12
    )


def test_less_overfitting_than_without():
    problem = sine_problem(T=25, hidden=12, noise=0.2)
    X = np.linspace(-2, 2, 200)[:, None]
    errors = {}
    for how in (None, fg.Evidence()):
        result = fg.train(problem, seed=0, regularize=how, max_iter=300)
        prediction = problem.network.predict(result.theta, X)
        errors[how] = np.sqrt(np.mean((prediction - np.sin(2 * X)) ** 2))
    assert errors[fg.Evidence()] < 0.5 * errors[None]


def test_in_chunks_and_from_files(tmp_path):
    problem = sine_problem(T=120)
    np.save(tmp_path / "X.npy", problem.read_samples(0, 120)[0])
    np.save(tmp_path / "Y.npy", problem.targets)
    files = [np.load(tmp_path / name, mmap_mode="r") for name in ("X.npy", "Y.npy")]
    streamed = fg.Problem(problem.network, *files, _chunk=32)
    a, b = (fg.train(p, seed=0, regularize=fg.Evidence(), max_iter=30) for p in (problem, streamed))
    np.testing.assert_allclose(a.theta, b.theta, rtol=1e-6)
    assert a.evidence.log_evidence == pytest.approx(b.evidence.log_evidence, rel=1e-8)


REFUSED = {
    "method": ({"method": "newton"}, "method 'lm', not 'newton'"),
    "solver": ({"method": fg.LevenbergMarquardt(solver="lsqr")}, "solver 'lsqr'"),
    "mixed": ({"method": fg.LevenbergMarquardt(solver="cholesky", precision="mixed")}, "precision"),
    "batches": ({"method": fg.LevenbergMarquardt(batch_size=10)}, "batch_size"),
    "saddles": ({"leave_saddles": "noise"}, "leave_saddles"),
}


@pytest.mark.parametrize(("options", "message"), REFUSED.values(), ids=REFUSED)
def test_refusals(options, message):
    with pytest.raises(ValueError, match=message):
        fg.train(sine_problem(), **{**options, "regularize": fg.Evidence()})


def test_no_matrix_fits(monkeypatch):
    monkeypatch.setattr("fastggn.solvers.choice.available_memory", lambda: 100)
    monkeypatch.setattr("fastggn.solvers.choice.UNASKED", 0)
    with pytest.raises(ValueError, match="no matrix fits here .lsqr: "):
        fg.train(sine_problem(), regularize=fg.Evidence())


def test_refused_problems():
    with pytest.raises(ValueError, match="make it with l2=0"):
        fg.train(sine_problem(l2=0.1), regularize=fg.Evidence())
    with pytest.raises(ValueError, match="'huber' has no likelihood"):
        fg.train(sine_problem(loss="huber"), regularize=fg.Evidence())


def test_with_l2():
    problem = sine_problem()
    other = problem.with_l2(0.5)
    theta = problem.network.init(seed=0)
    assert problem.l2 == 0.0
    assert other.loss(theta) == pytest.approx(problem.loss(theta) + 0.25 * theta @ theta)
    np.testing.assert_allclose(other.gradient(theta), problem.gradient(theta) + 0.5 * theta)
    with pytest.raises(ValueError, match="l2"):
        problem.with_l2(-1.0)


def test_quiet():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fg.train(sine_problem(), seed=0, regularize=fg.Evidence(), max_iter=50)
