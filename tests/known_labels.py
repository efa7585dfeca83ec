"""Critical points whose type is known by proof, drawn at random.

`case(number, seed)` draws one of a family: a problem, a point, and the labels that are true of it.
The targets are often chosen for the point: with slopes e of the loss by the outputs in the null
space of the transposed Jacobian any point is critical.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import null_space

import fastggn as fg
from fastggn.analysis import linear

LOSSES = ("squared", "softmax_cross_entropy", "logistic", "huber", "cauchy", "smooth_lp")
SMOOTH = ("tanh", "sigmoid", "softplus", "bent_identity")


@dataclass(frozen=True)
class Case:
    family: str
    problem: fg.Problem
    theta: np.ndarray
    true: set[str]
    # Whether derivatives to order four, or a certificate, decide: "degenerate" is then a miss.
    decidable: bool = True


def case(number: int, seed: int = 15, families=None) -> Case:
    families = FAMILIES if families is None else families
    names = list(families)
    family = names[number % len(names)]
    rng = np.random.default_rng([number, seed])
    for _ in range(1000):
        found = families[family](rng)
        if found is not None:
            problem, theta, true, *rest = found
            return Case(family, problem, np.asarray(theta, dtype=float), set(true), *rest)
    raise RuntimeError(f"no case of {family}")


def _problem(net, X, F, e, loss):
    """Return a problem in which the loss has the slopes e (T, m) at the outputs F, or None."""
    if loss == "softmax_cross_entropy":
        q = np.exp(F - F.max(axis=1, keepdims=True))
        Y = q / q.sum(axis=1, keepdims=True) - e
        if (Y <= 0.0).any():
            return None
        return fg.Problem(net, X, Y / Y.sum(axis=1, keepdims=True), loss=loss)
    if loss == "logistic":  # each input with both labels, in proportion to a soft target
        p = 1.0 / (1.0 + np.exp(-F[:, 0])) - e[:, 0]
        if (p <= 0.0).any() or (p >= 1.0).any():
            return None
        T = len(X)
        labels = np.repeat([1.0, 0.0], T)
        weights = np.concatenate([p, 1.0 - p])
        return fg.Problem(net, np.tile(X, (2, 1)), labels, loss=loss, sample_weight=weights)
    function = fg.losses.get_loss(loss)
    r, zero = np.copy(e), np.zeros_like(e)
    limit = {"cauchy": 0.9, "huber": 0.95, "smooth_lp": 0.9}.get(loss, np.inf)
    if np.abs(e).max() >= limit:
        return None
    for _ in range(60):
        slope = function.gradient(r, zero) - e
        bend = np.einsum("boo->bo", function.hessian(r, zero))
        r = r - np.clip(slope / np.maximum(bend, 1e-2), -0.2, 0.2)
    if np.abs(function.gradient(r, zero) - e).max() > 1e-14:
        return None
    return fg.Problem(net, X, F - r, loss=loss)


def _slopes(net, theta, X, rng, loss, extra=None, weights=None):
    """Return random slopes e with J^T (weights e) = 0, and extra^T e = 0, of largest entry 1."""
    T, m = len(X), net.widths[-1]
    J = fg.Problem(net, X, np.zeros((T, m))).jacobian(theta).to_dense()
    J = J if weights is None else np.repeat(weights, m)[:, None] * J
    rows = [J.T] + ([] if extra is None else [extra.T])
    if loss == "softmax_cross_entropy":
        rows.append(np.kron(np.eye(T), np.ones((1, m))))
    basis = null_space(np.vstack(rows))
    if not basis.shape[1]:
        return None
    e = basis @ rng.normal(size=basis.shape[1])
    return (e / np.abs(e).max()).reshape(T, m)


def _size(rng, loss):
    top = {"softmax_cross_entropy": 0.1, "logistic": 0.2, "squared": 3.0}.get(loss, 0.8)
    return top * 10.0 ** rng.uniform(-2.0, 0.0)


def _draw(rng, h=None, spare=4, extra=None, loss=None, m=None, activation=None):
    """Return net, X, theta, slopes and loss of a random critical point, N <= 20; or None."""
    loss = loss or str(rng.choice(LOSSES))
    m = m or (2 if loss == "softmax_cross_entropy" else 1)
    n, h = int(rng.integers(1, 3)), h or int(rng.integers(1, 4))
    bias = str(rng.choice(["free", "none"]))
    net = fg.MLP((n, h, m), activation or str(rng.choice(SMOOTH)), bias=bias)
    if net.n_params > 20:
        return None
    T = net.n_params + int(rng.integers(1, 6)) + spare
    X = rng.normal(size=(T, n))
    theta = rng.uniform(0.4, 1.6, net.n_params) * rng.choice([-1.0, 1.0], net.n_params)
    more = None if extra is None else extra(net, X, theta)
    e = _slopes(net, theta, X, rng, loss, more)
    return None if e is None else (net, X, theta, e, loss)


def _definite(problem, theta, share=1e-6):
    """Return -1, 1 or 0: a clear negative eigenvalue, all clearly positive, or neither."""
    values = np.linalg.eigvalsh(problem.hessian(theta))
    size = np.abs(values).max()
    if values[0] < -share * size:
        return -1
    return 1 if values[0] > share * size else 0


def generic(rng):
    """Targets chosen for a random point; the Hessian is definite or clearly not."""
    drawn = _draw(rng)
    if drawn is None:
        return None
    net, X, theta, e, loss = drawn
    F = net.predict(theta, X)
    problem = _problem(net, X, F, e * _size(rng, loss), loss)
    if problem is None or (sign := _definite(problem, theta)) == 0:
        return None
    return problem, theta, {"strict_saddle"} if sign < 0 else {"local_minimum"}


def _minimum(rng, **options):
    """Return a random strict minimum with its parts, or None."""
    drawn = _draw(rng, **options)
    if drawn is None:
        return None
    net, X, theta, e, loss = drawn
    e = e * _size(rng, loss)
    problem = _problem(net, X, net.predict(theta, X), e, loss)
    if problem is None or _definite(problem, theta) < 1:
        return None
    return net, X, theta, e, loss, problem


def _with_inputs(net, X):
    return np.hstack([X, np.ones((len(X), 1))]) if net.has_free_bias else X


def _wider(net, theta, rows, outgoing):
    """Return the network with other hidden rows and outgoing columns."""
    wide = fg.MLP((net.widths[0], len(rows), net.widths[-1]), net.activations[0], bias=net.bias)
    last = net.unpack(theta)[1]
    tail = last[:, net.widths[1] :]
    return wide, wide.pack([np.array(rows), np.hstack([outgoing, tail])])


def split_unit(rng, end=False):
    """A unit of a strict minimum split in shares gamma and 1 - gamma (Fukumizu and Amari 2000).

    On the difference of its halves the Hessian is gamma (1 - gamma) v B, B = mean e sigma'' x x^T.
    """
    found = _minimum(rng, h=int(rng.integers(1, 3)), m=1, loss=_one_output(rng))
    if found is None:
        return None
    net, X, theta, e, loss, _ = found
    W, V = net.unpack(theta)
    gamma = float(rng.choice([0.0, 1.0])) if end else rng.uniform(-1.5, 2.5)
    inputs = _with_inputs(net, X)
    bend = net.activations[0].second_derivative(inputs @ W[0])
    B = (inputs * (e[:, 0] * bend)[:, None]).T @ inputs * V[0, 0]
    values = np.linalg.eigvalsh(gamma * (1.0 - gamma) * B) if not end else np.linalg.eigvalsh(B)
    if np.abs(values).min() < 1e-3 * len(X) * 1e-2:
        return None
    rows = [W[0], W[0], *W[1:]]
    out = np.concatenate([[gamma * V[0, 0], (1.0 - gamma) * V[0, 0]], V[0, 1 : len(W)]])[None]
    wide, point = _wider(net, theta, rows, out)
    problem = _problem(wide, X, wide.predict(point, X), e, loss)
    if problem is None or wide.n_params > 20:
        return None
    if end:
        return problem, point, {"saddle"}
    return problem, point, {"strict_saddle"} if values[0] < 0.0 else {"local_minimum"}


def split_at_an_end(rng):
    """With a share of 0 the line of critical points turns from minima to saddles: a saddle."""
    return split_unit(rng, end=True)


def _one_output(rng):
    return str(rng.choice([name for name in LOSSES if name != "softmax_cross_entropy"]))


def spare_unit(rng):
    """A unit with outgoing weight 0: a strict saddle by e sigma' x, else a saddle by e sigma''."""
    strict = bool(rng.integers(2))
    kept = {}

    def orthogonal(net, X, theta):
        inputs = _with_inputs(net, X)
        w = rng.uniform(0.4, 1.6, inputs.shape[1]) * rng.choice([-1.0, 1.0], inputs.shape[1])
        z = inputs @ w
        act = net.activations[0]
        kept["w"] = w
        columns = [act(z)[:, None]]
        return np.hstack(columns if strict else [*columns, act.derivative(z)[:, None] * inputs])

    found = _minimum(rng, h=int(rng.integers(1, 3)), m=1, loss=_one_output(rng), extra=orthogonal)
    if found is None:
        return None
    net, X, theta, e, loss, _ = found
    W, V = net.unpack(theta)
    w, inputs = kept["w"], _with_inputs(net, X)
    z = inputs @ w
    first = (e[:, 0] * net.activations[0].derivative(z)) @ inputs / len(X)
    second = inputs.T @ (inputs * (e[:, 0] * net.activations[0].second_derivative(z))[:, None])
    if np.abs(first).max() < 1e-3 and strict:
        return None
    if np.abs(np.linalg.eigvalsh(second / len(X))).max() < 1e-2 * np.abs(e).max():
        return None
    out = np.concatenate([V[0, : len(W)], [0.0]])[None]
    wide, point = _wider(net, theta, [*W, w], out)
    problem = _problem(wide, X, wide.predict(point, X), e, loss)
    if problem is None or wide.n_params > 20:
        return None
    values = np.linalg.eigvalsh(problem.hessian(point))
    size = np.abs(values).max()
    bent = values[0] < -1e-9 * size  # the GGN couples the unit to the others
    true = {"strict_saddle"} if strict or bent else {"saddle"}
    # An eigenvalue within its bound leaves the proof to third derivatives.
    return problem, point, true | ({"saddle"} if values[0] > -1e-7 * size else set())


