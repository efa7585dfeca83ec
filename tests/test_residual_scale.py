"""Scaled inputs of equations: derivatives in raw units, the same objective in other weights."""

import numpy as np
import pytest
from residual_cases import WIDTHS, Case

import fastggn as fg

MEAN, WIDTH = np.array([3.0, -200.0]), np.array([0.5, 1e4])


def terms(X, Y):
    def equation(x, u, k):
        return u.d("x", "x") + 1e8 * u.d("y", "y") + k["c"] * u.value - np.cos(1e-4 * x[:, 1])

    return [
        fg.Term(X, equation),
        fg.Term(X, lambda x, u: 1e4 * u.d("x", "y") * u.d("y") - u.d("x"), loss="cauchy"),
        fg.Term(X[:5], targets=Y[:5], derivatives={("y",): 1e-4 * Y[:5]}),
    ]


def problem(scale):
    rng = np.random.default_rng(41)
    X = MEAN + WIDTH * rng.normal(size=(20, 2))
    return fg.ResidualProblem(
        fg.MLP(WIDTHS),
        terms(X, rng.normal(size=20)),
        inputs=("x", "y"),
        coefficients={"c": 0.5},
        scale=scale,
    )


def unscaled(theta, net, mean, width):
    """The parameters of the same function of raw inputs."""
    layers = [w.copy() for w in net.unpack(theta[: net.n_params])]
    layers[0][:, -1] -= layers[0][:, :-1] @ (mean / width)
    layers[0][:, :-1] /= width
    return np.concatenate([net.pack(layers), theta[net.n_params :]])


