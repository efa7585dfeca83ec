"""The Gauss-Newton matrix of a Poisson equation beside `dsyrk` on a ready J, and beside JAX.

``python -m bench.equations`` prints the least of `ROUNDS` times in seconds, in one process:
F(2,32,32,1), N = 1,185, 10,000 points, residuals of five channels. Needs jax.
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

ROUNDS, POINTS, WIDTHS = 5, 10_000, (2, 32, 32, 1)


def poisson() -> fg.ResidualProblem:
    """Return the equation alone, at random points of the square."""
    X = np.random.default_rng(0).uniform(size=(POINTS, 2))

    def equation(x: Any, u: Any) -> Any:
        source = 2 * np.pi**2 * np.sin(np.pi * x[:, 0]) * np.sin(np.pi * x[:, 1])
        return u.d("x", "x") + u.d("y", "y") + source

    return fg.ResidualProblem(fg.MLP(WIDTHS), [fg.Term(X, equation)], inputs=("x", "y"))


def least(run: Callable[[], Any]) -> float:
    """Return the least seconds of some runs, after one that compiles."""
    run()
    found = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        run()
        found.append(time.perf_counter() - start)
    return min(found)


def iteration(problem: fg.ResidualProblem, theta: np.ndarray) -> float:
    """Return the median seconds of an iteration of Levenberg-Marquardt."""
    clock: list[float] = []
    fg.train(
        problem, theta, "lm", max_iter=9, callbacks=[lambda _: clock.append(time.perf_counter())]
    )
    return float(np.median(np.diff(clock)))


def jax_times(theta: np.ndarray, X: np.ndarray) -> tuple[float, float]:
    """Return the seconds of J and of J^T J by JAX, both compiled."""
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
    own = least(lambda: jacobian(theta, X).block_until_ready())
    return own, least(lambda: gram(J).block_until_ready())


def main() -> None:
    """Print the times."""
    problem = poisson()
    theta = problem.init(seed=0)
    rows = problem.jacobian(theta).to_dense().T
    print(f"dsyrk on a ready J   {least(lambda: dsyrk(1.0, rows, lower=1)):.3f}")
    print(f"Gauss-Newton matrix  {least(lambda: problem.at(theta).gram()):.3f}")
    print(f"iteration of lm      {iteration(problem, theta):.3f}")
    J, gram = jax_times(theta, problem.terms[0].source.rows(0, POINTS))
    print(f"JAX: J, J^T J        {J:.3f} {gram:.3f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["peers"]:
        equation_peers.main(sys.argv[2:])
    else:
        main()
