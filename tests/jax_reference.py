"""Independent reference by automatic differentiation: JAX in float64, no formula of the papers.

Only the forward pass and the losses are written down; every derivative is JAX's own.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

jax.config.update("jax_enable_x64", True)
jax.config.update("jax_platforms", "cpu")
# tiny networks: compiling takes far longer than running
jax.config.update("jax_disable_most_optimizations", True)
# Together these halve the time of XLA's compiler.
QUICKER = {"xla_cpu_use_fusion_emitters": False, "xla_cpu_parallel_codegen_split_count": 1}

ACTIVATIONS = {
    "identity": lambda z: z,
    "sigmoid": jax.nn.sigmoid,
    "tanh": jnp.tanh,
    "softsign": lambda z: jnp.where(z > 0, z / (1.0 + z), z / (1.0 - z)),
    "softplus": jax.nn.softplus,
    "bent_identity": lambda z: (jnp.sqrt(z * z + 1.0) - 1.0) / 2.0 + z,
    "relu": lambda z: jnp.where(z > 0, z, 0.0),
    "leaky_relu": lambda z: jnp.where(z > 0, z, 0.01 * z),
    "square": lambda z: z * z,
    "sine": jnp.sin,
    "sin": jnp.sin,
    "swish": jax.nn.swish,
    "gelu": lambda z: jax.nn.gelu(z, approximate=False),
}


def _softmax(f, y):
    return jax.scipy.special.logsumexp(f) - y @ f + jnp.sum(jax.scipy.special.xlogy(y, y))


def _logistic(f, y):
    return jnp.sum(jax.nn.softplus(f) - y * f)


def _squared(f, y, scale=1.0):
    return jnp.sum(((f - y) / scale) ** 2) / 2.0


def _cauchy(f, y, scale=1.0):
    return jnp.sum(jnp.log1p(((f - y) / scale) ** 2))


def _blake_zisserman(f, y, epsilon=0.1, scale=1.0):
    u = jnp.exp(-(((f - y) / scale) ** 2))
    return jnp.sum(jnp.log(1.0 + epsilon) - jnp.log(u + epsilon))


def _smooth_lp(f, y, p=1.0, epsilon=0.1):
    return jnp.sum(((f - y) ** 2 + epsilon) ** (p / 2.0) - epsilon ** (p / 2.0))


def _huber(f, y, delta=1.0):
    r = jnp.abs(f - y)
    return jnp.sum(jnp.where(r <= delta, (f - y) ** 2 / 2.0, delta * (r - delta / 2.0)))


def _log_cosh(f, y):
    return jnp.sum(jnp.log(jnp.cosh(f - y)))


LOSSES = {
    "squared": _squared,
    "softmax_cross_entropy": _softmax,
    "logistic": _logistic,
    "cauchy": _cauchy,
    "blake_zisserman": _blake_zisserman,
    "smooth_lp": _smooth_lp,
    "huber": _huber,
    "log_cosh": _log_cosh,
}
IRLS = ("cauchy", "blake_zisserman", "smooth_lp", "huber")


class Reference(NamedTuple):
    """What JAX finds: T samples, n_L outputs, N parameters.

    `hessian`, `ggn`, `loss`, `gradient` hold the l2 term; `jacobian`, `dual_gram` hold no
    weights. `weight` sums to 1. `second` is d^2/dt^2 F(theta + t v) at 0 for `direction`.
    """

    outputs: np.ndarray  # (T, n_L)
    loss: float
    gradient: np.ndarray  # (N,)
    jacobian: np.ndarray  # (T n_L, N)
    hessian: np.ndarray  # (N, N)
    errors: np.ndarray  # (T, n_L)
    loss_hessians: np.ndarray  # (T, n_L, n_L), the curvature that the case asks for
    ggn: np.ndarray  # (N, N)
    dual_gram: np.ndarray  # (T n_L, T n_L)
    weight: np.ndarray  # (T,)
    direction: np.ndarray  # (N,)
    second: np.ndarray  # (T, n_L)


def _forward(case, theta, X, gates, fixed):
    """Outputs (T, n_L) from theta in the package's order."""
    phi, start = X, 0
    for k in range(case.n_layers):
        n_in, n_out = case.widths[k], case.widths[k + 1]
        m = n_in + (1 if isinstance(case.bias, str) and case.bias == "free" else 0)
        W = theta[start : start + n_out * m].reshape(n_out, m)
        start += n_out * m
        z = phi @ W[:, :n_in].T
        if m > n_in:
            z = z + W[:, n_in]
        if fixed is not None:
            z = z - fixed[k]
        last = k == case.n_layers - 1
        phi = z * gates[k] if gates is not None and not last else _act(case, k)(z)
    return phi


