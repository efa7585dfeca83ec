"""Certificates of a global minimum, each a theorem whose hypotheses are checked."""

from __future__ import annotations

import numpy as np
from scipy.sparse.linalg import lsqr

from fastggn.analysis.critical.surface import EPS, SAFETY, Matrix, Surface, Vector
from fastggn.analysis.rank.duplicates import find_duplicates
from fastggn.losses.separable import SeparableLoss
from fastggn.training.moves import norm
from fastggn.training.newton import DENSE_LIMIT

__all__ = ["convex_problem", "exact_fit", "lower_bound", "nearby_exact_fit", "unreachable_fit"]

# How near an exact fit must lie for theta to count as one, over 1 + |theta|.
NEARBY = 1e-4
GAUSS_NEWTON_STEPS = 8
# Open ranges of output activations: targets on their ends are reached at infinity only.
RANGES = {"sigmoid": (0.0, 1.0), "tanh": (-1.0, 1.0), "softsign": (-1.0, 1.0)}
LARGEST_DESIGN = 2_000_000  # entries of X that the lower bounds copy


def _zero_at_targets(surface: Surface) -> bool:
    """Whether the loss has its minimum 0 at F = Y, and there only as far as is used here."""
    problem = surface.problem
    loss, targets = problem.loss_function, problem.targets
    if isinstance(loss, SeparableLoss):
        return True
    if loss.name in ("softmax_cross_entropy", "logistic") or not loss.convex:
        return False
    value, slope = loss.value(targets, targets), loss.gradient(targets, targets)
    return bool((value == 0.0).all() and (slope == 0.0).all())


def _attained(surface: Surface) -> bool:
    """Whether finite outputs reach the infimum 0 of the loss."""
    problem = surface.problem
    targets = problem.targets
    used = targets[problem.relative_weights > 0.0]
    if problem.loss_function.name == "softmax_cross_entropy":
        inside = bool((used > 0.0).all())
    elif problem.loss_function.name == "logistic":
        inside = bool(((used > 0.0) & (used < 1.0)).all())
    else:
        inside = True
    low, high = RANGES.get(problem.network.activations[-1].name, (-np.inf, np.inf))
    if problem.network.activations[-1].name == "softplus":
        low = 0.0
    return inside and bool(((used > low) & (used < high)).all())


def _is_zero(surface: Surface, theta: Vector) -> bool:
    """Whether the loss is 0 within the rounding of the outputs."""
    problem = surface.problem
    if problem.l2 != 0.0:
        return False
    error = surface.output_rounding(theta)
    outputs, targets = problem.outputs(theta), problem.targets
    surface.cost += 0.5
    weights = problem.relative_weights
    if _zero_at_targets(surface):
        return bool((np.abs(outputs - targets).max(axis=1)[weights > 0.0] <= error).all())
    if not problem.loss_function.convex:
        return False
    # Convex: its gradient by the outputs is 0 at a minimum only.
    slope = np.abs(problem.loss_function.gradient(outputs, targets)).max(axis=1)
    values = problem.loss_function.value(outputs, targets)
    both = (slope <= error) & (values <= error * error + SAFETY * EPS)
    return bool(both[weights > 0.0].all())


def exact_fit(surface: Surface, theta: Vector) -> str | None:
    """Return why theta is a global minimum, if every sample is fitted within rounding."""
    if _attained(surface) and _is_zero(surface, theta):
        return "exact fit: every sample's loss is 0, its minimum, within rounding"
    return None


def unreachable_fit(surface: Surface, theta: Vector) -> str | None:
    """Return why theta tends to infinity, if its loss is 0 and no finite weights reach 0."""
    if not _attained(surface) and _is_zero(surface, theta):
        return (
            "the loss is 0 within rounding, but its infimum is not attained by finite weights "
            "(targets at the end of the range)"
        )
    return None


