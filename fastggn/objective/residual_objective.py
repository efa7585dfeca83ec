"""The objective of a problem of equations: its terms, their weights and their plans."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fastggn.data.scaler import Scaler
from fastggn.data.sources import ArraySource
from fastggn.network.channels import ChannelPlan, Channels
from fastggn.network.mlp import MLP
from fastggn.network.workspace import Block, WorkspacePool
from fastggn.objective.bound_terms import BoundTerm
from fastggn.objective.coefficients import Coefficients
from fastggn.objective.ggn_tiles import ChannelTiling
from fastggn.objective.jacobian import FactoredJacobian
from fastggn.objective.penalty import Penalty
from fastggn.objective.residual_loss import ResidualTerms, TermLoss
from fastggn.objective.residual_rows import ResidualRows, TermRows
from fastggn.objective.samples import Samples
from fastggn.objective.scales import at_least
from fastggn.runtime.cached import cached_property
from fastggn.runtime.comm import SERIAL, Comm
from fastggn.runtime.threads import pooled

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class ResidualObjective:
    """The checked parts of sum_t weight_t mean_i loss_t(r_t(x_i)) + l2/2 |W|^2.

    `weights` holds, for each term, those of its points in this process: the objective is their sum
    over all points of the losses times the weights, over the number of all points.
    """

    net: MLP
    parts: tuple[BoundTerm, ...]
    weights: tuple[FloatArray, ...]
    coefficients: Coefficients
    penalty: Penalty
    comm: Comm
    n_samples: int
    scaler: Scaler | None = None
    helpers: Comm = SERIAL

    @property
    def n_params(self) -> int:
        """N, with the coefficients."""
        return self.net.n_params + len(self.coefficients)

    @property
    def n_outputs(self) -> int:
        """n_L."""
        return self.net.n_outputs

    @cached_property
    def terms(self) -> ResidualTerms:
        """The losses of the terms."""
        pairs = zip(self.parts, self.weights, strict=True)
        losses = [TermLoss(part, w, self.n_samples) for part, w in pairs]
        k = np.array(list(self.coefficients.starts.values()))

        def at_zero() -> float:
            both = zip(losses, self.parts, strict=True)
            return sum(
                loss.at_zero(self.net.n_outputs, len(part.channels), k)
                for loss, part in both
                if part.n_samples
            )

        return ResidualTerms(losses, at_zero)

    @cached_property
    def plans(self) -> list[ChannelPlan]:
        """The chunks of each term."""
        return [
            ChannelPlan(
                self.net,
                part.n_samples,
                Channels(part.channels, self.net.n_inputs),
                len(self.coefficients),
                term=number,
                scaler=self.scaler,
            )
            for number, part in enumerate(self.parts)
        ]

    @cached_property
    def n_rows(self) -> int:
        """The rows of A on all ranks, M."""
        own = sum(p.n_samples * n for p, n in zip(self.parts, self.terms.columns, strict=True))
        return int(self.comm.total(own))

    @cached_property
    def tiling(self) -> ChannelTiling:
        """The tiles of the Gauss-Newton matrix."""
        return ChannelTiling(self.plans[0], max(plan.n_chunks for plan in self.plans))

    @pooled
    def slope_sizes(self, rows: FactoredJacobian) -> FloatArray:
        """Return sum_i |A_ij b_i|, and the same with the rounding of b_i / eps, shape (2, N)."""
        out, root = np.zeros((2, self.n_params)), np.sqrt(1.0 / self.n_samples)
        both = np.zeros((2, rows.n_rows))
        for block in rows.blocks():
            b = self.terms.factor(block)[1]
            if b is not None:
                both[0, rows.rows_of(block)] = root * np.abs(b).ravel()
            both[1, rows.rows_of(block)] = root * self.terms.rounding(block).ravel()
        for first, part in rows.row_blocks():
            out += both[:, first : first + part.shape[0]] @ np.abs(part)
        return self.comm.sum(out)

    def at_least(self, sizes: FloatArray) -> FloatArray:
        """Return sizes (N,), at least a share of the largest one in the same units."""
        n = self.net.n_params
        return np.concatenate([at_least(sizes[:n], self.net.layer_shapes), sizes[n:]])

    def weighted_rows(
        self, theta: FloatArray, factors: Callable[[Block], FloatArray] | None, spaces: Spaces
    ) -> ResidualRows:
        """Return A = sqrt(1 / T) S^T J for factors S."""
        assert factors is not None
        return self.rows(theta, factors, self.terms.columns, spaces, 1.0 / self.n_samples)

    def rows(
        self,
        theta: FloatArray,
        factors: Callable[[Block], FloatArray],
        columns: Sequence[int],
        spaces: Spaces,
        weight: float = 1.0,
    ) -> ResidualRows:
        """Return sqrt(weight) S^T J for factors S with these numbers of columns."""
        values = self.coefficients.at(theta[self.net.n_params :])
        parts = [
            TermRows(plan, Samples(part.source, None), theta, values, count, space)
            for plan, part, count, space in zip(
                self.plans, self.parts, columns, spaces.of_terms, strict=True
            )
        ]
        return ResidualRows(parts, self.tiling, factors, weight, self.comm, self.helpers)

    @cached_property
    def gathered(self) -> ResidualObjective:
        """The objective with the points of all ranks in this process (collective)."""
        if self.comm.size == 1:
            return self
        together = self.comm.concatenate
        parts = [
            replace(
                part,
                source=ArraySource("X", together(part.source.rows(0, part.n_samples))),
                targets=together(np.ascontiguousarray(part.targets)),
            )
            for part in self.parts
        ]
        weights = tuple(together(np.ascontiguousarray(w)) for w in self.weights)
        own = tuple(parts)
        return replace(self, parts=own, weights=weights, comm=SERIAL, helpers=self.comm)


class Spaces(WorkspacePool):
    """The workspaces of the terms, whose blocks live at the same time."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.of_terms = [WorkspacePool() for _ in range(count)]
