"""The lowest point of a family at fixed separations, and of its limit network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastggn.analysis.infinity.families import TURNING, Family
from fastggn.analysis.magnitudes import finite

FloatArray = NDArray[np.float64]

GAUSS_NEWTON, NEWTON = 200, 60  # iterations at most: first by J, then by the exact Hessian
WINDOW, STILL = 20, 1e-6  # Newton steps, and their fall of the loss, after which none converges
CLOSE = 1e-3  # share of a slope in its terms at which the second phase begins
TOLERANCE = 1e-10  # share at which the fit has converged
NOISE = 1e-7  # share that rounding may leave where no step lowers the loss
STEP = 1e-4  # of the differences of gradients, over the size of p
CURVATURE = "the curvature of a network on the way"
FIRST_DAMPING, LEAST_DAMPING, MOST_DAMPING = 1e-3, 1e-14, 1e12


@dataclass(frozen=True)
class Local:
    """Loss, gradient, Gauss-Newton matrix, and sizes of the gradient's terms, by free p."""

    loss: float
    gradient: FloatArray
    matrix: FloatArray
    terms: FloatArray
    frame: FloatArray  # (N, n): an orthonormal basis of the directions that p may take

    @property
    def share(self) -> float:
        """Return the largest share of a slope in its terms."""
        return float((np.abs(self.gradient) / np.maximum(self.terms, 1e-300)).max(initial=0.0))


@dataclass(frozen=True)
class Fit:
    """The end of a fit: p, loss, share of the gradient, and scaled eigenvalues of the Hessian."""

    p: FloatArray
    loss: float
    share: float
    curvatures: FloatArray
    converged: bool


