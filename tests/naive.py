"""Textbook reference for the tests: one sample at a time, in the notation of Shen (2018).

Everything is written as in the papers, errata of the specification applied, without any care
for speed and without importing the package. Weights are kept as Shen writes them: `W_l` has
shape (m_l, n_l) with `m_l = n_{l-1}`, one more row for free biases (the dummy unit feeding 1),
and `vec` stacks its columns. The package stores the transposes, which are the same numbers in
the same order, so only the order of the layers differs: Shen's P(W) lists the last layer first.
"""

# ruff: noqa: E741  (l is the papers' index of a layer)

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Activation(NamedTuple):
    """sigma, sigma' and sigma'', each of an array, entry by entry."""

    sigma: Callable
    first: Callable
    second: Callable


class Loss(NamedTuple):
    """E(f, y) of one sample, its gradient and Hessian in f, and the training curvature."""

    value: Callable
    gradient: Callable
    hessian: Callable
    psd: Callable


# --- activations ----------------------------------------------------------------------------


def _sigmoid(z):
    return 0.5 * (1.0 + np.tanh(0.5 * z))


def leaky_relu(slope=0.01):
    """z where z > 0, slope * z elsewhere."""
    return Activation(
        lambda z: np.where(z > 0, z, slope * z),
        lambda z: np.where(z > 0, 1.0, slope),
        lambda z: 0.0 * z,
    )


ACTIVATIONS = {
    "identity": Activation(lambda z: 1.0 * z, lambda z: 0.0 * z + 1.0, lambda z: 0.0 * z),
    "sigmoid": Activation(
        _sigmoid,
        lambda z: _sigmoid(z) * _sigmoid(-z),
        lambda z: _sigmoid(z) * _sigmoid(-z) * (_sigmoid(-z) - _sigmoid(z)),
    ),
    "tanh": Activation(
        np.tanh,
        lambda z: 1.0 / np.cosh(z) ** 2,
        lambda z: -2.0 * np.tanh(z) / np.cosh(z) ** 2,
    ),
    "softsign": Activation(
        lambda z: z / (1.0 + np.abs(z)),
        lambda z: 1.0 / (1.0 + np.abs(z)) ** 2,
        lambda z: -2.0 * np.sign(z) / (1.0 + np.abs(z)) ** 3,
    ),
    "softplus": Activation(
        lambda z: np.logaddexp(0.0, z),
        _sigmoid,
        lambda z: _sigmoid(z) * _sigmoid(-z),
    ),
    "bent_identity": Activation(
        lambda z: (np.sqrt(z**2 + 1.0) - 1.0) / 2.0 + z,
        lambda z: z / (2.0 * np.sqrt(z**2 + 1.0)) + 1.0,
        lambda z: 1.0 / (2.0 * (z**2 + 1.0) ** 1.5),
    ),
    "relu": leaky_relu(0.0),
    "leaky_relu": leaky_relu(),
    "square": Activation(lambda z: z**2, lambda z: 2.0 * z, lambda z: 0.0 * z + 2.0),
    "sine": Activation(np.sin, np.cos, lambda z: -np.sin(z)),
}


# --- losses ---------------------------------------------------------------------------------


def _separable(rho, first, second, irls):
    """Sum of rho(r_c) over the outputs, r = f - y; `irls` is first(r) / r with its limit."""
    return Loss(
        lambda f, y: float(np.sum(rho(f - y))),
        lambda f, y: first(f - y),
        lambda f, y: np.diag(second(f - y)),
        lambda f, y: np.diag(irls(f - y)),
    )


def squared(scale=1.0):
    """|r / scale|^2 / 2."""
    c = scale**2
    return _separable(
        lambda r: r**2 / (2.0 * c),
        lambda r: r / c,
        lambda r: np.ones_like(r) / c,
        lambda r: np.ones_like(r) / c,
    )