def _act(case, k):
    return ACTIVATIONS[case.activations[k]]


def _irls(errors, residuals, hessians):
    """diag(error_c / residual_c), its limit E'' where the residual vanishes."""
    small = np.abs(residuals) < 1e-8
    ratio = errors / np.where(small, 1.0, residuals)
    second = np.einsum("icc->ic", hessians)
    return np.einsum("ic,cd->icd", np.where(small, second, ratio), np.eye(errors.shape[1]))


def compiled(function, *arguments):
    """Return a function compiled for these arguments."""
    lowered = jax.jit(function).lower(*arguments)
    try:
        return lowered.compile(compiler_options=QUICKER)
    except RuntimeError:  # another release of XLA may not know these options
        return lowered.compile()


@functools.cache
def _evaluate(key):
    case = key.case
    T = case.n_samples
    weight = np.ones(T) if case.sample_weight is None else case.sample_weight
    weight = weight / weight.sum()
    direction = np.random.default_rng(case.n_params).standard_normal(case.n_params)
    fixed = None if isinstance(case.bias, str) else [jnp.asarray(b) for b in case.bias]
    E = functools.partial(LOSSES[case.loss], **case.loss_options)

    def compute(theta, X, Y, w, gates, fixed, v):
        def outputs(theta):
            return _forward(case, theta, X, gates, fixed)

        def total(theta):
            return w @ jax.vmap(E)(outputs(theta), Y) + 0.5 * case.l2 * theta @ theta

        def along(t):
            return outputs(theta + t * v)

        F = outputs(theta)
        value, gradient = jax.value_and_grad(total)(theta)
        second = jax.jvp(lambda t: jax.jvp(along, (t,), (1.0,))[1], (0.0,), (1.0,))[1]
        return (
            F,
            value,
            gradient,
            jax.jacfwd(outputs)(theta),
            jax.jacfwd(jax.grad(total))(theta),
            jax.vmap(jax.grad(E))(F, Y),
            jax.vmap(jax.hessian(E))(F, Y),
            second,
        )

    arguments = (case.theta, case.X, case.targets, weight, case.gates, fixed, direction)
    found = [np.asarray(a) for a in compiled(compute, *arguments)(*arguments)]
    F, value, gradient, J, hessian, errors, loss_hessians, second = found
    if case.curvature == "psd" and case.loss in IRLS:
        loss_hessians = _irls(errors, F - case.targets, loss_hessians)
    J = J.reshape(-1, case.n_params)
    blocks = J.reshape(T, -1, case.n_params)
    ggn = np.einsum("i,icn,icd,idm->nm", weight, blocks, loss_hessians, blocks, optimize=True)
    ggn = ggn + case.l2 * np.eye(case.n_params)
    return Reference(
        F, float(value), gradient, J, hessian, errors, loss_hessians, ggn, J @ J.T,
        weight, direction, second,
    )  # fmt: skip


class _Key:
    """Cases hold arrays and have no hash: they are told apart by their id."""

    def __init__(self, case):
        self.case = case

    def __hash__(self):
        return hash(self.case.id)

    def __eq__(self, other):
        return self.case.id == other.case.id


def evaluate(case) -> Reference:
    """The reference of `case`, computed once a session."""
    return _evaluate(_Key(case))
