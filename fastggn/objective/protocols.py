"""What a point asks of an objective and of its loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from fastggn.network.workspace import Block, WorkspacePool
from fastggn.objective.jacobian import FactoredJacobian
from fastggn.objective.loss_terms import Factor
from fastggn.objective.penalty import Penalty
from fastggn.runtime.comm import Comm

FloatArray = NDArray[np.float64]


class Terms(Protocol):
    """The loss on blocks of samples, as `LossTerms` has it."""

    signed: bool
    identity: bool

    def value(self, block: Block) -> float: ...  # noqa: D102
    def gradient(self, block: Block) -> FloatArray: ...  # noqa: D102
    def hessian(self, block: Block) -> FloatArray: ...  # noqa: D102
    def factor(self, block: Block) -> Factor: ...  # noqa: D102
    def b(self, block: Block) -> FloatArray: ...  # noqa: D102
    def bend(self, block: Block, v: FloatArray) -> FloatArray | None: ...  # noqa: D102
    def by_output(self, block: Block) -> FloatArray: ...  # noqa: D102
    def of_constants(self, comm: Comm) -> tuple[float, float]: ...  # noqa: D102


class AnyObjective(Protocol):
    """What a point asks of an objective: the samples of a problem, or the terms of equations."""

    @property
    def penalty(self) -> Penalty: ...  # noqa: D102
    @property
    def comm(self) -> Comm: ...  # noqa: D102
    @property
    def n_samples(self) -> int: ...  # noqa: D102
    @property
    def n_params(self) -> int: ...  # noqa: D102
    @property
    def n_rows(self) -> int: ...  # noqa: D102
    @property
    def n_outputs(self) -> int: ...  # noqa: D102
    @property
    def terms(self) -> Terms: ...  # noqa: D102
    @property
    def gathered(self) -> AnyObjective: ...  # noqa: D102
    def slope_sizes(self, rows: FactoredJacobian) -> FloatArray: ...  # noqa: D102
    def at_least(self, sizes: FloatArray) -> FloatArray: ...  # noqa: D102
    def weighted_rows(  # noqa: D102
        self,
        theta: FloatArray,
        factors: Callable[[Block], FloatArray] | None,
        spaces: WorkspacePool,
    ) -> FactoredJacobian: ...