def cauchy(scale=1.0):
    """log(1 + r^2 / c^2)."""
    c = scale**2
    return _separable(
        lambda r: np.log(1.0 + r**2 / c),
        lambda r: 2.0 * r / (c + r**2),
        lambda r: 2.0 * (c - r**2) / (c + r**2) ** 2,
        lambda r: 2.0 / (c + r**2),
    )


def blake_zisserman(epsilon=0.1, scale=1.0):
    """-log(exp(-r^2 / c^2) + e) + log(1 + e)."""
    e, c = epsilon, scale

    def u(r):
        return np.exp(-((r / c) ** 2))

    return _separable(
        lambda r: np.log(1.0 + e) - np.log(u(r) + e),
        lambda r: 2.0 * r / c**2 * u(r) / (u(r) + e),
        lambda r: 2.0 / c**2 * u(r) * (u(r) + e - 2.0 * e * (r / c) ** 2) / (u(r) + e) ** 2,
        lambda r: 2.0 / c**2 * u(r) / (u(r) + e),
    )


def smooth_lp(p=1.0, epsilon=0.1):
    """(r^2 + e)^(p/2) - e^(p/2)."""
    e = epsilon
    return _separable(
        lambda r: (r**2 + e) ** (p / 2.0) - e ** (p / 2.0),
        lambda r: p * r * (r**2 + e) ** (p / 2.0 - 1.0),
        lambda r: p * (r**2 + e) ** (p / 2.0 - 2.0) * (e + (p - 1.0) * r**2),
        lambda r: p * (r**2 + e) ** (p / 2.0 - 1.0),
    )


def huber(delta=1.0):
    """r^2 / 2 for |r| <= delta, delta (|r| - delta / 2) beyond."""

    def inside(r):
        return np.abs(r) <= delta

    return _separable(
        lambda r: np.where(inside(r), r**2 / 2.0, delta * (np.abs(r) - delta / 2.0)),
        lambda r: np.clip(r, -delta, delta),
        lambda r: np.where(inside(r), 1.0, 0.0),
        lambda r: delta / np.maximum(np.abs(r), delta),
    )


def log_cosh():
    """log cosh r: the user's own loss of the tests."""
    return _separable(
        lambda r: np.log(np.cosh(r)),
        np.tanh,
        lambda r: 1.0 / np.cosh(r) ** 2,
        lambda r: 1.0 / np.cosh(r) ** 2,
    )


def softmax_cross_entropy():
    """log sum_c exp(f_c) - y.f for targets y >= 0 that sum to 1, less the entropy of y."""

    def q(f):
        e = np.exp(f - f.max())
        return e / e.sum()

    def value(f, y):
        entropy = -sum(p * np.log(p) for p in y if p > 0)
        return float(f.max() + np.log(np.exp(f - f.max()).sum()) - y @ f - entropy)

    def hessian(f, y):
        return np.diag(q(f)) - np.outer(q(f), q(f))

    return Loss(value, lambda f, y: q(f) - y, hessian, hessian)


def logistic():
    """Sum of log(1 + exp(f_c)) - y_c f_c."""

    def hessian(f, y):
        return np.diag(_sigmoid(f) * _sigmoid(-f))

    return Loss(
        lambda f, y: float(np.sum(np.logaddexp(0.0, f) - y * f)),
        lambda f, y: _sigmoid(f) - y,
        hessian,
        hessian,
    )


LOSSES = {
    "squared": squared,
    "softmax_cross_entropy": softmax_cross_entropy,
    "logistic": logistic,
    "cauchy": cauchy,
    "blake_zisserman": blake_zisserman,
    "smooth_lp": smooth_lp,
    "huber": huber,
    "log_cosh": log_cosh,
}


# --- one sample -----------------------------------------------------------------------------


