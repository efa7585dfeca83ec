"""The loss surface of equations: rounding errors and pieces of residuals, without outputs."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from fastggn.analysis.critical.surface import (
    ANALYTIC,
    ANALYTIC_LOSSES,
    EPS,
    SAFETY,
    TINY,
    Matrix,
    Surface,
    Vector,
)
from fastggn.analysis.critical.units import units_of
from fastggn.network.losses.separable import Huber
from fastggn.objective.problem import Problem
from fastggn.objective.residual_problem import ResidualProblem
from fastggn.runtime.rank0 import everywhere
from fastggn.training.step import norm

PROBES = 8  # random signs of the roundings of the weights
NEAR = 1e-10  # a residual counts as at the bend of its loss up to this share
USUAL_LOSS = 10  # losses within these powers of two of 1 stay as they are

Mask = NDArray[np.bool_]


class ResidualSurface(Surface):
    """The objective of a `ResidualProblem` as a function of theta.

    What needs outputs at samples (targets, exact fits of outputs, lower bounds) is not here.
    Activations are smooth, so that only the Huber loss has pieces.
    """

    def __init__(self, problem: ResidualProblem, worth: float = 1.0) -> None:
        _refuse_without_curvature(problem)
        super().__init__(cast(Problem, problem), worth=worth)
        self.equations = problem
        self._bends = [loss.delta if isinstance(loss, Huber) else np.inf
                       for loss in (part.loss for part in problem.terms)]  # fmt: skip
        net, scaler = problem.network, problem.input_scaler
        points = [part.source.rows(0, part.n_samples) for part in problem.terms]
        X = np.concatenate(points)
        X = X if scaler is None else scaler.apply(X)
        sites = Problem(net, X, np.zeros((len(X), net.n_outputs)), comm=problem.comm)
        self._sites = Surface(sites)

    @property
    def smooth(self) -> bool:
        """No unit has a kink."""
        return True

    @property
    def bend(self) -> None:
        """Bends of losses belong to terms; see `underflow`."""
        return

    @property
    def analytic(self) -> bool:
        """Whether activations, losses and residuals are analytic on each smooth piece."""
        names = {activation.name for activation in self.equations.network.activations}
        terms = self.equations.terms
        known = all(part.loss.name in ANALYTIC_LOSSES and part.by_rules for part in terms)
        return names <= ANALYTIC and known

    @property
    def used(self) -> Mask:
        """All points count as if they had a weight."""
        return self._sites.used

    def preactivations_by_layer(self, theta: Vector) -> list[Matrix]:
        """Return z_1..z_L at this process's points, shapes (n_l, T)."""
        self.cost += 0.5
        own = self.weights(theta)[: self.equations.network.n_params]
        return self._sites.preactivations_by_layer(own)

    @everywhere
    def gradient_errors(self, theta: Vector) -> tuple[Vector, Vector]:
        """Return mean_i |J_ij r_i| + l2 |theta_j|, and estimates of the gradient's rounding."""
        # A rounding of a sum acts like one of its weights: with signs at random, H (theta o signs)
        # is what roundings of all weights do to the gradient.
        self.cost += 2.0 + 2.0 * PROBES
        problem, weights = self.equations, self.weights(theta)
        sizes, rounding = self.sizes(weights)
        signs = np.random.default_rng(0).choice([-1.0, 1.0], (PROBES, weights.size))
        moved = problem.hessian_operator(weights) @ (signs * weights).T
        spread = np.sqrt(np.square(moved).mean(axis=1))
        errors = np.nan_to_num(SAFETY * EPS * (spread + rounding + sizes), nan=np.inf)
        scale = self.units / self.worth
        return sizes * scale, errors * scale

    def sizes(self, weights: Vector) -> tuple[Vector, Vector]:
        """Return mean_i |J_ij r_i| + l2 |theta_j|, and the part of the rounding of r over eps."""
        point = self.equations.at(weights)
        terms, rounding = self.equations._objective.slope_sizes(point.rows)
        decay = np.abs(point.decay * weights)
        return terms + decay, rounding + decay

    @everywhere
    def rounding(self, theta: Vector) -> float:
        """Return a generous estimate of the rounding error of the loss at theta."""
        self.cost += 1.5
        problem, weights = self.equations, self.weights(theta)
        slopes, sizes = problem.loss_slopes(weights), problem.residual_sizes(weights)
        own = sum(float(np.sum(np.abs(s) * size)) for s, size in zip(slopes, sizes, strict=True))
        point = problem.at(weights)
        terms = float(point.loss) + self.comm.total(own)
        return SAFETY * EPS * (terms + norm(self.sizes(weights)[0] * weights)) / self.worth

    @everywhere
    def residuals(self, theta: Vector) -> tuple[list[Matrix], list[Mask]]:
        """Return the residuals of each term, and which of them are not 0 within rounding."""
        self.cost += 0.5
        problem, weights = self.equations, self.weights(theta)
        found, sizes = problem.residuals(weights), problem.residual_sizes(weights)
        counted = [w[:, None] > 0.0 for w in problem.point_weights()]
        missed = [
            on & ~(np.abs(r) <= SAFETY * EPS * size)
            for r, size, on in zip(found, sizes, counted, strict=True)
        ]
        return found, missed

    @everywhere
    def exact(self, theta: Vector) -> bool:
        """Whether every residual is 0 within the rounding of its terms."""
        return not self.comm.any(any(bool(mask.any()) for mask in self.residuals(theta)[1]))

    @everywhere
    def underflow(self, theta: Vector) -> tuple[str, str] | None:
        """Return label and reason where slopes underflow, or residuals stand at a bend."""
        found, missed = self.residuals(theta)
        at_bend, largest, any_missed = False, 0.0, False
        together = zip(self.equations.terms, found, missed, self._bends, strict=True)
        for part, r, mask, bend in together:
            slopes = np.abs(part.loss.gradient(r, np.zeros_like(r)))[mask]
            largest = max(largest, float(slopes.max(initial=0.0)))
            any_missed = any_missed or bool(mask.any())
            at_bend = at_bend or bool((np.abs(np.abs(r) - bend) <= NEAR * bend).any()
                                      if np.isfinite(bend) else False)  # fmt: skip
        if self.comm.any(at_bend):
            return "degenerate", (
                "a residual stands at the bend of its Huber loss, where the second derivative jumps"
            )
        if not self.comm.any(any_missed) or self.equations.l2 > 0.0:
            return None
        if self.comm.largest(largest) < TINY:
            return "not_critical", "the slope of the loss underflows at all residuals but zeros"
        return None

    @everywhere
    def same_piece(self, theta: Vector, other: Vector) -> bool:
        """Return whether no residual is on another side of its loss's bend."""
        if not np.isfinite(self._bends).any():
            return True
        sides = [
            [np.abs(r) > bend for r, bend in zip(self.residuals(at)[0], self._bends, strict=True)]
            for at in (theta, other)
        ]
        return not self.comm.any(any(bool((a != b).any()) for a, b in zip(*sides, strict=True)))


