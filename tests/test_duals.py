"""Dual-number arrays against JAX on random expressions, and what they refuse."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from fastggn.objective.duals import BINARY, FUNCTIONS, UNARY, DualArray, stack, variables
from tests.jax_reference import compiled, jax

jnp = jax.numpy
POINTS, CHANNELS, NUMBERS = 4, 3, 2
# How an argument of a function comes into its domain, from any value.
INTO = {
    **dict.fromkeys(("log", "log2", "log10", "sqrt", "cbrt", "reciprocal"), (1.5, 1.0)),
    **dict.fromkeys(("arcsin", "arccos", "arctanh"), (0.0, 0.7)),
    "log1p": (0.0, 0.9),
    "arccosh": (2.5, 1.0),
}
SPECIAL = ("erf", "erfc", "expit")


def random_expression(rng, depth):
    """Return a function of (module, channels, numbers, x), a random tree of operations."""
    if depth == 0 or rng.random() < 0.1:
        i = int(rng.integers(CHANNELS + NUMBERS + 2))
        if i < CHANNELS:
            return lambda m, u, k, x: u[i]
        if i < CHANNELS + NUMBERS:
            return lambda m, u, k, x: k[i - CHANNELS]
        number = float(rng.normal())
        return lambda m, u, k, x: x if i == CHANNELS + NUMBERS else number + 0.0 * x
    kind = rng.integers(5)
    a, b = (random_expression(rng, depth - 1) for _ in range(2))
    if kind < 2:
        name = str(rng.choice([n for n in UNARY if n not in SPECIAL]))
        middle, width = INTO.get(name, (0.0, 1.5))
        return lambda m, *v: getattr(m, name)(middle + width * m.tanh(a(m, *v)))
    if kind == 2:
        name = str(rng.choice(["arctan2", "hypot", "logaddexp", "power", "divide"]))
        return lambda m, *v: getattr(m, name)(1.5 + m.sin(a(m, *v)), 1.3 + m.cos(b(m, *v)))
    if kind == 3:
        power = [2, 3, -1, 0.5, 0, 1][rng.integers(6)]
        return lambda m, *v: (1.2 + m.sin(a(m, *v))) ** power - b(m, *v)
    operation = [np.add, np.subtract, np.multiply][rng.integers(3)].__name__
    return lambda m, *v: getattr(m, operation)(a(m, *v), b(m, *v))


def values(rng):
    return rng.normal(size=(CHANNELS, POINTS)), rng.normal(size=NUMBERS), rng.normal(size=POINTS)


def close(found, wanted, tolerance=1e-12):
    size = max(1.0, float(np.abs(wanted).max()))
    np.testing.assert_allclose(found, wanted, rtol=tolerance, atol=tolerance * size)


def by_torch(f, u, k, x):
    """Return value (B,), first derivatives (P, B) and second ones (P, P, B) of each point."""
    torch = pytest.importorskip("torch")
    module = SimpleNamespace(**vars(torch), power=torch.pow, cbrt=lambda z: z ** (1.0 / 3.0))
    v = torch.tensor(np.concatenate([u, np.tile(k[:, None], POINTS)]), requires_grad=True)
    value = f(module, v[:CHANNELS], v[CHANNELS:], torch.tensor(x))

    def slopes(y):
        if not y.requires_grad:
            return torch.zeros_like(v)
        found = torch.autograd.grad(y.sum(), v, create_graph=True, allow_unused=True)[0]
        return torch.zeros_like(v) if found is None else found

    first = slopes(value)
    second = torch.stack([slopes(row) for row in first])
    return [part.detach().numpy() for part in (value, first, second)]


def by_jax(f, u, k, x):
    """Return the same by JAX."""

    def one(v, x):
        return f(jnp, v[:CHANNELS], v[CHANNELS:], x)

    v = np.concatenate([u, np.tile(k[:, None], POINTS)]).T
    parts = one, jax.jacfwd(one), jax.hessian(one)
    evaluate = compiled(lambda v, x: [jax.vmap(part)(v, x) for part in parts], v, x)
    return [np.moveaxis(part, 0, -1) for part in evaluate(v, x)]


def check_expressions(rng, count, by, tolerance, depth=4):
    for _ in range(count):
        f = random_expression(rng, depth)
        u, k, x = values(rng)
        value, first, second = by(f, u, k, x)
        plain = np.broadcast_to(f(np, u, k, x), POINTS)
        for order in (1, 2):
            v = variables(u, k, order)
            found = f(np, v[:CHANNELS], v[CHANNELS:], x)
            if not isinstance(found, DualArray):  # no variable in the tree
                assert not first.any()
                continue
            inner = found.value if order == 1 else found.value.value
            assert np.array_equal(np.broadcast_to(inner, POINTS), plain)
            close(plain, value)
            tangent = found.tangent
            if order == 2 and isinstance(tangent, DualArray):
                close(spread(tangent.tangent, second), second, tolerance)
                tangent = tangent.value
            elif order == 2:
                assert not second.any()
            close(spread(tangent, first), first, tolerance)


def spread(tangent, wanted):
    """Return a tangent of scalars like that of points."""
    return np.broadcast_to(tangent.reshape(*wanted.shape[:-1], -1), wanted.shape)


def test_random_expressions_against_torch():
    # Torch itself loses 2.5e-12 in some, where long doubles agree with ours to 2e-15.
    check_expressions(np.random.default_rng(0), 40, by_torch, 1e-11)


@pytest.mark.skipif(np.finfo(np.longdouble).eps > 1e-18, reason="needs 64-bit mantissas")
def test_rounding_against_long_doubles():
    rng = np.random.default_rng(0)
    for _ in range(100):
        f = random_expression(rng, 4)
        parts = values(rng)
        short, long = (
            flat(f(np, v[:CHANNELS], v[CHANNELS:], x))
            for v, x in (
                (variables(u, k, 2), x)
                for u, k, x in (parts, [part.astype(np.longdouble) for part in parts])
            )
        )
        close(short, long.astype(np.float64), 1e-13)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_random_expressions_against_jax():
    check_expressions(np.random.default_rng(1), 60, by_jax, 1e-12, depth=3)


def test_every_rule_against_differences_of_high_order():
    mpmath = pytest.importorskip("mpmath")
    from scipy import special

    exact = {"absolute": abs, "arcsin": "asin", "arccos": "acos", "arctan": "atan"}
    exact |= {"arcsinh": "asinh", "arccosh": "acosh", "arctanh": "atanh"}
    exact |= {"exp2": lambda x: mpmath.mpf(2) ** x, "log2": lambda x: mpmath.log(x, 2)}
    exact |= {"negative": lambda x: -x, "positive": lambda x: +x, "square": lambda x: x * x}
    exact |= {"reciprocal": lambda x: 1 / x, "expit": lambda x: 1 / (1 + mpmath.exp(-x))}
    places = {"arccosh": (1.3, 40.0), "tanh": (0.4, 15.0, -19.0), "expit": (-0.3, 30.0, -40.0)}
    places |= {"expm1": (1e-9, -30.0), "arcsin": (0.5, 1 - 1e-10), "erfc": (0.3, 6.0)}
    with mpmath.workdps(80):
        for name in UNARY:
            f = exact.get(name, name)
            f = getattr(mpmath, f) if isinstance(f, str) else f
            ufunc = getattr(special, name) if name in SPECIAL else getattr(np, name)
            for x in places.get(name, (0.3, 0.71)):
                found = ufunc(variables(np.array([[x]]), np.zeros(0), 2)[0])
                wanted = [float(mpmath.diff(f, mpmath.mpf(x), n)) for n in (1, 2)]
                tangent = found.tangent
                inner = tangent.value if isinstance(tangent, DualArray) else tangent
                assert math.isclose(inner[0, 0], wanted[0], rel_tol=1e-13), (name, x)
                bent = tangent.tangent[0, 0, 0] if isinstance(tangent, DualArray) else 0.0
                assert math.isclose(bent, wanted[1], rel_tol=2e-13, abs_tol=1e-300), (name, x)


def test_components():
    rng = np.random.default_rng(1)
    u, k, x = values(rng)
    for order in (1, 2):
        a, b, c, p, q = variables(u, k, order)
        rows = np.stack([a * p, np.sin(b), x], axis=-1)
        assert rows.shape == (POINTS, 3)
        total = (rows * np.array([1.0, q, 2.0]) if order == 0 else rows).sum(axis=-1)
        plain = a * p + np.sin(b) + x
        joined = np.column_stack([a, np.concatenate([b[:, None], c[:, None]], axis=1)])
        for one, other in (
            (total, plain),
            (np.sum(rows, axis=1, keepdims=True)[:, 0], plain),
            (rows[:, 1], np.sin(b)),
            (rows[..., 0], a * p),
            (joined[:, 2], c),
            (joined[:, 1:][:, 0], b),
        ):
            assert np.allclose(flat(one), flat(other), rtol=1e-15)
        assert np.array_equal(np.ones_like(a), np.ones(POINTS))
        assert (len(a), np.ndim(rows), np.shape(rows)) == (POINTS, 2, (POINTS, 3))
        assert not np.any(np.zeros_like(a)) and np.full_like(a, 3.0)[0] == 3.0
    assert stack([x, x], 1).shape == (POINTS, 2)
    assert len(FUNCTIONS) == 9 and len(BINARY) == 8


def flat(array):
    """Return all numbers of a dual array, of any depth."""
    if not isinstance(array, DualArray):
        return np.ravel(array)
    return np.concatenate([flat(array.value), flat(array.tangent)])


def in_place(u):
    u += 1.0


REFUSED = {
    "np.abs": abs,
    "np.maximum": lambda u: np.maximum(u, 0.0),
    "np.greater": lambda u: u > 0,
    "np.equal": lambda u: u == 0.0,
    "np.where": lambda u: np.where(np.zeros(POINTS) > 1, u, 0.0),
    "np.mean": np.mean,
    ".mean": lambda u: u.mean(),
    "np.cumsum": np.cumsum,
    "np.linalg.norm": np.linalg.norm,
    "np.clip": lambda u: np.clip(u, 0, 1),
    "np.matmul": lambda u: u @ np.ones(POINTS),
    "np.add.reduce": np.add.reduce,
    "np.add in place": in_place,
    "sum over points": np.sum,
    "sum over points ": lambda u: np.sum(u, axis=-1),
    "index of points": lambda u: u[0],
    "index of points ": lambda u: u[None],
    "index of points  ": lambda u: u[u.shape[0] // 2 :],
    "stack along the points": lambda u: np.stack([u, u]),
    "stack along the points ": lambda u: np.concatenate([u, u]),
    "loop": list,
    "condition": bool,
    "single numbers": math.sin,
    "conversion": np.asarray,
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused_by_name(what):
    u = variables(np.ones((1, POINTS)), np.zeros(0), 1)[0]
    with pytest.raises((TypeError, AttributeError), match="jacobian=") as caught:
        REFUSED[what](u)
    assert what.strip() in str(caught.value)
    assert not hasattr(u, "nonsense")
