"""Levenberg-Marquardt solvers of other packages on networks with one hidden layer.

Each maker takes a task and returns what runs for some seconds and gives the losses over time.
"""

from __future__ import annotations

import ctypes
import functools
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import fastggn as fg
from bench import peers

THREADS = peers.THREADS
TORCH = {"tanh": "Tanh", "sigmoid": "Sigmoid", "softplus": "Softplus"}
SMALLEST = 1e-26  # a mean squared error that counts as zero
Curve = list[tuple[float, float]]
Solve = Callable[[float], Curve]


def fastggn(task: Any) -> Solve:
    """Return this package with its defaults."""
    problem = fg.Problem(task.network, task.X, task.Y)
    size = task.Y.size

    def solve(limit: float) -> Curve:
        curve: Curve = []
        start = time.perf_counter()

        def watch(state: Any) -> bool:
            curve.append((time.perf_counter() - start, 2.0 * state.loss * task.Y.shape[0] / size))
            return bool(curve[-1][0] > limit or curve[-1][1] < SMALLEST)

        stop = fg.Stop(gradient=1e-16, step=0.0, loss=0.0)
        options: dict[str, Any] = {"max_iter": 1 if limit == 0.0 else 10**6, "stop": stop}
        with fg.threads(THREADS):
            fg.train(problem, task.theta, callbacks=[watch], **options)
        return curve

    return solve


def torch_lm(task: Any) -> Solve:
    """Return torch-levenberg-marquardt with its Cholesky solver, from its own first damping."""
    peer = peers.TorchLM(task, 1e-3, activation=TORCH[task.activation])

    def solve(limit: float) -> Curve:
        peer.restart()
        curve: Curve = []
        start = time.perf_counter()
        stuck = 0
        while not curve or (curve[-1][0] < limit and stuck < 20):
            error, _ = peer.step()
            stuck = stuck + 1 if curve and error >= curve[-1][1] else 0
            curve.append((time.perf_counter() - start, error))
        return curve

    return solve


def _jax_residual(task: Any) -> tuple[Any, Any, Any, Any]:
    """Return JAX, the residual of all samples as a function of theta, theta, and the samples."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    jax = peers._load("jax")
    jax.config.update("jax_enable_x64", True)
    jnp = jax.numpy
    sigma = {"tanh": jnp.tanh, "sigmoid": jax.nn.sigmoid, "softplus": jax.nn.softplus}
    function = sigma[task.activation]
    (n, h, m) = task.widths

    def residual(theta: Any, samples: Any) -> Any:
        X, Y = samples
        first = theta[: h * (n + 1)].reshape(h, n + 1)
        last = theta[h * (n + 1) :].reshape(m, h + 1)
        hidden = function(X @ first[:, :-1].T + first[:, -1])
        return (hidden @ last[:, :-1].T + last[:, -1] - Y).ravel()

    return jax, residual, jnp.asarray(task.theta), (jnp.asarray(task.X), jnp.asarray(task.Y))


def _stepped(step: Callable[[Any, Any], tuple[Any, Any, float]], first: Any, state: Any) -> Solve:
    """Return a solver from a compiled step that gives the point, the state and the error."""

    def solve(limit: float) -> Curve:
        theta, own = first, state
        curve: Curve = []
        start = time.perf_counter()
        stuck = 0
        while not curve or (curve[-1][0] < limit and stuck < 40 and curve[-1][1] > SMALLEST):
            theta, own, error = step(theta, own)
            stuck = stuck + 1 if curve and not error < curve[-1][1] else 0
            curve.append((time.perf_counter() - start, error))
        return curve

    return solve


def optimistix(task: Any) -> Solve:
    """Return optimistix' Levenberg-Marquardt with Cholesky on the normal equations.

    Its default, QR of the stacked Jacobian, takes several times as long for 10,000 samples.
    """
    package, lineax, equinox = (peers._load(n) for n in ("optimistix", "lineax", "equinox"))
    jax, residual, theta, samples = _jax_residual(task)
    cholesky = lineax.Normal(lineax.Cholesky())
    solver = package.LevenbergMarquardt(rtol=1e-15, atol=1e-15, linear_solver=cholesky)

    def function(theta: Any, samples: Any) -> tuple[Any, None]:
        return residual(theta, samples), None

    shape = jax.eval_shape(lambda: residual(theta, samples))
    state = solver.init(function, theta, samples, {}, shape, None, frozenset())

    @equinox.filter_jit  # type: ignore[misc]
    def compiled(theta: Any, state: Any) -> tuple[Any, Any, Any]:
        theta, state, _ = solver.step(function, theta, samples, {}, state, frozenset())
        return theta, state, jax.numpy.square(state.f_info.residual).mean()

    def step(theta: Any, state: Any) -> tuple[Any, Any, float]:
        theta, state, error = compiled(theta, state)
        return theta, state, float(error)

    return _stepped(step, theta, state)


def nlls_gram(task: Any) -> Solve:
    """Return nlls-gram's Levenberg-Marquardt with its defaults."""
    package = peers._load("nlls_gram")
    jax, residual, theta, samples = _jax_residual(task)
    solver = package.LevenbergMarquardt(residual)
    state = solver.init(theta, samples)

    @jax.jit  # type: ignore[misc]
    def compiled(theta: Any, state: Any) -> tuple[Any, Any, Any]:
        theta, state, info = solver.update(theta, state, samples)
        return theta, state, info.loss / task.Y.size

    def step(theta: Any, state: Any) -> tuple[Any, Any, float]:
        theta, state, error = compiled(theta, state)
        return theta, state, float(error)

    return _stepped(step, theta, state)


