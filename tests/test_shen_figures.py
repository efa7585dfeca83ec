"""Shen's Figure 1: the measured order, stuck runs and their rank, and GGN against descent."""

import numpy as np
import pytest

import fastggn as fg
from fastggn.runtime.threads import max_threads
from papers import shen_fig1a, shen_fig1b, shen_fig1c

# --- Figure 1(a) --------------------------------------------------------------------------------


def test_the_order_of_known_sequences():
    quadratic = [0.5 ** (2**k) for k in range(6)]
    assert shen_fig1a.fitted_order(quadratic, 1e-30) == pytest.approx(2.0)
    linear = [0.3**k for k in range(8)]
    assert shen_fig1a.fitted_order(linear, 0.0) == pytest.approx(1.0)
    assert shen_fig1a.fitted_order([1.0, 0.1], 0.0) is None
    assert shen_fig1a.fitted_order([3.0, 2.0, 2.5, 1.0], 0.0) is None
    # The last triple would be (.5^4, .5^8, floor): order 0.2. It ends below the bound.
    assert shen_fig1a.fitted_order([0.5, 0.5**2, 0.5**4, 0.5**8, 0.5**9], 0.5**8.5) == (
        pytest.approx(2.0)
    )


def test_iterates_are_the_steps_of_the_pseudoinverse():
    X, Y = fg.data.four_regions(6, seed=1)
    problem = fg.Problem(fg.MLP((2, 5, 1), "bent_identity"), X, Y)
    theta = problem.network.init(3, "normal")
    points, losses = shen_fig1a.iterates(problem, theta, 4, 1.0)
    for k in range(4):
        J = problem.jacobian(theta).to_dense()
        residual = (problem.network.predict(theta, X) - Y).ravel()
        assert losses[k] == pytest.approx(residual @ residual / 12)
        theta = theta - np.linalg.pinv(J) @ residual
        np.testing.assert_allclose(points[k + 1], theta, rtol=1e-8, atol=1e-8)
    whole = fg.train(problem, points[0], "ggn", max_iter=4, stop=fg.Stop(gradient=0.0, step=0.0))
    np.testing.assert_array_equal(points[4], whole.theta)


def test_undamped_steps_converge_with_order_two():
    result = shen_fig1a.run({**shen_fig1a.QUICK, "starts": 10}, lambda line: None)
    assert result["converged"] == 10 and result["fitted"] == 10
    assert 1.8 <= result["order"] <= 2.2
    for one in result["runs"]:
        assert one["losses"][-1] < 1e-24  # an exact fit: a point of the manifold
        assert one["floor"] < 1e-9 * one["theta_norm"]


def test_short_steps_converge_linearly():
    config = {**shen_fig1a.QUICK, "starts": 3, "alpha": 0.5, "iterations": 120}
    result = shen_fig1a.run(config, lambda line: None)
    assert result["order"] == pytest.approx(1.0, abs=0.1)


# --- Figure 1(b) --------------------------------------------------------------------------------


def cells(**changes):
    config = {**shen_fig1b.QUICK, **changes}
    with fg.threads(1):
        found = shen_fig1b.run(config, lambda line: None)["cells"]
    return {(c["init"], c["activation"]): c for c in found}


@pytest.mark.slow
def test_what_the_initial_weights_do():
    found = cells(
        activations=["sigmoid", "tanh", "softsign", "bent_identity"],
        inits=[["normal", 1.0], ["glorot", 1.0], ["normal", 10.0]],
        starts=8,
    )
    for (init, activation), c in found.items():
        assert c["fit"] + c["stuck"] <= c["starts"] == len(c["losses"]) == 8
        if activation in ("softsign", "bent_identity"):
            assert c["fit"] == 8, (init, activation)
    assert found["normal", "sigmoid"]["fit"] >= 6 and found["normal", "tanh"]["fit"] >= 6
    # Small weights: nearly linear units, an ill-conditioned Jacobian, a step out of all bounds.
    small, usual = found["glorot", "sigmoid"], found["normal", "sigmoid"]
    assert small["median_condition"] > 20 * usual["median_condition"]
    assert small["median_first_step"] > 10 * usual["median_first_step"]
    assert small["stuck"] >= 4
    # Large ones: tanh begins saturated.
    assert found["normal x 10", "tanh"]["stuck"] >= 2
    # Where a run is stuck, the Jacobian has lost rank: 20 would make it a global minimum.
    for c in found.values():
        assert (c["rank_where_stuck"] is None) == (c["stuck"] == 0)
        assert c["rank_where_stuck"] is None or c["rank_where_stuck"] < 20