def chain(rng):
    """One unit a layer, depth up to 14: F = prod w x, or a chain of tanh at 0."""
    depth = int(rng.integers(2, 15))
    kind = str(rng.choice(["zero", "fit", "zeros", "orthogonal", "tanh"]))
    X = np.array([[-1.0], [1.0]])
    Y = np.array([1.0, 1.0]) if kind == "orthogonal" else np.array([-1.0, 1.0])
    activation = "tanh" if kind == "tanh" else "identity"
    net = fg.MLP((1,) * (depth + 1), activation, bias="none")
    problem = fg.Problem(net, X, Y)
    theta = rng.uniform(0.5, 1.5, depth) * rng.choice([-1.0, 1.0], depth)
    if kind == "fit":
        theta[0] = 1.0 / np.prod(theta[1:])
        return problem, theta, {"global_minimum"}
    if kind == "zeros":
        zeros = rng.permutation(depth)[: int(rng.integers(2, depth + 1))]
        theta[zeros] = 0.0
        order = len(zeros)
        return problem, theta, {"strict_saddle"} if order == 2 else {"saddle"}, order <= 4
    theta = np.zeros(depth)
    if kind == "orthogonal":
        return problem, theta, {"global_minimum", "local_minimum"}
    return problem, theta, {"strict_saddle"} if depth == 2 else {"saddle"}, depth <= 4


