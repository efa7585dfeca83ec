"""Deep linear networks: Lemmas 4.1 to 4.6 of Kawaguchi (2016), values, classes, escapes."""

import itertools
import json
from math import comb

import numpy as np
import pytest

import fastggn as fg
from fastggn.analysis import linear
from papers.linear_conditions import conditions
from papers.linear_gates import gated_reduction

DIAGONAL = np.eye(2), np.diag([3.0, 1.0])


def data(rng, d_x=None, d_y=None):
    """Samples that satisfy the hypotheses of Theorem 2.3."""
    d_x = d_x or int(rng.integers(1, 5))
    d_y = d_y or int(rng.integers(1, d_x + 1))
    T = d_x + int(rng.integers(0, 4))
    return rng.standard_normal((T, d_x)), rng.standard_normal((T, d_y))


def widths_of(rng, X, Y, H=None):
    H = H or int(rng.integers(1, 4))
    return (X.shape[1], *(int(d) for d in rng.integers(1, 4, H)), Y.shape[1])


def naive_loss(weights, X, Y):
    out = X
    for w in weights:
        out = out @ w.T
    return 0.5 * np.sum((out - Y) ** 2)


def regauge(rng, weights):
    """B W_k, W_{k+1} B^-1 between all layers: a critical point stays one."""
    weights = [w.copy() for w in weights]
    for k in range(len(weights) - 1):
        B = np.eye(weights[k].shape[0]) + 0.3 * rng.standard_normal((weights[k].shape[0],) * 2)
        weights[k] = B @ weights[k]
        weights[k + 1] = weights[k + 1] @ np.linalg.inv(B)
    return weights


def constructed(rng):
    """A random critical point: data, weights, modes, order."""
    X, Y = data(rng)
    widths = widths_of(rng, X, Y)
    p, d_y = min(widths[1:-1]), Y.shape[1]
    q = int(rng.integers(0, min(p, d_y) + 1))
    modes = sorted(int(i) for i in rng.choice(d_y, q, replace=False))
    order = int(rng.integers(2, len(widths)))
    weights = linear.construct(X, Y, widths, modes, order=order, seed=int(rng.integers(1 << 30)))
    return X, Y, regauge(rng, weights), modes, order, p


def expected(modes, order, p, d_y):
    """Top modes, as many as fit: global. Top modes closed in three layers or more: bad."""
    top = modes == list(range(len(modes)))
    if top and len(modes) == min(p, d_y):
        return "global_minimum"
    if top and len(modes) < p and order > 2:
        return "bad_saddle"
    return "strict_saddle"


# --- Lemmas 4.1 and 4.3 -----------------------------------------------------------------------


@pytest.mark.slow
def test_derivatives_on_1000_instances():
    """Lemma 4.1 and Lemma 4.3, extended to all pairs of layers, against the package's kernels."""
    rng = np.random.default_rng(0)
    for _ in range(1000):
        X, Y = data(rng)
        widths = widths_of(rng, X, Y)
        net = fg.MLP(widths, activation="identity", bias="none")
        theta = rng.standard_normal(net.n_params)
        problem, T = fg.Problem(net, X, Y), len(X)
        weights = net.unpack(theta)
        got = np.concatenate([g.ravel() for g in linear.gradient_blocks(weights, X, Y)])
        want = T * problem.gradient(theta)
        assert np.abs(got - want).max() <= 1e-11 * (1.0 + np.abs(want).max())
        H, want = linear.hessian(weights, X, Y), T * problem.hessian(theta)
        assert np.abs(H - want).max() <= 1e-11 * (1.0 + np.abs(want).max())


# --- Lemmas 4.2, 4.4, 4.6 and Corollary 4.5 ---------------------------------------------------