class Sample(NamedTuple):
    """The sweeps of one sample; entry 0 of `inputs` is x, layers count from 1 elsewhere.

    z, phi, first, second (dicts l -> (n_l,)), inputs (dict l -> (m_l,), phi_{l-1} with its
    dummy unit), psi (dict l -> (n_l, n_L)).
    """

    z: dict
    phi: dict
    first: dict
    second: dict
    inputs: dict
    psi: dict


@dataclass
class Network:
    """Widths n_0..n_L, one activation a layer, bias "free", "none" or the vectors b_1..b_L."""

    widths: Sequence[int]
    activations: Sequence[Activation]
    bias: str | Sequence[np.ndarray] = "free"

    @property
    def n_layers(self):
        return len(self.widths) - 1

    @property
    def rows(self):
        """m_l of the layers 1..L, as a dict."""
        dummy = 1 if isinstance(self.bias, str) and self.bias == "free" else 0
        return {l: self.widths[l - 1] + dummy for l in range(1, self.n_layers + 1)}

    @property
    def n_params(self):
        return sum(self.rows[l] * self.widths[l] for l in self.rows)

    def weights(self, theta):
        """Shen's W_l (m_l, n_l), as a dict l -> array."""
        W, start = {}, 0
        for l in range(1, self.n_layers + 1):
            m, n = self.rows[l], self.widths[l]
            W[l] = theta[start : start + m * n].reshape(n, m).T
            start += m * n
        return W

    def core(self, W_l, l):
        """W_l without the row of the dummy unit."""
        return W_l[: self.widths[l - 1], :]

    def fixed_bias(self, l):
        return 0.0 if isinstance(self.bias, str) else np.asarray(self.bias[l - 1], dtype=float)

    def sweep(self, theta, x, gates=None):
        """Forward and backward sweep of one sample; `gates` holds one 0/1 row a hidden layer."""
        L, W = self.n_layers, self.weights(theta)
        z, phi, first, second, inputs, psi = {}, {0: np.asarray(x, float)}, {}, {}, {}, {}
        for l in range(1, L + 1):
            ones = np.ones(self.rows[l] - self.widths[l - 1])
            inputs[l] = np.concatenate([phi[l - 1], ones])
            z[l] = W[l].T @ inputs[l] - self.fixed_bias(l)
            if gates is not None and l < L:
                gate = np.asarray(gates[l - 1], float)
                phi[l], first[l], second[l] = gate * z[l], gate, 0.0 * gate
            else:
                phi[l], first[l], second[l] = (f(z[l]) for f in self.activations[l - 1])
        psi[L] = np.diag(first[L])
        for l in range(L - 1, 0, -1):
            psi[l] = np.diag(first[l]) @ self.core(W[l + 1], l + 1) @ psi[l + 1]
        return Sample(z, phi, first, second, inputs, psi)

    def omegas(self, theta, sample, error):
        """omega_l of Shen (14)-(15) for the error gradient `error` (n_L,), as a dict."""
        L, W = self.n_layers, self.weights(theta)
        omega = {L: np.diag(sample.first[L]) @ error}
        for l in range(L - 1, 0, -1):
            omega[l] = np.diag(sample.first[l]) @ self.core(W[l + 1], l + 1) @ omega[l + 1]
        return omega

    def sample_hessian(self, theta, sample, error, H_E):
        """Exact Hessian of E of one sample: blocks (l, k), l <= k, of Shen (26)-(28)."""
        L, W = self.n_layers, self.weights(theta)
        omega = self.omegas(theta, sample, error)
        sigma1 = {l: np.diag(sample.first[l]) for l in range(1, L + 1)}
        HH = {L: sigma1[L] @ H_E @ sigma1[L] + np.diag(sample.second[L] * error)}
        for l in range(L - 1, 0, -1):
            C = self.core(W[l + 1], l + 1)
            HH[l] = sigma1[l] @ C @ HH[l + 1] @ C.T @ sigma1[l]
            HH[l] = HH[l] + np.diag(sample.second[l] * (C @ omega[l + 1]))

        def Q(k, l):
            if l == k:
                return np.eye(self.widths[k])
            return sigma1[l] @ self.core(W[l + 1], l + 1) @ Q(k, l + 1)

        blocks = {}
        for l in range(1, L + 1):
            for k in range(l, L + 1):
                a, c = sample.inputs[l], sample.inputs[k]
                block = np.kron(Q(k, l) @ HH[k], np.outer(a, c))
                if l < k:
                    inner = np.zeros((self.widths[l], self.rows[k]))  # a zero dummy column
                    inner[:, : self.widths[k - 1]] = Q(k - 1, l) @ sigma1[k - 1]
                    block = block + np.kron(omega[k][None, :], np.kron(inner, a[:, None]))
                blocks[l, k], blocks[k, l] = block, block.T
        order = range(1, L + 1)
        return np.block([[blocks[l, k] for k in order] for l in order])


