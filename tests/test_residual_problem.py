"""Problems of equations: derivatives against differences, every method and solver, coefficients."""

import sys

import numpy as np
import pytest

import fastggn as fg
from fastggn.runtime.cores import FreeCores
from fastggn.solvers.base import Shift
from fastggn.solvers.choice import get_solver

TIMES = np.linspace(0.0, 2.0, 40)[:, None]
LOSSES = ("squared", "cauchy", "huber", "smooth_lp", "blake_zisserman")


def drawn(seed, sizes=(1, 7, 8, 9, 31)):
    """A random problem: nonlinear equations, data, robust losses, weights, bounds."""
    rng = np.random.default_rng([23, seed])
    n_L = 1 + seed % 2
    names = [str(rng.choice(["tanh", "sigmoid", "softplus", "bent_identity"])) for _ in range(2)]
    bias = ("free", "none")[seed % 3 == 2]
    net = fg.MLP((2, int(rng.integers(2, 5)), int(rng.integers(2, 5)), n_L), names, bias=bias)
    coefficients = {"a": 0.7, "b": (0.4, 0.1, None), "c": (0.2, -1.0, 1.0)}

    def first(x, u, k):
        one = u[0] if n_L == 2 else u
        return one.d("x", "x") + k["a"] * one.d("x", "y") * one.value - np.sin(x[:, 0]) * k["b"]

    def second(x, u, k):
        one = u[1] if n_L == 2 else u
        return np.exp(0.3 * one.value) - k["c"] ** 2, one.d("y") * one.d("y", "y")

    T = [int(rng.choice(sizes)) for _ in range(3)]
    X = [rng.normal(size=(count, 2)) for count in T]
    loss = LOSSES[seed % 5]
    shape = (T[2], n_L) if n_L == 2 else T[2]
    terms = [
        fg.Term(X[0], first, weight=2.0, sample_weight=rng.uniform(0.5, 2.0, T[0])),
        fg.Term(X[1], second, weight=0.5, loss=loss),
        fg.Term(X[2], targets=rng.normal(size=shape), derivatives={("x",): rng.normal(size=shape)}),
    ]
    l2 = 0.01 * (seed % 2)
    problem = fg.ResidualProblem(net, terms, inputs=("x", "y"), coefficients=coefficients, l2=l2)
    theta = problem.init(seed=seed) + 0.3 * rng.normal(size=problem.n_params)
    return problem, theta, rng.normal(size=problem.n_params)


def slope(f, theta, h=1e-5):
    """Central differences of f along each parameter, the parameter last."""
    columns = [(f(theta + h * e) - f(theta - h * e)) / (2 * h) for e in np.eye(theta.size)]
    return np.stack(columns, axis=-1)


def close(got, want, tol):
    np.testing.assert_allclose(got, want, rtol=0, atol=tol * max(1.0, np.abs(want).max()))


@pytest.mark.parametrize("seed", range(6))
def test_derivatives(seed):
    """J, gradient, Hessian and products against differences of the residuals and the loss."""
    problem, theta, v = drawn(seed)

    def flat(t):
        return np.concatenate([r.ravel() for r in problem.residuals(t)])

    J = problem.jacobian(theta)
    dense = J.to_dense()
    close(dense, slope(flat, theta), 1e-8)
    close(J @ v, dense @ v, 1e-12)
    u = np.random.default_rng(0).normal(size=J.shape[0])
    close(J.T @ u, dense.T @ u, 1e-12)
    close(J.gram(), dense.T @ dense, 1e-12)
    close(J.dual_gram(), dense @ dense.T, 1e-12)
    close(problem.gradient(theta), slope(problem.loss, theta), 1e-8)
    H = problem.hessian(theta)
    close(H, slope(problem.gradient, theta), 1e-7)
    close(problem.hessian_operator(theta) @ v, H @ v, 1e-11)
    close(problem.ggn_operator(theta) @ v, problem.ggn(theta) @ v, 1e-11)


