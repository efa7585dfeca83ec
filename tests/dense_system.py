"""Dense linearisations with known answers, for the tests of the solvers."""

from dataclasses import replace

import numpy as np

from fastggn.runtime.comm import SERIAL
from fastggn.solvers.base import Shift

NAMES = ["cholesky", "dual", "qr", "lsqr"]


class Prepared:
    """A solver's state, asked with the decay of its system: steps, corrections and sums."""

    def __init__(self, solver, lin):
        self.lin = lin
        self.state = solver.prepare(lin)

    def solve(self, damping):
        found = self.state.solve(Shift(damping, self.lin.decay))
        return replace(found, step=-found.step)

    def correct(self, damping, c):
        return self.state.solve(Shift(damping, self.lin.decay), c)

    def sums(self):
        return self.state.sums(self.lin.decay)


class DenseSystem:
    """A linearisation with given rows."""

    comm = SERIAL
    shared_rows = 0

    def __init__(self, a, b=None, *, l2=0.0, theta=None, signs=None, gradient=None, block=7):
        self.a = np.array(a, dtype=float)
        self.n_rows, self.n_params = self.a.shape
        self.l2 = l2
        self.theta = np.zeros(self.n_params) if theta is None else theta
        self.signs = signs
        self.b = b
        self.data_gradient = self.a.T @ b if gradient is None else gradient
        self.block = block
        self.sweeps = 0

    @property
    def own_rows(self):
        return self.n_rows

    @property
    def decay(self):
        return self.l2

    @property
    def gradient(self):
        return self.data_gradient + self.l2 * self.theta

    def matvec(self, v):
        self.sweeps += 1
        return self.a @ v

    def rmatvec(self, u):
        self.sweeps += 1
        return self.a.T @ u

    def data_residual(self, x):
        return None if self.b is None else self.rmatvec(self.b - self.matvec(x))

    def gram(self, *, mixed=False):
        d = self.a if self.signs is None else self.signs[:, None] * self.a
        return np.ascontiguousarray(self.a.T @ d)

    def dual_gram(self):
        return np.ascontiguousarray(self.a @ self.a.T)

    def row_blocks(self):
        for i in range(0, self.n_rows, self.block):
            rows = slice(i, i + self.block)
            yield self.a[rows].copy(), None if self.b is None else self.b[rows]

    def column_errors(self):
        return np.zeros(self.n_params)

    def kronecker_factors(self):
        """One layer of the largest square-ish shape: U = I, V = the mean diagonal block."""
        n = self.n_params
        units = max(k for k in range(1, n + 1) if n % k == 0 and k * k <= n)
        inputs = n // units
        gram = self.a.T @ self.a
        blocks = [
            gram[k * inputs : (k + 1) * inputs][:, k * inputs : (k + 1) * inputs]
            for k in range(units)
        ]
        return [(np.eye(units), sum(blocks) / units)]

    def system_matrix(self, mu):
        return self.gram() + mu * np.eye(self.n_params)


def random_system(shape, *, l2=0.0, seed=0, **options):
    rng = np.random.default_rng(seed)
    a = rng.standard_normal(shape) / np.sqrt(max(shape))
    return DenseSystem(
        a, rng.standard_normal(shape[0]), l2=l2, theta=rng.standard_normal(shape[1]), **options
    )


def conditioned(shape, cond, rng):
    """A random matrix with singular values from 1 down to 1 / cond."""
    k = min(shape)
    u, _ = np.linalg.qr(rng.standard_normal((shape[0], k)))
    v, _ = np.linalg.qr(rng.standard_normal((shape[1], k)))
    return u * np.logspace(0, -np.log10(cond), k) @ v.T, u, v


def reference_step(lin, damping):
    """The step by numpy.linalg.lstsq on the stacked system."""
    mu = lin.l2 + damping
    if mu == 0.0:
        return -np.linalg.lstsq(lin.a, lin.b, rcond=None)[0]
    root = np.sqrt(mu)
    stacked = np.vstack([lin.a, root * np.eye(lin.n_params)])
    rhs = np.concatenate([lin.b, lin.l2 / root * lin.theta])
    return -np.linalg.lstsq(stacked, rhs, rcond=None)[0]


def reference_correction(lin, damping, c):
    mu = lin.l2 + damping
    if mu == 0.0:
        return np.linalg.lstsq(lin.a, c, rcond=None)[0]
    stacked = np.vstack([lin.a, np.sqrt(mu) * np.eye(lin.n_params)])
    return np.linalg.lstsq(stacked, np.concatenate([c, np.zeros(lin.n_params)]), rcond=None)[0]


def relative(x, y):
    return np.linalg.norm(x - y) / max(np.linalg.norm(y), 1e-300)
