"""The verdict of `minimum_at_infinity`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fastggn.analysis.plain import plain

FloatArray = NDArray[np.float64]
Label = Literal["minimum_at_infinity", "finite", "undecided"]


@dataclass(frozen=True, eq=False)
class MinimumAtInfinity:
    """The verdict on a point.

    Attributes
    ----------
    label : {"minimum_at_infinity", "finite", "undecided"}
        "finite": Newton steps end at a stationary point nearby.
    kind : {"channel", "exponential", "linearisation", "saturation", "separation"} or None
        "channel": pairs of units merge and become gated units. "exponential": units go into the
        tail of their activation, with outgoing weights that make up for it. "separation": classes.
    units : tuple of tuple of int
        (layer, unit) or (layer, first, second), from 1.
    loss : float
        Of the limit network, or NaN.
    rate, predicted : float
        The loss above the limit falls like separation^rate (2 is foreseen for channels, 1 for
        exponential units, twice that towards an exact fit) or, for saturation and separation, like
        exp(-rate * scale), with the scale 1 at theta; measured and foreseen. NaN without limit.
    separations, losses, norms : ndarray, shape (K,)
        Finite networks on the way: separations (or 1 / scale), their losses and |theta|.
    reason : str
    limit : ndarray, shape (N,), or None
        The limit network; `fastggn.analysis.infinity.families` says how it is stored.
    """

    label: Label
    kind: str | None
    units: tuple[tuple[int, ...], ...]
    loss: float
    rate: float
    predicted: float
    reason: str
    separations: FloatArray = field(default_factory=lambda: np.zeros(0))
    losses: FloatArray = field(default_factory=lambda: np.zeros(0))
    norms: FloatArray = field(default_factory=lambda: np.zeros(0))
    limit: FloatArray | None = None

    def __str__(self) -> str:
        if self.label != "minimum_at_infinity":
            return f"{self.label}: {self.reason}"
        scaled = self.kind in ("saturation", "separation")
        law = f"exp(-{self.rate:.3g} scale)" if scaled else f"separation^{self.rate:.3g}"
        return (
            f"minimum at infinity, loss {self.loss:.8g}: {self.kind}, {self.reason}; the loss "
            f"above it falls like {law}"
        )

    def plot(self) -> Any:
        """Return a matplotlib figure of losses above the limit, and of |theta|, on the way."""
        from fastggn.figures.critical import plot_way_to_infinity

        return plot_way_to_infinity(self)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, None for NaN."""
        values = plain(self)
        return {name: None if value != value else value for name, value in values.items()}
