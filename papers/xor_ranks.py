"""The smallest ranks that P(W) can take on XOR (Shen 2018, Section 5.1, corrected)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.analysis.rank.analysis import rank_analysis
from fastggn.data.builtin import xor
from fastggn.network.mlp import MLP
from fastggn.objective.problem import Problem

FloatArray = NDArray[np.float64]

# Said of F(2,2,1) and F(2,3,1) without a hypothesis beyond Principles 1, 3 and 4.
_PAPER = {2: 2, 3: 3}


@dataclass(frozen=True, eq=False)
class XorRank:
    """The smallest rank of P(W) under one hypothesis.

    Attributes
    ----------
    n_hidden : int
        n_1 of F(2, n_1, 1), with free biases and an identity output.
    activation : str
    hypothesis : str
    rank : int
        Measured at `theta`.
    at_least : int
        What is proved for all weights under the hypothesis; equal to `rank`.
    paper : int or None
        What Shen (2018, Section 5.1) says.
    theta : ndarray, shape (N,)
        Weights that attain it.
    """

    n_hidden: int
    activation: str
    hypothesis: str
    rank: int
    at_least: int
    paper: int | None
    theta: FloatArray

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return {
            "n_hidden": self.n_hidden,
            "activation": self.activation,
            "hypothesis": self.hypothesis,
            "rank": self.rank,
            "at_least": self.at_least,
            "paper": self.paper,
            "theta": self.theta.tolist(),
        }


def smallest_xor_ranks(n_hidden: int, activation: str = "sigmoid") -> tuple[XorRank, ...]:
    """Return the smallest rank of P(W) on XOR under three hypotheses, with weights that attain it.

    - any weights: 1, since the output's bias gives a row of ones; attained at W = 0;
    - W_1 and W_2 with their bias columns of full rank: for n_1 >= 2 one unit is not constant, so
      that Phi_1 has rank 2 at least; attained with W_2 = 0 but for the bias, and hidden outputs
      that lie in a plane with the constants;
    - W_2 not 0 without its bias: an active unit gives diag(sigma') times [X^T, 1], of rank 3;
      attained by hidden units that are constant.

    Parameters
    ----------
    n_hidden : int
        n_1, at least 1.
    activation : {"sigmoid", "tanh"}

    Raises
    ------
    ValueError
        If n_1 is below 1, or the activation is another.
    """
    if n_hidden < 1:
        raise ValueError(f"n_hidden must be at least 1, got {n_hidden}")
    if activation not in ("sigmoid", "tanh"):
        raise ValueError(f"activation must be 'sigmoid' or 'tanh', got {activation!r}")
    X, Y = xor()
    net = MLP((2, n_hidden, 1), activation)
    problem = Problem(net, X, Y)
    zero, no_output = np.zeros((n_hidden, 3)), np.zeros((1, n_hidden + 1))
    biased, acting = no_output.copy(), no_output.copy()
    biased[0, -1], acting[0, 0] = 0.4, 1.0
    examples = (
        ("any weights", 1, zero, no_output),
        ("augmented W_l of full rank", min(2, n_hidden), _plane(n_hidden, activation), biased),
        ("W_2 without bias not 0", 3, zero, acting),
    )
    out = []
    for hypothesis, at_least, first, second in examples:
        theta = net.pack([first, second])
        rank = rank_analysis(problem, theta).rank
        paper = _PAPER.get(n_hidden)
        out.append(XorRank(n_hidden, activation, hypothesis, rank, at_least, paper, theta))
    return tuple(out)


def _plane(n_hidden: int, activation: str) -> FloatArray:
    """Return W_1 of full rank (n_1, 3) whose units lie in the plane of 1 and one g."""
    # sigma(z_k) = 1/2 + b_k g with g odd under the reversal of the four inputs: so is the logit,
    # which makes z_k affine in the inputs. For tanh the pre-activations are half as large.
    g = np.array([-0.5, -0.15, 0.15, 0.5])
    rows = [[0.0, 0.0, 0.7]]  # a constant unit
    for b in (0.6, 0.95):
        p = 0.5 + b * g
        z = np.log(p) - np.log1p(-p)
        rows.append([z[2] - z[0], z[1] - z[0], z[0]])
    scale = 1.0 if activation == "sigmoid" else 0.5
    return scale * np.array([rows[min(k, 2)] for k in range(n_hidden)])