@pytest.mark.parametrize("seed", range(6))
def test_system(seed):
    """A, b, the Gram matrices, the rows and the bend along a line belong together."""
    problem, theta, v = drawn(seed)
    point = problem.at(theta)
    A = np.concatenate([rows for rows, _ in point.row_blocks()])
    assert A.shape == (problem.n_rows, problem.n_params)
    close(A.T @ point.b, point.data_gradient, 1e-12)
    close(A @ v, point.matvec(v), 1e-12)
    close(point.rmatvec(point.b), point.data_gradient, 1e-12)
    close(point.gram(), A.T @ A, 1e-12)
    close(point.gram(mixed=True), A.T @ A, 1e-5)
    close(point.dual_gram(), A @ A.T, 1e-12)
    close(point.bias_columns(), A[:, problem.network.n_params :], 1e-12)
    sizes = [u.shape[0] * w.shape[0] for u, w in point.kronecker_factors()]
    assert sum(sizes) == problem.n_params
    h = 1e-4
    there = [problem.residuals(theta + t * h * v) for t in (-1, 0, 1)]
    if problem.loss_function.losses[1]["name"] == "squared":
        bend = np.concatenate(
            [(a - 2 * b + c).ravel() / h**2 for a, b, c in zip(*there, strict=True)]
        )
        J = problem.jacobian(theta).to_dense()
        root = np.linalg.norm(A, axis=1) / np.linalg.norm(J, axis=1)
        close(point.curvature_along(v), root * bend, 1e-5)


def everything(problem, theta, v):
    point, J = problem.at(theta), problem.jacobian(theta)
    yield from (problem.gradient(theta), problem.ggn(theta), problem.hessian(theta))
    yield from (J.to_dense(), J @ v, point.b, point.curvature_along(v), point.dual_gram())
    yield from (*point.slope_sizes(), *problem.residuals(theta))
    yield from (part for pair in point.kronecker_factors() for part in pair)


def test_many_blocks_are_one(monkeypatch):
    """Blocks of one chunk of 8 points give what one block gives."""
    (problem, theta, v), (other, _, _) = drawn(3), drawn(3)
    whole = list(everything(problem, theta, v))
    monkeypatch.setattr("fastggn.network.workspace._BLOCK_BYTES", 1)
    monkeypatch.setattr("fastggn.objective.ggn_tiles.ChannelTiling.most", 7)
    monkeypatch.setattr("fastggn.network.workspace._even_chunk", lambda n, most: 8)
    assert any(plan.n_chunks > plan.chunks_per_block() for plan in other._objective.plans)
    for got, want in zip(everything(other, theta, v), whole, strict=True):
        close(got, want, 1e-13)


@pytest.mark.parametrize("name", ["cholesky", "qr", "lsqr", "dual"])
def test_solvers_agree(name):
    """One damped step, also where l2 spares the coefficients."""
    problem, theta, _ = drawn(1)
    if name == "dual":
        problem = problem.subset(np.arange(9))
    point, damping = problem.at(theta), 1e-3
    matrix = point.gram() + np.diag(point.decay + damping * np.ones(problem.n_params))
    want = np.linalg.solve(matrix, point.gradient)
    state = get_solver(name).prepare(point)
    found = state.solve(Shift(damping, point.decay))
    close(found.step, want, 1e-7)


def test_equation_boundary_and_data():
    """One coefficient from all three together: u is a product of sines, and c is 3."""
    rng = np.random.default_rng(0)
    X, Xb, Xd = (rng.random((count, 2)) for count in (150, 40, 30))
    Xb[:, 0] = np.round(Xb[:, 0])

    def g(x):
        return np.sin(np.pi * x[:, 0]) * np.sin(np.pi * x[:, 1])

    def f(x):
        return (3.0 - 2.0 * np.pi**2) * g(x)

    Y = g(Xd)
    dY_dx = np.pi * np.cos(np.pi * Xd[:, 0]) * np.sin(np.pi * Xd[:, 1])

    def equation(x, u, k):
        return u.d("x", "x") + u.d("y", "y") + k["c"] * u.value - f(x)

    interior = fg.Term(X, equation, weight=1.0)
    boundary = fg.Term(Xb, lambda x, u: u.value - g(x), weight=10.0)
    data = fg.Term(Xd, targets=Y, derivatives={("x",): dY_dx})
    problem = fg.ResidualProblem(
        fg.MLP((2, 32, 32, 1)),
        [interior, boundary, data],
        inputs=("x", "y"),
        coefficients={"c": 1.0},
    )
    result = fg.train(problem, seed=0, max_iter=30)
    assert problem.coefficients(result.theta) == {"c": result.theta[-1]}
    assert result.theta[-1] == pytest.approx(3.0, abs=0.02)
    weights = problem.weights(result.theta)
    assert np.array_equal(weights, result.theta[:-1])
    values = problem.network.predict(weights, X)[:, 0]
    np.testing.assert_allclose(values, g(X), rtol=0, atol=1e-2)


