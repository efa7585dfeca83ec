"""Losses that sum a function of the residual r = F - Y over the outputs."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from fastggn.network.losses.base import Array, Loss, diagonal
from fastggn.runtime.errors import check_positive

# So many columns are added one after the other.
FEW = 7


class SeparableLoss(Loss):
    """Base class of losses E = sum_c f(r_c / scale).

    A subclass gives f, f', f'' and the weight f'(u) / u, finite at 0, all elementwise.
    `curvature_factor` uses iteratively reweighted least squares: S = diag(sqrt(w)) with
    w = E'_c / r_c >= 0, and b = sqrt(w) r, so that S b is the gradient. This curvature is positive
    semi-definite even if the Hessian is not. A parameter that is not positive and finite
    raises a `ValueError`.
    """

    scale: float = 1.0

    @property
    def psd_is_exact(self) -> bool:
        """False: the curvature is a reweighted one."""
        return False

    @abstractmethod
    def _f(self, u: Array) -> Array:
        """Return f(u)."""

    @abstractmethod
    def _slope(self, u: Array) -> Array:
        """Return f'(u)."""

    @abstractmethod
    def _second(self, u: Array) -> Array:
        """Return f''(u)."""

    @abstractmethod
    def _weight(self, u: Array) -> Array:
        """Return f'(u) / u by a formula without the division."""

    def _scaled(self, F: Array, Y: Array) -> Array:
        residual = F - Y
        return residual if self.scale == 1.0 else np.asarray(residual / self.scale)

    def _curvatures(self, F: Array, Y: Array) -> Array:
        """Return the diagonal of the Hessian, shape (B, n_L)."""
        return self._second(self._scaled(F, Y)) / self.scale**2

    def each(self, F: Array, Y: Array) -> Array:
        """Return the loss of each output, shape (B, n_L)."""
        return self._f(self._scaled(F, Y))

    def value(self, F: Array, Y: Array) -> Array:
        """Return the losses, shape (B,)."""
        return row_sums(self.each(F, Y))

    def gradient(self, F: Array, Y: Array) -> Array:
        """Return the gradients with respect to the outputs, shape (B, n_L)."""
        return self._gradient(self._scaled(F, Y))

    def value_and_gradient(self, F: Array, Y: Array) -> tuple[Array, Array]:
        """Return both from one array of residuals."""
        u = self._scaled(F, Y)
        return row_sums(self._f(u)), self._gradient(u)

    def _gradient(self, u: Array) -> Array:
        """Return the gradients for scaled residuals."""
        slope = self._slope(u)
        return slope if self.scale == 1.0 else slope / self.scale

    def hessian(self, F: Array, Y: Array) -> Array:
        """Return the diagonal Hessians, shape (B, n_L, n_L)."""
        return diagonal(self._curvatures(F, Y))

    def hessian_sqrt(self, F: Array, Y: Array) -> Array:
        """Return the diagonal S with S S^T the Hessian, shape (B, n_L, n_L).

        Raises
        ------
        ValueError
            If the Hessian of a sample has a negative entry.
        """
        h = self._curvatures(F, Y)
        self._refuse_indefinite(h, rounding=0.0)
        return diagonal(np.sqrt(np.maximum(h, 0.0)))

    def curvature_factor(self, F: Array, Y: Array) -> tuple[Array, Array | None]:
        """Return the reweighted least-squares curvature (S, b); S b is the gradient."""
        u = self._scaled(F, Y)
        root = np.sqrt(self._weight(u))
        return diagonal(root / self.scale), root * u

    def signed_factor(self, F: Array, Y: Array) -> tuple[Array, Array]:
        """Return (S, d) with S diag(d) S^T the exact Hessian."""
        h = self._curvatures(F, Y)
        return diagonal(np.sqrt(np.abs(h))), np.sign(h)

    def to_config(self) -> dict[str, Any]:
        """Return a dictionary for JSON, the input of `loss_from_config`."""
        return {"name": self.name, **asdict(self)}  # type: ignore[call-overload]

    def _check(self, **parameters: float) -> None:
        """Store the parameters as floats if they are positive and finite."""
        for key, value in parameters.items():
            object.__setattr__(self, key, check_positive(key, value))


