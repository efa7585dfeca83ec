"""The smooth pieces of the loss that meet at a kink, each with its gradient and Hessian."""

from __future__ import annotations

from dataclasses import dataclass
from math import comb

import numpy as np
import scipy

from fastggn.analysis.critical.surface import EPS, Matrix, Surface, Vector
from fastggn.analysis.critical.switches import Switches, merged
from fastggn.analysis.relu.arrangement import sign_vectors

MOST_PIECES = 512
STEP = 1e-8  # into a piece, where its derivatives are read, over |theta|
SHORTER, TRIES = 0.1, 7
ZERO = 1e-10  # a share of its terms up to which a slope is rounding
SAFE = 8.0  # times the bound of the gradient's rounding errors


@dataclass(frozen=True)
class Piece:
    """A piece: its cone {d: sides @ d >= 0}, a direction inside it, and its derivatives there.

    `left` is the part of the gradient (N,) outside the cone of the sides: minus it is the
    steepest direction of descent in the piece, zero where there is none. `multipliers` (K,) are
    the weights of the sides in the other part. `terms` and `errors` (N,) are those of the gradient.
    """

    sides: Matrix
    inside: Vector
    gradient: Vector
    terms: Vector
    errors: Vector
    left: Vector
    multipliers: Vector

    def flat(self, tolerance: float = ZERO) -> bool:
        """Return whether no direction into the piece descends to first order."""
        return bool((np.abs(self.left) <= tolerance * self.terms + self.errors).all())


def pieces_at(surface: Surface, theta: Vector, switches: Switches) -> list[Piece] | None:
    """Return all pieces around theta, or None where their number or shape is not known."""
    lines = merged(switches.rows)
    if not switches.complete or not _few(lines):
        return None
    found = []
    for signs in sign_vectors(lines, faces=False):
        sides = signs[:, None] * lines
        piece = _piece(surface, theta, sides, _inside(sides))
        if piece is None:
            return None
        found.append(piece)
    return found


def sampled_pieces(
    surface: Surface, theta: Vector, count: int, rng: np.random.Generator
) -> list[Piece]:
    """Return pieces of the loss in random directions, each as the ray alone."""
    found = []
    for _ in range(count):
        ray = rng.standard_normal(theta.size)
        piece = _piece(surface, theta, np.zeros((0, theta.size)), ray / np.linalg.norm(ray))
        if piece is not None:
            found.append(piece)
    return found


def _few(lines: Matrix) -> bool:
    if not len(lines):
        return True
    rank = int(np.linalg.matrix_rank(lines, tol=1e-9))
    return 2 * sum(comb(len(lines) - 1, k) for k in range(rank)) <= MOST_PIECES


def _inside(sides: Matrix) -> Vector:
    """Return a unit direction well inside the cone of the sides."""
    right = np.ones(len(sides))
    direction = np.linalg.pinv(sides) @ right
    if len(sides) and (sides @ direction).min() < 0.5:
        _, s, basis = np.linalg.svd(sides, full_matrices=False)
        basis = basis[s > 1e-9 * s[0]]
        n = len(basis)
        rows = np.hstack([-(sides @ basis.T), np.ones((len(sides), 1))])
        bounds = [(-1.0, 1.0)] * n + [(None, 1.0)]
        cost = np.append(np.zeros(n), -1.0)
        answer = scipy.optimize.linprog(cost, rows, 0.0 * right, bounds=bounds)
        direction = basis.T @ answer.x[:-1]
    return np.asarray(direction / (np.linalg.norm(direction) or 1.0))


def _piece(surface: Surface, theta: Vector, sides: Matrix, inside: Vector) -> Piece | None:
    """Return a piece, or None where a step into it crosses other kinks, or has no gradient."""
    length = _length(surface, theta, inside)
    if length is None:
        return None
    one, two, three = (surface.gradient(theta + k * length * inside) for k in (1.0, 2.0, 3.0))
    gradient = 3.0 * (one - two) + three
    size = float(np.abs(gradient).max())
    if not np.isfinite(size):
        return None
    terms, errors = surface.gradient_errors(theta + length * inside)
    if len(sides):
        # Its tolerance is absolute.
        parts, _ = scipy.optimize.nnls(sides.T, gradient / (size or 1.0), maxiter=100 * len(sides))
        multipliers = size * parts
    else:
        multipliers = np.zeros(0)
    left = gradient - sides.T @ multipliers
    # The sides' part leaves rounding of its size, the step into the piece its cube.
    errors = SAFE * (errors + STEP**2 * terms.max()) + EPS * np.abs(sides.T) @ multipliers
    return Piece(sides, inside, gradient, terms, errors, left, multipliers)


def _length(surface: Surface, theta: Vector, inside: Vector) -> float | None:
    """Return a length up to three times which a ray stays in one piece."""
    length = STEP * (float(np.abs(theta).max(initial=0.0)) or 1.0)
    for _ in range(TRIES):
        if surface.same_piece(theta + 0.1 * length * inside, theta + 3.0 * length * inside):
            return length
        length *= SHORTER
    return None


def hessian_of(surface: Surface, theta: Vector, piece: Piece) -> Matrix:
    """Return the Hessian of a piece at theta."""
    length = _length(surface, theta, piece.inside) or 0.0
    near, far = (surface.hessian(theta + k * length * piece.inside) for k in (1.0, 2.0))
    return 2.0 * near - far


def least_gradient(pieces: list[Piece]) -> tuple[Vector, Vector]:
    """Return the shortest convex combination of the pieces' gradients, and its error bounds.

    It is zero exactly at Clarke's stationary points.
    """
    gradients = np.stack([piece.gradient for piece in pieces])
    errors = np.max([piece.errors + ZERO * piece.terms for piece in pieces], axis=0)
    size = float(np.abs(gradients).max()) or 1.0
    matrix = np.vstack([gradients.T / size, np.ones(len(pieces))])
    right = np.append(np.zeros(gradients.shape[1]), 1.0)
    weights, _ = scipy.optimize.nnls(matrix, right, maxiter=10_000)
    return gradients.T @ (weights / (weights.sum() or 1.0)), errors