def decay(**options):
    """u' = -k u, u(0) = 1, with data of the solution for k = 1.5."""
    values = np.exp(-1.5 * TIMES[:, 0])
    terms = [
        fg.Term(TIMES, lambda x, u, k: u.d("t") + k["k"] * u.value),
        fg.Term(TIMES[::4], targets=values[::4]),
    ]
    k = options.pop("k", 0.5)
    return fg.ResidualProblem(
        fg.MLP((1, 6, 1)), terms, inputs=["t"], coefficients={"k": k}, **options
    )


@pytest.mark.parametrize("k", [0.5, (0.5, 0.0, None), (0.5, None, 9.0), (0.5, 0.0, 2.0)])
def test_a_coefficient_is_found(k):
    """Levenberg-Marquardt finds the rate, with and without bounds."""
    problem = decay(k=k)
    result = fg.train(problem, seed=0, max_iter=200)
    assert problem.coefficients(result.theta)["k"] == pytest.approx(1.5, abs=1e-3)
    assert problem.coefficients(problem.init(0)) == {"k": pytest.approx(0.5, rel=1e-12)}


def noisy(seed, noise=0.02, k=0.5):
    """The decay with data at all times, and noise."""
    rng = np.random.default_rng([5, seed])
    seen = np.exp(-1.5 * TIMES[:, 0]) + noise * rng.standard_normal(TIMES.size)
    terms = [
        fg.Term(TIMES, lambda x, u, k: u.d("t") + k["k"] * u.value, weight=100.0),
        fg.Term(TIMES, targets=seen),
    ]
    return fg.ResidualProblem(fg.MLP((1, 5, 1)), terms, inputs=["t"], coefficients={"k": k})


def test_standard_errors_of_coefficients():
    """Error over standard error has a root mean square near 1 over noisy repeats."""
    ratios = []
    for seed in range(12):
        problem = noisy(seed)
        theta = fg.train(problem, seed=seed, max_iter=60).theta
        error = fg.analysis.coefficient_errors(problem, theta)["k"]
        ratios.append((problem.coefficients(theta)["k"] - 1.5) / error)
    assert 0.6 < np.sqrt(np.mean(np.square(ratios))) < 1.5


def test_standard_errors_do_not_depend_on_bounds():
    found = []
    for k in (1.4, (1.4, 0.0, None), (1.4, 0.0, 4.0)):
        problem = noisy(0, k=k)
        theta = fg.train(problem, seed=0, max_iter=100).theta
        found.append(fg.analysis.coefficient_errors(problem, theta)["k"])
    assert max(found) < 1.01 * min(found)


def test_what_has_no_standard_error():
    problem, theta, _ = drawn(0)
    with pytest.raises(TypeError, match="must be a ResidualProblem"):
        fg.analysis.coefficient_errors(None, theta)
    term = fg.Term(TIMES, lambda x, u, k: u.d(0) + k["k"] * u.value)
    alone = fg.ResidualProblem(fg.MLP((1, 4, 1)), [term], coefficients={"k": 1.0})
    with pytest.raises(ValueError, match="no term of problem has data"):
        fg.analysis.coefficient_errors(alone, alone.init(0))
    without = fg.ResidualProblem(fg.MLP((1, 4, 1)), [fg.Term(TIMES, targets=TIMES[:, 0])])
    with pytest.raises(ValueError, match="no coefficients"):
        fg.analysis.coefficient_errors(without, without.init(0))


