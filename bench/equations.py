"""The Gauss-Newton matrix of a Poisson equation beside `dsyrk` on a ready J, and beside JAX.

``python -m bench.equations`` prints medians of `ROUNDS` times, by the clock and of processors, in
one process: F(2,32,32,1), N = 1,185, 10,000 points, residuals of five channels. Needs jax.
``python -m bench.equations many`` has 200,000 points, and the curvature of some.
``python -m bench.equations peers`` compares errors with those of L-BFGS and Adam.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.linalg.blas import dsyrk

import fastggn as fg
from bench import equation_peers, peers

ROUNDS, POINTS, WIDTHS = 9, 10_000, (2, 32, 32, 1)
MANY = 20  # times as many points
Times = tuple[float, float]


def poisson(points: int = POINTS) -> fg.ResidualProblem:
    """Return the equation alone, at random points of the square."""
    X = np.random.default_rng(0).uniform(size=(points, 2))

    def equation(x: Any, u: Any) -> Any:
        source = 2 * np.pi**2 * np.sin(np.pi * x[:, 0]) * np.sin(np.pi * x[:, 1])
        return u.d("x", "x") + u.d("y", "y") + source

    return fg.ResidualProblem(fg.MLP(WIDTHS), [fg.Term(X, equation)], inputs=("x", "y"))


def now() -> Times:
    """Return the seconds of the clock and of this process."""
    return time.perf_counter(), time.process_time()


def median(run: Callable[[], Any]) -> Times:
    """Return the median times of some runs, after one that compiles."""
    run()
    found = []
    for _ in range(ROUNDS):
        start = now()
        run()
        found.append(np.subtract(now(), start))
    return tuple(np.median(found, axis=0))


def iteration(problem: fg.ResidualProblem, theta: np.ndarray) -> Times:
    """Return the median times of an iteration of Levenberg-Marquardt."""
    clock: list[Times] = []
    fg.train(problem, theta, "lm", max_iter=9, callbacks=[lambda _: clock.append(now())])
    return tuple(np.median(np.diff(clock, axis=0), axis=0))


def jax_times(theta: np.ndarray, X: np.ndarray) -> tuple[Times, Times]:
    """Return the times of J and of J^T J by JAX, both compiled."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)

    def output(theta: Any, x: Any) -> Any:
        return peers._forward(WIDTHS, jnp.tanh, theta, x)[0]

    def laplacian(theta: Any, x: Any) -> Any:
        return jnp.trace(jax.hessian(output, 1)(theta, x))

    jacobian = jax.jit(jax.vmap(jax.grad(laplacian), (None, 0)))
    gram = jax.jit(lambda J: J.T @ J)
    J = jacobian(theta, X).block_until_ready()
    own = median(lambda: jacobian(theta, X).block_until_ready())
    return own, median(lambda: gram(J).block_until_ready())


def show(what: str, times: Times) -> None:
    """Print a line."""
    print(f"{what:20} {times[0]:7.3f} s by the clock, {times[1]:7.3f} s of processors", flush=True)


def main(arguments: list[str]) -> None:
    """Print the times."""
    problem = poisson()
    theta, X = problem.init(seed=0), problem.terms[0].source.rows(0, POINTS)
    if arguments[:1] == ["many"]:
        show(f"iteration, {MANY * POINTS:,}", iteration(poisson(MANY * POINTS), theta))
        whole = MANY * np.sum(jax_times(theta, X), axis=0)
        show(f"JAX, {MANY} times {POINTS:,}", tuple(whole))
        return
    rows = problem.jacobian(theta).to_dense().T
    show("dsyrk on a ready J", median(lambda: dsyrk(1.0, rows, lower=1)))
    show("Gauss-Newton matrix", median(lambda: problem.at(theta).gram()))
    show("iteration of lm", iteration(problem, theta))
    for what, times in zip(("J", "J^T J"), jax_times(theta, X), strict=True):
        show(f"JAX: {what}", times)


if __name__ == "__main__":
    if sys.argv[1:2] == ["peers"]:
        equation_peers.main(sys.argv[2:])
    else:
        main(sys.argv[1:])
