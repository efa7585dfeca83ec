"""The loss surface of a problem: functions of theta with a count of their cost."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse.linalg import LinearOperator

from fastggn.analysis.critical.gradient_error import terms_and_errors
from fastggn.network.losses.output_weights import OutputWeighted
from fastggn.network.losses.separable import Huber, SeparableLoss
from fastggn.objective.problem import Problem
from fastggn.runtime.cached import cached_property
from fastggn.runtime.comm import comm_of
from fastggn.runtime.rank0 import Team, everywhere
from fastggn.training.control.infinity import runs_to_infinity
from fastggn.training.control.separation import lacks_minimum
from fastggn.training.step import norm

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]

EPS = float(np.finfo(np.float64).eps)
SAFETY = 32.0  # rounding errors of a value, in units of its terms' last place
TINY = 1e-290  # numbers below are no longer relatively exact
UNSEEN = 1e-60  # a loss below this share of its unit is beyond the range of units
# An identity that holds at random points of an analytic piece holds on all of it.
ANALYTIC = {
    "identity",
    "sigmoid",
    "tanh",
    "softplus",
    "bent_identity",
    "square",
    "sin",
    "swish",
    "gelu",
}
PIECEWISE_LINEAR = {"relu", "leaky_relu"}
ANALYTIC_LOSSES = {
    "squared", "softmax_cross_entropy", "logistic", "cauchy", "blake_zisserman", "smooth_lp",
    "huber",
}  # fmt: skip


class Surface:
    """The objective of a problem as a function of theta, both in units of their own.

    A point of the surface is theta / `units`, and its loss is that of the problem / `worth`.
    `cost` counts network evaluations, one forward and backward pass over all samples: a gradient
    counts 1, a loss 1/2, a Hessian product 2, a dense Hessian N. Where ranks share the samples,
    rank 0 decides on each evaluation, and all ranks of `team` do it.
    """

    def __init__(self, problem: Problem, units: Vector | None = None, worth: float = 1.0) -> None:
        self.problem = problem
        self.units = np.ones(problem.n_params) if units is None else units
        self.worth = worth
        self.comm = comm_of(problem)
        self.team = Team(self.comm)
        self.n_params = problem.n_params
        self.cost = 0.0
        self._operator: tuple[Vector, Any] | None = None

    def weights(self, theta: Vector) -> Vector:
        """Return the weights of the problem at a point of the surface."""
        return theta * self.units

    def _scaled(self, matrix: Matrix) -> Matrix:
        return matrix * self.units[:, None] * (self.units / self.worth)

    @everywhere
    def loss(self, theta: Vector) -> float:
        """Return the objective; infinite where it or theta is not finite."""
        self.cost += 0.5
        weights = self.weights(theta)
        if not np.isfinite(weights).all():
            return np.inf
        value = self.problem.loss(weights) / self.worth
        return value if np.isfinite(value) else np.inf

    @everywhere
    def gradient(self, theta: Vector) -> Vector:
        """Return the gradient, shape (N,)."""
        self.cost += 1.0
        return self.problem.gradient(self.weights(theta)) * (self.units / self.worth)

    @everywhere
    def both(self, theta: Vector) -> tuple[float, Vector]:
        """Return the objective and its gradient; not finite where theta is not."""
        self.cost += 1.0
        weights = self.weights(theta)
        if not np.isfinite(weights).all():
            return np.inf, np.full_like(theta, np.nan)
        point = self.problem.at(weights)
        return float(point.loss) / self.worth, point.gradient * (self.units / self.worth)

    @everywhere
    def runs_to_infinity(self, theta: Vector) -> str | None:
        """Return why the loss falls from theta towards an infimum at infinity, or None."""
        self.cost += 1.0
        return runs_to_infinity(self.problem, self.problem.at(self.weights(theta)))

    @everywhere
    def lacks_minimum(self) -> bool | None:
        """Return whether no finite weights minimise the loss; None where that is not known."""
        return lacks_minimum(self.problem)

    @everywhere
    def hessian(self, theta: Vector) -> Matrix:
        """Return the exact Hessian, shape (N, N)."""
        self.cost += self.n_params
        return self._scaled(self.problem.hessian(self.weights(theta)))

    @everywhere
    def ggn_norm(self, theta: Vector) -> float:
        """Return the Frobenius norm of the GGN."""
        return norm(self._scaled(self.problem.ggn(self.weights(theta))).ravel())

    @everywhere
    def gradient_errors(self, theta: Vector) -> tuple[Vector, Vector]:
        """Return mean_i |J_ij r_i| + l2 |theta_j|, and bounds of the gradient's rounding."""
        self.cost += 2.0
        terms, errors = terms_and_errors(self.problem, self.weights(theta))
        return terms * (self.units / self.worth), errors * (self.units / self.worth)

    @everywhere
    def hessian_product(self, theta: Vector, v: Vector) -> Vector:
        """Return the product of the exact Hessian with a vector, shape (N,)."""
        self.cost += 2.0
        if self._operator is None or not np.array_equal(self._operator[0], theta):
            self._operator = theta.copy(), self.problem.hessian_operator(self.weights(theta))
        return np.asarray(self._operator[1].matvec(self.units * v) * (self.units / self.worth))

    def operator(self, theta: Vector) -> LinearOperator:
        """Return the exact Hessian as an operator whose products are counted."""

        def product(v: Vector) -> Vector:
            return self.hessian_product(theta, np.ravel(v))

        shape = (self.n_params, self.n_params)
        return LinearOperator(shape, matvec=product, rmatvec=product, dtype=np.float64)

    @everywhere
    def rounding(self, theta: Vector) -> float:
        """Return a generous estimate of the rounding error of the loss at theta."""
        self.cost += 0.5
        problem, theta = self.problem, self.weights(theta)
        outputs, loss = problem.outputs(theta), problem.loss_function
        slope = np.abs(loss.gradient(outputs, problem.loss_targets))
        size = np.maximum(np.abs(outputs), np.abs(problem.targets))
        terms = loss.value(outputs, problem.loss_targets) + (slope * size).sum(axis=1)
        weights = problem.relative_weights
        decay = 0.5 * problem.l2 * float(theta @ theta)  # at least the penalty
        mean = self.comm.total(float(np.sum(weights * terms))) / problem.n_samples
        return SAFETY * EPS * (mean + decay) / self.worth

    @everywhere
    def output_rounding(self, theta: Vector) -> float:
        """Return a generous estimate of the rounding error of one output at theta."""
        self.cost += 0.5
        problem, theta = self.problem, self.weights(theta)
        below = np.abs(problem.layer_outputs(theta)[-2])
        last = np.abs(problem.network.unpack(theta)[-1])
        terms = max((last @ below).max(initial=0.0), np.abs(problem.targets).max(initial=0.0))
        return SAFETY * EPS * sum(problem.network.widths) * self.comm.largest(float(terms))

    def misses(self, outputs: Matrix) -> Matrix:
        """Return |F - Y|, shape (T, n_L), 0 for targets without weight."""
        problem, n = self.problem, self.problem.n_outputs
        counted = np.broadcast_to(problem.relative_weights[:, None] > 0.0, outputs.shape)
        if isinstance(problem.loss_function, OutputWeighted):
            counted = counted & (problem.loss_targets[:, n:] > 0.0)
        return np.where(counted, np.abs(outputs - problem.targets), 0.0)

    @everywhere
    def underflow(self, theta: Vector) -> tuple[str, str] | None:
        """Return label and reason where all slopes of the loss, or its values, underflow."""
        if not isinstance(self.problem.loss_function, SeparableLoss):
            return None  # the slope may be zero far from the targets, as at the entropy floor
        problem, error = self.problem, self.output_rounding(theta)
        outputs, targets = problem.outputs(self.weights(theta)), problem.loss_targets
        missed = (self.misses(outputs) > error).any(axis=1)
        slope = np.abs(problem.loss_function.gradient(outputs, targets))[missed]
        value = problem.loss_function.value(outputs, targets)[missed]
        any_missed = self.comm.any(bool(missed.any()))
        if not any_missed or problem.l2 > 0.0:
            return None
        if self.comm.largest(float(slope.max(initial=0.0))) < TINY:
            return "not_critical", "the slope of the loss underflows at all samples that it misses"
        if self.comm.largest(float(value.max(initial=0.0))) < max(TINY, UNSEEN * self.worth):
            return "degenerate", "the loss underflows: scale the targets"
        return None

    @property
    def bounded(self) -> bool:
        """Whether the loss tends to infinity with theta."""
        return self.problem.l2 > 0.0 and self.problem.penalize_biases

    @cached_property
    def smooth(self) -> bool:
        """Whether the activations and the loss are twice continuously differentiable."""
        if self.problem.gated:
            hidden = 2
        else:
            hidden = min((a.smoothness for a in self.problem.network.activations[:-1]), default=2)
        output = self.problem.network.activations[-1].smoothness
        return min(hidden, output) >= 2 and self.bend is None

    @cached_property
    def bend(self) -> float | None:
        """The size of a residual at which the second derivative of the loss jumps, or None."""
        loss = self.problem.loss_function
        loss = loss.unweighted if isinstance(loss, OutputWeighted) else loss
        return loss.delta if isinstance(loss, Huber) else None

    @cached_property
    def analytic(self) -> bool:
        """Whether the loss is an analytic function of theta on each of its smooth pieces."""
        used = self.problem.network.activations
        if self.problem.gated:
            used = used[-1:]
        names = {activation.name for activation in used}
        loss = self.problem.loss_function.name.removeprefix("weighted ")
        return names <= ANALYTIC | PIECEWISE_LINEAR and loss in ANALYTIC_LOSSES

    @property
    def used(self) -> NDArray[np.bool_]:
        """Which of this process's samples have a weight, shape (T,)."""
        return self.problem.relative_weights > 0.0

    def preactivations_by_layer(self, theta: Vector) -> list[Matrix]:
        """Return z_1..z_L at this process's samples, shapes (n_l, T)."""
        self.cost += 0.5
        net, theta = self.problem.network, self.weights(theta)
        out = []
        phis = self.problem.layer_outputs(theta)[:-1]
        for number, (weights, phi) in enumerate(zip(net.unpack(theta), phis, strict=True)):
            fixed = 0.0 if isinstance(net.bias, str) else net.bias[number][:, None]
            out.append(weights @ phi - fixed)
        return out

    def _kinked(self, theta: Vector) -> Vector:
        """Return what changes sign at kinks, at this process's samples, in one vector."""
        if self.smooth:
            return np.zeros(0)
        net = self.problem.network
        gated = self.problem.gated
        parts = [
            z.ravel()
            for number, z in enumerate(self.preactivations_by_layer(theta))
            if net.activations[number].smoothness < 2 and not (gated and number < net.n_layers - 1)
        ]
        if self.bend is not None:
            misses = self.misses(self.problem.outputs(self.weights(theta)))
            parts.append(np.ravel(misses - self.bend))
        return np.concatenate(parts) if parts else np.zeros(0)

    @everywhere
    def same_piece(self, theta: Vector, other: Vector) -> bool:
        """Return whether all units with kinks stand on the same side at both points."""
        if self.smooth:
            return True
        a, b = self._kinked(theta), self._kinked(other)
        return not self.comm.any(bool(((a > 0.0) != (b > 0.0)).any()))
