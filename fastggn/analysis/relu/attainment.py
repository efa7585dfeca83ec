"""Is a subglobal minimum attained inside its region? By signs, or by linear programmes.

A unit's weight is w_j with v_j w_j = p_j, so p_j must lie in the open cone of the unit's pattern
(v_j > 0), in its negative (v_j < 0), or be zero (v_j = 0). Two units of one pattern reach every
sum, since a cone minus itself is the whole space, and dead units do not matter. Patterns that occur
once remain: signs decide where p is unique. Where it is not, the largest margin over the minimisers
is a linear programme for each choice of the signs of v.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from scipy.linalg import null_space

from fastggn.analysis.relu.arrangement import BoolArray, FloatArray, SignArray, unit_rows
from fastggn.kernels.spectrum import numerical_rank
from fastggn.runtime.errors import as_float_vector

Bound = tuple[float | None, float | None]

MARGIN = 1e-10  # of points off the boundary, relative to the largest |p_j|
_LP_MARGIN = 1e-7  # accuracy of the constraints of HiGHS


@dataclass(frozen=True, eq=False)
class Cone:
    """The weights w of a unit with given signs of x_i . w: an open region, or a face of one.

    `basis` (d, e) is orthonormal, of the w with x_i . w = 0 for samples of sign 0. All `sides`
    (m, d) @ w > 0 for w inside. `design` (T, d) is diag(a) X, which maps p to the outputs.
    """

    basis: FloatArray
    sides: FloatArray
    design: FloatArray

    @classmethod
    def of(cls, samples: FloatArray, signs: SignArray, pattern: BoolArray) -> Cone:
        """Return the cone of a row of signs; samples (T, d), signs and pattern (T,)."""
        rows = unit_rows(samples)
        alive = samples.any(axis=1)
        flat, open_ = alive & (signs == 0), alive & (signs != 0)
        d = samples.shape[1]
        sides = signs[open_, None] * rows[open_]
        basis = np.eye(d)
        if flat.any():
            basis = null_space(rows[flat], rcond=1e-12)
        return cls(basis, sides, np.where(pattern[:, None], samples, 0.0))


@dataclass(frozen=True, eq=False)
class Decision:
    """Whether some minimiser lies inside the region (`attained`) or only on its boundary.

    `parts` are its p_j of each cone, shapes (d,), and `constant` is its c.
    """

    attained: bool
    boundary: bool
    parts: list[FloatArray] | None = None
    constant: float = 0.0


def margin_of(cone: Cone, p: FloatArray, scale: float) -> float:
    """Return the margin over `scale` of p inside the cone or its negative, inf where p is zero."""
    if float(np.abs(p).max()) <= MARGIN * scale:
        return float("inf")
    values = cone.sides @ p
    if not values.size:
        return float("inf")
    return max(float(values.min()), float(-values.max())) / scale


def interior_point(cone: Cone) -> FloatArray:
    """Return the w of largest margin inside the cone, |w|_inf = 1; 0 for the face w = 0."""
    e = cone.basis.shape[1]
    if e == 0:
        return np.zeros(cone.basis.shape[0])
    if not len(cone.sides):
        return np.asarray(cone.basis[:, 0] / np.abs(cone.basis[:, 0]).max())
    rows = np.hstack([-cone.sides @ cone.basis, np.ones((len(cone.sides), 1))])
    bounds: list[Bound] = [(-1.0, 1.0)] * e + [(None, 1.0)]
    answer = _programme(rows, np.zeros(len(rows)), None, None, bounds)
    if answer is None or answer[-1] <= 0.0:
        raise ValueError("no weights have these signs")
    w = cone.basis @ answer[:-1]
    return np.asarray(w / np.abs(w).max())


def decide(cones: list[Cone], single: list[bool], target: FloatArray, constant: bool) -> Decision:
    """Decide whether the least-squares solution of the cones' designs lies inside them."""
    family = _Minimisers(cones, target, constant)
    if family.margin(family.first, single) > MARGIN:
        return family.decision(family.first)
    free = [j for j, cone in enumerate(cones) if single[j] and len(cone.sides) and family.moves(j)]
    fixed = [j for j in range(len(cones)) if single[j] and j not in free]
    held = min((margin_of(cones[j], family.part(family.first, j), 1.0) for j in fixed), default=1.0)
    if held < -MARGIN:
        return Decision(False, False)
    touching = False
    for signs in itertools.product((1.0, -1.0), repeat=len(free)):
        found, margin = family.deepest(dict(zip(free, signs, strict=True)))
        if margin < -_LP_MARGIN:
            continue
        touching = True
        if held <= MARGIN:
            break
        # The point is on the rim of every cone, but v_j = 0 allows some p_j = 0.
        for point in itertools.chain([found], family.with_zeros(free, signs, margin)):
            if family.margin(point, single) > MARGIN:
                return family.decision(point)
    return Decision(False, touching)