def cminpack(task: Any) -> Solve:
    """Return MINPACK's lmder through cminpack-numba, residual and Jacobian compiled by Numba.

    Its clock is the time of the process: MINPACK has one thread.
    """
    package = peers._load("cminpack_numba")
    address = _callback().address
    T = task.X.shape[0]

    def solve(limit: float) -> Curve:
        # One array for the callback: sizes and limit, the losses over time, the samples.
        head = np.array([0.0, limit, *task.widths, float(T), ACTIVATION_CODES[task.activation]])
        log = np.zeros(2 * LOG)
        data = np.concatenate([head, log, task.X.ravel(), task.Y.ravel()])
        start = _clock()
        package.lmder(address, T, task.theta.copy(), 1e-15, 1e-15, 1e-15, LOG - 1, udata=data)
        rows = data[HEAD : HEAD + 2 * int(data[0])].reshape(-1, 2)
        return [((seconds - start) / 1e6, error) for seconds, error in rows.tolist()]

    return solve


LOG = 100_000  # evaluations
HEAD = 7
ACTIVATION_CODES = {"tanh": 0.0, "sigmoid": 1.0, "softplus": 2.0}
_clock = ctypes.CDLL(None).clock
_clock.restype, _clock.argtypes = ctypes.c_long, []


@functools.cache
def _callback() -> Any:
    """Return the compiled residual and Jacobian of F(n, h, 1), as MINPACK calls them."""
    numba, package = peers._load("numba"), peers._load("cminpack_numba")
    pointer = numba.types.CPointer(numba.types.float64)
    clock = _clock

    @numba.cfunc(package.CminpackSignature.lmder(pointer))  # type: ignore[misc]
    def evaluate(udata, T, N, x, fvec, fjac, ldfjac, iflag):  # type: ignore[no-untyped-def]
        head = numba.carray(udata, HEAD)
        n, h, code = int(head[2]), int(head[3]), int(head[6])
        data = numba.carray(udata, HEAD + 2 * LOG + T * (n + 1))
        X = data[HEAD + 2 * LOG : HEAD + 2 * LOG + T * n].reshape(T, n)
        Y = data[HEAD + 2 * LOG + T * n :]
        theta = numba.carray(x, N)
        first = theta[: h * (n + 1)].reshape(h, n + 1)
        last = theta[h * (n + 1) :]
        total = 0.0
        residual = numba.carray(fvec, T)
        rows = numba.carray(fjac, (N, T)) if iflag == 2 else numba.carray(fvec, (1, 1))
        for t in range(T):
            y = last[h]
            for k in range(h):
                z = first[k, n]
                for i in range(n):
                    z += first[k, i] * X[t, i]
                if code == 0:
                    a = np.tanh(z)
                    slope = 1.0 - a * a
                elif code == 1:
                    a = 1.0 / (1.0 + np.exp(-z))
                    slope = a * (1.0 - a)
                else:
                    a = max(z, 0.0) + np.log1p(np.exp(-abs(z)))
                    slope = 1.0 / (1.0 + np.exp(-z))
                y += last[k] * a
                if iflag == 2:
                    back = last[k] * slope
                    for i in range(n):
                        rows[k * (n + 1) + i, t] = back * X[t, i]
                    rows[k * (n + 1) + n, t] = back
                    rows[h * (n + 1) + k, t] = a
            if iflag == 2:
                rows[N - 1, t] = 1.0
            else:
                residual[t] = y - Y[t]
                total += residual[t] * residual[t]
        now = clock()
        if iflag == 1 and data[0] < LOG:
            place = HEAD + 2 * int(data[0])
            data[place], data[place + 1] = now, total / T
            data[0] += 1
        if now - data[HEAD] > 1e6 * data[1]:
            return -1
        return 0

    return evaluate


SOLVERS: dict[str, Callable[[Any], Solve]] = {
    "fastggn": fastggn,
    "torch-levenberg-marquardt": torch_lm,
    "optimistix": optimistix,
    "nlls-gram": nlls_gram,
    "cminpack-numba": cminpack,
}
