"""Labels of critical points whose type is known by proof: false ones were given once."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest
from known_labels import FAMILIES
from scipy.linalg import null_space

import fastggn as fg

# Some instances in the default tier, and a hundred in all.
HUNDRED = pytest.mark.parametrize(
    ("first", "count"), [(0, 20), pytest.param(20, 100, marks=pytest.mark.slow)]
)


def _chain(depth, x, y, **options):
    net = fg.MLP((1,) * (depth + 1), activation="identity", bias="none")
    return fg.Problem(net, np.array([[v] for v in x]), np.array(y, dtype=float), **options)


@pytest.mark.parametrize("depth", [3, 8, 11, 12, 14])
def test_a_chain_at_zero_is_no_minimum(depth):
    """The loss (1 - prod w)^2 / 2 falls along w = s, though all derivatives below it vanish."""
    problem = _chain(depth, (-1.0, 1.0), (-1.0, 1.0))
    assert fg.critical_point(problem, np.zeros(depth)).label in ("saddle", "degenerate")


def test_a_saturated_exact_fit_is_at_infinity():
    """No finite v, w fit v tanh w = v tanh 2w = 1: at w = 20 both hold to the last digit."""
    net = fg.MLP((1, 1, 1), bias="none")
    problem = fg.Problem(net, np.array([[1.0], [2.0]]), np.ones(2))
    assert fg.critical_point(problem, [20.0, 1.0]).label == "diverging"


@pytest.mark.parametrize("residual", [28.0, 40.0])
def test_an_underflowed_gradient_is_no_critical_point(residual):
    net = fg.MLP((1, 1), bias="none")
    problem = fg.Problem(net, np.ones((1, 1)), [residual], loss="blake_zisserman")
    label = fg.critical_point(problem, [0.0]).label
    assert label in ("not_critical", "degenerate")


def test_no_underflowed_gradient_is_critical():
    """100 networks whose outputs miss all targets by more than 27.3: exp(-r^2) underflows."""
    for seed in range(100):
        rng = np.random.default_rng(seed)
        n, h, T = (int(k) for k in rng.integers(1, 5, 3))
        net = fg.MLP((n, h, 1) if seed % 2 else (n, 1))
        X, theta = rng.normal(size=(T, n)), rng.normal(size=net.n_params)
        missed = rng.choice([-1.0, 1.0], T) * rng.uniform(27.5, 300.0, T)
        Y = net.predict(theta, X)[:, 0] + missed
        problem = fg.Problem(net, X, Y, loss="blake_zisserman")
        assert fg.critical_point(problem, theta).label in ("not_critical", "degenerate")


def test_saturated_exact_fits_are_at_infinity():
    """100 fits v tanh(w x) = v, or by sigmoid, to the last digit or nearly."""
    for seed in range(100):
        problem, theta, *_ = FAMILIES["saturated"](np.random.default_rng(seed))
        assert fg.critical_point(problem, theta).label in ("diverging", "not_critical"), seed


# Ends of runs of F(2,2,1) on XOR at |theta| of 64 to 67: two samples are fitted in the limit, two
# have outputs of 1/2, and slopes and curvature are below rounding. Weights by rows of a unit.
LOST = [
    [6.97593347, -38.86651414, -4.76936781, 12.46051521, 39.43872699, -2.94502162,
     20.19727034, 19.10198688, -19.10198688],
    [-39.49545074, -7.45554233, 2.24880699, -39.60821546, 6.86515594, -4.58851741,
     -20.7029073, 20.5355492, 0.0],
]  # fmt: skip


@pytest.mark.parametrize("theta", LOST)
@pytest.mark.parametrize("size", [0.8, 0.9, 1.0, 1.2])
def test_xor_with_lost_slopes_is_on_the_way_to_infinity(theta, size):
    X, Y = fg.data.xor()
    net = fg.MLP((2, 2, 1), "sigmoid", "sigmoid")
    report = fg.critical_point(fg.Problem(net, X, Y), size * np.array(theta))
    assert report.label == "diverging", str(report)
    assert report.loss == pytest.approx(1 / 16, abs=1e-9)


def saturated_groups(rng):
    """One unit that separates two groups of samples, and the best output for each of them.

    The slopes by the unit's weights are sums of e v sigma'(z) x of one dominant term: nowhere zero,
    but below all rounding where the weights are large.
    """
    loss = str(rng.choice(["squared", "huber", "logistic", "softmax_cross_entropy"]))
    hidden = str(rng.choice(["tanh", "sigmoid"]))
    m, T, n = 3 if loss.startswith("softmax") else 1, int(rng.integers(4, 8)), 2
    normal = rng.normal(size=n)
    normal /= np.linalg.norm(normal)
    X = rng.normal(size=(2 * T, n))
    side = np.repeat([-1.0, 1.0], T)
    X += ((side * rng.uniform(0.5, 1.5, 2 * T)) - X @ normal)[:, None] * normal
    if loss in ("squared", "huber"):
        Y = side + rng.uniform(-0.4, 0.4, 2 * T)
        outputs = np.array([[Y[side < 0].mean()], [Y[side > 0].mean()]])
    elif loss == "logistic":
        Y = np.concatenate([np.arange(T) % 3 == 0, np.arange(T) % 3 != 0]).astype(float)
        share = np.array([[Y[side < 0].mean()], [Y[side > 0].mean()]])
        outputs = np.log(share / (1.0 - share))
    else:
        Y = np.concatenate([np.arange(T) % 4, (np.arange(T) + 1) % 4]) % 3
        outputs = np.log([[np.mean(Y[side == s] == k) for k in range(3)] for s in (-1.0, 1.0)])
    size = 10.0 ** rng.uniform(1.7, 5.0)  # with sigma(z) at its end to the last bit
    lower = -1.0 if hidden == "tanh" else 0.0
    out = (outputs[1] - outputs[0]) / (1.0 - lower)
    net = fg.MLP((n, 1, m), hidden)
    W1 = np.append(size * normal, 0.0)[None]
    theta = net.pack([W1, np.column_stack([out, outputs[0] - lower * out])])
    return fg.Problem(net, X, Y, loss=loss), theta


@HUNDRED
def test_saturated_units_are_no_minimum_for_any_loss(first, count):
    """No finite weights near them are critical, and larger weights lower the loss."""
    for seed in range(first, first + count):
        problem, theta = saturated_groups(np.random.default_rng(seed))
        report = fg.critical_point(problem, theta, seed=seed)
        assert report.label in ("diverging", "not_critical"), (seed, str(report))


def test_the_entropy_of_the_targets_is_a_global_minimum():
    X = np.array([[0.0], [0.0], [1.0]])
    labels = np.array([[1.0, 0.0], [0.0, 1.0], [0.25, 0.75]])
    net = fg.MLP((1, 2))
    problem = fg.Problem(net, X, labels, loss="softmax_cross_entropy")
    theta = np.array([0.0, 0.0, np.log(3.0), 0.0])
    assert fg.critical_point(problem, theta).label == "global_minimum"


def test_log_two_is_a_global_minimum_of_the_logistic_loss():
    X, Y = np.zeros((2, 1)), np.array([0.0, 1.0])
    problem = fg.Problem(fg.MLP((1, 3, 1)), X, Y, loss="logistic")
    theta = np.zeros(problem.n_params)
    theta[:6] = np.random.default_rng(0).normal(size=6)
    assert fg.critical_point(problem, theta).label == "global_minimum"


def at_a_floor(seed):
    """Return a problem of equal inputs with different targets, a theta that meets their optimum,
    and the floor by 40 digits: what no function of the inputs goes below.

    Each group's targets and weights are drawn so that the outputs of a random network minimise its
    loss: their weighted mean is the output, by classes its probabilities.
    """
    rng = np.random.default_rng(seed)
    loss = ["squared", "huber", "logistic", "softmax_cross_entropy"][seed % 4]
    n, h, G = int(rng.integers(1, 3)), int(rng.integers(1, 4)), int(rng.integers(1, 5))
    m = 3 if seed % 4 == 3 else 1
    net = fg.MLP((n, h, m), str(rng.choice(["tanh", "sigmoid", "softplus"])))
    theta, centres = rng.normal(size=net.n_params), rng.normal(size=(G, n))
    X, Y, weights = [], [], []
    for x, F in zip(centres, net.predict(theta, centres), strict=True):
        share = np.exp(F - F.max()) / np.exp(F - F.max()).sum() if m == 3 else 1 / (1 + np.exp(-F))
        if seed % 4 == 3:  # each class with its probability, and soft targets
            targets = np.vstack([np.eye(3), share])
            w = np.append(share, rng.uniform(0.0, 2.0))
        elif seed % 4 == 2:
            targets, w = np.array([[1.0], [0.0]]), np.array([share[0], 1.0 - share[0]])
        else:
            w = rng.uniform(0.2, 2.0, int(rng.integers(2, 5)))
            off = rng.uniform(-0.3, 0.3, len(w))
            off[-1] = -(w[:-1] @ off[:-1]) / w[-1]
            targets = F + off[:, None] * min(1.0, 0.9 / abs(off[-1]))
        if rng.random() < 0.3:  # a sample that does not count
            targets = np.vstack([targets, np.roll(targets[:1], 1, axis=1)])
            w = np.append(w, 0.0)
        X += [x] * len(w)
        Y.append(targets)
        weights.append(w * rng.uniform(0.3, 3.0))
    Y, weights = np.vstack(Y), np.concatenate(weights)
    problem = fg.Problem(net, np.array(X), Y, loss=loss, sample_weight=weights)
    return problem, theta, float(least_of_groups(X, Y, weights, seed % 4 >= 2))


def least_of_groups(X, Y, weights, classes):
    """Return the weighted mean of what the targets differ from their groups' means, by mpmath."""
    with mpmath.workdps(40):
        groups, total = {}, mpmath.fsum(weights)
        for x, y, w in zip(X, Y, weights, strict=True):
            groups.setdefault(tuple(x), []).append(([mpmath.mpf(v) for v in y], mpmath.mpf(w)))
        found = mpmath.mpf(0)
        for members in groups.values():
            inside = mpmath.fsum(w for _, w in members)
            for c in range(Y.shape[1]):
                mean = mpmath.fsum(w * y[c] for y, w in members) / inside
                for y, w in members:
                    if not classes:
                        found += w * (y[c] - mean) ** 2 / 2
                        continue
                    sides = [(y[c], mean)]
                    sides += [(1 - y[c], 1 - mean)] if Y.shape[1] == 1 else []
                    found += w * mpmath.fsum(a * mpmath.log(a / b) for a, b in sides if a > 0)
        return found / total