@pytest.mark.slow
def test_lemmas_on_1000_critical_points():
    rng, semidefinite, zero_rank, larger = np.random.default_rng(1), 0, 0, 0
    singular = 0
    for trial in range(1000):
        X, Y, weights, modes, order, p = constructed(rng)
        found = conditions(weights, X, Y)
        case = (trial, modes, order, [w.shape for w in weights])
        assert found.critical, case
        assert found.representation_error < 1e-8, case
        assert found.rank == len(modes) and found.modes == tuple(modes), case
        zero_rank += found.rank == 0
        singular += found.rank < weights[0].shape[0]
        larger += any(i >= min(Y.shape[1], p) for i in modes)
        values = np.linalg.eigvalsh(linear.hessian(weights, X, Y))
        flat = 1e-9 * np.abs(values).max()
        if values[0] >= -flat or values[-1] <= flat:
            assert all(c.lemma_4_4 and c.corollary_4_5 for c in found.layers), case
        if values[0] >= -flat:
            semidefinite += 1
            assert found.lemma_4_6, case
        else:  # each failed condition proves a negative eigenvalue, none needs to fail
            assert values[0] < 0.0
    # Errata: C^T C is mostly singular (Lemma 4.2 prints its inverse), rank(C) may be 0, and modes
    # above min(d_y, p) occur.
    assert singular > 500
    assert zero_rank > 50 and larger > 50 and semidefinite > 200


def newton_root(rng, X, Y, widths):
    """A critical point found by Newton's iteration on the gradient, or None."""
    net = fg.MLP(widths, activation="identity", bias="none")
    problem, theta = fg.Problem(net, X, Y), rng.standard_normal(net.n_params)
    for _ in range(60):
        g, H = problem.gradient(theta), problem.hessian(theta)
        step = np.linalg.lstsq(H, g, rcond=1e-9)[0]
        theta = theta - step * min(1.0, 1.0 / max(np.linalg.norm(step), 1e-300))
        if np.linalg.norm(g) < 1e-13:
            return net.unpack(theta)
    return None


def test_lemmas_on_critical_points_that_were_found():
    rng, found = np.random.default_rng(2), 0
    for _ in range(80):
        X, Y = data(rng)
        widths = widths_of(rng, X, Y)
        weights = newton_root(rng, X, Y, widths)
        if weights is None or min(np.linalg.norm(w) for w in weights) < 1e-3:
            continue
        found += 1
        kept = conditions(weights, X, Y, tol=1e-6)
        assert kept.critical and kept.representation_error < 1e-5
        values = linear.critical_values(X, Y, widths)
        loss = naive_loss(weights, X, Y)
        assert np.abs(values - loss).min() < 1e-8 * (1.0 + values[-1])
    assert found > 25


def test_theorem_2_3_iv():
    """rank(W_H ... W_2) = p at a saddle: a negative eigenvalue. The converse is false."""
    rng = np.random.default_rng(3)
    for _ in range(200):
        X, Y, weights, *_ = constructed(rng)
        got = linear.classify(weights, X, Y)
        if got.inner_rank == got.p:
            assert got.label in ("global_minimum", "strict_saddle")
    for seed in range(20):
        X, Y = data(rng, 3, 2)
        got = linear.classify(linear.construct(X, Y, (3, 2, 2, 2), [1], seed=seed), X, Y)
        assert got.inner_rank < got.p and got.label == "strict_saddle"
        X, Y = data(rng, 3, 1)
        got = linear.classify(linear.construct(X, Y, (3, 2, 2, 1), [0], seed=seed), X, Y)
        assert got.inner_rank < got.p and got.label == "global_minimum"


# --- values -----------------------------------------------------------------------------------


def test_critical_values_are_all_attained():
    rng = np.random.default_rng(4)
    for _ in range(30):
        X, Y = data(rng)
        widths = widths_of(rng, X, Y)
        p, d_y = min(widths[1:-1]), Y.shape[1]
        values = linear.critical_values(X, Y, widths)
        count = sum(comb(d_y, q) for q in range(min(p, d_y) + 1))
        assert len(values) == count and (np.diff(values) > 0).all()
        met = []
        for size in range(min(p, d_y) + 1):
            for modes in itertools.combinations(range(d_y), size):
                met.append(naive_loss(linear.construct(X, Y, widths, modes), X, Y))
        np.testing.assert_allclose(np.sort(met), values, atol=1e-11 * (1 + values[-1]))


def test_seven_values_for_two_units_and_three_outputs():
    X, Y = data(np.random.default_rng(5), 4, 3)
    assert len(linear.critical_values(X, Y, (4, 2, 3))) == 7
    assert len(linear.critical_values(X, Y, (4, 3, 2, 3))) == 7