@pytest.mark.parametrize(
    "method",
    ["lm", "ggn", "newton", "lbfgs", "adam", "auto", fg.GradientDescent(rate=0.01)]
    + [fg.LevenbergMarquardt(solver=name) for name in ("qr", "lsqr")]
    + [fg.LevenbergMarquardt(batch_size=20), fg.LevenbergMarquardt(precision="mixed")],
    ids=str,
)
@pytest.mark.filterwarnings("ignore::fastggn.AscentWarning")  # of undamped steps, which
@pytest.mark.filterwarnings("ignore::fastggn.DivergenceWarning")  # go far before they end
def test_methods(method):
    """Every method lowers the loss."""
    problem = decay()
    start = problem.init(seed=1)
    result = fg.train(problem, start, method, seed=1, max_iter=15)
    assert result.loss < problem.loss(start)


def test_held_out_points():
    """Another problem of the same equations, or values of the solution where nothing is unknown."""

    def equations(X):
        return [fg.Term(X, lambda x, u: u.d("t") + u.value), fg.Term([[0.0]], targets=[1.0])]

    net = fg.MLP((1, 6, 1))
    problem, other = (
        fg.ResidualProblem(net, equations(X), inputs=["t"]) for X in (TIMES[::2], TIMES[1::2])
    )
    for held_out in (other, fg.Problem(net, TIMES, np.exp(-TIMES))):
        result = fg.train(problem, seed=0, max_iter=30, held_out=held_out)
        assert held_out.loss(result.theta) == pytest.approx(result.best_validation_loss, rel=1e-9)
    with pytest.raises(ValueError, match="held_out must be a fastggn.ResidualProblem"):
        fg.train(problem, held_out=(TIMES, np.exp(-TIMES)))
    with pytest.raises(ValueError, match="held_out has 20 parameters and .* 19"):
        fg.train(problem, held_out=decay())


def test_linear_residuals_are_known():
    """Also where only some points, or a power of a coefficient at 0, make a residual nonlinear."""
    x = np.linspace(-1.0, 1.0, 5000)[:, None]
    found = []
    for residual in (
        lambda x, u, k: u.d(0, 0) - 3.0 * u.value + np.sin(x[:, 0]) + 0.0 * k["k"],
        lambda x, u, k: u.d(0) + (x[:, 0] > 0.999) * u.value**2 + k["k"],
        lambda x, u, k: u.d(0) + k["k"] ** 3,
        lambda x, u, k: u.d(0) + np.exp(-1000.0 / u.value**2) + k["k"],
        lambda x, u, k: u.d(0) + np.exp(-2000.0 / (1.0 + k["k"])) * u.value,
    ):
        pair = [fg.Term(x, residual), fg.Term(x, targets=x[:, 0])]
        made = fg.ResidualProblem(fg.MLP((1, 3, 1)), pair, coefficients={"k": 0.0})
        found.append([part.linear for part in made.terms])
    assert found == [[True, True], *[[False, True]] * 4]


@pytest.mark.xdist_group("threads")
def test_same_bits_over_threads(monkeypatch):
    """Everything, of several chunks and tiles a term, and a run with mixed precision."""
    monkeypatch.setattr(FreeCores, "count", lambda _: sys.maxsize)
    monkeypatch.setattr("fastggn.runtime.threads._WORTH_SHARING", 0.0)
    monkeypatch.setattr("fastggn.objective.ggn_tiles.ChannelTiling.most", 7)
    method = fg.LevenbergMarquardt(precision="mixed")
    found = []
    for count in (1, 2, 3):
        problem, theta, v = drawn(3, sizes=[300, 600])
        assert min(plan.n_chunks for plan in problem._objective.plans) > 1
        with fg.threads(count):
            run = fg.train(problem, theta, method, max_iter=2).theta
            found.append(
                [run, problem.at(theta).gram(mixed=True), problem.hessian_operator(theta) @ v]
            )
            found[-1] += everything(problem, theta, v)
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_subsets_are_unbiased():
    """The mean of the gradients of disjoint parts, by their sizes, is the whole gradient."""
    problem, theta, _ = drawn(2)
    parts = np.array_split(np.random.default_rng(0).permutation(problem.n_samples), 3)
    gradients = [len(part) * problem.subset(part).gradient(theta) for part in parts]
    close(sum(gradients) / problem.n_samples, problem.gradient(theta), 1e-12)


