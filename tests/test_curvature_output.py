"""Matrices that are written where the caller wants them, and arrays that are used again."""

import gc

import numpy as np
import pytest

import fastggn as fg
from fastggn.parallel import pages
from fastggn.solvers import CholeskySolver

NETS = [(3, 8, 6, 2), (2, 5, 1), (4, 4)]


def make(widths, **options):
    rng = np.random.default_rng(len(widths))
    net = fg.MLP(widths)
    X, Y = rng.normal(size=(70, widths[0])), rng.normal(size=(70, widths[-1]))
    return fg.Problem(net, X, Y, **options), net.init(seed=1)


@pytest.mark.parametrize("widths", NETS)
@pytest.mark.parametrize("mixed", [False, True])
def test_gram_fills_the_array_given(widths, mixed):
    problem, theta = make(widths)
    want = problem.linearise(theta).gram(mixed=mixed)
    out = np.full(want.shape, np.nan)
    assert problem.linearise(theta).gram(mixed=mixed, out=out) is out
    np.testing.assert_array_equal(out, want)


def test_ggn_fills_the_array_given_with_l2():
    problem, theta = make((3, 8, 6, 2), l2=0.25)
    want = problem.ggn(theta)
    out = np.full(want.shape, np.nan)
    assert problem.ggn(theta, out=out) is out
    np.testing.assert_array_equal(out, want)


def _read_only(n):
    out = np.zeros((n, n))
    out.flags.writeable = False
    return out


@pytest.mark.parametrize(
    "make_out, error, message",
    [
        (lambda n: np.zeros((n, n + 1)), ValueError, "out must have shape"),
        (lambda n: np.zeros((n, n), np.float32), TypeError, "float64 array, got float32"),
        (lambda n: [[0.0] * n] * n, TypeError, "float64 array, got list"),
        (lambda n: np.zeros((n, n), order="F"), ValueError, "C-ordered and writable"),
        (_read_only, ValueError, "C-ordered and writable"),
    ],
)
def test_unfit_arrays_are_refused(make_out, error, message):
    problem, theta = make((2, 5, 1))
    with pytest.raises(error, match=message):
        problem.ggn(theta, out=make_out(problem.n_params))


def test_a_matrix_is_not_used_again_while_its_state_lives():
    problem, theta = make((3, 8, 6, 2))
    solver = CholeskySolver()
    first = solver.prepare(problem.linearise(theta))
    before = first.solve(1e-3).step
    second = solver.prepare(problem.linearise(2.0 * theta))
    second.solve(1e-3)
    np.testing.assert_array_equal(first.solve(1e-3).step, before)


def test_pages_are_lent_to_one_user_at_a_time():
    first, second = pages.borrow(1000), pages.borrow(1000)
    assert not np.shares_memory(first, second)
    pages.give_back(first)
    assert pages.borrow(1001) is not first
    assert pages.borrow(1000) is first


def test_pages_that_wait_are_bounded(monkeypatch):
    monkeypatch.setattr(pages, "_idle", [])
    monkeypatch.setattr(pages, "_MOST_BYTES", 8 * 100)
    for size in (60, 30, 50, 101, 1, 2, 3, 4):
        pages.give_back(np.empty(size))
        assert sum(a.size for a in pages._idle) <= 100
    assert [a.size for a in pages._idle] == [1, 2, 3, 4]


def test_a_matrix_is_used_again_by_the_next_iteration(monkeypatch):
    monkeypatch.setattr(pages, "_idle", [])
    problem, theta = make((3, 8, 6, 2))
    solver = CholeskySolver()
    state = solver.prepare(problem.linearise(theta))
    place = state._gram._a.ctypes.data
    want = state.solve(1e-3).step
    del state
    gc.collect()
    again = solver.prepare(problem.linearise(theta))
    assert again._gram._a.ctypes.data == place
    np.testing.assert_array_equal(again.solve(1e-3).step, want)


def test_a_matrix_of_another_size_is_not_used_again():
    solver = CholeskySolver()
    for widths in NETS:
        problem, theta = make(widths)
        assert solver.prepare(problem.linearise(theta)).solve(1e-3).ok