def dead_unit(rng):
    """Units that are active at all samples fit the regression line; one or two more are dead."""
    n, h = int(rng.integers(1, 3)), int(rng.integers(1, 3))
    T = n + 3 + int(rng.integers(0, 5))
    X = rng.normal(size=(T, n))
    Y = np.sin(2.0 * X.sum(axis=1)) + rng.normal(size=T)
    net = fg.MLP((n, h, 1), "relu")
    theta = fg.analysis.linear_region_minimum(X, Y, h, seed=int(rng.integers(1000)))
    for _ in range(int(rng.integers(0, 2))):
        seed = int(rng.integers(1000))
        net, theta = fg.analysis.widen_with_dead_unit(net, theta, X, seed=seed)
    if net.n_params > 20:
        return None
    return fg.Problem(net, X, Y), theta, {"local_minimum"}


def saturated(rng):
    """v tanh(w x) = v at all samples, to the last digit or nearly: no finite point is critical."""
    X = rng.uniform(1.0, 2.0, (int(rng.integers(2, 6)), 1))
    net = fg.MLP((1, 1, 1), str(rng.choice(["tanh", "sigmoid"])), bias="none")
    y = rng.uniform(0.5, 2.0)
    w = rng.uniform(20.0, 60.0) * (1.0 if net.activations[0].name == "tanh" else 2.0)
    problem = fg.Problem(net, X, np.full(len(X), y))
    return problem, [w, y], {"diverging", "not_critical"}, False


def infinity(rng):
    """Separable classes: the loss tends to 0 at infinity only."""
    T = int(rng.integers(4, 9))
    X = rng.uniform(0.5, 2.0, (T, 1)) * np.resize([-1.0, 1.0], T)[:, None]
    labels = (X[:, 0] > 0).astype(int)
    size = rng.uniform(20.0, 80.0)
    if rng.integers(2):
        problem = fg.Problem(fg.MLP((1, 1)), X, labels.astype(float), loss="logistic")
        return problem, [size, 0.0], {"diverging", "not_critical"}, False
    problem = fg.Problem(fg.MLP((1, 2)), X, labels, loss="softmax_cross_entropy")
    return problem, [size, 0.0, -size, 0.0], {"diverging", "not_critical"}, False


