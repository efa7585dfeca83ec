"""A problem of equations: residuals of a network and its derivatives at points, and data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from fastggn.data.scaler import Scaler
from fastggn.data.sources import ArraySource
from fastggn.network.channels import own_block, refuse_rough
from fastggn.network.mlp import MLP
from fastggn.network.workspace import Block
from fastggn.objective.bound_terms import BoundTerm
from fastggn.objective.coefficients import Coefficients
from fastggn.objective.digest import digest
from fastggn.objective.functions import Functions
from fastggn.objective.jacobian import KhatriRaoJacobian
from fastggn.objective.penalty import Penalty, weights_of
from fastggn.objective.residual_objective import ResidualObjective, Spaces
from fastggn.objective.sample_checks import checked_rows
from fastggn.objective.strata import drawn_points, spread_weights
from fastggn.objective.terms import Term, bind_terms
from fastggn.runtime.comm import Comm
from fastggn.runtime.errors import as_real, check_positive, checked_flag, hinted
from fastggn.runtime.ranks import as_comm
from fastggn.runtime.threads import pooled

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.intp]


@dataclass(frozen=True)
class ResidualLoss:
    """The losses of the terms in words."""

    losses: tuple[dict[str, Any], ...]
    name: str = "residuals"

    def to_config(self) -> dict[str, Any]:
        """Return a dictionary for JSON."""
        return {"name": self.name, "terms": list(self.losses)}


class ResidualProblem(Functions):
    """Minimise sum_t weight_t mean_i loss_t(r_t(x_i; u)) + l2/2 |W|^2 for equations r_t.

    The residuals r_t depend on the outputs u of a network and on their derivatives by its inputs
    (`Term`), and on coefficients. theta holds the weights W of the network, then the coefficients.

    Parameters
    ----------
    net : MLP
        Its activations need four derivatives: not relu, leaky_relu or softsign; a custom one must
        give them.
    terms : sequence of Term
        Equations, boundary conditions and data. With `comm`, each process gives its own points of
        every term (any number, also none) and the same other arguments.
    inputs : sequence of str, optional
        The names of the inputs, for ``u.d("x")``; without them inputs are numbers.
    coefficients : mapping of str to float or (start, lower, upper), optional
        Unknown coefficients and where they start; with bounds (None for none) the parameter in
        theta is a smooth transformation of the coefficient, which stays between them.
    scale : bool, Scaler or (mean, scale)
        True: the network sees (x - mean) / scale, with the mean and the standard deviation of each
        input over the points of all terms. Residuals keep raw units: `x`, and ``u.d("x")`` by the
        chain rule. A pair of array_like, shape (n_0,), or the `input_scaler` of another problem
        gives known ones.
    l2 : float
        Weight of |W|^2 / 2; the coefficients are not penalised.
    penalize_biases : bool
        False excludes the free biases from the penalty.
    comm : mpi4py.MPI.Intracomm, optional
        The processes that share the points.

    Attributes
    ----------
    network : MLP
    n_samples, n_params, n_rows : int
        Points over all terms and ranks, N with the coefficients, and residuals.
    n_outputs : int
    l2 : float
    input_scaler : Scaler or None
        What `scale` gave.
    comm : Comm

    Raises
    ------
    TypeError
        If `net` is not an MLP, or a term not a `Term`.
    ValueError
        With all faults of all terms, one a line: a residual that mixes points, reads a derivative
        above order 2 or is not finite; a wrong `jacobian`; an unknown name; an activation without
        the derivatives. With `comm`, all ranks raise if one does.

    Examples
    --------
    >>> import numpy as np
    >>> import fastggn as fg
    >>> t = np.linspace(0, 2, 40)[:, None]
    >>> decay = fg.Term(t, lambda x, u: u.d("t") + u.value)
    >>> start = fg.Term([[0.0]], lambda x, u: u.value - 1.0)
    >>> problem = fg.ResidualProblem(fg.MLP((1, 8, 1)), [decay, start], inputs=["t"])
    >>> result = fg.train(problem, seed=0)
    >>> float(abs(problem.predict(result.theta, t) - np.exp(-t)).max()) < 1e-4
    True
    """

    _objective: ResidualObjective
    _spaces: Spaces
    curvature = "psd"
    gated = False

    @hinted
    def __init__(
        self,
        net: MLP,
        terms: Sequence[Term],
        *,
        inputs: Sequence[str] | None = None,
        coefficients: Mapping[str, Any] | None = None,
        scale: Any = False,
        l2: float = 0.0,
        penalize_biases: bool = True,
        comm: Any = None,
    ) -> None:
        team = as_comm(comm)
        if not isinstance(net, MLP):
            raise TypeError(f"net must be an MLP, not {type(net).__name__}")
        with team.raise_on_all():
            l2 = check_positive("l2", l2, zero=True)
            spare = checked_flag("penalize_biases", penalize_biases) is False
            refuse_rough(net)
            found = Coefficients(coefficients)
            known = _known_scale(scale, net.n_inputs)
            bound = bind_terms(
                terms,
                inputs=inputs,
                n_inputs=net.n_inputs,
                n_outputs=net.n_outputs,
                coefficients=found.starts,
                least=0 if team.size > 1 else 1,
            )
        same = {"l2": l2, "penalize_biases": not spare, "scale": known}
        _check_agreement(team, net, bound, found, same)
        scaler = _scaler_of(bound, team) if known is True else known or None
        counted = None
        own = weights_of(net) if spare else None
        if own is not None or len(found):
            own = np.ones(net.n_params, dtype=bool) if own is None else own
            counted = np.concatenate([own, np.zeros(len(found), dtype=bool)])
        weights = [_relative(part, team) for part in bound]
        total = int(team.total(sum(part.n_samples for part in bound)))
        scaled = tuple(total * w for w in weights)
        held = net, tuple(bound), scaled, found, Penalty(l2, counted), team, total, scaler
        self._set(ResidualObjective(*held))

    def _set(self, objective: ResidualObjective) -> None:
        self.network = objective.net
        self.comm = objective.comm
        self.l2 = objective.penalty.l2
        self.n_params = objective.n_params
        self.n_samples = objective.n_samples
        self.n_outputs = objective.n_outputs
        self.input_scaler = objective.scaler
        losses = tuple(part.loss.to_config() for part in objective.parts)
        self.loss_function = ResidualLoss(losses)
        self._objective = objective
        self._spaces = Spaces(len(objective.parts))

    def fingerprint(self) -> dict[str, Any]:
        """Return digests of the points of all ranks, and the rest in words; not the functions."""
        parts, weights = self._objective.parts, self._objective.weights
        found: dict[str, Any] = {}
        for number, (part, own) in enumerate(zip(parts, weights, strict=True)):
            term = f"terms[{number}]"
            size, width = part.source.shape
            targets = np.ascontiguousarray(part.targets)
            found |= {
                f"points of {term}": digest(self.comm, part.source.rows, size, width),
                f"data of {term}": digest(self.comm, _reader(targets), size, width),
                f"weights of {term}": digest(self.comm, _reader(own), size, 1),
                f"channels of {term}": repr(part.channels),
            }
        if (scaler := self.input_scaler) is not None:
            found["scale"] = repr((scaler.mean.tolist(), scaler.scale.tolist()))
        known = self._objective.coefficients
        return {**found, "coefficients": repr((known.starts, known.bounds()))}

    def __repr__(self) -> str:
        """Return the network, the terms and the sizes."""
        widths = ",".join(map(str, self.network.widths))
        count = len(self._objective.parts)
        return (
            f"ResidualProblem F({widths}): {count} term{'s' * (count > 1)}, {self.n_rows} "
            f"residuals, {self.n_params} parameters, l2 {self.l2:g}"
        )

    def init(
        self, seed: int | np.random.Generator | None = None, scheme: str = "glorot"
    ) -> FloatArray:
        """Return initial parameters, shape (N,): those of `MLP.init`, then the coefficients'."""
        start = self._objective.coefficients.start
        return np.concatenate([self.network.init(seed, scheme), start])

    def weights(self, theta: ArrayLike) -> FloatArray:
        """Return the parameters of the network in theta, for `MLP.predict`."""
        return self._theta(theta)[: self.network.n_params]

    def predict(self, theta: ArrayLike, X: ArrayLike) -> FloatArray:
        """Return the outputs at points X in raw units, shapes (T, n_L) for (T, n_0)."""
        points = as_real("X", X)
        if self.input_scaler is not None and points.shape[-1:] == (self.network.n_inputs,):
            points = self.input_scaler.apply(points)
        return self.network.predict(self.weights(theta), points)

    def coefficients(self, theta: ArrayLike) -> dict[str, float]:
        """Return the values of the coefficients at theta by name."""
        known = self._objective.coefficients
        values = known.at(self._theta(theta)[self.network.n_params :])[0]
        return dict(zip(known.names, map(float, values), strict=True))

    def coefficient_slopes(self, theta: ArrayLike) -> FloatArray:
        """Return the derivatives of the coefficients by their parameters in theta, shape (K,)."""
        known = self._objective.coefficients
        return np.asarray(known.at(self._theta(theta)[self.network.n_params :])[1])

    @property
    def terms(self) -> tuple[BoundTerm, ...]:
        """The checked terms, with the points of this process."""
        return self._objective.parts

    def residuals(self, theta: ArrayLike) -> list[FloatArray]:
        """Return the residuals minus the data of each term, shapes (T_t, n_r), on this rank."""
        return self.by_term(theta, self._objective.terms.residuals)

    def loss_slopes(self, theta: ArrayLike) -> list[FloatArray]:
        """Return the derivatives of the data term by the residuals, shapes (T_t, n_r)."""
        return self.by_term(theta, self._objective.terms.slopes)

    def point_weights(self) -> list[FloatArray]:
        """Return the weights of each term's points on this rank, over their mean: (T_t,) each.

        The mean goes over the points of all terms where each term has the weight 1.
        """
        return list(self._objective.weights)

    def residual_sizes(self, theta: ArrayLike) -> list[FloatArray]:
        """Return sum |dr/dc| |c| over channels c and |data|: the rounding of residuals over eps."""
        return self.by_term(theta, self._objective.terms.sizes)

    @pooled
    def by_term(self, theta: ArrayLike, of: Callable[[Block], FloatArray]) -> list[FloatArray]:
        """Return what a function gives for each block, (B, n_r), joined by term (internal)."""
        out: list[list[FloatArray]] = [[] for _ in self._objective.parts]
        for block in self.at(theta).rows.blocks():
            out[own_block(block).plan.term].append(of(block))
        empty = [np.zeros((0, part.n_residuals)) for part in self._objective.parts]
        return [np.concatenate([none, *found]) for none, found in zip(empty, out, strict=True)]

    def jacobian(self, theta: ArrayLike) -> KhatriRaoJacobian:
        """Return the Jacobian of the residuals, term by term, as an operator (M, N), unweighted.

        Row i n_r + j of a term is the derivative of residual j at its point i.
        """
        objective = self._objective
        factors = objective.terms.directions
        columns = [part.n_residuals for part in objective.parts]
        rows = objective.rows(self._theta(theta), factors, columns, self._spaces)
        return KhatriRaoJacobian(rows)

    def dual_gram(self, theta: ArrayLike) -> FloatArray:
        """Return J J^T, shape (M, M), without weights; in one process."""
        return self.jacobian(theta).dual_gram()

    def hessian(self, theta: ArrayLike) -> FloatArray:
        """Return the exact Hessian of the objective, shape (N, N), by N products."""
        H = self.hessian_operator(theta) @ np.eye(self.n_params)
        return np.asarray(0.5 * (H + H.T))

    def subset(self, rows: ArrayLike) -> ResidualProblem:
        """Return the problem of some points, an estimate of this one if they are drawn at random.

        The weights of the points stay, so that the mean over all draws is the objective.

        Parameters
        ----------
        rows : array_like, shape (B,)
            Indices of points or a mask, counted over the terms of the first rank, then of the
            next.
        """
        index = checked_rows(rows, self.n_samples)
        objective = self._objective
        own = sum(part.n_samples for part in objective.parts)
        before = sum(self.comm.gather(own)[: self.comm.rank])
        index = np.where(index < 0, index + self.n_samples, index) - before
        index = index[(index >= 0) & (index < own)]
        own_rows: list[IntArray] = []
        first = 0
        for part in objective.parts:
            inside = (index >= first) & (index < first + part.n_samples)
            own_rows.append(index[inside] - first)
            first += part.n_samples
        return self._restricted(own_rows, [1.0] * len(own_rows))

    def drawn(self, count: int, width: int, rng: np.random.Generator) -> ResidualProblem:
        """Return the problem of about `count` points drawn from each term by its share (internal).

        The points of a term weigh as much together as all of its points.
        """
        sizes = self.comm.gather([part.n_samples for part in self._objective.parts])
        rows, drawn = drawn_points(np.array(sizes), self.comm.rank, count, rng)
        return self._restricted(rows, spread_weights(np.sum(sizes, axis=0), drawn))

    def _restricted(self, rows: list[IntArray], factors: Sequence[float]) -> ResidualProblem:
        """Return the problem of some points of each term, their weights times factors."""
        objective = self._objective
        parts, weights = [], []
        together = zip(objective.parts, objective.weights, rows, factors, strict=True)
        for part, weight, here, factor in together:
            source = ArraySource("X", part.source.take(here))
            parts.append(replace(part, source=source, targets=part.targets[here]))
            weights.append(weight[here] * factor)
        total = int(self.comm.total(sum(here.size for here in rows)))
        found = replace(objective, parts=tuple(parts), weights=tuple(weights), n_samples=total)
        twin = object.__new__(ResidualProblem)
        twin._set(found)
        return twin

    def workspaces(self) -> Spaces:
        """Return workspaces for points of the same terms (internal)."""
        return Spaces(len(self._objective.parts))


