"""Classify a critical point of the loss surface."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike

from fastggn.analysis.critical import infinity
from fastggn.analysis.critical.descent import (
    Descent,
    along_negative_curvature,
    along_null_space,
    along_null_vector,
    along_rays,
    random_rays,
)
from fastggn.analysis.critical.forms import forms_at
from fastggn.analysis.critical.kinks import convex_pieces, judge_kink, unknown_kinks
from fastggn.analysis.critical.manifold import level_manifold
from fastggn.analysis.critical.polishing import polished
from fastggn.analysis.critical.reduction import Directional, Reduction
from fastggn.analysis.critical.report import CriticalPointReport
from fastggn.analysis.critical.residual_certificates import certificates_of
from fastggn.analysis.critical.residual_surface import surface_of
from fastggn.analysis.critical.spectrum import (
    LOWEST,
    Spectrum,
    dense_spectrum,
    inertia_estimate,
    lanczos_spectrum,
    near_stationary,
)
from fastggn.analysis.critical.surface import Surface, Vector
from fastggn.analysis.critical.switches import Switches, switches_at
from fastggn.analysis.infinity.asked import asked
from fastggn.analysis.symmetry import embedding
from fastggn.objective.problem import Problem
from fastggn.objective.residual_problem import ResidualProblem
from fastggn.runtime.errors import as_float_vector, check_positive, unknown_name
from fastggn.runtime.threads import one_pool
from fastggn.training.methods.newton import DENSE_LIMIT
from fastggn.training.step import norm

METHODS = ("auto", "dense", "lanczos")
POLISHED = 1e-13
# The verdict is about the stationary point nearby, at most so many steps away.
SETTLED = 1e-16
SETTLING_STEPS = 20
NEARBY = 1e-3


def critical_point(
    problem: Problem | ResidualProblem,
    theta: ArrayLike,
    *,
    polish: bool = False,
    grad_tol: float = 1e-8,
    method: Literal["auto", "dense", "lanczos"] = "auto",
    seed: int = 0,
) -> CriticalPointReport:
    """Classify theta by its gradient, the exact Hessian, certificates, and a search for descent.

    A positive semi-definite Hessian alone never gives a minimum: the label is "degenerate" unless
    there is a certificate or measured descent of higher order. Where ranks share the samples, all
    ranks must make this call and get the report of rank 0.

    Parameters
    ----------
    problem : Problem or ResidualProblem
        For the latter the only certificate of a global minimum is that all residuals are 0.
    theta : array_like, shape (N,)
    polish : bool
        Solve gradient = 0 from theta first, to a norm of 1e-13 (see `analysis.polish`).
    grad_tol : float
        The gradient counts as zero where ``|g_j| <= grad_tol * mean_i |J_ij r_i|`` for every
        parameter, up to a bound of its rounding errors.
    method : {"auto", "dense", "lanczos"}
        "dense": all eigenvalues; "lanczos": a few at the lower end, by Hessian products. "auto" is
        dense up to 1000 parameters.
    seed : int
        Draws the starts of the Lanczos iterations and of the search for descent.

    Raises
    ------
    TypeError, ValueError
        If theta is no finite vector of length N, the loss or its gradient there is not finite,
        grad_tol is not positive, the method is unknown, or there are fewer than 4 parameters for
        "lanczos".

    Examples
    --------
    >>> import numpy as np
    >>> import fastggn as fg
    >>> X, Y = fg.data.xor()
    >>> problem = fg.Problem(fg.MLP((2, 2, 1)), X, Y - 0.5)
    >>> fg.critical_point(problem, np.zeros(problem.n_params)).label
    'saddle'
    """
    with problem.comm.raise_on_all() as said:
        start = as_float_vector("theta", theta, problem.n_params)
        check_positive("grad_tol", grad_tol)
        if method not in METHODS:
            raise unknown_name("method", method, METHODS)
        if method == "lanczos" and problem.n_params < 4:
            raise ValueError(
                f"method 'lanczos' needs at least 4 parameters, the network has {problem.n_params}"
            )
        said |= {"call": "critical_point", "grad_tol": grad_tol, "method": method}
    surface = surface_of(problem)
    dense = method == "dense" or (method == "auto" and problem.n_params <= DENSE_LIMIT)
    rng = np.random.default_rng(seed)
    with np.errstate(all="ignore"), one_pool():
        return surface.team.lead(
            surface, lambda: _judged(surface, start, polish, grad_tol, dense, rng)
        )


def _judged(
    surface: Surface,
    start: Vector,
    polish: bool,
    grad_tol: float,
    dense: bool,
    rng: np.random.Generator,
) -> CriticalPointReport:
    start = start / surface.units
    loss, gradient = surface.both(start)
    if not np.isfinite(loss) or not np.isfinite(gradient).all():
        raise ValueError(f"theta: the loss there is {loss}, its gradient not finite or too large")
    done = None
    if polish:
        outcome = polished(surface, start, POLISHED)
        start, done = outcome.theta, str(outcome)
    report = _Judge(surface, start, grad_tol, rng).report(dense)
    narrower = None if report.label == "not_critical" else embedding(surface.problem, report.theta)
    facts: dict[str, Any] = {"embedded": narrower, "at_infinity": asked(surface.problem, report)}
    return replace(report, polished=done, cost=surface.cost, **facts)


class _Judge:
    """The decisions about one point, the cheapest first."""

    def __init__(
        self, surface: Surface, theta: Vector, grad_tol: float, rng: np.random.Generator
    ) -> None:
        self.surface = surface
        self._proofs = certificates_of(surface)
        self.theta = self._start = theta
        self.loss, self.gradient = surface.both(theta)
        self.rng = rng
        self._tolerance = float(grad_tol)
        terms, self._errors = surface.gradient_errors(theta)
        shares = np.where(self.gradient == 0.0, 0.0, np.abs(self.gradient) / terms)
        known = np.abs(self.gradient) > self._errors
        self._known_share = float(shares[known].max(initial=0.0))
        slopes = self.gradient * (surface.worth / surface.units)
        self._facts: dict[str, Any] = {
            "theta": surface.weights(theta),
            "loss": self.loss * surface.worth,
            "gradient_norm": norm(slopes),
            "gradient_tolerance": self._tolerance,
            "gradient_share": float(shares.max(initial=0.0)),
        }
        if slopes.any():
            bend = surface.hessian_product(theta, slopes / surface.units) * surface.worth
            self._facts["curvature_along_gradient"] = norm(bend / surface.units) / norm(slopes)
        # A small gradient asks for more: theta must be near a point where it is zero.
        self._zero = bool((np.abs(self.gradient) <= grad_tol * terms + self._errors).all())
        small = norm(self.gradient) <= grad_tol or 0.0 <= self.loss <= grad_tol**2
        self._candidate = self._zero or small

    def _say(self, label: Any, reason: str, descent: Descent | None = None) -> CriticalPointReport:
        if descent is not None:
            self._facts.update(
                descent_direction=descent.direction,
                descent_point=descent.point,
                decrease=descent.decrease,
                descent_order=descent.order,
            )
        # The judgement of `train`, at the point where a run may have ended.
        unsettled = label in ("not_critical", "degenerate") and self.surface.problem.l2 == 0.0
        if unsettled and (why := self.surface.runs_to_infinity(self._start)):
            reason = why if label == "degenerate" else f"{reason}; {why}"
            label = "diverging" if label == "degenerate" else label
        if label in ("local_minimum", "degenerate"):
            reason += self._proofs.LEFT_OUT
        return CriticalPointReport(label=label, reason=reason, **self._facts)

    def report(self, dense: bool) -> CriticalPointReport:
        if found := self.surface.underflow(self.theta):
            return self._say(*found)
        switches = switches_at(self.surface, self.theta)
        if switches is None or len(switches.rows):
            return self._at_kink(switches)
        if not self._candidate:
            return self._not_critical(
                f"the gradient's norm {self._facts['gradient_norm']:.3e} exceeds the tolerance"
            )
        self._settle()
        try:
            spectrum = self._spectrum(dense)
        except np.linalg.LinAlgError as error:
            return self._say("degenerate", f"undecided: {error}")
        stationary = self._zero or near_stationary(
            self.surface, self.theta, self.gradient, self._errors, spectrum
        )
        if stationary and spectrum.counts[2] > 0:
            return self._strict_saddle(spectrum)
        if why := self._proofs.exact_fit(self.surface, self.theta):
            return self._say("global_minimum", why)
        if why := self._at_infinity(spectrum):
            return self._say("diverging", why)
        if why := self._global(stationary, spectrum):
            return self._say("global_minimum", why)
        if not stationary:
            if why := infinity.seen_from_nearer(self.surface, self.theta, self.loss):
                return self._say("diverging", why)
            return self._not_critical("the gradient is small, but zero nowhere near")
        return self._without_negative(spectrum)

    def _not_critical(self, why: str) -> CriticalPointReport:
        share, most = self._facts["gradient_share"], self._tolerance
        ratio = self._facts.get("curvature_along_gradient", 0.0)
        return self._say(
            "not_critical",
            f"{why}: up to {share:.1e} of its terms, tolerance {most:.1e}, |H g| / |g| = "
            f"{ratio:.1e}; train on, or solve gradient = 0 from here (polish=True, --polish)",
        )

    def _settle(self) -> None:
        """Move to the nearby stationary point, up to rounding."""
        nearest = polished(self.surface, self.theta, SETTLED, SETTLING_STEPS)
        if 0.0 < nearest.moved <= NEARBY * (1.0 + norm(self.theta)):
            self._facts["distance"] = norm((nearest.theta - self.theta) * self.surface.units)
            self.theta = nearest.theta
            self.loss, self.gradient = self.surface.both(self.theta)
            terms, self._errors = self.surface.gradient_errors(self.theta)
            limit = self._tolerance * terms + self._errors
            self._zero = bool((np.abs(self.gradient) <= limit).all())

    def _spectrum(self, dense: bool) -> Spectrum:
        surface = self.surface
        if dense:
            spectrum = dense_spectrum(surface, self.theta, self.gradient)
            self._facts.update(inertia=spectrum.counts, null_dimension=spectrum.counts[1])
        else:
            spectrum = lanczos_spectrum(surface, self.theta, self.gradient, self.rng)
            positive, _, negative = spectrum.counts
            estimate = inertia_estimate(surface, self.theta, spectrum.floor, self.rng)
            self._facts.update(inertia=(positive, None, negative), inertia_estimate=estimate)
        self._facts.update(
            lowest_eigenvalue=spectrum.lowest,
            eigenvalue_bound=float(spectrum.bound[0]),
            eigenvalues=spectrum.values,
            eigenvalue_bounds=spectrum.bound,
            method="dense" if dense else "lanczos",
        )
        return spectrum

    def _at_infinity(self, spectrum: Spectrum) -> str | None:
        if self.surface.bounded:
            return None
        if self.surface.lacks_minimum():
            return self.surface.runs_to_infinity(self.theta)
        if why := self._proofs.unreachable_fit(self.surface, self.theta):
            return why
        parts = np.abs(spectrum.vectors.T @ self.gradient)
        known = (parts > np.abs(spectrum.vectors).T @ self._errors).any()
        if (spectrum.complete and known) and (
            why := infinity.escapes_along_newton(self.surface, self.theta, self.gradient, spectrum)
        ):
            return why
        return infinity.saturated_unit(self.surface, self.theta, self.loss)

    def _global(self, stationary: bool, spectrum: Spectrum) -> str | None:
        surface, theta = self.surface, self.theta
        return (
            (self._proofs.convex_problem(surface, spectrum) if stationary else None)
            or self._proofs.nearby_exact_fit(surface, theta)
            or self._proofs.lower_bound(surface, theta, self.loss)
        )

    def _strict_saddle(self, spectrum: Spectrum) -> CriticalPointReport:
        direction = spectrum.vectors[:, 0]
        descent = along_negative_curvature(
            self.surface, self.theta, self.loss, self.gradient, direction, spectrum.lowest
        )
        reason = f"negative eigenvalue {spectrum.lowest:.3e}, beyond the error bound"
        if descent is None:
            self._facts["descent_direction"] = direction
            reason += "; the descent along it is below the rounding error of the loss"
        return self._say("strict_saddle", reason, descent)

    def _without_negative(self, spectrum: Spectrum) -> CriticalPointReport:
        if unknown_kinks(self.surface):
            return self._say("degenerate", "a custom activation may have a kink here")
        switches = switches_at(self.surface, self.theta)
        if switches is not None and convex_pieces(self.surface, self.theta, switches):
            why = "the loss is convex in the products of incoming and outgoing weights around theta"
            return self._say("local_minimum", why)
        if not spectrum.complete:
            return self._by_ritz_values(spectrum)
        if spectrum.counts[1] == 0:
            found = f"lowest eigenvalue {spectrum.lowest:.3e}, error bound {spectrum.bound[0]:.1e}"
            return self._say("local_minimum", f"positive definite Hessian: {found}")
        return self._degenerate(spectrum)

    def _at_kink(self, switches: Switches | None) -> CriticalPointReport:
        surface, theta = self.surface, self.theta
        why = self._proofs.exact_fit(surface, theta) or self._proofs.lower_bound(
            surface, theta, self.loss
        )
        found = judge_kink(surface, theta, switches, self._tolerance, self.rng)
        slopes = found.gradient * (surface.worth / surface.units)
        self._facts.update(
            gradient_norm=norm(slopes), gradient_share=found.share, curvature_along_gradient=0.0
        )
        if why:
            return self._say("global_minimum", why)
        return self._say(found.label, found.reason, found.descent)

    def _by_ritz_values(self, spectrum: Spectrum) -> CriticalPointReport:
        asked = min(LOWEST, self.surface.n_params - 2)
        if len(spectrum.values) < asked and spectrum.norm > 0.0:
            why = f"only {len(spectrum.values)} of {asked} Ritz values converged, none negative"
            return self._say("degenerate", why)
        if spectrum.counts[1] == 0:
            return self._say(
                "local_minimum",
                f"positive definite Hessian by estimate: lowest Ritz value {spectrum.lowest:.3e} "
                "from a random start (an upper bound of the lowest eigenvalue)",
            )
        rays = random_rays(spectrum.null_basis(), self.rng)
        descent = along_rays(self.surface, self.theta, self.loss, rays)
        if descent is not None:
            return self._say("saddle", descent.reason, descent)
        return self._say(
            "degenerate",
            "no negative Ritz value, zero within the error bound among them; no descent along "
            f"{len(rays)} lines of their vectors",
        )

    def _degenerate(self, spectrum: Spectrum) -> CriticalPointReport:
        surface, theta = self.surface, self.theta
        reduction = Reduction(surface, theta, self.gradient, spectrum)
        semi = f"positive semi-definite Hessian, {reduction.dimension} zero eigenvalues"
        null = random_rays(reduction.basis, self.rng)[0]
        lost = infinity.vanishes(surface, theta, self._known_share, null)
        if lost and (why := infinity.seen_from_nearer(surface, theta, self.loss)):
            return self._say("diverging", why)
        clear = surface.analytic and not lost
        if clear and (found := self._by_forms(reduction, spectrum)):
            return found
        if clear and (why := level_manifold(reduction, self.loss, spectrum, self.rng)):
            return self._say("local_minimum", why)
        descent = along_null_space(reduction, self.loss, self.rng)
        if descent is None and not surface.smooth:
            rays = random_rays(reduction.basis, self.rng)
            descent = along_rays(surface, theta, self.loss, rays)
        if descent is not None:
            if surface.analytic:
                self._add_derivatives(reduction.derivatives(descent.direction))
            return self._say("saddle", descent.reason, descent)
        if not clear and surface.analytic:
            return self._say("degenerate", f"{semi}; slopes of saturated units vanish by underflow")
        return self._say("degenerate", f"{semi}; neither descent nor a certificate was found")

    def _by_forms(self, reduction: Reduction, spectrum: Spectrum) -> CriticalPointReport | None:
        """Return a verdict by the derivatives of third and fourth order, or None."""
        bound = float(spectrum.bound[spectrum.null].max(initial=0.0))
        found = forms_at(reduction, bound, self.rng)
        if found is None:
            return None
        self._add_derivatives(found.derivatives)
        if found.positive:
            return self._say(
                "local_minimum",
                f"{reduction.dimension} zero eigenvalues; over their null space, the other "
                "directions eliminated, the third derivatives are zero and the fourth positive, "
                "within their errors",
            )
        assert found.direction is not None
        descent = along_null_vector(reduction, found.direction, self.loss)
        if descent := descent or along_null_space(reduction, self.loss, self.rng):
            return self._say("saddle", descent.reason, descent)
        self._facts["descent_direction"] = found.direction
        name = "third derivative is not zero" if found.order == 3 else "fourth is negative"
        return self._say(
            "saddle",
            "no eigenvalue below its bound, but along a null vector, the other directions "
            f"eliminated, the {name} beyond its error; the descent is below the loss's rounding",
        )

    def _add_derivatives(self, d: Directional) -> None:
        self._facts.update(
            third_derivative=(d.third, d.third_error), fourth_derivative=(d.fourth, d.fourth_error)
        )