def kink_slopes(rng):
    """One unit at w = 0, judged by its slopes to both sides."""
    T = int(rng.integers(2, 7))
    X, y, v = rng.normal(size=(T, 1)), rng.normal(size=T), rng.normal()
    activation, low = [("relu", 0.0), ("leaky_relu", 0.01)][int(rng.integers(2))]
    terms = -v * y * X[:, 0]
    right = terms[X[:, 0] > 0].sum() + low * terms[X[:, 0] < 0].sum()
    left = -terms[X[:, 0] < 0].sum() - low * terms[X[:, 0] > 0].sum()
    if min(abs(right), abs(left)) < 1e-3:
        return None
    size = 10.0 ** rng.integers(-8, 9)
    problem = fg.Problem(fg.MLP((1, 1, 1), activation, bias="none"), X / size, y * size)
    if right > 0.0 and left > 0.0:
        return problem, [0.0, v * size], {"local_minimum"}
    both = right < 0.0 and left < 0.0
    return problem, [0.0, v * size], {"saddle"} if both else {"not_critical"}


def kink_minimum(rng):
    """A differentiable minimum on a kink: the counterexample to LSD, Corollary 2.7 (2), turned."""
    r, q = rng.uniform(0.1, 2.0, 2)
    turn, _ = np.linalg.qr(rng.normal(size=(2, 2)))
    X = np.array([[0.0, 1.0], [0.0, -1.0], [1.0, 1.0], [1.0, -1.0]])
    y = np.array([-r, r, q + r / 2, q - r / 2])
    v = rng.uniform(0.3, 3.0)
    problem = fg.Problem(fg.MLP((2, 1, 1), "relu", bias="none"), X @ turn, y)
    return problem, np.append(np.array([q, 0.0]) @ turn / v, v), {"local_minimum"}


def kink_origin(rng):
    """ReLU units without any weight: the loss falls like -v sum y relu(w x)."""
    T, n, h = (int(k) for k in rng.integers(1, 5, 3))
    net = fg.MLP((n, h, 1), "relu", bias="none")
    problem = fg.Problem(net, rng.normal(size=(T, n)), rng.uniform(0.5, 1.5, T))
    return problem, np.zeros(net.n_params), {"saddle"}


def floor(rng):
    """Equal inputs with different targets, or soft targets that the outputs meet."""
    kind = int(rng.integers(3))
    if kind == 0:
        net = fg.MLP((1, int(rng.integers(1, 4)), 1), "tanh")
        X = np.repeat(rng.normal(size=(4, 1)), 2, axis=0)
        theta = net.init(seed=int(rng.integers(1000)))
        F = net.predict(theta, X)[:, 0]
        gap = np.repeat(rng.uniform(0.1, 0.6, 4), 2) * np.resize([1.0, -1.0], 8)
        loss = str(rng.choice(["squared", "huber"]))
        return fg.Problem(net, X, F + gap, loss=loss), theta, {"global_minimum", "local_minimum"}
    if kind == 1:
        net = fg.MLP((1, 2, 1))
        X, Y = np.zeros((2, 1)), np.array([0.0, 1.0])
        theta = np.zeros(net.n_params)
        theta[:4] = rng.normal(size=4)
        return fg.Problem(net, X, Y, loss="logistic"), theta, {"global_minimum", "local_minimum"}
    net = fg.MLP((1, 2, 3))
    p = rng.dirichlet([2.0, 2.0, 2.0])
    X = rng.normal(size=(5, 1))
    theta = np.zeros(net.n_params)
    theta[:4] = rng.normal(size=4)
    layers = net.unpack(theta)
    layers[1][:, -1] = np.log(p)
    problem = fg.Problem(net, X, np.tile(p, (5, 1)), loss="softmax_cross_entropy")
    return problem, net.pack(layers), {"global_minimum", "local_minimum"}


def pitchfork(rng):
    """At 0 of F(1,h,1) the eigenvalues are l2 +- c, c = |mean x y|; at l2 = c the quartic rises."""
    h = int(rng.integers(1, 4))
    activation = str(rng.choice(["identity", "tanh"]))
    net = fg.MLP((1, h, 1), activation, bias="none")
    c = 2.0 ** rng.integers(-6, 7)
    X, Y = np.array([[1.0], [-1.0]]), np.array([c, -c])
    side = int(rng.integers(-1, 2))
    gap = 0.0 if side == 0 else side * 10.0 ** rng.uniform(-8.0, -1.0)
    problem = fg.Problem(net, X, Y, l2=c * (1.0 + gap))
    true = {"strict_saddle"} if side < 0 else {"local_minimum", "global_minimum"}
    return problem, np.zeros(net.n_params), true


