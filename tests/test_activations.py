"""Activations: accuracy of the value and both derivatives, conventions, custom ones, names."""

import gc
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import mpmath
import numba
import numpy as np
import pytest
from test_elementary import ulps

import fastggn
from fastggn.kernels import activations as kernels
from fastggn.kernels.higher_activations import activate_higher
from fastggn.kernels.jit import DISABLED
from fastggn.network.activations import ACTIVATIONS, Activation, get_activation, leaky_relu

pytestmark = pytest.mark.nojit

POINTS = 60 if DISABLED else 2000


def cube(z):
    return z * z * z


def cube_slope(z):
    return 3.0 * z * z


def cube_bend(z):
    return 6.0 * z


def make_cube(**options):
    return Activation.custom("cube", cube, cube_slope, cube_bend, **options)


def _root(z):
    return mpmath.sqrt(z * z + 1)


def _step(z):
    return mpmath.mpf(1 if z > 0 else 0)


# Value, first and second derivative, written in a way that is only right with many digits.
EXACT = {
    "identity": (lambda z: z, lambda z: mpmath.mpf(1), lambda z: mpmath.mpf(0)),
    "sigmoid": (
        lambda z: 1 / (1 + mpmath.exp(-z)),
        lambda z: 1 / (mpmath.exp(z) + 2 + mpmath.exp(-z)),
        lambda z: -mpmath.tanh(z / 2) / (mpmath.exp(z) + 2 + mpmath.exp(-z)),
    ),
    "tanh": (
        mpmath.tanh,
        lambda z: mpmath.sech(z) ** 2,
        lambda z: -2 * mpmath.tanh(z) * mpmath.sech(z) ** 2,
    ),
    "softsign": (
        lambda z: z / (1 + abs(z)),
        lambda z: 1 / (1 + abs(z)) ** 2,
        lambda z: -2 * mpmath.sign(z) / (1 + abs(z)) ** 3,
    ),
    "softplus": (
        lambda z: mpmath.log1p(mpmath.exp(z)),
        lambda z: 1 / (1 + mpmath.exp(-z)),
        lambda z: 1 / (mpmath.exp(z) + 2 + mpmath.exp(-z)),
    ),
    "bent_identity": (
        lambda z: (_root(z) - 1) / 2 + z,
        lambda z: z / (2 * _root(z)) + 1,
        lambda z: 1 / (2 * _root(z) ** 3),
    ),
    "relu": (lambda z: z * _step(z), _step, lambda z: mpmath.mpf(0)),
    "leaky_relu": (
        lambda z: z * (1 if z > 0 else mpmath.mpf(0.01)),
        lambda z: mpmath.mpf(1 if z > 0 else 0.01),
        lambda z: mpmath.mpf(0),
    ),
    "square": (lambda z: z * z, lambda z: 2 * z, lambda z: mpmath.mpf(2)),
    "sin": (mpmath.sin, mpmath.cos, lambda z: -mpmath.sin(z)),
}


def gelu_terms(x):
    """The terms of z P(z) and of its four derivatives."""
    P, p = mpmath.erfc(-x / mpmath.sqrt(2)) / 2, mpmath.npdf(x)
    bend = (-(x**4) * p, 7 * x * x * p, -4 * p)
    return [(x * P,), (P, x * p), (2 * p, -x * x * p), (p * x**3, -4 * x * p), bend]


def swish_terms(x):
    """The terms of z / (1 + e^-z) and of its four derivatives."""
    s, c = 1 / (1 + mpmath.exp(-x)), 1 / (1 + mpmath.exp(x))
    g1 = s * c
    g2, g3 = g1 * (c - s), g1 * (1 - 6 * g1)
    g4 = g2 * (1 - 12 * g1)
    return [(x * s,), (s, x * g1), (2 * g1, x * g2), (3 * g2, x * g3), (4 * g3, x * g4)]


@pytest.mark.parametrize("name", ["gelu", "swish"])
def test_sums_of_terms(name):
    """16 units in the last place of the terms, whose sum may cancel; tails included."""
    terms = {"gelu": gelu_terms, "swish": swish_terms}[name]
    rng = np.random.default_rng(0)
    z = rng.choice([-1, 1], 2 * POINTS) * 10.0 ** rng.uniform(-8, 1.57, 2 * POINTS)
    outs = [np.empty_like(z[None]) for _ in range(5)]
    activate_higher(ACTIVATIONS[name].code, 0.0, 0, z[None], *outs)
    with mpmath.workprec(200):
        for i in range(0, z.size, 1 if DISABLED else 10):
            for got, parts in zip(outs, terms(mpmath.mpf(z[i])), strict=True):
                missed = abs(mpmath.mpf(got[0, i]) - sum(parts))
                assert missed <= 16 * 2.3e-16 * sum(map(abs, parts)), z[i]


