"""Certificates of a global minimum, each a theorem whose hypotheses are checked."""

from __future__ import annotations

import numpy as np

from fastggn.analysis.critical.limits import LARGEST_DENSE, limit_unit
from fastggn.analysis.critical.spectrum import Spectrum, dense_spectrum
from fastggn.analysis.critical.surface import EPS, SAFETY, Matrix, Surface, Vector
from fastggn.analysis.rank.duplicates import find_duplicates
from fastggn.kernels.spectrum import thin_svd
from fastggn.kernels.tsqr import StreamingQR
from fastggn.network.losses.output_weights import OutputWeighted
from fastggn.network.losses.separable import SeparableLoss
from fastggn.runtime.rank0 import everywhere
from fastggn.solvers.lsqr_iteration import lsqr
from fastggn.training.control.infinity import RANGES, falls_without_end
from fastggn.training.control.separation import CLASSES
from fastggn.training.methods.newton import DENSE_LIMIT
from fastggn.training.step import norm

# How near an exact fit must lie for theta to count as one, over 1 + |theta|.
NEARBY = 1e-4
GAUSS_NEWTON_STEPS = 8
CUT = 1e-12  # share of its norm that counts as zero
LARGEST_DESIGN = 2_000_000  # entries of X that the lower bounds copy
LEFT_OUT = ""  # what a reason says of certificates that there are not


@everywhere
def _zero_at_targets(surface: Surface) -> bool:
    """Return whether the loss has its minimum 0 at F = Y."""
    problem = surface.problem
    loss, targets = problem.loss_function, problem.targets
    if isinstance(loss, SeparableLoss):
        return True
    if loss.name in ("softmax_cross_entropy", "logistic") or not loss.convex:
        return False
    value, slope = loss.value(targets, targets), loss.gradient(targets, targets)
    return not surface.comm.any(bool((value != 0.0).any() or (slope != 0.0).any()))


@everywhere
def _attained(surface: Surface, means: Matrix | None = None) -> bool:
    """Return whether finite outputs reach the least loss, with these mean targets if given."""
    problem = surface.problem
    used = problem.targets[surface.misses(problem.targets + 1.0) > 0.0] if means is None else means
    if problem.loss_function.name == "softmax_cross_entropy":
        inside = bool((used > 0.0).all())
    elif problem.loss_function.name == "logistic":
        inside = bool(((used > 0.0) & (used < 1.0)).all())
    else:
        inside = True
    low, high = RANGES.get(problem.network.activations[-1].name, (-np.inf, np.inf))
    inside = inside and bool(((used > low) & (used < high)).all())
    return not surface.comm.any(not inside)


@everywhere
def _is_zero(surface: Surface, theta: Vector) -> bool:
    """Return whether the loss is 0 within the rounding of the outputs."""
    problem = surface.problem
    if problem.l2 != 0.0:
        return False
    error = surface.output_rounding(theta)
    outputs, targets = problem.outputs(surface.weights(theta)), problem.loss_targets
    surface.cost += 0.5
    weights = problem.relative_weights
    if _zero_at_targets(surface):
        return not surface.comm.any(bool((surface.misses(outputs) > error).any()))
    if not problem.loss_function.convex:
        return False
    # Convex: its gradient by the outputs is 0 at a minimum only.
    slope = np.abs(problem.loss_function.gradient(outputs, targets)).max(axis=1)
    values = problem.loss_function.value(outputs, targets)
    both = (slope <= error) & (values <= error * error + SAFETY * EPS)
    return not surface.comm.any(not both[weights > 0.0].all())


def exact_fit(surface: Surface, theta: Vector) -> str | None:
    """Return why theta is a global minimum, if every sample is fitted within rounding."""
    if not _attained(surface) or not _is_zero(surface, theta) or _zero_in_limit(surface, theta):
        return None
    return "exact fit: every sample's loss is 0, its minimum, within rounding"


def _zero_in_limit(surface: Surface, theta: Vector) -> str | None:
    """Return the unit in whose limit the fit is exact, or None."""
    inputs, targets, weights = _all_samples(surface)
    rows = _means_of_equal_inputs(inputs, targets, weights)[1]
    return limit_unit(surface, theta, lambda point: _is_zero(surface, point), rows)


