"""Dense stand-ins for Problem and Point: step control without a network."""

from __future__ import annotations

from functools import cached_property
from types import SimpleNamespace

import numpy as np
from scipy.sparse.linalg import aslinearoperator

from fastggn.runtime.comm import SERIAL


class StillClock:
    """The clock of training runs, which only this test moves."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        still = SimpleNamespace(perf_counter=lambda: self.now)
        monkeypatch.setattr("fastggn.training.run.time", still)

    def move(self, seconds):
        self.now += seconds


def numerical_derivative(function, theta, step=1e-6):
    """Central differences of a vector function, one column a parameter."""
    columns = []
    for j in range(theta.size):
        e = np.zeros(theta.size)
        e[j] = step * (1.0 + abs(theta[j]))
        columns.append((function(theta + e) - function(theta - e)) / (2.0 * e[j]))
    return np.stack(columns, axis=-1)


class FakeNetwork:
    """Draws theta0."""

    def __init__(self, n_params):
        self.n_params = n_params

    def init(self, seed=None):
        return np.random.default_rng(seed).standard_normal(self.n_params)


class FakePoint:
    """The system of a residual problem, all of it dense, computed when asked for."""

    comm = SERIAL
    l2 = decay = 0.0
    signs = None
    shared_rows = 0

    def __init__(self, problem, theta):
        self.theta = np.array(theta)
        self.problem = problem
        self.n_rows, self.n_params = problem.n_samples, problem.n_params
        self.own_rows = self.n_rows

    def evaluate(self):
        """Compute nothing ahead."""

    @cached_property
    def loss(self):
        return self.problem.loss(self.theta)

    @cached_property
    def A(self):
        return np.sqrt(1.0 / self.problem.n_samples) * self.problem.jacobian(self.theta)

    @cached_property
    def b(self):
        return np.sqrt(1.0 / self.problem.n_samples) * self.problem.residual(self.theta)

    @cached_property
    def gradient(self):
        with np.errstate(all="ignore"):
            return self.A.T @ self.b

    @property
    def data_gradient(self):
        return self.gradient

    def slope_sizes(self):
        terms = np.abs(self.A.T) @ np.abs(self.b)
        return terms, np.abs(self.A.T) @ np.abs(self.A @ self.theta)

    def loss_scales(self):
        return 1.0, 1.0

    def data_residual(self, x):
        return self.rmatvec(self.b - self.matvec(x))

    def matvec(self, v):
        return self.A @ v

    def images(self, v):
        yield self.matvec(v)

    def rmatvec(self, u):
        return self.A.T @ u

    def gram(self, *, mixed=False):
        problem = self.problem
        problem.n_assemblies += 1
        return np.ascontiguousarray(self.A.T @ self.A)

    def dual_gram(self):
        self.problem.n_assemblies += 1
        return np.ascontiguousarray(self.A @ self.A.T)

    def row_blocks(self):
        yield np.ascontiguousarray(self.A), self.b

    def column_errors(self):
        return np.zeros(self.A.shape[1])

    def kronecker_factors(self):
        return [(np.ones((1, 1)), self.gram())]

    def curvature_along(self, v):
        t = 1e-4
        r = self.problem.residual
        second = (r(self.theta + t * v) - 2.0 * r(self.theta) + r(self.theta - t * v)) / t**2
        return np.sqrt(1.0 / self.problem.n_samples) * second

    def predicted_decrease(self, step):
        bent = self.A @ step
        return -float(self.gradient @ step + 0.5 * (bent @ bent))


class ResidualProblem:
    """Half the mean square of ``residual(theta)``, with a Jacobian or differences for one."""

    def __init__(self, residual, n_params, n_samples, jacobian=None):
        self._residual = residual
        self.comm = SERIAL
        self.penalize_biases = True
        self._jacobian = jacobian
        self.n_params = n_params
        self.n_samples = n_samples
        self.l2 = 0.0
        self.curvature = "psd"
        self.network = FakeNetwork(n_params)
        self.loss_function = SimpleNamespace(name="residuals")
        self.rows = slice(None)
        self.n_assemblies = 0

    @property
    def n_rows(self):
        return self.n_samples

    def init(self, seed=None):
        return self.network.init(seed)

    def residual(self, theta):
        return self._residual(theta)[self.rows]

    def jacobian(self, theta):
        if self._jacobian is None:
            return numerical_derivative(self._residual, theta)[self.rows]
        return self._jacobian(theta)[self.rows]

    def loss(self, theta):
        with np.errstate(all="ignore"):
            r = self.residual(theta)
            return float(0.5 * (r @ r) / self.n_samples)

    def gradient(self, theta):
        return self.at(theta).gradient

    def hessian(self, theta):
        h = numerical_derivative(self.gradient, theta)
        return 0.5 * (h + h.T)

    def hessian_operator(self, theta):
        return aslinearoperator(self.hessian(theta))

    def at(self, theta):
        return FakePoint(self, theta)

    def subset(self, rows):
        part = ResidualProblem(self._residual, self.n_params, len(rows), self._jacobian)
        part.rows = rows
        return part


def rosenbrock():
    """Minimum 0 at (1, 1); the classical start is (-1.2, 1)."""

    def residual(theta):
        x, y = theta
        return np.array([10.0 * (y - x * x), 1.0 - x])

    def jacobian(theta):
        return np.array([[-20.0 * theta[0], 10.0], [-1.0, 0.0]])

    return ResidualProblem(residual, 2, 2, jacobian)
