"""Inputs, targets and decays of 1e-300 to 1e300: a documented status, in time, in silence."""

import time
import typing
import warnings
from dataclasses import replace

import numpy as np
import pytest

import fastggn as fg
from fastggn.training.result import Status

METHODS = {
    "lm": fg.LevenbergMarquardt(),
    "lm, cholesky": fg.LevenbergMarquardt(solver="cholesky"),
    "lm, dual": fg.LevenbergMarquardt(solver="dual"),
    "lm, lsqr": fg.LevenbergMarquardt(solver="lsqr"),
    "lm, qr": fg.LevenbergMarquardt(solver="qr"),
    "lm, mixed": fg.LevenbergMarquardt(precision="mixed"),
    "lm, batches": fg.LevenbergMarquardt(batch_size=4),
    "ggn": fg.GaussNewton(),
    "ggn, cholesky": fg.GaussNewton(solver="cholesky"),
    "ggn, lsqr": fg.GaussNewton(solver="lsqr"),
    "ggn, qr": fg.GaussNewton(solver="qr"),
    "newton": fg.Newton(),
    "newton, lsqr": fg.Newton(solver="lsqr"),
    "lbfgs": fg.LBFGS(),
    "bp": fg.GradientDescent(),
    "adam": fg.Adam(),
    "auto": fg.Auto(),
}
LOSSES = ("squared", "huber", "cauchy", "smooth_lp", "blake_zisserman", "logistic",
          "softmax_cross_entropy")  # fmt: skip
SIZES = (1e-300, 1e-200, 1e-155, 1e-77, 1e-20, 1.0, 1e20, 1e77, 1e155, 1e200, 1e300)
EQUATIONS = {"lm, dual": 2, "lm, mixed": 40}  # fewer than parameters, or many more
SECONDS = 20.0  # of a run that takes milliseconds, or some seconds with compiled kernels


def run(number):
    """Train instance `number`, whose method, loss and sizes are drawn, and check how it ends."""
    rng = np.random.default_rng(number)
    name = list(METHODS)[number % len(METHODS)]
    loss = str(rng.choice(LOSSES))
    inputs, targets = (float(rng.choice(SIZES)) for _ in range(2))
    l2 = float(rng.choice([0.0, *SIZES]))
    size = EQUATIONS.get(name, 8)
    X = inputs * rng.standard_normal((size, 2))
    Y = targets * rng.standard_normal((size, 1))
    if loss == "logistic":
        Y = (Y > 0).astype(float)
    if loss == "softmax_cross_entropy":
        Y = rng.permutation(np.arange(size) % 3)
    widths = (2, *rng.integers(1, 5, rng.integers(0, 3)).tolist(), 3 if Y.ndim == 1 else 1)
    activation = str(rng.choice(["tanh", "relu", "softplus", "identity"]))
    case = number, name, loss, inputs, targets, l2, widths, activation
    began = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", category=RuntimeWarning)
        warnings.filterwarnings("ignore", category=fg.FastGGNWarning)
        try:
            problem = fg.Problem(fg.MLP(widths, activation), X, Y, loss, l2=l2)
            result = fg.train(problem, seed=0, method=METHODS[name], max_iter=30, max_time=5.0)
        except RuntimeWarning as error:
            raise AssertionError((case, str(error))) from error
    assert time.process_time() - began < SECONDS, case
    assert result.status in typing.get_args(Status), case
    assert np.isfinite(result.theta).all(), case
    losses = [record.loss for record in result.history]
    assert not np.isfinite(result.initial_loss) or np.isfinite(losses).all(), case


OPTIONS = {
    "stop": (fg.Stop(loss=1e-6), fg.Stop(step=1e-3), fg.Stop(gradient=0.0), fg.Stop(target=1e-9)),
    "regularize": (fg.Evidence(), fg.Evidence(per="unit"), fg.NullSpace()),
    "leave_saddles": ("negative_curvature", "noise"),
}
OWN_OPTIONS = {
    "lm": {"damping": (1e-200, 1e200), "geodesic": (True, False), "curvature_samples": (2, "all")},
    "ggn": {"step": (0.5,), "batch_size": (3,)},
    "lbfgs": {"memory": (2,)},
    "bp": {"rate": (1e-9, 1e9), "momentum": (0.9,)},
    "adam": {"rate": (1e-9, 1e9), "batch_size": (3,)},
}


