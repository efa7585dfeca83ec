"""Judge a point where units, or the loss, stand at their kinks: by its smooth pieces.

To first order a piece is a cone, and its loss a linear function of the direction: it descends
nowhere in the cone if its gradient is a non-negative combination of the cone's sides (Farkas).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fastggn.analysis.critical.descent import Descent, along_rays, random_rays
from fastggn.analysis.critical.pieces import (
    Piece,
    hessian_of,
    least_gradient,
    pieces_at,
    sampled_pieces,
)
from fastggn.analysis.critical.report import Label
from fastggn.analysis.critical.surface import Matrix, Surface, Vector
from fastggn.analysis.critical.switches import HOMOGENEOUS, Switches, switches_at
from fastggn.training.methods.newton import DENSE_LIMIT
from fastggn.training.step import norm

WHY = "units stand at their kinks"
SAMPLED, FEW = 128, 16  # pieces seen where they are too many; the second for large networks
MOST_HESSIANS = 32
POSITIVE = 1e-7  # least eigenvalue of a positive definite Hessian over the largest
SUPPORT = 1e-7  # a side counts as held by its multiplier above this share of the gradient
SPARED = 1e-6  # outgoing weights below this share of the largest count as zero
LEAST_POWER = 0.7  # of a fall at a kink


@dataclass(frozen=True)
class Verdict:
    """A label with its reason, the shortest gradient between the pieces, its share of terms."""

    label: Label
    reason: str
    gradient: Vector
    share: float
    descent: Descent | None = None


def judge_kink(
    surface: Surface,
    theta: Vector,
    switches: Switches | None,
    tolerance: float,
    rng: np.random.Generator,
) -> Verdict:
    """Return the verdict about a point with switches that are zero."""
    if fallen := _falls(surface, theta, tolerance, rng):
        return fallen
    pieces = None if switches is None else pieces_at(surface, theta, switches)
    known, dense = pieces is not None, theta.size <= DENSE_LIMIT
    if pieces is None:
        pieces = sampled_pieces(surface, theta, SAMPLED if dense else FEW, rng)
    count = f"{len(pieces)} pieces of the loss meet" if known else "pieces too many to list meet"
    why = f"{WHY}, where {count}"
    if not pieces:
        return Verdict("degenerate", f"{why}; other kinks are too near", 0.0 * theta, 0.0)
    gradient, share, zero = _clarke(pieces, tolerance)
    if not zero:
        label, reason = _sloped(surface, theta, pieces, known, gradient)
        return Verdict(label, f"{why}; {reason}", gradient, share)
    steep = _steepest(pieces)
    if steep is None and known and (found := _minimum(surface, theta, switches, pieces)):
        return Verdict("local_minimum", f"{why}; {found}", gradient, share)
    rays = [] if steep is None else [-steep.left / norm(steep.left)]
    if dense:
        rays += [ray for piece in pieces[:MOST_HESSIANS] for ray in _bent(surface, theta, piece)]
    directions = np.vstack([*rays, random_rays(theta.size, rng)])
    descent = along_rays(surface, theta, surface.loss(theta), directions, LEAST_POWER)
    if descent is not None:
        return _saddle(why, gradient, share, descent)
    first = "none descends to first order" if known and steep is None else "slopes undecided"
    reason = f"{first}; no descent along {len(directions)} rays"
    return Verdict("degenerate", f"{why}; {reason}", gradient, share)


def rests(surface: Surface, theta: Vector, tolerance: float) -> bool:
    """Return whether theta is at kinks whose pieces' gradients have zero between them."""
    switches = switches_at(surface, theta)
    if switches is None or not len(switches.rows):
        return False
    pieces = pieces_at(surface, theta, switches)
    return bool(pieces) and _clarke(pieces or [], tolerance)[2]


def _falls(
    surface: Surface, theta: Vector, tolerance: float, rng: np.random.Generator
) -> Verdict | None:
    """Return a saddle that a few random pieces and rays show, or None."""
    pieces = sampled_pieces(surface, theta, FEW, rng)
    if not pieces:
        return None
    gradient, share, zero = _clarke(pieces, tolerance)
    if not zero:
        return None
    rays = random_rays(theta.size, rng)[:FEW]
    descent = along_rays(surface, theta, surface.loss(theta), rays, LEAST_POWER)
    return None if descent is None else _saddle(WHY, gradient, share, descent)


def _clarke(pieces: list[Piece], tolerance: float) -> tuple[Vector, float, bool]:
    """Return the least gradient of pieces, its share of its terms, and whether it is zero."""
    gradient, errors = least_gradient(pieces)
    terms = np.max([piece.terms for piece in pieces], axis=0)
    share = float((np.abs(gradient) / np.where(terms > 0.0, terms, 1.0)).max())
    return gradient, share, bool((np.abs(gradient) <= tolerance * terms + errors).all())


def _saddle(why: str, gradient: Vector, share: float, descent: Descent) -> Verdict:
    reason = (
        f"along a ray the loss falls by {descent.decrease:.3e}, like the power "
        f"{descent.order:.1f} of the distance down to {descent.shortest:.1e}"
    )
    return Verdict("saddle", f"{why}; {reason}", gradient, share, descent)


def _sloped(
    surface: Surface, theta: Vector, pieces: list[Piece], known: bool, gradient: Vector
) -> tuple[Label, str]:
    """Return the label where the gradients of the pieces seen have a common part."""
    spread = max(norm(piece.gradient - gradient) for piece in pieces)
    alike = spread <= 1e-6 * norm(gradient)
    what = "the gradients agree and are not zero" if alike else "one direction descends in all"
    if known:
        return "not_critical", what
    ray = -gradient / norm(gradient)
    descent = along_rays(surface, theta, surface.loss(theta), ray[None], LEAST_POWER)
    if descent is None or descent.order > 1.5:
        return "degenerate", "undecided whether it is critical"
    return "not_critical", f"{what} of {len(pieces)} seen, and the loss falls"


