"""The choice of the weight decay by the evidence, and the classes of parameters that share one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from fastggn.runtime.errors import check_positive, hinted_fields, unknown_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastggn.network.mlp import MLP


PER = ("network", "unit")


@hinted_fields
@dataclass(frozen=True)
class Evidence:
    """Choose the weight decay by the evidence after every step, as MATLAB's trainbr does.

    A value of the argument `regularize` of `train`, for the method "lm". The loss and the gradient
    of the run use the current l2; `TrainResult.evidence` is the final estimate. Losses "squared",
    "softmax_cross_entropy" and "logistic"; solvers "cholesky", "dual" and "qr".

    Source: MacKay (1992), "Bayesian interpolation"; in this method Foresee and Hagan (1997),
    "Gauss-Newton approximation to Bayesian learning".

    Parameters
    ----------
    per : {"network", "unit"}
        One weight decay for all parameters, or one for each hidden unit (not with "dual").
    tolerance : float
        Stop, as converged, when the log evidence has stayed within this for 20 iterations; 0
        for no such stop. A difference of 1 says little (a factor of e in probability).

    Raises
    ------
    ValueError
        If `per` is unknown, or `tolerance` is negative.

    Examples
    --------
    >>> import fastggn as fg
    >>> X, Y = fg.data.four_regions(60, seed=0)
    >>> problem = fg.Problem(fg.MLP((2, 5, 1)), X, Y)
    >>> result = fg.train(problem, seed=0, regularize=fg.Evidence())
    >>> 0 < result.evidence.effective_parameters < problem.n_params
    True
    """

    per: Literal["network", "unit"] = "network"
    tolerance: float = 0.1

    def __post_init__(self) -> None:
        if self.per not in PER:
            raise unknown_name("per", self.per, PER)
        object.__setattr__(
            self, "tolerance", check_positive("tolerance", self.tolerance, zero=True)
        )


def prior_classes(net: MLP, per: str) -> NDArray[np.intp] | None:
    """Return the class of each parameter, shape (N,), from 0, or None for a single class."""
    # With "unit" the class of a hidden unit holds the weights and the bias into it and,
    # for the last hidden layer, the weights out of it; the output biases form one more class. So an
    # unnecessary unit is switched off as a whole. Without hidden layer each input has a class.
    if per == "network":
        return None
    parts, count, before = [], 0, np.arange(net.widths[0])
    for n, m in net.layer_shapes[:-1]:
        before = count + np.arange(n)
        parts.append(np.repeat(before, m))
        count += n
    n, m = net.layer_shapes[-1]
    last = np.full((n, m), int(before[-1]) + 1)
    last[:, : before.size] = before
    return np.concatenate([*parts, last.ravel()]).astype(np.intp)


def relative_precisions(
    classes: NDArray[np.intp], alphas: Sequence[float] | NDArray[np.float64]
) -> tuple[float, NDArray[np.float64]]:
    """Return the geometric mean of the precisions, and their ratios to it, shape (N,)."""
    logs = np.log(np.asarray(alphas, dtype=np.float64))[classes]
    middle = float(logs.mean())
    return float(np.exp(middle)), np.exp(logs - middle)
