"""Minima at infinity: constructed ones are recognised, and none is claimed that is not there."""

import json

import numpy as np
import pytest
from infinity_cases import Gated, Limiting, at_infinity, continued

import fastggn as fg
from fastggn import analysis
from fastggn.analysis.infinity.candidates import aligned, tail_units
from fastggn.analysis.infinity.families import Family, Group
from fastggn.analysis.infinity.fitting import Fitter
from fastggn.analysis.infinity.report import MinimumAtInfinity


def is_minimum(gated, q, X, Y):
    """Whether the Hessian of the gated network is positive definite but for the scale of u, v."""
    scale = 1e-4
    J = gated.jacobian
    r = lambda q: gated.outputs(q, X) - Y  # noqa: E731
    H = np.array([
        (J(q + s, X).T @ r(q + s) - J(q - s, X).T @ r(q - s)) / (2 * scale * len(X))
        for s in scale * np.eye(q.size)
    ])  # fmt: skip
    values = np.linalg.eigvalsh(0.5 * (H + H.T))
    return values[1] > 1e-7 * values[-1] and values[0] > -1e-7 * values[-1]


@pytest.mark.parametrize("kind", ["tanh", "sigmoid", "softplus", "two layers", "no bias"])
def test_the_limit_is_the_limit_of_the_finite_networks(kind):
    """Outputs differ by O(eps^2), and the sweep's Jacobian is that of its outputs."""
    rng = np.random.default_rng(len(kind))
    name = kind if kind in ("tanh", "sigmoid", "softplus") else "tanh"
    widths = (2, 3, 4, 2) if kind == "two layers" else (2, 4, 2)
    net = fg.MLP(widths, name, bias="none" if kind == "no bias" else "free")
    X = rng.standard_normal((15, 2))
    problem = fg.Problem(net, X, rng.standard_normal((15, 2)))
    layer = net.n_layers - 2
    groups = [("channel", (Group(layer, (0, 2)),)), ("channel", (Group(0, (1, 2)),))]
    if name != "softplus":
        groups.append(("linearisation", (Group(layer, (1,)),)))
    if net.has_free_bias:
        groups.append(("exponential", (Group(layer, (1,)), Group(layer, (3,)))))
    for family_kind, chosen in groups:
        family = Family(problem, family_kind, chosen)
        p = rng.standard_normal(net.n_params)
        if family_kind == "linearisation" and net.has_free_bias:
            p[family.index[layer][1, -1]] = 0.0  # the inflection: no term of order eps
        if family_kind == "exponential":
            p *= 0.3
        found = family.sweep(p)
        gaps = []
        for eps in (0.02, 0.01):
            eps = np.full(len(chosen), eps**2 if family_kind == "exponential" else eps)
            theta = family.theta(p, eps)
            gaps.append(np.abs(net.predict(theta, X) - found.outputs).max())
            again, same = family.coordinates(theta)
            assert np.allclose(family.theta(again, same), theta, atol=1e-9)
            rows = family.pull(problem.jacobian(theta).to_dense(), p, eps)
        assert gaps[0] / gaps[1] == pytest.approx(4.0, rel=0.05)
        free = np.flatnonzero(family.free)
        assert np.abs(rows.reshape(15, 2, -1) - found.rows)[..., free].max() < 0.05
        for k in free:
            step = np.zeros(p.size)
            step[k] = 1e-5
            up, down = (family.sweep(p + s * step).outputs for s in (1, -1))
            assert np.abs((up - down) / 2e-5 - found.rows[:, :, k]).max() < 1e-7
        slopes = np.random.default_rng(0).standard_normal((15, 2))
        np.testing.assert_allclose(
            found.gradient(slopes), np.einsum("to,ton->n", slopes, found.rows), atol=1e-12
        )
        fitter = Fitter(family)
        frame = fitter.frame(p)
        assert np.allclose(frame.T @ frame, np.eye(frame.shape[1]))


