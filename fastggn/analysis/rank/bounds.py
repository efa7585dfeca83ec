"""Bounds on ranks: Shen's Propositions 2 to 6 as printed, and corrected or sharper forms.

Each bound names its hypotheses and whether the point meets them. Bounds marked as printed may fail
even then (see the page on ranks).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from fastggn.analysis.plain import plain
from fastggn.analysis.rank.measure import LayerRanks, Measurement
from fastggn.network.mlp import MLP


@dataclass(frozen=True)
class Hypothesis:
    """One hypothesis of a bound."""

    text: str
    met: bool


@dataclass(frozen=True)
class Bound:
    """A bound on a rank at one point.

    Attributes
    ----------
    kind : {"lower", "upper"}
    subject : str
        The matrix of the bound.
    value : int
        The bound; a lower one may be negative.
    actual : int or None
        The measured rank; None without a measurement.
    hypotheses : tuple of Hypothesis
    source : str
        Author, year and number in the paper, or the reason for the bound.
    printed : bool
        Whether this is the paper's statement word for word, errors included.
    clear : bool
        Whether the singular values behind all ranks involved stand clear of the tolerance.
    """

    kind: Literal["lower", "upper"]
    subject: str
    value: int
    actual: int | None
    hypotheses: tuple[Hypothesis, ...]
    source: str
    printed: bool = False
    clear: bool = True

    @property
    def applies(self) -> bool:
        """Whether all hypotheses are met."""
        return all(h.met for h in self.hypotheses)

    @property
    def holds_if(self) -> str:
        """The hypotheses in words."""
        return "; ".join(h.text for h in self.hypotheses) or "always"

    @property
    def slack(self) -> int | None:
        """Distance of the measured rank from the bound, negative where the bound is violated."""
        if self.actual is None:
            return None
        return self.actual - self.value if self.kind == "lower" else self.value - self.actual

    @property
    def holds(self) -> bool | None:
        """Whether the measured rank obeys the bound, hypotheses met or not; None if unknown."""
        return None if self.slack is None else self.slack >= 0

    @property
    def verdict(self) -> str:
        """A word or two for the table."""
        if not self.applies:
            return "not applicable"
        if self.holds is None:
            return "not measured"
        if self.holds:
            return "holds"
        return "violated" if self.clear else "unclear (rounding)"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        names = ("kind", "subject", "value", "actual", "slack", "holds", "applies", "verdict")
        return plain(self, *names, "hypotheses", "source", "printed", "clear")


@dataclass(frozen=True)
class Facts:
    """The facts behind the bounds, besides the ranks.

    `hessian_rank` is that of the exact Hessian of the data term, known at an exact fit (eps = 0).
    `principles_134` takes Principle 3 as printed: W_l with its bias column.
    """

    n_samples: int
    exact_fit: Hypothesis
    hessian_rank: int | None
    principles_134: Hypothesis
    unique: Hypothesis


def all_bounds(net: MLP, found: Measurement, facts: Facts) -> dict[str, Bound]:
    """Return the bounds by name."""
    bounds: dict[str, Bound] = {}
    for layer in found.layers:
        for name, bound in _layer_bounds(net, layer, facts.n_samples).items():
            bounds[f"{name}_layer_{layer.number}"] = bound
    bounds |= _proposition_2(found, facts.n_samples)
    bounds |= _proposition_3(net, found, facts.n_samples)
    bounds |= _proposition_4(net, found, facts)
    bounds["proposition_5"] = _proposition_5(net, found, facts.n_samples)
    bounds |= _proposition_6(net, found, facts)
    lower = [b for b in bounds.values() if (b.kind, b.subject, b.printed) == ("lower", "P", False)]
    best = max((b for b in lower if b.applies), key=lambda b: b.value)
    bounds["sharp"] = _lower(found, best.value, (), f"the largest of the above: {best.source}")
    return bounds


def _lower(
    found: Measurement,
    value: int,
    hypotheses: tuple[Hypothesis, ...],
    source: str,
    *,
    printed: bool = False,
) -> Bound:
    clear = found.clear and all(layer.clear for layer in found.layers)
    return Bound("lower", "P", value, found.jacobian.rank, hypotheses, source, printed, clear)


def _acts(output: LayerRanks) -> bool:
    """Return whether sigma'_L is nonzero everywhere, also beside the sample's other outputs."""
    return set(output.psi) == {output.n_units}


def _eq_23(layer: LayerRanks, n_samples: int) -> int:
    return layer.n_units * layer.phi.rank + layer.psi_total - n_samples * layer.n_units


def _layer_bounds(net: MLP, layer: LayerRanks, n_samples: int) -> dict[str, Bound]:
    """Return Proposition 2 on one row block of P(W), and the greedy form."""
    subject = f"Psi_{layer.number} (.) Phi_{layer.number - 1}"

    def bound(value: int, hypotheses: tuple[Hypothesis, ...], source: str) -> Bound:
        rank = layer.block.rank
        return Bound("lower", subject, value, rank, hypotheses, source, clear=layer.clear)

    n_units, n_outputs = layer.n_units, net.n_outputs
    full = Hypothesis(
        "all Psi_l^(i) and Phi_{l-1} have full rank",
        set(layer.psi) == {min(n_units, n_outputs)} and layer.phi.full,
    )
    if n_units <= n_outputs:
        case, value = "(1)", n_units * layer.phi.rank
    elif layer.n_inputs >= n_samples:
        case, value = "(2)", n_samples * n_outputs
    else:
        case, value = "(3)", n_outputs
    sharper_case = max(value, layer.n_inputs * n_outputs) if case == "(3)" else value
    return {
        "proposition_2": bound(_eq_23(layer, n_samples), (), "Shen 2018, Eq. (23)"),
        "proposition_2_cases": bound(value, (full,), f"Shen 2018, Proposition 2 {case}"),
        "proposition_2_cases_sharper": bound(
            sharper_case, (full,), f"Proposition 2 {case}, n_(l-1) n_L in place of n_L in (3)"
        ),
        "greedy": bound(layer.greedy, (), "largest sum of rank(Psi^(i)) over independent phi^(i)"),
    }


def _proposition_2(found: Measurement, n_samples: int) -> dict[str, Bound]:
    """Return the best layer's bounds: P(W) has at least the rank of each of its row blocks."""
    printed = max(_eq_23(layer, n_samples) for layer in found.layers)
    greedy = max(layer.greedy for layer in found.layers)
    return {
        "proposition_2": _lower(found, printed, (), "Shen 2018, Eq. (23), best layer"),
        "greedy": _lower(found, greedy, (), "greedy form of Proposition 2, best layer"),
    }


