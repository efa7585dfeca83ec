"""Whole problems of equations against JAX: loss, J and its products, curvature, Hessian."""

import numpy as np
import pytest

import fastggn as fg

SIZES = (1, 7, 8, 9, 31)
SMOOTH = ("tanh", "sigmoid", "softplus", "bent_identity", "square", "sin", "swish", "gelu")
START = {"a": 0.7, "b": (0.4, 0.1, None), "c": (0.2, -1.0, 1.0)}


class Random:
    """A random network and two equations and data for it: some losses, weights, l2."""

    def __init__(self, seed):
        rng = np.random.default_rng([59, seed])
        self.n_0, self.n_L = int(rng.integers(1, 4)), int(rng.integers(1, 4))
        depth = int(rng.integers(1, 4))
        widths = (self.n_0, *map(int, rng.integers(1, 6, depth)), self.n_L)
        self.names = [str(rng.choice(SMOOTH)) for _ in range(depth)] + ["identity"]
        self.kind = ("free", "none", "fixed")[seed % 3]
        self.fixed = [rng.normal(size=n) for n in widths[1:]]
        bias = self.fixed if self.kind == "fixed" else self.kind
        self.net = fg.MLP(widths, self.names[:-1], bias=bias)
        self.o, self.p = (int(rng.integers(self.n_L)) for _ in range(2))
        self.i, self.j = (int(rng.integers(self.n_0)) for _ in range(2))
        T = [int(SIZES[(seed + k) % 5]) for k in range(3)]
        self.X = [rng.normal(size=(count, self.n_0)) for count in T]
        self.Y, self.dY = rng.normal(size=(2, T[2], self.n_L))
        self.own = rng.uniform(0.5, 2.0, T[0])
        self.l2 = 0.01 * (seed % 2)
        self.weights = 2.0, 0.5, 1.0

    def first(self, m, x, d, k):
        """A mixed second derivative, one along a line, and a coefficient with a bound."""
        mixed = d(self.o, self.i, self.j) * d(self.p) - k["b"] * m.sin(x[..., 0])
        return d(self.p, self.j, self.j) + k["a"] * mixed

    def second(self, m, x, d, k):
        """Two residuals, one of which has no linear part."""
        return m.exp(0.3 * d(self.o)) - k["c"] ** 2, d(self.p, self.i) * d(self.o, self.j)

    def problem(self):
        def with_numpy(residual):
            def of_channels(x, u, k):
                def d(o, *by):
                    one = u[o]
                    return one.d(*by) if by else one.value

                return residual(np, x, d, k)

            return of_channels

        terms = [
            fg.Term(self.X[0], with_numpy(self.first), weight=2.0, sample_weight=self.own),
            fg.Term(self.X[1], with_numpy(self.second), weight=0.5, loss="cauchy"),
            fg.Term(
                self.X[2],
                targets=self.Y,
                derivatives={(self.i,): self.dY},
                weight={(self.i,): 0.25},
            ),
        ]
        return fg.ResidualProblem(self.net, terms, coefficients=START, l2=self.l2)


