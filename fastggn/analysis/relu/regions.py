"""Subglobal minima of batches of regions, and a point of each attained one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastggn.analysis.relu.arrangement import (
    BoolArray,
    FloatArray,
    SignArray,
    sign_vectors,
    unit_rows,
)
from fastggn.analysis.relu.attainment import (
    MARGIN,
    Cone,
    Decision,
    decide,
    interior_point,
    margin_of,
)
from fastggn.runtime.cached import cached_property

IndexArray = NDArray[np.intp]

_EPS = float(np.finfo(np.float64).eps)
_DEEP = 1e-2


class UnitChoices:
    """The possible sign vectors of one unit, with cones, interior points and designs."""

    def __init__(
        self, samples: FloatArray, signs: SignArray, patterns: BoolArray, realised: BoolArray
    ) -> None:
        self.samples, self.signs, self.patterns = samples, signs, patterns
        self.realised = realised
        alive = samples.any(axis=1)
        self.directions = unit_rows(samples)
        self.dead: BoolArray = ~np.any(patterns & alive, axis=1)
        self.is_cell = np.all((signs != 0) | ~alive, axis=1)
        self._cones: dict[int, Cone] = {}
        self._inside: dict[int, FloatArray] = {}

    @classmethod
    def realisable(cls, samples: FloatArray) -> UnitChoices:
        """Return the open regions."""
        signs = sign_vectors(samples, faces=False)
        return cls(samples, signs, signs > 0, np.ones(len(signs), dtype=np.bool_))

    @classmethod
    def faces(cls, samples: FloatArray) -> UnitChoices:
        """Return the open regions and all their faces."""
        signs = sign_vectors(samples, faces=True)
        return cls(samples, signs, signs > 0, np.ones(len(signs), dtype=np.bool_))

    @classmethod
    def formal(cls, samples: FloatArray) -> UnitChoices:
        """Return all 2^T patterns, realisable or not."""
        n_samples = len(samples)
        bits = np.arange(2**n_samples)[:, None] >> np.arange(n_samples)[::-1]
        patterns = (bits & 1).astype(np.bool_)
        signs = np.where(patterns, 1, -1).astype(np.int8)
        signs[:, ~samples.any(axis=1)] = 0
        known = {row.tobytes() for row in sign_vectors(samples, faces=False) > 0}
        realised = np.array([row.tobytes() in known for row in patterns])
        return cls(samples, signs, patterns, realised)

    def __len__(self) -> int:
        return len(self.signs)

    def cone(self, k: int) -> Cone:
        """Return the cone of choice k."""
        if k not in self._cones:
            self._cones[k] = Cone.of(self.samples, self.signs[k], self.patterns[k])
        return self._cones[k]

    def inside(self, k: int) -> FloatArray:
        """Return a point inside the cone of choice k, shape (d,)."""
        if k not in self._inside:
            self._inside[k] = interior_point(self.cone(k))
        return self._inside[k]

    def designs(self, index: IndexArray) -> FloatArray:
        """Return diag(a) X on the cones' subspaces, shape (B, h, T, d), for choices (B, h)."""
        out = self.patterns[index][..., None] * self.samples
        return out if self._projectors is None else out @ self._projectors[index]

    @cached_property
    def _projectors(self) -> FloatArray | None:
        """Projectors on the subspaces of the cones, (R, d, d); None where all are regions."""
        if self.is_cell.all():
            return None
        d = self.samples.shape[1]
        out = np.tile(np.eye(d), (len(self), 1, 1))
        for k in np.flatnonzero(~self.is_cell):
            basis = self.cone(int(k)).basis
            out[k] = basis @ basis.T
        return out

    @cached_property
    def dimensions(self) -> NDArray[np.int64]:
        """Dimension of each cone, shape (R,)."""
        sizes = np.full(len(self), self.samples.shape[1], dtype=np.int64)
        for k in np.flatnonzero(~self.is_cell):
            sizes[k] = self.cone(int(k)).basis.shape[1]
        return sizes


@dataclass(frozen=True, eq=False)
class Solved:
    """The subglobal minimum of one region, with theta if the region attains it."""

    loss: float
    rank: int
    unique: bool
    attained: bool
    boundary: bool
    theta: FloatArray | None


@dataclass(frozen=True, eq=False)
class _Fit:
    """Least-squares solutions of a batch: (B,), (B,), (B,), (B, h, d), (B,), (B,)."""

    loss: FloatArray
    rank: NDArray[np.int64]
    unique: BoolArray
    parts: FloatArray
    constant: FloatArray
    tolerance: FloatArray


def solve_batch(
    choices: UnitChoices, index: IndexArray, y: FloatArray, constant: bool
) -> list[Solved]:
    """Return the subglobal minima of the regions whose units have the choices `index`."""
    first = np.ones(index.shape, dtype=np.bool_)
    first[:, 1:] = index[:, 1:] != index[:, :-1]
    last = np.ones(index.shape, dtype=np.bool_)
    last[:, :-1] = first[:, 1:]
    keep = first & ~choices.dead[index]
    single = keep & last
    fit = _fit(choices, index, keep, y, constant)
    margins = _margins(choices, index, fit.parts, single)
    realised: BoolArray = np.all(choices.realised[index], axis=1)
    out = []
    for b, row in enumerate(index):
        if not realised[b]:
            decision = Decision(False, False)
        elif bool(fit.unique[b]):
            inside = bool(margins[b] > fit.tolerance[b])
            touching = not inside and bool(margins[b] >= -fit.tolerance[b])
            parts = list(fit.parts[b, keep[b]]) if inside else None
            decision = Decision(inside, touching, parts, float(fit.constant[b]))
        else:
            cones = [choices.cone(int(k)) for k in row[keep[b]]]
            decision = decide(cones, list(single[b, keep[b]]), y, constant)
        theta = None
        if decision.parts is not None:
            theta = _point(choices, row, dict(zip(row[keep[b]], decision.parts, strict=True)))
            theta = np.append(theta, decision.constant) if constant else theta
        loss, rank, unique = float(fit.loss[b]), int(fit.rank[b]), bool(fit.unique[b])
        out.append(Solved(loss, rank, unique, decision.attained, decision.boundary, theta))
    return out