def test_constructed_channels_are_recognised_and_saddles_at_infinity_are_not():
    """The truth: residuals orthogonal to the Jacobian of a gated network written out apart."""
    counts = {1.0: 0, -1.0: 0}
    for seed in range(13):
        rng = np.random.default_rng([seed, 5])
        sign = 1.0 if seed % 4 else -1.0
        gated, q, X, Y, loss = at_infinity(rng, 0.01, ("tanh", "sigmoid")[seed % 2], sign=sign)
        if not is_minimum(gated, q, X, Y):
            continue
        eps = float(rng.choice([0.3, 0.1, 0.01, 1e-3]))
        net, theta = gated.theta(q, eps)
        found = analysis.minimum_at_infinity(fg.Problem(net, X, Y), theta)
        if sign < 0.0:
            assert found.label != "minimum_at_infinity", (seed, str(found))
        else:
            assert found.kind == "channel" and found.units == ((1, 1, 3),), (seed, eps, str(found))
            assert found.loss == pytest.approx(loss, rel=1e-9)
            assert found.rate == pytest.approx(2.0, abs=0.1) == found.predicted
            assert (found.losses > found.loss).all() and (np.diff(found.norms) < 0).all()
            assert "minimum at infinity, loss" in str(found)
            json.dumps(found.to_dict())
        counts[sign] += 1
    assert counts[1.0] >= 4 and counts[-1.0] >= 2


def test_exact_channels():
    """The targets are a gated network's: the infimum 0 is not attained."""
    counted = 0
    for seed in range(6):
        rng = np.random.default_rng([seed, 6])
        gated, q, X, Y, _ = at_infinity(rng, 0.0)
        if np.linalg.svd(gated.jacobian(q, X))[1][-2] < 1e-2:
            continue
        net, theta = gated.theta(q, 0.1)
        problem = fg.Problem(net, X, Y)
        found = analysis.minimum_at_infinity(problem, theta)
        assert found.kind == "channel", str(found)
        assert found.loss < 1e-20 and found.rate == pytest.approx(4.0, abs=0.15)
        counted += 1
    assert counted >= 3


@pytest.mark.parametrize("name", ["tanh", "sigmoid"])
def test_a_pair_of_opposite_signs_is_the_same_channel(name):
    rng = np.random.default_rng(9)
    gated, q, X, Y, loss = at_infinity(rng, 0.01, name)
    assert is_minimum(gated, q, X, Y)
    net, theta = gated.theta(q, 0.02)
    first, last = (part.copy() for part in net.unpack(theta))
    if name == "sigmoid":
        last[0, -1] += last[0, 2]
    first[2] *= -1.0
    last[0, 2] *= -1.0
    turned = net.pack([first, last])
    assert np.allclose(net.predict(turned, X), net.predict(theta, X), atol=1e-9)
    problem = fg.Problem(net, X, Y)
    for point in (theta, turned):
        found = analysis.minimum_at_infinity(problem, point)
        assert found.kind == "channel" and found.loss == pytest.approx(loss, rel=1e-8), str(found)


def test_finite_minima_are_finite():
    """The targets are a network's own outputs plus noise orthogonal to its Jacobian."""
    for seed in range(8):
        rng = np.random.default_rng([seed, 7])
        net = fg.MLP((2, 3, 1), ("tanh", "sigmoid")[seed % 2])
        theta = rng.standard_normal(net.n_params)
        X = rng.standard_normal((60, 2))
        J = fg.Problem(net, X, np.zeros(60)).jacobian(theta).to_dense()
        basis = np.linalg.qr(J)[0]
        noise = rng.standard_normal(60)
        Y = net.predict(theta, X)[:, 0] + 0.01 * (noise - basis @ (basis.T @ noise))
        problem = fg.Problem(net, X, Y)
        found = analysis.minimum_at_infinity(problem, theta)
        smallest = np.linalg.eigvalsh(problem.hessian(theta))[0]
        word = "minimum" if smallest > 0.0 else "saddle"
        assert found.label == "finite" and f"a {word} nearby" in str(found), str(found)