@dataclass(frozen=True)
class Squared(SeparableLoss):
    """Half the squared error, E = |F - Y|^2 / (2 scale^2).

    Shen 2018 writes |F - Y|^2 in (35) and half of it elsewhere; here it is always half.

    Parameters
    ----------
    scale : float, default 1
        Unit of the residuals; positive and finite.
    """

    scale: float = 1.0

    name = "squared"
    principle_1 = (True, "the only stationary point is the exact fit")
    principle_1a = (True, "the Hessian is a positive multiple of the identity")

    def __post_init__(self) -> None:
        self._check(scale=self.scale)

    @property
    def psd_is_exact(self) -> bool:
        """True: the reweighted curvature of a quadratic is its Hessian."""
        return True

    @property
    def unit_hessian(self) -> bool:
        """Whether the Hessian is the identity: at scale 1."""
        return self.scale == 1.0

    @property
    def output_weights(self) -> Array | None:
        """One: all outputs count alike. A subclass may have other Hessians."""
        return np.ones(1) if type(self) is Squared else super().output_weights

    def _f(self, u: Array) -> Array:
        return 0.5 * u * u

    def _slope(self, u: Array) -> Array:
        return u

    def _second(self, u: Array) -> Array:
        return np.ones_like(u)

    def _weight(self, u: Array) -> Array:
        return np.ones_like(u)


@dataclass(frozen=True)
class Huber(SeparableLoss):
    """Huber's loss: r^2 / 2 for |r| <= delta, delta (|r| - delta / 2) outside, summed.

    The Hessian is zero outside; training uses the reweighted curvature min(1, delta / |r|).

    Parameters
    ----------
    delta : float, default 1
        End of the quadratic part; positive and finite.
    """

    delta: float = 1.0

    name = "huber"
    principle_1 = (
        True,
        "the only stationary point is the exact fit (E is C^1: E'' jumps at |r| = delta)",
    )
    principle_1a = (True, "the Hessian at the exact fit is the identity")

    def __post_init__(self) -> None:
        self._check(delta=self.delta)

    def _f(self, u: Array) -> Array:
        a = np.abs(u)
        inner = np.minimum(a, self.delta)
        return inner * (a - 0.5 * inner)

    def _slope(self, u: Array) -> Array:
        return np.clip(u, -self.delta, self.delta)

    def _second(self, u: Array) -> Array:
        return (np.abs(u) <= self.delta).astype(np.float64)

    def _weight(self, u: Array) -> Array:
        return self.delta / np.maximum(np.abs(u), self.delta)


@dataclass(frozen=True)
class SmoothLp(SeparableLoss):
    """Smoothed l_p norm, E = sum (u^2 + epsilon)^(p/2) - epsilon^(p/2), u = r / scale.

    Convex for p >= 1. For p < 1 the Hessian is negative where u^2 > epsilon / (1 - p), and
    training uses the reweighted curvature p (u^2 + epsilon)^(p/2 - 1) / scale^2.

    Parameters
    ----------
    p : float, default 1
        The exponent, 0 < p < 2.
    epsilon : float, default 0.1
        Smoothing; positive and finite, so that the loss is C^2.
    scale : float, default 1
        Unit of the residuals; positive and finite.
    """

    p: float = 1.0
    epsilon: float = 0.1
    scale: float = 1.0

    name = "smooth_lp"
    principle_1 = (True, "the only stationary point is the exact fit")
    principle_1a = (True, "the Hessian at the exact fit is p epsilon^(p/2 - 1) / scale^2 > 0")

    def __post_init__(self) -> None:
        self._check(p=self.p, epsilon=self.epsilon, scale=self.scale)
        if self.p >= 2.0:
            raise ValueError(f"p must be in (0, 2), got {self.p}; p = 2 is the squared loss")

    @property
    def convex(self) -> bool:
        """Whether p >= 1."""
        return self.p >= 1.0

    def _f(self, u: Array) -> Array:
        # The difference of two powers would cancel to 0 near an exact fit.
        power = 0.5 * self.p
        growth = np.expm1(power * np.log1p(u * u / self.epsilon))
        return np.asarray(self.epsilon**power * growth)

    def _slope(self, u: Array) -> Array:
        return u * self._weight(u)

    def _second(self, u: Array) -> Array:
        v = u * u + self.epsilon
        bend = (self.epsilon + (self.p - 1.0) * (u * u)) / v
        return np.asarray(self.p * v ** (0.5 * self.p - 1.0) * bend)

    def _weight(self, u: Array) -> Array:
        return np.asarray(self.p * (u * u + self.epsilon) ** (0.5 * self.p - 1.0))