def nearby_exact_fit(surface: Surface, theta: Vector) -> str | None:
    """Return why theta is a global minimum, if Gauss-Newton steps lead to an exact fit nearby.

    Where the gradient is zero and J has full row rank, the residual is zero (pointwise form of
    Shen 2018, Theorem 1). Up to the tolerance of the gradient this is decided by doing it: a
    few minimum-norm steps that end, a short way off, in a residual of rounding errors.
    """
    problem = surface.problem
    if problem.l2 != 0.0 or not (_attained(surface) and _zero_at_targets(surface)):
        return None
    here, limit = theta, NEARBY * (1.0 + norm(theta))
    for _ in range(GAUSS_NEWTON_STEPS):
        residual = (problem.outputs(here) - problem.targets).ravel()
        jacobian = problem.jacobian(here)
        surface.cost += 2.0
        if problem.n_params <= DENSE_LIMIT and residual.size * problem.n_params <= 10_000_000:
            step = np.linalg.lstsq(jacobian.to_dense(), residual, rcond=1e-12)[0]
            surface.cost += problem.n_outputs
        else:
            found = lsqr(jacobian, residual, atol=1e-14, btol=1e-14)
            step, surface.cost = found[0], surface.cost + 2.0 * found[2]
        here = here - step
        distance = norm(here - theta)
        if not distance <= limit:
            return None
        if _is_zero(surface, here):
            rank = problem.jacobian(here).rank()
            full = " = T n_L: no suboptimal point has so much" if rank == residual.size else ""
            return f"exact fit at a distance of {distance:.1e} (rank of J {rank}{full})"
    return None


def convex_problem(surface: Surface) -> str | None:
    """Return why every stationary point is a global minimum, if the problem is convex."""
    problem = surface.problem
    if (
        problem.network.n_layers == 1
        and problem.network.activations[-1].name == "identity"
        and problem.loss_function.convex
    ):
        return (
            f"convex problem: one layer, identity output, {problem.loss_function.name} loss; "
            "every stationary point is a global minimum"
        )
    return None


def lower_bound(surface: Surface, theta: Vector, loss: float) -> str | None:
    """Return why theta is a global minimum, if its loss equals a lower bound for all theta.

    The optimum over all affine maps of the rank that the widths allow, for a network of identity
    activations and the squared loss (its global minimum, see `_linear_optimum`); and the floor
    that equal inputs with different targets imply, for any network.
    """
    problem = surface.problem
    entries = problem.n_samples * (problem.network.n_inputs + problem.n_outputs)
    if problem.l2 or entries > LARGEST_DESIGN or not _attained(surface):
        return None
    inputs, _ = problem.read_samples(0, problem.n_samples)
    tolerance = 4.0 * surface.rounding(theta)
    linear = {a.name for a in problem.network.activations} == {"identity"}
    plain = isinstance(problem.network.bias, str) and not problem.gated
    if linear and plain and problem.loss_function.name == "squared":
        optimum = _linear_optimum(surface, inputs)
        if loss <= optimum + tolerance:
            return f"linear network: the loss equals the optimum {optimum:.6g} of its maps"
    if problem.gated:
        return None
    found = find_duplicates(
        lambda start, stop: inputs[start:stop],
        problem.n_samples,
        problem.network.n_inputs,
        problem.targets,
        problem.relative_weights,
        problem.loss_function,
    )
    if found.floor is not None and 0.0 < found.floor and loss <= found.floor + tolerance:
        floor = found.floor
        return f"equal inputs with different targets: no function has a loss below {floor:.6g}"
    return None


def _linear_optimum(surface: Surface, inputs: Matrix) -> float:
    """Return the least loss of x -> A x [+ c], rank A at most the narrowest width.

    Reduced-rank regression: the optimum keeps the largest singular values of the fitted
    targets (O'Leary-Roseberry and Ghattas 2020, Eq. 2, print the truncated matrix of the
    regression, which is another one). Free biases centre both sides.
    """
    problem, net = surface.problem, surface.problem.network
    weights = problem.relative_weights / problem.n_samples
    targets = problem.targets / getattr(problem.loss_function, "scale", 1.0)
    if net.has_free_bias:
        share = weights / weights.sum()
        inputs, targets = inputs - share @ inputs, targets - share @ targets
    root = np.sqrt(weights)[:, None]
    x, y = root * inputs, root * targets
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    u = u[:, s > EPS * max(x.shape) * s[0]] if s[0] > 0.0 else u[:, :0]
    kept = np.linalg.svd(u.T @ y, compute_uv=False)[: min(net.widths)]
    return 0.5 * float((y * y).sum() - kept @ kept)