def surface_of(problem: Problem | ResidualProblem, *, scaled: bool = True) -> Surface:
    """Return the surface of a problem, in units of its own if `scaled`."""
    if isinstance(problem, ResidualProblem):
        return ResidualSurface(problem, _worth_of(problem) if scaled else 1.0)
    return Surface(problem, *units_of(problem)) if scaled else Surface(problem)


def _worth_of(problem: ResidualProblem) -> float:
    """Return the unit of the loss, a power of two near that of a network that is 0."""
    size = problem.at(np.zeros(problem.n_params)).loss_scales()[1]
    if not 0.0 < size < np.inf:
        return 1.0
    exponent = int(np.round(np.log2(size)))
    return 1.0 if abs(exponent) <= USUAL_LOSS else float(2.0**exponent)


def _refuse_without_curvature(problem: ResidualProblem) -> None:
    """Raise TypeError for a term without an exact Hessian."""
    start: Any = problem._objective.coefficients.starts.values()
    k = np.array([float(value) for value in start])
    for number, part in enumerate(problem.terms):
        if part.n_samples == 0:
            continue
        x = part.source.rows(0, 1)
        channels = np.full((1, problem.n_outputs, len(part.channels)), 0.5)
        try:
            part.curvature(x, channels, k, np.ones((1, part.n_residuals)))
        except TypeError as error:
            raise TypeError(
                f"terms[{number}] has no exact Hessian: second derivatives of its residual come "
                f"from its jacobian=, in which {error}"
            ) from error