def _fit(
    choices: UnitChoices, index: IndexArray, keep: BoolArray, y: FloatArray, constant: bool
) -> _Fit:
    """Solve the least-squares problems of a batch, with zero columns where a unit drops out."""
    n_batch, h = index.shape
    n_samples, d = choices.samples.shape
    blocks = choices.designs(index) * keep[:, :, None, None]
    matrices = blocks.transpose(0, 2, 1, 3).reshape(n_batch, n_samples, h * d)
    if constant:
        matrices = np.concatenate([matrices, np.ones((n_batch, n_samples, 1))], axis=2)
    u, s, vt = np.linalg.svd(matrices, full_matrices=False)
    counted = s > _EPS * max(matrices.shape[1:]) * s[:, :1]
    rotated = np.where(counted, np.einsum("btk,t->bk", u, y), 0.0)
    residual = y - np.einsum("btk,bk->bt", u, rotated)
    solution = np.einsum("bkn,bk->bn", vt, rotated / np.where(counted, s, 1.0))
    rank = counted.sum(axis=1)
    smallest = np.where(counted, s, np.inf).min(axis=1, initial=np.inf)
    wanted = (choices.dimensions[index] * keep).sum(axis=1) + (1 if constant else 0)
    parts = solution[:, : h * d].reshape(n_batch, h, d)
    # A target outside the range of the design leaves rounding only.
    size = np.abs(parts).max(axis=(1, 2)) * s[:, 0]
    parts[size <= 1e-13 * np.linalg.norm(y)] = 0.0
    # Set p_j = 0 (v_j = 0) where margins take it for zero.
    limit = MARGIN * np.abs(parts).max(axis=(1, 2))
    parts[np.abs(parts).max(axis=2) <= limit[:, None]] = 0.0
    return _Fit(
        loss=0.5 * np.einsum("bt,bt->b", residual, residual),
        rank=rank,
        unique=np.asarray(rank == wanted),
        parts=parts,
        constant=solution[:, -1],
        tolerance=np.maximum(MARGIN, 8.0 * _EPS * s[:, 0] / smallest),
    )


def _margins(
    choices: UnitChoices, index: IndexArray, parts: FloatArray, single: BoolArray
) -> FloatArray:
    """Return the least margin of the units alone with their pattern, shape (B,)."""
    scale = np.abs(parts).max(axis=(1, 2))
    scale = np.where(scale > 0.0, scale, 1.0)[:, None]
    signs = choices.signs[index]
    values = np.einsum("bjd,td->bjt", parts, choices.directions) * signs
    low = np.where(signs != 0, values, np.inf).min(axis=2)
    high = np.where(signs != 0, values, -np.inf).max(axis=2)
    margin = np.maximum(low, -high) / scale
    zero = np.abs(parts).max(axis=2) <= MARGIN * scale
    return np.asarray(np.where(single & ~zero, margin, np.inf).min(axis=1))


def _point(choices: UnitChoices, row: IndexArray, parts: dict[int, FloatArray]) -> FloatArray:
    """Return the weights (W rows, then v) of a network whose units of choice k sum to parts[k]."""
    weights: list[FloatArray] = []
    outer: list[float] = []
    for k, count in zip(*np.unique(row, return_counts=True), strict=True):
        if k not in parts:  # dead: any v_j will do
            pairs = [(choices.inside(int(k)), 1.0)] * count
        else:
            pairs = _shares(choices.cone(int(k)), choices.inside(int(k)), parts[k], int(count))
        weights += [w for w, _ in pairs]
        outer += [v for _, v in pairs]
    return np.concatenate([*weights, np.array(outer)])


def _shares(
    cone: Cone, inside: FloatArray, total: FloatArray, count: int
) -> list[tuple[FloatArray, float]]:
    """Return (w, v) of `count` units inside the cone with sum v w = total."""
    size = float(np.abs(total).max())
    if size == 0.0:
        return [(inside, 0.0)] * count
    values = cone.sides @ total
    side = 1.0 if values.size == 0 or values[0] > 0.0 else -1.0
    # Units share a sum that is well inside; otherwise two of them take opposite signs of v.
    if count == 1 or margin_of(cone, total, size) > _DEEP:
        return [_balanced(total / count, side)] * count
    far = float(np.max((size - values) / (cone.sides @ inside), initial=size))
    pair = [_balanced(total + far * inside, 1.0), _balanced(-far * inside, -1.0)]
    return pair + [(inside, 0.0)] * (count - 2)


def _balanced(p: FloatArray, sign: float) -> tuple[FloatArray, float]:
    """Return w and v of equal length with v w = p and this sign of v."""
    size = float(np.abs(p).max())  # squares might over- or underflow
    v = sign * float(np.sqrt(size) * np.sqrt(np.linalg.norm(p / size)))
    return p / v, v