def test_units_that_become_exponential():
    """Targets exp(x) plus what the Jacobian does not see: by the sign of its sum with exp(2 x)."""
    x = np.linspace(-1, 1, 41)[:, None]
    for name, rate in (("tanh", 2.0), ("sigmoid", 1.0), ("softplus", 1.0)):
        for sign in (1.0, -1.0):
            w = 0.8
            tail = np.exp(rate * w * x)
            basis = np.linalg.qr(np.column_stack([tail, x * tail, np.ones(41)]))[0]
            push = tail**2 - basis @ (basis.T @ tail**2)
            Y = 1.5 * tail + 0.3 + sign * 0.01 * push / np.abs(push).max()
            problem = fg.Problem(fg.MLP((1, 1, 1), name), x, Y)
            # a (sigma(w x + b) - end) with a large: residual = -push, next term -tail^2 eps.
            end, size = (-1.0, 2.0) if name == "tanh" else (0.0, 1.0)
            a = 1.5 / size * np.exp(rate * 3.5)
            theta = np.array([w, -3.5, a, 0.3 - end * a])
            found = analysis.minimum_at_infinity(problem, theta)
            loss = 0.5 * 0.01**2 * float(np.mean((push / np.abs(push).max()) ** 2))
            if sign > 0.0:
                assert found.kind == "exponential", (name, str(found))
                assert found.loss == pytest.approx(loss, rel=1e-8)
                assert found.rate == pytest.approx(1.0, abs=0.15) == found.predicted
            else:
                assert found.label != "minimum_at_infinity", (name, str(found))


@pytest.mark.parametrize(("bias", "power"), [("free", 1), ("none", 1), ("none", 3)])
def test_units_that_become_linear(bias, power):
    """Linear targets: infimum 0 at infinity. Cubic ones, without biases: by the sign of x^3."""
    x = np.linspace(-1, 1, 31)[:, None]
    net = fg.MLP((1, 1, 1), bias=bias)
    if power == 1:
        problem = fg.Problem(net, x, 1.5 * x + (0.3 if bias == "free" else 0.0))
        theta = fg.train(problem, seed=0, max_iter=25).theta
        found = analysis.minimum_at_infinity(problem, theta)
        assert found.kind == "linearisation" and found.loss < 1e-20, str(found)
        assert found.rate == pytest.approx(4.0, abs=0.15)
        return
    for sign in (1.0, -1.0):
        # u tanh(eps x) / eps = u (x - eps^2 x^3 / 3): the cubic part helps, or not.
        problem = fg.Problem(net, x, x + 0.2 * sign * x**3)
        theta = np.array([0.05, 1.1 / 0.05])
        found = analysis.minimum_at_infinity(problem, theta)
        assert (found.kind == "linearisation") == (sign > 0.0), str(found)
        if sign > 0.0:
            slope = float((x**2 + 0.2 * x**4).sum() / (x**2).sum())
            loss = 0.5 * float(np.mean((slope * x - x - 0.2 * x**3) ** 2))
            assert found.loss == pytest.approx(loss, rel=1e-10) and found.predicted == 2.0


def test_a_unit_that_could_bend_is_no_minimum():
    """With a bias the linear limit of bent data is a saddle: the unit bends to the right side."""
    x = np.linspace(-1, 1, 31)[:, None]
    problem = fg.Problem(fg.MLP((1, 1, 1)), x, x + 0.1 * x**2)
    theta = problem.network.pack([[[0.05, 0.0]], [[20.0, 0.033]]])
    found = analysis.minimum_at_infinity(problem, theta)
    assert found.label != "minimum_at_infinity"


