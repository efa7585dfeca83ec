"""train(): its arguments, what it promises of theta and history, and its methods and solvers."""

import inspect
import warnings

import numpy as np
import pytest
from fakes import ResidualProblem, rosenbrock

import fastggn as fg
from fastggn.training.result import Record

START = [-1.2, 1.0]
METHODS = ("lm", "ggn", "newton", "lbfgs", "bp", "adam", "auto")


@pytest.fixture
def problem():
    """F(2, 6, 1) on 30 samples: N = 25."""
    X, Y = fg.data.four_regions(30, seed=3)
    return fg.Problem(fg.MLP((2, 6, 1)), X, Y)


# --- the interface ----------------------------------------------------------------------------


def test_signature():
    """The 13 names of the interface, in its order."""
    names = list(inspect.signature(fg.train).parameters)
    assert names == [
        "problem", "theta0", "method", "seed", "max_iter", "max_time", "stop", "held_out",
        "regularize", "leave_saddles", "checkpoint", "callbacks", "progress",
    ]  # fmt: skip


def test_theta0_by_seed(problem):
    first = fg.train(problem, seed=5, max_iter=0)
    np.testing.assert_array_equal(first.theta, problem.network.init(5))
    np.testing.assert_array_equal(fg.train(problem, seed=5, max_iter=0).theta, first.theta)


@pytest.mark.filterwarnings("ignore::fastggn.FastGGNWarning")
@pytest.mark.parametrize(
    "method", [*METHODS, fg.LevenbergMarquardt(batch_size=7), fg.Adam(batch_size=7)], ids=str
)
def test_same_seed_same_bits(problem, method):
    a, b = (fg.train(problem, seed=1, method=method, max_iter=4) for _ in range(2))
    np.testing.assert_array_equal(a.theta, b.theta)


@pytest.mark.filterwarnings("ignore::fastggn.FastGGNWarning")
@pytest.mark.parametrize("method", METHODS)
def test_theta0_is_not_changed(problem, method):
    theta0 = problem.network.init(0)
    before = theta0.copy()
    result = fg.train(problem, theta0, method=method, max_iter=3)
    np.testing.assert_array_equal(theta0, before)
    assert not np.shares_memory(result.theta, theta0)


@pytest.mark.filterwarnings("ignore::fastggn.FastGGNWarning")
@pytest.mark.parametrize("method", METHODS)
def test_result_is_that_of_its_theta(problem, method):
    result = fg.train(problem, seed=0, method=method, max_iter=5)
    assert result.loss == pytest.approx(problem.loss(result.theta), rel=1e-12)
    gradient = np.linalg.norm(problem.gradient(result.theta))
    assert result.gradient_norm == pytest.approx(gradient, rel=1e-9)
    assert result.n_iter == len(result.history) == 5
    assert result.initial_loss == pytest.approx(problem.loss(problem.network.init(0)))
    last = result.history[-1]
    if method == "bp":  # its rate is too high here: the lowest point is kept
        assert result.loss < last.loss and "lowest loss" in result.message
        return
    assert (last.loss, last.gradient_norm) == (result.loss, result.gradient_norm)


def test_records(problem):
    result = fg.train(problem, seed=0, max_iter=5)
    for k, record in enumerate(result.history):
        assert isinstance(record, Record)
        assert record.iteration == record["iteration"] == k + 1
        assert record.solver == "cholesky"
        assert record.accepted
        assert record.damping > 0 and 0 < record.rcond <= 1
        assert record.to_dict()["loss"] == record["loss"] == record.loss
    for name in ("assemblies", "factorisations", "evaluations", "seconds"):
        values = [record[name] for record in result.history]
        assert values == sorted(values)
    assert result.history[-1].assemblies == 5
    assert result.solver == "cholesky" and "N = " in result.solver_reason
    with pytest.raises(KeyError):
        result.history[0]["lambda"]


def test_losses_fall_with_lm_and_newton(problem):
    for method in ("lm", "newton"):
        result = fg.train(problem, seed=0, method=method, max_iter=30)
        losses = [result.initial_loss, *(record.loss for record in result.history)]
        assert all(b <= a for a, b in zip(losses, losses[1:], strict=False))


def test_one_assembly_an_accepted_step():
    problem = rosenbrock()
    result = fg.train(problem, START)
    assert problem.n_assemblies == result.history[-1].assemblies == result.n_iter
    assert result.history[-1].factorisations >= result.n_iter


