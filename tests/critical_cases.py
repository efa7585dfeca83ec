"""Critical points of known type, built by hand.

Deep linear points after Kawaguchi (2016), one hidden layer after O'Leary-Roseberry and Ghattas
(2020), XOR after Shen (2018, Section 5.1).
"""

from dataclasses import dataclass
from functools import cache

import numpy as np

import fastggn as fg


@dataclass(frozen=True)
class Point:
    label: str
    problem: fg.Problem
    theta: np.ndarray


def xor(n, hidden="sigmoid", output="identity"):
    X, Y = fg.data.xor()
    return fg.Problem(fg.MLP((2, n, 1), activation=hidden, output_activation=output), X, Y)


def xor_point(z, v, hidden="sigmoid"):
    """Hidden pre-activations z (n, 4) affine in x, output weights v, and F = 1/2 on average."""
    problem = xor(len(v), hidden)
    X = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    z = np.asarray(z, dtype=float)
    X1 = np.hstack([X, np.ones((4, 1))])
    W1 = np.linalg.lstsq(X1, z.T, rcond=None)[0].T
    phi = fg.activations.get_activation(hidden)(z)
    bias = 0.5 - np.mean(np.asarray(v) @ phi)
    order, _ = fg.data.xor()
    assert np.array_equal(order, X)
    return problem, problem.network.pack([W1, np.array([[*v, bias]])])


def one_plus_square():
    return fg.Activation.custom(
        "one_plus_square", lambda z: 1.0 + z * z, lambda z: 2.0 * z, lambda z: 2.0 + 0.0 * z
    )


def cubed_relu():
    return fg.Activation.custom(
        "cubed_relu",
        lambda z: max(z, 0.0) ** 3,
        lambda z: 3.0 * max(z, 0.0) ** 2,
        lambda z: 6.0 * max(z, 0.0),
    )


def scalar(activation, X, Y, W1, W0):
    """F(1,1,1) without bias: W1 sigma(W0 x), as in O'Leary-Roseberry and Ghattas (2020)."""
    net = fg.MLP((1, 1, 1), activation=activation, bias="none")
    problem = fg.Problem(net, np.reshape(X, (-1, 1)), np.reshape(Y, (-1, 1)).astype(float))
    return problem, np.array([W0, W1], dtype=float)


def linear(W, Y, X=None):
    widths = (W[0].shape[1], *(w.shape[0] for w in W))
    X = np.eye(widths[0]) if X is None else X
    net = fg.MLP(widths, activation="identity", bias="none")
    problem = fg.Problem(net, X, np.asarray(Y, dtype=float).T)
    return problem, net.pack([np.asarray(w, dtype=float) for w in W])


def regression(seed=0, T=40):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((T, 3))
    return X, X @ rng.standard_normal((3, 2)) + 0.3 * rng.standard_normal((T, 2)) + 1.0


def least_squares():
    X, Y = regression()
    solution = np.linalg.lstsq(np.hstack([X, np.ones((len(X), 1))]), Y, rcond=None)[0]
    return fg.Problem(fg.MLP((3, 2)), X, Y), solution.T.ravel()


def softmax():
    rng = np.random.default_rng(1)
    X, Y = rng.standard_normal((60, 3)), rng.integers(0, 3, 60)
    problem = fg.Problem(fg.MLP((3, 3)), X, Y, loss="softmax_cross_entropy")
    return problem, fg.train(problem, seed=0, method="newton").theta


def weight_decay():
    X, Y = fg.data.four_regions(60, seed=1)
    problem = fg.Problem(fg.MLP((2, 5, 1)), X, Y, l2=1e-2)
    result = fg.train(problem, seed=0, method="newton", max_iter=400)
    return problem, result.theta


def overparametrised_fit():
    rng = np.random.default_rng(2)
    X, Y = rng.standard_normal((10, 2)), rng.standard_normal((10, 1))
    problem = fg.Problem(fg.MLP((2, 8, 1)), X, Y)
    return problem, fg.train(problem, seed=0).theta


def underparametrised_fit():
    """More equations than weights, and the targets those of a teacher."""
    rng = np.random.default_rng(3)
    net = fg.MLP((2, 3, 1))
    X, theta = rng.standard_normal((50, 2)), net.init(seed=5)
    return fg.Problem(net, X, net.predict(theta, X)), theta


def strict_origin():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((30, 2))
    Y = np.sin(X[:, 0]) + 0.1 * rng.standard_normal(30)
    problem = fg.Problem(fg.MLP((2, 4, 1)), X, Y - Y.mean())
    return problem, np.zeros(problem.n_params)


def xor_origin(n):
    X, Y = fg.data.xor()
    problem = fg.Problem(fg.MLP((2, n, 1)), X, Y - 0.5)
    return problem, np.zeros(problem.n_params)


def sigmoid_saddle():
    problem = xor(2, "sigmoid", "sigmoid")
    W1 = np.array([[2.0, 0.0, -1.0], [0.0, 2.0, -1.0]])
    W2 = np.array([[-3.65101667, -3.65101667, 4.4946154]])
    return problem, problem.network.pack([W1, W2])