@pytest.mark.process
def test_processes_do_not_change_the_result():
    small = {"activations": ["tanh"], "starts": 2, "iterations": 5}
    config = {**shen_fig1b.QUICK, **small}
    with fg.threads(1):
        serial = shen_fig1b.run(config, lambda line: None)
    if max_threads() < 2:
        pytest.skip("one core: no second process")
    with fg.threads(2):
        spread = shen_fig1b.run(config, lambda line: None)
    assert serial == spread


# --- Figure 1(c) --------------------------------------------------------------------------------


def test_damped_steps_against_the_dense_solution():
    X, Y = fg.data.four_regions(30, seed=0, one_hot=True)
    problem = fg.Problem(fg.MLP((2, 4, 3, 4), "tanh"), X, Y)
    theta = problem.network.init(0)
    losses = shen_fig1c.damped_ggn(problem, theta, 6, 0.1, 1e-3)
    for k in range(7):
        assert losses[k] == pytest.approx(problem.loss(theta), rel=1e-9)
        G = problem.ggn(theta) + 1e-3 * np.eye(theta.size)
        theta = theta - 0.1 * np.linalg.solve(G, problem.gradient(theta))
    assert len(losses) == 7


def test_gradient_descent_is_that_of_train():
    X, Y = fg.data.four_regions(30, seed=0, one_hot=True)
    problem = fg.Problem(fg.MLP((2, 4, 3, 4), "tanh"), X, Y)
    theta = problem.network.init(0)
    losses = shen_fig1c.gradient_descent(problem, theta, 9, 0.1)
    method, stop = fg.GradientDescent(rate=0.1), fg.Stop(gradient=0.0, step=0.0)
    whole = fg.train(problem, theta, method, max_iter=9, stop=stop)
    np.testing.assert_allclose(losses[1:], [r.loss for r in whole.history], rtol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_passes_count_the_multiplications(seed):
    """Against loops that count: Householder reflections, products of rows, Cholesky."""
    rng = np.random.default_rng(seed)
    N = int(rng.integers(20, 40))
    T, n = int(rng.integers(N, 3 * N)), int(rng.integers(1, 4))
    rows = (1 + 2 * n) * T * N
    reflections = sum(2 * (T * n - k) * (N - k) for k in range(N))
    gram = T * n * N * (N + 1) // 2
    cholesky = sum((N - k) * (N - k + 1) // 2 for k in range(1, N + 1))
    found = shen_fig1c.passes_of_an_iteration(T, n, N)
    assert found["bp"] == 1.0
    assert found["ggn"] * 3 * T * N == pytest.approx(rows + reflections, rel=0.08)
    assert found["damped"] * 3 * T * N == pytest.approx(rows + gram + cholesky, rel=0.08)


def test_figures_of_a_known_run():
    f = shen_fig1c._figures([1.0, 4.0, 3.0, 2.0, 2.5, 1.0, 0.5, 0.4, 0.3, 0.2, 0.1])
    assert (f["first"], f["peak"], f["peak_iteration"], f["last"]) == (1.0, 4.0, 1, 0.1)
    assert f["rises"] == 2 and f["rises_after_peak"] == 1
    assert f["swing_last_tenth"] == pytest.approx(2.0)
    assert f["rising_share_first_tenth"] == 1.0 and f["rising_share_last_tenth"] == 0.0


@pytest.mark.slow
@pytest.mark.xdist_group("shen-fig1c")
def test_ggn_rises_first_and_a_touch_of_damping_saves_it(quick):
    """The quick form goes to where the effect is: all three have fallen below their start."""
    result = quick("shen-fig1c").document()["result"]
    ggn, damped, bp = (result["starts"][0][name] for name in ("ggn", "damped", "bp"))
    assert ggn["peak"] > 100 * ggn["first"] and ggn["peak_iteration"] < 50
    assert 0.1 < ggn["last"] < ggn["first"]
    assert damped["peak"] < 100 * damped["first"]
    assert damped["last"] < 0.1 * ggn["last"] and damped["last"] < bp["at"]["1000"]
    assert bp["iterations"] == shen_fig1c.PAPER_STEPS and bp["last"] < bp["at"]["1000"]
    assert result["bp_alpha"] == pytest.approx(1.0)
    assert shen_fig1c._bp_alpha({**shen_fig1c.QUICK, "bp_gradient": "mean"}) == 0.01


@pytest.mark.parametrize("change", [{"bp_gradient": "max"}, {"starts": 0}, {"shown": 3}])
def test_bad_configurations_are_refused(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        shen_fig1c.run({**shen_fig1c.QUICK, **change}, lambda line: None)