@pytest.mark.filterwarnings("ignore::fastggn.SingularSystemWarning")
def test_global_minimum_is_what_training_finds():
    rng = np.random.default_rng(6)
    for H in (1, 2, 3):
        X, Y = data(rng, 4, 3)
        widths = (4, *[2] * H, 3)
        net = fg.MLP(widths, activation="identity", bias="none")
        best = min(
            fg.train(fg.Problem(net, X, Y), seed=seed, max_iter=200).loss for seed in range(3)
        )
        assert len(X) * best == pytest.approx(linear.critical_values(X, Y, widths)[0], rel=1e-8)


def test_equation_2_of_olleary_roseberry_and_ghattas():
    """The truncated SVD of the least-squares map is strictly worse, unless X X^T ~ I."""
    rng = np.random.default_rng(7)
    for trial in range(200):
        X, Y = rng.standard_normal((10, 4)), rng.standard_normal((10, 3))
        rank = int(rng.integers(1, 3))
        best, value = linear.best_map(X, Y, rank)
        assert 0.5 * np.sum((X @ best.T - Y) ** 2) == pytest.approx(value, rel=1e-12)
        u, s, vt = np.linalg.svd(np.linalg.lstsq(X, Y, rcond=None)[0].T, full_matrices=False)
        printed = (u[:, :rank] * s[:rank]) @ vt[:rank]
        assert 0.5 * np.sum((X @ printed.T - Y) ** 2) > value + 1e-6
        if trial % 20:
            continue
        # Alternating least squares ends at the projection formula.
        W1, W0 = rng.standard_normal((3, rank)), None
        for _ in range(400):
            W0 = np.linalg.pinv(W1) @ np.linalg.lstsq(X, Y, rcond=None)[0].T
            W1 = np.linalg.lstsq(X @ W0.T, Y, rcond=None)[0].T
        assert 0.5 * np.sum((X @ (W1 @ W0).T - Y) ** 2) <= value * (1 + 1e-2) + 1e-9
    q = np.linalg.qr(rng.standard_normal((10, 4)))[0]
    u, s, vt = np.linalg.svd((q.T @ Y).T, full_matrices=False)
    np.testing.assert_allclose(linear.best_map(q, Y, 1)[0], s[0] * np.outer(u[:, 0], vt[0]))


def test_data_beyond_the_hypotheses():
    """Singular X X^T, d_y > d_x, equal eigenvalues: values and margins still come out."""
    rng = np.random.default_rng(8)
    X = rng.standard_normal((8, 2)) @ rng.standard_normal((2, 3))
    found = linear.hypotheses(X, rng.standard_normal((8, 2)))
    assert not found["XX^T full rank"].holds and found["XX^T full rank"].margin < 1e-14
    found = linear.hypotheses(np.eye(2), np.eye(2))
    assert not found["distinct eigenvalues"].holds and found["d_y <= d_x"].holds
    np.testing.assert_allclose(
        linear.critical_values(np.eye(2), np.eye(2), (2, 2, 2)), [0.0, 0.5, 1.0], atol=1e-15
    )
    wide = linear.hypotheses(rng.standard_normal((5, 1)), rng.standard_normal((5, 2)))
    assert not wide["d_y <= d_x"].holds and wide["d_y <= d_x"].margin == -1.0
    Y = rng.standard_normal((8, 2))
    net = fg.MLP((3, 2, 2), activation="identity", bias="none")
    trained = fg.train(fg.Problem(net, X, Y), seed=0)
    least = linear.critical_values(X, Y, (3, 2, 2))[0]
    assert 8 * trained.loss == pytest.approx(least, rel=1e-8)
    assert linear.classify(net.unpack(trained.theta), X, Y).label == "global_minimum"


# --- classification ---------------------------------------------------------------------------


@pytest.mark.parametrize("H", [1, 2, 3])
def test_classification_of_constructed_points(H):
    rng, seen = np.random.default_rng(10 + H), set()
    for trial in range(12):
        X, Y = data(rng, 4, 3)
        widths = (4, *(int(d) for d in rng.integers(2, 5, H)), 3)
        p = min(widths[1:-1])
        for size in range(min(p, 3) + 1):
            for modes in itertools.combinations(range(3), size):
                order = 2 + trial % H
                weights = linear.construct(X, Y, widths, modes, order=order, seed=trial)
                got = linear.classify(regauge(rng, weights), X, Y)
                assert got.label == expected(list(modes), order, p, 3), (widths, modes, order)
                seen.add(got.label)
                if got.label == "strict_saddle":
                    step = [1e-3 * d for d in got.descent_direction]
                    at = linear.classify(regauge(rng, weights), X, Y)
                    assert at.lowest_eigenvalue < 0.0 and len(step) == H + 1
    want = {"global_minimum", "strict_saddle"} | ({"bad_saddle"} if H > 1 else set())
    assert seen == want