# --- all samples ----------------------------------------------------------------------------


@dataclass
class Problem:
    """A network, samples in rows, a loss, weights, l2, gates: the mean that fastggn minimises.

    `Y` (T, n_L) holds float targets (one-hot for classes); `gates` one (T, n_l) array a hidden
    layer; `curvature` is "psd" or "exact".
    """

    network: Network
    X: np.ndarray
    Y: np.ndarray
    loss_function: Loss
    sample_weight: np.ndarray | None = None
    l2: float = 0.0
    gates: Sequence[np.ndarray] | None = None
    curvature: str = "psd"

    @property
    def n_samples(self):
        return len(self.X)

    @property
    def weight(self):
        """(T,) weights that sum to 1."""
        w = np.ones(self.n_samples) if self.sample_weight is None else self.sample_weight
        return np.asarray(w, float) / np.sum(w)

    def samples(self, theta):
        """The sweeps of all samples, as a list."""
        out = []
        for i in range(self.n_samples):
            gates = None if self.gates is None else [g[i] for g in self.gates]
            out.append(self.network.sweep(theta, self.X[i], gates))
        return out

    def outputs(self, theta):
        """(T, n_L)."""
        return np.array([s.phi[self.network.n_layers] for s in self.samples(theta)])

    def errors(self, theta):
        """(T, n_L): the gradient of E in the outputs, sample by sample."""
        pairs = zip(self.outputs(theta), self.Y, strict=True)
        return np.array([self.loss_function.gradient(f, y) for f, y in pairs])

    def loss_hessians(self, theta):
        """(T, n_L, n_L): H_E, or its positive semi-definite stand-in for training."""
        E = self.loss_function
        H = E.psd if self.curvature == "psd" else E.hessian
        return np.array([H(f, y) for f, y in zip(self.outputs(theta), self.Y, strict=True)])

    def loss(self, theta):
        """Weighted mean of E, plus l2/2 |theta|^2."""
        pairs = zip(self.weight, self.outputs(theta), self.Y, strict=True)
        total = sum(w * self.loss_function.value(f, y) for w, f, y in pairs)
        return float(total + 0.5 * self.l2 * theta @ theta)

    def gradient(self, theta):
        """(N,): grad_l = sum_i w_i phi_{l-1}^i omega_l^iT, its columns stacked, plus l2 theta."""
        net, errors = self.network, self.errors(theta)
        parts = {l: np.zeros((net.rows[l], net.widths[l])) for l in net.rows}
        for w, sample, error in zip(self.weight, self.samples(theta), errors, strict=True):
            omega = net.omegas(theta, sample, error)
            for l in parts:
                parts[l] += w * np.outer(sample.inputs[l], omega[l])
        g = np.concatenate([parts[l].ravel(order="F") for l in sorted(parts)])
        return g + self.l2 * theta

    def shen_blocks(self, theta):
        """Row blocks of P by the index formula (21)-(22), as a dict l -> (m_l n_l, T n_L)."""
        net, n_L = self.network, self.network.widths[-1]
        samples, blocks = self.samples(theta), {}
        for l in net.rows:
            m, n = net.rows[l], net.widths[l]
            P = np.zeros((n * m, self.n_samples * n_L))
            for i, sample in enumerate(samples):
                for k in range(n):
                    for j in range(m):
                        for c in range(n_L):
                            P[k * m + j, i * n_L + c] = sample.psi[l][k, c] * sample.inputs[l][j]
            blocks[l] = P
        return blocks

    def shen_matrix(self, theta):
        """P(W) (N, T n_L), the last layer first."""
        blocks = self.shen_blocks(theta)
        return np.vstack([blocks[l] for l in sorted(blocks, reverse=True)])

    def jacobian(self, theta):
        """(T n_L, N), the first layer first."""
        blocks = self.shen_blocks(theta)
        return np.vstack([blocks[l] for l in sorted(blocks)]).T

    def ggn(self, theta):
        """(N, N): sums over samples of Kronecker products, block by block, plus l2 I."""
        net, N = self.network, self.network.n_params
        G, order = np.zeros((N, N)), sorted(net.rows)
        terms = zip(self.weight, self.samples(theta), self.loss_hessians(theta), strict=True)
        for w, s, H in terms:
            G += w * np.block(
                [
                    [
                        np.kron(s.psi[l] @ H @ s.psi[k].T, np.outer(s.inputs[l], s.inputs[k]))
                        for k in order
                    ]
                    for l in order
                ]
            )
        return G + self.l2 * np.eye(N)

    def dual_gram(self, theta):
        """(T n_L, T n_L): K_ij = sum_l (phi_{l-1}^i . phi_{l-1}^j) Psi_l^iT Psi_l^j."""
        samples, layers = self.samples(theta), sorted(self.network.rows)
        return np.block(
            [
                [
                    sum((a.inputs[l] @ b.inputs[l]) * (a.psi[l].T @ b.psi[l]) for l in layers)
                    for b in samples
                ]
                for a in samples
            ]
        )

    def hessian(self, theta):
        """(N, N): exact, plus l2 I."""
        N, E = self.network.n_params, self.loss_function
        H = np.zeros((N, N))
        for w, s, y in zip(self.weight, self.samples(theta), self.Y, strict=True):
            f = s.phi[self.network.n_layers]
            H += w * self.network.sample_hessian(theta, s, E.gradient(f, y), E.hessian(f, y))
        return H + self.l2 * np.eye(N)

    def layer_outputs(self, theta):
        """Phi_0..Phi_L, samples in columns; a row of ones below those that feed free biases."""
        samples, L = self.samples(theta), self.network.n_layers
        inner = [np.array([s.inputs[l] for s in samples]).T for l in range(1, L + 1)]
        return [*inner, np.array([s.phi[L] for s in samples]).T]

    def layer_sensitivities(self, theta):
        """Psi_1..Psi_L, each (T, n_l, n_L)."""
        samples = self.samples(theta)
        return [np.array([s.psi[l] for s in samples]) for l in sorted(self.network.rows)]


