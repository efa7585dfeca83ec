"""Weights for each target: the objective, its derivatives, and targets that do not count."""

import numpy as np
import pytest

import fastggn as fg

LOSSES = ["squared", "huber", "cauchy", "smooth_lp", "blake_zisserman"]


def samples(seed, T=40, n_outputs=3):
    rng = np.random.default_rng(seed)
    X, Y = rng.standard_normal((T, 2)), rng.standard_normal((T, n_outputs))
    weights = rng.uniform(0.0, 2.0, (T, n_outputs)) * (rng.random((T, n_outputs)) > 0.3)
    return X, Y, weights


@pytest.mark.parametrize("loss", LOSSES)
def test_objective_and_derivatives_by_the_formula(loss):
    X, Y, weights = samples(0)
    net = fg.MLP((2, 4, 3))
    theta = net.init(seed=1)
    problem = fg.Problem(net, X, Y, loss, sample_weight=weights, l2=1e-3)
    plain = fg.losses.get_loss(loss)
    F, T = net.predict(theta, X), X.shape[0]
    share = weights * weights.size / weights.sum() / T
    column = [plain.value(F[:, [c]], Y[:, [c]]) for c in range(3)]
    value = (share * np.stack(column, axis=1)).sum() + 0.5e-3 * theta @ theta
    assert problem.loss(theta) == pytest.approx(value, rel=1e-13)
    J = problem.jacobian(theta).to_dense()
    gradient = J.T @ (share * plain.gradient(F, Y)).ravel() + 1e-3 * theta
    np.testing.assert_allclose(problem.gradient(theta), gradient, rtol=1e-12, atol=1e-15)
    S, _ = plain.curvature_factor(F, Y)
    curvature = (share * np.einsum("tcc->tc", S) ** 2).ravel()
    ggn = J.T @ (curvature[:, None] * J) + 1e-3 * np.eye(theta.size)
    np.testing.assert_allclose(problem.ggn(theta), ggn, rtol=1e-11, atol=1e-14)
    eye = np.eye(theta.size)
    h = 1e-5
    numeric = np.array(
        [(problem.gradient(theta + h * e) - problem.gradient(theta - h * e)) / (2 * h) for e in eye]
    )
    np.testing.assert_allclose(problem.hessian(theta), numeric, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("widths", [(2, 3), (2, 5, 3), (1, 4, 6, 2)])
def test_one_weight_for_each_output(widths, weighted):
    """The weights that the evidence gives, over twelve orders: the output layer has a short cut."""
    rng = np.random.default_rng(len(widths))
    X, Y = rng.standard_normal((300, widths[0])), rng.standard_normal((300, widths[-1]))
    rows = rng.random(300) if weighted else np.ones(300)
    net = fg.MLP(widths)
    problem = fg.Problem(net, X, Y, fg.losses.Squared(scale=0.7), sample_weight=rows, l2=1e-3)
    w = np.array([1e-6, 3.0, 1e6])[: widths[-1]]
    problem.weigh_outputs(w)
    theta, v = net.init(seed=1), rng.standard_normal(net.n_params)
    J = problem.jacobian(theta).to_dense().reshape(300, widths[-1], -1)
    scaled = np.sqrt(w[:, None] / 0.49 * rows[:, None, None] / rows.sum()) * J
    A = scaled.reshape(-1, theta.size)
    expected = A.T @ A + 1e-3 * np.eye(theta.size)
    close = {"rtol": 1e-9, "atol": 1e-13 * np.abs(expected).max()}
    np.testing.assert_allclose(problem.ggn(theta), expected, **close)
    rows = problem.at(theta).rows
    np.testing.assert_allclose(rows.products(v[None])[0], A @ v, rtol=1e-9, atol=1e-12)
    u = rng.standard_normal((1, len(A)))
    np.testing.assert_allclose(rows.transposed_products(u)[0], A.T @ u[0], rtol=1e-9, atol=1e-9)


class Tilted(fg.losses.Squared):
    """A user's loss, as it could be written before the short cut: unequal outputs."""

    unit_hessian = False

    def _f(self, u):
        return 0.5 * self._second(u) * u * u

    def _slope(self, u):
        return self._second(u) * u

    def _second(self, u):
        return np.ones_like(u) * [1.0, 2.0, 5.0]

    _weight = _second


@pytest.mark.parametrize("scale", [1.0, 0.7])
def test_a_subclass_of_the_squared_loss_has_its_own_curvature(scale):
    X, Y, _ = samples(2)
    net = fg.MLP((2, 4, 3))
    theta = net.init(seed=1)
    problem = fg.Problem(net, X, Y, Tilted(scale))
    J = problem.jacobian(theta).to_dense().reshape(40, 3, -1)
    expected = np.einsum("o,toi,toj->ij", [1.0, 2.0, 5.0], J, J) / (40 * scale**2)
    np.testing.assert_allclose(problem.ggn(theta), expected, rtol=1e-11, atol=1e-14)
    v = np.random.default_rng(0).standard_normal(net.n_params)
    np.testing.assert_allclose(
        problem.ggn_operator(theta) @ v, expected @ v, rtol=1e-10, atol=1e-13
    )


def test_weights_beyond_the_range_of_their_ratio():
    X, Y, _ = samples(2)
    net = fg.MLP((2, 4, 3))
    theta = net.init(seed=1)
    problem = fg.Problem(net, X, Y)
    J = problem.jacobian(theta).to_dense().reshape(40, 3, -1)
    for w in ([0.0, 1.0, 3.0], [1e-300, 1.0, 1e100]):
        problem.weigh_outputs(np.array(w))
        expected = np.einsum("o,toi,toj->ij", w, J, J) / 40
        found = problem.ggn(theta)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-14 * expected.max())