def _known_scale(scale: Any, n_inputs: int) -> Scaler | bool:
    """Return the argument `scale`, checked."""
    if isinstance(scale, (bool, np.bool_)):
        return bool(scale)
    if not isinstance(scale, Scaler):
        if not isinstance(scale, (tuple, list)) or len(scale) != 2:
            raise TypeError(f"scale must be a flag, a Scaler or (mean, scale), not {scale!r}")
        scale = Scaler.at(*scale)
    known: Scaler = scale
    if known.mean.size != n_inputs:
        raise ValueError(f"scale is for {known.mean.size} inputs, the network has {n_inputs}")
    return known


def _scaler_of(bound: Sequence[BoundTerm], comm: Comm) -> Scaler:
    """Return the scaling that standardises the points of all terms and ranks (collective)."""
    points = [part.source.rows(0, part.n_samples) for part in bound]
    return Scaler.of(np.concatenate(points), None, comm)


def _reader(array: FloatArray) -> Callable[[int, int], FloatArray]:
    return lambda start, stop: array[start:stop]


def _relative(part: BoundTerm, comm: Comm) -> FloatArray:
    """Return the weights of a term's points, whose sum over the ranks is the term's weight."""
    own = np.ones(part.n_samples) if part.sample_weight is None else part.sample_weight
    total = comm.total(float(own.sum()))
    if not 0.0 < total < np.inf:
        raise ValueError("a term has no points on any rank, or all of its weights are zero")
    return np.asarray(part.weight / total * own)


def _check_agreement(
    comm: Comm,
    net: MLP,
    bound: Sequence[BoundTerm],
    found: Coefficients,
    numbers: Mapping[str, Any],
) -> None:
    """Raise on all ranks unless they agree on all but their points."""
    described = {
        "net": net.to_config(),
        **numbers,
        "coefficients": (found.starts, found.bounds()),
        "terms": [
            (part.channels, part.n_residuals, part.weight, part.loss.to_config()) for part in bound
        ],
    }
    every = comm.gather({name: repr(value) for name, value in described.items()})
    for name in described:
        values = list(dict.fromkeys(rank[name] for rank in every))
        if len(values) > 1:
            raise ValueError(f"the ranks of comm differ in {name}: {' and '.join(values[:2])}")