def points(seed):
    """Ordinary points, tails to +-720, tiny ones and magnitudes to 1e6, of both signs."""
    rng = np.random.default_rng(seed)
    sign = rng.choice([-1.0, 1.0], 2 * POINTS)
    sizes = 10.0 ** np.concatenate([rng.uniform(-150, 0, POINTS), rng.uniform(-1, 2.857, POINTS)])
    return np.concatenate([sign * sizes, rng.uniform(-30, 30, POINTS), [20.0, -20.0]])


@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("name", EXACT)
def test_relative_accuracy(name, order):
    """3, 5 and 7 units in the last place, tails included: sech^2(20) is 1.7e-17, not 0."""
    z = points(order)
    if name in ("softsign", "bent_identity", "relu", "leaky_relu", "square"):
        z = np.concatenate([z, [1e6, -1e6, 12345.678, -99999.9]])
    activation = ACTIVATIONS[name]
    got = (activation, activation.derivative, activation.second_derivative)[order](z)

    def exact(v):
        # sqrt(z^2 + 1) - 1 needs the digits of 1e-150 beside those of 1
        with mpmath.workprec(1200 if name == "bent_identity" else 160):
            return EXACT[name][order](v)

    errors = ulps(got, z, exact)
    worst = int(np.argmax(errors))
    assert errors[worst] <= (3.0, 5.0, 7.0)[order], (z[worst], got[worst])


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_finite_at_a_million(name):
    """Value and both derivatives are finite for |z| up to 1e6."""
    z = np.array([-1e6, -1e3, -710.0, 0.0, 710.0, 1e3, 1e6])
    activation = ACTIVATIONS[name]
    for f in (activation, activation.derivative, activation.second_derivative):
        assert np.isfinite(f(z)).all()


@pytest.mark.parametrize("name", [name for name in ACTIVATIONS if name != "sin"])
def test_nan_and_infinity(name):
    """NaN gives NaN; infinities give the limits of sigma, and no NaN in sigma'."""
    limits = {
        "sigmoid": (0.0, 1.0),
        "tanh": (-1.0, 1.0),
        "softsign": (-1.0, 1.0),
        "softplus": (0.0, np.inf),
        "relu": (0.0, np.inf),
        "square": (np.inf, np.inf),
        "swish": (0.0, np.inf),
        "gelu": (0.0, np.inf),
    }.get(name, (-np.inf, np.inf))
    values = ACTIVATIONS[name]([np.nan, -np.inf, np.inf])
    assert np.isnan(values[0])
    assert tuple(values[1:]) == limits
    assert not np.isnan(ACTIVATIONS[name].derivative([-np.inf, np.inf])).any()


def test_conventions_at_zero():
    """Where a derivative does not exist, it is the documented one."""
    assert ACTIVATIONS["relu"].derivative(0.0) == 0.0
    assert ACTIVATIONS["relu"].derivative(-0.0) == 0.0
    assert leaky_relu(0.3).derivative(0.0) == 0.3
    assert ACTIVATIONS["softsign"].second_derivative(0.0) == 0.0
    assert ACTIVATIONS["softsign"].second_derivative(-1e-9) == pytest.approx(2.0)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_smoothness_is_true(name):
    """The first jump at 0, the only place where one can be, is where `smoothness` says."""
    activation = ACTIVATIONS[name]
    h = 1e-9
    slope = activation.derivative([-h, h])
    bend = activation.second_derivative([-h, h])
    jumps = [abs(slope[1] - slope[0]) > 1e-3, abs(bend[1] - bend[0]) > 1e-3]
    assert activation.smoothness == (jumps.index(True) if any(jumps) else 2)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_vanishing_derivative_is_true(name):
    """sigma' has a zero or changes its sign in [-300, 300] exactly if the flag says so."""
    z = np.concatenate([np.linspace(-300, 300, 101), [0.0, -3.0]])
    slopes = ACTIVATIONS[name].derivative(z)
    assert (slopes.min() <= 0.0 <= slopes.max()) == ACTIVATIONS[name].vanishing_derivative


