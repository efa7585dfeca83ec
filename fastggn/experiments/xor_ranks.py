"""Smallest ranks of the XOR networks' Jacobian, at explicit weights and at random ones."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.activations import get_activation
from fastggn.data import xor
from fastggn.network import MLP
from fastggn.problem import Problem

__all__ = ["CONSTRAINTS", "PAPER", "explicit_weights", "rank_table"]

Vector = NDArray[np.float64]

# What Shen (2018, Section 5.1) states as the smallest rank, for weights of full rank.
PAPER = {2: 2, 3: 3}
CONSTRAINTS = (
    "no constraint",
    "augmented weight matrices of full rank",
    "output weights (without bias) not zero",
)
# The constant unit's pre-activation, and the shape of two units that share a span with it: by
# their symmetry all pre-activations are affine in the inputs.
CONSTANT = 0.7
SHAPE = np.array([-0.5, -0.15, 0.15, 0.5])
SCALES = (0.6, 0.95, 0.8)


def _inverse(activation: str, values: Vector) -> Vector:
    """Return z with sigma(z) = 1/2 + values (sigmoid) or 2 values (tanh)."""
    if activation == "sigmoid":
        return np.asarray(np.log((0.5 + values) / (0.5 - values)))
    return np.asarray(np.arctanh(2.0 * values))


def explicit_weights(net: MLP, constraint: str) -> Vector:
    """Return theta at which the smallest rank under a constraint is attained.

    No constraint: theta = 0. Full rank: a unit that does not depend on the inputs, the others
    sigma(z_k) affine in one and the same function of them, output weights 0 but for the bias,
    so that P consists of the outputs of the hidden layer alone. Output weights not zero: the
    units are constant, the first has an output weight.
    """
    hidden = net.widths[1]
    W1, W2 = np.zeros((hidden, 3)), np.zeros((1, hidden + 1))
    if constraint == CONSTRAINTS[0]:
        return net.pack([W1, W2])
    W1[:, 2] = CONSTANT
    if constraint == CONSTRAINTS[2]:
        W2[0, 0] = 0.5
        return net.pack([W1, W2])
    X, _ = xor()
    design = np.hstack([X, np.ones((4, 1))])
    name = net.activations[0].name
    for k in range(1, hidden):
        z = _inverse(name, SCALES[k - 1] * SHAPE)
        W1[k] = np.linalg.lstsq(design, z, rcond=None)[0]
    W2[0, -1] = 0.4
    return net.pack([W1, W2])


def rank_table(hidden: str, n_random: int, seed: int) -> list[dict[str, Any]]:
    """Return a row for each of F(2,1,1) to F(2,4,1): ranks at explicit and at random weights.

    Parameters
    ----------
    hidden : {"sigmoid", "tanh"}
    n_random : int
        Standard normal weights drawn for each network.
    seed : int
    """
    X, Y = xor()
    rows = []
    get_activation(hidden)
    for n in (1, 2, 3, 4):
        net = MLP((2, n, 1), activation=hidden)
        problem = Problem(net, X, Y)
        rng = np.random.default_rng([seed, n])
        drawn = [
            problem.jacobian(rng.standard_normal(net.n_params)).rank() for _ in range(n_random)
        ]
        rows.append(
            {
                "network": f"F(2,{n},1)",
                "hidden": hidden,
                "paper": PAPER.get(n),
                "explicit": {
                    name: problem.jacobian(explicit_weights(net, name)).rank()
                    for name in CONSTRAINTS
                },
                "random": {str(r): drawn.count(r) for r in sorted(set(drawn))},
            }
        )
    return rows
