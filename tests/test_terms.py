"""Terms: tracing, derivatives against differences and exact formulas, and every refusal."""

import functools
import math

import numpy as np
import pytest
from scipy import special

from fastggn.objective.terms import Term, bind_terms

X = np.random.default_rng(0).uniform(0.1, 0.9, (40, 2))
NAMES = ("x", "y")


def poisson(x, u, k):
    return u.d("x", "x") + u.d("y", "y") + k["c"] * u.value - np.sin(np.pi * x[:, 0])


def bind(residual=None, *, X=X, n_outputs=1, coefficients=None, inputs=NAMES, **options):
    term = Term(X, residual, **options)
    return term.bind(inputs, X.shape[1], n_outputs, coefficients)


def draw(bound, rng, n_outputs=1, n_points=9, n_inputs=2):
    x = rng.uniform(0.1, 0.9, (n_points, n_inputs))
    return x, rng.uniform(0.1, 0.9, (n_points, n_outputs, len(bound.channels)))


def test_poisson():
    bound = bind(poisson, coefficients={"unused": 0.0, "c": 2.0})
    assert bound.channels == ((), (0,), (1,), (0, 0), (1, 1))
    assert bound.used == {"c"} and bound.n_residuals == 1 and bound.n_samples == 40
    rng = np.random.default_rng(1)
    x, u = draw(bound, rng)
    k = np.array([5.0, 3.0])
    wanted = u[:, 0, 3] + u[:, 0, 4] + 3.0 * u[:, 0, 0] - np.sin(np.pi * x[:, 0])
    r, dr = bound.linearise(x, u, k)
    assert np.array_equal(r[:, 0], wanted) and np.array_equal(bound.evaluate(x, u, k), r)
    exact = np.zeros((9, 1, 7))
    exact[:, 0, [3, 4]], exact[:, 0, 0], exact[:, 0, 6] = 1.0, 3.0, u[:, 0, 0]
    assert np.array_equal(dr, exact)
    h = bound.curvature(x, u, k, np.full((9, 1), 2.0))
    bent = np.zeros((7, 7))
    bent[0, 6] = bent[6, 0] = 2.0
    assert np.array_equal(h, np.broadcast_to(bent, h.shape))


def lotka_volterra(t, u, k):
    prey, hunters = u[0], u[1]
    both = prey.value * hunters.value
    return (
        prey.d("t") - k["birth"] * prey.value + k["kill"] * both,
        hunters.d(0) + k["death"] * hunters.value - k["gain"] * both,
    )


RATES = {"birth": 1.1, "kill": 0.4, "death": 0.4, "gain": 0.1}


def lotka_volterra_jacobian(t, u, k):
    a, b = u[0].value, u[1].value
    zero = np.zeros(len(t))
    first = {(): np.stack([-k["birth"] + k["kill"] * b, -k["gain"] * b], axis=-1), "t": [1.0, 0.0]}
    second = {
        (): np.stack([k["kill"] * a, k["death"] - k["gain"] * a], axis=-1),
        (0,): np.broadcast_to([0.0, 1.0], (len(t), 2)),
    }
    first["t"] = np.broadcast_to(first["t"], (len(t), 2))
    rates = {
        "birth": np.stack([-a, zero], axis=-1),
        "kill": np.stack([a * b, zero], axis=-1),
        "death": np.stack([zero, b], axis=-1),
        "gain": np.stack([zero, -a * b], axis=-1),
    }
    return {0: first, 1: second, **rates}


def test_a_jacobian_of_the_user_equals_dual_numbers():
    t = X[:, :1]
    options = {"X": t, "n_outputs": 2, "coefficients": RATES, "inputs": ("t",)}
    plain = bind(lotka_volterra, **options)
    given = bind(lotka_volterra, jacobian=lotka_volterra_jacobian, **options)
    assert plain.channels == given.channels == ((), (0,))
    rng = np.random.default_rng(2)
    x, u = draw(plain, rng, n_outputs=2, n_inputs=1)
    k, cotangent = np.array(list(RATES.values())), rng.normal(size=(9, 2))
    for one, other in zip(plain.linearise(x, u, k), given.linearise(x, u, k), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-14, atol=1e-15)
    one, other = (bound.curvature(x, u, k, cotangent) for bound in (plain, given))
    np.testing.assert_allclose(one, other, rtol=1e-14, atol=1e-15)


