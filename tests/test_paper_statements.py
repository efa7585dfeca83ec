"""Statements of the papers that no experiment shows, over random instances."""

import warnings

import numpy as np
import pytest

import fastggn as fg
from fastggn.analysis import linear
from papers import (
    full_rank,
    linear_convexity,
    null_space,
    path_sum,
    spin_glass,
    tracy_singh,
)

# --- Shen 2018: the Tracy-Singh form of P, and Remark 2 -----------------------------------------


def random_blocks(rng):
    n, n_L, m, T = (int(v) for v in rng.integers(1, 5, 4))
    ranks = rng.integers(0, min(n, n_L) + 1, T)
    Psi = [rng.standard_normal((n, r)) @ rng.standard_normal((r, n_L)) for r in ranks]
    r = int(rng.integers(0, min(m, T) + 1))
    return Psi, rng.standard_normal((m, r)) @ rng.standard_normal((r, T))


@pytest.mark.parametrize("seed", range(100))
def test_khatri_rao_by_tracy_singh(seed):
    """Three forms of one matrix, and ranks that multiply or add."""
    Psi, Phi = random_blocks(np.random.default_rng(seed))
    product = tracy_singh.khatri_rao(Psi, Phi)
    left, right = tracy_singh.factors(Psi, Phi)
    np.testing.assert_allclose(left @ right, product, atol=1e-13)
    np.testing.assert_array_equal(tracy_singh.selected(Psi, Phi), product)
    rank = np.linalg.matrix_rank
    assert rank(left) == len(Psi[0]) * rank(Phi)
    assert rank(right) == sum(rank(psi) for psi in Psi)
    whole = tracy_singh.tracy_singh(Psi, [phi[:, None] for phi in Phi.T])
    assert rank(whole) == rank(np.hstack(Psi)) * rank(Phi)
    assert rank(product) >= tracy_singh.rank_bound(Psi, Phi)


@pytest.mark.parametrize("bias", ["free", "none"])
@pytest.mark.parametrize("seed", range(10))
def test_row_blocks_of_the_jacobian(seed, bias):
    rng = np.random.default_rng(seed)
    widths = [int(v) for v in rng.integers(1, 5, int(rng.integers(2, 5)))]
    net = fg.MLP(widths, "tanh", bias=bias)
    X = rng.standard_normal((int(rng.integers(1, 5)), widths[0]))
    problem = fg.Problem(net, X, np.zeros((len(X), widths[-1])))
    theta = net.init(seed, "normal")
    inputs = problem.layer_outputs(theta)
    rows = [
        tracy_singh.khatri_rao(list(psi), inputs[layer])
        for layer, psi in enumerate(problem.layer_sensitivities(theta))
    ]
    dense = problem.jacobian(theta).to_dense()
    np.testing.assert_allclose(np.vstack(rows), dense.T, atol=1e-13)


@pytest.mark.parametrize("seed", range(50))
def test_full_rank_is_an_open_set(seed):
    """No point within the radius has a deficient rank, and one at the radius does."""
    rng = np.random.default_rng(seed)
    widths = [int(v) for v in rng.integers(1, 5, int(rng.integers(2, 5)))]
    net = fg.MLP(widths, "sigmoid")
    theta = net.init(seed, "normal")
    r = full_rank.radius(net, theta)
    assert r > 0.0
    for _ in range(20):
        move = rng.standard_normal(net.n_params)
        near = theta + 0.999 * r * move / np.linalg.norm(move)
        for W in full_rank.cores(net, near):
            assert np.linalg.matrix_rank(W, tol=1e-9 * r) == min(W.shape)
    layers = net.unpack(theta.copy())
    found = full_rank.cores(net, theta)
    worst = int(np.argmin([np.linalg.svd(W, compute_uv=False)[-1] for W in found]))
    left, values, right = np.linalg.svd(found[worst], full_matrices=False)
    edge = found[worst] - values[-1] * np.outer(left[:, -1], right[-1])
    layers[worst][:, : edge.shape[1]] = edge
    assert np.linalg.norm(net.pack(layers) - theta) == pytest.approx(r)
    assert full_rank.radius(net, net.pack(layers)) < 1e-12 * (1.0 + values[0])


