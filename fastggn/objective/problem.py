"""A training problem: a network, its samples and a loss, and every function of theta."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastggn.data.sources import SampleSource, StreamedTargets, as_source, check_rows
from fastggn.network.losses import get_loss
from fastggn.network.losses.base import Loss
from fastggn.network.losses.output_weights import OutputWeighted, WeightedSquares, weighted_targets
from fastggn.network.mlp import MLP
from fastggn.network.workspace import Plan, WorkspacePool
from fastggn.objective.column_moments import ColumnMoments, SampleColumns
from fastggn.objective.curvature import dense_hessian
from fastggn.objective.digest import digest
from fastggn.objective.functions import Functions
from fastggn.objective.jacobian import FactoredJacobian, KhatriRaoJacobian
from fastggn.objective.layer_blocks import (
    LayerBlock,
    layer_blocks,
    layer_outputs,
    layer_sensitivities,
)
from fastggn.objective.penalty import Penalty, weights_of
from fastggn.objective.point import Objective, Point, unweighted_rows
from fastggn.objective.sample_checks import (
    balance,
    check_kinds,
    check_total,
    checked_gates,
    checked_rows,
    checked_weights,
    prepared_targets,
    shared_parts,
)
from fastggn.objective.sampled import draw_rows
from fastggn.objective.samples import Samples
from fastggn.objective.target_units import output_units
from fastggn.runtime.comm import Comm
from fastggn.runtime.errors import check_positive, checked_flag
from fastggn.runtime.ranks import as_comm
from fastggn.runtime.threads import pooled

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]


class Problem(Functions):
    """Minimise (1/sum w) sum_i w_i E(F(x_i; theta), y_i) + l2/2 |theta|^2 over theta.

    Parameters
    ----------
    net : MLP
        The network F.
    X : array_like, shape (T, n_0)
        Samples by rows: an array, ``np.memmap``, or any object with shape, dtype and row slices.
        Every pass reads the rows of a file (a map, h5py, Zarr, `fastggn.data.open_npy`).
    Y : array_like
        Targets, of the same kinds: shape (T, n_L); (T,) if n_L = 1; or integer labels 0..n_L-1 of
        shape (T,) for softmax cross-entropy.
    loss : str or object
        A name (squared, softmax_cross_entropy, logistic, cauchy, blake_zisserman, smooth_lp,
        huber), a loss object, or an object with value, gradient, hessian and hessian_sqrt.
    sample_weight : array_like, shape (T,) or (T, n_L), optional
        Non-negative weights, not all zero; the objective takes the weighted mean. With a weight for
        each target, a target of weight 0 may be NaN; this needs a loss that sums over the outputs,
        and targets in memory.
    l2 : float
        Weight of |theta|^2 / 2.
    penalize_biases : bool
        False excludes the free biases from the penalty, as in scikit-learn.
    gates : sequence of array_like, shapes (T, n_l), optional
        0 or 1 for each sample and hidden unit, instead of the hidden activations: phi = a z.
    curvature : {"psd", "exact"}
        The curvature of the loss in the GGN: positive semi-definite (iteratively reweighted least
        squares for robust losses), or the exact Hessian of the loss.
    comm : mpi4py.MPI.Intracomm, optional
        The processes that share the samples. Each process gives its own rows of X, Y, weights and
        gates (any number, also none), and the same other arguments. Sums over the samples include
        all ranks, and theta comes from rank 0. Arrays by samples (outputs, J v) have the rows of
        this rank. Every rank must make the same calls.

    Attributes
    ----------
    network : MLP
    loss_function : Loss
    n_samples, n_outputs, n_params : int
        T over all ranks, n_L and N.
    l2 : float
    curvature : str
    comm : Comm
        The processes that share the samples; a single process without `comm`.

    Raises
    ------
    TypeError
        If an array does not hold real numbers, or `net` is not an MLP.
    ValueError
        If a shape is wrong, an entry is NaN or infinite (the message names the first one), a label
        is out of range, a weight is negative, all weights are zero, or a name is unknown. With
        `comm`, all ranks raise if one does.

    Examples
    --------
    >>> import numpy as np
    >>> import fastggn as fg
    >>> X = np.linspace(-1, 1, 30)[:, None]
    >>> problem = fg.Problem(fg.MLP((1, 5, 1)), X, np.sin(3 * X))
    >>> problem.gradient(problem.network.init(seed=0)).shape
    (16,)
    """

    _objective: Objective

    def __init__(
        self,
        net: MLP,
        X: Any,
        Y: Any,
        loss: str | Loss | Any = "squared",
        *,
        sample_weight: ArrayLike | None = None,
        l2: float = 0.0,
        penalize_biases: bool = True,
        gates: Sequence[ArrayLike] | None = None,
        curvature: str = "psd",
        comm: Any = None,
        _chunk: int | None = None,
    ) -> None:
        team = as_comm(comm)
        with team.raise_on_all() as said:
            check_kinds(net, curvature)
            loss_object = get_loss(loss)
            source = as_source("X", X, net.n_inputs, least=0 if team.size > 1 else 1)
            n_samples = source.shape[0]
            seen = ColumnMoments(n_samples), ColumnMoments(n_samples)
            check_rows("X", source, seen[0].see)
            targets: Any
            if sample_weight is not None and np.ndim(sample_weight) == 2:
                shapes = sample_weight, n_samples, net.n_outputs
                loss_object, targets = weighted_targets(loss_object, Y, *shapes)
                sample_weight = None
            else:
                targets = prepared_targets(loss_object, Y, n_samples, net.n_outputs, seen[1].see)
            weights = checked_weights(sample_weight, n_samples)
            masks = None if gates is None else checked_gates(gates, net, n_samples)
            l2 = check_positive("l2", l2, zero=True)
            spare = checked_flag("penalize_biases", penalize_biases) is False
            terms = {"l2": l2, "penalize_biases": not spare, "curvature": curvature}
            said |= {**shared_parts(net, loss_object, weights, masks), **terms}
        check_total(team, weights)
        if isinstance(loss_object, OutputWeighted):
            balance(targets[:, net.n_outputs :], team)
        penalty = Penalty(l2, weights_of(net) if spare else None)
        self._assemble(
            net, source, targets, weights, masks, loss_object, penalty, curvature, _chunk, team
        )
        self.columns.take(*seen)
        self.output_units = output_units(net, loss_object, targets, weights, seen[1].moments, team)

    def _assemble(
        self,
        net: MLP,
        source: SampleSource,
        targets: FloatArray | StreamedTargets,
        weights: FloatArray | None,
        gates: BoolArray | None,
        loss: Loss,
        penalty: Penalty,
        curvature: str,
        chunk: int | None,
        comm: Comm,
    ) -> None:
        """Set the attributes from checked parts."""
        self.network = net
        self.loss_function = loss
        self.l2 = penalty.l2
        self.curvature = curvature
        self.comm = comm
        counts = comm.gather(source.shape[0])
        self.n_samples = sum(counts)
        self._first = sum(counts[: comm.rank])
        if self.n_samples == 0:
            raise ValueError("X is empty on every rank of comm")
        self.n_outputs = net.n_outputs
        self.n_params = net.n_params
        self._source = source
        self._targets = targets
        self._weights = weights
        self._gates = gates
        self._chunk = chunk
        plan = Plan(net, source.shape[0], gated=gates is not None, chunk=chunk)
        relative: FloatArray = np.broadcast_to(np.float64(1.0), (source.shape[0],))
        if weights is not None:
            # A batch with zero weights only contributes nothing.
            relative = weights / (comm.total(weights.sum()) / self.n_samples or 1.0)
        samples = Samples(source, gates, targets)
        held = (plan, samples, targets, relative, weights is not None)
        self._objective = Objective(*held, loss, curvature, penalty, comm, self.n_samples)
        self._spaces = WorkspacePool()
        own = targets[:, : net.n_outputs] if isinstance(targets, np.ndarray) else targets
        self.columns = SampleColumns(source, own)

    def __repr__(self) -> str:
        """Return the network, the samples and the objective."""
        widths = ",".join(map(str, self.network.widths))
        terms = f"{self.loss_function.name} loss, l2 {self.l2:g}"
        return f"Problem F({widths}): {self.n_samples} samples, {self.n_params} parameters, {terms}"

    @property
    def targets(self) -> FloatArray:
        """The targets as an array (T, n_L) of float64; one-hot rows for labels.

        Each access reads all targets of a file.
        """
        targets = self._targets if isinstance(self._targets, np.ndarray) else self._targets[:]
        return targets[:, : self.n_outputs]

    @property
    def loss_targets(self) -> FloatArray:
        """The targets as the loss reads them: with their weights beside, if each has its own."""
        targets = self._targets if isinstance(self._targets, np.ndarray) else self._targets[:]
        return np.asarray(targets)

    @property
    def relative_weights(self) -> FloatArray:
        """The sample weights over their mean, shape (T,); ones by default."""
        return self._objective.weights

    @property
    def gated(self) -> bool:
        """Whether 0/1 gates replace the hidden activations."""
        return self._gates is not None

    def subset(self, rows: ArrayLike) -> Problem:
        """Return the problem of some samples, with the mean over these samples.

        Over ranks, the indices count the samples in the order of the ranks, and all ranks give the
        same rows.

        Parameters
        ----------
        rows : array_like, shape (B,)
            Indices of samples, in any order, or a boolean mask of shape (T,).

        Raises
        ------
        TypeError
            If `rows` holds neither integers nor booleans.
        ValueError
            If `rows` is empty, or an index is out of range.
        """
        index = checked_rows(rows, self.n_samples)
        if self.comm.size > 1:
            index = np.where(index < 0, index + self.n_samples, index) - self._first
            index = index[(index >= 0) & (index < self._source.shape[0])]
        return self.restricted(index, self.comm)

    def drawn(self, count: int, width: int, rng: np.random.Generator) -> Problem:
        """Return the problem of about `count` drawn samples, `width` neighbours each (internal)."""
        return self.subset(draw_rows(self.n_samples, count, width, rng))

    def restricted(self, index: NDArray[np.intp], comm: Comm) -> Problem:
        """Return the problem of some samples of this process (internal)."""
        part = object.__new__(Problem)
        part._assemble(
            self.network,
            as_source("X", self._source.take(index), least=0),
            self._targets[index],
            None if self._weights is None else self._weights[index],
            None if self._gates is None else self._gates[index],
            self.loss_function,
            self._objective.penalty,
            self.curvature,
            self._chunk,
            comm,
        )
        part._objective = replace(part._objective, loss=self._objective.loss)
        part.output_units = self.output_units
        return part

    def in_unit(self, unit: float, loss: Loss) -> Problem:
        """Return the problem of the targets over `unit`, with a loss of its own (internal)."""
        n, targets = self.n_outputs, self._targets
        if isinstance(targets, np.ndarray):
            targets = np.hstack([targets[:, :n] / unit, targets[:, n:]])
        else:
            targets = targets.divided(unit)
        part = object.__new__(Problem)
        part._assemble(
            self.network,
            self._source,
            targets,
            self._weights,
            self._gates,
            loss,
            self._objective.penalty,
            self.curvature,
            self._chunk,
            self.comm,
        )
        part.output_units = self.output_units / unit
        return part

    def init(
        self, seed: int | np.random.Generator | None = None, scheme: str = "glorot"
    ) -> FloatArray:
        """Return initial parameters, shape (N,): those of `MLP.init`, in the units of the targets.

        Where the standard deviation of the targets of an output is below 1/16 or above 16, and
        the loss is one of residuals, the weights and the bias of that output are multiplied by it.
        """
        theta = self.network.init(seed, scheme)
        if (self.output_units != 1.0).any():
            self.network.unpack(theta)[-1] *= self.output_units[:, None]
        return theta

    def weigh_outputs(self, weights: FloatArray) -> None:
        """Give each output of the squared loss a weight (n_L,) in place, for later points."""
        loss = WeightedSquares(self.loss_function, weights)
        self._objective = replace(self._objective, loss=loss)

    def outputs(self, theta: ArrayLike) -> FloatArray:
        """Return the outputs of the network at all samples, shape (T, n_L)."""
        return self._outputs(self.at(theta))

    @pooled
    def _outputs(self, lin: Point) -> FloatArray:
        return np.concatenate([block.outputs for block in lin.rows.blocks()])

    def jacobian(self, theta: ArrayLike) -> KhatriRaoJacobian:
        """Return the Jacobian of the outputs, an operator of shape (T n_L, N).

        Its transpose with the layer blocks reversed is Shen's P(W) (2018, Eqs. 21-22). It does
        not contain sample weights and l2.
        """
        return KhatriRaoJacobian(self._unweighted(theta))

    def _unweighted(self, theta: ArrayLike, objective: Objective | None = None) -> FactoredJacobian:
        return unweighted_rows(objective or self._objective, self._theta(theta), self._spaces)

    def dual_gram(self, theta: ArrayLike) -> FloatArray:
        """Return J J^T, shape (T n_L, T n_L): the empirical tangent kernel, without weights."""
        return self._unweighted(theta, self._objective.gathered).dual_gram()

    def hessian(self, theta: ArrayLike) -> FloatArray:
        """Return the exact Hessian of the objective, shape (N, N) (Shen 2018, Eqs. 26-28)."""
        return dense_hessian(self._objective, self.at(theta))

    def fingerprint(self) -> dict[str, Any]:
        """Return digests of the samples of all ranks (internal)."""
        objective, width = self._objective, self.network.n_inputs
        samples, targets, weights = objective.samples, objective.targets, objective.weights

        def of(read: Callable[[int, int], NDArray[Any]]) -> str:
            return digest(self.comm, read, objective.plan.n_samples, width)

        return {
            "inputs X": of(lambda start, stop: samples.read(start, stop)[0]),
            "targets Y": of(lambda start, stop: targets[start:stop]),
            "sample weights": of(lambda start, stop: weights[start:stop]),
            "gates": of(lambda a, b: samples.read(a, b)[1]) if samples.gated else None,
        }

    def read_samples(self, start: int, stop: int) -> tuple[FloatArray, BoolArray]:
        """Return inputs (B, n_0) and gates (B, hidden units), or (0, 0), of a range of samples."""
        return self._objective.samples.read(start, stop)

    def layer_blocks(self, theta: ArrayLike) -> Iterator[LayerBlock]:
        """Yield a `LayerBlock` for each block of samples."""
        return layer_blocks(self._objective, self._unweighted(theta))

    @pooled
    def layer_outputs(self, theta: ArrayLike) -> list[FloatArray]:
        """Return Phi_0..Phi_L, with samples as columns (Shen 2018, Section 3).

        Returns
        -------
        list of ndarray
            Phi_l of shape (n_l, T), with a last row of ones (the dummy unit) below the output
            layer if the bias is free.
        """
        return layer_outputs(self.at(theta).rows)

    @pooled
    def layer_sensitivities(self, theta: ArrayLike) -> list[FloatArray]:
        """Return Psi_1..Psi_L, the derivatives of the outputs by the pre-activations.

        Returns
        -------
        list of ndarray, shapes (T, n_l, n_L)
            Psi_l^(i) = d F(x_i) / d z_l, transposed (Shen 2018, Eq. 20).
        """
        return layer_sensitivities(self._objective.plan, self.layer_blocks(theta))
