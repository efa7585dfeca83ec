"""Held-out samples: their loss an iteration, the best theta, early stopping."""

import numpy as np
import pytest
from fakes import rosenbrock

import fastggn as fg
from fastggn.training.control.stopping import Stopping
from fastggn.training.control.validation import Validation, Watching
from fastggn.training.run import Clock
from fastggn.training.step import Iteration

METHODS = {
    "lm": {},
    "lm batches": {"method": fg.LevenbergMarquardt(batch_size=8)},
    "ggn": {"method": fg.GaussNewton(step=0.1, solver="qr")},
    "newton": {"method": "newton"},
    "bp": {"method": fg.GradientDescent(rate=0.05)},
    "adam": {"method": fg.Adam(rate=0.01, batch_size=8)},
}


def noisy_sine(n_samples, seed):
    rng = np.random.default_rng(seed)
    X = rng.uniform(-1.0, 1.0, (n_samples, 1))
    return X, np.sin(3.0 * X) + 0.3 * rng.standard_normal((n_samples, 1))


NET = fg.MLP((1, 8, 1))
TRAINING, HELD_OUT = noisy_sine(24, 0), noisy_sine(40, 1)


@pytest.fixture(scope="module")
def problem():
    return fg.Problem(NET, *TRAINING, l2=1e-6)


class Path:
    """Keeps theta of every iteration."""

    def __init__(self):
        self.thetas = []

    def __call__(self, record):
        self.thetas.append(np.array(record.theta))


def half_squares(theta, X, Y, weight=None):
    """The mean loss as a textbook has it."""
    return np.average(0.5 * ((NET.predict(theta, X) - Y) ** 2).sum(axis=1), weights=weight)


@pytest.mark.filterwarnings("ignore::fastggn.FastGGNWarning")
@pytest.mark.parametrize("options", METHODS.values(), ids=METHODS)
def test_the_loss_of_every_iteration(problem, options):
    path = Path()
    theta0 = NET.init(0)
    keywords = {"seed": 0, "max_iter": 12, **options}
    result = fg.train(
        problem, theta0, held_out=fg.HeldOut(*HELD_OUT, patience=None), callbacks=[path], **keywords
    )
    expected = [half_squares(theta, *HELD_OUT) for theta in path.thetas]
    losses = [record["validation_loss"] for record in result.history]
    np.testing.assert_allclose(losses, expected, rtol=1e-12)
    # Nothing else changes: the run is that without validation.
    np.testing.assert_array_equal(result.theta, fg.train(problem, theta0, **keywords).theta)
    every = [half_squares(theta0, *HELD_OUT), *expected]
    assert result.best_iter == np.argmin(every)
    assert result.best_validation_loss == pytest.approx(min(every), rel=1e-12)
    best = [theta0, *path.thetas][result.best_iter]
    np.testing.assert_array_equal(result.best_theta, best)


def stops(losses, patience, tolerance):
    """Return after how many iterations a run with these validation losses ends, or None."""
    reference, waited = losses[0], 0
    for iteration, loss in enumerate(losses[1:], start=1):
        if loss < reference * (1.0 - tolerance):
            reference, waited = loss, 0
        else:
            waited += 1
        if waited == patience:
            return iteration
    return None


@pytest.mark.parametrize("tolerance", [0.0, 1e-3, 0.1])
@pytest.mark.parametrize("patience", [1, 6])
def test_early_stopping(problem, patience, tolerance):
    theta0 = NET.init(1)
    whole = fg.train(problem, theta0, max_iter=60, held_out=fg.HeldOut(*HELD_OUT, patience=None))
    losses = [half_squares(theta0, *HELD_OUT)] + [r.validation_loss for r in whole.history]
    last = stops(losses, patience, tolerance)
    assert last is not None and last < 50
    result = fg.train(
        problem,
        theta0,
        max_iter=60,
        held_out=fg.HeldOut(*HELD_OUT, patience=patience, tol=tolerance),
    )
    assert (result.status, result.n_iter) == ("early_stopped", last)
    assert not result.converged
    assert result.best_iter == np.argmin(losses[: last + 1])
    np.testing.assert_array_equal(result.theta, result.best_theta)
    assert half_squares(result.theta, *HELD_OUT) == pytest.approx(min(losses[: last + 1]))
    assert result.loss == whole.history[result.best_iter - 1].loss
    assert result.gradient_norm == whole.history[result.best_iter - 1].gradient_norm
    restored = result.best_iter < last
    assert (f"theta is that of iteration {result.best_iter}" in result.message) == restored
    assert result.history[-1].loss <= result.loss


