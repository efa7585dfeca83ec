"""The updates of alpha and beta where few rows can be fitted nearly exactly: gamma follows l2."""

import numpy as np
import pytest
from dense_system import Prepared

import fastggn as fg
from fastggn.solvers.choice import get_solver
from fastggn.training.regularisation.bayesian import EvidenceControl


def steep_table(seed):
    """Return a network of 161 parameters on 64 to 79 rows, and its own random generator."""
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((int(rng.integers(64, 80)), 6))
    X = np.round(X) if seed % 2 else X  # few levels of each input
    Z = X @ (rng.standard_normal((6, 2)) * [1.0, 0.3])
    Y = np.exp(Z[:, 0]) + Z[:, 1] ** 2
    Y = (Y - Y.mean()) / Y.std()
    if seed % 3 == 0:
        Y += 10.0 ** rng.uniform(-4.0, -2.0) * rng.standard_normal(Y.shape)
    return fg.Problem(fg.MLP((6, 20, 1)), X, Y)


def check(seed):
    """A network with its weights switched off has no higher evidence from a start that fits."""
    problem = steep_table(seed)
    found = fg.train(problem, seed=seed, regularize=fg.Evidence(), max_iter=300).evidence
    if found.effective_parameters < 1.0:
        fit = fg.train(problem, seed=seed, max_iter=40)
        other = fg.train(problem, fit.theta, regularize=fg.Evidence(), max_iter=300).evidence
        assert found.log_evidence > other.log_evidence - 1.0, seed
    return found


@pytest.mark.parametrize("seed", [22, 54])
def test_no_network_is_switched_off(seed):
    """With gamma held from one count to the next, both ended with all weights at zero."""
    assert check(seed).effective_parameters > 30.0


@pytest.mark.slow
def test_no_network_of_many_is_switched_off():
    """Held, 22, 54 and 67 ended so, and 56 in a division by zero."""
    for seed in range(150):
        check(seed)


class Counted:
    """The systems of a run, as far as a count of gamma asks for them."""

    samples = None

    def prepare(self, point):
        return Prepared(get_solver("dual" if point.n_rows < point.n_params else "qr"), point)


@pytest.mark.parametrize(("T", "l2"), [(70, 1e-5), (70, 1e-3), (70, 1.0), (400, 1e-3), (400, 1.0)])
def test_gamma_follows_l2(T, l2):
    """Against the eigenvalues: right to 15 % of its own change, and between 0 and its bound."""
    rng = np.random.default_rng(3)
    X = rng.standard_normal((T, 6))
    problem = fg.Problem(fg.MLP((6, 20, 1)), X, np.sin(X[:, :1]))
    control = EvidenceControl(problem, None, Counted(), fg.Evidence())
    point = problem.with_l2(l2).at(problem.network.init(seed=0))
    control._begin(point)
    point.reweigh(l2, None)
    control._count(point)
    values = np.linalg.eigvalsh(point.gram())[::-1][:T]

    def gamma(mu):
        return float(np.sum(np.maximum(values, 0.0) / (np.maximum(values, 0.0) + mu)))

    assert control._followed(l2) == pytest.approx(gamma(l2), rel=1e-10)
    most = min(T, problem.n_params)
    for factor in (0.1, 0.3, 3.0, 10.0):
        true, found = gamma(factor * l2), control._followed(factor * l2)
        assert 0.0 < found < most
        assert abs(found - true) < 0.35 * abs(gamma(l2) - true), factor
        # The share that is left, which beta takes, is right within a factor too.
        assert 0.6 < (most - found) / (most - true) < 1.6, factor
    # Beyond all eigenvalues, and below them: neither more than all nor less than nothing.
    assert 0.0 <= control._followed(1e12 * l2) <= control._followed(1e-12 * l2) <= most
