"""Ranks, critical points and posteriors of equations, against dense and textbook oracles."""

import numpy as np
import pytest
from residual_cases import Case, decay, fitted_twins

import fastggn as fg
from fastggn.analysis.slices import loss_along, loss_plane

SEEDS = range(4)


def close(got, want, tol=1e-10):
    np.testing.assert_allclose(got, want, rtol=0, atol=tol * max(1.0, np.abs(want).max()))


@pytest.mark.parametrize("scale", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_twin(seed, scale):
    """Residuals, J and gradient of the cases are those of the textbook."""
    case = Case(seed, scale=scale)
    r, J, _ = case.residuals(case.theta)
    close(np.concatenate([part.ravel() for part in case.problem.residuals(case.theta)]), r)
    close(case.problem.jacobian(case.theta).to_dense(), J)
    close(case.problem.gradient(case.theta), case.gradient(case.theta))


# --- ranks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_ranks(seed):
    """Singular values and the ranks of all parts from the dense Jacobian."""
    case = Case(seed, T=(3, 4) if seed % 2 else (9, 14))
    problem, theta = case.problem, case.theta
    _, J, shares = case.residuals(theta)
    report = fg.rank_analysis(problem, theta)
    values = np.linalg.svd(J, compute_uv=False)
    close(report.singular_values, values)
    rank = np.linalg.matrix_rank(J)
    assert report.rank == rank == problem.jacobian(theta).rank()
    assert report.largest_rank == min(J.shape)
    first = 2 * len(case.X[0])
    for part, rows in zip(report.terms, (J[:first], J[first:]), strict=True):
        assert part.block.rank == np.linalg.matrix_rank(rows)
    for part, columns in zip(report.layers, (J[:, :9], J[:, 9:13]), strict=True):
        assert part.block.rank == np.linalg.matrix_rank(columns)
    assert report.coefficients == rank - np.linalg.matrix_rank(J[:, :13])
    r = case.residuals(theta)[0]
    eps = problem.n_samples * shares * r
    assert report.error_norm == pytest.approx(np.linalg.norm(eps), rel=1e-12)
    off = eps - J @ np.linalg.lstsq(J, eps, rcond=None)[0]
    assert report.unseen_error == pytest.approx(np.linalg.norm(off) / np.linalg.norm(eps), abs=1e-9)
    assert report.loss == pytest.approx(problem.loss(theta), rel=1e-14)
    assert "left out" in str(report) and report.to_dict()["rank"] == rank
    assert report.plot().axes


def test_ranks_of_values_are_those_of_a_problem():
    plain, twin, theta = fitted_twins()
    one, other = fg.rank_analysis(plain, theta), fg.rank_analysis(twin, theta)
    close(other.singular_values, one.singular_values)
    assert (one.rank, one.tolerance) == (other.rank, pytest.approx(other.tolerance, rel=100.0))
    assert one.error_norm == pytest.approx(other.error_norm, rel=1e-12)
    assert one.unseen_error == pytest.approx(other.unseen_error, rel=1e-9)


def test_coefficients_of_a_product_are_one():
    """The residuals determine a b, not a and b; and nothing that the network can take over."""
    x = np.linspace(-1.0, 1.0, 40)[:, None]
    terms = [
        fg.Term(x, lambda x, u, k: u.d(0) + k["a"] * k["b"] * u.value),
        fg.Term(x, targets=np.exp(-x[:, 0])),
    ]
    pair = {"a": 2.0, "b": 0.5}
    problem = fg.ResidualProblem(fg.MLP((1, 4, 1)), terms, coefficients=pair)
    assert fg.rank_analysis(problem, problem.init(0)).coefficients == 1
    free = [fg.Term(x[:3], lambda x, u, k: u.value - k["c"])]
    problem = fg.ResidualProblem(fg.MLP((1, 4, 1)), free, coefficients={"c": 1.0})
    assert fg.rank_analysis(problem, problem.init(0)).coefficients == 0


@pytest.mark.filterwarnings("ignore::fastggn.SingularSystemWarning")  # at the exact fit
def test_the_certificate_of_full_row_rank():
    """Few equations that a network meets: eps = 0; with points of weight 0 left aside."""
    x = np.linspace(-1.0, 1.0, 5)[:, None]
    weights = np.array([1.0, 1.0, 0.0, 1.0, 1.0])
    terms = [
        fg.Term(x, lambda x, u: u.d(0) + u.value, sample_weight=weights),
        fg.Term([[0.0]], targets=[1.0]),
    ]
    problem = fg.ResidualProblem(fg.MLP((1, 8, 1)), terms)
    theta = fg.train(problem, seed=0, max_iter=200, stop=fg.Stop(gradient=0.0, step=0.0)).theta
    report = fg.rank_analysis(problem, theta)
    c = report.certificate
    assert c.holds and c.full_column_rank and report.jacobian.shape[0] == 6
    used = np.concatenate([r[w > 0] for r, w in zip(
        problem.residuals(theta), (weights, np.ones(1)), strict=True)])  # fmt: skip
    assert np.abs(used).max() <= max(c.error_bound, 1e-12)
    assert not fg.rank_analysis(problem, problem.init(0)).certificate.holds


# --- critical points ------------------------------------------------------------------------------


def surface(problem):
    from fastggn.analysis.critical.residual_surface import surface_of

    return surface_of(problem)


@pytest.mark.parametrize("scale", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_rounding_of_the_gradient(seed, scale):
    """The estimate holds against extended precision, also where weights are large."""
    case = Case(seed, scale=scale)
    for factor in (1.0, 6.0):
        theta = factor * case.theta
        _, errors = surface(case.problem).gradient_errors(theta)
        exact = case.gradient(theta.astype(np.longdouble))
        off = np.abs(np.asarray(case.problem.gradient(theta) - exact, dtype=float))
        assert (off <= errors).all()
        assert (errors <= 1e-9 * np.abs(case.problem.gradient(theta)).max()).all()


def slope_problem(**options):
    """u' = cos(x) + 1: at theta = 0 a strict saddle."""
    x = np.linspace(-1.0, 1.0, 20)[:, None]
    term = fg.Term(x, lambda x, u: u.d(0) - np.cos(x[:, 0]) - 1.0)
    return fg.ResidualProblem(fg.MLP((1, 2, 1)), [term], **options)


def test_a_strict_saddle():
    problem = slope_problem()
    theta = np.zeros(problem.n_params)
    report = fg.critical_point(problem, theta)
    values = np.linalg.eigvalsh(problem.hessian(theta))
    assert report.label == "strict_saddle"
    assert report.lowest_eigenvalue == pytest.approx(values[0], rel=1e-9)
    assert problem.loss(report.descent_point) < problem.loss(theta)


@pytest.mark.parametrize("method", ["dense", "lanczos"])
@pytest.mark.parametrize("scale", [False, True])
def test_a_minimum(scale, method):
    """With l2 the Hessian at the end of a run is positive definite, and the label says it.

    With scaled inputs the run settles after some 570 iterations.
    """
    problem = decay(l2=0.01, scale=scale)
    theta = fg.train(problem, seed=0, max_iter=600).theta
    report = fg.critical_point(problem, theta, method=method)
    values = np.linalg.eigvalsh(problem.hessian(theta))
    assert values[0] > 1e-4 and report.label == "local_minimum", (report, values)
    assert "global or not is undecided" in report.reason
    assert report.lowest_eigenvalue == pytest.approx(values[0], rel=1e-4)


@pytest.mark.filterwarnings("ignore::fastggn.SingularSystemWarning")  # at a damping of 1e-14
def test_a_bound_that_a_coefficient_runs_to():
    """Its parameter grows without end, as critical_point says."""
    case = Case(1, l2=0.05)
    theta = fg.train(case.problem, seed=0, max_iter=300).theta
    assert case.problem.coefficients(theta)["b"] < 0.1 + 1e-3
    label = fg.critical_point(case.problem, theta).label
    assert label in ("diverging", "not_critical")


def test_not_critical():
    case = Case(0)
    assert fg.critical_point(case.problem, case.theta).label == "not_critical"


def exact_solution(coefficient=False, l2=0.0):
    """u' = 1 - u^2 is solved by tanh, a network of one unit."""
    x = np.linspace(-1.0, 1.0, 30)[:, None]

    def riccati(x, u, k):
        return u.d(0) - (k["k"] if coefficient else 1.0) * (1.0 - u.value**2)

    term = fg.Term(x, riccati if coefficient else lambda x, u: riccati(x, u, None))
    at_0 = fg.Term([[0.0]], targets=[0.0])
    k = {"k": 1.0} if coefficient else None
    return fg.ResidualProblem(fg.MLP((1, 1, 1)), [term, at_0], coefficients=k, l2=l2)


@pytest.mark.parametrize("coefficient", [False, True])
def test_an_exact_fit(coefficient):
    problem = exact_solution(coefficient)
    theta = np.array([1.0, 0.0, 1.0, 0.0] + [1.0] * coefficient)
    report = fg.critical_point(problem, theta)
    assert report.label == "global_minimum" and "every residual is 0" in report.reason
    near = fg.critical_point(problem, theta + 1e-3, polish=True)
    assert near.label in ("global_minimum", "local_minimum", "degenerate")


def test_polish():
    problem = decay(l2=0.01)
    theta = fg.train(problem, seed=1, max_iter=300).theta
    found = fg.analysis.polish(problem, theta + 1e-4)
    assert found.status in ("converged", "stalled") and found.gradient_norm < 1e-11


@pytest.mark.filterwarnings("ignore::fastggn.SingularSystemWarning")  # at the exact fit
def test_labels_of_values_are_those_of_a_problem():
    plain, twin, theta = fitted_twins(T=12)
    theta = fg.train(plain, theta, max_iter=500).theta
    points = (theta, np.zeros(theta.size), theta + 0.1)
    for point in points:
        one, other = fg.critical_point(plain, point), fg.critical_point(twin, point)
        assert other.loss == pytest.approx(one.loss, rel=1e-12)
        assert other.inertia == one.inertia
        same = one.label == other.label
        assert same or (one.label, other.label) == ("global_minimum", "degenerate"), (one, other)


def test_huber():
    """A residual at the bend of its loss is undecided; off it the Hessian of the piece counts."""
    problem = decay(l2=0.01, loss=fg.losses.Huber(0.02))
    theta = fg.train(problem, seed=0, max_iter=500).theta
    r = np.abs(problem.residuals(theta)[1])
    assert (r > 0.02).any() and (r < 0.02).any()
    assert fg.critical_point(problem, theta).label == "local_minimum"
    x = np.zeros((1, 1))
    term = fg.Term(x, lambda x, u: u.value - 1.0, loss=fg.losses.Huber(1.0))
    problem = fg.ResidualProblem(fg.MLP((1, 1)), [term])
    report = fg.critical_point(problem, np.zeros(2))
    assert report.label == "degenerate" and "at the bend of its Huber loss" in report.reason


def test_functions_without_a_hessian_are_refused():
    x = np.linspace(0.0, 1.0, 20)[:, None]
    term = fg.Term(
        x,
        lambda t, u: u.d(0) + np.abs(u.value) * u.value,
        jacobian=lambda t, u: {(0,): 1.0, (): 2 * np.abs(u.value)},
    )
    problem = fg.ResidualProblem(fg.MLP((1, 3, 1)), [term])
    with pytest.raises(TypeError, match=r"terms\[0\] has no exact Hessian: .* np.abs"):
        fg.critical_point(problem, problem.init(0))


def test_analytic_residuals_are_known():
    """Roots of channels are not analytic at 0, whole powers are."""
    x = np.linspace(0.1, 1.0, 9)[:, None]
    found = []
    for residual in (
        lambda x, u: u.value**2 + np.exp(u.value) * np.sqrt(x[:, 0]),
        lambda x, u: np.power(u.value, 3) / (2.0 + u.value),
        lambda x, u: np.sqrt(u.value**2),
        lambda x, u: (u.value**2) ** 0.5,
        lambda x, u: np.hypot(u.value, x[:, 0]),
    ):
        term = fg.Term(x, residual)
        found.append(fg.ResidualProblem(fg.MLP((1, 2, 1)), [term]).terms[0].by_rules)
    assert found == [True, True, False, False, False]


def test_slices():
    """Lines and planes of the loss, the coefficient in proportion to itself."""
    problem = decay()
    theta = fg.train(problem, seed=0, max_iter=20).theta
    line = loss_along(problem, theta, points=5)
    plane = loss_plane(problem, theta, points=3)
    for found in (line.losses[2], plane.losses[1, 1]):
        assert found == pytest.approx(problem.loss(theta), rel=1e-12)


@pytest.mark.parametrize("analysis", ["null_space", "largest_eigenvalues", "spectral_density"])
def test_other_analyses(analysis):
    """What asks for products and rows alone."""
    problem = decay(l2=0.01)
    theta = problem.init(0)
    found = getattr(fg.analysis, analysis)(problem, theta)
    if analysis == "null_space":
        rank = problem.jacobian(theta).rank()
        assert found.dimension == problem.n_params - rank
    if analysis == "largest_eigenvalues":
        top = np.linalg.eigvalsh(problem.hessian(theta))[-1]
        assert np.max(found[0]) == pytest.approx(top, rel=1e-6)


# --- posteriors -----------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [False, True])
@pytest.mark.parametrize("seed", SEEDS)
def test_posterior(seed, scale):
    """Covariances and evidence from the dense inverse, the prior of the coefficients flat."""
    case = Case(seed, scale=scale)
    problem, theta = case.problem, case.theta
    alpha, beta, n = 0.7, 3.0, problem.network.n_params
    posterior = fg.laplace(problem, theta, alpha=alpha, beta=beta)
    prior = np.concatenate([np.full(n, alpha), np.zeros(2)])
    H = beta * case.curvature(theta) + np.diag(prior)
    covariance = np.linalg.inv(H)
    X = np.random.default_rng(seed).normal(size=(6, 2))
    u, du = case.channels(theta, X)
    mean, std = posterior.predict(X)
    close(mean[:, 0], u[:, 0])
    rows = np.hstack([du[:, 0], np.zeros((6, 2))])
    close(std[:, 0], np.sqrt(np.einsum("ti,ij,tj->t", rows, covariance, rows)), 1e-8)
    slope = 1.0 / (1.0 + np.exp(-theta[-1]))
    (a, da), (b, db) = posterior.coefficients().values()
    assert (a, b) == tuple(problem.coefficients(theta).values())
    wanted = np.sqrt(np.diag(covariance)[n:]) * [1.0, slope]
    np.testing.assert_allclose([da, db], wanted, rtol=1e-6)
    gamma = problem.n_params - np.diag(covariance) @ prior
    assert posterior.evidence.effective_parameters == pytest.approx(gamma, rel=1e-8)
    r, _, shares = case.residuals(theta)
    value = -0.5 * beta * shares @ r**2 - 0.5 * alpha * theta[:n] @ theta[:n]
    value += 0.5 * np.sum(np.log(beta * shares / (2 * np.pi)))
    value += 0.5 * n * np.log(alpha) + np.log(2 * np.pi) - 0.5 * np.linalg.slogdet(H)[1]
    assert posterior.evidence.log_evidence == pytest.approx(value, rel=1e-8)
    with pytest.raises(ValueError, match="noise is that of targets"):
        posterior.predict(X, noise=True)


def test_posterior_of_values_is_that_of_a_problem():
    """One term of values: the same evidence, and beta counts for the mean in place of the sum."""
    plain, twin, theta = fitted_twins()
    X = np.linspace(-1.0, 1.0, 7)[:, None]
    choice = {"regularize": fg.Evidence(tolerance=0.0), "max_iter": 100}
    one, other = (fg.train(p, theta, **choice) for p in (plain, twin))
    close(other.theta, one.theta, 1e-6)
    a, b = one.evidence, other.evidence
    assert b.alpha == pytest.approx(a.alpha, rel=1e-6)
    assert b.beta == pytest.approx(30 * a.beta, rel=1e-6)
    assert b.effective_parameters == pytest.approx(a.effective_parameters, rel=1e-6)
    assert b.log_evidence == pytest.approx(a.log_evidence, rel=1e-6)
    std = [
        fg.laplace(p, run.theta, run.evidence).predict(X, noise=False)[1]
        for p, run in ((plain, one), (twin, other))
    ]
    close(std[1], std[0], 1e-6)


@pytest.mark.parametrize("solver", ["auto", "qr"])
def test_evidence_with_coefficients(solver):
    """alpha and beta solve MacKay's equations with the coefficient free."""
    problem = decay()
    method = fg.LevenbergMarquardt(solver=solver)
    result = fg.train(
        problem, seed=0, method=method, regularize=fg.Evidence(tolerance=0.0), max_iter=300
    )
    found, n = result.evidence, problem.network.n_params
    theta, prior = result.theta, np.append(np.full(n, found.alpha), 0.0)
    point = problem.at(theta)
    H = found.beta * point.gram() + np.diag(prior)
    gamma = theta.size - np.diag(np.linalg.inv(H)) @ prior
    assert found.effective_parameters == pytest.approx(gamma, rel=1e-4)
    assert found.alpha == pytest.approx((gamma - 1.0) / (theta[:n] @ theta[:n]), rel=1e-2)
    assert found.beta == pytest.approx((48 - gamma) / (2.0 * point.data_loss), rel=1e-2)
    k, error = fg.laplace(problem, theta, found).coefficients()["k"]
    assert abs(k - 1.5) < 4.0 * error < 0.5


def test_refusals():
    case = Case(0, loss="cauchy")
    with pytest.raises(ValueError, match="a term has the loss 'cauchy'"):
        fg.laplace(case.problem, case.theta, alpha=1.0, beta=1.0)
    with pytest.raises(ValueError, match="a term has the loss 'cauchy'"):
        fg.train(case.problem, regularize=fg.Evidence())
    with pytest.raises(ValueError, match="coefficients, which have no prior"):
        fg.train(decay(), regularize=fg.Evidence(per="unit"))
    with pytest.raises(ValueError, match="solver 'dual' does not go"):
        method = fg.LevenbergMarquardt(solver="dual")
        fg.train(decay(), method=method, regularize=fg.Evidence())
    with pytest.raises(ValueError, match="one prior for all weights"):
        spare = fg.ResidualProblem(
            fg.MLP((1, 2, 1)), [fg.Term([[0.0]], targets=[1.0])], penalize_biases=False
        )
        fg.laplace(spare, spare.init(0), alpha=1.0, beta=1.0)
    with pytest.raises(ValueError, match="the posterior is not proper"):
        fg.laplace(decay(), decay().init(0) * 0.0, beta=1.0)
    x = np.linspace(0.0, 1.0, 9)[:, None]
    product = fg.Term(x, lambda x, u, k: u.d(0) - k["a"] * k["b"])
    open_ = fg.ResidualProblem(fg.MLP((1, 2, 1)), [product], coefficients={"a": 1.0, "b": 1.0})
    with pytest.raises(ValueError, match="the residuals leave coefficients open"):
        fg.laplace(open_, open_.init(0), alpha=1.0, beta=1.0)
