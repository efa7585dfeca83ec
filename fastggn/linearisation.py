"""The objective at one theta: loss, gradient, and the matrix of its Newton system."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fastggn.data.sources import StreamedTargets, is_streamed
from fastggn.jacobian import FactoredJacobian
from fastggn.losses import Loss
from fastggn.parallel.comm import Comm
from fastggn.parallel.threads import pooled
from fastggn.penalty import Penalty
from fastggn.samples import Samples
from fastggn.workspace import Block, Plan, WorkspacePool

__all__ = ["Linearisation", "LossTerms", "Objective", "prepared_targets"]

FloatArray = NDArray[np.float64]
Factor = tuple[FloatArray, FloatArray | None, FloatArray | None]


@dataclass(frozen=True)
class Objective:
    """What a problem minimises: (1/sum w) sum w_i E(F(x_i), y_i) + l2/2 |theta|^2.

    Attributes
    ----------
    plan : Plan
    samples : Samples
    targets : ndarray or StreamedTargets, shape (T, n_L)
    weights : ndarray, shape (T,)
        T w_i / sum w: exactly 1 where no weights are given. The objective divides by T.
    loss : Loss
    curvature : {"psd", "exact"}
    penalty : Penalty
        l2, and which parameters it counts.
    comm : Comm
        The processes that hold samples; plan, samples, targets and weights are this one's.
    n_samples : int
        T, of all processes.
    """

    plan: Plan
    samples: Samples
    targets: FloatArray | StreamedTargets
    weights: FloatArray
    loss: Loss
    curvature: str
    penalty: Penalty
    comm: Comm
    n_samples: int


def prepared_targets(
    loss: Loss,
    Y: Any,
    n_samples: int,
    n_outputs: int,
    also: Callable[[int, NDArray[Any]], None] | None = None,
) -> FloatArray | StreamedTargets:
    """Return checked targets: an array, or rows of a file after one pass, which `also` sees.

    Raises
    ------
    TypeError, ValueError
        As the loss's `prepare_targets` does.
    """
    if not is_streamed(Y):
        return loss.prepare_targets(Y, n_samples, n_outputs)
    if np.dtype(Y.dtype).kind not in "fiub":
        raise TypeError(f"Y must hold real numbers, got dtype {Y.dtype}")
    if not 1 <= len(Y.shape) <= 2 or Y.shape[0] != n_samples:
        raise ValueError(
            f"Y must have one row for each of the {n_samples} samples, got shape {tuple(Y.shape)}"
        )
    targets = StreamedTargets(Y, lambda rows, count: loss.prepare_targets(rows, count, n_outputs))
    targets.check(also)
    return targets


class LossTerms:
    """Value, gradient and curvature of the loss on a block, with the weights put in."""

    def __init__(self, objective: Objective) -> None:
        self._loss = objective.loss
        self._targets = objective.targets
        self._weights = objective.weights
        self._share = 1.0 / objective.n_samples
        self._exact = objective.curvature == "exact" and not objective.loss.psd_is_exact
        self.signed = self._exact and not objective.loss.convex

    def _at(self, block: Block) -> tuple[FloatArray, FloatArray, FloatArray]:
        rows = slice(block.start, block.stop)
        return block.outputs, self._targets[rows], self._weights[rows]

    def value(self, block: Block) -> float:
        """Return the weighted sum of the losses; inf or nan where the outputs overflow."""
        outputs, targets, weights = self._at(block)
        with np.errstate(all="ignore"):
            return self._share * float(np.sum(weights * self._loss.value(outputs, targets)))

    def gradient(self, block: Block) -> FloatArray:
        """Return (w_i / sum w) gradE_i, shape (B, n_L)."""
        outputs, targets, weights = self._at(block)
        with np.errstate(all="ignore"):
            return self._share * weights[:, None] * self._loss.gradient(outputs, targets)

    def hessian(self, block: Block) -> FloatArray:
        """Return (w_i / sum w) H_E,i, shape (B, n_L, n_L)."""
        outputs, targets, weights = self._at(block)
        with np.errstate(all="ignore"):
            return self._share * weights[:, None, None] * self._loss.hessian(outputs, targets)

    def factor(self, block: Block) -> Factor:
        """Return (S, b, signs): (B, n_L, n_S), (B, n_S) or None, (B, n_S) or None.

        With the square roots of the weights, but not of 1/T, in S and b.
        """
        outputs, targets, weights = self._at(block)
        root = np.sqrt(weights)
        with np.errstate(all="ignore"):
            if self.signed:
                factors, signs = self._loss.signed_factor(outputs, targets)
                return root[:, None, None] * factors, None, signs
            if self._exact:
                factors = self._loss.hessian_sqrt(outputs, targets)
                return root[:, None, None] * factors, None, None
            factors, b = self._loss.curvature_factor(outputs, targets)
            return root[:, None, None] * factors, None if b is None else root[:, None] * b, None

    def n_columns(self) -> int:
        """Return n_S, the columns of the factor of one sample."""
        targets = self._targets[:1]
        outputs = np.zeros_like(targets)
        if self.signed:
            return int(self._loss.signed_factor(outputs, targets)[0].shape[2])
        if self._exact:
            return int(self._loss.hessian_sqrt(outputs, targets).shape[2])
        return int(self._loss.curvature_factor(outputs, targets)[0].shape[2])


class _KeptFactor:
    """The loss's factor of the block that was asked for last.

    An object of its own: a closure over the linearisation would be a reference cycle, and its
    workspace would come back only with the next garbage collection.
    """

    def __init__(self, terms: LossTerms) -> None:
        self._terms = terms
        self._block: Block | None = None
        self._factor: Factor | None = None

    def of(self, block: Block) -> Factor:
        """Return (S, b, signs) of the block."""
        if self._factor is None or self._block is not block:
            self._block, self._factor = block, self._terms.factor(block)
        return self._factor

    def __call__(self, block: Block) -> FloatArray:
        """Return S of the block, shape (B, n_L, n_S)."""
        return self.of(block)[0]


class Linearisation:
    """The one weighted, damped, l2-regularised system that every solver answers.

    With A = sqrt(w_i) S_i^T J_i stacked over the samples and D = diag(signs) or I, the system is
    (A^T D A + mu I) s = A^T b + l2 theta with mu = l2 + damping, and the step is -s. Where the
    penalty spares the biases, l2 in it is 0 for these: `decay`.

    Attributes
    ----------
    theta : ndarray, shape (N,)
    n_rows, n_params : int
        M = T n_S and N.
    own_rows : int
        The rows of this process, of which vectors over the rows consist.
    comm : Comm
    l2 : float
    decay : float or ndarray, shape (N,)
    """

    def __init__(self, objective: Objective, theta: FloatArray, spaces: WorkspacePool) -> None:
        self.theta = theta
        self._penalty = objective.penalty
        self.comm = objective.comm
        self.n_params = objective.plan.n_params
        self._terms = LossTerms(objective)
        self._factors = _KeptFactor(self._terms)
        self._root = float(np.sqrt(1.0 / objective.n_samples))
        self.rows = FactoredJacobian(
            objective.plan,
            objective.samples,
            theta,
            self._factors,
            self._terms.n_columns(),
            spaces,
            weight=1.0 / objective.n_samples,
            isotropic=objective.loss.unit_hessian,
            comm=objective.comm,
        )
        self.own_rows = self.rows.n_rows
        self.n_rows = objective.n_samples * self.rows.n_columns

    @cached_property
    @pooled
    def data_loss(self) -> float:
        """The weighted mean of the losses; inf or nan where the outputs overflow."""
        return self.comm.total(sum(self._terms.value(block) for block in self.rows.blocks()))

    @cached_property
    def loss(self) -> float:
        """The objective: `data_loss` and l2/2 |theta|^2."""
        with np.errstate(over="ignore"):
            return self.data_loss + 0.5 * self._decayed(self.theta)

    @property
    def l2(self) -> float:
        """The weight of |theta|^2 / 2."""
        return self._penalty.l2

    @property
    def decay(self) -> FloatArray | float:
        """l2 of each parameter, shape (N,), where not all count in the penalty; else l2."""
        return self._penalty.each

    def _decayed(self, v: FloatArray) -> float:
        """Return ``v^T diag(decay) v``."""
        each = self._penalty.each
        if isinstance(each, float):
            return each * float(v @ v)
        return float(v @ (each * v))

    def reweigh(self, l2: float, relative: FloatArray | None = None) -> None:
        """Change the weight of |theta|^2 / 2; loss, gradient and system follow, A and b stay.

        `relative`, shape (N,), multiplies it for each parameter.
        """
        self._penalty = replace(self._penalty, l2=l2)
        if relative is not None:
            self._penalty = replace(self._penalty, counted=relative)
        self.__dict__.pop("loss", None)

    @cached_property
    def data_gradient(self) -> FloatArray:
        """The gradient of `data_loss`, shape (N,)."""
        return np.asarray(self.rows.pull_back(lambda block: self._terms.gradient(block)[None])[0])

    @property
    def gradient(self) -> FloatArray:
        """The gradient of `loss`, shape (N,): a new array."""
        return self.data_gradient + self.decay * self.theta

    @cached_property
    @pooled
    def b(self) -> FloatArray | None:
        """A vector (M,) with A^T b = `data_gradient`; None where no finite one exists."""
        out = np.empty(self.own_rows)
        missing = False
        for block in self.rows.blocks():
            part = self._factors.of(block)[1]
            missing = part is None
            if part is None:
                break
            out[self._slice(block)] = part.ravel()
        if self.comm.any(missing):
            return None
        out *= self._root
        return out

    @cached_property
    @pooled
    def signs(self) -> FloatArray | None:
        """The diagonal of D (M,): -1, 0 or 1; None for a positive semi-definite curvature."""
        if not self._terms.signed:
            return None
        out = np.empty(self.own_rows)
        for block in self.rows.blocks():
            part = self._factors.of(block)[2]
            assert part is not None
            out[self._slice(block)] = part.ravel()
        return out

    def _slice(self, block: Block) -> slice:
        columns = self.rows.n_columns
        return slice(block.start * columns, block.stop * columns)

    def matvec(self, v: FloatArray) -> FloatArray:
        """Return A v, shape (M,), for v of shape (N,)."""
        return np.asarray(self.rows.products(np.reshape(v, (1, -1)))[0])

    def rmatvec(self, u: FloatArray) -> FloatArray:
        """Return A^T u, shape (N,), for u of shape (M,)."""
        return np.asarray(self.rows.transposed_products(np.reshape(u, (1, -1)))[0])

    def gram(self, *, mixed: bool = False) -> FloatArray:
        """Return A^T D A, shape (N, N): a new symmetric array.

        With `mixed` it is assembled in float32, to about 1e-7 of its largest entries.
        """
        return self.rows.gram(self.signs, mixed=mixed)

    def dual_gram(self) -> FloatArray:
        """Return A A^T, shape (M, M): a new symmetric array."""
        return self.rows.dual_gram()

    @pooled
    def bias_columns(self) -> FloatArray:
        """Return the columns of A that belong to the free biases, shape (M, units)."""
        parts = []
        for block in self.rows.blocks():
            psi = block.sensitivities(self._factors(block))
            by_sample = psi.reshape(block.n_chunks, psi.shape[1], self.rows.n_columns, -1)
            rows = by_sample.transpose(0, 3, 2, 1).reshape(-1, psi.shape[1])
            parts.append(self._root * rows[: block.size * self.rows.n_columns])
        return np.concatenate(parts)

    def row_blocks(self) -> Iterator[tuple[FloatArray, FloatArray | None]]:
        """Yield (rows of A (r, N), entries of b (r,) or None) in order, r bounded.

        Nothing else may be asked of this object before the last block is consumed.
        """
        b = self.b
        for first, rows in self.rows.row_blocks():
            yield rows, None if b is None else b[first : first + rows.shape[0]]

    def kronecker_factors(self) -> list[tuple[FloatArray, FloatArray]]:
        """Return (U_l (n_l, n_l), V_l (m_l, m_l)): A^T A of layer l is close to kron(U_l, V_l)."""
        return self.rows.kronecker_factors()

    @pooled
    def curvature_along(self, v: FloatArray) -> FloatArray:
        """Return S^T d^2 F(theta + t v) / dt^2 with A's weights, shape (M,).

        The right-hand side of geodesic acceleration (Transtrum and Sethna 2012).
        """
        out = np.empty(self.own_rows)
        for block in self.rows.blocks():
            second = block.second_tangent(np.ascontiguousarray(v))
            out[self._slice(block)] = np.einsum(
                "bos,bo->bs", self._factors.of(block)[0], second
            ).ravel()
        out *= self._root
        return out

    def data_residual(self, x: FloatArray) -> FloatArray | None:
        """Return A^T (b - A x), shape (N,), in one pass; None where no finite b exists.

        Nothing that grows with the samples is held: the residual of a block's rows goes back
        through the network at once.
        """
        direction = np.ascontiguousarray(x).reshape(1, -1)
        missing = False

        def outer(block: Block) -> FloatArray:
            nonlocal missing
            factor, b, _ = self._factors.of(block)
            if b is None:
                missing = True
                return np.zeros((1, *block.outputs.shape))
            image = self.rows.by_factor("bos,pbo->pbs", factor, block.tangents(direction))
            residual = self._root * b - self._root * image
            return self.rows.by_factor("bos,pbs->pbo", factor, self._root * residual)

        found = self.rows.pull_back(outer)[0]
        return None if self.comm.any(missing) else np.asarray(found)

    @pooled
    def _curvature(self, v: FloatArray) -> float:
        """Return v^T A^T D A v, block by block."""
        direction = np.ascontiguousarray(v).reshape(1, -1)
        own = 0.0
        for block in self.rows.blocks():
            factor, _, signs = self._factors.of(block)
            image = self.rows.by_factor("bos,pbo->pbs", factor, block.tangents(direction)).ravel()
            image *= self._root
            own += float(image @ (image if signs is None else signs.ravel() * image))
        return self.comm.total(own)

    def images(self, v: FloatArray) -> Iterator[FloatArray]:
        """Yield A v, of this process, in parts; see `fastggn.parallel.threads.pooled`."""
        direction = np.ascontiguousarray(v).reshape(1, -1)
        for block in self.rows.blocks():
            image = self.rows.by_factor(
                "bos,pbo->pbs", self._factors(block), block.tangents(direction)
            )
            image *= self._root
            yield image.ravel()

    def predicted_decrease(self, step: FloatArray) -> float:
        """Return the decrease of the quadratic model along `step` (N,), at the cost of one J v."""
        promised = -float(self.gradient @ step)
        return promised - 0.5 * (self._curvature(step) + self._decayed(step))