def unreachable_fit(surface: Surface, theta: Vector) -> str | None:
    """Return why theta tends to infinity, if its loss is 0 and no finite weights reach 0."""
    if why := _endless(surface, theta):
        return why
    if not _is_zero(surface, theta):
        return None
    why = "the loss is 0 within rounding, but its infimum is not attained by finite weights "
    if not _attained(surface):
        return f"{why}(targets at the end of the range)"
    if unit := _zero_in_limit(surface, theta):
        return f"{why}({unit} is at its limit: with larger weights the fit is as exact)"
    return None


@everywhere
def _endless(surface: Surface, theta: Vector) -> str | None:
    """Return why the loss falls to 0 along a ray, so that no point on it is stationary, or None."""
    return falls_without_end(surface.problem, surface.problem.at(surface.weights(theta)))


def nearby_exact_fit(surface: Surface, theta: Vector) -> str | None:
    """Return why theta is a global minimum, if Gauss-Newton steps lead to an exact fit nearby."""
    problem = surface.problem
    if problem.l2 != 0.0 or not (_attained(surface) and _zero_at_targets(surface)):
        return None
    # The residual is zero where the gradient is and J has full row rank (Shen 2018, Theorem 1).
    here, limit = theta, NEARBY * (1.0 + norm(theta))
    for _ in range(GAUSS_NEWTON_STEPS):
        here = here - _fitting_step(surface, here)
        distance = norm(here - theta)
        if not distance <= limit:
            return None
        if _is_zero(surface, here) and not _zero_in_limit(surface, here):
            rank, rows = _rank(surface, here), problem.n_samples * problem.n_outputs
            full = " = T n_L: no suboptimal point has so much" if rank == rows else ""
            return f"exact fit at a distance of {distance:.1e} (rank of J {rank}{full})"
    return None


@everywhere
def _rank(surface: Surface, theta: Vector) -> int:
    return surface.problem.jacobian(surface.weights(theta)).rank()


@everywhere
def _fitting_step(surface: Surface, theta: Vector) -> Vector:
    """Return a short s that minimises |F - Y - J s|; NaN where J is not finite."""
    problem, theta = surface.problem, surface.weights(theta)
    outputs, jacobian = problem.outputs(theta), problem.jacobian(theta)
    residual = np.where(surface.misses(outputs) > 0.0, outputs - problem.targets, 0.0).ravel()
    surface.cost += 2.0
    rows = problem.n_samples * problem.n_outputs
    if problem.n_params > DENSE_LIMIT or rows * problem.n_params > LARGEST_DENSE:
        step, _, count = lsqr(
            jacobian,
            residual,
            lambda u: surface.comm.norm(norm(u)),
            damp=0.0,
            tolerance=1e-14,
            limit=2 * problem.n_params,
        )
        surface.cost += 2.0 * count
        return step / surface.units
    surface.cost += problem.n_outputs
    qr, first = StreamingQR(problem.n_params, 1), 0
    for part in jacobian.row_blocks():
        qr.fold(part, residual[first : first + part.shape[0]])
        first += part.shape[0]
    surface.comm.unite(qr)
    if not np.isfinite(qr.r).all():
        return np.full(problem.n_params, np.nan)
    u, s, vt = thin_svd(qr.r)
    kept = s > CUT * s[0]
    return np.asarray(vt[kept].T @ ((u[:, kept].T @ qr.c[:, 0]) / s[kept])) / surface.units


def convex_problem(surface: Surface, spectrum: Spectrum) -> str | None:
    """Return why every stationary point is a global minimum, if the problem is convex."""
    problem = surface.problem
    if (
        problem.network.n_layers == 1
        and problem.network.activations[-1].name == "identity"
        and problem.loss_function.convex
        and not _may_be_a_limit(surface, spectrum)
    ):
        return (
            f"convex problem: one layer, identity output, {problem.loss_function.name} loss; "
            "every stationary point is a global minimum"
        )
    return None