class Fitter:
    """Levenberg-Marquardt on the coordinates of a family, at fixed separations.

    A loss up to `floor` is an exact fit.
    """

    def __init__(self, family: Family, floor: float = 0.0) -> None:
        self.family, self._floor = family, floor
        problem = family.problem
        self._weights = np.asarray(problem.relative_weights) / problem.n_samples
        self._targets = problem.loss_targets
        self._loss = problem.loss_function

    def loss(self, p: FloatArray, eps: FloatArray) -> float:
        """Return the loss of the finite network, or of the limit at eps = 0."""
        if eps.any():
            theta = self.family.theta(p, eps)
            return float(self.family.problem.loss(theta)) if np.isfinite(theta).all() else np.inf
        return float(self._weights @ self._loss.value(self.family.sweep(p).outputs, self._targets))

    def slopes(self, p: FloatArray) -> FloatArray:
        """Return the gradient of the limit network by all of p."""
        found = self.family.sweep(p)
        residuals = self._loss.gradient(found.outputs, self._targets) * self._weights[:, None]
        return found.gradient(residuals)

    def local(self, p: FloatArray, eps: FloatArray) -> Local:
        """Return the quadratic model at p."""
        family, problem = self.family, self.family.problem
        if eps.any():
            theta = finite(family.theta(p, eps), "a network on the way")
            outputs = problem.outputs(theta)
            dense = problem.jacobian(theta).to_dense().reshape(*outputs.shape, -1)
            rows = family.pull(dense, p, eps)
        else:
            found = family.sweep(p)
            outputs, rows = found.outputs, found.rows
        residuals = self._loss.gradient(outputs, self._targets) * self._weights[:, None]
        factor = self._loss.curvature_factor(outputs, self._targets)[0]
        factor = factor * np.sqrt(self._weights)[:, None, None]
        frame = self.frame(p)
        rows = rows @ frame
        matrix = np.einsum("tos,ton->tsn", factor, rows).reshape(-1, frame.shape[1])
        loss = float(self._weights @ self._loss.value(outputs, self._targets))
        gradient = np.einsum("to,ton->n", residuals, rows)
        terms = np.einsum("to,ton->n", np.abs(residuals), np.abs(rows))
        return Local(loss, gradient, matrix.T @ matrix, terms, frame)

    def frame(self, p: FloatArray) -> FloatArray:
        """Return unit vectors of the free coordinates; the lengths of the v stay."""
        family = self.family
        free = family.free.copy()
        extra = []
        if family.kind in TURNING:
            for group in family.groups:
                core = family.core(group)
                free[core] = False
                v = p[core] / np.linalg.norm(p[core])
                # A basis of the directions orthogonal to v, by a reflection.
                w = v.copy()
                w[0] += np.copysign(1.0, v[0])
                basis = np.eye(v.size) - 2.0 * np.outer(w, w) / (w @ w)
                block = np.zeros((p.size, v.size - 1))
                block[core] = basis[:, 1:]
                extra.append(block)
        return np.column_stack([np.eye(p.size)[:, free], *extra])

    def moved(self, p: FloatArray, step: FloatArray, eps: FloatArray) -> FloatArray:
        """Return p + step; in the limit network, with the lengths of the v restored."""
        out = p + step
        if self.family.kind in TURNING and not eps.any():
            for group in self.family.groups:
                core, column = self.family.core(group), self.family.parts(group)[-1]
                factor = np.linalg.norm(out[core]) / np.linalg.norm(p[core])
                out[core] /= factor
                out[column] *= factor
        return out

    def hessian(self, p: FloatArray, eps: FloatArray, frame: FloatArray) -> FloatArray:
        """Return the Hessian in a frame; that of the limit by differences of gradients."""
        if eps.any():
            whole = self.family.problem.hessian(self.family.theta(p, eps))
            half = self.family.pull(whole, p, eps).T
            return np.asarray(frame.T @ self.family.pull(half, p, eps) @ frame)
        size = STEP * (1.0 + float(np.linalg.norm(p)) / np.sqrt(p.size))
        columns = []
        for k in range(frame.shape[1]):
            steps = (h * size * frame[:, k] for h in (-2.0, -1.0, 1.0, 2.0))
            a, b, c, d = (self.slopes(p + step) @ frame for step in steps)
            columns.append((a - 8.0 * b + 8.0 * c - d) / (12.0 * size))
        matrix = np.array(columns)
        return np.asarray(0.5 * (matrix + matrix.T))

    def fit(self, p: FloatArray, eps: FloatArray) -> Fit:
        """Lower the loss from p until its gradient is zero, or no step lowers it.

        Raises LinAlgError where the networks on the way leave the range of float64.
        """
        eps = np.asarray(eps, dtype=np.float64)
        p, here = self._descend(p, eps, exact=False, most=GAUSS_NEWTON)
        p, here = self._descend(p, eps, exact=True, most=NEWTON)
        scale = self._scale(here)
        hessian = finite(self.hessian(p, eps, here.frame) / np.outer(scale, scale), CURVATURE)
        curvatures = np.asarray(np.linalg.eigvalsh(hessian), np.float64)
        return Fit(p, here.loss, here.share, curvatures, here.share <= NOISE)

    @staticmethod
    def _scale(here: Local) -> FloatArray:
        diagonal = np.sqrt(np.diag(here.matrix))
        return np.maximum(diagonal, 1e-8 * float(diagonal.max(initial=0.0)) or 1.0)

    def _descend(
        self, p: FloatArray, eps: FloatArray, exact: bool, most: int
    ) -> tuple[FloatArray, Local]:
        here, damping, growth = self.local(p, eps), FIRST_DAMPING, 2.0
        end, losses = TOLERANCE if exact else CLOSE, list[float]()
        for _ in range(most):
            if here.share <= end or here.loss <= self._floor:
                break
            losses.append(here.loss)
            if exact and len(losses) > WINDOW:
                if losses[-1 - WINDOW] - here.loss <= STILL * here.loss:
                    break
            scale = self._scale(here)
            matrix = self.hessian(p, eps, here.frame) if exact else here.matrix
            values, vectors = np.linalg.eigh(finite(matrix / np.outer(scale, scale), CURVATURE))
            slopes = vectors.T @ (here.gradient / scale)
            least = max(0.0, -1.1 * float(values[0]))
            if exact and damping == FIRST_DAMPING:
                damping = LEAST_DAMPING
            while damping <= MOST_DAMPING:
                shifted = np.maximum(values + least + damping, LEAST_DAMPING)
                step = -(vectors @ (slopes / shifted)) / scale
                q = self.moved(p, here.frame @ step, eps)
                trial = self.loss(q, eps)
                foreseen = float((slopes**2 / shifted).sum()) * 0.5
                if np.isfinite(trial) and here.loss - trial > 1e-3 * foreseen:
                    break
                # Below the rounding of the loss the gradient decides.
                if exact and foreseen <= 1e-11 * here.loss:
                    near = self.local(q, eps)
                    if np.linalg.norm(near.gradient / scale) < 0.5 * np.linalg.norm(
                        here.gradient / scale
                    ):
                        break
                damping, growth = max(damping, LEAST_DAMPING) * growth, 2.0 * growth
            else:
                break
            p, damping, growth = q, max(damping / 5.0, LEAST_DAMPING), 2.0
            here = self.local(p, eps)
        return p, here