# --- Bayesian linear regression with a level of noise for each output ---------------------------


class NoisyOutputs(NamedTuple):
    """The maximum of the evidence: precisions, effective parameters, weights and log evidence."""

    alpha: float
    betas: np.ndarray
    gammas: np.ndarray
    mean: np.ndarray
    covariances: list
    log_evidence: float


def noisy_outputs(design, Y, iterations=20000):
    """One ridge regression an output, one prior for all, by MacKay's updates (1992)."""
    T, outputs = Y.shape
    values, vectors = np.linalg.eigh(design.T @ design)
    rotated = vectors.T @ design.T @ Y
    alpha, betas = 1.0, np.ones(outputs)
    for _ in range(iterations):
        shares = betas * values[:, None] / (betas * values[:, None] + alpha)
        mean = vectors @ (betas * rotated / (betas * values[:, None] + alpha))
        gammas, before = shares.sum(axis=0), (alpha, betas)
        alpha = gammas.sum() / np.sum(mean**2)
        betas = (T - gammas) / np.sum((Y - design @ mean) ** 2, axis=0)
        if abs(alpha / before[0] - 1) + np.abs(betas / before[1] - 1).max() < 1e-12:
            break
    log_evidence, covariances = 0.0, []
    for y, beta in zip(Y.T, betas, strict=True):
        # The marginal distribution of the targets, without the formula of the evidence.
        marginal = design @ design.T / alpha + np.eye(T) / beta
        _, log_det = np.linalg.slogdet(marginal)
        quadratic = y @ np.linalg.solve(marginal, y)
        log_evidence -= 0.5 * (quadratic + log_det + T * np.log(2 * np.pi))
        H = beta * design.T @ design + alpha * np.eye(design.shape[1])
        covariances.append(np.linalg.inv(H))
    return NoisyOutputs(alpha, betas, gammas, mean, covariances, log_evidence)