@pytest.mark.filterwarnings("ignore::fastggn.FastGGNWarning")
def test_saturated_units_and_separated_classes():
    X, Y = fg.data.xor()
    problem = fg.Problem(fg.MLP((2, 1, 1), "sigmoid"), X, Y)
    # One unit tells a corner from the three others: losses 1/12 (spec: half of 1/6).
    theta = problem.network.pack([[[12.0, 12.0, -18.0]], [[-2 / 3, 2 / 3]]])
    found = analysis.minimum_at_infinity(problem, theta)
    assert found.kind == "saturation" and found.loss == pytest.approx(1 / 12), str(found)
    assert found.rate == pytest.approx(found.predicted, rel=0.15)
    labels = (X[:, 0] > 0.5).astype(float)
    logistic = fg.Problem(fg.MLP((2, 2, 1)), X, labels, loss="logistic")
    result = fg.train(logistic, seed=0, max_iter=30)
    found = analysis.minimum_at_infinity(logistic, result.theta)
    assert found.kind == "separation" and found.loss == 0.0
    assert found.rate == pytest.approx(found.predicted, rel=0.1)


def test_what_is_not_asked():
    X, Y = fg.data.xor()
    net = fg.MLP((2, 2, 1))
    found = analysis.minimum_at_infinity(fg.Problem(net, X, Y, l2=0.1), np.ones(net.n_params))
    assert found.label == "undecided" and "weight decay" in str(found)
    with pytest.raises(ValueError, match="theta"):
        analysis.minimum_at_infinity(fg.Problem(net, X, Y), np.ones(3))


@pytest.mark.filterwarnings("ignore::fastggn.FastGGNWarning")
def test_critical_point_carries_the_verdict():
    x = np.linspace(-2, 2, 60)[:, None]
    problem = fg.Problem(fg.MLP((1, 2, 1)), x, np.sin(2 * x))
    theta = fg.train(problem, seed=1, max_iter=300).theta
    report = fg.critical_point(problem, theta)
    assert report.label == "not_critical" and report.at_infinity.kind == "channel"
    alone = analysis.minimum_at_infinity(problem, theta)
    assert report.at_infinity.loss == alone.loss and str(alone) in str(report)
    assert json.loads(json.dumps(report.to_dict()))["at_infinity"]["kind"] == "channel"
    # A start is no end of a fit; a proved finite point, weight decay and gates are not asked.
    assert fg.critical_point(problem, problem.network.init(seed=0)).at_infinity is None
    narrow = fg.Problem(fg.MLP((1, 1, 1)), x, np.sin(2 * x))
    minimum = fg.critical_point(narrow, fg.train(narrow, seed=0).theta)
    assert minimum.label == "local_minimum" and minimum.at_infinity is None
    # Above 40 parameters it costs seconds: the report says who decides.
    wide, point = analysis.split_unit(problem.network, theta, 1, 1)
    for _ in range(11):
        wide, point = analysis.split_unit(wide, point, 1, 2)
    many = fg.critical_point(fg.Problem(wide, x, np.sin(2 * x)), point)
    assert wide.n_params > 40 and many.at_infinity.label == "undecided"
    assert "analysis.minimum_at_infinity" in str(many)
    decayed = fg.Problem(problem.network, x, np.sin(2 * x), l2=1e-9)
    assert fg.critical_point(decayed, theta).at_infinity is None


@pytest.mark.parametrize("scaled", [False, True])
def test_the_picture_of_the_way(scaled):
    """The dashed line is the foreseen law through the measured loss farthest out."""
    way = 3.0 / np.array([14.0, 12.0, 10.0, 8.0]) if scaled else 0.02 * 2.0 ** np.arange(4)
    law = np.exp(-3.0 / way) if scaled else way**2.0
    kind, rate = ("saturation", 3.0) if scaled else ("channel", 2.0)
    numbers = 0.5, rate, rate, "reason", way, 0.5 + 1e-3 * law, 1.0 / way
    found = MinimumAtInfinity("minimum_at_infinity", kind, ((1, 1, 2),), *numbers)
    left, right = found.plot().axes
    line, dots = left.get_lines()
    assert left.get_yscale() == "log" and (right.get_xscale() == "log") != scaled
    np.testing.assert_allclose(dots.get_xdata(), 1.0 / way if scaled else way)
    assert len(right.get_lines()[0].get_xdata()) == 4
    expected = np.exp(-3.0 * line.get_xdata()) if scaled else line.get_xdata() ** 2.0
    np.testing.assert_allclose(line.get_ydata(), 1e-3 * expected, rtol=1e-6)
    finite = MinimumAtInfinity("finite", None, (), np.nan, np.nan, np.nan, "near")
    assert finite.to_dict()["loss"] is None
    with pytest.raises(ValueError, match="'finite'"):
        finite.plot()


