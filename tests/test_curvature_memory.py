"""Curvature matrices in memory that is used again, and never while anybody looks at it."""

import gc

import numpy as np
import pytest
from dense_system import Prepared

import fastggn as fg
from fastggn.runtime import buffers
from fastggn.solvers.cholesky import CholeskySolver

WIDTHS = (4, 16, 12, 3)


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(buffers, "_blocks", buffers._Blocks())


def make():
    rng = np.random.default_rng(0)
    net = fg.MLP(WIDTHS)
    return fg.Problem(net, rng.normal(size=(70, 4)), rng.normal(size=(70, 3))), net.init(seed=1)


def test_a_matrix_is_not_used_again_while_a_view_of_it_lives():
    problem, theta = make()
    first = problem.ggn(theta)
    assert first.nbytes >= buffers.LEAST_BYTES
    corner, before = first[5:9, :4], first[5:9, :4].copy()
    del first
    gc.collect()
    second = problem.ggn(2.0 * theta)
    assert not np.shares_memory(corner, second)
    np.testing.assert_array_equal(corner, before)


def test_a_state_keeps_its_matrix():
    problem, theta = make()
    solver = CholeskySolver()
    first = Prepared(solver, problem.at(theta))
    before = first.solve(1e-3).step
    Prepared(solver, problem.at(2.0 * theta)).solve(1e-3)
    np.testing.assert_array_equal(first.solve(1e-3).step, before)


@pytest.mark.parametrize("mixed", [False, True])
def test_memory_is_used_again_with_the_same_result(mixed):
    problem, theta = make()
    first = problem.at(theta).gram(mixed=mixed)
    there, want = first.ctypes.data, first.copy()
    del first
    problem.at(-theta).gram(mixed=mixed)
    again = problem.at(theta).gram(mixed=mixed)
    assert again.ctypes.data == there
    np.testing.assert_array_equal(again, want)


def test_what_waits_is_bounded(monkeypatch):
    monkeypatch.setattr(buffers, "MOST_BYTES", 5 * buffers.LEAST_BYTES)
    held = [buffers.lend((k * buffers.LEAST_BYTES,), np.uint8) for k in (3, 1, 2, 4, 6, 1)]
    held.clear()
    gc.collect()
    waiting = [block.size // buffers.LEAST_BYTES for block in buffers._blocks._idle]
    assert sum(waiting) <= 5 and waiting, waiting
