"""Ranks of the Jacobian of residuals: of equations, boundary conditions and data, term by term."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastggn.analysis.plain import plain
from fastggn.analysis.rank.principles import stationary_is_global
from fastggn.analysis.rank.report import Certificate, JacobianReport, table
from fastggn.analysis.rank.spectrum import FloatArray, Rank, RowSpectrum, rank_of_matrix
from fastggn.objective.entry_errors import EntryErrors
from fastggn.objective.residual_problem import ResidualProblem
from fastggn.runtime.threads import one_pool
from fastggn.training.step import norm

LEFT_OUT = (
    "Shen's bounds and principles and the floor of equal inputs: they rest on outputs at samples "
    "and their targets"
)


@dataclass(frozen=True)
class PartRank:
    """The rank of the columns of a layer, or of the rows of a term.

    Attributes
    ----------
    name : str
        "layer 1", ..., or "terms[0]", ...
    block : Rank
    weights : Rank or None
        Of W_l, for a layer.
    """

    name: str
    block: Rank
    weights: Rank | None = None


@dataclass(frozen=True, eq=False)
class ResidualRankReport(JacobianReport):
    """Ranks of the Jacobian of the residuals of a `ResidualProblem` at one theta.

    Attributes
    ----------
    network : str
    n_params, n_samples, n_rows : int
        N with the coefficients; points and residuals of all terms and ranks.
    loss : float
        The data term of the objective.
    jacobian : Rank
        Of all M residuals by theta, shape (M, N), without weights.
    singular_values : ndarray, shape (min(M, N),)
    p_norm : float
        The largest one.
    error_norm : float
        |eps|, the derivatives of the losses by the residuals, with the weights of the points.
    unseen_error : float
        The share of eps that no first-order change of theta reaches; 0 where eps = 0.
    layers, terms : tuple of PartRank
        Of the columns of each layer, and of the rows of each term.
    coefficients : int or None
        How many independent combinations of the coefficients the residuals determine to first
        order, with the weights of the network free; None without coefficients.
    certificate : Certificate
        A global minimum, where the data gradient is zero and J has full row rank.
    left_out : str
        What `RankReport` has besides, and why it is not here.
    """

    network: str
    n_params: int
    n_samples: int
    n_rows: int
    loss: float
    jacobian: Rank
    singular_values: FloatArray = field(repr=False)
    p_norm: float
    error_norm: float
    unseen_error: float
    layers: tuple[PartRank, ...] = field(repr=False)
    terms: tuple[PartRank, ...] = field(repr=False)
    coefficients: int | None
    certificate: Certificate
    left_out: str = LEFT_OUT
    _rows = "M"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold (NaN and infinities in its common extension)."""
        return {**plain(self), **plain(self, "rank", "certain_rank", "margin", "tolerance", "gap")}

    def __str__(self) -> str:
        c = self.certificate
        found = "" if self.coefficients is None else f"{self.coefficients} independent ones"
        rows = [
            ("network", f"{self.network}, N = {self.n_params}, {self.rows_said}"),
            ("rank of J", f"{self.jacobian.words} of at most {self.largest_rank}"),
            ("tolerance", f"{self.tolerance:.3g} (largest singular value {self.p_norm:.3g})"),
            ("gap", f"{self.gap:.3g} (smallest value kept over largest dropped)"),
            ("loss", f"{self.loss:.6g} (data term)"),
            ("unseen error", f"{self.unseen_error:.3g} of |eps| = {self.error_norm:.3g}"),
            ("certificate", f"{'global minimum' if c.holds else 'none'}: {c.reason}"),
            *([("coefficients", f"{found} are determined")] if found else []),
            ("left out", self.left_out),
        ]
        parts: list[tuple[str, ...]] = [("part", "rank", "W_l")]
        for part in (*self.layers, *self.terms):
            cells = [_said(part.block), "" if part.weights is None else _said(part.weights)]
            parts.append((part.name, *cells))
        return "\n\n".join("\n".join(table(lines)) for lines in (rows, parts))


def _said(rank: Rank) -> str:
    return f"{rank.rank}{'' if rank.certain else '?'} of {min(rank.shape)}"


def residual_ranks(
    problem: ResidualProblem,
    theta: FloatArray,
    tol: float | None,
    gradient_tol: float,
    progress: Callable[[int, int], object] | None,
) -> ResidualRankReport:
    """Return the report of `rank_analysis` for checked arguments."""
    errors = problem.jacobian(theta).entry_errors()
    with one_pool():
        sums = _Sums(problem, theta)
        with problem.comm.raise_on_all():
            sums.pass_over(progress)
        sums.unite()
        return problem.comm.agree(sums.report(errors, tol, gradient_tol))