@dataclass(frozen=True)
class Cauchy(SeparableLoss):
    """Cauchy (Lorentzian) loss, E = sum log(1 + r^2 / scale^2).

    The Hessian is negative where |r| > scale; training uses the reweighted curvature
    2 / (scale^2 + r^2).

    Parameters
    ----------
    scale : float, default 1
        Residuals beyond it count as outliers; positive and finite.
    """

    scale: float = 1.0

    name = "cauchy"
    principle_1 = (True, "the only stationary point is the exact fit")
    principle_1a = (True, "the Hessian at the exact fit is 2 / scale^2")

    def __post_init__(self) -> None:
        self._check(scale=self.scale)

    @property
    def convex(self) -> bool:
        """False: the Hessian is negative where |r| > scale."""
        return False

    def _f(self, u: Array) -> Array:
        return np.asarray(np.log1p(u * u))

    def _slope(self, u: Array) -> Array:
        return u * self._weight(u)

    def _second(self, u: Array) -> Array:
        w = 1.0 / (1.0 + u * u)
        return 2.0 * (1.0 - u) * (1.0 + u) * w * w

    def _weight(self, u: Array) -> Array:
        return 2.0 / (1.0 + u * u)


@dataclass(frozen=True)
class BlakeZisserman(SeparableLoss):
    """Blake-Zisserman loss, E = sum log(1 + epsilon) - log(exp(-u^2) + epsilon), u = r / scale.

    An outlier costs about log(1 + 1/epsilon), however far it lies. The Hessian is negative there
    (|u| > 1.247 for epsilon = 0.1), and training uses the reweighted curvature. In float64 gradient
    and curvature are exactly 0 for |u| >= 27.3, where exp(-u^2) underflows: such samples do not
    count, and a point where all samples are outliers looks stationary.

    Parameters
    ----------
    epsilon : float, default 0.1
        The smaller, the more an outlier costs; positive and finite.
    scale : float, default 1
        Unit of the residuals; positive and finite.
    """

    epsilon: float = 0.1
    scale: float = 1.0

    name = "blake_zisserman"
    principle_1 = (
        True,
        "the only stationary point is the exact fit, in exact arithmetic; in float64 the "
        "gradient underflows to 0 for residuals of 27.3 scales and more",
    )
    principle_1a = (True, "the Hessian at the exact fit is 2 / ((1 + epsilon) scale^2)")

    def __post_init__(self) -> None:
        self._check(epsilon=self.epsilon, scale=self.scale)

    @property
    def convex(self) -> bool:
        """False: the Hessian is negative at outliers."""
        return False

    @staticmethod
    def _clipped(u: Array) -> Array:
        """Return u within +-1e3: exp(-u^2) is 0 outside, while u^2 times 0 may be NaN."""
        return np.asarray(np.clip(u, -1e3, 1e3))

    def _f(self, u: Array) -> Array:
        e = self.epsilon
        s = self._clipped(u) ** 2
        # The difference of two logarithms would cancel to 0 near an exact fit.
        near = -np.log1p(np.expm1(-np.minimum(s, 1.0)) / (1.0 + e))
        far = np.log1p(e) - np.log(np.exp(-s) + e)
        return np.where(s <= 1.0, near, far)

    def _slope(self, u: Array) -> Array:
        return self._clipped(u) * self._weight(u)

    def _second(self, u: Array) -> Array:
        e = self.epsilon
        s = self._clipped(u) ** 2
        w = np.exp(-s)
        return np.asarray(2.0 * (w / (w + e)) * ((w + e - 2.0 * e * s) / (w + e)))

    def _weight(self, u: Array) -> Array:
        w = np.exp(-(self._clipped(u) ** 2))
        return np.asarray(2.0 * (w / (w + self.epsilon)))


def row_sums(terms: Array) -> Array:
    """Return the sums over the columns, shape (B,)."""
    if terms.shape[1] > FEW:
        return np.asarray(terms.sum(axis=1))
    total: Array = terms[:, 0].copy()  # NumPy adds few columns in the same order, row by row
    for column in range(1, terms.shape[1]):
        total += terms[:, column]
    return total
