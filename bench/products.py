"""Rows on products with the Jacobian, on threads, and on the cost of many samples."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

import fastggn as fg
from bench import peers
from bench.assembly import assembly
from bench.cases import random_case
from bench.core import SMOKE, Absent, Outcome, Pair, Row, Side, relative_difference

__all__ = ["ROWS", "samples_cost"]

FloatArray = NDArray[np.float64]
THREADS = peers.THREADS
# Fixed network of the rows on the number of samples.
WIDTHS = (8, 16, 16, 1)


def _product(name: str, size: str, transpose: bool) -> tuple[str, Callable[[], FloatArray]]:
    """Return J v or J^T u of a case, as a function of nothing."""
    case = random_case(name, size)
    jacobian = case.problem().jacobian(case.theta)
    rng = np.random.default_rng(1)
    if transpose:
        u = rng.normal(size=jacobian.shape[0])
        return case.name, lambda: jacobian.T @ u
    v = rng.normal(size=jacobian.shape[1])
    return case.name, lambda: jacobian @ v


def product_against_dgemv(size: str, name: str, transpose: bool) -> Pair:
    """J v or J^T u, sweeps over the samples, against dgemv on a stored J."""
    case = random_case(name, size)
    rows = case.problem().jacobian(case.theta).to_dense()
    vector = np.random.default_rng(1).normal(size=rows.shape[0 if transpose else 1])
    # As ready as the stored J: the operator keeps the units' outputs where they fit a block.
    jacobian = case.problem().jacobian(case.theta)

    def ours() -> FloatArray:
        return jacobian.T @ vector if transpose else jacobian @ vector

    def peer() -> FloatArray:
        return peers.dgemv(rows, vector, transpose=transpose)

    return Pair(
        Side("fastggn", ours, threads=THREADS),
        Side("dgemv", peer),
        lambda: relative_difference(ours(), peer()),
        1e-11,
        flops=2.0 * rows.size,
        note=f"{case.name}, J of {rows.nbytes / 2**20:.0f} MiB",
    )


def threads_product(size: str, name: str, transpose: bool) -> Pair:
    """J v or J^T u on all threads against one."""
    label, call = _product(name, size, transpose)
    return _threads(label, call)


def threads_assembly(size: str, name: str) -> Pair:
    """G on all threads against one."""
    case = random_case(name, size)
    return _threads(case.name, assembly(case))


def _threads(note: str, call: Callable[[], FloatArray]) -> Pair:
    if THREADS < 2:
        raise Absent("one core only")
    many, one = Side(f"{THREADS} threads", call, threads=THREADS), Side("1 thread", call, threads=1)
    return Pair(
        many, one, lambda: float(not np.array_equal(many.result(), one.result())), 0.0, note=note
    )


@functools.lru_cache(maxsize=2)
def samples_cost(size: str) -> tuple[tuple[int, float], ...]:
    """Return (T, seconds of one assembly of G) for a fixed network."""
    counts = (1000, 2000) if size == SMOKE else (10_000, 30_000, 100_000, 300_000, 1_000_000)
    rng = np.random.default_rng(0)
    X = rng.normal(size=(counts[-1], WIDTHS[0]))
    y = rng.normal(size=counts[-1])
    net = fg.MLP(WIDTHS, "tanh")
    theta = net.init(seed=0)
    problems = [fg.Problem(net, X[:count], y[:count]) for count in counts]
    taken: list[list[float]] = [[] for _ in counts]
    with fg.threads(THREADS):
        problems[0].at(theta).gram()
        for _ in range(3):
            for problem, seconds in zip(problems, taken, strict=True):
                for _ in range(max(1, counts[2] // problem.n_samples) if len(counts) > 2 else 1):
                    start = time.perf_counter()
                    problem.at(theta).gram()
                    seconds.append(time.perf_counter() - start)
    return tuple(
        (count, float(np.median(seconds))) for count, seconds in zip(counts, taken, strict=True)
    )


def linear_in_samples(size: str) -> Outcome:
    """The largest deviation of the cost a sample from that of the largest T, in per cent."""
    cost = samples_cost(size)
    last = cost[-1][1] / cost[-1][0]
    deviation = max(abs(seconds / count / last - 1.0) for count, seconds in cost)
    per_sample = ", ".join(f"{count:.0e}: {1e6 * s / count:.3f}" for count, s in cost)
    widths = ",".join(map(str, WIDTHS))
    return Outcome(100.0 * deviation, note=f"F({widths}); microseconds a sample by T: {per_sample}")


def _rows() -> list[Row]:
    rows = []
    for transpose, what in ((False, "J v"), (True, "J^T u")):
        for name, target in (("multi-products", 12.0), ("scalar", 4.0)):
            shape = "F(20,64,64,4)" if name != "scalar" else "F(8,32,32,1)"
            key = f"{'jtu' if transpose else 'jv'}-{name.split('-')[0]}"
            build = functools.partial(product_against_dgemv, name=name, transpose=transpose)
            title = f"{what}, {shape}, against dgemv on a stored J"
            rows.append(Row(key, title, ">=", target, build=build))
    for name in ("digits", "multi", "scalar"):
        build = functools.partial(threads_assembly, name=name)
        title = f"{THREADS} threads over 1: G, {name}"
        rows.append(Row(f"threads-gram-{name}", title, ">=", 1.7, build=build))
    for transpose, what in ((False, "J v"), (True, "J^T u")):
        build = functools.partial(threads_product, name="multi-products", transpose=transpose)
        title = f"{THREADS} threads over 1: {what}, F(20,64,64,4)"
        key = f"threads-{'jtu' if transpose else 'jv'}"
        rows.append(Row(key, title, ">=", 1.7, build=build))
    title = "cost of G against T, 1e4 to 1e6: deviation from linear"
    rows.append(Row("linear-in-T", title, "<=", 10.0, "%", measure=linear_in_samples))
    return rows


ROWS = _rows()