def test_the_two_bad_saddles_and_their_neighbours():
    """X = I, Y = diag(3, 1): W = 0, and W_k = 3^(1/3) e1 e1^T, at H = 2; strict ones beside."""
    X, Y = DIAGONAL
    zero = [np.zeros((2, 2))] * 3
    assert np.abs(linear.hessian(zero, X, Y)).max() == 0.0
    assert linear.classify(zero, X, Y).label == "bad_saddle"
    first = [3.0 ** (1 / 3) * np.diag([1.0, 0.0])] * 3
    got = linear.classify(first, X, Y)
    assert got.label == "bad_saddle" and got.loss == pytest.approx(0.5)
    assert "Corollary 2.4" in got.reason and all(h.holds for h in got.hypotheses.values())
    values = np.linalg.eigvalsh(linear.hessian(first, X, Y))
    assert values[0] > -1e-13 and values[-1] == pytest.approx(12.98, abs=0.01)
    assert np.count_nonzero(np.abs(values) < 1e-9) == 9
    opened = [w + 0.1 * np.diag([0.0, 1.0]) for w in first]
    assert naive_loss(opened, X, Y) - got.loss == pytest.approx(-1.0e-3, abs=1e-5)
    second = linear.classify([np.diag([0.0, 1.0])] * 3, X, Y)
    assert second.label == "strict_saddle"
    assert second.lowest_eigenvalue == pytest.approx(-2.0)
    shallow = linear.classify([np.zeros((2, 2))] * 2, X, Y)
    assert shallow.label == "strict_saddle"
    assert shallow.lowest_eigenvalue == pytest.approx(-3.0)


def test_critical_points_known_to_a_few_digits():
    """Bad saddles approached by Newton's iteration on the gradient from 1e-5 away."""
    rng = np.random.default_rng(21)
    for trial in range(40):
        X, Y = data(rng, 3, 2)
        H = 2 + trial % 2
        widths = (3, *[2] * H, 2)
        net = fg.MLP(widths, activation="identity", bias="none")
        problem = fg.Problem(net, X, Y)
        theta = net.pack(linear.construct(X, Y, widths, [0], seed=trial))
        theta = theta + 1e-5 * rng.standard_normal(theta.size)
        for _ in range(3):
            step = np.linalg.lstsq(problem.hessian(theta), problem.gradient(theta), rcond=1e-3)[0]
            theta = theta - step
        got = linear.classify(net.unpack(theta), X, Y)
        assert got.label == "bad_saddle", (trial, got)


def test_other_points_are_not_critical():
    X, Y = DIAGONAL
    rng = np.random.default_rng(9)
    weights = [rng.standard_normal((2, 2)) for _ in range(3)]
    got = linear.classify(weights, X, Y)
    assert got.label == "not_critical" and "Lemma 4.1" in got.reason
    near = [1e-3 * rng.standard_normal((2, 2)) for _ in range(3)]
    assert linear.classify(near, X, Y).label == "not_critical"
    noise = [1e-14 * rng.standard_normal((2, 2)) for _ in range(3)]
    assert linear.classify(noise, X, Y).label == "bad_saddle"
    assert json.loads(json.dumps(got.to_dict()))["label"] == "not_critical"
    assert "not_critical" in str(got) and "critical: False" in str(conditions(weights, X, Y))


def test_the_package_agrees_on_the_global_minimum_whatever_its_loss():
    X, Y = data(np.random.default_rng(11), 3, 2)
    got = linear.classify(linear.construct(X, Y, (3, 1, 2), [0]), X, Y)
    assert got.label == "global_minimum" and got.loss > 0.01