# --- derivatives by the inputs --------------------------------------------------------------


@dataclass
class Jet:
    """Value (n,), gradient (n, n_0) and Hessian (n, n_0, n_0) of one layer by the inputs."""

    value: np.ndarray
    gradient: np.ndarray
    hessian: np.ndarray

    def channels(self, listed):
        """The channels of all units, unit by unit: () value, (i,) and (i, j) derivatives."""
        parts = (self.value, self.gradient, self.hessian)
        return np.array([parts[len(c)][(k, *c)] for k in range(len(self.value)) for c in listed])


def affine(network, theta, l, jet, fixed=0.0):
    """z_l of a layer's inputs: linear in all orders, with a bias in the value alone."""
    W = network.core(network.weights(theta)[l], l).T
    dummy = network.weights(theta)[l][network.widths[l - 1] :].sum(axis=0)
    value = W @ jet.value + dummy - fixed
    return Jet(value, W @ jet.gradient, np.einsum("ab,bij->aij", W, jet.hessian))


def activated(jets, z):
    """sigma of a jet, with `jets` the five functions sigma, sigma', ...: the chain rule."""
    s, first, second = (f(z.value) for f in jets[:3])
    outer = np.einsum("ai,aj->aij", z.gradient, z.gradient)
    hessian = second[:, None, None] * outer + first[:, None, None] * z.hessian
    return Jet(s, first[:, None] * z.gradient, hessian)


def activated_tangent(jets, z, dz):
    """The derivative of `activated` along dz."""
    first, second, third = (f(z.value) for f in jets[1:4])
    slope, bend = second * dz.value, third * dz.value  # of sigma' and sigma''
    outer = np.einsum("ai,aj->aij", z.gradient, z.gradient)
    mixed = np.einsum("ai,aj->aij", dz.gradient, z.gradient)
    hessian = bend[:, None, None] * outer + second[:, None, None] * (mixed + mixed.swapaxes(1, 2))
    hessian = hessian + slope[:, None, None] * z.hessian + first[:, None, None] * dz.hessian
    gradient = slope[:, None] * z.gradient + first[:, None] * dz.gradient
    return Jet(first * dz.value, gradient, hessian)