@HUNDRED
def test_floors_of_equal_inputs_are_global_minima(first, count):
    """And beside them nothing is one: classes by their entropy, with weights, and other losses."""
    for seed in range(first, first + count):
        problem, theta, floor = at_a_floor(seed)
        assert problem.loss(theta) == pytest.approx(floor, rel=1e-12, abs=1e-15), seed
        found = fg.rank_analysis(problem, theta).duplicates
        assert found.floor == pytest.approx(floor, rel=1e-12), seed
        report = fg.critical_point(problem, theta, seed=seed)
        assert report.label == "global_minimum", (seed, str(report))
        beside = theta + 1e-3 * np.random.default_rng(seed).normal(size=theta.size)
        if problem.loss(beside) > floor * (1.0 + 1e-6):
            report = fg.critical_point(problem, beside, seed=seed)
            assert report.label == "not_critical", (seed, str(report))


@pytest.mark.parametrize("gap", [1e-3, 1e-6, 1e-10])
def test_a_small_negative_eigenvalue_is_a_strict_saddle(gap):
    """At the origin of F(1,1,1) with x = y = 1 the eigenvalues are l2 - 1 and l2 + 1."""
    problem = _chain(2, (1.0,), (1.0,), l2=1.0 - gap)
    report = fg.critical_point(problem, np.zeros(2))
    assert report.label == "strict_saddle"
    assert report.lowest_eigenvalue == pytest.approx(-gap, rel=1e-5)