@pytest.mark.parametrize("name", [*ACTIVATIONS, "cube"])
def test_first_kernel_equals_second_on_rows(name):
    """`activate` on a slice of rows: the bits of `activate_second`, other rows untouched."""
    activation = make_cube() if name == "cube" else ACTIVATIONS[name]
    z = np.random.default_rng(3).normal(size=(7, 13)) * 4
    full = [np.empty_like(z) for _ in range(3)]
    part = [np.full_like(z, 99.0) for _ in range(2)]
    key = (activation.code, activation.param, activation.address)
    kernels.activate_second(*key, z, *full)
    kernels.activate(*key, z[2:5], part[0][2:5], part[1][2:5])
    for got, want in zip(part, full[:2], strict=True):
        assert np.array_equal(got[2:5], want[2:5])
        assert (np.delete(got, [2, 3, 4], axis=0) == 99.0).all()


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 3, 4)])
def test_call_keeps_the_shape(shape):
    """Arrays of any shape, integers and non-contiguous ones included."""
    z = np.arange(int(np.prod(shape)), dtype=int).reshape(shape).T
    tanh = get_activation("tanh")
    assert tanh(z).shape == z.shape
    assert np.allclose(tanh(z), np.tanh(z), rtol=1e-14)
    assert np.allclose(tanh.derivative(z), np.cosh(z) ** -2.0, rtol=1e-13)


# --- custom activations ---------------------------------------------------------------------


@pytest.mark.parametrize("jitted", [False, True])
def test_custom_values(jitted):
    """Plain and jitted scalar functions give the same activation."""
    functions = (cube, cube_slope, cube_bend)
    if jitted:
        functions = tuple(numba.njit(f) for f in functions)
    activation = Activation.custom("cube", *functions)
    z = np.array([[-2.0, 0.5], [3.0, 0.0]])
    assert np.array_equal(activation(z), z**3)
    assert np.array_equal(activation.derivative(z), 3 * z**2)
    assert np.array_equal(activation.second_derivative(z), 6 * z)


def test_custom_function_outlives_its_maker():
    """The compiled function lives as long as the activation."""
    activation = Activation.custom("local", *(lambda z: 2.0 * z for _ in range(3)))
    gc.collect()
    assert activation(4.0) == 8.0


def test_custom_pickles_by_its_functions():
    """A copy has its own address and the same flags and values."""
    activation = make_cube(smoothness=1, vanishing_derivative=True)
    copy = pickle.loads(pickle.dumps(activation))
    assert copy == activation
    assert copy.address != activation.address
    assert (copy.smoothness, copy.vanishing_derivative) == (1, True)
    assert copy(2.0) == 8.0


@pytest.mark.parametrize("activation", [*ACTIVATIONS.values(), leaky_relu(0.2)], ids=str)
def test_builtin_pickles(activation):
    """A copy is equal in all its attributes."""
    copy = pickle.loads(pickle.dumps(activation))
    assert copy == activation
    for name in ("param", "smoothness", "vanishing_derivative"):
        assert getattr(copy, name) == getattr(activation, name)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("", cube, cube, cube), TypeError, "name"),
        (("tanh", cube, cube, cube), ValueError, "built-in"),
        (("c", 3.0, cube, cube), TypeError, "sigma must be a function"),
        (("c", cube, lambda z: 1j, cube), TypeError, r"derivative\(-2.0\) must be a real"),
        (("c", cube, cube, lambda z: np.ones(2)), TypeError, "second_derivative"),
        (("c", cube, cube, lambda z: "a"), TypeError, "second_derivative"),
        (("c", cube, cube, lambda z: None), TypeError, "second_derivative"),
        (("c", lambda z: np.nan, cube, cube), ValueError, r"sigma\(-2.0\) is nan"),
        (("c", cube, lambda z: np.inf if z == 0 else 1.0, cube), ValueError, r"\(0.0\) is inf"),
    ],
)
def test_bad_custom(arguments, error, message):
    """One clear error a case, naming the function."""
    with pytest.raises(error, match=message):
        Activation.custom(*arguments)


def test_bad_smoothness():
    """0, 1 or 2."""
    with pytest.raises(ValueError, match="smoothness must be 0, 1 or 2, got 3"):
        make_cube(smoothness=3)