def dead_relu():
    net = fg.MLP((1, 2, 1), activation="relu", bias="free")
    X = np.array([[0.5], [1.0], [2.0]])
    problem = fg.Problem(net, X, np.array([[1.0], [0.0], [2.0]]))
    return problem, net.pack([np.array([[-1.0, -0.2], [-0.5, -1.0]]), np.array([[1.0, 2.0, 1.0]])])


def mode(k):
    E = np.zeros((2, 2))
    E[k, k] = 1.0
    return E


B1 = (-1, -1, 1, 1)
B2 = (-1, 1, -1, 1)

BUILDERS = {
    "exact fit, over-parametrised": ("global_minimum", overparametrised_fit),
    "exact fit, under-parametrised": ("global_minimum", underparametrised_fit),
    "zero network, correlated": ("strict_saddle", strict_origin),
    "zero network on XOR, one unit": ("saddle", lambda: xor_origin(1)),
    "zero network on XOR, three units": ("saddle", lambda: xor_origin(3)),
    # O'Leary-Roseberry and Ghattas (2020), after Theorem 2: "a zero eigenvalue means a manifold of
    # global minima". This minimiser is isolated, with the Hessian diag(2, 0).
    "1 + z^2, the unique minimiser": (
        "global_minimum",
        lambda: scalar(one_plus_square(), [1, 2], [1, 1], 1, 0),
    ),
    "1 + z^2, not fitted": (
        # F = 1 for all samples is best among constants, and W0 = 0 is best for these targets
        "local_minimum",
        lambda: scalar(one_plus_square(), [1, 2], [1.5, 0.5], 1.0, 0.0),
    ),
    "square at zero, a level line": (
        "local_minimum",
        lambda: scalar("square", [1, 2], [1, -1], 1, 0),
    ),
    "square at zero, negative curvature": (
        "strict_saddle",
        lambda: scalar("square", [1, 2], [1, 1], 1, 0),
    ),
    "square at zero, all zero": ("saddle", lambda: scalar("square", [1, 2], [1, 1], 0, 0)),
    # O'Leary-Roseberry and Ghattas (2020), Corollary 3.3, calls a zero Hessian a local minimum.
    "max(z, 0)^3, zero Hessian": (
        "saddle",
        lambda: scalar(cubed_relu(), [1], [1], 1, 0),
    ),
    "XOR, one constant unit above the threshold": (
        "local_minimum",
        lambda: xor_point([[0.8] * 4], [6.0]),
    ),
    "XOR, one constant unit below the threshold": (
        "strict_saddle",
        lambda: xor_point([[0.8] * 4], [0.1]),
    ),
    # Positive semi-definite, which their Definition 1.1 calls a local minimum.
    "XOR, two inactive units": (
        "saddle",
        lambda: xor_point([1.1 * np.array(B1), 0.4 * np.array(B2)], [0.0, 0.0]),
    ),
    "XOR, active and inactive constant units": (
        "saddle",
        lambda: xor_point([[0.8] * 4, [0.3] * 4], [6.0, 0.0]),
    ),
    "XOR, three units, one active": (
        "saddle",
        lambda: xor_point([[0.8] * 4, [0.3] * 4, [-0.6] * 4], [6.0, 0.0, 0.0]),
    ),
    "XOR, tanh, two inactive units": (
        "saddle",
        lambda: xor_point([1.1 * np.array(B1), 0.4 * np.array(B2)], [0.0, 0.0], "tanh"),
    ),
    "XOR, sigmoid output, the second family": ("strict_saddle", sigmoid_saddle),
    "deep linear, W = 0, H = 1": (
        "strict_saddle",
        lambda: linear([np.zeros((2, 2))] * 2, np.diag([3, 1])),
    ),
    "deep linear, W = 0, H = 2": (
        "saddle",
        lambda: linear([np.zeros((2, 2))] * 3, np.diag([3, 1])),
    ),
    "deep linear, first mode fitted, H = 2": (
        "saddle",
        lambda: linear([3 ** (1 / 3) * mode(0)] * 3, np.diag([3, 1])),
    ),
    "deep linear, second mode fitted, H = 2": (
        "strict_saddle",
        lambda: linear([mode(1)] * 3, np.diag([3, 1])),
    ),
    "deep linear, the optimum of rank one": (
        "global_minimum",
        lambda: linear([3**0.5 * np.eye(2)[:1], 3**0.5 * np.eye(2)[:, :1]], np.diag([3, 1])),
    ),
    "linear regression": ("global_minimum", least_squares),
    "softmax regression": ("global_minimum", softmax),
    "weight decay": ("local_minimum", weight_decay),
    "dead ReLU units": ("local_minimum", dead_relu),
}


@cache
def build(name):
    label, builder = BUILDERS[name]
    problem, theta = builder()
    return Point(label, problem, theta)
