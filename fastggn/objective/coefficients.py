"""Unknown coefficients of equations as parameters, within bounds by a smooth transformation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


class Coefficients:
    """Values k_j(t_j) of parameters t_j: t itself, or a function with the bounds as its limits.

    ``lower + log(1 + e^t)``, ``upper - log(1 + e^t)``, ``lower + (upper - lower) / (1 + e^-t)``.

    `given` maps names to starts, or to (start, lower, upper), where None or infinity is no bound;
    `start` has the parameters of the starts.
    """

    def __init__(self, given: Mapping[str, Any] | None = None) -> None:
        if given is not None and not isinstance(given, Mapping):
            raise TypeError(
                f"coefficients must be a mapping of names to starts, not {type(given).__name__}"
            )
        self.names = tuple(given or {})
        self.starts: dict[str, float] = {}
        self._bounds: list[tuple[float, float]] = []
        faults = []
        for name, entry in (given or {}).items():
            try:
                start, lower, upper = _checked(entry)
            except (TypeError, ValueError) as error:
                faults.append(f"coefficients[{name!r}] {error}")
                continue
            self.starts[name] = start
            self._bounds.append((lower, upper))
        if faults:
            raise ValueError("\n".join(faults))
        pairs = zip(self.starts.values(), self._bounds, strict=True)
        self.start: FloatArray = np.array([_inverse(k, *bounds) for k, bounds in pairs])

    def __len__(self) -> int:
        """Return K."""
        return len(self.names)

    def bounds(self) -> dict[str, tuple[float, float]]:
        """Return (lower, upper) by name."""
        return dict(zip(self.names, self._bounds, strict=True))

    def at(self, parameters: FloatArray) -> FloatArray:
        """Return the values and their first two derivatives by the parameters: (3, K)."""
        out = np.empty((3, len(self.names)))
        for j, (t, bounds) in enumerate(zip(parameters, self._bounds, strict=True)):
            out[:, j] = _transformed(float(t), *bounds)
        return out


def _checked(entry: Any) -> tuple[float, float, float]:
    """Return start, lower and upper bound, infinite where there is none."""
    parts = entry if isinstance(entry, (tuple, list)) else (entry, None, None)
    if len(parts) != 3:
        raise ValueError(f"must be a start, or (start, lower, upper), got {entry!r}")
    limits = (math.nan, -math.inf, math.inf)
    start, lower, upper = (
        limit if part is None else _number(part) for part, limit in zip(parts, limits, strict=True)
    )
    if not math.isfinite(start) or math.isnan(lower) or math.isnan(upper):
        raise ValueError(f"must be finite, got {entry!r}")
    if not lower < start < upper:
        raise ValueError(f"must start between its bounds, got {entry!r}")
    return start, lower, upper


def _number(part: Any) -> float:
    if isinstance(part, (str, bytes, bool, np.bool_)):
        raise TypeError(f"must be a number, or three of them, not {part!r}")
    try:
        return float(part)
    except (TypeError, ValueError):
        raise TypeError(f"must be a number, or three of them, not {part!r:.60}") from None


def _softplus(t: float) -> tuple[float, float, float]:
    """log(1 + e^t) and two derivatives."""
    e = math.exp(-abs(t))
    slope = 1.0 / (1.0 + e) if t >= 0.0 else e / (1.0 + e)
    return max(t, 0.0) + math.log1p(e), slope, e / (1.0 + e) ** 2


def _transformed(t: float, lower: float, upper: float) -> tuple[float, float, float]:
    if lower == -math.inf and upper == math.inf:
        return t, 1.0, 0.0
    value, slope, bend = _softplus(t)
    if upper == math.inf:
        return lower + value, slope, bend
    if lower == -math.inf:
        return upper - value, -slope, -bend
    width = upper - lower
    low = slope <= 0.5
    inside = lower + width * slope if low else upper - width * _softplus(-t)[1]
    return inside, width * bend, width * bend * (1.0 - 2.0 * slope)


def _inverse(k: float, lower: float, upper: float) -> float:
    if lower == -math.inf and upper == math.inf:
        return k
    if lower > -math.inf and upper < math.inf:
        return math.log((k - lower) / (upper - k))
    gap = k - lower if upper == math.inf else upper - k
    return gap + math.log(-math.expm1(-gap))