def test_progress_prints_lines(problem, capsys):
    fg.train(problem, seed=0, max_iter=3, progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert lines[0].startswith("iteration 1/3") and lines[-1].startswith("iteration 3/3")


# --- bad arguments ----------------------------------------------------------------------------

# Options that their object refuses.
BAD_OPTIONS = [
    (lambda: fg.LevenbergMarquardt(solver="choleski"), "did you mean 'cholesky'"),
    (lambda: fg.LevenbergMarquardt(damping=0.0), "damping must be > 0"),
    (lambda: fg.LevenbergMarquardt(precision="float16"), "did you mean 'float64'"),
    (lambda: fg.LevenbergMarquardt(batch_size=0), "batch_size must be at least 1"),
    (lambda: fg.LevenbergMarquardt(geodesic=True, batch_size=5), "geodesic=True does not go with"),
    (lambda: fg.LevenbergMarquardt(precision="mixed", batch_size=5), "'mixed' does not go with"),
    (lambda: fg.GaussNewton(step=0.0), "step must be > 0"),
    (lambda: fg.Newton(solver="qr"), "solver 'qr' does not go with method 'newton'"),
    (lambda: fg.LBFGS(memory=0), "memory must be at least 1"),
    (lambda: fg.GradientDescent(momentum=1.0), r"momentum must be in \[0, 1\)"),
    (lambda: fg.GradientDescent(momentum=-0.1), "momentum must be >= 0"),
    (lambda: fg.Adam(rate=np.inf), "rate must be > 0 and finite"),
    (lambda: fg.Stop(gradient=-1.0), "gradient must be >= 0"),
    (lambda: fg.Stop(gradient=np.nan), "gradient must be >= 0"),
    (lambda: fg.Stop(loss=-1.0), "loss must be >= 0"),
    (lambda: fg.Stop(step=-1.0), "step must be >= 0"),
    (lambda: fg.Stop(target=-1.0), "target must be >= 0"),
    (lambda: fg.Evidence(per="layer"), "per 'layer' is unknown"),
]
BAD_KINDS = [
    (lambda: fg.LevenbergMarquardt(batch_size="all"), "batch_size must be an integer"),
    (lambda: fg.LevenbergMarquardt(geodesic="yes"), "geodesic must be True or False"),
    (lambda: fg.Stop(gradient="small"), "gradient must be a real number"),
    (lambda: fg.Stop(gradient=None), "gradient must be a real number"),
]


@pytest.mark.parametrize(("make", "match"), BAD_OPTIONS)
def test_bad_option(make, match):
    with pytest.raises(ValueError, match=match):
        make()


@pytest.mark.parametrize(("make", "match"), BAD_KINDS)
def test_option_of_another_kind(make, match):
    with pytest.raises(TypeError, match=match):
        make()


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        ({"method": "lmm"}, "method 'lmm' is unknown; did you mean 'lm'"),
        ({"leave_saddles": "negative"}, "did you mean 'negative_curvature'"),
        ({"max_iter": -1}, "max_iter must be at least 0"),
        ({"max_time": 0.0}, "max_time"),
        ({"method": fg.LevenbergMarquardt(batch_size=31)}, "31, but the problem has 30 samples"),
        ({"theta0": np.zeros(3)}, r"theta0 must have shape \(25,\), got \(3,\)"),
        ({"theta0": np.full(25, np.nan)}, r"theta0\[0\] is nan"),
        ({"method": fg.LevenbergMarquardt(solver="dual")}, "solver 'dual' needs T n_L <= N"),
    ],
)
def test_bad_value(problem, kwargs, match):
    with pytest.raises(ValueError, match=match):
        fg.train(problem, **kwargs)


@pytest.mark.parametrize(
    ("kwargs", "match"),
    [
        ({"max_iter": 2.5}, "max_iter must be an integer"),
        ({"method": fg.Adam}, r"the class Adam: write Adam\(\)"),
        ({"method": 3}, "method must be a name or an object"),
        ({"stop": 1e-3}, "stop must be a fastggn.Stop"),
        ({"regularize": "bayesian"}, "fastggn.Evidence, a fastggn.NullSpace or None, not str"),
        ({"callbacks": 5}, "callbacks must be a sequence of callables, not int"),
        ({"callbacks": print}, r"write callbacks=\[callback\]"),
        ({"callbacks": [print, 3]}, r"callbacks\[1\] is not callable"),
        ({"theta0": ["a"] * 25}, "theta0 must hold real numbers"),
    ],
)
def test_bad_type(problem, kwargs, match):
    with pytest.raises(TypeError, match=match):
        fg.train(problem, **kwargs)


def test_not_a_problem():
    with pytest.raises(TypeError, match="problem must be a fastggn.Problem, not list"):
        fg.train([1, 2])