def linear_network(rng):
    """Kawaguchi's critical points of linear networks with random modes."""
    d = int(rng.integers(2, 4))
    widths = (d, *(int(k) for k in rng.integers(1, 3, int(rng.integers(1, 3)))), 2)
    X = rng.normal(size=(10, d))
    Y = X @ rng.normal(size=(d, 2)) + 0.3 * rng.normal(size=(10, 2))
    p = min(widths)
    modes = sorted(rng.permutation(2)[: int(rng.integers(0, p + 1))].tolist())
    weights = linear.construct(X, Y, widths, modes, seed=int(rng.integers(1000)))
    net = fg.MLP(widths, "identity", bias="none")
    if net.n_params > 20:
        return None
    problem = fg.Problem(net, X, Y)
    if modes == list(range(p)):
        return problem, net.pack(weights), {"global_minimum"}
    values = np.linalg.eigvalsh(problem.hessian(net.pack(weights)))
    strict = values[0] < -1e-6 * np.abs(values).max()
    return problem, net.pack(weights), {"strict_saddle"} if strict else {"saddle"}


def scaled(rng):
    """A point of another family with squared loss, in units from 1e-8 to 1e8."""
    chosen = str(
        rng.choice(["generic", "split_unit", "spare_unit", "dead_unit", "split_at_an_end"])
    )
    found = FAMILIES[chosen](rng)
    if found is None or found[0].loss_function.name != "squared" or found[0].l2:
        return None
    problem, theta, true, *rest = found
    net = problem.network
    a, b = 10.0 ** rng.uniform(-8.0, 8.0, 2)
    X, _ = problem.read_samples(0, problem.n_samples)
    layers = net.unpack(np.array(theta))
    layers[0][:, : X.shape[1]] /= a
    layers[-1] *= b
    return fg.Problem(net, X * a, problem.targets * b), net.pack(layers), true, *rest


def weight_decay(rng):
    """Targets chosen for a random point with l2: J^T e = -l2 theta."""
    drawn = _draw(rng, loss=_one_output(rng))
    if drawn is None:
        return None
    net, X, theta, e, loss = drawn
    T, l2 = len(X), 10.0 ** rng.uniform(-4.0, -1.0)
    J = fg.Problem(net, X, np.zeros((T, 1))).jacobian(theta).to_dense()
    e = e * _size(rng, loss) + np.linalg.lstsq(J.T, -l2 * T * theta, rcond=None)[0][:, None]
    problem = _problem(net, X, net.predict(theta, X), e, loss)
    if problem is None:
        return None
    problem = problem.with_l2(l2)
    if np.abs(problem.gradient(theta)).max() > 1e-12 or (sign := _definite(problem, theta)) == 0:
        return None
    return problem, theta, {"strict_saddle"} if sign < 0 else {"local_minimum"}


def two_layers(rng):
    """As `generic`, with two hidden layers."""
    loss = _one_output(rng)
    net = fg.MLP((1, 2, int(rng.integers(1, 3)), 1), str(rng.choice(SMOOTH)))
    T = net.n_params + int(rng.integers(3, 9))
    X = rng.normal(size=(T, 1))
    theta = rng.uniform(0.4, 1.6, net.n_params) * rng.choice([-1.0, 1.0], net.n_params)
    e = _slopes(net, theta, X, rng, loss) * _size(rng, loss)
    problem = _problem(net, X, net.predict(theta, X), e, loss)
    if problem is None or (sign := _definite(problem, theta, 1e-9)) == 0:
        return None
    # Where the eigenvalue is within its bound, descent of the loss may be seen all the same.
    true = {"strict_saddle", "saddle"} if sign < 0 else {"local_minimum"}
    return problem, theta, true, _definite(problem, theta) != 0


def _across_scalings(net, theta):
    """Return a basis of the directions orthogonal to the scalings of the hidden units."""
    layers, rows = net.unpack(theta), []
    for layer in range(net.n_layers - 1):
        for unit in range(net.widths[layer + 1]):
            parts = [np.zeros_like(w) for w in layers]
            parts[layer][unit] = layers[layer][unit]
            parts[layer + 1][:, unit] = -layers[layer + 1][:, unit]
            rows.append(net.pack(parts))
    return null_space(np.array(rows))


