"""Solvers of the one damped Newton system: by name, or chosen by shape and memory."""

from __future__ import annotations

from typing import Any, Protocol

from fastggn.runtime.comm import Comm
from fastggn.runtime.errors import unknown_name
from fastggn.runtime.memory import available_memory
from fastggn.solvers.base import Solver
from fastggn.solvers.cholesky import CholeskySolver
from fastggn.solvers.dual import DualSolver
from fastggn.solvers.lsqr import LSQRSolver
from fastggn.solvers.qr import QRSolver

SOLVERS: dict[str, type[Any]] = {
    "cholesky": CholeskySolver,
    "dual": DualSolver,
    "qr": QRSolver,
    "lsqr": LSQRSolver,
}

# Beyond it a factorisation takes minutes, and the iteration wins.
MAX_DENSE = 20_000
# So many bytes are taken without a look at the memory: the interpreter itself has more, and the
# look takes as long as an iteration of a small network.
UNASKED = 2**24
# Square arrays alive at the peak: the matrix itself; for QR, R and its SVD with LAPACK's workspace.
ARRAYS = {"cholesky": 1, "dual": 1, "qr": 8}


class Shaped(Protocol):
    """A problem as the choice sees it."""

    @property
    def comm(self) -> Comm: ...  # noqa: D102
    @property
    def n_rows(self) -> int: ...  # noqa: D102
    @property
    def n_params(self) -> int: ...  # noqa: D102
    @property
    def curvature(self) -> str: ...  # noqa: D102
    @property
    def l2(self) -> float: ...  # noqa: D102
    @property
    def penalize_biases(self) -> bool: ...  # noqa: D102


def get_solver(name: str | Solver) -> Solver:
    """Return a solver by name; a solver object is returned as it is."""
    if isinstance(name, str):
        if name not in SOLVERS:
            raise unknown_name("solver", name, SOLVERS)
        solver: Solver = SOLVERS[name]()
        return solver
    if not hasattr(name, "prepare"):
        raise TypeError(f"solver must be a name or a solver object, got {type(name).__name__}")
    return name


def choose_solver(
    name: str | Solver, problem: Shaped, *, needs_minimum_norm: bool
) -> tuple[Solver, str]:
    """Return the solver for a problem, and a sentence that says why."""
    if name == "auto":
        return _automatic(problem, needs_minimum_norm)
    if isinstance(name, str) and name not in SOLVERS:
        raise unknown_name("solver", name, ["auto", *SOLVERS])
    solver = get_solver(name)
    if solver.name == "dual" and _has_no_dual(problem, needs_minimum_norm):
        raise ValueError(
            "solver 'dual' needs a damping and no indefinite curvature where l2 spares the biases "
            "(penalize_biases=False): use method 'lm' and curvature='psd', or another solver"
        )
    _check_explicit(solver.name, problem)
    return solver, f"{solver.name}: asked for"


def spares_biases(problem: Shaped) -> bool:
    """Whether the problem has an l2 that does not count the biases."""
    return problem.l2 > 0.0 and not problem.penalize_biases


def _has_no_dual(problem: Shaped, needs_minimum_norm: bool) -> bool:
    return spares_biases(problem) and (needs_minimum_norm or problem.curvature == "exact")


def _automatic(problem: Shaped, needs_minimum_norm: bool) -> tuple[Solver, str]:
    rows, n = problem.n_rows, problem.n_params
    comm = problem.comm
    dense = "qr" if needs_minimum_norm and problem.curvature != "exact" else "cholesky"
    sizes = f"T n_L = {rows:,}, N = {n:,}"
    if rows <= n and not _has_no_dual(problem, needs_minimum_norm):
        # Where l2 spares the biases, the dual keeps its matrix beside the one it factors.
        needed = (2 if spares_biases(problem) else 1) * _bytes("dual", rows)
        if needed <= _free(comm, 2 * needed) // 2:
            return get_solver("dual"), f"dual: {sizes}, so the system over the rows is the smaller"
    needed = _bytes(dense, n)
    budget = _free(comm, 2 * needed) // 2
    if n <= MAX_DENSE and needed <= budget:
        why = "rank-revealing, for the minimum norm" if dense == "qr" else "one N x N matrix fits"
        return get_solver(dense), f"{dense}: {sizes}, {why} ({_readable(needed)})"
    what = f"{_readable(needed)} for an N x N system" if n <= MAX_DENSE else f"N > {MAX_DENSE:,}"
    if problem.curvature == "exact":
        raise MemoryError(
            f"curvature='exact' needs cholesky or dual, and neither fits ({sizes}: {what}, "
            f"{_readable(budget)} may be used); curvature='psd' can be solved by lsqr"
        )
    return get_solver("lsqr"), f"lsqr: {sizes}, {what} with {_readable(budget)} to use"


def _check_explicit(name: str, problem: Shaped) -> None:
    rows, n = problem.n_rows, problem.n_params
    if problem.curvature == "exact" and name in ("lsqr", "qr"):
        raise ValueError(
            f"solver {name!r} needs a square root of the curvature, which curvature='exact' has "
            "not where the loss's Hessian is indefinite; use 'cholesky' or 'dual', or "
            "curvature='psd'"
        )
    if name == "dual" and rows > n:
        raise ValueError(
            f"solver 'dual' needs T n_L <= N, but T n_L = {rows:,} and N = {n:,}; use 'cholesky', "
            "'qr' or 'lsqr'"
        )
    comm = problem.comm
    if name not in ARRAYS:
        return
    # QR holds the rows themselves where they are fewer than the columns, in one process.
    side = rows if name == "dual" else n
    needed = (
        _bytes(name, side)
        if name != "qr"
        else 8 * ARRAYS[name] * n * (min(rows, n) if comm.size == 1 else n)
    )
    free = _free(comm, needed)
    if needed > free:
        raise MemoryError(
            f"solver {name!r} needs {needed:,} bytes and {free:,} are free; 'lsqr' needs a few "
            f"vectors of {8 * n:,} bytes"
        )


def _free(comm: Comm, needed: int) -> int:
    """Return the bytes that this process may take; `needed`, if these are few."""
    return needed if needed <= UNASKED else comm.memory_share(available_memory())


def _bytes(name: str, side: int) -> int:
    return 8 * ARRAYS[name] * side * side


def _readable(size: int) -> str:
    return f"{size / 1024**3:.1f} GiB" if size >= 1024**3 else f"{size / 1024**2:.1f} MiB"