class _Minimisers:
    """The affine set of all least-squares solutions, z = first + null t, scaled to unit size."""

    def __init__(self, cones: list[Cone], target: FloatArray, constant: bool) -> None:
        self._cones = cones
        self._constant = constant
        columns = [cone.design @ cone.basis for cone in cones]
        if constant:
            columns.append(np.ones((len(target), 1)))
        matrix = np.hstack(columns) if columns else np.zeros((len(target), 0))
        sizes = [cone.basis.shape[1] for cone in cones]
        self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(int)
        u, s, vt = np.linalg.svd(matrix, full_matrices=True)
        rank = numerical_rank(s).rank
        first = vt[:rank].T @ ((u[:, :rank].T @ target) / s[:rank])
        weights = first[: self._starts[-1]]
        size = float(np.abs(weights).max()) if weights.size else 0.0
        # A target outside the range of the design leaves rounding only.
        visible = size * float(s[0] if s.size else 0.0) > 1e-13 * float(np.linalg.norm(target))
        self._scale = size if size > 0.0 and visible else 1.0
        if not visible:
            first = np.where(np.arange(first.size) < self._starts[-1], 0.0, first)
        self.first: FloatArray = first / self._scale
        self._null = vt[rank:].T

    def part(self, z: FloatArray, j: int) -> FloatArray:
        """Return p_j, shape (d,)."""
        return np.asarray(self._cones[j].basis @ z[self._starts[j] : self._starts[j + 1]])

    def moves(self, j: int) -> bool:
        rows = self._null[self._starts[j] : self._starts[j + 1]]
        return rows.size > 0 and float(np.abs(rows).max()) > 1e-10

    def margin(self, z: FloatArray, single: list[bool]) -> float:
        weights = z[: self._starts[-1]]
        scale = max(1.0, float(np.abs(weights).max())) if weights.size else 1.0
        alone = (j for j in range(len(single)) if single[j])
        margins = (margin_of(self._cones[j], self.part(z, j), scale) for j in alone)
        return min(margins, default=float("inf"))

    def decision(self, z: FloatArray) -> Decision:
        """Return the minimiser z, in the units of the problem, as attained."""
        parts = [self._scale * self.part(z, j) for j in range(len(self._cones))]
        limit = MARGIN * max((float(np.abs(p).max()) for p in parts), default=0.0)
        parts = [p if np.abs(p).max() > limit else np.zeros_like(p) for p in parts]
        constant = float(self._scale * z[-1]) if self._constant else 0.0
        return Decision(True, False, parts, constant)

    def deepest(self, signs: dict[int, float]) -> tuple[FloatArray, float]:
        """Return the deepest minimiser for these signs of v (0 for p_j = 0), and its margin."""
        n = self._null.shape[1]
        rows, right, equal, equal_right = [], [], [], []
        for j, sign in signs.items():
            cone, part = self._cones[j], slice(self._starts[j], self._starts[j + 1])
            if sign == 0.0:
                equal.append(self._null[part])
                equal_right.append(-self.first[part])
                continue
            sides = sign * cone.sides @ cone.basis
            rows.append(np.hstack([-sides @ self._null[part], np.ones((len(sides), 1))]))
            right.append(sides @ self.first[part])
        if not rows:
            rows, right = [np.eye(1, n + 1, n)], [np.ones(1)]
        bounds: list[Bound] = [(None, None)] * n + [(None, 1.0)]
        a_eq = np.hstack([np.vstack(equal), np.zeros((sum(map(len, equal)), 1))]) if equal else None
        b_eq = np.concatenate(equal_right) if equal else None
        answer = _programme(np.vstack(rows), np.concatenate(right), a_eq, b_eq, bounds)
        if answer is None:
            return self.first, -float("inf")
        moved = answer[:-1]
        if a_eq is not None and b_eq is not None:  # HiGHS meets equations to 1e-7 only
            a = a_eq[:, :-1]
            moved = moved + np.linalg.lstsq(a, b_eq - a @ moved, rcond=None)[0]
        return self.first + self._null @ moved, float(answer[-1])

    def with_zeros(
        self, free: list[int], signs: tuple[float, ...], margin: float
    ) -> Iterator[FloatArray]:
        """Yield minimisers with some p_j = 0, the most signs kept first."""
        if margin > _LP_MARGIN:
            return
        for count in range(1, len(free) + 1):
            for zeros in itertools.combinations(range(len(free)), count):
                chosen = {j: 0.0 if k in zeros else signs[k] for k, j in enumerate(free)}
                point, found = self.deepest(chosen)
                if np.isfinite(found):
                    yield point


def _programme(
    rows: FloatArray,
    right: FloatArray,
    a_eq: FloatArray | None,
    b_eq: FloatArray | None,
    bounds: Sequence[Bound],
) -> FloatArray | None:
    """Return the solution of a linear programme that maximises its last variable, or None."""
    cost = np.zeros(rows.shape[1])
    cost[-1] = -1.0
    answer = scipy.optimize.linprog(cost, rows, right, a_eq, b_eq, bounds, method="highs")
    if answer.status == 2:
        return None
    if answer.status != 0:
        raise RuntimeError(f"the linear programme of a region failed: {answer.message}")
    return as_float_vector("x", answer.x, cost.size)
