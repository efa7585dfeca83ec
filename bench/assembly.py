"""Rows on the curvature matrix and its factor: assembly, the dual Gram matrix, Cholesky."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench import peers
from bench.cases import Case, random_case
from bench.core import FULL, SMOKE, Absent, Pair, Row, Side, relative_difference
from fastggn.kernels.cholesky import cholesky
from fastggn.objective.point import Point
from fastggn.runtime.threads import one_pool

__all__ = ["ROWS", "assembly", "stacked_rows"]

FloatArray = NDArray[np.float64]
THREADS = peers.THREADS


def assembly(case: Case, loss: str = "squared", **options: Any) -> Callable[[], FloatArray]:
    """Return what assembles G from nothing: sweeps, panels and the expansion to N x N."""
    problem = case.problem(loss)
    return lambda: problem.at(case.theta).gram(**options)


def stacked_rows(case: Case, loss: str = "squared") -> FloatArray:
    """Return the dense A with A^T A = G: the Jacobian, weighted by the loss's curvature."""
    blocks = [rows for rows, _ in case.problem(loss).at(case.theta).row_blocks()]
    return np.concatenate(blocks)


def _symmetric(triangle: FloatArray) -> FloatArray:
    """Return the symmetric matrix of BLAS's lower triangle, in Fortran order."""
    return np.tril(triangle) + np.tril(triangle, -1).T


def gram_against_dsyrk(size: str, name: str, loss: str = "squared") -> Pair:
    """G from nothing against dsyrk on a Jacobian that lies ready."""
    case = random_case(name, size)
    rows = stacked_rows(case, loss)
    triangle = np.zeros((rows.shape[1],) * 2, order="F")
    ours, peer = assembly(case, loss), functools.partial(peers.dsyrk, rows, triangle)
    return Pair(
        Side("fastggn", ours, threads=THREADS),
        Side("dsyrk", peer),
        lambda: relative_difference(ours(), _symmetric(peer())),
        1e-12,
        flops=rows.shape[0] * rows.shape[1] * (rows.shape[1] + 1.0),
        note=case.name,
    )


def gram_against_torch(size: str, name: str) -> Pair:
    """G from nothing against PyTorch's vmap(jacrev) and a product."""
    return _against(size, name, "torch", peers.torch_gram)


def gram_against_jax(size: str, name: str) -> Pair:
    """G from nothing against the same, compiled by JAX beforehand."""
    return _against(size, name, "JAX", peers.jax_gram)


def _against(
    size: str, name: str, label: str, make: Callable[[Case], Callable[[], FloatArray]]
) -> Pair:
    case = random_case(name, size)
    ours, peer = assembly(case), make(case)
    slow = size == FULL and name == "multi"  # some 15 to 20 seconds a call
    return Pair(
        Side("fastggn", ours, threads=THREADS),
        Side(label, peer, max_calls=1 if slow else 3, warm=not slow),
        lambda: relative_difference(ours(), peer()),
        1e-11,
        rounds=3,
        note=case.name,
    )


def gram_mixed(size: str, name: str) -> Pair:
    """G in float32 panels against float64."""
    if "mixed" not in inspect.signature(Point.gram).parameters:
        raise Absent("Point.gram has no argument 'mixed'")
    case = random_case(name, size)
    ours, peer = assembly(case, mixed=True), assembly(case)
    return Pair(
        Side("mixed", ours, threads=THREADS),
        Side("float64", peer, threads=THREADS),
        lambda: relative_difference(ours(), peer()),
        1e-4,
        note=case.name,
    )