def random_residual(rng, n_outputs, n_inputs, names):
    """Return a random smooth residual of random channels, and the channels that it reads."""
    read = []
    for _ in range(rng.integers(1, 5)):
        by = tuple(int(i) for i in rng.integers(0, n_inputs, rng.integers(0, 3)))
        read.append((int(rng.integers(n_outputs)), by))
    weights = rng.normal(size=(3, len(read)))

    def residual(x, u, k):
        parts = []
        for o, by in read:
            one = u if n_outputs == 1 else u[o]
            parts.append(one.d(*by) if by else one.value)
        linear = [sum(w * part for w, part in zip(row, parts, strict=True)) for row in weights]
        source = np.cos(x).sum(axis=1)
        first = np.tanh(linear[0]) * linear[1] ** 2 - source + sum(k[name] ** 2 for name in names)
        return first, np.exp(0.3 * linear[2]) / (2.0 + np.sin(parts[0])) * k[names[0]]

    return residual, {tuple(sorted(by)) for _, by in read}


@pytest.mark.parametrize("seed", range(8))
def test_random_residuals_against_differences(seed):
    rng = np.random.default_rng(seed)
    n_outputs, n_inputs = int(rng.integers(1, 4)), int(rng.integers(1, 4))
    names = [f"k{i}" for i in range(rng.integers(1, 3))]
    residual, read = random_residual(rng, n_outputs, n_inputs, names)
    start = {name: float(rng.normal()) for name in names}
    points = rng.normal(size=(30, n_inputs))
    bound = bind(residual, X=points, n_outputs=n_outputs, coefficients=start, inputs=None)
    assert read <= set(bound.channels)
    assert set(bound.channels) == {(), *read, *((i,) for by in read for i in by)}
    x, u = draw(bound, rng, n_outputs, n_inputs=n_inputs)
    k, cotangent = np.array(list(start.values())), rng.normal(size=(9, 2))
    r, dr = bound.linearise(x, u, k)
    h = bound.curvature(x, u, k, cotangent)
    assert np.array_equal(r, bound.evaluate(x, u, k))
    step = 1e-5
    for slot in range(dr.shape[2]):
        found = []
        for sign in (step, -step):
            v, q = u.copy(), k.copy()
            if slot < u[0].size:
                v.reshape(9, -1)[:, slot] += sign
            else:
                q[slot - u[0].size] += sign
            found.append(bound.linearise(x, v, q))
        slope = (found[0][0] - found[1][0]) / (2 * step)
        bend = np.einsum("brp,br->bp", (found[0][1] - found[1][1]) / (2 * step), cotangent)
        np.testing.assert_allclose(dr[:, :, slot], slope, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(h[:, slot], bend, rtol=1e-6, atol=1e-7)
    # The order of the points is free, and a point stands for itself.
    turned = rng.permutation(9)
    assert np.array_equal(bound.linearise(x[turned], u[turned], k)[1], dr[turned])
    np.testing.assert_allclose(bound.evaluate(x[4:5], u[4:5], k), r[4:5], rtol=1e-14)


def test_data_with_derivatives():
    rng = np.random.default_rng(3)
    Y, dx, dxy = rng.normal(size=(3, 40, 2))
    weight = {("x",): 0.25, ("y", 0): 4.0}
    derivatives = {("x",): dx, (0, "y"): dxy}
    bound = bind(n_outputs=2, targets=Y, derivatives=derivatives, weight=weight, loss="huber")
    assert bound.channels == ((), (0,), (1,), (0, 1)) and bound.weight == 1.0
    assert np.array_equal(bound.targets, np.hstack([Y, 0.5 * dx, 2.0 * dxy]))
    x, u = draw(bound, rng, n_outputs=2)
    r, dr = bound.linearise(x, u, np.ones(3))
    assert np.array_equal(r, np.hstack([u[:, :, 0], 0.5 * u[:, :, 1], 2.0 * u[:, :, 3]]))
    assert np.array_equal(np.einsum("brp,bp->br", dr[:, :, :8], u.reshape(9, 8)), r)
    assert dr.shape == (9, 6, 11) and not dr[:, :, 8:].any()
    assert not bound.curvature(x, u, np.ones(3), r).any()
    alone = bind(derivatives={"x": dx[:, 0]})
    assert alone.n_residuals == 1 and np.array_equal(alone.targets, dx[:, :1])


def test_what_a_residual_may_do():
    """Columns, components, masks of x, default arguments, SciPy's functions, single points."""

    def many(x, u, scale=2.0):
        left = (x[:, 0] > 0.5) * u.value
        return np.column_stack([left, special.erf(u.d("x")), scale * u.d("y")])

    assert bind(many).n_residuals == 3
    assert bind(lambda x, u: u.value[:, None] - x[:, :1]).n_residuals == 1
    assert bind(lambda x, u: [np.log(u.value), np.sqrt(-u.d("x"))][0]).n_residuals == 1
    assert bind(functools.partial(poisson), coefficients={"c": 1.0}).used == {"c"}
    assert bind(lambda x, u: u.value - 1.0, X=X[:1]).n_samples == 1
    assert bind(lambda x, u: u[0].value ** 2 - k0(x), X=X).channels == ((),)
    empty = Term(X[:0], poisson).bind(NAMES, 2, 1, {"c": 1.0}, least=0)
    assert empty.n_residuals == 1 and empty.channels[-1] == (1, 1)
    robust = bind(lambda x, u: np.abs(u.value), jacobian=lambda x, u: {(): np.sign(u.value)})
    with pytest.raises(TypeError, match="np.sign"):
        robust.curvature(X[:3], np.ones((3, 1, 1)), np.zeros(0), np.ones((3, 1)))


def k0(x):
    return special.k0(x[:, 0])


def asks_later(x, u):
    return u.value + (u.d("x") if len(x) > 10 else 0.0)


def in_place(x, u):
    r = u.value
    r += 1.0
    return r


def assigned(x, u):
    r = 1.0 * u.value
    r[x[:, 0] > 0.5] = 0.0
    return r


SOURCE = np.sin(X[:, 0])
FAULTS = {
    "abs": (lambda x, u: np.abs(u.value), r"np\.abs has no rule.*jacobian="),
    "where": (lambda x, u: np.where(x[:, 0] > 0.5, u.value, 0.0), r"np\.where .*factor.*jacobian="),
    "mean over points": (lambda x, u: u.value - u.value.mean(), "mixes the points"),
    "np.mean": (lambda x, u: u.value - np.mean(u.value), "mixes the points"),
    "mean of x": (lambda x, u: u.value - x.mean(), "mixes the points"),
    "cumulative sum": (lambda x, u: np.cumsum(u.value), "mixes the points"),
    "neighbours": (lambda x, u: u.value - np.roll(u.value, 1), "mixes the points"),
    "random": (lambda x, u: u.value - np.random.default_rng().random(len(x)), "changes from call"),
    "order 5": (lambda x, u: u.d("x", "x", "x", "x", "y"), r"order 5.*up to order 2"),
    "unknown input": (lambda x, u: u.d("X1"), r"input 'X1' is unknown.*\(valid: x, y\)"),
    "index": (lambda x, u: u.d(2), "input 2 is out of range for 2 inputs"),
    "no input": (lambda x, u: u.d(), "names no input"),
    "coefficient": (lambda x, u, k: k["sped"] * u.value, "'sped' is unknown; did you mean 'speed'"),
    "output": (lambda x, u: u[1].value, r"u\[1\]: the network has the outputs 0 to 0"),
    "attribute": (lambda x, u: u.values, "u has no 'values'"),
    "NaN source": (lambda x, u: u.value - np.log(x[:, 0] - 0.5), r"is nan at point \d+, x = "),
    "infinite": (lambda x, u: u.value - 1 / (x[:, 0] - X[3, 0]), "-inf at point 3"),
    "never finite": (lambda x, u: np.sqrt(-1.0 - u.value**2), "is nan at point 0"),
    "columns": (lambda x, u: u.value - x[:, :1], r"\(B, B\).*x\[:, 0\] instead of x\[:, :1\]"),
    "columns summed": (lambda x, u: np.sum(u.value - x[:, :1], axis=-1), "mixes the points"),
    "a number": (lambda x, u: 1.0, r"reads no channel"),
    "scalar": (lambda x, u, k: k["speed"], r"returns shape \(\) for 7 points"),
    "transposed": (lambda x, u: np.stack([u.value, u.value]), r"shape \(2, 7\)"),
    "parts": (lambda x, u: (u.value, u.value[:, None]), r"\(7,\), \(7, 1\)"),
    "three axes": (lambda x, u: u.value[:, None, None], r"shape \(7, 1, 1\)"),
    "nothing": (lambda x, u: [u.value][1:] or None, "real numbers, not dtype object"),
    "complex": (lambda x, u: u.value * 1j, "real numbers, not dtype complex128"),
    "closed over": (lambda x, u: u.value - SOURCE, "works on all 40 points together only"),
    "writes": (lambda x, u: u.value.__iadd__(1.0), "read-only|in place"),
    "arguments": (lambda x: x, r"must take \(x, u\) or \(x, u, k\), it takes 1"),
    "number": (3.0, "residual must be a function, not float"),
    "asks later": (asks_later, r"asks for u\.d\('x'\), which it did not read"),
    "own error": (lambda x, u: {}["a"], "KeyError"),
    "u itself": (lambda x, u: u - 1.0, r"np\.subtract of u: an array of numbers is u\.value"),
    "u in an array": (lambda x, u: np.sin(x[:, 0]) * u, r"of u: .* is u\.value"),
    "a function of u": (lambda x, u: np.sin(u), r"np\.sin of u: .* is u\.value"),
    "letters": (lambda x, u: u.d("xx"), r"'xx' is unknown; write u\.d\('x', 'x'\)"),
    "d of d": (lambda x, u: u.d("x").d("x"), r"a second derivative is u\.d\("),
    "k as an object": (lambda x, u, k: k.speed * u.value, r'a coefficient is k\["speed"\]'),
    "called": (lambda x, u: u.value(), "no brackets behind them"),
    "math": (lambda x, u: math.sin(u.value), "functions of NumPy"),
    "max": (lambda x, u: max(u.value, 0.0), "if, max and min have no rule.*jacobian="),
    "if": (lambda x, u: u.value if u.value > 0 else 0.0, "no rule.*jacobian="),
    "in place": (in_place, "write a = a [+] b instead"),
    "assignment": (assigned, r"an assignment to some points has no rule.*a factor"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_faults(fault):
    residual, message = FAULTS[fault]
    with pytest.raises(ValueError, match=message):
        bind(residual, coefficients={"speed": 1.0})


def square(x, u, k):
    return np.abs(u.value * u.d("x")) - k["c"] ** 2


def slopes(**changes):
    """Return the derivatives of `square` with some of them changed."""

    def jacobian(x, u, k):
        sign = np.sign(u.value * u.d("x"))
        found = {(): sign * u.d("x"), ("x",): sign * u.value, "c": -2 * k["c"] + 0 * sign}
        return {key: changes.get(str(key), lambda d: d)(d) for key, d in found.items()}

    return jacobian


WRONG = {
    "sign": (slopes(**{"()": lambda d: -d}), r"by u\.value is .* where differences"),
    "factor": (slopes(**{"('x',)": lambda d: 1.0001 * d}), r"by u\.d\('x'\) is"),
    "coefficient": (slopes(c=lambda d: -d), r"by k\['c'\] is"),
    "missing": (lambda x, u, k: {(): np.sign(u.value)}, "where differences"),
    "shape": (slopes(c=lambda d: d[:3]), r"derivative of shape \(3,\)"),
    "array": (lambda x, u, k: np.ones(len(x)), "must return a mapping, not ndarray"),
    "channel": (lambda x, u, k: {("y",): 1.0}, r"u\.d\('y'\), which nothing reads"),
    "name": (lambda x, u, k: {"k": 1.0}, "input 'k' is unknown"),
    "NaN": (slopes(c=lambda d: np.nan * d), r"by k\['c'\] is nan"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_jacobian_is_an_error(wrong):
    jacobian, message = WRONG[wrong]
    assert bind(square, jacobian=slopes(), coefficients={"c": 2.0}).channels == ((), (0,))
    with pytest.raises(ValueError, match=message):
        bind(square, jacobian=jacobian, coefficients={"c": 2.0})


def test_wrong_keys_with_several_outputs():
    for jacobian in (lambda t, u, k: {(): 1.0}, lambda t, u, k: {2: {(): 1.0}}):
        with pytest.raises(ValueError, match="its keys are outputs"):
            bind(lotka_volterra, jacobian=jacobian, X=X[:, :1], n_outputs=2, coefficients=RATES,
                 inputs=("t",))  # fmt: skip
    with pytest.raises(ValueError, match=r"u\.value: the network has 2 outputs, write u\[0\]"):
        bind(lambda x, u: u.value, n_outputs=2)
    with pytest.raises(ValueError, match=r"u\[0\]\[1\]"):
        bind(lambda x, u: u[0][1].value, n_outputs=2)


OPTIONS = {
    "loss": ({"loss": "softmax_cross_entropy"}, r"no meaning for residuals \(valid: squared, cau"),
    "weight": ({"weight": -1.0}, "weight must be > 0"),
    "sample_weight": ({"sample_weight": np.zeros(40)}, "zero for every point"),
    "short": ({"sample_weight": np.ones(3)}, r"sample_weight must have shape \(40,\)"),
    "both": ({"targets": np.ones(40)}, "a term of their own"),
    "mapping": ({"weight": {(): 1.0}}, "belongs to targets and derivatives"),
    "inputs": ({"inputs": ("x",)}, "inputs must be 2 different names"),
    "twice": ({"inputs": ("x", "x")}, "inputs must be 2 different names"),
    "start": ({"coefficients": {"c": np.nan}}, r"coefficients\['c'\] must be a finite number"),
    "X": ({"X": np.array([[0.0, np.nan]])}, r"X\[0, 1\] is nan"),
}
DATA = {
    "nothing": ({}, "give a residual, or targets, or derivatives"),
    "shape": ({"targets": np.ones(3)}, r"targets must have shape \(40, 1\), got \(3,\)"),
    "text": ({"targets": ["a"] * 40}, "targets must hold real numbers"),
    "NaN": ({"targets": np.full(40, np.nan)}, r"targets\[0, 0\] is nan"),
    "value": ({"derivatives": {(): np.ones(40)}}, "the value: pass it as targets"),
    "twice": ({"derivatives": {"x": SOURCE, 0: SOURCE}}, "derivatives holds 0 twice"),
    "order": ({"derivatives": {(0, 0, 0): SOURCE}}, "order 3"),
    "weight": ({"targets": SOURCE, "weight": {"y": 1.0}}, "weight has 'y', for which"),
    "jacobian": ({"targets": SOURCE, "jacobian": square}, "jacobian belongs to a residual"),
}


@pytest.mark.parametrize("option", OPTIONS)
def test_options(option):
    given, message = OPTIONS[option]
    with pytest.raises(ValueError, match=message):
        bind(lambda x, u: u.value, **given)


@pytest.mark.parametrize("option", DATA)
def test_options_of_data(option):
    given, message = DATA[option]
    with pytest.raises(ValueError, match=message):
        bind(**given)


def test_all_faults_at_once():
    terms = [
        Term(X, lambda x, u: np.abs(u.value)),
        Term(X, lambda x, u, k: u.value * k["c"], weight=0.0, loss="nonsense"),
        Term(X[:, :1], targets=SOURCE),
        Term(X, lambda x, u: u.value),
    ]
    options = {"inputs": NAMES, "n_inputs": 2, "n_outputs": 1}
    with pytest.raises(ValueError) as caught:
        bind_terms(terms, **options, coefficients={"c": 1.0})
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in lines] == ["terms[0]", *["terms[1]"] * 2, "terms[2]"]
    with pytest.raises(ValueError, match="coefficients: no term reads 'c'"):
        bind_terms(terms[3:], **options, coefficients={"c": 1.0})
    with pytest.raises(ValueError, match="terms is empty"):
        bind_terms([], **options)
    with pytest.raises(TypeError, match=r"terms\[1\] must be a Term, not int"):
        bind_terms([terms[3], 3], **options)
    (bound,) = bind_terms(terms[3], **options)
    assert bound.channels == ((),) and "Term(" in repr(terms[3])
    with pytest.raises(TypeError, match="did you mean 'weight'"):
        Term(X, weights=1.0)


def test_a_channel_that_appears_later():
    bound = bind(lambda x, u: u.value + (u.d("x") if x[0, 0] > 5.0 else 0.0))
    with pytest.raises(ValueError, match="did not read when the problem was made"):
        bound.evaluate(X + 9.0, np.ones((40, 1, 1)), np.zeros(0))