@pytest.mark.skipif(DISABLED, reason="nothing is compiled with NUMBA_DISABLE_JIT=1")
def test_custom_that_numba_cannot_compile():
    """A TypeError that says so, not a traceback of the compiler."""
    with pytest.raises(TypeError, match="Numba cannot compile"):
        Activation.custom("c", lambda z: float(str(z)[:0] or 1.0), *[lambda z: eval("z")] * 2)


DRIVER = """
import sys
import numba
import numpy as np
from fastggn.network.activations import Activation
from fastggn.kernels.activations import activate
from fastggn.kernels.jit import pnjit

@pnjit
def driver(code, address, z, phi, d1):
    for i in numba.prange(4):
        rows = slice(2 * i, 2 * i + 2)
        activate(code, 0.0, address, z[rows], phi[rows], d1[rows])

factor = float(sys.argv[1])
a = Activation.custom("scaled", lambda z: factor * z, lambda z: factor + 0 * z, lambda z: 0.0 * z)
z = np.arange(80.0).reshape(8, 10)
phi, d1 = np.zeros_like(z), np.zeros_like(z)
driver(a.code, a.address, z, phi, d1)
assert np.array_equal(phi, factor * z) and (d1 == factor).all()
print(sum(driver.stats.cache_hits.values()), sum(driver.stats.cache_misses.values()))
"""


@pytest.mark.process
@pytest.mark.skipif(DISABLED, reason="nothing is compiled with NUMBA_DISABLE_JIT=1")
def test_custom_from_a_cached_parallel_driver(tmp_path):
    """The second process takes the driver from the cache, though the function is another one."""
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    path = os.pathsep.join([str(Path(fastggn.__file__).parents[1]), os.getenv("PYTHONPATH", "")])
    counts = []
    for factor in ("2", "7"):
        run = subprocess.run(
            [sys.executable, str(script), factor],
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == 0, run.stderr
        counts.append(run.stdout.split())
    assert counts == [["0", "1"], ["1", "0"]]


# --- names and configurations ---------------------------------------------------------------


def test_equality_by_name_and_parameter():
    """Equal and of one hash, or different."""
    assert leaky_relu(0.01) == get_activation("leaky_relu")
    assert hash(leaky_relu(0.01)) == hash(get_activation("leaky_relu"))
    assert leaky_relu(0.02) != leaky_relu(0.01)
    assert get_activation("tanh") != get_activation("sigmoid")
    assert make_cube() == make_cube()
    assert get_activation("tanh") != "tanh"


@pytest.mark.parametrize("activation", [*ACTIVATIONS.values(), leaky_relu(0.2)], ids=str)
def test_config_round_trip(activation):
    """Through JSON and back."""
    config = json.loads(json.dumps(activation.to_config()))
    assert Activation.from_config(config) == activation


def test_custom_config():
    """A custom activation comes back by its name alone."""
    activation = make_cube()
    config = json.loads(json.dumps(activation.to_config()))
    assert Activation.from_config(config, {"cube": activation}) is activation
    with pytest.raises(ValueError, match="custom activation 'cube' is not stored"):
        Activation.from_config(config)


def test_get_activation():
    """Names and objects; an unknown name meets a suggestion, other types an error."""
    assert get_activation("softplus").name == "softplus"
    activation = leaky_relu(0.5)
    assert get_activation(activation) is activation
    with pytest.raises(ValueError, match="'tanhh' is unknown; did you mean 'tanh'"):
        get_activation("tanhh")
    with pytest.raises(TypeError, match="must be a name or an Activation, not int"):
        get_activation(3)


@pytest.mark.parametrize(
    ("slope", "error"), [(np.nan, ValueError), (np.inf, ValueError), ("a", TypeError)]
)
def test_bad_slope(slope, error):
    """A finite real number."""
    with pytest.raises(error, match="slope must be"):
        leaky_relu(slope)


@pytest.mark.parametrize(
    ("slope", "smoothness", "vanishing"), [(0.0, 0, True), (1.0, 2, False), (0.5, 0, False)]
)
def test_flags_of_the_slope(slope, smoothness, vanishing):
    """Slope 0 is the ReLU and slope 1 the identity."""
    activation = leaky_relu(slope)
    assert (activation.smoothness, activation.vanishing_derivative) == (smoothness, vanishing)