def dual_against_dsyrk(size: str) -> Pair:
    """J J^T against dsyrk at its peak: on a sixteenth of J's columns, times 16."""
    case = random_case("wide", size)
    share = 16 if size == FULL else 1
    problem = case.problem()
    n_params = problem.n_params
    columns = n_params // share
    if size == SMOKE:
        part = problem.jacobian(case.theta).to_dense()
    else:
        part = np.random.default_rng(0).normal(size=(case.X.shape[0], columns))

    part = np.asfortranarray(part)  # else each call of BLAS would copy it first
    triangle = np.zeros((part.shape[0],) * 2, order="F")

    def ours() -> FloatArray:
        return problem.dual_gram(case.theta)

    def peer() -> FloatArray:
        return peers.dsyrk(part.T, triangle)

    def difference() -> float:
        rows = part if size == SMOKE else problem.jacobian(case.theta).to_dense()
        return relative_difference(ours(), _symmetric(peers.dsyrk(rows.T)))

    return Pair(
        Side("fastggn", ours, threads=THREADS),
        Side("dsyrk", peer, scale=n_params / columns),
        difference,
        1e-12,
        rounds=4,
        flops=float(part.shape[0]) ** 2 * n_params,
        note=f"{case.name}, N={n_params}",
    )


def cholesky_against_dpotrf(size: str, order: int) -> Pair:
    """The blocked Cholesky against LAPACK's threaded dpotrf, both in place."""
    n = order if size == FULL else 60 + order // 20
    root = np.random.default_rng(0).normal(size=(n, 64))
    matrix = root @ root.T
    matrix.flat[:: n + 1] += n

    def ours(work: FloatArray) -> FloatArray:
        with one_pool():
            assert cholesky(work) == 0
        return work

    def difference() -> float:
        mine = np.tril(ours(matrix.copy()))
        return relative_difference(mine, np.tril(peers.dpotrf(matrix.copy())))

    fresh = peers.cholesky_setup(matrix)
    return Pair(
        Side("fastggn", ours, fresh, threads=THREADS),
        Side("dpotrf", peers.dpotrf, fresh),
        difference,
        1e-12,
        rounds=10 if n < 1000 else 5,
        flops=n**3 / 3.0,
        note=f"N={n}",
    )


def _rows() -> list[Row]:
    g = "G assembly"
    named = {"digits": "F(64,32,10)", "multi": "F(20,64,64,4)", "scalar": "F(8,32,32,1)"}
    rows = []
    for name, target in {"digits": 13.0, "multi": 4.5, "scalar": 1.0}.items():
        build = functools.partial(gram_against_dsyrk, name=name)
        title = f"{g}, {named[name]}, against dsyrk on a ready J"
        rows.append(Row(f"gram-{name}", title, ">=", target, build=build))
        if name == "digits":
            build = functools.partial(build, loss="softmax_cross_entropy")
            title = "the same with softmax cross-entropy"
            rows.append(Row("gram-digits-softmax", title, ">=", 8.0, build=build))
    for name, target in {"digits": 40.0, "multi": 12.0, "scalar": 3.0}.items():
        build = functools.partial(gram_against_torch, name=name)
        title = f"{g}, {named[name]}, against torch vmap(jacrev) + JtJ"
        rows.append(Row(f"gram-{name}-torch", title, ">=", target, build=build))
    for name in named:
        build = functools.partial(gram_against_jax, name=name)
        title = f"{g}, {named[name]}, against JAX vmap(jacrev) + JtJ, jit"
        rows.append(Row(f"gram-{name}-jax", title, build=build))
    for name in named:
        build = functools.partial(gram_mixed, name=name)
        title = f"{g}, {named[name]}, mixed precision over float64"
        rows.append(Row(f"gram-{name}-mixed", title, ">=", 1.7, build=build))
    title = "dual Gram, F(10,512,512,1), against dsyrk at its peak"
    rows.append(Row("dual", title, ">=", 60.0, build=dual_against_dsyrk))
    for order, target in ((500, 0.95), (2000, 1.0), (6000, 0.95)):
        build = functools.partial(cholesky_against_dpotrf, order=order)
        title = f"blocked Cholesky against threaded dpotrf, N={order}"
        rows.append(Row(f"cholesky-{order}", title, ">=", target, build=build))
    return rows


ROWS = _rows()