def with_options(number):
    """Return whether an instance with drawn options runs, after the checks of how it ends.

    Options that exclude each other are refused in words. The run ends no higher than it began, and
    a second one has the same bits.
    """
    rng = np.random.default_rng([number, 1])
    name, method = list(METHODS.items())[number % len(METHODS)]
    own = OWN_OPTIONS.get(method.name, {})
    drawn = {key: own[key][rng.integers(len(own[key]))] for key in own if rng.random() < 0.3}
    options = {k: v[rng.integers(len(v))] for k, v in OPTIONS.items() if rng.random() < 0.3}
    loss, size = str(rng.choice(LOSSES)), EQUATIONS.get(name, 8)
    inputs, targets = (float(rng.choice(SIZES)) for _ in range(2))
    X, Y = inputs * rng.standard_normal((size, 2)), targets * rng.standard_normal((size, 1))
    if loss == "logistic":
        Y = (Y > 0).astype(float)
    if loss == "softmax_cross_entropy":
        Y = rng.permutation(np.arange(size) % 3)
    activation, bias = (str(rng.choice(s)) for s in (["tanh", "relu", "sin"], ["free", "none"]))
    net = fg.MLP((2, int(rng.integers(1, 4)), 3 if Y.ndim == 1 else 1), activation, bias=bias)
    about = {
        "l2": 0.0 if "regularize" in options else float(rng.choice([0.0, 0.0, *SIZES])),
        "sample_weight": None if rng.random() < 0.5 else rng.integers(0, 3, size) + 1e-9,
        "curvature": str(rng.choice(["psd", "psd", "exact"])),
        "penalize_biases": bool(rng.integers(2)),
    }
    if rng.random() < 0.3:
        options["held_out"] = X[: size // 2] * 1.1, Y[: size // 2]
    case = number, method, drawn, options, loss, inputs, targets, net, about
    results = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.filterwarnings("error", category=RuntimeWarning)
        warnings.filterwarnings("ignore", category=fg.FastGGNWarning)
        try:
            problem = fg.Problem(net, X, Y, loss, **about)
            method = replace(method, **drawn)
            for _ in range(2 if number % 5 == 0 else 1):
                began = time.process_time()
                results.append(fg.train(problem, seed=0, method=method, max_iter=20, **options))
                assert time.process_time() - began < SECONDS, case
        except ValueError as error:
            assert any(words in str(error) for words in REFUSALS), (case, str(error))
            assert not results
            return False
        except RuntimeWarning as error:
            raise AssertionError((case, str(error))) from error
    first, last = results[0], results[-1]
    assert first.status in typing.get_args(Status) and np.isfinite(first.theta).all(), case
    assert first.theta.tobytes() == last.theta.tobytes() and first.status == last.status, case
    moved = isinstance(options.get("regularize"), fg.Evidence) or "held_out" in options
    if not moved and np.isfinite(first.initial_loss):
        # Losses that differ by 1e-7 are one, see `Lowest`.
        assert first.loss <= first.initial_loss * (1 + 1e-7), (case, str(first))
    return True


@pytest.mark.parametrize("number", [35, 160, 480, 1258, 1807])
def test_options_that_ended_in_an_error_or_above_the_start(number):
    """A Hessian or a curvature that is not finite, steps on the null space, a damping that
    leaves float64."""
    assert with_options(number)


REFUSALS = (
    "go with",
    "goes with",
    "does not go",
    "counts parameters",
    "no likelihood",
    "needs T n_L",
    "penalize_biases=False",
)


@pytest.mark.parametrize(
    ("first", "count"),
    [
        (0, 34),
        pytest.param(34, 510, marks=pytest.mark.slow),
        *(pytest.param(k, 510, marks=pytest.mark.weekly) for k in range(544, 3604, 510)),
    ],
)
def test_options_at_any_magnitude_end_in_a_documented_status(first, count):
    ran = [with_options(number) for number in range(first, first + count)]
    assert sum(ran) >= 0.5 * count


@pytest.mark.parametrize(
    ("first", "count"),
    [
        (0, 102),
        pytest.param(102, 510, marks=pytest.mark.slow),
        *(pytest.param(k, 510, marks=pytest.mark.weekly) for k in range(612, 4692, 510)),
    ],
)
def test_any_magnitude_ends_in_a_documented_status(first, count):
    for number in range(first, first + count):
        run(number)
