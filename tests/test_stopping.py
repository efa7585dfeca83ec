"""Every status that ends a run, one test each, and the order of the tests."""

import numpy as np
import pytest
from fakes import FakePoint, ResidualProblem, StillClock, rosenbrock

import fastggn as fg
from fastggn.training.result import STATUSES

START = [-1.2, 1.0]
CURVED = ("lm", "ggn", "newton")


def linear(matrix, target):
    """The residual ``matrix theta - target``."""
    matrix = np.asarray(matrix, float)
    return ResidualProblem(
        lambda t: matrix @ t - target, matrix.shape[1], matrix.shape[0], lambda t: matrix
    )


def parabola():
    """One residual 1 + theta^2: a minimum of loss 1/2."""
    return ResidualProblem(lambda t: 1.0 + t**2, 1, 1, lambda t: np.array([[2.0 * t[0]]]))


def test_statuses_are_those_of_the_interface():
    assert set(STATUSES) == {
        "converged_gradient", "converged_loss", "converged_step", "target_reached", "max_iter",
        "max_time", "interrupted", "damping_limit", "diverging", "early_stopped", "failed",
    }  # fmt: skip


@pytest.mark.parametrize("method", ["lm", "newton"])
def test_converged_gradient(method):
    result = fg.train(rosenbrock(), START, method=method)
    assert result.status == "converged_gradient"
    assert result.gradient_norm <= 1e-10
    assert result.converged
    np.testing.assert_allclose(result.theta, 1.0, atol=1e-9)


@pytest.mark.parametrize("method", ["lm", "ggn", "newton", "bp", "adam"])
def test_zero_gradient_at_the_start(method):
    result = fg.train(parabola(), [0.0], method=method, stop=fg.Stop(gradient=0.0))
    assert (result.status, result.n_iter, result.history) == ("converged_gradient", 0, [])
    assert result.loss == result.initial_loss == 0.5


@pytest.mark.parametrize("method", ["lm", "ggn", "newton", "bp", "adam"])
def test_exact_fit_at_the_start(method):
    result = fg.train(rosenbrock(), [1.0, 1.0], method=method, stop=fg.Stop(gradient=0.0))
    assert (result.status, result.n_iter) == ("converged_gradient", 0)


def test_converged_loss():
    result = fg.train(
        rosenbrock(),
        START,
        method=fg.GradientDescent(rate=1e-4),
        stop=fg.Stop(loss=1e-3),
        max_iter=10_000,
    )
    assert result.status == "converged_loss"
    last, previous = result.history[-1].loss, result.history[-2].loss
    assert abs(last - previous) <= 1e-3 * previous


def test_loss_test_is_off_by_default():
    flat = ResidualProblem(lambda t: np.ones(1) + 0.0 * t, 1, 1, lambda t: np.full((1, 1), 1e-9))
    result = fg.train(flat, [0.0], method="bp", max_iter=3)
    assert result.status == "max_iter"


def test_converged_step():
    result = fg.train(
        rosenbrock(),
        START,
        method=fg.GradientDescent(rate=1e-4),
        stop=fg.Stop(step=1e-3),
        max_iter=10_000,
    )
    assert result.status == "converged_step"
    assert result.history[-1].step_norm <= 1e-3 * (np.linalg.norm(result.theta) + 1e-3)


@pytest.mark.parametrize("method", CURVED)
def test_converged_step_at_rounding(method):
    """Asked for more than arithmetic gives, a run ends all the same."""
    rng = np.random.default_rng(0)
    problem = linear(rng.standard_normal((7, 3)), rng.standard_normal(7))
    result = fg.train(problem, np.ones(3), method=method, stop=fg.Stop(gradient=0.0))
    assert result.status in ("converged_step", "converged_gradient", "damping_limit")
    assert result.gradient_norm < 1e-14


def test_target_reached():
    result = fg.train(rosenbrock(), START, stop=fg.Stop(target=1e-3))
    assert result.status == "target_reached"
    assert result.loss <= 1e-3 < result.history[-2].loss


