"""Rounding errors of the assembled GGN: in float64 against long double, and in float32."""

import numpy as np
import pytest

import fastggn as fg
from fastggn.objective.ggn_tiles import prefers_rows

EPS = np.finfo(np.float64).eps
NETS = [
    (fg.MLP((3, 8, 8, 1)), 500, "squared"),
    (fg.MLP((4, 7, 5, 3)), 300, "squared"),
    (fg.MLP((4, 7, 5, 3), "sigmoid"), 300, "softmax_cross_entropy"),
    (fg.MLP((2, 40, 1), "softplus"), 777, "huber"),
    (fg.MLP((5, 6, 2), output_activation="tanh"), 100, "squared"),
]


def _problem(net, n_samples, loss):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_samples, net.n_inputs))
    Y = rng.normal(size=(n_samples, net.n_outputs))
    if loss == "softmax_cross_entropy":
        Y = rng.integers(0, net.n_outputs, n_samples)
    return fg.Problem(net, X, Y, loss), net.init(seed=1, scheme="normal")


def _long_double_rows(problem, theta):
    """J (T, n_L, N) in long double, from the float64 factors Psi and phi."""
    parts = []
    phis, psis = problem.layer_outputs(theta), problem.layer_sensitivities(theta)
    for phi, psi in zip(phis, psis, strict=False):
        rows = np.einsum("tko,jt->tokj", psi.astype(np.longdouble), phi.astype(np.longdouble))
        parts.append(rows.reshape(*rows.shape[:2], -1))
    return np.concatenate(parts, axis=2)


@pytest.mark.parametrize("case", range(len(NETS)))
def test_ggn_is_within_8_eps_of_a_long_double_sum(case):
    problem, theta = _problem(*NETS[case])
    J = _long_double_rows(problem, theta)
    F, Y = problem.outputs(theta), problem.targets
    S = problem.loss_function.curvature_factor(F, Y)[0].astype(np.longdouble)
    H = np.einsum("tos,tps->top", S, S)
    exact = np.einsum("ton,top,tpm->nm", J, H, J, optimize=True) / problem.n_samples
    bound = np.einsum("ton,top,tpm->nm", abs(J), abs(H), abs(J), optimize=True)
    bound = 8 * EPS * bound / problem.n_samples
    excess = abs(problem.ggn(theta) - exact) - bound
    assert excess.max() <= 0.0
    assert bound.max() < 1e-12 * abs(exact).max() * problem.n_outputs**2


def test_both_routes_of_assembly_are_among_the_cases():
    routes = {prefers_rows(net, net.n_outputs) for net, _, _ in NETS}
    assert routes == {False, True}


@pytest.mark.parametrize("case", range(len(NETS)))
def test_mixed_assembly_errs_by_roundings_of_float32(case):
    problem, theta = _problem(*NETS[case])
    lin = problem.at(theta)
    exact, mixed = lin.gram(), lin.gram(mixed=True)
    J = problem.jacobian(theta).to_dense()
    scale = np.sqrt(np.outer(np.diag(exact), np.diag(exact)))
    error = abs(mixed - exact)
    assert mixed.dtype == np.float64
    assert 0.0 < error.max() <= 32 * np.finfo(np.float32).eps * max(scale.max(), abs(J).max())


def test_mixed_assembly_adds_blocks_in_float64(monkeypatch):
    from fastggn.network import workspace

    net = fg.MLP((3, 8, 8, 2))
    problem, theta = _problem(net, 5000, "squared")
    exact = problem.at(theta).gram()
    monkeypatch.setattr(workspace, "_BLOCK_BYTES", 2**19)
    mixed = problem.at(theta).gram(mixed=True)
    assert abs(mixed - exact).max() <= 16 * np.finfo(np.float32).eps * abs(exact).max()