@pytest.mark.parametrize("solver", ["lsqr", "qr"])
@pytest.mark.parametrize("kind", [fg.LevenbergMarquardt, fg.GaussNewton])
def test_exact_curvature_refuses_least_squares(problem, solver, kind):
    X, Y = fg.data.four_regions(30, seed=3)
    exact = fg.Problem(problem.network, X, Y, loss="cauchy", curvature="exact")
    with pytest.raises(ValueError, match=f"solver '{solver}'.*curvature 'exact'"):
        fg.train(exact, method=kind(solver=solver))


def test_a_method_is_its_name_with_its_defaults(problem):
    named = fg.train(problem, seed=0, method="lm", max_iter=5)
    given = fg.train(problem, seed=0, method=fg.LevenbergMarquardt(), max_iter=5)
    np.testing.assert_array_equal(named.theta, given.theta)
    with pytest.raises(AttributeError):
        fg.Adam().rate = 2.0


# --- methods ----------------------------------------------------------------------------------


@pytest.mark.parametrize("solver", ["cholesky", "dual", "lsqr", "qr"])
def test_ggn_takes_shens_step(solver):
    """theta - alpha pinv(P P^T) P eps (Shen 2018, Eqs. 38-40), singular for N > T n_L."""
    X, Y = fg.data.four_regions(9, seed=3)
    problem = fg.Problem(fg.MLP((2, 6, 1), activation="bent_identity"), X, Y)
    theta = problem.network.init(0)
    P = problem.jacobian(theta).to_dense().T
    eps = problem.outputs(theta) - Y
    expected = theta - 0.5 * np.linalg.pinv(P @ P.T, rcond=1e-12, hermitian=True) @ P @ eps.ravel()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fg.SingularSystemWarning)
        result = fg.train(
            problem, theta, method=fg.GaussNewton(solver=solver, step=0.5), max_iter=1
        )
    np.testing.assert_allclose(result.theta, expected, rtol=1e-6, atol=1e-8)


def test_ggn_warns_of_ascent_once_and_takes_the_step():
    with pytest.warns(fg.AscentWarning, match=r"raised the loss from 6\.05 to") as caught:
        result = fg.train(rosenbrock(), START, method="ggn")
    assert len(caught) == 1
    assert result.history[0].loss > result.initial_loss
    assert result.loss < 1e-20


@pytest.mark.parametrize("solver", ["cholesky", "lsqr", "qr"])
def test_solvers_train_to_the_same_result_long(solver):
    """T n_L > N, l2 and weights, to the minimum beside a noisy teacher."""
    rng = np.random.default_rng(0)
    net = fg.MLP((2, 4, 1))
    X, teacher = rng.standard_normal((60, 2)), net.init(1, scheme="normal")
    Y = net.predict(teacher, X) + 0.01 * rng.standard_normal((60, 1))
    problem = fg.Problem(net, X, Y, sample_weight=np.linspace(0.5, 2.0, 60), l2=1e-4)
    start = teacher + 0.02 * rng.standard_normal(net.n_params)
    expected = fg.train(problem, start, method="newton").theta
    result = fg.train(problem, start, method=fg.LevenbergMarquardt(solver=solver), max_iter=300)
    assert result.status == "converged_gradient"
    np.testing.assert_allclose(result.theta, expected, atol=1e-6)


@pytest.mark.parametrize("solver", ["cholesky", "dual", "lsqr", "qr"])
def test_solvers_train_to_the_same_result_wide(solver):
    """T n_L < N: ten damped steps through the same points."""
    X, Y = fg.data.four_regions(12, seed=1)
    problem = fg.Problem(fg.MLP((2, 8, 1)), X, Y)
    theta = problem.network.init(0)
    expected = fg.train(
        problem, theta, method=fg.LevenbergMarquardt(solver="dual", geodesic=True), max_iter=10
    )
    result = fg.train(
        problem, theta, method=fg.LevenbergMarquardt(solver=solver, geodesic=True), max_iter=10
    )
    np.testing.assert_allclose(result.theta, expected.theta, rtol=1e-5, atol=1e-6)


def test_retreat_from_cholesky_to_qr_warns_once():
    """Three copies of the samples' first weights: singular, and undamped."""
    X = np.repeat(np.random.default_rng(0).standard_normal((40, 1)), 3, axis=1)
    problem = fg.Problem(fg.MLP((3, 1)), X, X @ [1.0, 2.0, 3.0])
    with pytest.warns(fg.SingularSystemWarning, match="cholesky") as caught:
        result = fg.train(
            problem, np.zeros(4), method=fg.GaussNewton(solver="cholesky"), max_iter=3
        )
    assert len(caught) == 1
    assert result.history[0].solver == "qr"
    assert result.history[0].rank == 2
    np.testing.assert_allclose(result.theta, [2.0, 2.0, 2.0, 0.0], atol=1e-12)