@pytest.mark.parametrize("seed", range(30))
def test_full_rank_can_exclude_all_global_minima(seed):
    """The infimum is reached along a path of full rank, and no exact fit has full rank."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 5))
    rank, depth = int(rng.integers(1, n)), int(rng.integers(1, 4))
    case = full_rank.excluded(n, rank, depth, n_samples=n + int(rng.integers(0, 5)), seed=seed)
    problem = fg.Problem(case.net, case.X, case.Y)
    for t in (1.0, 1e-1, 1e-3):
        theta = case.approach(t)
        assert full_rank.radius(case.net, theta) > 0.0
        assert problem.loss(theta) == pytest.approx(t**2 * problem.loss(case.approach(1.0)))
    assert problem.loss(case.approach(0.0)) < 1e-24
    # Where training ends, the product of the least singular values has gone to zero.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fg.FastGGNWarning)  # singular systems: the exact fits
        found = fg.train(problem, seed=seed, max_iter=100, stop=fg.Stop(gradient=1e-12))
    if found.loss < 1e-20:
        layers = full_rank.cores(case.net, found.theta)
        assert np.prod([np.linalg.svd(W, compute_uv=False)[-1] for W in layers]) < 1e-8


def test_instances_of_no_such_kind_are_refused():
    for n, rank, depth, samples in ((2, 2, 1, 4), (3, 0, 1, 4), (3, 1, 0, 4), (3, 1, 2, 2)):
        with pytest.raises(ValueError, match="rank"):
            full_rank.excluded(n, rank, depth, n_samples=samples)


# --- Kawaguchi 2016: Theorem 2.3 (i), Eq. (1), Proposition 3.1 ----------------------------------


@pytest.mark.parametrize("seed", range(100))
def test_the_loss_is_neither_convex_nor_concave(seed):
    """Along two segments through the witness, by values of the loss alone, and by the Hessian."""
    rng = np.random.default_rng(seed)
    widths = [int(v) for v in rng.integers(1, 5, int(rng.integers(3, 6)))]
    T = int(rng.integers(1, 6))
    X, Y = rng.standard_normal((T, widths[0])), rng.standard_normal((T, widths[-1]))
    if seed % 3 == 0:
        Y = np.zeros_like(Y)  # nothing to fit: still a saddle of s t
    if seed % 5 == 0:
        X[:, 1:] = 0.0  # no full rank
    found = linear_convexity.indefinite_point(X, Y, widths)

    def loss(direction, t):
        signal = X.T
        for W, V in zip(found.weights, direction, strict=True):
            signal = (W + t * V) @ signal
        return 0.5 * np.sum((signal - Y.T) ** 2)

    size = loss(found.up, 0.0) + abs(found.curvatures[0])
    t = 1e-3
    for direction, curvature in zip((found.up, found.down), found.curvatures, strict=True):
        bend = loss(direction, t) - 2.0 * loss(direction, 0.0) + loss(direction, -t)
        assert bend / t**2 == pytest.approx(curvature, rel=1e-3, abs=1e-5 * size)
    assert found.curvatures[0] > 0.0 > found.curvatures[1]
    values = np.linalg.eigvalsh(linear.hessian(found.weights, X, Y))
    assert values[0] < 0.0 < values[-1]


def test_a_witness_needs_inputs_and_a_hidden_layer():
    with pytest.raises(ValueError, match="zero"):
        linear_convexity.indefinite_point(np.zeros((2, 2)), np.ones((2, 1)), (2, 1, 1))
    with pytest.raises(ValueError, match="widths"):
        linear_convexity.indefinite_point(np.ones((2, 2)), np.ones((2, 1)), (2, 1))


@pytest.mark.parametrize("seed", range(30))
def test_outputs_are_sums_over_paths(seed):
    rng = np.random.default_rng(seed)
    widths = [int(v) for v in rng.integers(1, 4, int(rng.integers(2, 6)))]
    net = fg.MLP(widths, "relu", bias="none")
    theta, X = net.init(seed, "normal"), rng.standard_normal((5, widths[0]))
    weights = net.unpack(theta)
    Z = path_sum.active_paths(weights, X)
    assert Z.shape == (5, np.prod(widths[:-1]))
    np.testing.assert_allclose(path_sum.path_sum(weights, X, Z), net.predict(theta, X), atol=1e-12)
    linear_net = fg.MLP(widths, "identity", bias="none")
    every = path_sum.path_sum(weights, X, np.ones_like(Z), q=0.5)
    np.testing.assert_allclose(every, 0.5 * linear_net.predict(theta, X), atol=1e-12)


def test_paths_are_not_independent_of_weights_and_samples():
    """What A5u-m assumes away: doubling a sample changes no Z, its negative changes them."""
    rng = np.random.default_rng(0)
    weights = [rng.standard_normal(s) for s in ((4, 3), (3, 4), (2, 3))]
    X = rng.standard_normal((50, 3))
    Z = path_sum.active_paths(weights, X)
    np.testing.assert_array_equal(path_sum.active_paths(weights, 2.0 * X), Z)
    # A path and its opposite are never both active: A1p-m's rho would allow it.
    assert not (Z & path_sum.active_paths(weights, -X)).any()


@pytest.mark.parametrize("seed", range(20))
def test_minima_on_the_circle(seed):
    """All of them, by a fine grid of the angle."""
    couplings = spin_glass.draw(2, 3, seed)
    angle = np.linspace(0.0, 2.0 * np.pi, 20_001)[:-1]
    values = spin_glass.losses(couplings, np.column_stack([np.cos(angle), np.sin(angle)]))
    low = (values < np.roll(values, 1)) & (values < np.roll(values, -1))
    found = spin_glass.local_minima(couplings)
    np.testing.assert_allclose(found, np.sort(values[low]), atol=1e-6)


def test_counts_of_minima_agree_with_kac_rice():
    """Searches on 40 instances against random matrices, above four levels."""
    n, p, instances = 4, 3, 40
    levels = np.array([-10.0, -1.6, -1.2, -0.8])
    found = [spin_glass.local_minima(spin_glass.draw(n, p, seed)) for seed in range(instances)]
    counts = np.array([(values > levels[:, None]).sum(axis=1) for values in found])
    expected, error = spin_glass.expected_minima(n, p, levels)
    spread = counts.std(axis=0, ddof=1) / np.sqrt(instances)
    assert (np.abs(counts.mean(axis=0) - expected) < 4.0 * np.hypot(spread, error)).all()


def test_a_quadratic_form_has_two_minima():
    """p = 2: plus and minus the lowest eigenvector, whatever the size."""
    for n in (2, 5, 9):
        numbers, _ = spin_glass.expected_minima(n, 2, [-10.0], draws=10)
        assert numbers[0] == pytest.approx(2.0)


def test_minima_grow_rare_above_the_threshold():
    """Proposition 3.1: a step up in the loss divides their number, the more the higher and wider.

    That is faster than exponentially; below the threshold no such factor holds.
    """
    levels = np.array([-1.6, -1.4, -1.2, -1.0])
    assert -spin_glass.threshold(3) < levels[0]
    numbers = [spin_glass.expected_minima(n, 3, levels, draws=20_000)[0] for n in (6, 10, 14)]
    factors = np.array([row[:-1] / row[1:] for row in numbers])
    assert (np.diff(factors, axis=0) > 0.0).all() and (np.diff(factors, axis=1) > 0.0).all()
    assert factors[1, -1] > 3.0 and factors[2, -1] > 6.0


# --- O'Leary-Roseberry and Ghattas 2020, Section 2.1: the regulariser beside methods without it --


def test_orders_of_known_residuals():
    assert null_space.order(np.array([0.5 ** (2**k) for k in range(6)])) == pytest.approx(2.0)
    assert null_space.order(np.array([0.3**k for k in range(8)])) == pytest.approx(1.0)
    assert null_space.order(np.array([1.0, 2.0, 0.5])) is None
    assert null_space.order(np.array([1.0, 0.1, 1e-20])) is None


def test_the_regulariser_has_no_advantage_in_counts():
    """Near a fit all of second order agree to a few iterations, and the damping is ahead."""
    config = {**null_space.QUICK, "starts": 4, "iterations": 30}
    result = null_space.run(config, lambda line: None)
    near = {row["method"]: row for row in null_space.table(result, "near")}
    for name in ("lifted", "cut", "newton", "lm", "ggn"):
        assert near[name]["fits"] == 4 and near[name]["order"] > 1.7
        assert near["lm"]["median"] <= near[name]["median"] <= near["lm"]["median"] + 5.0
    assert near["damped"]["fits"] == 0 and near["damped"]["order"] == pytest.approx(1.0, abs=0.1)
    far = {row["method"]: row for row in null_space.table(result, "far")}
    assert far["lm"]["fits"] == 4 and far["lm"]["fits"] >= far["lifted"]["fits"]


def test_fixed_damping_is_that_of_dense_steps():
    rng = np.random.default_rng(0)
    net = fg.MLP((1, 3, 1))
    X = rng.standard_normal((5, 1))
    problem, theta = fg.Problem(net, X, X**2), net.init(0)
    end, losses = null_space.damped_newton(problem, theta, 3, 0.1)
    for loss in losses:
        assert loss == pytest.approx(problem.loss(theta), rel=1e-12)
        last, H = theta, problem.hessian(theta) + 0.1 * np.eye(net.n_params)
        theta = theta - np.linalg.inv(H) @ problem.gradient(theta)
    np.testing.assert_allclose(end, last, atol=1e-12)