def test_equal_weights_are_none_and_rows_are_sample_weights():
    X, Y, _ = samples(1)
    net = fg.MLP((2, 4, 3))
    theta = net.init(seed=1)
    ones = fg.Problem(net, X, Y, sample_weight=np.full(Y.shape, 7.0))
    assert ones.loss(theta) == pytest.approx(fg.Problem(net, X, Y).loss(theta), rel=1e-14)
    rows = np.random.default_rng(0).random(X.shape[0])
    by_row = fg.Problem(net, X, Y, sample_weight=rows)
    spread = fg.Problem(net, X, Y, sample_weight=np.repeat(rows[:, None], 3, axis=1))
    assert spread.loss(theta) == pytest.approx(by_row.loss(theta), rel=1e-13)


@pytest.mark.parametrize("solver", ["cholesky", "dual", "qr", "lsqr"])
def test_missing_targets_do_not_count(solver):
    X, Y, weights = samples(2, T=12)
    net = fg.MLP((2, 9, 3))
    theta0 = net.init(seed=0)
    holes = np.where(weights == 0.0, np.nan, Y)
    ends = []
    for targets in (holes, np.where(weights == 0.0, 1e3, Y)):
        problem = fg.Problem(net, X, targets, sample_weight=weights, l2=1e-4)
        ends.append(fg.train(problem, theta0, fg.LevenbergMarquardt(solver=solver), max_iter=15))
    assert ends[0].loss < 0.5 * ends[0].initial_loss
    assert ends[0].loss == pytest.approx(ends[1].loss, rel=1e-6)


def test_refusals():
    X, Y, weights = samples(3)
    net = fg.MLP((2, 4, 3))
    with pytest.raises(ValueError, match="Y\\[0, 0\\] is nan"):
        fg.Problem(net, X, np.full_like(Y, np.nan), sample_weight=np.ones_like(Y))
    with pytest.raises(ValueError, match="shape"):
        fg.Problem(net, X, Y, sample_weight=weights[:, :2])
    with pytest.raises(ValueError, match=">= 0"):
        fg.Problem(net, X, Y, sample_weight=-np.ones_like(Y))
    with pytest.raises(ValueError, match="zero for every target"):
        fg.Problem(net, X, Y, sample_weight=np.zeros_like(Y))
    with pytest.raises(ValueError, match="sums over the outputs"):
        fg.Problem(net, X, np.zeros(40, int), "softmax_cross_entropy", sample_weight=weights)