def test_the_best_theta_is_returned_whatever_ends_the_run(problem):
    theta0 = NET.init(1)
    target = fg.train(problem, theta0, max_iter=15).loss
    for keywords, status in (
        ({"max_iter": 15}, "max_iter"),
        ({"callbacks": [lambda record: record.iteration == 15]}, "interrupted"),
        ({"stop": fg.Stop(target=target)}, "target_reached"),
    ):
        result = fg.train(problem, theta0, held_out=fg.HeldOut(*HELD_OUT, patience=100), **keywords)
        assert result.status == status
        assert result.best_iter < result.n_iter
        np.testing.assert_array_equal(result.theta, result.best_theta)
        assert result.loss == problem.loss(result.theta)
        last = fg.train(problem, theta0, held_out=fg.HeldOut(*HELD_OUT, patience=None), **keywords)
        assert last.loss == last.history[-1].loss < result.loss
        assert last.best_iter == result.best_iter


def test_theta0_may_be_the_best(problem):
    """Samples whose targets the first weights hit: no iteration does better."""
    theta0 = NET.init(0)
    X = HELD_OUT[0]
    own = (X, NET.predict(theta0, X))
    result = fg.train(problem, theta0, held_out=fg.HeldOut(*own, patience=3))
    assert (result.status, result.n_iter, result.best_iter) == ("early_stopped", 3, 0)
    assert result.best_validation_loss == 0.0
    np.testing.assert_array_equal(result.theta, theta0)
    assert result.loss == result.initial_loss


def test_no_iteration_at_all(problem):
    result = fg.train(problem, seed=0, max_iter=0, held_out=fg.HeldOut(*HELD_OUT, patience=1))
    assert (result.status, result.best_iter, result.history) == ("max_iter", 0, [])
    np.testing.assert_array_equal(result.theta, result.best_theta)


def test_a_loss_that_overflows_is_never_the_best():
    """The held-out loss at theta0 is infinite; the first finite one is the best so far."""
    X, Y = TRAINING
    net = fg.MLP((1, 4, 1), activation="square")
    far = (np.array([[1e160]]), np.array([[0.0]]))
    theta0 = net.init(0)
    result = fg.train(
        fg.Problem(net, X, Y), theta0, max_iter=8, held_out=fg.HeldOut(*far, patience=5)
    )
    assert result.status == "early_stopped"
    assert not np.isfinite(result.best_validation_loss)
    np.testing.assert_array_equal(result.theta, theta0)


def test_weights_and_a_problem_of_its_own(problem):
    X, Y = HELD_OUT
    weight = np.linspace(0.0, 2.0, len(X))
    keywords = {"seed": 0, "max_iter": 3}
    weighted = fg.train(problem, held_out=fg.HeldOut(X, Y, weight, patience=None), **keywords)
    last = weighted.history[-1].validation_loss
    assert last == pytest.approx(half_squares(weighted.theta, X, Y, weight), rel=1e-12)
    # l2 is no part of it, whichever problem brings it.
    ready = fg.Problem(NET, X, Y, sample_weight=weight, l2=3.0)
    same = fg.train(problem, held_out=fg.HeldOut(ready, patience=None), **keywords)
    assert [r.validation_loss for r in same.history] == [
        r.validation_loss for r in weighted.history
    ]
    huber = fg.Problem(NET, X, Y, loss=fg.losses.Huber(0.1))
    other = fg.train(problem, held_out=fg.HeldOut(huber, patience=None), **keywords)
    assert other.history[-1].validation_loss == pytest.approx(huber.loss(other.theta))


def test_labels_and_the_loss_of_the_problem():
    rng = np.random.default_rng(0)
    X, labels = rng.standard_normal((30, 2)), rng.integers(0, 3, 30)
    net = fg.MLP((2, 4, 3))
    problem = fg.Problem(net, X[:20], labels[:20], loss="softmax_cross_entropy")
    result = fg.train(
        problem, seed=0, max_iter=4, held_out=fg.HeldOut(X[20:], labels[20:], patience=None)
    )
    z = net.predict(result.theta, X[20:])
    shares = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    expected = -np.log(shares[np.arange(10), labels[20:]]).mean()
    assert result.history[-1].validation_loss == pytest.approx(expected, rel=1e-12)


def test_samples_in_files(problem, tmp_path):
    for name, array in zip("XY", HELD_OUT, strict=True):
        np.save(tmp_path / f"{name}.npy", array)
    files = tuple(fg.data.open_npy(tmp_path / f"{name}.npy") for name in "XY")
    here = fg.train(problem, seed=1, held_out=fg.HeldOut(*HELD_OUT, patience=6))
    there = fg.train(problem, seed=1, held_out=fg.HeldOut(*files, patience=6))
    np.testing.assert_array_equal(here.theta, there.theta)


def test_gates():
    X, Y = TRAINING
    net = fg.MLP((1, 4, 1), activation="relu")
    gated = fg.Problem(net, X, Y, gates=[np.ones((len(X), 4))])
    with pytest.raises(ValueError, match="with gates of its own"):
        fg.train(gated, held_out=fg.HeldOut(*HELD_OUT, patience=None))
    own = fg.Problem(net, *HELD_OUT, gates=[np.ones((len(HELD_OUT[0]), 4))])
    assert (
        fg.train(
            gated, seed=0, max_iter=2, held_out=fg.HeldOut(own, patience=None)
        ).best_validation_loss
        > 0.0
    )


