"""Every derivative of the package against automatic differentiation, on random networks."""

import functools

import numpy as np
import pytest
from cases import (
    ACTIVATIONS,
    BIASES,
    LOSSES,
    MAX_PARAMS,
    SAMPLES,
    each_case,
    random_cases,
    user_cases,
)
from checks import assert_close, assert_operator

pytest.importorskip("jax", reason="needs the package jax (extra 'test')")

import jax_reference  # noqa: E402  (after the check for jax)

CASES = (*random_cases(), *user_cases())
# JAX compiles a reference in three seconds.
each = each_case(CASES, every=4)


@functools.cache
def _problem(name):
    return next(case for case in CASES if case.id == name).problem()


@functools.cache
def _system(name):
    return _problem(name).at(next(case for case in CASES if case.id == name).theta)


def _ggn_of_data(case, reference):
    return reference.ggn - case.l2 * np.eye(case.n_params)


def _dense_system(case):
    """A (M, N), the signs (M,) and b (M,) or None of the linearisation, from its row blocks."""
    system = _system(case.id)
    blocks = list(system.row_blocks())
    A = np.vstack([block for block, _ in blocks])
    signs = np.ones(len(A)) if system.signs is None else system.signs
    b = None if system.b is None else np.concatenate([part for _, part in blocks])
    return system, A, signs, b


def _by_sample(case, array):
    """Rows of the system, grouped by samples: (T, n_S, ...)."""
    return array.reshape(case.n_samples, -1, *array.shape[1:])


def test_the_cases_cover_the_contract():
    """At least 60 networks; every activation, loss, bias, depth, number of samples, option."""
    cases = random_cases()
    assert len(cases) >= 60
    assert all(case.n_params <= MAX_PARAMS for case in cases)
    assert {case.n_layers for case in cases} == {1, 2, 3, 4, 5}
    assert {case.n_samples for case in cases} == set(SAMPLES)
    assert {width for case in cases for width in case.widths} >= {1, 40}
    assert max(width for case in cases for width in case.widths) == 40
    assert {name for case in cases for name in case.activations[:-1]} == set(ACTIVATIONS)
    assert {case.activations[-1] for case in cases} == set(ACTIVATIONS)
    drawn = {(case.loss, case.curvature) for case in cases}
    assert drawn == {(name, kind) for name, _ in LOSSES for kind in ("psd", "exact")}
    kinds = {case.bias if isinstance(case.bias, str) else "fixed" for case in cases}
    assert kinds == set(BIASES)
    assert sum(case.sample_weight is not None for case in cases) >= 20
    assert sum(case.l2 > 0 for case in cases) >= 20
    assert sum(case.gates is not None for case in cases) >= 10


@each
def test_outputs_loss_and_gradient(case):
    """F, J(theta) and its gradient."""
    problem, reference = _problem(case.id), jax_reference.evaluate(case)
    assert (problem.n_samples, problem.n_outputs) == reference.outputs.shape
    assert problem.n_params == case.n_params
    assert_close(case, "outputs", problem.outputs(case.theta), reference.outputs)
    assert_close(case, "loss", problem.loss(case.theta), reference.loss)
    assert_close(case, "gradient", problem.gradient(case.theta), reference.gradient)


@each
def test_predict(case):
    """The network's own forward pass, without gates."""
    if case.gates is not None:
        pytest.skip("gates belong to the problem")
    outputs = case.network().predict(case.theta, case.X)
    assert_close(case, "predict", outputs, jax_reference.evaluate(case).outputs)


@each
def test_jacobian(case):
    """J dense, as an operator, and in Shen's order."""
    J, want = _problem(case.id).jacobian(case.theta), jax_reference.evaluate(case).jacobian
    assert_close(case, "J.to_dense()", J.to_dense(), want)
    assert_operator(case, "J", J, want)
    dummy = 1 if isinstance(case.bias, str) and case.bias == "free" else 0
    sizes = [(m + dummy) * n for m, n in zip(case.widths[:-1], case.widths[1:], strict=True)]
    layers = np.split(want.T, np.cumsum(sizes)[:-1])
    assert_close(case, "J.shen_matrix()", J.shen_matrix(), np.vstack(layers[::-1]))