def rectified(rng):
    """ReLU units inside their regions: the type is that of the Hessian across the scalings."""
    loss = _one_output(rng)
    widths = [(1, 2, 1), (2, 2, 1), (1, 3, 1), (1, 2, 2, 1)][int(rng.integers(4))]
    net = fg.MLP(widths, str(rng.choice(["relu", "leaky_relu"])))
    T = net.n_params + int(rng.integers(4, 12))
    X = rng.normal(size=(T, widths[0]))
    theta = rng.uniform(0.4, 1.6, net.n_params) * rng.choice([-1.0, 1.0], net.n_params)
    found = _slopes(net, theta, X, rng, loss)
    if found is None:
        return None
    e = found * _size(rng, loss)
    problem = _problem(net, X, net.predict(theta, X), e, loss)
    if problem is None:
        return None
    basis = _across_scalings(net, theta)
    values = np.linalg.eigvalsh(basis.T @ problem.hessian(theta) @ basis)
    size = np.abs(values).max()
    if np.abs(values).min() < 1e-6 * size:
        return None
    return problem, theta, {"strict_saddle"} if values[0] < 0.0 else {"local_minimum"}


def saturated_among_others(rng):
    """A minimum with one more unit, which is saturated: its slope is tiny but nowhere zero."""
    found = _minimum(rng, h=int(rng.integers(1, 3)), m=1, loss="squared", activation="tanh")
    if found is None:
        return None
    net, X, theta, e, _, _ = found
    if net.widths[0] != 1 or not net.has_free_bias:
        return None
    W, V = net.unpack(theta)
    X = np.sort(X, axis=0)
    w = 10.0 ** rng.uniform(1.5, 4.0)
    row = np.array([w, w * (1.0 - X.min())])  # z at least w
    out = np.concatenate([V[0, : len(W)], [0.7]])[None]
    wide, point = _wider(net, theta, [*W, row], out)
    slopes = np.array(e)  # constant outputs of the new unit: J has the bias' column again
    order = np.argsort(found[1][:, 0])
    problem = _problem(wide, X, wide.predict(point, X), slopes[order], "squared")
    if problem is None or wide.n_params > 20:
        return None
    return problem, point, {"diverging", "not_critical"}, False


def near_pitchfork(rng):
    """Eigenvalues of 1e-13 to 1e-8 of the others decide."""
    net = fg.MLP((1, 1, 1), str(rng.choice(["identity", "tanh"])), bias="none")
    c = 2.0 ** rng.integers(-20, 21)
    side = float(rng.choice([-1.0, 1.0]))
    gap = side * 10.0 ** rng.uniform(-13.0, -8.0)
    problem = fg.Problem(net, [[1.0], [-1.0]], [c, -c], l2=c * (1.0 + gap))
    return (
        problem,
        np.zeros(2),
        {"strict_saddle"} if side < 0 else {"local_minimum", "global_minimum"},
    )


def nearby(rng):
    """A point of another family, moved by 1e-11 of its size."""
    chosen = str(rng.choice(["generic", "split_unit", "spare_unit", "rectified", "two_layers"]))
    found = FAMILIES[chosen](rng)
    if found is None:
        return None
    problem, theta, true, *rest = found
    theta = theta * (1.0 + 1e-11 * rng.normal(size=len(theta)))
    # Beside a line of critical points there are strict saddles.
    true = true | {"not_critical"} | ({"strict_saddle"} if "saddle" in true else set())
    return problem, theta, true, False


def scaled_inputs(rng):
    """A point of another family, of any loss, with inputs in units from 1e-8 to 1e8."""
    chosen = str(rng.choice(["generic", "split_unit", "spare_unit", "two_layers", "rectified"]))
    found = FAMILIES[chosen](rng)
    if found is None or found[0].loss_function.name == "logistic":
        return None
    problem, theta, true, *rest = found
    net, a = problem.network, 10.0 ** rng.uniform(-8.0, 8.0)
    X, _ = problem.read_samples(0, problem.n_samples)
    layers = net.unpack(np.array(theta))
    layers[0][:, : X.shape[1]] /= a
    loss = problem.loss_function
    return fg.Problem(net, X * a, problem.targets, loss=loss), net.pack(layers), true, *rest