class _Sums:
    """The running factorisations of one pass over the points."""

    def __init__(self, problem: ResidualProblem, theta: FloatArray) -> None:
        self._problem, self._theta = problem, theta
        point = problem.at(theta)
        self._loss, self._gradient = point.data_loss, point.data_gradient
        self._slopes = [problem.n_samples * own for own in problem.loss_slopes(theta)]
        self._rows = problem.jacobian(theta)
        shapes = [n * m for n, m in problem.network.layer_shapes]
        ends = np.cumsum([0, *shapes])
        self._columns = [slice(a, b) for a, b in zip(ends[:-1], ends[1:], strict=True)]
        self._layers = [RowSpectrum(size) for size in shapes]
        self._terms = [RowSpectrum(problem.n_params) for _ in problem.terms]
        self._active = RowSpectrum(problem.n_params, with_rhs=True)
        self._idle = RowSpectrum(problem.n_params)
        n = problem.network.n_params
        self._weights = RowSpectrum(n) if n < problem.n_params else None
        self._eps = 0.0

    def pass_over(self, progress: Callable[[int, int], object] | None) -> None:
        problem = self._problem
        weights = problem.point_weights()
        first, slopes = 0, self._slopes
        term_of = np.repeat(np.arange(len(slopes)), [own.size for own in slopes])
        errors = np.concatenate([own.ravel() for own in slopes])
        on = np.concatenate([np.repeat(w > 0.0, s.shape[1])
                             for w, s in zip(weights, slopes, strict=True)])  # fmt: skip
        total = sum(w.size for w in weights)
        self._eps = norm(errors)
        for rows in self._rows.row_blocks():
            here = slice(first, first + rows.shape[0])
            if not (np.isfinite(rows).all() and np.isfinite(errors[here]).all()):
                raise np.linalg.LinAlgError(
                    f"the Jacobian or the error is not finite at residuals {here.start}.."
                    f"{here.stop - 1}: the weights are too large"
                )
            self._fold(rows, errors[here], on[here], int(term_of[first]))
            first = here.stop
            if progress is not None:
                progress(first * total // errors.size, total)

    def _fold(self, rows: FloatArray, errors: FloatArray, on: Any, term: int) -> None:
        for layer, columns in zip(self._layers, self._columns, strict=True):
            layer.fold(rows[:, columns])
        if self._weights is not None:
            self._weights.fold(rows[:, : self._weights.n_columns])
        self._terms[term].fold(rows)
        self._active.fold(rows[on], errors[on])
        self._idle.fold(rows[~on])

    def unite(self) -> None:
        comm = self._problem.comm
        spare = [] if self._weights is None else [self._weights]
        for spectrum in (*self._layers, *self._terms, *spare, self._active, self._idle):
            spectrum.unite(comm)
        self._eps = comm.norm(self._eps)

    def report(
        self, errors: EntryErrors, tol: float | None, gradient_tol: float
    ) -> ResidualRankReport:
        problem, off = self._problem, errors.norm
        values, active, unseen = self._active.decompose(tol, off)
        smallest = float(values[-1]) if self._active.n_rows <= problem.n_params else 0.0
        found = active
        if self._idle.n_rows:
            whole = RowSpectrum(problem.n_params)
            for part in (self._active, self._idle):
                for rows in part.rows():
                    whole.fold(rows)
            whole.n_rows = self._active.n_rows + self._idle.n_rows
            values, found = whole.values(), whole.rank(tol, off)
        layers = zip(self._layers, self._columns, self._matrices(), strict=True)
        size = self._eps
        bound = None
        if self._weights is not None:
            n = self._weights.n_columns
            bound = found.rank - self._weights.rank(tol, errors.norm_of(slice(0, n))).rank
        return ResidualRankReport(
            network=f"F({','.join(map(str, problem.network.widths))})",
            n_params=problem.n_params,
            n_samples=problem.n_samples,
            n_rows=problem.n_rows,
            loss=self._loss,
            jacobian=found,
            singular_values=values,
            p_norm=float(values[0]),
            error_norm=size,
            unseen_error=unseen / size if size > 0.0 else 0.0,
            layers=tuple(
                PartRank(f"layer {k}", s.rank(entry_error=errors.norm_of(c)), rank_of_matrix(w))
                for k, (s, c, w) in enumerate(layers, start=1)
            ),
            terms=tuple(
                PartRank(f"terms[{k}]", spectrum.rank(entry_error=off))
                for k, spectrum in enumerate(self._terms)
            ),
            coefficients=bound,
            certificate=self._certificate(active, smallest, gradient_tol),
        )

    def _matrices(self) -> list[FloatArray]:
        net = self._problem.network
        return net.unpack(self._theta[: net.n_params])

    def _certificate(self, active: Rank, smallest: float, gradient_tol: float) -> Certificate:
        problem, count = self._problem, self._active.n_rows
        slope = norm(self._gradient)
        full = active.rank == count
        bound = problem.n_samples * slope / smallest if full and smallest else float("inf")
        least = [stationary_is_global(part.loss, np.zeros((1, 1))) for part in problem.terms]
        faults = []
        if not slope <= gradient_tol:
            faults.append(f"the data gradient is {slope:.3g} > {gradient_tol:.3g}")
        if not full:
            faults.append(f"J has rank {active.rank} < {count} residuals")
        faults += [why for enough, why in least if not enough][:1]
        reason = "; ".join(faults) or (
            f"the data gradient is zero ({slope:.2g}) and J has full row rank, so eps = 0 "
            f"(|eps| <= {bound:.2g}); {least[0][1]}"
        )
        return Certificate(not faults, reason, slope, gradient_tol, full, bound)