@each
def test_grams(case):
    """J^T J and J J^T, assembled without J."""
    problem, reference = _problem(case.id), jax_reference.evaluate(case)
    J, want = problem.jacobian(case.theta), reference.jacobian
    for name, got, expected in (
        ("J.gram()", J.gram(), want.T @ want),
        ("J.dual_gram()", J.dual_gram(), reference.dual_gram),
        ("dual_gram", problem.dual_gram(case.theta), reference.dual_gram),
    ):
        assert_close(case, name, got, expected)
        assert np.array_equal(got, got.T), f"{case}: {name} is not symmetric"


@each
def test_rank(case):
    """Singular values and rank; with many dependent columns where T n_L < N."""
    J, want = _problem(case.id).jacobian(case.theta), jax_reference.evaluate(case).jacobian
    s = np.linalg.svd(want, compute_uv=False)
    assert_close(case, "J.singular_values()", J.singular_values(), s, 1e-11)
    assert J.rank() == np.linalg.matrix_rank(want), f"{case}: J.rank()"


@each
def test_ggn(case):
    """The GGN in structured form and as an operator."""
    problem, reference = _problem(case.id), jax_reference.evaluate(case)
    G = problem.ggn(case.theta)
    assert_close(case, "ggn", G, reference.ggn)
    assert np.array_equal(G, G.T), f"{case}: ggn is not symmetric"
    assert_operator(case, "ggn_operator", problem.ggn_operator(case.theta), reference.ggn)


@each
def test_hessian(case):
    """The exact Hessian, dense and as an operator."""
    problem, reference = _problem(case.id), jax_reference.evaluate(case)
    H = problem.hessian(case.theta)
    assert_close(case, "hessian", H, reference.hessian)
    assert np.array_equal(H, H.T), f"{case}: hessian is not symmetric"
    operator = problem.hessian_operator(case.theta)
    assert_operator(case, "hessian_operator", operator, reference.hessian)


@each
def test_linearisation_scalars_and_gradients(case):
    """The loss and gradient, total and of the data alone."""
    system, reference = _system(case.id), jax_reference.evaluate(case)
    penalty = 0.5 * case.l2 * case.theta @ case.theta
    assert np.array_equal(system.theta, case.theta)
    assert (system.n_params, system.l2) == (case.n_params, case.l2)
    assert_close(case, "lin.loss", system.loss, reference.loss)
    assert_close(case, "lin.data_loss", system.data_loss, reference.loss - penalty)
    assert_close(case, "lin.gradient", system.gradient, reference.gradient)
    data_gradient = reference.gradient - case.l2 * case.theta
    assert_close(case, "lin.data_gradient", system.data_gradient, data_gradient)


@each
def test_linearisation_is_the_system_of_the_reference(case):
    """A^T D A and A^T b, sample by sample, are those of autodiff."""
    system, A, signs, b = _dense_system(case)
    reference = jax_reference.evaluate(case)
    assert A.shape == (system.n_rows, case.n_params)
    J = _by_sample(case, reference.jacobian)
    rows, D = _by_sample(case, A), _by_sample(case, signs)
    assert set(np.unique(signs)) <= {-1.0, 0.0, 1.0}
    weighted = reference.weight[:, None, None] * reference.loss_hessians
    want = np.einsum("ian,iab,ibm->inm", J, weighted, J, optimize=True)
    got = np.einsum("isn,is,ism->inm", rows, D, rows, optimize=True)
    assert_close(case, "A_i^T D_i A_i", got, want)
    if case.curvature == "psd":
        assert system.signs is None, f"{case}: psd curvature with signs"
        assert b is not None, f"{case}: no b although every sample has one"
    if b is not None:
        assert system.signs is None, f"{case}: b beside signs"
        want = np.einsum("i,ian,ia->in", reference.weight, J, reference.errors)
        got = np.einsum("isn,is->in", rows, _by_sample(case, b))
        assert_close(case, "A_i^T b_i", got, want)
        assert_close(case, "lin.b", system.b, b)