def _proposition_3(net: MLP, found: Measurement, n_samples: int) -> dict[str, Bound]:
    widths = net.widths[1:]
    phi = sum(layer.n_units * layer.phi.rank for layer in found.layers)
    psi = sum(layer.psi_total for layer in found.layers)
    printed = phi - n_samples * sum(widths[:-1]) + psi - net.n_layers * n_samples * net.n_outputs
    sharper = phi + found.layers[-1].psi_total - n_samples * sum(widths)
    return {
        "proposition_3": _lower(found, printed, (), "Shen 2018, Eq. (24)", printed=True),
        "proposition_3_sharper": _lower(
            found, sharper, (), "Eq. (24) with the Psi of the output layer alone"
        ),
    }


def _proposition_4(net: MLP, found: Measurement, facts: Facts) -> dict[str, Bound]:
    clear = found.clear
    columns = facts.n_samples * net.n_outputs

    def upper(value: int, source: str, printed: bool = False) -> Bound:
        rank, needs = facts.hessian_rank, (facts.exact_fit,)
        return Bound("upper", "Hessian", value, rank, needs, source, printed, clear)

    return {
        "proposition_4": upper(columns, "Shen 2018, Eq. (29), at an exact fit", printed=True),
        "proposition_4_sharper": upper(
            found.jacobian.rank, "Hessian = P H_E P^T at an exact fit: at most rank P"
        ),
    }


def _proposition_5(net: MLP, found: Measurement, n_samples: int) -> Bound:
    """Return Proposition 5 at this point: its condition for all W_1 cannot be met."""
    last = found.layers[-1]
    hypotheses = (
        Hypothesis("rank(Phi_{L-1}) = T", last.phi.rank == n_samples),
        Hypothesis("sigma'_L is nonzero at all samples", _acts(last)),
    )
    value = n_samples * net.n_outputs
    return _lower(found, value, hypotheses, "Shen 2018, Proposition 5, at this point")


def _proposition_6(net: MLP, found: Measurement, facts: Facts) -> dict[str, Bound]:
    if net.n_layers != 2 or not net.has_free_bias:
        return {}
    (n_0, n_1, n_2), T = net.widths, facts.n_samples
    first, second = found.layers
    excess = n_1 * (n_0 + n_2 - T + (1 if first.phi.rank == n_0 + 1 else 0))
    no_zeros = Hypothesis(
        "no derivative is 0 at any sample", first.zero_derivatives == 0 and _acts(second)
    )
    printed_hypotheses = (
        Hypothesis("n_2 <= n_1 <= T", n_2 <= n_1 <= T),
        facts.principles_134,
        facts.unique,
        Hypothesis("rank [X^T, 1] is n_0 or n_0 + 1", first.phi.rank >= n_0),
    )
    value = n_2 * second.phi.rank
    if second.weights_core.rank > 0:
        value = max(value, first.phi.rank)
    return {
        "proposition_6": _lower(
            found, max(n_1 * n_2, excess), printed_hypotheses, "Shen 2018, Eqs. (31)-(32)",
            printed=True,
        ),
        "proposition_6_sharper": _lower(
            found, value, (no_zeros,),
            "n_2 rank(Phi_1), and rank [X^T, 1] where W_2 without biases is not 0",
        ),
    }  # fmt: skip