def channels_and_jacobian(network, jets, listed, theta, x):
    """Channels (n_L C,) of one sample and their derivatives by theta, one parameter at a time.

    `jets` holds, for each layer, sigma and its first three derivatives at least.
    """
    n = network.widths[0]
    start = Jet(np.asarray(x, float), np.eye(n), np.zeros((n, n, n)))
    inputs, z = {1: start}, {}
    for l in range(1, network.n_layers + 1):
        z[l] = affine(network, theta, l, inputs[l], network.fixed_bias(l))
        inputs[l + 1] = activated(jets[l - 1], z[l])
    columns = []
    for unit in np.eye(network.n_params):
        tangent = Jet(np.zeros(n), np.zeros((n, n)), np.zeros((n, n, n)))
        for l in range(1, network.n_layers + 1):
            by_weight = affine(network, unit, l, inputs[l])
            W = network.core(network.weights(theta)[l], l).T
            dz = Jet(
                by_weight.value + W @ tangent.value,
                by_weight.gradient + W @ tangent.gradient,
                by_weight.hessian + np.einsum("ab,bij->aij", W, tangent.hessian),
            )
            tangent = activated_tangent(jets[l - 1], z[l], dz)
        columns.append(tangent.channels(listed))
    return inputs[network.n_layers + 1].channels(listed), np.array(columns).T


def _higher():
    """sigma and four derivatives by name, written for moderate arguments."""
    s = _sigmoid
    return {
        "identity": (lambda z: 1.0 * z, np.ones_like, np.zeros_like, np.zeros_like, np.zeros_like),
        "square": (
            np.square,
            lambda z: 2.0 * z,
            lambda z: np.full_like(z, 2.0),
            np.zeros_like,
            np.zeros_like,
        ),
        "tanh": (
            np.tanh,
            lambda z: 1 - np.tanh(z) ** 2,
            lambda z: -2 * np.tanh(z) * (1 - np.tanh(z) ** 2),
            lambda z: (6 * np.tanh(z) ** 2 - 2) * (1 - np.tanh(z) ** 2),
            lambda z: (16 - 24 * np.tanh(z) ** 2) * np.tanh(z) * (1 - np.tanh(z) ** 2),
        ),
        "sigmoid": (
            s,
            lambda z: s(z) - s(z) ** 2,
            lambda z: s(z) - 3 * s(z) ** 2 + 2 * s(z) ** 3,
            lambda z: s(z) - 7 * s(z) ** 2 + 12 * s(z) ** 3 - 6 * s(z) ** 4,
            lambda z: s(z) - 15 * s(z) ** 2 + 50 * s(z) ** 3 - 60 * s(z) ** 4 + 24 * s(z) ** 5,
        ),
        "softplus": (
            lambda z: np.logaddexp(0.0, z),
            s,
            lambda z: s(z) - s(z) ** 2,
            lambda z: s(z) - 3 * s(z) ** 2 + 2 * s(z) ** 3,
            lambda z: s(z) - 7 * s(z) ** 2 + 12 * s(z) ** 3 - 6 * s(z) ** 4,
        ),
        "bent_identity": (
            lambda z: (np.sqrt(z * z + 1) - 1) / 2 + z,
            lambda z: z / (2 * np.sqrt(z * z + 1)) + 1,
            lambda z: 0.5 * (z * z + 1) ** -1.5,
            lambda z: -1.5 * z * (z * z + 1) ** -2.5,
            lambda z: (6 * z * z - 1.5) * (z * z + 1) ** -3.5,
        ),
        "sin": (np.sin, np.cos, lambda z: -np.sin(z), lambda z: -np.cos(z), np.sin),
        "swish": (
            lambda z: z * s(z),
            lambda z: s(z) + z * (s(z) - s(z) ** 2),
            lambda z: (2 + z - 2 * z * s(z)) * (s(z) - s(z) ** 2),
            lambda z: (
                (3 * (1 - 2 * s(z)) + z * (1 - 6 * s(z) + 6 * s(z) ** 2)) * (s(z) - s(z) ** 2)
            ),
        ),
        "gelu": (
            lambda z: z * _normal(z),
            lambda z: _normal(z) + z * _density(z),
            lambda z: (2 - z * z) * _density(z),
            lambda z: (z**3 - 4 * z) * _density(z),
        ),
    }


def _normal(z):
    return 0.5 * np.vectorize(math.erfc)(-np.asarray(z) / math.sqrt(2))


def _density(z):
    return np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)


HIGHER = _higher()
