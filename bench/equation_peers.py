"""Equations by this package, and by L-BFGS and Adam in JAX: ``python -m bench.equations peers``.

The problems of the tutorials, from the same start at the same points. Everything runs on one
thread and is timed by the processor time of this process, without compilation and without the
measurement of errors. JAX computes the residuals by the very functions of the terms, on channels
from nested `jvp`. Needs jax.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import io
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

import fastggn as fg
from bench import peers, plots
from bench.cases import ROOT
from fastggn.objective.bound_terms import BoundTerm
from fastggn.objective.channels import Channels, Coefficients
from fastggn.objective.equations import Equation

FloatArray = NDArray[np.float64]
Loss = Callable[[Any], Any]

PAIRS, INNER = 50, 50  # of L-BFGS; steps of Adam between two looks at the clock
RATES = (0.01, 0.001)  # of Adam at its start, falling to 0 as a cosine: the better one counts
FIRST = 0.2  # the share of Adam where L-BFGS follows it
TUTORIALS = {  # tutorial, name and error
    "poisson": ("6_poisson.py", "Poisson's equation", "relative $L_2$ error"),
    "burgers": ("7_burgers.py", "Burgers' equation", "relative $L_2$ error"),
    "rates": ("8_unknown_rates.py", "Unknown rates", "relative error of the rates (rms)"),
    "surface": ("9_energies_and_forces.py", "Energies and forces", "error of the energies (rms)"),
}


class _Training(Exception):
    pass


@dataclass
class Study:
    """A tutorial's problem, its error and its iterations.

    Attributes
    ----------
    problem : ResidualProblem
    error : callable
        The error of theta against the exact solution.
    title, what : str
        The problem and the error in words.
    max_iter : int
    """

    problem: fg.ResidualProblem
    error: Callable[[FloatArray], float]
    title: str
    what: str
    max_iter: int


@dataclass
class Curve:
    """Watches a run: (processor seconds, loss, error), without the time of the errors.

    Attributes
    ----------
    name : str
    points : list of tuple
    """

    name: str
    error: Callable[[FloatArray], float]
    limit: float = np.inf
    points: list[tuple[float, float, float]] = field(default_factory=list)
    _start: float = field(default_factory=time.process_time)

    def spent(self) -> float:
        """Return the seconds so far."""
        return time.process_time() - self._start

    def see(self, theta: Any, loss: Any, last: bool = False) -> bool:
        """Note a point, if time has gone on by a tenth; return whether the run is over."""
        spent = self.spent()
        over = spent > self.limit
        if over or last or spent > 1.1 * self.points[-1][0] + 0.01 if self.points else True:
            self.points.append((spent, float(loss), self.error(np.asarray(theta))))
            self._start += self.spent() - spent
        return over


def study(name: str) -> Study:
    """Run a tutorial up to its first training, and return what it would train."""
    file, title, what = TUTORIALS[name]
    path, taken = ROOT / "docs" / "tutorials" / file, {}
    names: dict[str, Any] = {"__name__": path.stem}

    def stop(problem: Any, *_: Any, **options: Any) -> None:
        taken.update(options, problem=problem)
        raise _Training

    with mock.patch.object(fg, "train", stop), contextlib.redirect_stdout(io.StringIO()):
        with contextlib.suppress(_Training):
            exec(compile(path.read_text("utf-8"), path.name, "exec"), names)
    problem, error = taken["problem"], names.get("error")
    if name == "rates":
        true = names["true"]

        def error(theta: FloatArray) -> float:
            found = problem.coefficients(theta)
            return float(np.sqrt(np.mean([(found[k] / true[k] - 1.0) ** 2 for k in true])))

    if name == "surface":
        problem = names["problem_of"](names["low"](200, seed=2), True)
        error = functools.partial(names["rms"], problem)
    widths = ",".join(map(str, problem.network.widths))
    return Study(problem, error, f"{title}, F({widths})", what, taken["max_iter"])


# The objective in JAX


def _jax() -> Any:
    flags = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
    os.environ.setdefault("XLA_FLAGS", flags)
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    jax = peers._load("jax")
    jax.config.update("jax_enable_x64", True)
    return jax


def _channel(jax: Any, output: Loss, x: FloatArray, by: tuple[int, ...]) -> Any:
    """Return the derivative of the outputs (B, n_L) by these inputs."""
    for i in by:
        unit = np.zeros_like(x)
        unit[:, i] = 1.0
        output = functools.partial(
            lambda f, unit, x: jax.jvp(f, (x,), (unit,))[1], output, unit
        )  # fmt: skip
    return output(x)


def _residuals(jax: Any, term: BoundTerm, output: Loss, k: Any) -> Any:
    """Return the residuals of a term (T, n_r) by its own function."""
    jnp, x = jax.numpy, np.asarray(term.source.rows(0, term.n_samples))
    found = {by: _channel(jax, output, x, by) for by in term.channels}
    if isinstance(term.model, Equation):
        names = term.model.names
        u = Channels(names, lambda o, by: found[by][:, o])
        r = term.model._residual(x, u, Coefficients(names.coefficients, k))
        return jnp.stack(r, axis=1) if isinstance(r, tuple) else r.reshape(len(x), -1)
    flat = jnp.stack(list(found.values()), axis=2).reshape(len(x), -1)
    D = term.linearise(x, np.zeros((len(x), *found[()].shape[1:], len(found))), np.zeros(k.size))[1]
    return jnp.einsum("brp,bp->br", D[:, :, : flat.shape[1]], flat) - term.targets


def objective(problem: fg.ResidualProblem) -> tuple[Any, Loss]:
    """Return JAX, and the objective of a problem with squared losses as a function of theta."""
    jax, net = _jax(), problem.network

    def loss(theta: Any) -> Any:
        weights, k = theta[: net.n_params], theta[net.n_params :]
        forward = functools.partial(peers._forward, net.widths, jax.numpy.tanh, weights)
        total = 0.5 * problem.l2 * weights @ weights
        for term in problem.terms:
            r = _residuals(jax, term, jax.vmap(forward), k)
            own = np.ones(len(r)) if term.sample_weight is None else term.sample_weight
            total += 0.5 * term.weight / own.sum() * (own @ (r * r).sum(axis=1))
        return total

    return jax, loss


# The methods


def ours(task: Study, theta: FloatArray, method: str = "lm") -> Curve:
    """Train by this package."""
    with fg.threads(1):
        fg.train(task.problem, theta, method, max_iter=2)
        curve = Curve("fastggn", task.error)
        fg.train(
            task.problem,
            theta,
            method,
            max_iter=task.max_iter,
            callbacks=[lambda record: curve.see(record.theta, record.loss)],
        )
    return curve


class Peers:
    """L-BFGS and Adam on a study, compiled."""

    def __init__(self, task: Study, theta: FloatArray, limit: float) -> None:
        self._task, self._theta, self._limit = task, theta, limit
        jax, loss = objective(task.problem)
        both = jax.value_and_grad(loss)

        def adam(theta: Any, m: Any, v: Any, count: Any, rate: Any) -> Any:
            def step(i: int, state: Any) -> Any:
                theta, m, v, _ = state
                value, g = both(theta)
                m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
                t = count + i + 1.0
                size = rate / (1.0 - 0.9**t)
                theta = theta - size * m / (jax.numpy.sqrt(v / (1.0 - 0.999**t)) + 1e-8)
                return theta, m, v, value

            return jax.lax.fori_loop(0, INNER, step, (theta, m, v, 0.0))

        self._both, self._adam = jax.jit(both), jax.jit(adam)
        value = float(self._both(theta)[0])
        assert np.isclose(value, task.problem.loss(theta), rtol=1e-10), "another objective"
        # Twice, for arrays of NumPy and for its own; JAX returns before the work is done.
        state = theta, 0.0 * theta, 0.0 * theta
        for _ in range(2):
            *state, value = self._adam(*state, 0.0, np.float64(0.0))
        value.block_until_ready()

    def adam(self, rate: float) -> Curve:
        """Run Adam."""
        curve = Curve(f"Adam, rate {rate:g}", self._task.error, self._limit)
        self._go_adam(curve, self._limit, rate)
        return curve

    def _go_adam(self, curve: Curve, limit: float, rate: float) -> FloatArray:
        theta, m, v, value = self._theta, 0.0 * self._theta, 0.0 * self._theta, np.inf
        count = 0.0
        while (spent := curve.spent()) < limit:
            now = 0.5 * rate * (1.0 + np.cos(np.pi * spent / limit))
            theta, m, v, value = self._adam(theta, m, v, count, now)
            count += INNER
            curve.see(theta, value.block_until_ready())
        curve.see(theta, value, last=True)
        return np.asarray(theta)

    def lbfgs(self) -> Curve:
        """Run SciPy's L-BFGS."""
        curve = Curve("L-BFGS", self._task.error, self._limit)
        self._go_lbfgs(curve, self._theta)
        return curve

    def both(self, rate: float) -> Curve:
        """Run L-BFGS after Adam."""
        curve = Curve("Adam, then L-BFGS", self._task.error, self._limit)
        self._go_lbfgs(curve, self._go_adam(curve, FIRST * self._limit, rate))
        return curve

    def _go_lbfgs(self, curve: Curve, theta: FloatArray) -> None:
        """Run L-BFGS until the time is over, or until two runs in turn bring nothing."""
        best = [np.inf, theta]

        def function(theta: FloatArray) -> tuple[float, FloatArray]:
            value, gradient = self._both(theta)
            if value < best[0]:
                best[:] = float(value), theta.copy()
            if curve.see(best[1], best[0]):
                raise _Training
            return float(value), np.asarray(gradient)

        options = {"maxcor": PAIRS, "maxiter": 10**9, "maxfun": 10**9, "ftol": 0.0, "gtol": 0.0}
        with contextlib.suppress(_Training):
            stuck = 0
            while stuck < 2:
                before = best[0]
                minimize(function, best[1], method="L-BFGS-B", jac=True, options=options)
                stuck = 0 if best[0] < before else stuck + 1
        curve.see(best[1], best[0], last=True)


