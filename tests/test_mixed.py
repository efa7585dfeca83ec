"""precision="mixed": fewer digits in the matrix, the same training."""

import numpy as np
import pytest

import fastggn as fg
from fastggn.solvers.cholesky import EPS32, FLOOR, CholeskySolver

MIXED = "cholesky (mixed)"


def _smooth(n_samples=300):
    rng = np.random.default_rng(0)
    X = rng.uniform(-1, 1, (n_samples, 2))
    return fg.Problem(fg.MLP((2, 8, 1)), X, np.sin(3 * X[:, 0]) * X[:, 1])


@pytest.mark.filterwarnings("ignore::fastggn.SingularSystemWarning")  # in the last digits
def test_a_run_begins_in_float32_and_ends_in_float64():
    result = fg.train(
        _smooth(), seed=0, method=fg.LevenbergMarquardt(precision="mixed"), max_iter=300
    )
    solvers = [record.solver for record in result.history]
    assert solvers[0] == MIXED and solvers[-1] == "cholesky"
    last = max(i for i, name in enumerate(solvers) if name == MIXED)
    assert set(solvers[last + 1 :]) == {"cholesky"}
    assert result.history[-1].loss < 1e-2 * result.initial_loss


def test_mixed_reaches_the_digits_of_float64_on_a_teacher():
    net = fg.MLP((2, 4, 1))
    rng = np.random.default_rng(1)
    X = rng.normal(size=(200, 2))
    teacher = net.init(seed=5, scheme="normal")
    problem = fg.Problem(net, X, net.predict(teacher, X))
    start = teacher + 0.05 * rng.normal(size=net.n_params)
    result = fg.train(
        problem,
        start,
        method=fg.LevenbergMarquardt(precision="mixed"),
        stop=fg.Stop(target=1e-20),
        max_iter=60,
    )
    assert result.status == "target_reached"


def test_a_damping_below_the_rounding_of_the_matrix_ends_the_mixed_phase():
    problem = _smooth()
    theta = problem.network.init(seed=0)
    state = CholeskySolver(mixed=True).prepare(problem.at(theta))
    largest = np.diag(problem.at(theta).gram(mixed=True)).max()
    assert state.least_damping == pytest.approx(FLOOR * EPS32 * largest, rel=1e-12)
    result = fg.train(
        problem, theta, method=fg.LevenbergMarquardt(precision="mixed", damping=1e-12), max_iter=3
    )
    assert {record.solver for record in result.history} == {"cholesky"}


def test_a_failed_factorisation_is_repeated_in_float64(monkeypatch):
    from fastggn.solvers import base
    from fastggn.solvers.cholesky import CholeskyState

    solve = CholeskyState.solve

    def failing(self, shift, c=None):
        if self.least_damping > 0.0:
            return base.failure(self._lin.n_params, "not_positive_definite", "injected")
        return solve(self, shift, c)

    monkeypatch.setattr(CholeskyState, "solve", failing)
    problem = _smooth()
    result = fg.train(
        problem,
        seed=0,
        method=fg.LevenbergMarquardt(precision="mixed"),
        max_iter=5,
        stop=fg.Stop(loss=0.0),
    )
    expected = fg.train(problem, seed=0, max_iter=5)
    assert {record.solver for record in result.history} == {"cholesky"}
    np.testing.assert_array_equal(result.theta, expected.theta)
    assert result.history[-1].assemblies > expected.history[-1].assemblies


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_kin8nm(kin8nm, seed):
    """0.045 in at most 2 more assemblies, and the end of float64 to 1e-3.

    Without geodesic steps, and on all samples: samples change a run by more than float32 does.
    """
    exact, mixed = (
        fg.train(
            kin8nm,
            seed=seed,
            method=fg.LevenbergMarquardt(
                geodesic=False, precision=precision, curvature_samples="all"
            ),
            max_iter=90,
        )
        for precision in ("float64", "mixed")
    )

    def assemblies_to_target(result):
        return next(r.assemblies for r in result.history if r.loss <= 0.0225)

    assert assemblies_to_target(mixed) <= assemblies_to_target(exact) + 2
    count = min(exact.history[-1].assemblies, mixed.history[-1].assemblies)

    def at(result):
        return min(r.loss for r in result.history if r.assemblies <= count)

    assert mixed.history[-1].solver == "cholesky"
    assert abs(at(mixed) - at(exact)) <= 1e-3 * at(exact)


def test_a_solver_that_does_not_fit():
    method = fg.LevenbergMarquardt(precision="mixed", solver="qr")
    with pytest.raises(ValueError, match="precision='mixed' .* solver is qr"):
        fg.train(_smooth(), method=method)