def kink_outputs(rng):
    """A ReLU unit at w = 0 beside another, two outputs: by its slopes over the circle of w."""
    loss = str(rng.choice(["squared", "cauchy", "huber"]))
    net = fg.MLP((2, 1, 2), "relu", bias="none")
    X = rng.normal(size=(14, 2))
    theta = rng.uniform(0.4, 1.6, 4) * rng.choice([-1.0, 1.0], 4)
    J = fg.Problem(net, X, np.zeros((14, 2))).jacobian(theta).to_dense()
    basis, v = null_space(J.T), rng.normal(size=2)
    wanted = np.outer(rng.uniform(0.5, 1.5, 14), rng.choice([-1.0, 1.0, 0.3]) * v)
    e = (basis @ (basis.T @ wanted.ravel())).reshape(14, 2)
    e = e / np.abs(e).max() * _size(rng, loss)
    problem = _problem(net, X, net.predict(theta, X), e, loss)
    if problem is None:
        return None
    across = _across_scalings(net, theta)
    if np.linalg.eigvalsh(across.T @ problem.hessian(theta) @ across)[0] < 1e-6:
        return None
    angles = np.linspace(0.0, 2.0 * np.pi, 20_000)
    slopes = (e @ v) @ np.maximum(X @ np.stack([np.cos(angles), np.sin(angles)]), 0.0)
    if np.abs(slopes).min() < 1e-3 * np.abs(slopes).max() and slopes.min() > -1e-2 * slopes.max():
        return None
    W, V = net.unpack(theta)
    wide, point = _wider(net, theta, [W[0], [0.0, 0.0]], np.stack([V[:, 0], v], axis=1))
    problem = _problem(wide, X, wide.predict(point, X), e, loss)
    if slopes.min() > 0.0:
        return problem, point, {"local_minimum"}
    return problem, point, {"saddle"} if slopes.max() < 0.0 else {"saddle", "not_critical"}


FAMILIES = {
    function.__name__: function
    for function in (
        generic, split_unit, split_at_an_end, spare_unit, chain, dead_unit, saturated, infinity,
        kink_slopes, kink_minimum, kink_origin, floor, pitchfork, linear_network, scaled,
        weight_decay, two_layers, rectified, saturated_among_others, near_pitchfork, nearby,
        scaled_inputs, kink_outputs,
    )
}  # fmt: skip


def options(rng):
    """Targets for a random point: other activations, fixed biases, weights, several outputs."""
    loss = str(rng.choice([name for name in LOSSES if name != "logistic"]))
    n, h, m = (int(k) for k in rng.integers(1, 3, 3))
    m = max(m, 2) if loss == "softmax_cross_entropy" else m
    kinds = ["free", "none", [rng.normal(size=h), rng.normal(size=m)]]
    activation = str(rng.choice(["sin", "swish", "gelu", *SMOOTH]))
    net = fg.MLP((n, h, m), activation, bias=kinds[int(rng.integers(3))])
    T = net.n_params + int(rng.integers(4, 12))
    X = rng.normal(size=(T, n))
    theta = rng.uniform(0.4, 1.6, net.n_params) * rng.choice([-1.0, 1.0], net.n_params)
    weights = rng.uniform(0.3, 3.0, T) * (rng.random(T) < 0.9)
    e = _slopes(net, theta, X, rng, loss, weights=weights)
    if e is None:
        return None
    found = _problem(net, X, net.predict(theta, X), e * _size(rng, loss), loss)
    if found is None:
        return None
    problem = fg.Problem(net, X, found.targets, loss=loss, sample_weight=weights)
    if (sign := _definite(problem, theta)) == 0:
        return None
    return problem, theta, {"strict_saddle"} if sign < 0 else {"local_minimum"}


def bounded_outputs(rng):
    """As `generic`, with an output activation."""
    output = str(rng.choice(["tanh", "sigmoid", "softplus", "bent_identity"]))
    net = fg.MLP((int(rng.integers(1, 3)), int(rng.integers(1, 4)), 1), "tanh", output)
    T = net.n_params + int(rng.integers(3, 9))
    X = rng.normal(size=(T, net.widths[0]))
    theta = rng.uniform(0.4, 1.6, net.n_params) * rng.choice([-1.0, 1.0], net.n_params)
    loss = str(rng.choice(["squared", "huber", "cauchy"]))
    e = _slopes(net, theta, X, rng, loss) * _size(rng, loss)
    problem = _problem(net, X, net.predict(theta, X), e, loss)
    if problem is None or (sign := _definite(problem, theta)) == 0:
        return None
    return problem, theta, {"strict_saddle"} if sign < 0 else {"local_minimum"}


def spared_biases(rng):
    """As `weight_decay`, of the weights alone: J^T e = -l2 times theta, without the biases."""
    net = fg.MLP((int(rng.integers(1, 3)), int(rng.integers(1, 4)), 1), str(rng.choice(SMOOTH)))
    T, l2 = net.n_params + int(rng.integers(3, 9)), 10.0 ** rng.uniform(-4.0, -1.0)
    X = rng.normal(size=(T, net.widths[0]))
    theta = rng.uniform(0.4, 1.6, net.n_params) * rng.choice([-1.0, 1.0], net.n_params)
    decayed = net.unpack(np.array(theta))
    for layer in decayed:
        layer[:, -1] = 0.0
    J = fg.Problem(net, X, np.zeros((T, 1))).jacobian(theta).to_dense()
    e = _slopes(net, theta, X, rng, "squared") * _size(rng, "squared")
    e = e + np.linalg.lstsq(J.T, -l2 * T * net.pack(decayed), rcond=None)[0][:, None]
    Y = net.predict(theta, X) - e
    problem = fg.Problem(net, X, Y, l2=l2, penalize_biases=False)
    if np.abs(problem.gradient(theta)).max() > 1e-12 or (sign := _definite(problem, theta)) == 0:
        return None
    return problem, theta, {"strict_saddle"} if sign < 0 else {"local_minimum"}


