"""The report of a rank analysis and its tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from fastggn.analysis.plain import plain
from fastggn.analysis.rank.bounds import Bound
from fastggn.analysis.rank.duplicates import Duplicates
from fastggn.analysis.rank.measure import LayerRanks
from fastggn.analysis.rank.principles import Principles
from fastggn.analysis.rank.spectrum import FloatArray, Rank

# Entries that depend on the inputs alone.
TARGET_FREE = (
    "network", "n_params", "n_samples", "n_outputs", "rank", "certain_rank", "tolerance", "gap",
    "margin", "singular_values", "p_norm", "layers", "outputs",
)  # fmt: skip
FREE_ROWS = 4  # of the summary: network, rank, tolerance, gap


@dataclass(frozen=True)
class Certificate:
    """The pointwise certificate of a global minimum.

    If the data gradient ``(1/T) P eps`` is zero and P has full column rank, then eps = 0, and
    with Principle 1 the point is a global minimum of the data term. Shen's Theorem 1 and
    Proposition 1 (2018) ask for it at all weights, which no network with L >= 2 and T >= 2 meets.

    Attributes
    ----------
    holds : bool
    reason : str
    gradient_norm, gradient_tol : float
        Of the data term; the norm counts as zero at or below the tolerance.
    full_column_rank : bool
        Of P(W), on samples of non-zero weight.
    error_bound : float
        |eps| is at most T |gradient| / s_min(P); inf without full column rank.
    """

    holds: bool
    reason: str
    gradient_norm: float
    gradient_tol: float
    full_column_rank: bool
    error_bound: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return plain(self)


class JacobianReport:
    """What reports on the rank of a Jacobian P(W)^T share."""

    jacobian: Rank
    _rows = "T n_L"

    @property
    def rank(self) -> int:
        """The numerical rank of P(W)."""
        return self.jacobian.rank

    @property
    def tolerance(self) -> float:
        """Singular values of P(W) at most this count as zero."""
        return self.jacobian.tolerance

    @property
    def gap(self) -> float:
        """The smallest singular value kept over the largest one dropped."""
        return self.jacobian.gap

    @property
    def certain_rank(self) -> int:
        """The number of singular values above 100 tolerances; `rank` is undecided where larger."""
        return self.jacobian.certain_rank

    @property
    def margin(self) -> float:
        """The smallest singular value kept over the tolerance."""
        return self.jacobian.margin

    @property
    def largest_rank(self) -> int:
        """The smaller of N and the number of columns of P(W)."""
        return min(self.jacobian.shape)

    @property
    def rows_said(self) -> str:
        """The number of rows of the Jacobian in words."""
        return f"{self._rows} = {self.jacobian.shape[0]}"

    def plot(self) -> Any:
        """Return a matplotlib figure of the singular values with the tolerance and the gap."""
        from fastggn.figures.spectra import plot_spectrum

        return plot_spectrum(self)


@dataclass(frozen=True, eq=False)
class RankReport(JacobianReport):
    """Ranks of the Jacobian P(W) and of its parts at one theta, and their consequences.

    Attributes
    ----------
    network : str
        In the papers' notation.
    n_params, n_samples, n_outputs : int
        N, T, n_L.
    loss : float
        The data term of the objective.
    jacobian : Rank
        Of P(W), shape (N, T n_L) in Shen's notation.
    singular_values : ndarray, shape (min(N, T n_L),)
        Of P(W), descending.
    p_norm : float
        |P(W)|, the largest singular value.
    error_norm : float
        |eps|, the error gradient at all samples (sample weights over their mean included).
    unseen_error : float
        |(I - P^+ P) eps| / |eps|: the share of the error gradient that no first-order change of the
        weights reaches (condition (2) of Theorem 1, at this point); 0 where eps = 0.
    layers : tuple of LayerRanks
    outputs : Rank
        Of Phi_L.
    certificate : Certificate
    bounds : dict of str to Bound
    principles : dict of str to Principle
        "1", "1.a", "2", "3", "4", "5"; the integers work too.
    duplicates : Duplicates
    """

    network: str
    n_params: int
    n_samples: int
    n_outputs: int
    loss: float
    jacobian: Rank
    singular_values: FloatArray = field(repr=False)
    p_norm: float
    error_norm: float
    unseen_error: float
    layers: tuple[LayerRanks, ...] = field(repr=False)
    outputs: Rank
    certificate: Certificate
    bounds: dict[str, Bound] = field(repr=False)
    principles: Principles = field(repr=False)
    duplicates: Duplicates

    def to_dict(self) -> dict[str, Any]:
        """Return plain values that JSON can hold (NaN and infinities in its common extension)."""
        return {
            **plain(self, "network", "n_params", "n_samples", "n_outputs", "loss", "rank"),
            **plain(
                self,
                "certain_rank",
                "margin",
                "tolerance",
                "gap",
                "singular_values",
                "p_norm",
                "error_norm",
            ),
            **plain(self, "unseen_error", "layers", "outputs", "certificate", "bounds"),
            **plain(self, "principles", "duplicates"),
        }

    def ranks_dict(self) -> dict[str, Any]:
        """Return the entries of `to_dict` that do not depend on the targets."""
        return plain(self, *TARGET_FREE)

    def ranks_text(self) -> str:
        """Return the tables of `str` that do not depend on the targets."""
        parts = (self._summary()[:FREE_ROWS], self._layer_table())
        return "\n\n".join("\n".join(lines) for lines in parts)

    def __str__(self) -> str:
        parts = (self._summary(), self._layer_table(), self._bound_table())
        return "\n\n".join("\n".join(lines) for lines in (*parts, self._principle_table()))

    def _summary(self) -> list[str]:
        c, d = self.certificate, self.duplicates
        floor = "not available" if d.floor is None else f"{d.floor:.6g}"
        same = f"{d.groups} sets, {d.conflicting} with conflicting targets; loss floor {floor}"
        return table(
            [
                ("network", f"{self.network}, N = {self.n_params}, {self.rows_said}"),
                ("rank of P(W)", f"{self.jacobian.words} of at most {self.largest_rank}"),
                ("tolerance", f"{self.tolerance:.3g} (largest singular value {self.p_norm:.3g})"),
                ("gap", f"{self.gap:.3g} (smallest value kept over largest dropped)"),
                ("loss", f"{self.loss:.6g} (data term)"),
                ("unseen error", f"{self.unseen_error:.3g} of |eps| = {self.error_norm:.3g}"),
                ("certificate", f"{'global minimum' if c.holds else 'none'}: {c.reason}"),
                ("equal inputs", f"{same} ({d.reason})"),
            ]
        )

    def _layer_table(self) -> list[str]:
        head = ("layer", "rank of row block", "Phi_(l-1)", "without dummy", "W_l", "core(W_l)")
        rows: list[Sequence[str]] = [(*head, "Psi_l^(i): rank x samples")]
        for layer in self.layers:
            psi = ", ".join(f"{rank} x {count}" for rank, count in layer.psi.items())
            ranks = (layer.block, layer.phi, layer.phi_core, layer.weights, layer.weights_core)
            cells = [f"{r.rank}{'' if r.certain else '?'} of {min(r.shape)}" for r in ranks]
            rows.append((str(layer.number), *cells, psi))
        rows.append(("Phi_L", "", f"{self.outputs.rank} of {min(self.outputs.shape)}", *[""] * 4))
        return table(rows)

    def _bound_table(self) -> list[str]:
        rows: list[tuple[str, ...]] = [("bound", "on", "value", "rank", "slack", "", "needs")]
        for name, b in self.bounds.items():
            sign = ">=" if b.kind == "lower" else "<="
            unmet = "; ".join(h.text for h in b.hypotheses if not h.met)
            found = ("" if count is None else str(count) for count in (b.actual, b.slack))
            name += " (as printed)" if b.printed else ""
            rows.append((name, b.subject, f"{sign} {b.value}", *found, b.verdict, unmet))
        return table(rows)

    def _principle_table(self) -> list[str]:
        named = self.principles.items()
        return table([(f"principle {n}", p.status.replace("_", " "), p.reason) for n, p in named])


def table(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines with aligned columns; all rows have one length."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
