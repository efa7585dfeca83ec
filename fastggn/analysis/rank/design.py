"""Judge a network's design before any training (Shen 2018, Principles 1, 1.a, 2, 4, 5)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import ArrayLike

from fastggn.analysis.plain import plain
from fastggn.analysis.rank import principles as shen
from fastggn.analysis.rank.exact_fit import has_inverse
from fastggn.analysis.rank.principles import Principle, Principles
from fastggn.analysis.rank.report import table
from fastggn.network.activations import Activation
from fastggn.network.losses import get_loss
from fastggn.network.losses.base import Loss
from fastggn.network.mlp import MLP

_DEGREES = {"identity": 1, "square": 2}  # of activations that are polynomials
_ANALYTIC = {"sigmoid", "tanh", "softplus"}  # as Theorem 3.8 of Nguyen and Hein asks


@dataclass(frozen=True)
class DesignReport:
    """Shen's principles for a design without weights.

    Attributes
    ----------
    network : str
    n_params, n_samples, n_outputs : int
        N, T, n_L.
    principles : dict of str to Principle
        "1", "1.a", "2", "4", "5".
    wide_layer : int or None
        The first hidden layer whose outputs can be linearly independent over the samples:
        n_l >= T, or n_l >= T - 1 with a free bias.
    pyramidal : Principle
        Whether no width grows after the wide layer and the hidden activations are as Nguyen and
        Hein (2017, Theorem 3.8, in Shen's Remark 5) ask: analytic, strictly increasing, and bounded
        or growing like softplus.
    exact_fit : Principle
        Whether `exact_fit` succeeds on all samples with different inputs and with targets in the
        range of the output. "not_applicable" where that depends on the inputs or the targets.
    """

    network: str
    n_params: int
    n_samples: int
    n_outputs: int
    principles: Principles
    wide_layer: int | None
    pyramidal: Principle
    exact_fit: Principle

    @property
    def passes(self) -> bool:
        """Whether no principle fails."""
        return all(p.status != "fail" for p in self.principles.values())

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return plain(self)

    def __str__(self) -> str:
        columns = self.n_samples * self.n_outputs
        rows = [("network", "", f"{self.network}, N = {self.n_params}, T n_L = {columns}")]
        named = [(f"principle {number}", p) for number, p in self.principles.items()]
        named += [("wide and pyramidal", self.pyramidal), ("exact fit", self.exact_fit)]
        rows += [(name, p.status.replace("_", " "), p.reason) for name, p in named]
        return "\n".join(table(rows))


def check_design(
    widths: Sequence[int],
    T: int,
    n_L: int | None = None,
    activation: str | Activation | Sequence[str | Activation] = "tanh",
    loss: str | Loss | Any = "squared",
    bias: str | Sequence[ArrayLike] = "free",
    *,
    output_activation: str | Activation = "identity",
) -> DesignReport:
    """Judge Shen's principles on a design, before any training.

    Source: Shen (2018), "Towards a Mathematical Understanding of the Difficulty in Learning with
    Feedforward Neural Networks".

    Parameters
    ----------
    widths : sequence of int
        n_0..n_L.
    T : int
        The number of samples.
    n_L : int, optional
        The number of outputs, equal to the last width.
    activation, output_activation : str or Activation
        Of the hidden layers (one, or one a layer) and of the output layer.
    loss : str or Loss
    bias : {"free", "none"} or sequence of array_like

    Raises
    ------
    TypeError
        If T is not an integer, or an argument has a wrong type.
    ValueError
        If T is below 1, n_L is not the last width, or a name is unknown.

    Examples
    --------
    >>> import fastggn as fg
    >>> print(fg.check_design((2, 20, 1), T=60, loss="cauchy").principles["2"].reason)
    N = 81 >= T n_L = 60
    """
    if isinstance(T, bool) or not hasattr(T, "__index__"):
        raise TypeError(f"T must be an integer, got {T!r}")
    if T < 1:
        raise ValueError(f"T must be at least 1, got {T}")
    net = MLP(widths, activation, output_activation, bias)
    if n_L is not None and n_L != net.n_outputs:
        raise ValueError(f"n_L is {n_L}, but the last of the widths is {net.n_outputs}")
    first = shen.principle_1(get_loss(loss))
    found = {
        "1": first,
        "1.a": shen.principle_1a(get_loss(loss), first),
        "2": shen.principle_2(net.n_params, T * net.n_outputs),
        "4": shen.principle_4(net.activations),
        "5": shen.principle_5(net.widths),
    }
    wide = _wide_layer(net, T)
    return DesignReport(
        network=f"F({','.join(map(str, net.widths))})",
        n_params=net.n_params,
        n_samples=int(T),
        n_outputs=net.n_outputs,
        principles=Principles(found),
        wide_layer=wide,
        pyramidal=_pyramidal(net, T, wide),
        exact_fit=_can_fit(net, T, first, get_loss(loss)),
    )


def _spare(net: MLP) -> int:
    """Return 1 where the dummy unit adds a row to Phi_l."""
    return 1 if net.has_free_bias else 0


def _wide_layer(net: MLP, T: int) -> int | None:
    for number in range(1, net.n_layers):
        if net.widths[number] + _spare(net) >= T:
            return number
    return None


def _pyramidal(net: MLP, T: int, wide: int | None) -> Principle:
    if net.n_layers < 2:
        return Principle("not_applicable", "there is no hidden layer")
    needed = T - _spare(net)
    if wide is None:
        widest = max(net.widths[1:-1])
        return Principle("fail", f"the widest hidden layer has {widest} units, {needed} are needed")
    # The last layer that is wide enough leaves the fewest widths to compare.
    wide = max(k for k in range(1, net.n_layers) if net.widths[k] >= needed)
    bad = sorted({a.name for a in net.activations[:-1]} - _ANALYTIC)
    if bad:
        reason = "Theorem 3.8 asks for analytic, strictly increasing, bounded (or softplus-like)"
        return Principle("fail", f"{reason} activations, not {', '.join(bad)}")
    after = net.widths[wide + 1 :]
    shown = ", ".join(map(str, after))
    if all(a >= b for a, b in zip(after, after[1:], strict=False)):
        return Principle("pass", f"layer {wide} is wide enough, and then the widths fall: {shown}")
    return Principle("fail", f"layer {wide} is wide enough, but then a width grows: {shown}")


def _polynomials(net: MLP) -> int | None:
    """Return the most dimensions of Phi_{L-1} where its units are polynomials, else None."""
    found, degree = (net.n_inputs + 1, 1) if net.n_layers == 1 else (None, 1)
    for number in range(net.n_layers - 1, 0, -1):
        activation = net.activations[number - 1]
        if not (activation.name in _DEGREES or activation.param == 1.0):
            break
        # Polynomials of degree d in n variables span comb(n + d, n) dimensions.
        degree *= _DEGREES.get(activation.name, 1)
        below = net.widths[number - 1]
        spanned = math.comb(below + degree, below)
        found = spanned if found is None else min(found, spanned)
    return found


def _can_fit(net: MLP, T: int, first: Principle, loss: Loss) -> Principle:
    last, needed = net.widths[-2], T - _spare(net)
    words = f"n_(L-1) = {last}, and T{' - 1' if _spare(net) else ''} = {needed}"
    if last < needed:
        return Principle("fail", f"{words}: the output layer alone cannot fit all samples")
    spanned, custom = _polynomials(net), any(a.address for a in net.activations[:-1])
    if spanned is not None and spanned < T:
        return Principle("fail", f"{words}, but rank(Phi_(L-1)) is at most {spanned} < T = {T}")
    if spanned is not None or not net.has_free_bias or custom:
        return Principle("not_applicable", f"{words}; it depends on the inputs")
    if not (first.holds and has_inverse(net.activations[-1])):
        why = first.reason if not first.holds else "the output activation has no known inverse"
        return Principle("not_applicable", f"{words}, but {loss.name}: {why}")
    return Principle("pass", f"{words}: the output layer can fit all samples (Proposition 5)")
