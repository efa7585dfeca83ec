"""One pass over the samples, which gives every rank of the bounds and the certificate."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fastggn.analysis.rank.groups import RankGroups
from fastggn.analysis.rank.spectrum import FloatArray, Rank, RowSpectrum, rank_of_matrix
from fastggn.kernels.spectrum import CERTAIN, RANK_TOLERANCE
from fastggn.objective.entry_errors import EntryErrors
from fastggn.objective.layer_blocks import LayerBlock
from fastggn.objective.problem import Problem
from fastggn.runtime.comm import Comm
from fastggn.runtime.threads import one_pool
from fastggn.training.step import norm


@dataclass(frozen=True)
class LayerRanks:
    """The ranks of layer l.

    Attributes
    ----------
    number : int
        l, from 1.
    n_units, n_inputs : int
        n_l and m_l.
    block : Rank
        Of Psi_l (.) Phi_{l-1}, the layer's rows of P(W).
    phi, phi_core : Rank
        Of Phi_{l-1}, with and without the row of the dummy unit of a free bias.
    psi : dict of int to int
        Number of samples for each rank of Psi_l^(i).
    psi_gap : float
        The smallest gap among the Psi_l^(i); also small where a singular value is near rounding.
    greedy : int
        Largest sum of rank(Psi_l^(i)) over samples with linearly independent phi_{l-1}^(i): a
        lower bound on ``block``, sharper than Shen (2018, Eq. 23).
    greedy_gap : float
        The smallest gap among its ranks.
    weights, weights_core : Rank
        Of W_l, with and without the column of a free bias.
    zero_derivatives : int
        Entries of sigma'(z_l) that are 0, over all samples and units.
    """

    number: int
    n_units: int
    n_inputs: int
    block: Rank
    phi: Rank
    phi_core: Rank
    psi: dict[int, int]
    psi_gap: float
    greedy: int
    greedy_gap: float
    weights: Rank
    weights_core: Rank
    zero_derivatives: int

    @property
    def psi_total(self) -> int:
        """Sum of rank(Psi_l^(i)) over the samples."""
        return sum(rank * count for rank, count in self.psi.items())

    @property
    def clear(self) -> bool:
        """Whether no rank of this layer is within rounding errors."""
        small = self.psi_gap < CERTAIN or self.greedy_gap < CERTAIN
        return self.block.clear and self.phi.clear and not small


@dataclass(frozen=True, eq=False)
class Measurement:
    """The result of one pass over the samples.

    Attributes
    ----------
    outputs, jacobian : Rank
        Of Phi_L and of P(W), whose `singular_values` descend.
    active, smallest_active : Rank, float
        Rank and smallest singular value of the columns of the `n_active` samples of non-zero
        weight; 0 where there are fewer parameters than columns.
    error_norm, unseen_norm : float
        |eps|, sample weights over their mean included, and |(I - P^+ P) eps|.
    """

    layers: tuple[LayerRanks, ...]
    outputs: Rank
    singular_values: FloatArray
    jacobian: Rank
    active: Rank
    smallest_active: float
    error_norm: float
    unseen_norm: float
    data_gradient: FloatArray
    n_active: int

    @property
    def clear(self) -> bool:
        """Whether no rounding error can change the rank of P(W)."""
        if not self.jacobian.clear:
            return False
        # The row blocks' singular values must stand above the rounding errors of P(W), too.
        rounding = CERTAIN * self.jacobian.tolerance
        return not any(layer.block.smallest < rounding for layer in self.layers)


class _LayerSums:
    def __init__(
        self, number: int, n_units: int, n_inputs: int, n_core: int, columns: slice
    ) -> None:
        self.number, self.n_units, self.n_inputs = number, n_units, n_inputs
        self.n_core, self.columns = n_core, columns
        self.block = RowSpectrum(n_units * n_inputs)
        self.phi = RowSpectrum(n_inputs)
        self.groups = RankGroups(n_inputs)
        self.psi: Counter[int] = Counter()
        self.psi_gap = float("inf")
        self.psi_range = [float("inf"), 0.0]
        self.zeros = 0

    def fold(self, part: LayerBlock, rows: FloatArray) -> None:
        index = self.number - 1
        phi, psi = part.inputs[index], part.sensitivities[index]
        self.block.fold(rows)
        self.phi.fold(phi)
        ranks = self._psi_ranks(psi)
        self.groups.fold(phi, ranks)
        self.zeros += int(np.count_nonzero(part.derivatives[index] == 0.0))

    def _psi_ranks(self, psi: FloatArray) -> NDArray[np.int64]:
        """Return rank(Psi^(i)), shape (B,), and count them."""
        if min(psi.shape[1:]) == 1:  # the norm of a vector is its singular value
            size = np.abs(psi).max(axis=(1, 2), keepdims=True)
            unit = psi / np.where(size > 0.0, size, 1.0)  # squares could over- or underflow
            s = size[:, 0] * np.sqrt(np.einsum("bko,bko->b", unit, unit))[:, None]
        else:
            s = np.linalg.svd(psi, compute_uv=False)
        largest = s[:, :1]
        kept = s > RANK_TOLERANCE * largest
        ranks = np.asarray(kept.sum(axis=1), dtype=np.int64)
        numbers, counts = np.unique(ranks, return_counts=True)
        for number, count in zip(numbers.tolist(), counts.tolist(), strict=True):
            self.psi[number] += count
        self._note_sizes(s, kept)
        return ranks

    def _note_sizes(self, s: FloatArray, kept: NDArray[np.bool_]) -> None:
        smallest = np.where(kept, s, np.inf).min(axis=1)
        self.psi_range[0] = min(self.psi_range[0], float(smallest.min()))
        self.psi_range[1] = max(self.psi_range[1], float(s.max()))
        if s.shape[1] == 1:
            return
        dropped = np.where(kept, 0.0, s).max(axis=1)
        unclear = (dropped > 0.0) & np.isfinite(smallest)
        if unclear.any():
            gap = float((smallest[unclear] / dropped[unclear]).min())
            self.psi_gap = min(self.psi_gap, gap)

    def unite(self, comm: Comm) -> None:
        self.block.unite(comm)
        self.phi.unite(comm)
        self.groups.unite(comm)
        self.psi = sum(comm.gather(self.psi), Counter())
        self.psi_gap = comm.least(self.psi_gap)
        self.psi_range = [comm.least(self.psi_range[0]), comm.largest(self.psi_range[1])]
        self.zeros = int(comm.total(self.zeros))

    def _gap_of_psi(self, phi: Rank, block: Rank) -> float:
        """Return the smallest gap of the Psi^(i) and of their products with Phi."""
        if self.psi_range[1] == 0.0 or phi.rank == 0:
            return self.psi_gap
        # The row block can have the product of the smallest values as its singular value.
        rounding = RANK_TOLERANCE * self.psi_range[1]
        rounding = max(rounding * phi.smallest, block.tolerance)
        if rounding == 0.0:  # the products underflow
            return 0.0
        return float(min(self.psi_gap, self.psi_range[0] * phi.smallest / rounding))

    def finish(self, weights: FloatArray, n_samples: int, errors: EntryErrors) -> LayerRanks:
        off = float(errors.layers[self.number - 1])
        phi = self.phi.rank(entry_error=off)
        block = self.block.rank(entry_error=errors.norm_of(self.columns))
        core = phi
        if self.n_core < self.n_inputs:
            core_rows = RowSpectrum(self.n_core)
            core_rows.fold(self.phi.matrix()[:, : self.n_core])
            core_rows.n_rows = n_samples
            core = core_rows.rank(entry_error=off)
        greedy, greedy_gap = self.groups.best_sum(phi, n_samples, off)
        return LayerRanks(
            number=self.number,
            n_units=self.n_units,
            n_inputs=self.n_inputs,
            block=block,
            phi=phi,
            phi_core=core,
            psi=dict(sorted(self.psi.items())),
            psi_gap=self._gap_of_psi(phi, block),
            greedy=greedy,
            greedy_gap=greedy_gap,
            weights=rank_of_matrix(weights),
            weights_core=rank_of_matrix(weights[:, : self.n_core]),
            zero_derivatives=self.zeros,
        )


class _ErrorSums:
    """The running factorisations of all of P with the error gradient."""

    def __init__(self, n_params: int) -> None:
        self.active = RowSpectrum(n_params, with_rhs=True)
        self.idle = RowSpectrum(n_params)
        self.gradient = np.zeros(n_params)
        self.error = 0.0
        self.n_active = 0

    def fold(self, part: LayerBlock, rows: FloatArray) -> None:
        errors = part.errors.ravel()
        with np.errstate(over="ignore", invalid="ignore"):
            self.gradient += errors @ rows
        self.error = math.hypot(self.error, norm(errors))
        on = part.weights > 0.0
        self.n_active += int(np.count_nonzero(on))
        if on.all():
            self.active.fold(rows, errors)
            return
        chosen = np.repeat(on, part.outputs.shape[1])
        self.active.fold(rows[chosen], errors[chosen])
        self.idle.fold(rows[~chosen])

    def unite(self, comm: Comm) -> None:
        self.active.unite(comm)
        self.idle.unite(comm)
        comm.sum(self.gradient)
        self.error = comm.norm(self.error)
        self.n_active = int(comm.total(self.n_active))

    def whole(self) -> RowSpectrum:
        both = RowSpectrum(self.active.n_columns)
        for part in (self.active, self.idle):
            for rows in part.rows():
                both.fold(rows)
        both.n_rows = self.active.n_rows + self.idle.n_rows
        return both


def measure(
    problem: Problem,
    theta: FloatArray,
    tol: float | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Measurement:
    """Pass once over the samples and return the ranks."""
    net = problem.network
    ends = np.cumsum([0, *(n * m for n, m in net.layer_shapes)])
    layers = [
        _LayerSums(number, n, m, net.widths[number - 1], slice(ends[number - 1], ends[number]))
        for number, (n, m) in enumerate(net.layer_shapes, start=1)
    ]
    outputs = RowSpectrum(net.n_outputs)
    total = _ErrorSums(problem.n_params)
    blocks = problem.layer_blocks(theta)
    with one_pool():
        with problem.comm.raise_on_all():
            for part in blocks:
                _fold(part, layers, outputs, total)
                if progress is not None:
                    progress(part.stop, problem.relative_weights.size)
        for layer in layers:
            layer.unite(problem.comm)
        outputs.unite(problem.comm)
        total.unite(problem.comm)
        errors, weights = problem.jacobian(theta).entry_errors(), net.unpack(theta)
        found = [
            layer.finish(w, problem.n_samples, errors)
            for layer, w in zip(layers, weights, strict=True)
        ]
        return _finish(problem, found, outputs, total, errors, tol)


def _fold(
    part: LayerBlock, layers: list[_LayerSums], outputs: RowSpectrum, total: _ErrorSums
) -> None:
    rows = part.jacobian_rows()
    _check_finite(rows, part)
    total.fold(part, rows)
    for layer in layers:
        layer.fold(part, rows[:, layer.columns])
    outputs.fold(part.outputs)


def _finish(
    problem: Problem,
    layers: list[LayerRanks],
    outputs: RowSpectrum,
    total: _ErrorSums,
    errors: EntryErrors,
    tol: float | None,
) -> Measurement:
    values, active, unseen = total.active.decompose(tol, errors.norm)
    smallest = float(values[-1]) if total.active.n_rows <= problem.n_params else 0.0
    whole = active
    if total.idle.n_rows:  # of all ranks
        spectrum = total.whole()
        values, whole = spectrum.values(), spectrum.rank(tol, errors.norm)
    return Measurement(
        layers=tuple(layers),
        outputs=outputs.rank(entry_error=float(errors.layers[-1])),
        singular_values=values,
        jacobian=whole,
        active=active,
        smallest_active=smallest,
        error_norm=total.error,
        unseen_norm=unseen,
        data_gradient=total.gradient / problem.n_samples,
        n_active=total.n_active,
    )


def _check_finite(rows: FloatArray, part: LayerBlock) -> None:
    if not (np.isfinite(rows).all() and np.isfinite(part.errors).all()):
        raise np.linalg.LinAlgError(
            f"the Jacobian or the error is not finite at samples {part.start}..{part.stop - 1}: "
            "the weights are too large"
        )
