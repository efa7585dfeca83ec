"""Inputs, targets and decays of 1e-300 to 1e300: a documented status, in time, in silence."""

import time
import typing
import warnings

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
SECONDS = 20.0  # of a run that takes milliseconds, or some seconds with compiled kernels


def run(number):
    """Train instance `number`, whose method, loss and sizes are drawn, and check how it ends."""
    rng = np.random.default_rng(number)
    name = list(METHODS)[number % len(METHODS)]
    loss = str(rng.choice(LOSSES))
    inputs, targets = (float(rng.choice(SIZES)) for _ in range(2))
    l2 = float(rng.choice([0.0, *SIZES]))
    # "dual" needs fewer equations than parameters, the mixed precision more.
    size = {"lm, dual": 2, "lm, mixed": 40}.get(name, 8)
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