def by_jax(drawn, theta, v):
    """Residuals, J, loss, gradient, Gauss-Newton matrix and H v, by JAX alone."""
    jax = pytest.importorskip("jax", reason="needs the package jax (extra 'test')")
    import jax.numpy as jnp
    from jax_reference import ACTIVATIONS, compiled

    n = drawn.net.n_params

    def network(theta, x):
        start = 0
        shapes = drawn.net.layer_shapes
        for (rows, m), name, b in zip(shapes, drawn.names, drawn.fixed, strict=True):
            W = theta[start : start + rows * m].reshape(rows, m)
            start += rows * m
            x = W @ jnp.concatenate([x, jnp.ones(m - x.size)])
            x = ACTIVATIONS[name](x - b if drawn.kind == "fixed" else x)
        return x

    def channels(theta, x):
        slope = jax.jacfwd(network, 1)
        parts = network(theta, x), slope(theta, x), jax.jacfwd(slope, 1)(theta, x)
        return lambda o, *by: parts[len(by)][(o, *by)]

    def residuals(theta):
        b, c = jnp.logaddexp(0.0, theta[n + 1]), jax.nn.sigmoid(theta[n + 2])
        k = {"a": theta[n], "b": 0.1 + b, "c": 2.0 * c - 1.0}

        def points(X, one):
            return jax.vmap(lambda x: jnp.stack(one(x, channels(theta, x))))(X).ravel()

        def data(x, d):
            values = [d(o) for o in range(drawn.n_L)]
            return values + [0.5 * d(o, drawn.i) for o in range(drawn.n_L)]

        found = [
            points(drawn.X[0], lambda x, d: [drawn.first(jnp, x, d, k)]),
            points(drawn.X[1], lambda x, d: drawn.second(jnp, x, d, k)),
            points(drawn.X[2], data) - jnp.hstack([drawn.Y, 0.5 * drawn.dY]).ravel(),
        ]
        return jnp.concatenate(found)

    own = [drawn.own, np.ones(len(drawn.X[1])), np.ones(len(drawn.X[2]))]
    counts = 1, 2, 2 * drawn.n_L
    share = np.concatenate(
        [
            np.repeat(w / weights.sum() * weights, count)
            for w, weights, count in zip(drawn.weights, own, counts, strict=True)
        ]
    )
    robust = np.zeros(share.size, dtype=bool)
    robust[len(drawn.X[0]) : len(drawn.X[0]) + 2 * len(drawn.X[1])] = True

    def loss(theta):
        r = residuals(theta)
        each = jnp.where(robust, jnp.log1p(r * r), 0.5 * r * r)
        return share @ each + 0.5 * drawn.l2 * theta[:n] @ theta[:n]

    def evaluate(theta, v):
        r, J = residuals(theta), jax.jacfwd(residuals)(theta)
        bend = jnp.where(robust, 2.0 / (1.0 + r * r), 1.0)  # slope of the loss over r
        decay = drawn.l2 * jnp.concatenate([jnp.ones(n), jnp.zeros(3)])
        ggn = (J.T * (share * bend)) @ J + jnp.diag(decay)
        product = jax.jvp(jax.grad(loss), (theta,), (v,))[1]
        return r, J, loss(theta), jax.grad(loss)(theta), ggn, product

    return [np.asarray(part) for part in compiled(evaluate, theta, v)(theta, v)]


def close(got, want, tol=1e-11):
    np.testing.assert_allclose(got, want, rtol=0, atol=tol * max(1.0, np.abs(want).max()))


def check(seed):
    drawn = Random(seed)
    problem = drawn.problem()
    rng = np.random.default_rng([61, seed])
    theta = problem.init(seed) + 0.3 * rng.normal(size=problem.n_params)
    v = rng.normal(size=problem.n_params)
    r, J, loss, gradient, ggn, product = by_jax(drawn, theta, v)
    u = rng.normal(size=len(J))
    close(np.concatenate([part.ravel() for part in problem.residuals(theta)]), r)
    own = problem.jacobian(theta)
    close(own.to_dense(), J)
    close(own @ v, J @ v)
    close(own.T @ u, J.T @ u)
    close(own.gram(), J.T @ J)
    close(problem.dual_gram(theta), J @ J.T)
    close(problem.loss(theta), loss)
    close(problem.gradient(theta), gradient)
    close(problem.ggn(theta), ggn)
    close(problem.ggn_operator(theta) @ v, ggn @ v)
    close(problem.hessian_operator(theta) @ v, product)
    close(problem.hessian(theta) @ v, product)


@pytest.mark.parametrize(
    "seed",
    [pytest.param(k, marks=pytest.mark.slow if k < 10 else pytest.mark.weekly) for k in range(60)],
)
def test_sixty_problems_against_jax(seed):
    """1e-11 in all of them: mixed derivatives, several outputs, coefficients, weights, biases."""
    check(seed)
