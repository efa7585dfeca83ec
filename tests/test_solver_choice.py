"""Which solver a problem gets, by its shape, its curvature and the memory."""

from types import SimpleNamespace

import pytest
from dense_system import NAMES

import fastggn.solvers.choice as solvers
from fastggn.runtime.comm import SERIAL
from fastggn.solvers.choice import choose_solver, get_solver
from fastggn.solvers.lsqr import LSQRSolver


def shaped(rows, n, curvature="psd", outputs=1):
    return SimpleNamespace(
        n_rows=rows,
        n_params=n,
        curvature=curvature,
        comm=SERIAL,
        l2=0.0,
        penalize_biases=True,
    )


@pytest.fixture
def memory(monkeypatch):
    def set_to(size):
        monkeypatch.setattr(solvers, "available_memory", lambda: size)
        monkeypatch.setattr(solvers, "UNASKED", 0)

    set_to(2**40)
    return set_to


def auto(problem, minimum_norm=False):
    solver, reason = choose_solver("auto", problem, needs_minimum_norm=minimum_norm)
    assert reason.startswith(solver.name + ":")
    return solver.name


def test_automatic_choice(memory):
    assert auto(shaped(20, 81)) == "dual"
    assert auto(shaped(81, 81)) == "dual"
    assert auto(shaped(82, 81)) == "cholesky"
    assert auto(shaped(90, 81, outputs=3)) == "cholesky"
    assert auto(shaped(82, 81), True) == "qr"
    assert auto(shaped(20, 81), True) == "dual"
    assert auto(shaped(10**6, 20_000)) == "cholesky"
    assert auto(shaped(10**6, 20_001)) == "lsqr"
    assert auto(shaped(10**6, 20_001), True) == "lsqr"
    assert auto(shaped(82, 81, "exact")) == "cholesky"
    assert auto(shaped(82, 81, "exact"), True) == "cholesky"
    assert auto(shaped(20, 81, "exact")) == "dual"


def test_automatic_choice_by_memory(memory):
    memory(2 * 8 * 100**2)
    assert auto(shaped(100, 1000)) == "dual"
    assert auto(shaped(101, 1000)) == "lsqr"
    assert auto(shaped(1000, 100)) == "cholesky"
    assert auto(shaped(1000, 101)) == "lsqr"
    assert auto(shaped(1000, 100), True) == "lsqr"
    with pytest.raises(MemoryError, match="exact"):
        auto(shaped(1000, 101, "exact"))


def test_small_systems_do_not_ask_for_the_memory(monkeypatch):
    """To look takes as long as an iteration of a small network, whatever the other side is."""

    def refuse():
        raise AssertionError("asked")

    monkeypatch.setattr(solvers, "available_memory", refuse)
    assert auto(shaped(500, 10**6)) == "dual"
    assert auto(shaped(10**6, 500)) == "cholesky"
    with pytest.raises(AssertionError, match="asked"):
        auto(shaped(10**6, 10**4))


def test_explicit_choice(memory):
    for name in NAMES:
        solver, reason = choose_solver(name, shaped(20, 81), needs_minimum_norm=False)
        assert solver.name == name and name in reason
    own = LSQRSolver(tolerance=1e-6)
    assert choose_solver(own, shaped(20, 81), needs_minimum_norm=False)[0] is own
    with pytest.raises(ValueError, match=r"T n_L = 82 and N = 81"):
        choose_solver("dual", shaped(82, 81), needs_minimum_norm=False)
    for name in ["qr", "lsqr"]:
        with pytest.raises(ValueError, match="exact"):
            choose_solver(name, shaped(20, 81, "exact"), needs_minimum_norm=False)
    memory(1000)
    for name in ["cholesky", "dual", "qr"]:
        with pytest.raises(MemoryError, match="lsqr"):
            choose_solver(name, shaped(20, 81), needs_minimum_norm=False)
    assert choose_solver("lsqr", shaped(20, 81), needs_minimum_norm=False)[0].name == "lsqr"


def test_unknown_names():
    with pytest.raises(ValueError, match="did you mean 'cholesky'"):
        get_solver("cholesk")
    with pytest.raises(ValueError, match="auto"):
        choose_solver("lqsr", shaped(2, 2), needs_minimum_norm=False)
    with pytest.raises(TypeError, match="solver"):
        get_solver(3)
