"""What fastggn is measured against. A peer that is not installed raises `Absent`."""

from __future__ import annotations

import contextlib
import importlib
import os
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import threadpoolctl
from numpy.typing import NDArray
from scipy.linalg import blas, lapack

from bench.cases import Case
from bench.core import Absent

__all__ = [
    "PACKAGES",
    "THREADS",
    "TorchLM",
    "absences",
    "blas_threads",
    "cholesky_setup",
    "dgemv",
    "dpotrf",
    "dsyrk",
    "jax_gram",
    "lbfgs_seconds",
    "least_squares_seconds",
    "torch_bp",
    "torch_gram",
    "torch_lm_seconds",
]

FloatArray = NDArray[np.float64]
THREADS = min(2, os.cpu_count() or 1)
# Import name: name on the package index.
PACKAGES = {
    "torch": "torch",
    "torch_levenberg_marquardt": "torch-levenberg-marquardt",
    "jax": "jax",
    "sklearn": "scikit-learn",
    "optimistix": "optimistix",
    "nlls_gram": "nlls-gram",
    "cminpack_numba": "cminpack-numba",
}


def _load(name: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ImportError as error:
        raise Absent(f"{PACKAGES.get(name, name)} is not installed ({error})") from error


def absences() -> dict[str, str]:
    """Return the peers that cannot be imported, with the reason."""
    missing = {}
    for name, package in PACKAGES.items():
        try:
            _load(name)
        except Absent as reason:
            missing[package] = str(reason)
    return missing


@contextlib.contextmanager
def blas_threads() -> Iterator[None]:
    """Let NumPy's and SciPy's BLAS use `THREADS` threads, outside of fastggn's own limit."""
    with threadpoolctl.threadpool_limits(THREADS, "blas"):
        yield


# BLAS and LAPACK through SciPy


def dsyrk(rows: FloatArray, out: FloatArray | None = None) -> FloatArray:
    """Return one triangle of A^T A for A (M, N) in C order, without a copy of A.

    `out` (N, N), in Fortran order, takes it if given.
    """
    if out is None:
        return blas.dsyrk(1.0, rows.T, lower=1)
    return blas.dsyrk(1.0, rows.T, c=out, beta=0.0, lower=1, overwrite_c=1)


def dgemv(rows: FloatArray, vector: FloatArray, *, transpose: bool) -> FloatArray:
    """Return A v, or A^T u, for A (M, N) in C order, without a copy of A."""
    return blas.dgemv(1.0, rows.T, vector, trans=0 if transpose else 1)


def cholesky_setup(matrix: FloatArray) -> Callable[[], FloatArray]:
    """Return what hands out a fresh copy of a matrix, in an array that is used again."""
    work = np.empty_like(matrix)

    def fresh() -> FloatArray:
        work[...] = matrix
        return work

    return fresh


def dpotrf(matrix: FloatArray) -> FloatArray:
    """Factor in place the lower triangle of a C-ordered matrix by LAPACK."""
    factor, info = lapack.dpotrf(matrix.T, lower=0, clean=0, overwrite_a=1)
    assert info == 0
    return factor.T


# PyTorch


def _torch() -> Any:
    torch = _load("torch")
    torch.set_num_threads(THREADS)
    return torch


def _layers(widths: tuple[int, ...]) -> list[tuple[int, int]]:
    return [(n, m + 1) for m, n in zip(widths[:-1], widths[1:], strict=True)]


def _forward(widths: tuple[int, ...], tanh: Any, theta: Any, x: Any) -> Any:
    """Return the outputs for one sample; the arithmetic of PyTorch or of JAX."""
    start, shapes = 0, _layers(widths)
    for number, (n, m) in enumerate(shapes):
        weights = theta[start : start + n * m].reshape(n, m)
        start += n * m
        x = weights[:, :-1] @ x + weights[:, -1]
        if number < len(shapes) - 1:
            x = tanh(x)
    return x


def torch_gram(case: Case) -> Callable[[], FloatArray]:
    """Return what computes J^T J / T by vmap(jacrev)."""
    torch = _torch()
    X, theta = torch.from_numpy(case.X), torch.from_numpy(case.theta)
    jacobian = torch.func.vmap(
        torch.func.jacrev(lambda p, x: _forward(case.widths, torch.tanh, p, x)), in_dims=(None, 0)
    )

    def gram() -> FloatArray:
        rows = jacobian(theta, X).reshape(-1, theta.numel())
        return (rows.T @ rows / X.shape[0]).numpy()

    return gram


def jax_gram(case: Case) -> Callable[[], FloatArray]:
    """Return what computes J^T J / T by vmap(jacrev), compiled beforehand."""
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    jax = _load("jax")
    jax.config.update("jax_enable_x64", True)
    jnp = jax.numpy
    jacobian = jax.vmap(
        jax.jacrev(lambda p, x: _forward(case.widths, jnp.tanh, p, x)), in_axes=(None, 0)
    )

    def gram(theta: Any, X: Any) -> Any:
        rows = jacobian(theta, X).reshape(-1, theta.size)
        return rows.T @ rows / X.shape[0]

    theta, X = jnp.asarray(case.theta), jnp.asarray(case.X)
    compiled = jax.jit(gram).lower(theta, X).compile()
    return lambda: np.asarray(compiled(theta, X).block_until_ready())


def _torch_model(torch: Any, case: Any, activation: str = "Tanh") -> Any:
    """Return the network as torch modules in float64, with the case's parameters."""
    modules: list[Any] = []
    sigma = getattr(torch.nn, activation)
    for m, n in zip(case.widths[:-1], case.widths[1:], strict=True):
        modules += [torch.nn.Linear(m, n, dtype=torch.float64), sigma()]
    model = torch.nn.Sequential(*modules[:-1])
    _set_parameters(torch, model, case)
    return model


def _set_parameters(torch: Any, model: Any, case: Any) -> None:
    start = 0
    linear = [m for m in model if hasattr(m, "weight")]
    with torch.no_grad():
        for module, (n, m) in zip(linear, _layers(case.widths), strict=True):
            weights = torch.from_numpy(case.theta[start : start + n * m].reshape(n, m))
            start += n * m
            module.weight.copy_(weights[:, :-1])
            module.bias.copy_(weights[:, -1])


def _parameters(model: Any) -> FloatArray:
    """Return the parameters in fastggn's order."""
    parts = []
    for module in model:
        if hasattr(module, "weight"):
            weight, bias = module.weight.detach().numpy(), module.bias.detach().numpy()
            parts.append(np.column_stack([weight, bias]).ravel())
    return np.concatenate(parts)


class TorchLM:
    """torch-levenberg-marquardt with its Cholesky solver on a case, in float64.

    On one thread or on all, as is faster: on small networks a second one costs it time.
    An accepted step multiplies the damping by `decrease`; 0.1 is the package's own rule.
    """

    def __init__(
        self, case: Any, damping: float, decrease: float = 0.1, activation: str = "Tanh"
    ) -> None:
        self._torch = _torch()
        package = _load("torch_levenberg_marquardt")
        self._case = case
        self._model = _torch_model(self._torch, case, activation)
        self._trainer = package.training.LevenbergMarquardtModule(
            self._model,
            loss_fn=package.loss.MSELoss(),
            damping_strategy=package.damping.StandardDampingStrategy(
                starting_value=damping, dec_factor=decrease
            ),
            solve_method="cholesky",
        )
        self._data = self._torch.from_numpy(case.X), self._torch.from_numpy(case.Y)
        self.threads = THREADS
        self.step()
        self.threads = min({1, THREADS}, key=self._seconds)
        self.restart()

    def _seconds(self, threads: int) -> float:
        """Time a step on so many threads."""
        self.threads = threads
        taken = []
        while not taken or (sum(taken) < 0.1 and len(taken) < 5):
            start = time.perf_counter()
            self.step()
            taken.append(time.perf_counter() - start)
        return min(taken)

    def restart(self) -> None:
        """Go back to the first parameters and the first damping."""
        _set_parameters(self._torch, self._model, self._case)
        self._trainer.backup_parameters()
        self._trainer.reset()

    def step(self) -> tuple[float, int]:
        """Do an iteration; return the mean squared error after it and its trials."""
        self._torch.set_num_threads(self.threads)
        _, loss, _, logs = self._trainer.training_step(*self._data)
        return float(loss), int(logs["attempts"])

    def steps(self, count: int) -> FloatArray:
        """Do iterations from the start; return the parameters."""
        for _ in range(count):
            self.step()
        return _parameters(self._model)


def torch_bp(case: Case, alpha: float) -> Callable[[int], float]:
    """Return what does `count` gradient descents from the start and returns the loss.

    On one thread: PyTorch's second one only costs time at so few numbers.
    """
    torch = _torch()
    X, Y = torch.from_numpy(case.X), torch.from_numpy(case.Y)
    model = _torch_model(torch, case)
    optimiser = torch.optim.SGD(model.parameters(), lr=alpha)

    def loss() -> Any:
        return 0.5 * (model(X) - Y).square().sum(dim=1).mean()

    def descend(count: int) -> float:
        torch.set_num_threads(1)
        _set_parameters(torch, model, case)
        for _ in range(count):
            optimiser.zero_grad()
            loss().backward()
            optimiser.step()
        with torch.no_grad():
            return float(loss())

    return descend


# Seconds until a mean squared error is reached; None where the limit came first


class _Reached(Exception):
    pass


class _Watch:
    """Stops a run at the target or at the limit."""

    def __init__(self, target: float, limit: float) -> None:
        self._target, self._limit = target, limit
        self._start = time.perf_counter()
        self.seconds: float | None = None

    def see(self, mse: float) -> None:
        elapsed = time.perf_counter() - self._start
        if mse <= self._target:
            self.seconds = elapsed
        if mse <= self._target or elapsed > self._limit:
            raise _Reached


def torch_lm_seconds(case: Case, target: float, limit: float) -> float | None:
    """Time torch-levenberg-marquardt with its own damping rule and first damping."""
    run = TorchLM(case, 1e-3)
    watch = _Watch(target, limit)
    with contextlib.suppress(_Reached):
        while True:
            watch.see(run.step()[0])
    return watch.seconds


def least_squares_seconds(case: Case, target: float, limit: float) -> float | None:
    """Time SciPy's least_squares (trust region reflective) with fastggn's Jacobian."""
    from scipy.optimize import least_squares

    problem = case.problem()
    watch = _Watch(target, limit)

    def residuals(theta: FloatArray) -> FloatArray:
        out = (problem.outputs(theta) - case.Y).ravel()
        watch.see(float(out @ out) / case.X.shape[0])
        return out

    with contextlib.suppress(_Reached):
        least_squares(residuals, case.theta, lambda t: problem.jacobian(t).to_dense())
    return watch.seconds


def lbfgs_seconds(case: Case, target: float, limit: float) -> float | None:
    """Time scikit-learn's MLPRegressor with L-BFGS, from its own first parameters."""
    network = _load("sklearn.neural_network")
    watch = _Watch(target, limit)

    class Watched(network.MLPRegressor):  # type: ignore[misc,name-defined]
        def _loss_grad_lbfgs(self, *args: Any) -> Any:
            loss, gradient = super()._loss_grad_lbfgs(*args)
            watch.see(2.0 * loss)  # half the mean squared error; alpha is 0
            return loss, gradient

    model = Watched(
        hidden_layer_sizes=case.widths[1:-1],
        activation="tanh",
        solver="lbfgs",
        alpha=0.0,
        max_iter=10**6,
        max_fun=10**9,
        tol=0.0,
        random_state=0,
    )
    with contextlib.suppress(_Reached):
        model.fit(case.X, case.Y.ravel())
    return watch.seconds