@each
def test_linearisation_products(case):
    """lin.matvec, rmatvec, gram and dual_gram are those of its own A."""
    system, A, signs, _ = _dense_system(case)
    rng = np.random.default_rng(1)
    v, u = rng.standard_normal(case.n_params), rng.standard_normal(system.n_rows)
    assert_close(case, "lin.matvec(v)", system.matvec(v), A @ v)
    assert_close(case, "lin.rmatvec(u)", system.rmatvec(u), A.T @ u)
    gram = system.gram()
    assert_close(case, "lin.gram()", gram, (A.T * signs) @ A)
    assert_close(case, "lin.gram()", gram, _ggn_of_data(case, jax_reference.evaluate(case)))
    assert np.array_equal(gram, gram.T) and gram.flags.c_contiguous
    gram[:] = np.nan  # a new array each time
    assert np.isfinite(system.gram()).all()
    assert_close(case, "lin.dual_gram()", system.dual_gram(), A @ A.T)
    step = 0.1 * v
    curvature = step @ ((A.T * signs) @ (A @ step)) + case.l2 * step @ step
    want = -(system.gradient @ step + 0.5 * curvature)
    assert_close(case, "lin.predicted_decrease", system.predicted_decrease(step), want)


@each
def test_linearisation_curvature_along(case):
    """A^T D c = J^T H F'' for c = lin.curvature_along(v), F'' the second derivative along v."""
    system, A, signs, _ = _dense_system(case)
    reference = jax_reference.evaluate(case)
    c = system.curvature_along(reference.direction)
    assert c.shape == (system.n_rows,)
    force = np.einsum("i,iab,ib->ia", reference.weight, reference.loss_hessians, reference.second)
    J = _by_sample(case, reference.jacobian)
    got = np.einsum("isn,is,is->in", *(_by_sample(case, a) for a in (A, signs, c)))
    assert_close(case, "A_i^T D_i c_i", got, np.einsum("ian,ia->in", J, force))
    want = np.einsum("ia,ia->i", force, reference.second)
    got = (_by_sample(case, signs) * _by_sample(case, c) ** 2).sum(axis=1)
    assert_close(case, "|c_i|^2", got, want)


@each
def test_linearisation_kronecker_factors(case):
    """One pair a layer: symmetric, positive semi-definite, exact for a single sample."""
    system, A, _, _ = _dense_system(case)
    factors = system.kronecker_factors()
    assert len(factors) == case.n_layers
    start = 0
    for k, (U, V) in enumerate(factors):
        n, m = case.widths[k + 1], len(V)
        assert U.shape == (n, n) and V.shape == (m, m)
        for factor in (U, V):
            assert_close(case, f"factor of layer {k + 1}", factor, factor.T)
            eigenvalues = np.linalg.eigvalsh(factor)
            assert eigenvalues[0] >= -1e-12 * max(eigenvalues[-1], 1e-300)
        block = A[:, start : start + n * m]
        start += n * m
        if case.n_samples == 1:
            assert_close(case, f"block of layer {k + 1}", np.kron(U, V), block.T @ block)
    assert start == case.n_params


@each_case(CASES[::6])
def test_subset(case):
    """A subset is the problem of those rows, with the mean over them."""
    rows = np.arange(case.n_samples)[::2][::-1]
    if case.sample_weight is not None:
        rows = rows[case.sample_weight[rows] > 0]
    if len(rows) == 0:
        pytest.skip("no sample with a weight")
    weight = None if case.sample_weight is None else case.sample_weight[rows]
    gates = None if case.gates is None else [gate[rows] for gate in case.gates]
    part = case.problem(X=case.X[rows], Y=case.Y[rows], sample_weight=weight, gates=gates)
    subset = _problem(case.id).subset(rows)
    assert subset.n_samples == len(rows)
    theta = case.theta
    assert_close(case, "subset loss", subset.loss(theta), part.loss(theta))
    assert_close(case, "subset gradient", subset.gradient(theta), part.gradient(theta))
    assert_close(case, "subset ggn", subset.ggn(theta), part.ggn(theta))
