"""Random initial weights of one layer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Scheme = Callable[[np.random.Generator, int, int, str, bool], FloatArray]


def _with_bias(core: FloatArray, bias: FloatArray | None) -> FloatArray:
    return core if bias is None else np.column_stack([core, bias])


def _zero_bias(core: FloatArray, has_bias: bool) -> FloatArray:
    return _with_bias(core, np.zeros(core.shape[0]) if has_bias else None)


def glorot(
    rng: np.random.Generator, units: int, inputs: int, activation: str, has_bias: bool
) -> FloatArray:
    """Draw uniformly in +-sqrt(6 / (inputs + units)); zero biases (Glorot and Bengio 2010)."""
    limit = np.sqrt(6.0 / (inputs + units))
    return _zero_bias(rng.uniform(-limit, limit, (units, inputs)), has_bias)


def he(
    rng: np.random.Generator, units: int, inputs: int, activation: str, has_bias: bool
) -> FloatArray:
    """Draw normal weights of variance 2 / inputs; zero biases (He et al. 2015)."""
    return _zero_bias(rng.normal(0.0, np.sqrt(2.0 / inputs), (units, inputs)), has_bias)


def lecun(
    rng: np.random.Generator, units: int, inputs: int, activation: str, has_bias: bool
) -> FloatArray:
    """Draw normal weights of variance 1 / inputs; zero biases (LeCun et al. 1998)."""
    return _zero_bias(rng.normal(0.0, np.sqrt(1.0 / inputs), (units, inputs)), has_bias)


# Half the length of the interval of z in which a unit is active, as in initnw of MATLAB; other
# activations are treated as tanh.
_ACTIVE_HALF_WIDTH = {"sigmoid": 4.0, "tanh": 2.0}


def nguyen_widrow(
    rng: np.random.Generator, units: int, inputs: int, activation: str, has_bias: bool
) -> FloatArray:
    """Spread the active regions of the units over [-1, 1]^inputs (Nguyen and Widrow 1990)."""
    # Weights of this norm in random directions, and biases evenly spaced over the interval.
    magnitude = 0.7 * units ** (1.0 / inputs)
    directions = rng.uniform(-1.0, 1.0, (units, inputs))
    norms = np.linalg.norm(directions, axis=1, keepdims=True)
    half = _ACTIVE_HALF_WIDTH.get(activation, 2.0)
    core = half * magnitude * directions / np.where(norms > 0.0, norms, 1.0)
    if not has_bias:
        return np.asarray(core)
    spread = np.linspace(-1.0, 1.0, units) if units > 1 else np.zeros(1)
    return _with_bias(core, half * magnitude * spread * np.sign(core[:, 0]))


def normal(
    rng: np.random.Generator, units: int, inputs: int, activation: str, has_bias: bool
) -> FloatArray:
    """Draw independent standard normal weights and biases."""
    return rng.normal(0.0, 1.0, (units, inputs + (1 if has_bias else 0)))


SCHEMES: dict[str, Scheme] = {
    "glorot": glorot,
    "he": he,
    "lecun": lecun,
    "nguyen_widrow": nguyen_widrow,
    "normal": normal,
}