def quartic_at_a_pitchfork(rng):
    """Return F(1,1,1) at 0 with l2 = |mean x y|, and the quartic form of the loss; or None.

    Along v = s, w = +-s with the sign of mean x y the quadratic terms cancel, and the loss changes
    by s^4 (mean x^2 / 2 +- mean y x^3 / 3); across it the Hessian is positive.
    """
    X, y = rng.normal(size=int(rng.integers(2, 8))), None
    y = rng.normal(size=X.size) * 10.0 ** rng.uniform(-1.0, 1.0)
    c = float(np.mean(X * y))
    parts = np.mean(X**2) / 2.0, np.sign(c) * np.mean(y * X**3) / 3.0
    if abs(sum(parts)) < 0.05 * (parts[0] + abs(parts[1])) or abs(c) < 0.05:
        return None
    net = fg.MLP((1, 1, 1), "tanh", bias="none")
    return fg.Problem(net, X[:, None], y, l2=abs(c)), float(sum(parts))


@HUNDRED
def test_the_quartic_form_decides_at_a_pitchfork(first, count):
    seen, undecided, seed = 0, 0, first
    while seen < count:
        seed += 1009
        if (found := quartic_at_a_pitchfork(np.random.default_rng(seed))) is None:
            continue
        problem, quartic = found
        report = fg.critical_point(problem, np.zeros(2), seed=seed)
        expected = ("saddle",) if quartic < 0.0 else ("local_minimum", "global_minimum")
        assert report.label in (*expected, "degenerate"), (seed, quartic, str(report))
        seen, undecided = seen + 1, undecided + (report.label == "degenerate")
    assert undecided <= 0.05 * count