@pytest.mark.parametrize("scale", [True, (MEAN, WIDTH)])
@pytest.mark.parametrize("seed", range(3))
def test_the_same_objective_in_other_weights(scale, seed):
    scaled, plain = problem(scale), problem(False)
    theta = scaled.init(seed)
    scaler = scaled.input_scaler
    other = unscaled(theta, scaled.network, scaler.mean, scaler.scale)
    for a, b in zip(scaled.residuals(theta), plain.residuals(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-10)
    assert scaled.loss(theta) == pytest.approx(plain.loss(other), rel=1e-9)
    X = MEAN + WIDTH * np.random.default_rng(1).normal(size=(4, 2))
    want = plain.network.predict(plain.weights(other), X)
    np.testing.assert_allclose(scaled.predict(theta, X), want, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(plain.predict(other, X), want, rtol=0, atol=0)
    np.testing.assert_allclose(scaled.predict(theta, X[0]), want[0], rtol=1e-9, atol=1e-11)


def test_derivatives_against_jax():
    """Value, first and second derivatives by raw inputs, from JAX on the raw function."""
    jax = pytest.importorskip("jax")
    jnp = jax.numpy
    jax.config.update("jax_enable_x64", True)
    rng = np.random.default_rng(43)
    X = MEAN + WIDTH * rng.normal(size=(6, 2))
    names = [(), ("x",), ("y",), ("x", "x"), ("x", "y"), ("y", "y")]

    def read(x, u):
        return tuple(u.d(*name) if name else u.value for name in names)

    net = fg.MLP(WIDTHS)
    made = fg.ResidualProblem(net, [fg.Term(X, read)], inputs=("x", "y"), scale=(MEAN, WIDTH))
    theta = made.init(0)
    (W, V) = net.unpack(theta)

    def u(x):
        hidden = jnp.tanh(W[:, :2] @ ((x - MEAN) / WIDTH) + W[:, 2])
        return (V[:, :3] @ hidden + V[:, 3])[0]

    value, slope, bend = u, jax.grad(u), jax.hessian(u)
    for row, x in zip(made.residuals(theta)[0], X, strict=True):
        g, H = slope(x), bend(x)
        want = [value(x), g[0], g[1], H[0, 0], H[0, 1], H[1, 1]]
        np.testing.assert_allclose(row, want, rtol=1e-10, atol=0)


def test_the_scale_is_that_of_all_points():
    rng = np.random.default_rng(47)
    A, B = rng.normal(5.0, 2.0, (30, 1)), rng.normal(-3.0, 0.1, (7, 1))
    pair = [fg.Term(A, lambda x, u: u.d(0)), fg.Term(B, lambda x, u: u.value)]
    made = fg.ResidualProblem(fg.MLP((1, 2, 1)), pair, scale=True)
    both = np.concatenate([A, B])
    np.testing.assert_allclose(made.input_scaler.mean, both.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(made.input_scaler.scale, both.std(axis=0), rtol=1e-13)
    again = fg.ResidualProblem(fg.MLP((1, 2, 1)), pair, scale=made.input_scaler)
    theta = made.init(0)
    assert again.loss(theta) == made.loss(theta)
    part = made.subset(np.arange(5))
    assert part.input_scaler is made.input_scaler
    np.testing.assert_array_equal(part.residuals(theta)[0], made.residuals(theta)[0][:5])


def relaxation(scale):
    """u' = -u / 2000 on 0..10,000 seconds."""
    t = np.linspace(0.0, 1e4, 60)[:, None]
    pair = [
        fg.Term(t, lambda t, u: 2000.0 * u.d("t") + u.value),
        fg.Term([[0.0]], lambda t, u: u.value - 1.0),
    ]
    return fg.ResidualProblem(fg.MLP((1, 8, 1)), pair, inputs=["t"], scale=scale), t


@pytest.mark.filterwarnings("ignore::fastggn.SingularSystemWarning")  # what scales mend
def test_inputs_of_thousands_train():
    errors = {}
    for scale in (False, True):
        made, t = relaxation(scale)
        result = fg.train(made, seed=0, max_iter=100)
        errors[scale] = np.abs(made.predict(result.theta, t) - np.exp(-t / 2000.0)).max()
    assert errors[True] < 1e-5 < 1e-2 < errors[False], errors


def test_held_out_points_have_the_same_scale():
    made, _ = relaxation(True)
    other, _ = relaxation(made.input_scaler)
    result = fg.train(made, seed=0, max_iter=5, held_out=other)
    assert result.best_validation_loss == other.loss(result.theta)
    with pytest.raises(ValueError, match="scale their inputs differently"):
        fg.train(made, seed=0, held_out=relaxation(False)[0])
    net, x = made.network, np.zeros((2, 1))
    with pytest.raises(ValueError, match="scale their inputs differently"):
        fg.train(made, seed=0, held_out=fg.Problem(net, x, x))


def test_a_checkpoint_knows_the_scale(tmp_path):
    file = fg.Checkpoint(tmp_path / "run", resume=True)
    whole = fg.train(relaxation(True)[0], seed=0, max_iter=6)
    fg.train(relaxation(True)[0], seed=0, max_iter=3, checkpoint=file)
    resumed = fg.train(relaxation(True)[0], seed=0, max_iter=6, checkpoint=file)
    np.testing.assert_array_equal(resumed.theta, whole.theta)
    with pytest.raises(fg.CheckpointError, match="scale"):
        fg.train(relaxation(False)[0], seed=0, max_iter=6, checkpoint=file)


def test_refusals():
    def made(scale):
        return fg.ResidualProblem(
            fg.MLP((2, 2, 1)), [fg.Term(np.zeros((3, 2)), lambda x, u: u.value)], scale=scale
        )

    with pytest.raises(TypeError, match="scale must be a flag, a Scaler or"):
        made("yes")
    with pytest.raises(ValueError, match="scale is for 1 inputs, the network has 2"):
        made(([0.0], [1.0]))
    with pytest.raises(ValueError, match="scale must be positive"):
        made(([0.0, 0.0], [1.0, 0.0]))
    np.testing.assert_array_equal(made(True).input_scaler.scale, 1.0)  # constant inputs


def test_the_case_with_a_scale():
    """Products, Hessian and Gauss-Newton matrix of a scaled problem belong together."""
    case = Case(3, scale=True)
    problem, theta = case.problem, case.theta
    h, v = 1e-5, np.random.default_rng(0).normal(size=case.theta.size)
    difference = (problem.gradient(theta + h * v) - problem.gradient(theta - h * v)) / (2 * h)
    np.testing.assert_allclose(problem.hessian(theta) @ v, difference, rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(problem.ggn(theta), case.curvature(theta), rtol=1e-9, atol=1e-11)