def test_a_run_resumes(tmp_path):
    """The same bits as the run without a stop; another weight is another run."""
    whole = fg.train(decay(), seed=0, max_iter=8)
    file = fg.Checkpoint(tmp_path / "run", resume=True)
    fg.train(decay(), seed=0, max_iter=4, checkpoint=file)
    resumed = fg.train(decay(), seed=0, max_iter=8, checkpoint=file)
    np.testing.assert_array_equal(resumed.theta, whole.theta)
    assert resumed.n_iter == 8
    with pytest.raises(fg.CheckpointError, match="l2 was 0.0 and is 0.1"):
        fg.train(decay(l2=0.1), seed=0, max_iter=9, checkpoint=file)
    with pytest.raises(fg.CheckpointError, match="coefficients differs"):
        fg.train(decay(k=0.6), seed=0, max_iter=9, checkpoint=file)


def mixes(x, u):
    return u.value - np.mean(u.value)


REFUSED = {
    "abs": (lambda x, u: np.abs(u.value), r"np\.abs has no rule .*: .*jacobian="),
    "where": (lambda x, u: np.where(x[:, 0] > 1.0, u.value, 0.0), r"a condition on x .*factor"),
    "mean over points": (mixes, "mixes the points"),
    "order 5": (lambda x, u: u.d(0, 0, 0, 0, 0), "order 5: .*up to order 2"),
    "NaN source": (lambda x, u: u.value - np.log(x[:, 0] - 1.0), r"is nan at point 0"),
}


@pytest.fixture
def no_work(monkeypatch):
    """No sweep through the network."""

    def work(*_, **__):
        raise AssertionError("a sweep")

    monkeypatch.setattr("fastggn.network.channels.ChannelBlock.__init__", work)


@pytest.mark.parametrize("fault", REFUSED)
def test_faults_before_any_work(fault, no_work):
    residual, message = REFUSED[fault]
    with pytest.raises(ValueError, match=f"terms.1.: .*{message}"):
        good = fg.Term(TIMES, lambda x, u: u.d(0) + u.value)
        fg.ResidualProblem(fg.MLP((1, 4, 1)), [good, fg.Term(TIMES, residual)])


def test_a_wrong_sign_before_any_work(no_work):
    def jacobian(x, u):
        return {(): 2.0 * u.value, (0,): 1.0 + 0.0 * u.value}

    term = fg.Term(TIMES, lambda x, u: u.value**2 - u.d(0), jacobian=jacobian)
    with pytest.raises(ValueError, match=r"terms.0.: .*by u\.d\(0\) is 1.* differences"):
        fg.ResidualProblem(fg.MLP((1, 4, 1)), [term])


def test_refusals(no_work):
    """Each a clear error before any work."""
    x = TIMES

    def term(X=x):
        return fg.Term(X, lambda x, u: u.d(0) + u.value)

    with pytest.raises(ValueError, match="activation 'relu' of layer 1 has a jump"):
        fg.ResidualProblem(fg.MLP((1, 4, 1), "relu"), [term()])
    with pytest.raises(TypeError, match="net must be an MLP"):
        fg.ResidualProblem(None, [term()])
    with pytest.raises(ValueError, match=r"coefficients\['k'\] must start between its bounds"):
        decay(k=(0.0, 0.0, 1.0))
    with pytest.raises(ValueError, match=r"'k'\] must be a start, or \(start, lower, upper\)"):
        decay(k=(0.0, 0.0))
    with pytest.raises(TypeError, match="coefficients must be a mapping"):
        fg.ResidualProblem(fg.MLP((1, 4, 1)), [term()], coefficients=[1.0])
