"""The report of `critical_point`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from fastggn.analysis.critical.surface import Vector
from fastggn.analysis.infinity.report import MinimumAtInfinity
from fastggn.analysis.plain import plain

Label = Literal[
    "global_minimum", "local_minimum", "strict_saddle", "saddle", "degenerate", "diverging",
    "not_critical",
]  # fmt: skip


@dataclass(frozen=True)
class CriticalPointReport:
    """A point of the loss surface, classified.

    Attributes
    ----------
    label : str
        "global_minimum": an exact fit, or the certificate that `reason` names.
        "local_minimum": positive definite Hessian, or the certificate that `reason` names.
        "strict_saddle": a negative eigenvalue beyond the error bound.
        "saddle": no negative eigenvalue, but measured descent of higher order.
        "degenerate": a positive semi-definite Hessian with zero eigenvalues, undecided.
        "diverging": the gradient tends to zero at infinity only.
        "not_critical": the gradient exceeds the tolerance.
    reason : str
        Why it has this label, in a sentence.
    theta : ndarray, shape (N,)
        The point, after polishing if that was asked for.
    loss, gradient_norm : float
        The objective, and the 2-norm of its gradient g.
    gradient_tolerance, gradient_share : float
        A share of the sizes of the terms, mean_i |J_ij r_i|, up to which a slope counts as zero,
        and the largest share of a slope.
    curvature_along_gradient : float
        |H g| / |g|, 0 where g = 0. Where g is small and this is tiny, theta lies in a flat region,
        not near a critical point (Frye et al. 2021).
    distance : float
        From theta to the stationary point nearby whose Hessian and surroundings gave the label.
    inertia : tuple of (int or None), or None
        Numbers of positive, zero (within the error bound) and negative eigenvalues of the exact
        Hessian. With `method` "lanczos" they are lower bounds, None where there is none. None for
        a point that is not critical, or at a kink.
    inertia_estimate : tuple of int, or None
        With "lanczos": the three counts by stochastic quadrature, an estimate without bound.
    null_dimension : int or None
        Number of zero eigenvalues; None where unknown.
    lowest_eigenvalue : float or None
        With "lanczos" an upper bound of it.
    eigenvalue_bound : float or None
        Error bound of the lowest eigenvalue: eps N |H|, the residuals, and its change up to the
        stationary point.
    eigenvalues, eigenvalue_bounds : ndarray or None
        Ascending, with their error bounds: all with "dense", the lower end with "lanczos".
    descent_direction : ndarray, shape (N,), or None
        Unit tangent of a line or curve along which the loss falls.
    descent_point : ndarray, shape (N,), or None
        A point with a lower loss, measured.
    decrease : float or None
        The fall of the loss there, beyond the rounding error.
    descent_order : float or None
        The loss falls like this power of the distance: 2 at strict saddles.
    third_derivative, fourth_derivative : tuple of (float, float), or None
        Value and error estimate along the direction of descent, or along a null space of
        dimension one, the other directions eliminated.
    polished : str or None
        The outcome of `polish`.
    embedded : str or None
        The narrower network with the same outputs of which the point is an embedding, and the units
        that are copies or do nothing (see `effective_width`).
    at_infinity : MinimumAtInfinity or None
        The verdict of `minimum_at_infinity` for the labels "diverging" and "degenerate", and for
        "not_critical" where slopes are small (a share up to 0.01); "undecided" above 40
        parameters. None with weight decay or gates, and on several ranks.
    method : {"dense", "lanczos", "none"}
    cost : float
        In network evaluations (a forward and a backward pass over all samples), those of
        `at_infinity` left out.
    """

    label: Label
    reason: str
    theta: Vector
    loss: float
    gradient_norm: float
    gradient_tolerance: float
    gradient_share: float = 0.0
    curvature_along_gradient: float = 0.0
    distance: float = 0.0
    inertia: tuple[int | None, int | None, int | None] | None = None
    inertia_estimate: tuple[int, int, int] | None = None
    null_dimension: int | None = None
    lowest_eigenvalue: float | None = None
    eigenvalue_bound: float | None = None
    eigenvalues: Vector | None = None
    eigenvalue_bounds: Vector | None = None
    descent_direction: Vector | None = None
    descent_point: Vector | None = None
    decrease: float | None = None
    descent_order: float | None = None
    third_derivative: tuple[float, float] | None = None
    fourth_derivative: tuple[float, float] | None = None
    polished: str | None = None
    embedded: str | None = None
    at_infinity: MinimumAtInfinity | None = None
    method: str = "none"
    cost: float = 0.0

    def __str__(self) -> str:
        rows = self.rows()
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"{name:<{width}}  {value}" for name, value in rows)

    def rows(self) -> list[tuple[str, str]]:
        """Return the lines of the table, (name, text)."""
        rows = [("label", self.label), ("reason", self.reason), ("loss", f"{self.loss:.10g}")]
        share = f"up to {self.gradient_share:.1e} of its terms"
        zero = f"counts as zero up to {self.gradient_tolerance:.1e}"
        rows.append(("gradient norm", f"{self.gradient_norm:.3e} ({share}; {zero})"))
        if self.polished is not None:
            rows.append(("polished", self.polished))
        if self.distance > 0.0:
            rows.append(("judged", f"at the stationary point {self.distance:.1e} away"))
        if self.embedded is not None:
            rows.append(("embedded", self.embedded))
        if self.at_infinity is not None:
            rows.append(("infinity", str(self.at_infinity)))
        rows += self._spectrum_rows() + self._descent_rows()
        rows.append(("cost", f"{self.cost:.0f} network evaluations ({self.method})"))
        return rows

    def _spectrum_rows(self) -> list[tuple[str, str]]:
        if self.inertia is None:
            return []
        lanczos = self.method == "lanczos"
        counts = [
            "?" if count is None else f"{'>= ' if lanczos else ''}{count}" for count in self.inertia
        ]
        positive, zero, negative = counts
        rows = [("Hessian", f"{positive} positive, {zero} zero, {negative} negative eigenvalues")]
        if self.inertia_estimate is not None:
            p, z, n = self.inertia_estimate
            rows.append(("estimate", f"{p} positive, {z} zero, {n} negative (by quadrature)"))
        sign = "<= " if lanczos else ""
        bound = f"error bound {self.eigenvalue_bound:.1e} (eigenvalues within theirs count as zero)"
        rows.append(("lowest", f"{sign}{self.lowest_eigenvalue:.6e}, {bound}"))
        return rows

    def _descent_rows(self) -> list[tuple[str, str]]:
        rows = []
        if self.decrease is not None:
            power = f"like the power {self.descent_order:.2f} of the distance"
            rows.append(("descent", f"the loss fell by {self.decrease:.3e}, {power}"))
        for name, pair in (("third", self.third_derivative), ("fourth", self.fourth_derivative)):
            if pair is not None:
                rows.append((f"{name} derivative", f"{pair[0]:.6e} +- {pair[1]:.0e}"))
        return rows

    def plot(self) -> Any:
        """Return a matplotlib figure of the eigenvalues, with the zero ones marked."""
        from fastggn.figures.critical import plot_eigenvalues

        return plot_eigenvalues(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as plain values that JSON can hold."""
        return plain(self)
