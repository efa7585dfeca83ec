"""Local minima where training stays: of the linear region, and of a narrower network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from fastggn.analysis.relu.arrangement import FloatArray, as_samples
from fastggn.analysis.relu.subglobal import as_targets, subglobal_minimum
from fastggn.network.mlp import MLP
from fastggn.runtime.errors import as_float_vector, check_positive


def linear_region_minimum(
    X: ArrayLike,
    y: ArrayLike,
    h: int | Sequence[int],
    *,
    margin: float = 1.0,
    seed: int | None = 0,
) -> FloatArray:
    """Return a local minimum where every unit is active on every sample: linear regression.

    Source: Section 3.1 and Eq. (5) of "Understanding local minima in neural networks by loss
    surface decomposition", which says that the construction is "generally applicable to
    multilayer neural networks". Within the region the outputs are linear in the inputs, whatever
    the weights, so that none has a lower loss than linear regression.

    Parameters
    ----------
    X : array_like, shape (T, n)
    y : array_like, shape (T,) or (T, 1)
    h : int or sequence of int
        Hidden units, at least 1; of each hidden layer, from the first.
    margin : float
        Least pre-activation, above 0 (1 in the source).
    seed : int, optional
        Draws the weights, which the regression leaves free but for one combination.

    Returns
    -------
    ndarray, shape (N,)
        Parameters of ``MLP((n, h, 1), "relu", bias="free")``, or ``(n, *h, 1)``, inside the region:
        the outputs are u^T x + d with the least squares u and d.

    Raises
    ------
    TypeError, ValueError
        If an array is not valid, a width is below 1, or `margin` is not positive.

    Examples
    --------
    >>> import numpy as np
    >>> import fastggn as fg
    >>> from fastggn import analysis
    >>> X = np.linspace(-1.0, 1.0, 9)[:, None]
    >>> theta = analysis.linear_region_minimum(X, X[:, 0] ** 2, h=3)
    >>> problem = fg.Problem(fg.MLP((1, 3, 1), "relu"), X, X[:, 0] ** 2)
    >>> bool(np.linalg.norm(problem.gradient(theta)) < 1e-13)
    True
    """
    samples = as_samples(X)
    targets = as_targets(y, len(samples))
    least = check_positive("margin", margin)
    hidden = tuple(h) if isinstance(h, Sequence) else (h,)
    net = MLP((samples.shape[1], *hidden, 1), "relu")
    # One linear unit without bias, and the output's bias: u and d.
    line = subglobal_minimum(samples, targets, np.ones((1, len(samples))), output_bias=True)
    u, d = line.parameters[:-1], line.parameters[-1]
    rng = np.random.default_rng(seed)
    weights = _linear_weights(net.widths, u, rng)
    inputs, layers = samples, []
    for W in weights[:-1]:
        z = inputs @ W.T
        b = least - z.min(axis=0)
        layers.append(np.column_stack([W, b]))
        inputs = z + b
    constant = d + float(np.mean(samples @ u - inputs @ weights[-1][0]))
    return net.pack([*layers, np.append(weights[-1], constant)[None]])


def _linear_weights(
    widths: tuple[int, ...], u: FloatArray, rng: np.random.Generator
) -> list[FloatArray]:
    """Return weights, without biases, whose product is u^T."""
    while True:
        upper = [
            rng.uniform(0.5, 1.5, (n, m)) * rng.choice([-1.0, 1.0], (n, m)) / np.sqrt(m)
            for m, n in zip(widths[1:-1], widths[2:], strict=True)
        ]
        v = upper[0]
        for W in upper[1:]:
            v = W @ v
        if v @ v.T > 0.01:
            break
    first = rng.standard_normal((widths[1], len(u)))
    first += v.T @ (u - v @ first) / (v @ v.T)  # the nearest with v W = u^T
    return [first, *upper]


def widen_with_dead_unit(
    net: MLP,
    theta: ArrayLike,
    X: ArrayLike,
    *,
    layer: int = 1,
    margin: float = 1.0,
    seed: int | None = 0,
) -> tuple[MLP, FloatArray]:
    """Return a network with one more unit that no sample activates, and its parameters.

    A local minimum stays one, of the same loss, for any outgoing weights of the new unit.

    Source: Section 3.2 of "Understanding local minima in neural networks by loss surface
    decomposition". Its bias b_j = -max_i w_j^T h_i leaves a sample on the boundary of the
    region; b_j must be lower.

    Parameters
    ----------
    net : MLP
        With free biases, and ReLU in the layer.
    theta : array_like, shape (N,)
    X : array_like, shape (T, n_0)
        The samples of the problem.
    layer : int
        The hidden layer of the new unit, 1 for the first.
    margin : float
        The new unit's pre-activations are at most minus this.
    seed : int, optional
        Draws the new unit's weights.

    Raises
    ------
    TypeError, ValueError
        If `net` has no such hidden ReLU layer or no free biases, or an array is not valid.
    """
    if not net.has_free_bias:
        raise ValueError("net must have free biases: without, no unit is dead for all samples")
    if not 1 <= layer < net.n_layers:
        raise ValueError(f"layer must be a hidden layer, 1 to {net.n_layers - 1}, got {layer}")
    names = [activation.name for activation in net.activations]
    if names[layer - 1] != "relu":
        raise ValueError(f"layer {layer} of net must be of ReLU units, not {names[layer - 1]}")
    samples = as_samples(X)
    point = as_float_vector("theta", theta, net.n_params)
    layers = net.unpack(point)
    inputs = samples
    if layer > 1:
        below = MLP(net.widths[:layer], list(net.activations[: layer - 2]),
                    net.activations[layer - 2])  # fmt: skip
        inputs = below.predict(below.pack(layers[: layer - 1]), samples)
    rng = np.random.default_rng(seed)
    w = rng.standard_normal(inputs.shape[1])
    b = -float((inputs @ w).max()) - check_positive("margin", margin)
    outgoing = rng.standard_normal((len(layers[layer]), 1))
    layers[layer - 1] = np.vstack([layers[layer - 1], np.append(w, b)])
    upper = layers[layer]
    layers[layer] = np.hstack([upper[:, :-1], outgoing, upper[:, -1:]])
    widths = [*net.widths[:layer], net.widths[layer] + 1, *net.widths[layer + 1 :]]
    wider = MLP(widths, list(net.activations[:-1]), net.activations[-1])
    return wider, wider.pack(layers)
