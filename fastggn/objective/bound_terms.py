"""A term checked for one network, and the checks of what terms share."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastggn.data.sources import ArraySource
from fastggn.network.channels import Channel
from fastggn.network.losses import LOSSES, SeparableLoss, get_loss
from fastggn.objective.channels import Names
from fastggn.objective.equations import Linearised, Residual
from fastggn.objective.sample_checks import checked_weights

FloatArray = NDArray[np.float64]

ROBUST = [name for name, loss in LOSSES.items() if issubclass(loss, SeparableLoss)]


@dataclass(frozen=True)
class BoundTerm:
    """A checked term for one network: what a problem computes with.

    The misfit of a point is ``loss(r, targets)`` with `r` from `evaluate`. The P = n_L C + K
    variables are ordered by output, then by channel, then the coefficients.

    Attributes
    ----------
    source : ArraySource, shape (T, n_0)
    model : Residual
    targets : ndarray, shape (T, n_r)
        Zeros for an equation.
    weight : float
    sample_weight : ndarray, shape (T,), or None
    loss : SeparableLoss
    """

    source: ArraySource
    model: Residual
    targets: FloatArray
    weight: float
    sample_weight: FloatArray | None
    loss: SeparableLoss

    @property
    def n_samples(self) -> int:
        """The number of points T."""
        return self.source.shape[0]

    @property
    def n_residuals(self) -> int:
        """The number of residuals of a point, n_r."""
        return int(self.targets.shape[1])

    @property
    def channels(self) -> tuple[Channel, ...]:
        """The channels that the residual reads, and all lower ones; () is the value."""
        return self.model.channels

    @property
    def used(self) -> frozenset[str]:
        """The names of the coefficients that the residual reads."""
        return self.model.used

    @property
    def by_rules(self) -> bool:
        """Whether the residual is made of functions that are analytic where they are finite."""
        return self.model.by_rules

    @property
    def linear(self) -> bool:
        """Whether the residual is an affine function of channels and coefficients."""
        return self.model.linear

    def evaluate(self, x: FloatArray, channels: FloatArray, coefficients: FloatArray) -> FloatArray:
        """Return the residuals (B, n_r) of points (B, n_0) from channels (B, n_L, C) and (K,)."""
        return self.model.evaluate(x, channels, coefficients)

    def linearise(
        self, x: FloatArray, channels: FloatArray, coefficients: FloatArray
    ) -> Linearised:
        """Return the residuals (B, n_r) and their derivatives (B, n_r, P)."""
        return self.model.linearise(x, channels, coefficients)

    def curvature(
        self, x: FloatArray, channels: FloatArray, coefficients: FloatArray, cotangent: FloatArray
    ) -> FloatArray:
        """Return the second derivatives (B, P, P) of the residuals times a cotangent (B, n_r).

        `TypeError` if a `jacobian` has functions that have no rule for their derivative.
        """
        return self.model.curvature(x, channels, coefficients, cotangent)


def checked_names(
    inputs: Sequence[str] | None,
    n_inputs: int,
    n_outputs: int,
    coefficients: Mapping[str, float],
    faults: list[str],
) -> Names:
    """Return the names that residuals may use; what is wrong with them is added to `faults`."""
    if isinstance(inputs, str):
        inputs = (inputs,)
    known = None if inputs is None else tuple(inputs)
    if known is not None:
        if not all(isinstance(name, str) for name in known):
            faults.append(f"inputs must hold names, got {known}")
        elif len(known) != n_inputs or len(set(known)) != n_inputs:
            faults.append(f"inputs must be {n_inputs} different names, got {known}")
    for name, value in coefficients.items():
        if not isinstance(name, str):
            faults.append(f"coefficients: {name!r} must be a name")
        elif not (np.isscalar(value) and np.isreal(value) and np.isfinite(float(value))):  # type: ignore[arg-type]
            faults.append(f"coefficients[{name!r}] must be a finite number, got {value!r}")
    return Names(known, n_inputs, n_outputs, tuple(coefficients))


def checked_loss(loss: Any) -> SeparableLoss:
    """Return the loss of residuals, a squared or robust one."""
    found = get_loss(loss)
    if not isinstance(found, SeparableLoss):
        raise ValueError(
            f"loss {found.name!r} has no meaning for residuals (valid: {', '.join(ROBUST)})"
        )
    return found


def point_weights(weights: ArrayLike | None, n_points: int, least: int) -> FloatArray | None:
    """Return the weights of the points, non-negative and, but for a rank's part, not all zero."""
    checked = checked_weights(weights, n_points)
    if checked is not None and least and not 0.0 < checked.sum() < np.inf:
        raise ValueError("sample_weight is zero for every point, or its sum overflows")
    return checked


class Faults:
    """Collects the errors of independent checks of a term."""

    def __init__(self, name: str, faults: list[str]) -> None:
        self._name, self._faults, self.count = name, faults, 0

    def of(self, check: Callable[[], Any]) -> Any:
        """Return the result of a check, or None after noting its error."""
        try:
            return check()
        except (ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
            self.count += 1
            own = isinstance(error, (ValueError, TypeError, AttributeError))
            said = str(error) if own else repr(error)
            self._faults.append(f"{self._name}: {said}")
            return None