def _steepest(pieces: list[Piece]) -> Piece | None:
    """Return the piece of steepest descent, or None where none descends to first order."""
    falling = [piece for piece in pieces if not piece.flat()]
    return max(falling, key=lambda piece: norm(piece.left), default=None)


def _bent(surface: Surface, theta: Vector, piece: Piece) -> list[Vector]:
    """Return two eigenvectors of negative curvature of a piece."""
    hessian = hessian_of(surface, theta, piece)
    if not np.isfinite(hessian).all():
        return []
    values, vectors = np.linalg.eigh(hessian)
    bent = values < -POSITIVE * np.abs(values).max()
    return list(vectors.T[bent][:2])


def _minimum(
    surface: Surface, theta: Vector, switches: Switches | None, pieces: list[Piece]
) -> str | None:
    """Return why a point is a local minimum at which no piece descends to first order."""
    if switches is None or unknown_kinks(surface):
        return None
    if convex_pieces(surface, theta, switches):
        return (
            "none descends to first order, and each is convex in the products of a unit's "
            "incoming and outgoing weights"
        )
    if len(pieces) > MOST_HESSIANS or theta.size > DENSE_LIMIT:
        return None
    slice_ = _slice(surface, theta, switches)
    curved = bool((switches.layers > 0).any())
    if all(_rises(surface, theta, piece, slice_, curved) for piece in pieces):
        return (
            "none descends to first order, and where the slope is zero the Hessian is positive "
            "definite, up to scalings of units, which change no output"
        )
    return None


def _rises(surface: Surface, theta: Vector, piece: Piece, slice_: Matrix, curved: bool) -> bool:
    """Return whether a piece rises in the slice by its slope or its curvature."""
    held = piece.multipliers > SUPPORT * norm(piece.gradient)
    if curved and held.any():
        return False  # the rims are curved, which adds to the second order
    basis = slice_
    if held.any():
        basis = slice_ @ _complement(piece.sides[held] @ slice_)
    if basis.shape[1] == 0:
        return True
    hessian = hessian_of(surface, theta, piece)
    if not np.isfinite(hessian).all():
        return False
    values = np.linalg.eigvalsh(basis.T @ hessian @ basis)
    return bool(values[0] > POSITIVE * float(np.abs(np.linalg.eigvalsh(hessian)).max()))


def _complement(rows: Matrix) -> Matrix:
    """Return an orthonormal basis of the space orthogonal to the rows, as columns."""
    _, s, vt = np.linalg.svd(rows, full_matrices=True)
    rank = int(np.count_nonzero(s > 1e-9 * max(float(s.max(initial=0.0)), 1e-300)))
    return np.asarray(vt[rank:].T)


def _slice(surface: Surface, theta: Vector, switches: Switches) -> Matrix:
    """Return a basis of directions across those in which the loss is constant.

    Scaling a ReLU unit's incoming weights up and its outgoing ones down changes no output; nor does
    a dead unit. A point is a local minimum if it is one in a slice across these motions.
    """
    net = surface.problem.network
    motions: list[Vector] = []
    for layer, activation in enumerate(net.activations[:-1]):
        scaled = activation.name in HOMOGENEOUS and surface.problem.l2 == 0.0
        for unit in range(net.widths[layer + 1]):
            if switches.dead[layer][unit] and surface.problem.l2 == 0.0:
                motions += list(_own_weights(surface, layer, unit))
            elif scaled and isinstance(net.bias, str) and not surface.problem.gated:
                parts = [np.zeros_like(w) for w in net.unpack(theta)]
                parts[layer][unit] = net.unpack(theta)[layer][unit]
                parts[layer + 1][:, unit] = -net.unpack(theta)[layer + 1][:, unit]
                motions.append(np.concatenate([part.ravel() for part in parts]))
    return _complement(np.array(motions).reshape(len(motions), theta.size))


def _own_weights(surface: Surface, layer: int, unit: int) -> Matrix:
    """Return unit vectors of the incoming and outgoing weights of a unit, by rows."""
    net = surface.problem.network
    own = net.unpack(np.zeros(surface.n_params))
    own[layer][unit] = 1.0
    own[layer + 1][:, unit] = 1.0
    mask = np.concatenate([part.ravel() for part in own]) > 0.0
    return np.eye(surface.n_params)[mask]


def convex_pieces(surface: Surface, theta: Vector, switches: Switches) -> bool:
    """Return whether the loss is convex on each piece, in the products v_j w_j and the constant.

    So it is for one hidden layer of ReLU units and one output where no v_j is zero but of dead
    units: near such a point every loss around is that of some products near theirs.
    """
    problem, net = surface.problem, surface.problem.network
    if (
        net.n_layers != 2
        or problem.n_outputs != 1
        or problem.l2 != 0.0
        or problem.gated
        or not isinstance(net.bias, str)
        or net.activations[0].name not in HOMOGENEOUS
        or net.activations[1].name != "identity"
        or not problem.loss_function.convex
    ):
        return False
    outer = np.abs(net.unpack(theta)[1][0, : net.widths[1]])
    live = outer[~switches.dead[0]]
    return bool((live > SPARED * live.max(initial=0.0)).all())


def unknown_kinks(surface: Surface) -> bool:
    """Return whether a custom activation may have kinks that are not at zero."""
    known = {"relu", "leaky_relu", "softsign"}
    used = surface.problem.network.activations
    if surface.problem.gated:
        used = used[-1:]
    return any(a.smoothness < 2 and a.name not in known for a in used)