@pytest.mark.parametrize("order", [2, 3, 4])
def test_order_of_a_saddle(order):
    """Along a path opened by t in all its closed layers the loss falls like t^order."""
    X, Y = data(np.random.default_rng(12), 3, 3)
    weights = linear.construct(X, Y, (3, 2, 2, 2, 3), [0], order=order)
    first = linear.Regression(X, Y)
    u, v = first.U[:, 1], first.U[:, 1] @ first.map
    from fastggn.analysis.linear.saddles import closed_layers

    closed = closed_layers(order, 4)
    changes = []
    for t in (0.02, 0.04):
        opened = [w.copy() for w in weights]
        for k in closed:
            path = {1: np.outer([0, 1], v), 4: np.outer(u, [0, 1])}
            opened[k - 1] = opened[k - 1] + t * path.get(k, np.diag([0.0, 1.0]))
        changes.append(naive_loss(opened, X, Y) - naive_loss(weights, X, Y))
    assert changes[0] < 0.0
    assert np.log2(changes[1] / changes[0]) == pytest.approx(order, abs=0.05)


# --- escape -----------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::fastggn.SingularSystemWarning")
@pytest.mark.slow
def test_escape_from_bad_saddles():
    rng, bad = np.random.default_rng(13), 0
    for trial in range(60):
        X, Y = data(rng, 4, 3)
        H = 2 + trial % 2
        widths = (4, *(int(d) for d in rng.integers(2, 4, H)), 3)
        p, order = min(widths[1:-1]), 3 + (trial // 2) % (H - 1)
        modes = list(range(int(rng.integers(0, p))))
        weights = linear.construct(X, Y, widths, modes, order=order, seed=trial)
        assert linear.classify(weights, X, Y).label == "bad_saddle"
        bad += 1
        way = linear.escape(weights, X, Y, size=0.1, seed=trial)
        assert way.loss_perturbed == pytest.approx(way.loss_before, rel=1e-12)
        assert naive_loss(way.perturbed, X, Y) == pytest.approx(way.loss_before, rel=1e-12)
        assert way.raised_layers and way.way in ("gradient", "negative_curvature")
        assert sum(way.inner_ranks[1]) > sum(way.inner_ranks[0])
        # Descent is shown: by the line search, and by training from there to the global minimum.
        assert way.loss_after < way.loss_before - 1e-9 * way.loss_before
        net = fg.MLP(widths, activation="identity", bias="none")
        result = fg.train(fg.Problem(net, X, Y), net.pack(way.weights), max_iter=60)
        assert len(X) * result.loss < way.loss_before - 1e-9
    assert bad == 60


def test_escape_by_a_small_perturbation():
    """Arbitrarily small: the loss stays to the last bit or so, and the descent is there."""
    X, Y = DIAGONAL
    for size in (1e-1, 1e-3):
        way = linear.escape([3.0 ** (1 / 3) * np.diag([1.0, 0.0])] * 3, X, Y, size=size)
        assert way.loss_perturbed == pytest.approx(0.5, rel=1e-14)
        assert way.loss_after < 0.5
        assert "loss" in str(way) and json.dumps(way.to_dict())


def test_nothing_to_escape_from_at_a_global_minimum():
    X, Y = data(np.random.default_rng(14), 3, 2)
    way = linear.escape(linear.construct(X, Y, (3, 2, 2, 2), [0, 1], seed=0), X, Y)
    assert way.way == "none" and way.loss_after == pytest.approx(way.loss_before, rel=1e-12)


def test_layerwise_convexity():
    """Proposition 2.1 (i): blocks of the Hessian are semidefinite; midpoints lie below chords."""
    rng = np.random.default_rng(15)
    for _ in range(100):
        X, Y = data(rng)
        widths = widths_of(rng, X, Y)
        shapes = list(zip(widths[1:], widths[:-1], strict=True))
        weights = [rng.standard_normal(s) for s in shapes]
        H, start = linear.hessian(weights, X, Y), 0
        for k, ((low, high), shape) in enumerate(
            zip(linear.layer_curvatures(weights, X, Y), shapes, strict=True)
        ):
            size = shape[0] * shape[1]
            values = np.linalg.eigvalsh(H[start : start + size, start : start + size])
            start += size
            assert low >= 0.0
            np.testing.assert_allclose([low, high], values[[0, -1]], atol=1e-10 * (1 + high))
            other = rng.standard_normal(shape)
            ends = [weights[:k] + [w] + weights[k + 1 :] for w in (weights[k], other)]
            middle = weights[:k] + [0.5 * (weights[k] + other)] + weights[k + 1 :]
            chord = 0.5 * sum(naive_loss(w, X, Y) for w in ends)
            assert naive_loss(middle, X, Y) <= chord * (1 + 1e-12)


def test_the_loss_is_neither_convex_nor_concave():
    """Theorem 2.3 (i)."""
    X, Y = DIAGONAL
    values = np.linalg.eigvalsh(linear.hessian([np.diag([0.0, 1.0])] * 3, X, Y))
    assert values[0] < -1.0 and values[-1] > 1.0


# --- Corollary 3.2 ----------------------------------------------------------------------------


@pytest.mark.parametrize("gate_output", [False, True])
@pytest.mark.parametrize("H", [1, 2, 3])
def test_reduction_of_random_gates(H, gate_output):
    """A path is active with probability rho^H (rho^(H+1)): q = 1 / rho is wrong for H > 1."""
    rng = np.random.default_rng(16 + H)
    X, Y = rng.standard_normal((4, 3)), rng.standard_normal((4, 2))
    weights = [rng.standard_normal(s) for s in zip((*[3] * H, 2), (3,) * (H + 1), strict=True)]
    got = gated_reduction(weights, X, Y, 0.6, gate_output=gate_output, n_draws=4000)
    assert got.path_probability == pytest.approx(0.6 ** (H + gate_output))
    assert got.mean_error < 4.5
    assert got.loss_of_mean == pytest.approx(naive_loss(weights, X, Y))
    # Erratum: the corollary is about |E Yhat - Y|^2, not about E |Yhat - Y|^2.
    assert got.mean_loss == pytest.approx(got.estimated_loss_of_mean + 0.5 * got.variance, rel=1e-3)
    assert got.mean_loss > 1.2 * got.loss_of_mean
    assert json.loads(json.dumps(got.to_dict()))["n_draws"] == 4000 and "variance" in str(got)


def test_gates_by_enumeration():
    """All 2^4 gate patterns of a small network: the exact mean and variance."""
    rng = np.random.default_rng(20)
    X, Y, rho = rng.standard_normal((1, 2)), rng.standard_normal((1, 1)), 0.5
    W = [rng.standard_normal(s) for s in ((2, 2), (2, 2), (1, 2))]
    outputs = []
    for gates in itertools.product([0, 1], repeat=4):
        h = np.array(gates[:2]) * (W[0] @ X[0])
        outputs.append((W[2] @ (np.array(gates[2:]) * (W[1] @ h)))[0] / rho**2)
    assert np.mean(outputs) == pytest.approx((W[2] @ W[1] @ W[0] @ X[0])[0])
    got = gated_reduction(W, X, Y, rho, n_draws=20_000)
    assert got.variance == pytest.approx(np.var(outputs), rel=0.1)


# --- bad input --------------------------------------------------------------------------------


def test_bad_input():
    X, Y = DIAGONAL
    good = [np.zeros((2, 2))] * 2
    for call, words in [
        (lambda: linear.critical_values(X, Y, (2, 2)), "widths"),
        (lambda: linear.critical_values(X, Y, (3, 2, 2)), "widths"),
        (lambda: linear.critical_values(X, Y[:1], (2, 2, 2)), "shape"),
        (lambda: linear.critical_values(X * np.nan, Y, (2, 2, 2)), "nan"),
        (lambda: linear.classify([np.zeros((2, 2))], X, Y), "two"),
        (lambda: linear.classify([np.zeros((2, 2)), np.zeros((2, 3))], X, Y), r"weights\[1\]"),
        (lambda: linear.classify(good, X, Y, tol=0.0), "tol"),
        (lambda: linear.construct(X, Y, (2, 1, 2), [0, 1]), "1 units"),
        (lambda: linear.construct(X, Y, (2, 2, 2), [2]), "modes"),
        (lambda: linear.construct(X, Y, (2, 2, 2), [0], order=3), "order"),
        (lambda: linear.escape(good, X, Y, size=-1.0), "size"),
        (lambda: gated_reduction(good, X, Y, 0.0), "rho"),
        (lambda: gated_reduction(good, X, Y, 0.5, n_draws=1), "n_draws"),
        (lambda: linear.best_map(X, Y, -1), "rank"),
    ]:
        with pytest.raises(ValueError, match=words):
            call()
    many = np.random.default_rng(0).standard_normal((30, 30))
    with pytest.raises(ValueError, match="critical values"):
        linear.critical_values(many, many, (30, 30, 30))
