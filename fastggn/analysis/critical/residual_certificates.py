"""Certificates of a global minimum by kind of problem: of outputs, or of residuals.

A residual binds derivatives of the network and coefficients. Fits of outputs at samples, floors of
equal inputs and optima of linear maps say nothing about it.
"""

from __future__ import annotations

from typing import Protocol

from fastggn.analysis.critical import certificates
from fastggn.analysis.critical.infinity import saturated_units
from fastggn.analysis.critical.residual_surface import ResidualSurface
from fastggn.analysis.critical.spectrum import Spectrum
from fastggn.analysis.critical.surface import Surface, Vector


class Certificates(Protocol):
    """Functions that return why theta is a global minimum, or tends to infinity, or None."""

    LEFT_OUT: str

    def exact_fit(self, surface: Surface, theta: Vector, /) -> str | None: ...  # noqa: D102
    def unreachable_fit(self, surface: Surface, theta: Vector, /) -> str | None: ...  # noqa: D102
    def convex_problem(  # noqa: D102
        self, surface: Surface, spectrum: Spectrum, /
    ) -> str | None: ...
    def nearby_exact_fit(self, surface: Surface, theta: Vector, /) -> str | None: ...  # noqa: D102
    def lower_bound(  # noqa: D102
        self, surface: Surface, theta: Vector, loss: float, /
    ) -> str | None: ...


class ResidualCertificates:
    """That all residuals are 0 is the only certificate."""

    LEFT_OUT = "; global or not is undecided: only residuals that are all 0 would show it"

    def exact_fit(self, surface: Surface, theta: Vector) -> str | None:
        """Return why theta is a global minimum, if every residual is 0 within rounding."""
        assert isinstance(surface, ResidualSurface)
        # Saturated units may stand for a limit that finite weights do not reach.
        if surface.equations.l2 > 0.0 or not surface.exact(theta):
            return None
        if saturated_units(surface, theta):
            return None
        return "exact fit: every residual is 0, the minimum of its loss, within rounding"

    def unreachable_fit(self, surface: Surface, theta: Vector) -> str | None:
        """Return None: limits of outputs are not those of residuals."""
        return None

    def convex_problem(self, surface: Surface, spectrum: Spectrum) -> str | None:
        """Return None: no equation is known to be linear in theta."""
        return None

    def nearby_exact_fit(self, surface: Surface, theta: Vector) -> str | None:
        """Return None: the theorem is about outputs."""
        return None

    def lower_bound(self, surface: Surface, theta: Vector, loss: float) -> str | None:
        """Return None: the bounds are of outputs at equal inputs, and of linear maps."""
        return None


def certificates_of(surface: Surface) -> Certificates:
    """Return the certificates for a surface."""
    return ResidualCertificates() if isinstance(surface, ResidualSurface) else certificates