def test_lm_ends_at_the_exact_fit_of_a_singular_system():
    """More parameters than equations, by Cholesky: more damping first, then QR."""
    X, Y = fg.data.xor()
    problem = fg.Problem(fg.MLP((2, 8, 1)), X, Y)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fg.SingularSystemWarning)
        result = fg.train(
            problem,
            seed=0,
            method=fg.LevenbergMarquardt(solver="cholesky"),
            stop=fg.Stop(gradient=1e-13),
        )
    assert result.status == "converged_gradient"
    assert result.loss < 1e-24


@pytest.mark.parametrize("solver", ["auto", "cholesky", "dual"])
def test_lm_with_indefinite_curvature_descends(solver):
    """The exact Hessian of the Cauchy loss is indefinite: damping above its lowest eigenvalue."""
    X, Y = fg.data.four_regions(12, seed=1)
    net = fg.MLP((2, 5, 1))
    problem = fg.Problem(net, X, 3.0 * Y, loss=fg.losses.Cauchy(scale=0.5), curvature="exact")
    result = fg.train(problem, seed=0, method=fg.LevenbergMarquardt(solver=solver), max_iter=60)
    assert result.loss < 0.5 * result.initial_loss
    assert result.status not in ("failed", "damping_limit")


@pytest.mark.parametrize("geodesic", [False, True])
def test_geodesic_correction_follows_a_curved_valley(geodesic):
    result = fg.train(rosenbrock(), START, method=fg.LevenbergMarquardt(geodesic=geodesic))
    assert result.status == "converged_gradient"
    assert result.n_iter <= (13 if geodesic else 20)


def test_geodesic_step_is_that_of_transtrum_and_sethna():
    """One step against the formula, with a numerical second derivative."""
    X, Y = fg.data.four_regions(30, seed=3)
    net = fg.MLP((2, 6, 1))
    problem = fg.Problem(net, X, Y)
    theta = net.init(0)
    J, T, mu = problem.jacobian(theta).to_dense(), 30, 5.0
    r = (problem.outputs(theta) - Y).ravel()
    H = J.T @ J / T + mu * np.eye(net.n_params)
    v = -np.linalg.solve(H, J.T @ r / T)
    h = 1e-3
    second = (
        problem.outputs(theta + h * v) - 2 * problem.outputs(theta) + problem.outputs(theta - h * v)
    ).ravel() / h**2
    a = -0.5 * np.linalg.solve(H, J.T @ second / T)
    assert 2 * np.linalg.norm(a) <= 0.75 * np.linalg.norm(v)
    result = fg.train(
        problem, theta, method=fg.LevenbergMarquardt(damping=mu, geodesic=True), max_iter=1
    )
    np.testing.assert_allclose(result.theta, theta + v + a, rtol=1e-5, atol=1e-8)


def test_gradient_descent_with_momentum():
    """Two steps against the recursion."""
    problem = rosenbrock()
    theta, v = np.array(START), np.zeros(2)
    for _ in range(2):
        v = 0.9 * v - 1e-4 * problem.gradient(theta)
        theta = theta + v
    result = fg.train(
        problem, START, method=fg.GradientDescent(rate=1e-4, momentum=0.9), max_iter=2
    )
    np.testing.assert_allclose(result.theta, theta, rtol=1e-12)
    assert result.history[0].solver == "gradient"


def test_adam_takes_its_algorithm_1():
    """Full batches: two steps against Kingma and Ba 2015, Algorithm 1."""
    problem = rosenbrock()
    theta, m, v = np.array(START), np.zeros(2), np.zeros(2)
    for t in (1, 2):
        g = problem.gradient(theta)
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        theta = theta - 0.01 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    result = fg.train(problem, START, method=fg.Adam(rate=0.01), max_iter=2)
    np.testing.assert_allclose(result.theta, theta, rtol=1e-12)


def test_adam_default_rate_is_a_thousandth():
    result = fg.train(rosenbrock(), START, method="adam", max_iter=1)
    np.testing.assert_allclose(np.abs(result.theta - START), 1e-3, rtol=1e-6)


def test_tiny_and_huge_scales():
    """A loss of any magnitude is minimised alike: no constant has the loss's unit but c."""
    base = rosenbrock()
    for scale in (1e-60, 1e60):
        scaled = ResidualProblem(
            lambda t, s=scale: s * base.residual(t), 2, 2, lambda t, s=scale: s * base.jacobian(t)
        )
        result = fg.train(scaled, START, stop=fg.Stop(gradient=0.0), max_iter=200)
        np.testing.assert_allclose(result.theta, 1.0, atol=1e-6)
