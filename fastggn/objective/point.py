"""The objective at one theta: loss, gradient, and Newton system."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fastggn.data.sources import StreamedTargets, as_source
from fastggn.network.losses.base import Loss
from fastggn.network.workspace import Block, Plan, WorkspacePool
from fastggn.objective.jacobian import FactoredJacobian
from fastggn.objective.loss_terms import Factor, LossTerms
from fastggn.objective.penalty import Penalty
from fastggn.objective.protocols import AnyObjective, Terms
from fastggn.objective.samples import Samples
from fastggn.objective.scales import at_least, slope_sizes
from fastggn.runtime.cached import cached_property
from fastggn.runtime.comm import SERIAL, Comm
from fastggn.runtime.threads import pooled

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Objective:
    """The checked parts of (1/sum w) sum_i w_i E(F(x_i), y_i) + l2/2 |theta|^2.

    Plan, samples, targets and weights belong to this process.
    """

    plan: Plan
    samples: Samples
    targets: FloatArray | StreamedTargets
    weights: FloatArray  # T w_i / sum w, shape (T,): the objective divides by T
    weighted: bool
    loss: Loss
    curvature: str
    penalty: Penalty
    comm: Comm
    n_samples: int  # T, over all processes
    helpers: Comm = SERIAL  # processes with the same samples, which share the work of the dual

    @cached_property
    def terms(self) -> LossTerms:
        """The loss on blocks of the samples."""
        weights = self.weights if self.weighted else None
        return LossTerms(self.loss, self.targets, weights, self.n_samples, self.curvature)

    @property
    def n_params(self) -> int:
        """N."""
        return self.plan.n_params

    @property
    def n_outputs(self) -> int:
        """n_L."""
        return self.plan.n_outputs

    def slope_sizes(self, rows: FactoredJacobian) -> FloatArray:
        """Return mean_i |J_ij r_i|, and the same with the rounding of r_i / eps, shape (2, N)."""
        return slope_sizes(rows, self.terms)

    def at_least(self, sizes: FloatArray) -> FloatArray:
        """Return sizes (N,), at least a share of the largest one in the same units."""
        return at_least(sizes, self.plan.net.layer_shapes)

    @property
    def n_rows(self) -> int:
        """The rows of A on all ranks, M."""
        return self.n_samples * self.terms.n_columns

    def weighted_rows(
        self,
        theta: FloatArray,
        factors: Callable[[Block], FloatArray] | None,
        spaces: WorkspacePool,
    ) -> FactoredJacobian:
        """Return A = sqrt(1 / T) S^T J for factors S, or S = I."""
        return FactoredJacobian(
            self.plan,
            self.samples,
            theta,
            factors,
            self.terms.n_columns,
            spaces,
            weight=1.0 / self.n_samples,
            output_weights=self.terms.output_weights,
            comm=self.comm,
            helpers=self.helpers,
        )

    @cached_property
    def gathered(self) -> Objective:
        """The objective with the samples of all ranks in this process (collective)."""
        if self.comm.size == 1:
            return self
        together, plan = self.comm.concatenate, self.plan
        inputs, gates = self.samples.read(0, plan.n_samples)
        targets = together(self.targets[0 : plan.n_samples])
        all_gates = together(gates) if self.samples.gated else None
        source = as_source("X", together(inputs))
        return replace(
            self,
            plan=Plan(plan.net, self.n_samples, gated=self.samples.gated),
            samples=Samples(source, all_gates, targets),
            targets=targets,
            weights=together(np.ascontiguousarray(self.weights)),
            comm=SERIAL,
            helpers=self.comm,
        )


class _KeptFactor:
    """The loss's factor of the last block, and its b.

    A closure over the point would be a cycle, which holds the workspace until it is collected.
    """

    def __init__(self, terms: Terms) -> None:
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

    def b(self, block: Block) -> FloatArray | None:
        """Return b of the block, shape (B, n_S), or None if no finite b exists."""
        return self._terms.b(block) if self._terms.identity else self.of(block)[1]


class Point:
    """The weighted, damped, l2-regularised system that every solver solves.

    With A = sqrt(w_i) S_i^T J_i stacked over the samples and D = diag(signs) or I, the system is
    (A^T D A + mu I) s = A^T b + l2 theta with mu = l2 + damping, and the step is -s. A has
    M = `n_rows` rows, of which `own_rows` belong to this process, and N = `n_params` columns.
    """

    shared_rows = 0  # every row belongs to one process

    def __init__(self, objective: AnyObjective, theta: FloatArray, spaces: WorkspacePool) -> None:
        self.theta = theta
        self._penalty = objective.penalty
        self._objective = objective
        self._spaces = spaces
        self.comm = objective.comm
        self.n_params = objective.n_params
        self._terms = objective.terms
        self._factors = _KeptFactor(self._terms)
        self._root = float(np.sqrt(1.0 / objective.n_samples))
        factors = None if self._terms.identity else self._factors
        self.rows = objective.weighted_rows(theta, factors, spaces)
        self.own_rows = self.rows.n_rows
        self.n_rows = objective.n_rows
        self.curvature_samples = objective.n_samples

    def gathered(self) -> Point:
        """Return the system with the rows of all ranks in this process (collective)."""
        if self.comm.size == 1:
            return self
        whole = Point(self._objective.gathered, self.theta, self._spaces)
        whole.reweigh(self.l2)
        return whole

    @cached_property
    @pooled
    def data_loss(self) -> float:
        """The weighted mean of the losses; inf or nan where the outputs overflow."""
        return self.comm.total(sum(self._terms.value(block) for block in self.rows.blocks()))

    @pooled
    def output_losses(self) -> FloatArray:
        """Return the part of each output in `data_loss`, shape (n_L,), of a separable loss."""
        out = np.zeros(self._objective.n_outputs)
        for block in self.rows.blocks():
            out += self._terms.by_output(block)
        return self.comm.sum(out)

    @cached_property
    def loss(self) -> float:
        """The objective: `data_loss` plus l2/2 |theta|^2."""
        with np.errstate(over="ignore"):
            return self.data_loss + 0.5 * self._decayed(self.theta)

    @property
    def l2(self) -> float:
        """The weight of |theta|^2 / 2."""
        return self._penalty.l2

    @property
    def decay(self) -> FloatArray | float:
        """l2, or the l2 of each parameter, shape (N,), if they differ."""
        return self._penalty.each

    def _decayed(self, v: FloatArray) -> float:
        """Return ``v^T diag(decay) v``."""
        each = self._penalty.each
        if isinstance(each, float):
            return each * float(v @ v)
        return float(v @ (each * v))

    @pooled
    def evaluate(self) -> None:
        """Compute `data_loss` and `data_gradient` in one pass over the samples."""
        if self.rows.keeps_block and self.comm.size == 1:
            return  # there is no second forward sweep; ranks make the same calls
        losses = 0.0

        def cotangents(block: Block) -> FloatArray:
            nonlocal losses
            losses += self._terms.value(block)
            return self._terms.gradient(block)[None]

        gradient = np.asarray(self.rows.pull_back(cotangents)[0])
        self.__dict__ |= {"data_loss": self.comm.total(losses), "data_gradient": gradient}

    def reweigh(self, l2: float, relative: FloatArray | None = None) -> None:
        """Change l2 of loss, gradient and system, times `relative` (N,) if given; keep A and b."""
        self._penalty = replace(self._penalty, l2=l2)
        if relative is not None:
            self._penalty = replace(self._penalty, counted=relative)
        self.__dict__.pop("loss", None)

    @cached_property
    def data_gradient(self) -> FloatArray:
        """The gradient of `data_loss`, shape (N,)."""
        if self.rows.thin and self.b is not None:
            return self.rmatvec(self.b)
        return np.asarray(self.rows.pull_back(lambda block: self._terms.gradient(block)[None])[0])

    @property
    def gradient(self) -> FloatArray:
        """The gradient of `loss`, shape (N,), as a new array."""
        return self.data_gradient + self.decay * self.theta

    def slope_sizes(self) -> tuple[FloatArray, FloatArray]:
        """Return mean_i |J_ij r_i| + |decay_j theta_j|, and its rounding / eps, shapes (N,).

        The former is at least a share of the largest one in the same units.
        """
        terms, rounding = self._objective.slope_sizes(self.rows)
        decay = np.abs(self.decay * self.theta)
        return self._objective.at_least(terms + decay), rounding + decay

    def loss_scales(self) -> tuple[float, float]:
        """Return about the least loss of a constant output, and the loss of outputs of 0."""
        return self._terms.of_constants(self.comm)

    @cached_property
    @pooled
    def b(self) -> FloatArray | None:
        """A vector (M,) with A^T b = `data_gradient`, or None if no finite b exists."""
        out = np.empty(self.own_rows)
        missing = False
        for block in self.rows.blocks():
            part = self._factors.b(block)
            missing = part is None
            if part is None:
                break
            out[self.rows.rows_of(block)] = part.ravel()
        if self.comm.any(missing):
            return None
        out *= self._root
        return out

    @cached_property
    @pooled
    def signs(self) -> FloatArray | None:
        """The diagonal of D (M,) of -1, 0 and 1; None for a positive semi-definite curvature."""
        if not self._terms.signed:
            return None
        out = np.empty(self.own_rows)
        for block in self.rows.blocks():
            part = self._factors.of(block)[2]
            assert part is not None
            out[self.rows.rows_of(block)] = part.ravel()
        return out

    def matvec(self, v: FloatArray) -> FloatArray:
        """Return A v, shape (M,), for v of shape (N,)."""
        return np.asarray(self.rows.products(np.reshape(v, (1, -1)))[0])

    def rmatvec(self, u: FloatArray) -> FloatArray:
        """Return A^T u, shape (N,), for u of shape (M,)."""
        return np.asarray(self.rows.transposed_products(np.reshape(u, (1, -1)))[0])

    def gram(self, *, mixed: bool = False) -> FloatArray:
        """Return A^T D A, shape (N, N), as a new array, assembled in float32 if `mixed`."""
        return self.rows.gram(self.signs, mixed=mixed)

    def dual_gram(self) -> FloatArray:
        """Return A A^T, shape (M, M), as a new array; over ranks, call it on `gathered`."""
        return self.rows.dual_gram()

    def bias_columns(self) -> FloatArray:
        """Return the columns of A of the parameters that l2 may spare, shape (M, their number)."""
        return self.rows.bias_columns()

    def row_blocks(self) -> Iterator[tuple[FloatArray, FloatArray | None]]:
        """Yield (rows of A (r, N), entries of b (r,) or None) in order, with bounded r."""
        # The blocks share the workspace: call no other method before the last block.
        b = self.b
        for first, rows in self.rows.row_blocks():
            yield rows, None if b is None else b[first : first + rows.shape[0]]

    def column_errors(self) -> FloatArray:
        """Return the norms of the rounding errors in the columns of A, shape (N,)."""
        return self.rows.entry_errors().columns

    def kronecker_factors(self) -> list[tuple[FloatArray, FloatArray]]:
        """Return (U_l (n_l, n_l), V_l (m_l, m_l)): kron(U_l, V_l) approximates A^T A of layer l."""
        return self.rows.kronecker_factors()

    @pooled
    def curvature_along(self, v: FloatArray) -> FloatArray:
        """Return S^T d^2 F(theta + t v) / dt^2 with A's weights, shape (M,)."""
        # The right-hand side of geodesic acceleration (Transtrum and Sethna 2012).
        out = np.empty(self.own_rows)
        for block in self.rows.blocks():
            second = block.second_tangent(np.ascontiguousarray(v))
            image = self.rows.by_factor("bos,pbo->pbs", block, second[None])[0]
            bend = self._terms.bend(block, v)
            if bend is not None:
                image = image + bend
            out[self.rows.rows_of(block)] = image.ravel()
        out *= self._root
        return out

    def data_residual(self, x: FloatArray) -> FloatArray | None:
        """Return A^T (b - A x), shape (N,), in one pass, or None if no finite b exists."""
        # The residual of each block goes back at once: the memory does not grow with the samples.
        direction = np.ascontiguousarray(x).reshape(1, -1)
        missing = False

        def outer(block: Block) -> FloatArray:
            nonlocal missing
            b = self._factors.b(block)
            if b is None:
                missing = True
                return np.zeros((1, *block.outputs.shape))
            image = self.rows.by_factor("bos,pbo->pbs", block, block.tangents(direction))
            residual = self._root * b - self._root * image
            return self.rows.by_factor("bos,pbs->pbo", block, self._root * residual)

        found = self.rows.pull_back(outer)[0]
        return None if self.comm.any(missing) else np.asarray(found)

    @pooled
    def _curvature(self, v: FloatArray) -> float:
        """Return v^T A^T D A v, block by block."""
        direction = np.ascontiguousarray(v).reshape(1, -1)
        own = 0.0
        for block in self.rows.blocks():
            signs = self._factors.of(block)[2] if self._terms.signed else None
            image = self.rows.by_factor("bos,pbo->pbs", block, block.tangents(direction)).ravel()
            image *= self._root
            own += float(image @ (image if signs is None else signs.ravel() * image))
        return self.comm.total(own)

    def images(self, v: FloatArray) -> Iterator[FloatArray]:
        """Yield A v, with the rows of this process, in parts."""
        direction = np.ascontiguousarray(v).reshape(1, -1)
        for block in self.rows.blocks():
            image = self.rows.by_factor("bos,pbo->pbs", block, block.tangents(direction))
            image *= self._root
            yield image.ravel()

    def predicted_decrease(self, step: FloatArray) -> float:
        """Return the decrease of the quadratic model along `step` (N,), by one product J v."""
        promised = -float(self.gradient @ step)
        return promised - 0.5 * (self._curvature(step) + self._decayed(step))


def unweighted_rows(
    objective: Objective, theta: FloatArray, spaces: WorkspacePool
) -> FactoredJacobian:
    """Return the Jacobian of the outputs, without loss and weights."""
    return FactoredJacobian(
        objective.plan,
        objective.samples,
        theta,
        None,
        objective.plan.n_outputs,
        spaces,
        output_weights=np.ones(objective.plan.n_outputs),
        comm=objective.comm,
        helpers=objective.helpers,
    )