def gradient_flat(rng):
    """Return a point with a gradient of a small share of its terms and H g near 0; or None.

    The slopes e of the squared loss solve J^T e = T s u and (J^T J + sum e_i F_i'') u = 0 by the
    weights of the hidden units: both are linear in e. By the last weights J^T J u is 0, and
    sum e_i F_i'' u is of the size of the gradient, as F is linear in them.
    """
    n, h = int(rng.integers(1, 3)), int(rng.integers(1, 4))
    net = fg.MLP((n, h, 1), str(rng.choice(["tanh", "sigmoid", "softplus"])))
    N = net.n_params
    T = 2 * N + int(rng.integers(3, 9))
    X, theta = rng.normal(size=(T, n)), rng.uniform(0.4, 1.6, N) * rng.choice([-1.0, 1.0], N)
    bare = fg.Problem(net, X, np.zeros(T))

    def rows(step):
        return bare.jacobian(theta + step * u).to_dense()

    J, inner = bare.jacobian(theta).to_dense(), N - h - 1
    basis = null_space(J[:, inner:].T @ J)
    u = basis @ rng.normal(size=basis.shape[1])
    u /= np.linalg.norm(u)
    bent = (8.0 * (rows(1e-3) - rows(-1e-3)) - rows(2e-3) + rows(-2e-3)) / 12e-3
    system = np.hstack([J, bent[:, :inner]]).T
    right = np.append(np.zeros(N), -(J.T @ (J @ u))[:inner])
    e = np.linalg.lstsq(system, right, rcond=None)[0]
    terms = np.abs(J).T @ np.abs(e)
    slope = 10.0 ** rng.uniform(-7.5, -2.0) * u * np.min(terms / np.abs(u))
    e = e + np.linalg.lstsq(system, np.append(slope, np.zeros(inner)), rcond=None)[0]
    Y, slopes = net.predict(theta, X)[:, 0] - e, J.T @ e
    share = float((np.abs(slopes) / (np.abs(J).T @ np.abs(e))).max())
    hessian = fg.Problem(net, X, Y).hessian(theta)
    bend = np.linalg.norm(hessian @ slopes) / np.linalg.norm(slopes)
    if share < 5e-8 or bend > 1e-2 * np.linalg.norm(hessian, 2):
        return None
    a, b = 10.0 ** rng.uniform(-8.0, 8.0, 2)  # in any units
    layers = net.unpack(np.array(theta))
    layers[0][:, :n] /= a
    layers[1] *= b
    return fg.Problem(net, X * a, Y * b), net.pack(layers), share


