"""Small problems for the tests of ranks: ordinary ones, and ones whose ranks collapse."""

import numpy as np

import fastggn as fg

ACTIVATIONS = (
    "sigmoid", "tanh", "softsign", "softplus", "bent_identity", "relu", "leaky_relu", "square",
    "identity",
)  # fmt: skip
KINDS = (
    "zero network", "zero layer", "repeated samples", "rank-deficient weights", "dead units",
    "equal columns", "constant input", "one sample",
)  # fmt: skip


EPS = float(np.finfo(float).eps)


def counted(matrix, found=None):
    """The singular values above 10 eps s_max, by LAPACK, or above the tolerance of a Rank."""
    s = np.linalg.svd(matrix, compute_uv=False)
    least = 10.0 * EPS * s[0]
    if found is None:
        return np.count_nonzero(s > least)
    assert 0.999 * least <= found.tolerance <= 20.0 * least  # the errors of the entries
    return np.count_nonzero(s > found.tolerance)


def random_problem(rng, n_layers=None):
    """A random small network, its samples and weights, as (problem, theta)."""
    L = int(rng.integers(1, 5)) if n_layers is None else n_layers
    widths = [int(w) for w in rng.integers(1, 6, L + 1)]
    T = int(rng.integers(1, 9))
    bias = ("free", "none", "fixed")[int(rng.integers(3))]
    if bias == "fixed":
        bias = [rng.standard_normal(n) for n in widths[1:]]
    hidden = [str(a) for a in rng.choice(ACTIVATIONS, L - 1)]
    output = "identity" if rng.random() < 0.6 else str(rng.choice(ACTIVATIONS[:5]))
    net = fg.MLP(widths, hidden, output, bias)
    X = rng.standard_normal((T, widths[0]))
    Y = rng.standard_normal((T, widths[-1]))
    weight = None
    if rng.random() < 0.2 and T > 1:
        weight = rng.uniform(0.5, 2.0, T)
        weight[0] = 0.0
    return fg.Problem(net, X, Y, sample_weight=weight), net.init(rng, "normal")


def degenerate_problem(rng, kind):
    """A problem whose ranks are not those of random matrices, as (problem, theta)."""
    problem, theta = random_problem(rng, int(rng.integers(2, 5)))
    net, layers = problem.network, [w.copy() for w in problem.network.unpack(theta)]
    X, Y = problem.read_samples(0, problem.n_samples)[0].copy(), problem.targets.copy()
    k = int(rng.integers(net.n_layers))
    if kind == "zero network":
        layers = [0.0 * w for w in layers]
    elif kind == "zero layer":
        layers[k][:] = 0.0
    elif kind == "repeated samples":
        X[:] = X[rng.integers(0, len(X), len(X))]
    elif kind == "rank-deficient weights":
        layers[k][:] = np.outer(layers[k][:, 0], layers[k][0])
    elif kind == "dead units":
        net = fg.MLP(net.widths, "relu", "identity", "free")
        layers = net.unpack(net.init(rng, "normal"))
        layers[0][:, -1] = -1e3  # beyond every sample
        layers[0][: layers[0].shape[0] // 2, -1] = 0.0
    elif kind == "equal columns":
        layers[0][:] = layers[0][:1]
    elif kind == "constant input":
        X[:] = X[:1]
    else:
        X, Y = X[:1], Y[:1]
    return fg.Problem(net, X, Y), net.pack(layers)