def teacher_task(seed):
    """Return a student narrower than its teacher, or as wide, on few to many samples."""
    rng = np.random.default_rng([seed, 9])
    n, wide = int(rng.integers(1, 3)), int(rng.integers(3, 7))
    name = ("tanh", "sigmoid")[seed % 2]
    teacher = fg.MLP((n, wide, 1), name)
    X = rng.standard_normal((int(rng.choice([25, 60, 200])), n))
    Y = teacher.predict(2.0 * rng.standard_normal(teacher.n_params), X)
    Y = Y + float(rng.choice([0.0, 0.1])) * rng.standard_normal(Y.shape)
    net = fg.MLP((n, int(rng.integers(2, 5)), 1), name)
    return fg.Problem(net, X, Y), net.init(rng)


def confirmed(problem, theta, found):
    """Whether a limit network of its own, fitted by SciPy from the limit, has that lower loss."""
    from scipy.optimize import least_squares

    X = problem.read_samples(0, problem.n_samples)[0]
    Y = problem.targets[:, 0]
    if found.kind == "channel":
        gated, q = Gated.of(problem.network, found)
    else:
        gated = Limiting(problem.network, found)
        q = gated.q
    fit = least_squares(
        lambda q: gated.outputs(q, X) - Y, q, lambda q: gated.jacobian(q, X), xtol=1e-15,
        ftol=1e-15, gtol=1e-15,
    )  # fmt: skip
    loss = fit.cost / len(Y)
    here = problem.loss(theta)
    return loss == pytest.approx(found.loss, rel=1e-9, abs=1e-22) and loss < here


def count_claims(seeds):
    claims, kinds = [], {}
    for seed in seeds:
        problem, start = teacher_task(seed)
        theta = fg.train(problem, start, max_iter=300).theta
        found = analysis.minimum_at_infinity(problem, theta)
        kinds[found.kind or found.label] = kinds.get(found.kind or found.label, 0) + 1
        if found.kind is not None:
            claims.append((seed, problem, theta, found))
    return claims, kinds


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::fastggn.FastGGNWarning")
def test_no_claim_among_100_fits_without_a_lower_limit_network():
    claims, kinds = count_claims(range(100))
    print(kinds)
    for seed, problem, theta, found in claims:
        assert found.loss < problem.loss(theta), (seed, str(found))
        assert confirmed(problem, theta, found), (seed, str(found))
    assert kinds.get("channel", 0) >= 5 and kinds.get("finite", 0) >= 20


@pytest.mark.weekly
@pytest.mark.filterwarnings("ignore::fastggn.FastGGNWarning")
def test_claims_hold_when_the_run_goes_on_in_60_digits():
    """From theta the loss falls at each halved separation, to the limit's, from above."""
    claims, _ = count_claims(range(100))
    checked = 0
    for seed, problem, theta, found in claims:
        if found.kind in ("channel", "exponential") and problem.n_params <= 15:
            holds_in_60_digits(problem, theta, found, str(seed))
            checked += 1
    assert checked >= 3


def holds_in_60_digits(problem, theta, found, name):
    power = found.predicted
    if found.kind == "channel":
        start = aligned(problem, theta)
    else:
        ((_, start),) = tail_units(problem, theta)
    losses, sizes = continued(problem, start, found, 24 if power == 2.0 else 44)
    assert losses[0] <= problem.loss(theta) * (1 + 1e-13), name
    falls = [a - b for a, b in zip(losses, losses[1:], strict=False)]
    assert min(falls) > 0.0, name
    assert float(falls[-2] / falls[-1]) == pytest.approx(2.0**power, rel=1e-6), name
    limit = losses[-1] - falls[-1] / (2**power - 1)
    assert float(limit) == pytest.approx(found.loss, rel=1e-9), name
    assert sizes[-1] > 1e3 * sizes[0], name