@HUNDRED
def test_gradient_flat_points_are_not_critical(first, count):
    """Small slopes along a null vector of the Hessian (Frye et al. 2021)."""
    seen, seed = 0, first
    while seen < count:
        seed += 1013
        if (found := gradient_flat(np.random.default_rng(seed))) is None:
            continue
        seen += 1
        problem, theta, share = found
        report = fg.critical_point(problem, theta, seed=seed)
        assert report.label == "not_critical", (seed, share, str(report))
        assert report.gradient_share == pytest.approx(share, rel=1e-3), seed
        gradient, hessian = problem.gradient(theta), problem.hessian(theta)
        bend = np.linalg.norm(hessian @ gradient) / np.linalg.norm(gradient)
        assert report.curvature_along_gradient == pytest.approx(bend, rel=1e-3), seed


@pytest.mark.parametrize("scale", [1e-165, 1e-120, 1e120])
@pytest.mark.parametrize("loss", ["huber", "squared", "cauchy"])
def test_extreme_data_give_a_label(scale, loss):
    X = np.linspace(-1.0, 1.0, 5)[:, None] * scale
    problem = fg.Problem(fg.MLP((1, 2, 1)), X, np.sin(X) + scale, loss=loss)
    assert fg.critical_point(problem, np.zeros(problem.n_params)).label != "global_minimum"


def test_random_extreme_data_give_a_label():
    """100 data sets of 1e-300 to 1e140 at the origin, where the output's bias has a slope."""
    for seed in range(100):
        rng = np.random.default_rng(seed)
        scale = 10.0 ** rng.uniform(-300.0, 140.0)
        X = rng.uniform(-1.0, 1.0, (int(rng.integers(2, 8)), 1)) * 10.0 ** rng.uniform(-300, 140)
        Y = scale * rng.uniform(0.5, 1.5, len(X))
        loss = str(rng.choice(["huber", "squared", "cauchy", "smooth_lp", "blake_zisserman"]))
        problem = fg.Problem(fg.MLP((1, int(rng.integers(1, 4)), 1)), X, Y, loss=loss)
        label = fg.critical_point(problem, np.zeros(problem.n_params)).label
        assert label in ("not_critical", "degenerate"), (seed, loss, scale, label)


def test_no_random_point_in_any_units_is_critical():
    """100 random networks and points, flat ones among them, inputs and targets 1e-8 to 1e8."""
    for seed in range(100):
        rng = np.random.default_rng(seed)
        net = fg.MLP((2, int(rng.integers(1, 4)), 1), str(rng.choice(["tanh", "softplus"])))
        X, Y = rng.normal(size=(12, 2)), rng.normal(size=12)
        layers = net.unpack(rng.normal(size=net.n_params) * rng.choice([0.3, 1.0, 3.0]))
        a, b = 10.0 ** rng.uniform(-8.0, 8.0, 2)
        layers[0][:, :2] /= a
        layers[1] *= b
        problem = fg.Problem(net, X * a, Y * b)
        report = fg.critical_point(problem, net.pack(layers))
        assert report.label == "not_critical", (seed, str(report))
        assert report.gradient_share > report.gradient_tolerance