def test_the_progress_shows_it(problem, capsys):
    result = fg.train(
        problem, seed=0, max_iter=2, held_out=fg.HeldOut(*HELD_OUT, patience=None), progress=True
    )
    lines = capsys.readouterr().err.splitlines()
    assert f"held-out {result.history[-1].validation_loss:.6e}" in lines[-1]


X, Y = HELD_OUT
BAD = [
    (lambda: (X[:, :0], Y), ValueError, r"held_out: X is empty"),
    (lambda: (X[:0], Y[:0]), ValueError, r"held_out: X is empty"),
    (lambda: (np.hstack([X, X]), Y), ValueError, r"held_out: X must have 1 columns"),
    (lambda: (X, Y[:-1]), ValueError, r"held_out: Y "),
    (lambda: (X, np.hstack([Y, Y])), ValueError, r"held_out: Y "),
    (lambda: (np.where(X == X[3], np.nan, X), Y), ValueError, r"held_out: X\[3, 0\]"),
    (lambda: (X, np.where(Y == Y[2], np.inf, Y)), ValueError, r"held_out: Y\[2, 0\]"),
    (lambda: fg.HeldOut(X, Y, -np.ones(len(X))), ValueError, r"held_out: sample_weight\[0\]"),
    (lambda: fg.HeldOut(X, Y, np.zeros(len(X))), ValueError, r"held_out: sample_weight is zero"),
    (lambda: (X.astype(object), Y), TypeError, r"held_out: X must hold real numbers"),
    (lambda: (X,), ValueError, r"held_out must be a fastggn.HeldOut.*got 1 parts"),
    (lambda: (X, Y, np.ones(len(X))), ValueError, r"got 3 parts \(weights: fg.HeldOut"),
    (lambda: X, TypeError, r"held_out must be a fastggn.HeldOut.*not ndarray"),
    (lambda: 0.1, TypeError, r"held_out must be a fastggn.HeldOut.*not float"),
    (lambda: fg.Problem(fg.MLP((1, 3, 1)), X, Y), ValueError, "a problem of another network"),
    (lambda: fg.HeldOut(X), TypeError, "Y is missing"),
    (lambda: fg.HeldOut(fg.Problem(NET, X, Y), Y), ValueError, "has its own targets"),
    (lambda: fg.HeldOut(X, Y, patience=0), ValueError, "patience must be at least 1, got 0"),
    (lambda: fg.HeldOut(X, Y, patience=2.5), TypeError, "patience must be an integer"),
    (lambda: fg.HeldOut(X, Y, tol=-1.0), ValueError, "tol must be >= 0"),
]


@pytest.mark.parametrize("make, error, match", BAD)
def test_bad_arguments_before_any_work(problem, monkeypatch, make, error, match):
    def at(self, theta):
        raise AssertionError("work was done")

    monkeypatch.setattr(fg.Problem, "at", at)
    with pytest.raises(error, match=match):
        fg.train(problem, seed=0, held_out=make())


def test_a_pair_and_a_problem_stop_with_the_default_patience(problem):
    theta0 = NET.init(1)
    whole = fg.train(problem, theta0, held_out=fg.HeldOut(*HELD_OUT))
    assert whole.status == "early_stopped" and whole.n_iter == whole.best_iter + 20
    for held_out in (HELD_OUT, list(HELD_OUT), fg.Problem(NET, *HELD_OUT)):
        same = fg.train(problem, theta0, held_out=held_out)
        np.testing.assert_array_equal(same.theta, whole.theta)
        assert same.n_iter == whole.n_iter


def test_other_ranks_are_refused(problem):
    class TwoRanks:
        size = 2

    other = fg.Problem(NET, *HELD_OUT)
    other.comm = TwoRanks()
    with pytest.raises(ValueError, match="comm of size 2 and .* of size 1"):
        fg.train(problem, seed=0, held_out=fg.HeldOut(other, patience=None))


@pytest.mark.parametrize("cut", [False, True])
def test_a_pass_that_the_time_limit_cuts_does_not_stop_early(cut):
    """It is done again when the run is resumed, and may end with a lower loss."""
    validation = Validation(Watching(fg.Problem(NET, *HELD_OUT), 1, 0.0))
    problem = fg.Problem(NET, *TRAINING)
    point = problem.at(NET.init(0))
    validation.begin(point)
    stopping = Stopping(fg.Stop(gradient=0.0, step=0.0), 9, Clock())
    stopping.at_start(point)
    iteration = validation.watch(Iteration(point, 1.0, "cholesky", accepted=False, cut=cut))
    stop = stopping.after(point.loss, iteration)
    assert stop is None if cut else stop.status == "early_stopped"


def test_without_validation_nothing_is_kept(problem):
    result = fg.train(problem, seed=0, max_iter=2)
    assert result.best_theta is result.best_validation_loss is result.best_iter is None
    assert result.history[0].validation_loss is None
    assert fg.train(rosenbrock(), [-1.2, 1.0], max_iter=2).best_theta is None