def test_target_reached_at_the_start():
    result = fg.train(rosenbrock(), START, stop=fg.Stop(target=100.0))
    assert (result.status, result.n_iter) == ("target_reached", 0)


@pytest.mark.parametrize("max_iter", [0, 1, 3])
def test_max_iter(max_iter):
    result = fg.train(rosenbrock(), START, max_iter=max_iter)
    assert (result.status, result.n_iter) == ("max_iter", max_iter)
    assert len(result.history) == max_iter
    assert not result.converged


def test_max_time(monkeypatch):
    clock = StillClock(monkeypatch)
    callbacks = [lambda record: clock.move(0.03)]
    result = fg.train(rosenbrock(), START, max_time=0.05, callbacks=callbacks)
    assert (result.status, result.n_iter) == ("max_time", 2)
    assert [record.seconds for record in result.history] == [0.0, 0.03]


def test_interrupted_by_a_callback():
    result = fg.train(rosenbrock(), START, callbacks=[lambda record: record.iteration == 2])
    assert (result.status, result.n_iter) == ("interrupted", 2)


def test_only_true_interrupts():
    result = fg.train(rosenbrock(), START, max_iter=3, callbacks=[lambda record: "go on"])
    assert result.status == "max_iter"


def test_all_callbacks_see_every_record():
    seen = [[], []]
    first = lambda record: seen[0].append(record) or True  # noqa: E731
    result = fg.train(rosenbrock(), START, callbacks=[first, seen[1].append])
    assert seen[0] == seen[1] == result.history


@pytest.mark.parametrize("place", ["gradient", "predicted_decrease", "callback"])
def test_interrupted_by_ctrl_c(monkeypatch, place):
    """The last accepted theta comes back, wherever the signal arrives."""
    accepted, signals = [], [KeyboardInterrupt]

    def watch(record):
        accepted.append(record)
        if place == "callback" and record.iteration == 3:
            raise signals.pop()

    def interrupt(self, *args):
        if len(accepted) == 3 and signals:
            raise signals.pop()
        return original(self, *args)

    if place == "gradient":
        original = FakePoint.gradient.func
        monkeypatch.setattr(FakePoint, place, property(interrupt))
    elif place != "callback":
        original = getattr(FakePoint, place)
        monkeypatch.setattr(FakePoint, place, interrupt)
    result = fg.train(rosenbrock(), START, callbacks=[watch])
    assert result.status == "interrupted"
    assert result.loss == accepted[-1].loss
    assert result.loss == rosenbrock().loss(result.theta)


def test_damping_limit():
    """A gradient of the wrong sign: no step lowers the loss."""
    wrong = ResidualProblem(lambda t: t, 2, 2, lambda t: -np.eye(2))
    result = fg.train(wrong, [1.0, 2.0], stop=fg.Stop(step=0.0))
    assert result.status == "damping_limit"
    assert (result.n_iter, result.history[0].accepted) == (1, False)
    assert result.history[0].rejections > 3
    np.testing.assert_array_equal(result.theta, [1.0, 2.0])


def test_failed_at_the_start():
    problem = ResidualProblem(lambda t: np.log(t), 1, 1, lambda t: np.array([[1.0 / t[0]]]))
    result = fg.train(problem, [-1.0])
    assert result.status == "failed"
    assert "theta0" in result.message
    np.testing.assert_array_equal(result.theta, [-1.0])


def test_failed_step_leaves_theta():
    """The undamped step for log(theta) = 0 from 3 lands at 3 - 3 log 3 < 0."""
    problem = ResidualProblem(lambda t: np.log(t), 1, 1, lambda t: np.array([[1.0 / t[0]]]))
    result = fg.train(problem, [3.0], method="ggn")
    assert (result.status, result.n_iter) == ("failed", 1)
    assert not result.history[0].accepted
    np.testing.assert_array_equal(result.theta, [3.0])


