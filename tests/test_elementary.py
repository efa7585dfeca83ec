"""The vectorisable elementary functions against mpmath, in units in the last place."""

import mpmath
import numba
import numpy as np
import pytest

from fastggn.kernels import activations as kernels, vector_math
from fastggn.kernels.jit import DISABLED, FLAGS

pytestmark = pytest.mark.nojit

POINTS = 150 if DISABLED else 3000
EDGES = np.array(
    [0.0, -0.0, 5e-324, -5e-324, 2e-310, -2e-310, 1.0, -1.0, 709.0, -709.0, 709.78, -708.4, 745.0]
    + [-745.0, -745.13, -745.14, -746.0, 1e6, -1e6, 1e308, -1e308]
)


@numba.njit(error_model="numpy", fastmath=FLAGS)
def fill(x, exps, minus, logs):
    """Rows of exp(x) everywhere, (exp, expm1)(-|x|), and log1p of min(|x|, 1) and of |x|."""
    for i in range(x.size):
        exps[0, i] = vector_math.exp(x[i])
        minus[0, i], minus[1, i] = vector_math.exp_and_expm1(-abs(x[i]))
        logs[0, i] = vector_math.log1p_unit(min(abs(x[i]), 1.0))
        logs[1, i] = vector_math.log1p(abs(x[i]))


def evaluate(x):
    """exp(x), exp(-|x|), expm1(-|x|), log1p(min(|x|, 1)) and log1p(|x|) by the package."""
    exps, minus, logs = np.empty((1, x.size)), np.empty((2, x.size)), np.empty((2, x.size))
    with np.errstate(all="ignore"):
        fill(x, exps, minus, logs)
    return exps[0], minus[0], minus[1], *logs


def ulps(got, x, exact):
    """Errors in units in the last place of the exact values, subnormal ones included."""
    out = np.empty(x.size)
    with mpmath.workprec(160):
        for i, point in enumerate(x.tolist()):
            want = exact(mpmath.mpf(point))
            rounded = float(want)
            if np.isinf(rounded):
                out[i] = 0.0 if got[i] == rounded else np.inf
            else:
                out[i] = float(abs(mpmath.mpf(float(got[i])) - want) / np.spacing(abs(rounded)))
    return out


def points():
    rng = np.random.default_rng(7)
    small = 10.0 ** rng.uniform(-320, 0, POINTS) * rng.choice([-1.0, 1.0], POINTS)
    parts = (rng.uniform(-1, 1, POINTS), rng.uniform(-40, 40, POINTS))
    return np.concatenate([*parts, rng.uniform(-750, 715, POINTS), small, EDGES])


def test_ulps_of_exp():
    """At most 2 ulp, down to the subnormal numbers and up to the overflow."""
    x = points()
    assert ulps(evaluate(x)[0], x, mpmath.exp).max() <= 2.0


@pytest.mark.parametrize(
    ("which", "exact"),
    [(1, lambda v: mpmath.exp(-abs(v))), (2, lambda v: mpmath.expm1(-abs(v)))],
    ids=["exp", "expm1"],
)
def test_ulps_of_the_shared_pair(which, exact):
    """exp and expm1 of one reduction are both relatively accurate."""
    x = points()
    assert ulps(evaluate(x)[which], x, exact).max() <= 2.0


def test_ulps_of_log1p():
    """At most 2 ulp on [0, 1], also for subnormal arguments."""
    x = points()
    worst = ulps(evaluate(x)[3], np.minimum(np.abs(x), 1.0), mpmath.log1p).max()
    assert worst <= 2.0


def test_ulps_of_log1p_beyond_1():
    """At most 2 ulp for every finite number that is not negative, near powers of two as well."""
    powers = 2.0 ** np.arange(60.0)
    x = np.concatenate([points(), powers, np.nextafter(powers, 0.0), powers - 1.0])
    assert ulps(evaluate(x)[4], np.abs(x), mpmath.log1p).max() <= 2.0
    assert np.isnan(evaluate(np.array([np.nan]))[4][0])


def test_special_values():
    """NaN stays NaN, infinities give limits, the ends of the range are exact."""
    x = np.array([np.nan, np.inf, -np.inf, 0.0, 709.79, 1e308, -1e308, -745.2])
    exps, small, minus, *_ = evaluate(x)
    assert np.array_equal(exps, [np.nan, np.inf, 0, 1, np.inf, np.inf, 0, 0], equal_nan=True)
    assert np.array_equal(small[:4], [np.nan, 0.0, 0.0, 1.0], equal_nan=True)
    assert np.array_equal(minus[:4], [np.nan, -1.0, -1.0, 0.0], equal_nan=True)


def test_smallest_number():
    """exp(-745.13) is the smallest subnormal number, not 0, and log1p does not lose it."""
    exps, small, _, logs, _ = evaluate(np.array([-745.13, 5e-324]))
    assert exps[0] == small[0] == 5e-324
    assert logs[1] == 5e-324


def test_bits_of_a_power():
    """The bit cast is the inverse of its inverse, and knows the bits of 1."""
    assert cast(1.5) == (0x3FF8000000000000, 1.5)
    assert cast(-2.0) == (0xC000000000000000, -2.0)


@numba.njit
def cast(value):
    bits = vector_math.bits_of_float(value)
    return bits, vector_math.float_of_bits(bits)


@pytest.mark.skipif(DISABLED, reason="nothing is compiled with NUMBA_DISABLE_JIT=1")
@pytest.mark.parametrize("name", ["_tanh", "_softplus"])
def test_loops_are_vectorised(name):
    """The division of the compiled loop is one of vectors: LLVM saw no branch and no call."""
    leaf = numba.njit(error_model="numpy", fastmath=FLAGS)(getattr(kernels, name).py_func)
    z = np.ones((2, 8))
    leaf(z, np.empty_like(z), np.empty_like(z))
    divisions = [
        line for line in leaf.inspect_llvm(leaf.signatures[0]).splitlines() if " fdiv " in line
    ]
    assert any("x double>" in line for line in divisions), divisions
