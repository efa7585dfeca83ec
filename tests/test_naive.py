"""The textbook reference against automatic differentiation: the oracle of the oracle."""

import numpy as np
import pytest
from cases import each_case, random_cases, tiny_cases, user_cases
from checks import assert_close

pytest.importorskip("jax", reason="needs the package jax (extra 'test')")

import jax_reference  # noqa: E402  (after the check for jax)

CASES = (*random_cases(), *user_cases(), *tiny_cases())


@each_case(CASES, every=4)
def test_naive_agrees_with_autodiff(case):
    """Every quantity of the textbook reference, to 1e-12."""
    reference, naive = jax_reference.evaluate(case), case.naive()
    assert case.n_params == naive.network.n_params
    for name in ("outputs", "loss", "gradient", "jacobian", "hessian", "ggn", "dual_gram"):
        got, want = getattr(naive, name)(case.theta), getattr(reference, name)
        assert_close(case, name, got, want, 1e-12)
    for name in ("errors", "loss_hessians"):
        assert_close(case, name, getattr(naive, name)(case.theta), getattr(reference, name), 1e-12)


@pytest.mark.parametrize("case", tiny_cases(), ids=str)
def test_shen_order(case):
    """P reversed block by block is the transposed Jacobian; P eps is the data gradient."""
    naive = case.naive()
    blocks = naive.shen_blocks(case.theta)
    P = naive.shen_matrix(case.theta)
    start = 0
    for layer in sorted(blocks, reverse=True):
        assert np.array_equal(P[start : start + len(blocks[layer])], blocks[layer])
        start += len(blocks[layer])
    weighted = naive.weight[:, None] * naive.errors(case.theta)
    gradient = naive.jacobian(case.theta).T @ weighted.ravel() + case.l2 * case.theta
    assert_close(case, "P eps", gradient, naive.gradient(case.theta), 1e-12)