def compare(name: str, seconds: float, seed: int) -> tuple[Study, list[Curve]]:
    """Run all methods on a study; each peer gets the time that this package takes, or more."""
    task = study(name)
    theta = task.problem.init(seed)
    own = ours(task, theta)
    peer = Peers(task, theta, max(seconds, own.points[-1][0]))
    adam = [peer.adam(rate) for rate in RATES]
    first = min(adam, key=lambda curve: curve.points[-1][1])
    rate = RATES[adam.index(first)]
    return task, [own, peer.lbfgs(), first, peer.both(rate)]


def at(curve: Curve, seconds: float) -> float:
    """Return the error of the last point before a time."""
    return [e for s, _, e in curve.points if s <= seconds][-1]


def draw(name: str, task: Study, curves: list[Curve], folder: Path) -> None:
    """Save the errors over the time."""
    pyplot = plots._pyplot()
    figure, axes = plots._figure(pyplot, task.title, "processor seconds", task.what)
    for curve, style in zip(curves, ("-", "--", ":", "-."), strict=True):
        spent, _, errors = np.array(curve.points).T
        axes.loglog(np.maximum(spent, 0.01), errors, style, label=curve.name)
    axes.legend(frameon=False)
    folder.mkdir(parents=True, exist_ok=True)
    plots._save(pyplot, figure, folder / f"{name}.png")


def main(arguments: list[str]) -> None:
    """Print a table of each study; draw it where a folder is given."""
    parser = argparse.ArgumentParser("python -m bench.equations peers", description=__doc__)
    parser.add_argument("studies", nargs="*", choices=[*TUTORIALS, []], metavar="|".join(TUTORIALS))
    parser.add_argument("--seconds", type=float, default=30.0, help="of each peer at least")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--plot", type=Path, help="a folder for the pictures")
    options = parser.parse_args(arguments)
    for name in options.studies or TUTORIALS:
        task, curves = compare(name, options.seconds, options.seed)
        limit = curves[0].points[-1][0]
        print(f"{task.title}: {task.what}".replace("$L_2$", "L2"))
        print(f"{'':20} {'seconds':>8} {'loss':>8} {'error':>8}  at {limit:.1f} s", flush=True)
        for curve in curves:
            spent, loss, error = curve.points[-1]
            then = at(curve, limit)
            print(f"{curve.name:20} {spent:8.1f} {loss:8.1e} {error:8.1e} {then:9.1e}", flush=True)
        if options.plot:
            draw(name, task, curves, options.plot)