@pytest.mark.parametrize("unit", [1e-8, 1e-4, 1.0, 1e4, 1e8])
def test_a_label_does_not_depend_on_the_unit_of_the_targets(unit):
    """A saddle stays one, and residuals of two thirds of the targets are no exact fit."""
    rng = np.random.default_rng(3)
    X = rng.normal(size=(12, 2))
    Y = np.sin(X[:, 0] + 2.0 * X[:, 1])
    at_zero = fg.Problem(fg.MLP((2, 3, 1), bias="none"), X, unit * Y)
    assert fg.critical_point(at_zero, np.zeros(9)).label == "strict_saddle"
    problem = fg.Problem(fg.MLP((2, 3, 1)), X, unit * Y)
    theta = 0.3 * rng.normal(size=13)
    theta[-4:] *= unit
    assert fg.critical_point(problem, theta).label == "not_critical"


def xor_of_a_spare_unit(w, b):
    """F(2,1,1) on XOR at F = 1/2, where the unit sees x_1 only; and its least eigenvalue.

    With outgoing weight 0 the slopes by the unit's weights are 0, that by the outgoing weight is
    mean e tanh(w x_1 + b) = 0, and the Hessian couples w_2 with the outgoing weights alone.
    """
    X, Y = fg.data.xor()
    problem = fg.Problem(fg.MLP((2, 1, 1)), X, Y)
    low, high = mpmath.tanh(b), mpmath.tanh(mpmath.mpf(b) + mpmath.mpf(w))
    k = ((1 - high**2) - (1 - low**2)) / 8
    first, second = (low + high) / 2, (low**2 + high**2) / 2
    block = mpmath.matrix([[0, k, 0], [k, second, first], [0, first, 1]])
    return problem, [w, 0.0, b, 0.0, 0.5], float(mpmath.eigsy(block, eigvals_only=True)[0])


@HUNDRED
def test_a_clear_negative_eigenvalue_is_a_strict_saddle(first, count):
    """Dense and by Lanczos, also where the unit is nearly saturated."""
    for seed in range(first, first + count):
        rng = np.random.default_rng(seed)
        w, b = rng.choice([-1, 1]) * rng.uniform(0.2, 2.0), rng.uniform(-8, 8)
        if seed == 0:
            w, b = -0.92, -6.8
        with mpmath.workdps(40):
            problem, theta, lowest = xor_of_a_spare_unit(w, b)
        assert lowest < 0.0
        dense = fg.critical_point(problem, theta, method="dense")
        assert dense.label == "strict_saddle", (w, b, str(dense))
        assert dense.lowest_eigenvalue == pytest.approx(lowest, abs=1e-14)
        lanczos = fg.critical_point(problem, theta, method="lanczos")
        assert lanczos.label == "strict_saddle", (w, b, str(lanczos))


def test_the_instance_near_infinity():
    lowest = xor_of_a_spare_unit(-0.92, -6.8)[2]
    assert lowest == pytest.approx(-3.7e-7, rel=0.02)


@pytest.mark.parametrize("seed", range(30))
def test_split_units_keep_their_known_type(seed):
    """A trained minimum with residual, one unit split in two: a critical point of known index."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(20, 1))
    Y = np.sin(3.0 * X[:, 0]) + 0.3 * rng.normal(size=20)
    small = fg.Problem(fg.MLP((1, 2, 1), bias="none"), X, Y)
    result = fg.train(small, seed=seed, method="newton", max_iter=300)
    report = fg.critical_point(small, result.theta, polish=True)
    if report.label != "local_minimum":
        return
    w, v = report.theta[:2], report.theta[2:]
    gamma = rng.uniform(-1.5, 2.5)
    theta = np.array([w[0], w[0], w[1], gamma * v[0], (1.0 - gamma) * v[0], v[1]])
    wide = fg.Problem(fg.MLP((1, 3, 1), bias="none"), X, Y)
    values = np.linalg.eigvalsh(wide.hessian(theta))
    found = fg.critical_point(wide, theta, grad_tol=1e-6)
    size = np.abs(values).max()
    if values[0] < -1e-6 * size:
        assert found.label == "strict_saddle"
    else:
        assert found.label in ("local_minimum", "degenerate", "strict_saddle", "saddle")
        if found.label == "strict_saddle":
            assert values[0] < 0.0