@pytest.mark.parametrize("method", ["lm", "newton"])
def test_a_trial_that_is_not_finite_is_rejected(method):
    problem = ResidualProblem(lambda t: np.log(t), 1, 1, lambda t: np.array([[1.0 / t[0]]]))
    result = fg.train(problem, [30.0], method=method, stop=fg.Stop(gradient=1e-9))
    assert result.status == "converged_gradient"
    assert result.theta[0] == pytest.approx(1.0)
    assert sum(record.rejections for record in result.history) > 0


def test_gradient_descent_that_explodes_fails_with_finite_theta():
    result = fg.train(rosenbrock(), START, method=fg.GradientDescent(rate=1.0))
    assert result.status == "failed"
    assert np.isfinite(result.theta).all()
    assert np.isfinite(result.loss)


@pytest.mark.parametrize("method", CURVED)
def test_diverging_on_separable_classes(method):
    X = np.array([[-2.0], [-1.0], [1.0], [2.0]])
    problem = fg.Problem(fg.MLP((1, 1)), X, np.array([0.0, 0.0, 1.0, 1.0]), loss="logistic")
    result = fg.train(problem, [0.1, 0.2], method=method)  # no warning: it is the usual end
    assert result.status == "diverging" and "l2 > 0" in result.message
    assert result.loss < 1e-4


@pytest.mark.parametrize("method", CURVED)
def test_not_diverging_with_l2_or_without_separation(method, recwarn):
    X = np.array([[-2.0], [-1.0], [1.0], [2.0]])
    separable = np.array([0.0, 0.0, 1.0, 1.0])
    net = fg.MLP((1, 1))
    for Y, l2 in ((separable, 1e-4), (np.array([0.0, 1.0, 0.0, 1.0]), 0.0)):
        result = fg.train(fg.Problem(net, X, Y, loss="logistic", l2=l2), [0.1, 0.2], method=method)
        assert result.status == "converged_gradient"
    assert not [w for w in recwarn if issubclass(w.category, fg.DivergenceWarning)]


@pytest.mark.filterwarnings("ignore::fastggn.SingularSystemWarning")  # at the exact fit
@pytest.mark.parametrize("method", ["lm", "newton"])
def test_constant_target(method):
    """The output bias alone fits it."""
    X = np.random.default_rng(0).standard_normal((20, 2))
    problem = fg.Problem(fg.MLP((2, 4, 1)), X, np.full(20, 0.7))
    result = fg.train(problem, seed=0, method=method)
    assert result.status == "converged_gradient"
    assert result.loss < 1e-18


def test_target_wins_over_gradient():
    result = fg.train(rosenbrock(), [1.0, 1.0], stop=fg.Stop(target=0.0))
    assert result.status == "target_reached"


def test_messages_hold_the_numbers():
    result = fg.train(rosenbrock(), START, stop=fg.Stop(target=1e-3))
    assert "0.001" in result.message


def test_stagnation_at_a_kink():
    """Iterations that change the loss by rounding only come to an end."""
    from fastggn.training.control.stopping import IDLE_ITERATIONS, Stagnation

    stagnation = Stagnation()
    for _ in range(IDLE_ITERATIONS):
        assert not stagnation.holds
        stagnation.observe(1.0, 1.0 - 1e-15, 0.1)
    stagnation.observe(1.0, 1.0, 0.1)
    assert stagnation.holds
    stagnation.observe(1.0, 1.0, 0.05)  # the gradient falls: progress
    assert not stagnation.holds


@pytest.mark.parametrize("method", ["lm", "newton"])
def test_relu_ends_at_a_kink_of_the_loss(method):
    X, Y = fg.data.four_regions(50, seed=0)
    problem = fg.Problem(fg.MLP((2, 6, 1), activation="relu"), X, Y)
    result = fg.train(problem, seed=0, method=method, max_iter=2000)
    assert result.status.startswith("converged")