def exact(rng):
    """A random point that fits all its targets, with fewer or more equations, in any units."""
    activation = str(rng.choice([*SMOOTH, "relu", "leaky_relu", "sin", "square"]))
    net = fg.MLP((2, int(rng.integers(1, 4)), int(rng.integers(1, 3))), activation)
    X = rng.normal(size=(int(rng.integers(1, 25)), 2))
    layers = net.unpack(net.init(rng, "normal"))
    a, b = 10.0 ** rng.uniform(-8.0, 8.0, 2)
    layers[0][:, :2] /= a
    layers[1] *= b
    theta = net.pack(layers)
    # The losses that have a scale of their own stay near it.
    loss = str(rng.choice(["squared", "huber", "cauchy", "smooth_lp", "blake_zisserman"]))
    if loss != "squared":
        layers[1] /= b
        theta = net.pack(layers)
    problem = fg.Problem(net, a * X, net.predict(theta, a * X), loss=loss)
    return problem, theta, {"global_minimum"}


def dead_beside(rng):
    """A point of `rectified` and one or two units that are zero around all samples."""
    found = rectified(rng)
    if found is None or found[0].network.n_layers != 2 or found[0].loss_function.name == "logistic":
        return None
    problem, theta, true = found
    net = problem.network
    if net.activations[0].name != "relu":
        return None
    X, _ = problem.read_samples(0, problem.n_samples)
    W, V = net.unpack(theta)
    more = int(rng.integers(1, 3))
    rows = rng.normal(size=(more, X.shape[1] + 1))
    rows[:, -1] = -(rows[:, :-1] @ X.T).max(axis=1) - rng.uniform(0.1, 1.0, more)
    out = np.append(V[0, : len(W)], rng.normal(size=more))[None]
    wide, point = _wider(net, theta, [*W, *rows], out)
    loss = problem.loss_function
    return fg.Problem(wide, X, problem.targets, loss=loss), point, true


def turned(rng):
    """A point of another family, its units in another order and with other signs."""
    chosen = str(rng.choice(["generic", "split_unit", "spare_unit", "split_at_an_end"]))
    found = FAMILIES[chosen](rng)
    if found is None or found[0].network.activations[0].name != "tanh":
        return None
    problem, theta, true, *rest = found
    net, h = problem.network, problem.network.widths[1]
    order, signs = rng.permutation(h), rng.choice([-1.0, 1.0], h)
    W, V = net.unpack(np.array(theta, dtype=float))
    W, tail = signs[:, None] * W[order], V[:, h:]
    return problem, net.pack([W, np.hstack([V[:, order] * signs, tail])]), true, *rest


def nested_kinks(rng):
    """Two layers of ReLU units without any weight: the loss falls like the product of three."""
    n, h, k = (int(size) for size in rng.integers(1, 3, 3))
    net = fg.MLP((n, h, k, 1), str(rng.choice(["relu", "leaky_relu"])), bias="none")
    X = rng.normal(size=(int(rng.integers(1, 6)), n))
    problem = fg.Problem(net, X, rng.uniform(0.5, 1.5, len(X)))
    return problem, np.zeros(net.n_params), {"saddle"}, False


def several_outputs(rng):
    """As `generic`, with two or three outputs of any loss."""
    loss = str(rng.choice(["squared", "huber", "cauchy", "smooth_lp", "softmax_cross_entropy"]))
    drawn = _draw(rng, h=int(rng.integers(1, 3)), m=int(rng.integers(2, 4)), loss=loss)
    if drawn is None:
        return None
    net, X, theta, e, loss = drawn
    problem = _problem(net, X, net.predict(theta, X), e * _size(rng, loss), loss)
    if problem is None or (sign := _definite(problem, theta)) == 0:
        return None
    return problem, theta, {"strict_saddle"} if sign < 0 else {"local_minimum"}


OTHERS = {
    function.__name__: function
    for function in (
        options, bounded_outputs, spared_biases, exact, dead_beside, turned, nested_kinks,
        several_outputs,
    )
}  # fmt: skip