def _may_be_a_limit(surface: Surface, spectrum: Spectrum) -> bool:
    """Return whether a loss on classes is flat along directions that move its outputs."""
    # In exact arithmetic the Hessian's null space is that of the inputs. A larger one is due to
    # curvature that is lost far out, where classes are separated.
    problem = surface.problem
    name = problem.loss_function.name.removeprefix("weighted ")
    if name not in CLASSES or surface.bounded or spectrum.counts[1] == 0:
        return False
    known = surface.lacks_minimum()
    if known is not None or not spectrum.complete:
        return known is not False
    return spectrum.counts[1] > dense_spectrum(surface, np.zeros(surface.n_params)).counts[1]


def lower_bound(surface: Surface, theta: Vector, loss: float) -> str | None:
    """Return why theta is a global minimum, if its loss equals a lower bound for all theta."""
    problem = surface.problem
    entries = problem.n_samples * (problem.network.n_inputs + problem.n_outputs)
    if entries > LARGEST_DESIGN:
        return None
    inputs, targets, weights = _all_samples(surface)
    loss, tolerance = loss * surface.worth, 4.0 * surface.rounding(theta) * surface.worth
    linear = {a.name for a in problem.network.activations} == {"identity"}
    plain = isinstance(problem.network.bias, str) and not problem.gated
    if linear and plain and problem.loss_function.name == "squared":
        optimum = _linear_optimum(surface, inputs, targets, weights)
        if loss <= optimum + tolerance:
            return f"linear network: the loss equals the optimum {optimum:.6g} of its maps"
    if problem.gated or isinstance(problem.loss_function, OutputWeighted):
        return None
    rows, width, function = problem.n_samples, problem.network.n_inputs, problem.loss_function
    found = find_duplicates(lambda a, b: inputs[a:b], rows, width, targets, weights, function)
    floor = found.floor
    if floor is None or not 0.0 < floor or loss > floor + tolerance:
        return None

    def reached(point: Vector) -> bool:
        return surface.loss(point) * surface.worth <= floor + tolerance

    means, distinct = _means_of_equal_inputs(inputs, targets, weights)
    if not _attained(surface, means) or limit_unit(surface, theta, reached, distinct):
        return None
    return f"equal inputs with different targets: no function has a loss below {floor:.6g}"


def _means_of_equal_inputs(inputs: Matrix, targets: Matrix, weights: Vector) -> tuple[Matrix, int]:
    """Return each used sample's mean target among equal inputs, and the number of outputs."""
    on = weights > 0.0
    _, group = np.unique(inputs[on] + 0.0, axis=0, return_inverse=True)
    group = group.ravel()
    total = np.bincount(group, weights[on])
    means = [np.bincount(group, weights[on] * y)[group] / total[group] for y in targets[on].T]
    return np.stack(means, axis=1), total.size * targets.shape[1]


@everywhere
def _all_samples(surface: Surface) -> tuple[Matrix, Matrix, Vector]:
    """Return inputs, targets and relative weights of the samples of all ranks."""
    problem, together = surface.problem, surface.comm.concatenate
    weights = problem.relative_weights
    inputs, _ = problem.read_samples(0, weights.size)
    return together(inputs), together(problem.targets), together(weights)


def _linear_optimum(surface: Surface, inputs: Matrix, targets: Matrix, weights: Vector) -> float:
    """Return the least loss of x -> A x [+ c], rank A at most the narrowest width."""
    problem, net = surface.problem, surface.problem.network
    weights = weights / problem.n_samples
    targets = targets / getattr(problem.loss_function, "scale", 1.0)
    if net.has_free_bias:
        share = weights / weights.sum()
        inputs, targets = inputs - share @ inputs, targets - share @ targets
    # Reduced-rank regression keeps the largest singular values of the fitted targets; the
    # truncated regression of O'Leary-Roseberry and Ghattas (2020, Eq. 2) is another map.
    root = np.sqrt(weights)[:, None]
    x, y = root * inputs, root * targets
    u, s, _ = np.linalg.svd(x, full_matrices=False)
    u = u[:, s > EPS * max(x.shape) * s[0]] if s[0] > 0.0 else u[:, :0]
    kept = np.linalg.svd(u.T @ y, compute_uv=False)[: min(net.widths)]
    return 0.5 * float((y * y).sum() - kept @ kept)
