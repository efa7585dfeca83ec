"""Compile the kernels, or load them from the disk, before their first use."""

from __future__ import annotations

import time
import warnings
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fastggn.kernels import cholesky
from fastggn.kernels.cache import folders
from fastggn.network.mlp import MLP
from fastggn.objective.problem import Problem
from fastggn.runtime.errors import FastGGNWarning
from fastggn.runtime.threads import threading_layer
from fastggn.training.control.trust_region import DenseModel
from fastggn.training.methods.named import Adam, LevenbergMarquardt, Solver
from fastggn.training.result import unless_interrupted
from fastggn.training.train import train

SOLVERS: tuple[Solver, ...] = ("cholesky", "lsqr", "qr")


@dataclass(frozen=True)
class WarmupReport:
    """The result of `warmup`.

    Attributes
    ----------
    seconds : float
        Wall-clock time.
    compiled : int
        The number of compiled functions; 0 if all were on the disk or in memory.
    threading_layer : str or None
        Numba's threading layer.
    cache_folder : str
        The first folder of the search for compiled kernels.
    """

    seconds: float
    compiled: int
    threading_layer: str | None
    cache_folder: str

    def __str__(self) -> str:
        """Return a line for the terminal."""
        return (
            f"kernels ready in {self.seconds:.2f} s, {self.compiled} functions compiled "
            f"(layer {self.threading_layer}, cache {self.cache_folder})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the attributes as a dictionary."""
        return asdict(self)


def warmup() -> WarmupReport:
    """Compile or load every kernel of a training run, in float64 and in mixed precision.

    Without `warmup`, the first call of `train` in a process compiles its kernels or loads them from
    the disk. A batch job calls `warmup` once before it measures times. To fill a shared cache, call
    it in one process with NUMBA_CACHE_DIR set (``fastggn warmup``).

    Returns
    -------
    WarmupReport
        The seconds and the number of compiled functions.
    """
    from numba.core import event

    start = time.perf_counter()
    with event.install_recorder("numba:compile") as recorder:
        with warnings.catch_warnings():
            # The problems are tiny, so that singular systems are normal.
            warnings.simplefilter("ignore", FastGGNWarning)
            _use_everything()
    compiled = sum(1 for _, e in recorder.buffer if e.is_start)
    return WarmupReport(
        time.perf_counter() - start, compiled, threading_layer(), str(folders()[0][0])
    )


def _trained(*arguments: Any, **options: Any) -> None:
    """Train; Ctrl-C ends all of the runs."""
    unless_interrupted(train(*arguments, **options))


def _use_everything() -> None:
    """Call each kernel once, on problems of a few samples."""
    rng = np.random.default_rng(0)
    X, Y = rng.normal(size=(40, 2)), rng.normal(size=(40, 2))
    for widths, targets in (((2, 3, 2), Y), ((2, 3, 1), Y[:, :1])):
        problem = Problem(MLP(widths), X, targets)
        theta = problem.network.init(seed=0)
        for solver in SOLVERS:
            method = LevenbergMarquardt(solver=solver, geodesic=True)
            _trained(problem, theta, method, max_iter=2)
        _trained(problem.subset(np.arange(3)), theta, LevenbergMarquardt(solver="dual"), max_iter=2)
        mixed = LevenbergMarquardt(solver="cholesky", precision="mixed")
        _trained(problem, theta, mixed, max_iter=2)
        _trained(problem, theta, "newton", max_iter=2)
        _trained(problem, theta, Adam(batch_size=8), max_iter=2)
    exact = Problem(MLP((2, 3, 1)), X, Y[:, :1], "cauchy", curvature="exact")
    _trained(exact, theta, max_iter=2)
    for loss, n_outputs in (("softmax_cross_entropy", 2), ("logistic", 1)):
        labels = rng.integers(0, 2, 40)
        _trained(Problem(MLP((2, 3, n_outputs)), X, labels, loss), seed=0, max_iter=2)
    saddle = DenseModel(1.0, np.ones(2), np.diag([1.0, -1.0]))
    saddle.step(1.0), saddle.rank
    gates = [np.ones((40, 3))]
    gated = Problem(MLP((2, 3, 2), bias="none"), X, Y, gates=gates)
    gated.gradient(gated.network.init(seed=0))
    # Wide layers use assembly by rows, narrow layers assembly by pairs.
    wide = Problem(MLP((2, 24, 24, 1)), X, Y[:, :1])
    theta = wide.network.init(seed=0)
    wide.ggn(theta)
    wide.hessian(theta)
    wide.hessian_operator(theta) @ theta
    cholesky.cholesky(np.eye(cholesky._SERIAL + 1))
    jacobian = wide.jacobian(theta)
    jacobian.T @ (jacobian @ theta)
    jacobian.rank()
    jacobian.dual_gram()
    wide.network.predict(theta, X)
