"""Shallow networks in closed form, in the notation of O'Leary-Roseberry and Ghattas (2020).

Samples are columns, F = |W1 sigma(W0 X) - Y|^2 / 2 (a sum), theta = [vec W1; vec W0], vec by
columns. The errata are applied: I_m for I_n in Eqs. 37-39, 46 and 54, K^(m,r) for K^(n,r) in
Eqs. 52 and 55, sigma' for sigma in the second term of Eqs. 11, 14, 16 and 17.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


def vec(A):
    return A.ravel(order="F")


def commutation(a, b):
    """K^(a,b): K vec(V) = vec(V^T) for V of shape (a, b)."""
    K = np.zeros((a * b, a * b))
    for i in range(a):
        for j in range(b):
            K[i * b + j, j * a + i] = 1.0
    return K


@dataclass
class Shallow:
    """W0 (r, n), W1 (m, r), X (n, d), Y (m, d), and sigma with two derivatives."""

    W0: np.ndarray
    W1: np.ndarray
    X: np.ndarray
    Y: np.ndarray
    sigma: tuple

    def __post_init__(self):
        Z = self.W0 @ self.X
        self.S, self.S1, self.S2 = (f(Z) for f in self.sigma)
        self.R = self.W1 @ self.S - self.Y
        self.r, self.n = self.W0.shape
        self.m, self.d = self.Y.shape

    def loss(self):
        return 0.5 * np.sum(self.R**2)

    def gradient(self):
        """Theorem 1: (gradient in W1, gradient in W0)."""
        return self.R @ self.S.T, (self.S1 * (self.W1.T @ self.R)) @ self.X.T

    def gauss_newton(self):
        """Lemma 3, corrected, blocks in the order W1, W0."""
        r, d, m = self.r, self.d, self.m
        D = np.diag(vec(self.S1))
        left = np.kron(self.X, np.eye(r)) @ D
        b11 = np.kron(self.S @ self.S.T, np.eye(m))
        b01 = left @ np.kron(self.S.T, self.W1.T)
        b00 = left @ np.kron(np.eye(d), self.W1.T @ self.W1) @ left.T
        return np.block([[b11, b01.T], [b01, b00]])

    def rest(self):
        """Lemma 4, corrected: the part of the Hessian beside Gauss-Newton."""
        r, d, m = self.r, self.d, self.m
        D = np.diag(vec(self.S1))
        right = np.kron(self.X.T, np.eye(r))
        b10 = np.kron(np.eye(r), self.R) @ commutation(r, d) @ D @ right
        b01 = right.T @ D @ np.kron(self.R.T, np.eye(r)) @ commutation(m, r)
        b00 = right.T @ np.diag(vec((self.W1.T @ self.R) * self.S2)) @ right
        return np.block([[np.zeros((m * r, m * r)), b10], [b01, b00]])

    def hessian(self):
        return self.gauss_newton() + self.rest()

    def jacobian(self):
        """d vec(W1 S) / d theta."""
        D = np.diag(vec(self.S1))
        right = D @ np.kron(self.X.T, np.eye(self.r))
        return np.hstack(
            [np.kron(self.S.T, np.eye(self.m)), np.kron(np.eye(self.d), self.W1) @ right]
        )

    def printed_theorem_2(self):
        """The linear map of (10) and (11) as printed, with sigma in the second term of (11)."""
        return self._rows(self.S)

    def corrected_theorem_2(self):
        return self._rows(self.S1)

    def _rows(self, second):
        columns = []
        for e in np.eye(self.m * self.r + self.r * self.n):
            V1 = e[: self.m * self.r].reshape(self.m, self.r, order="F")
            V0 = e[self.m * self.r :].reshape(self.r, self.n, order="F")
            moved = self.W1 @ (self.S1 * (V0 @ self.X))
            ten = (V1 @ self.S + moved) @ self.S.T
            eleven = (self.S1 * (self.W1.T @ V1 @ self.S) + second * (self.W1.T @ moved)) @ self.X.T
            columns.append(np.concatenate([vec(ten), vec(eleven)]))
        return np.array(columns).T

    def package_order(self):
        """Indices that take [vec W1; vec W0] to theta of the package: W0 and W1 by rows."""
        one = np.arange(self.m * self.r).reshape(self.m, self.r, order="F")
        zero = self.m * self.r + np.arange(self.r * self.n).reshape(self.r, self.n, order="F")
        return np.concatenate([zero.ravel(), one.ravel()])
